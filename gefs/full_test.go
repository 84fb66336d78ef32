package gefs_test

import (
	"fmt"
	"strings"
	"testing"

	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// fill writes files of a megabyte until the disk is full, and returns their names.
func fill(t *testing.T, s *session, dir string) (names []string) {
	t.Helper()
	text := strings.Repeat("full", 1<<18)
	for i := 0; ; i++ {
		p := fmt.Sprintf("%s/%03d", dir, i)
		f, err := s.createErr(p, 0644, ninep.OWRITE)
		if err != nil {
			refused(t, "create "+p, err, efull)
			return names
		}
		names = append(names, p)
		err = f.writeErr(text, 0)
		f.clunk()
		if err != nil {
			refused(t, "write "+p, err, efull)
			return names
		}
		if i > 1000 {
			t.Fatal("the disk does not get full")
		}
	}
}

// quick skips a test of one client under the race detector, which takes ten times as long with what
// moves a hundred megabytes.
func quick(t *testing.T) {
	if raceEnabled {
		t.Skip("one client, much data: not under the race detector")
	}
}

// TestFullDisk fills a disk to the last block. Whoever needs space is told; everything else works; space
// that is given back can be used again.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	s.put("small", 0644, "small")
	s.put("keep", 0644, strings.Repeat("keep", 100000))
	s.put("early", 0644, "early")
	s.put("empty", 0644, "")
	w.snapshot("main", "before", false)
	first := 0
	rounds := 3
	if raceEnabled {
		rounds = 1
	}
	for round := range rounds {
		names := fill(t, s, "d")
		if round == 0 {
			first = len(names)
		}
		if len(names) < first-3 {
			t.Errorf("round %d: the disk is full after %d files, it was after %d", round, len(names), first)
		}
		if err := w.fs.Store().Err(); err != nil {
			t.Fatalf("the full disk takes no changes: %v", err)
		}

		// Space for small things runs out as well, and nothing but that goes wrong.
		var lastErr error
		for i := 0; lastErr == nil && i < 3000; i++ {
			var f *file
			if f, lastErr = s.createErr(fmt.Sprint("x", i), 0644, ninep.OWRITE); lastErr != nil {
				break
			}
			lastErr = f.writeErr("x", 0)
			f.clunk()
		}
		refused(t, "many small files", lastErr, efull)
		_, err := s.createErr("d2", ninep.DMDIR|0755, ninep.OREAD)
		refused(t, "mkdir", err, efull)
		f := s.open("small", ninep.OWRITE)
		refused(t, "write at the end", f.writeErr("more", 5), efull)
		refused(t, "write over", f.writeErr("SMALL", 0), efull)
		f.clunk()
		if got := s.get("small"); got != "small" {
			t.Errorf("the file of a refused write has %q", got)
		}

		// Reading works.
		if got := s.get("keep"); got != strings.Repeat("keep", 100000) {
			t.Errorf("a file is wrong at %d", differAt(got, strings.Repeat("keep", 100000)))
		}
		if got := len(s.list("d")); got != len(names) {
			t.Errorf("%d entries, want %d", got, len(names))
		}
		s.must("fsync", s.root.Fsync())

		// And so does giving space back.
		s.truncate("empty", 0)
		s.truncate(names[0], 1000)
		s.open(names[1], ninep.OWRITE|ninep.OTRUNC).clunk()
		s.open(names[2], ninep.OREAD|ninep.ORCLOSE).clunk()
		s.must("fsync", s.root.Fsync())
		if round == 1 {
			w.restart()
			s = w.as("glenda", "")
		}
		s.put("again", 0644, strings.Repeat("again", 100000))
		if got := s.get("again"); got != strings.Repeat("again", 100000) {
			t.Errorf("a file written after that is wrong at %d", differAt(got, strings.Repeat("again", 100000)))
		}
		s.remove("again")
		for i, p := range names {
			if i == 2 {
				_, err := s.walkErr(p)
				refused(t, "walk to what went on close", err, enotfound)
				continue
			}
			s.remove(p)
		}
		for _, p := range s.list("/") {
			if strings.HasPrefix(p, "x") {
				s.remove(p)
			}
		}
	}
	if got := w.as("glenda", "before").list("/"); strings.Join(got, " ") != "d keep early empty small" {
		t.Errorf("the snapshot of before lists %q", got)
	}
	w.end()
}

// TestDeletedSnapshotGivesSpaceBack fills a disk whose space is held by a snapshot.
func TestDeletedSnapshotGivesSpaceBack(t *testing.T) {
	quick(t)
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	names := fill(t, s, "d")
	for _, p := range names[:3] { // a little room
		s.remove(p)
	}
	w.snapshot("main", "held", false)
	for _, p := range names[3:] {
		s.remove(p)
	}
	s.must("fsync", s.root.Fsync())
	if again := fill(t, s, "d"); len(again) > 6 {
		t.Errorf("%d files fit although the snapshot has everything", len(again))
	}
	for _, p := range s.list("d") {
		s.remove("d/" + p)
	}
	c, end := w.fs.Background()
	err := w.fs.DeleteLabel(c, "held")
	end()
	if err != nil {
		t.Fatalf("delete the snapshot: %v", err)
	}
	s.must("fsync", s.root.Fsync())
	if again := fill(t, s, "d"); len(again) < len(names)-3 {
		t.Errorf("%d files fit after the snapshot is gone, %d did before", len(again), len(names))
	}
	w.end()
}

// TestFullDiskOfTheReference fills a disk with leaked blocks on it.
func TestFullDiskOfTheReference(t *testing.T) {
	quick(t)
	dev := gefstest.Golden(t, "crash-h0")
	before := gefstest.Check(t, dev).Counts.Leaked
	w := &world{t: t, dev: dev}
	w.start()
	s := w.as("glenda", "%")
	s.mkdir("fill", 0755)
	names := fill(t, s, "fill")
	for _, p := range names[:len(names)/2] {
		s.remove(p)
	}
	s.must("fsync", s.root.Fsync())
	fill2 := 0
	for i := range len(names)/2 - 2 {
		f, err := s.createErr(fmt.Sprint("fill/again", i), 0644, ninep.OWRITE)
		if err == nil {
			err = f.writeErr(strings.Repeat("x", 1<<20), 0)
		}
		if err != nil {
			t.Fatalf("file %d of the space that came back: %v", i, err)
		}
		f.clunk()
		fill2++
	}
	if fill2 < 10 {
		t.Fatalf("only %d files written again", fill2)
	}
	w.stop()
	if after := gefstest.Check(t, dev).Counts.Leaked; after > before {
		t.Errorf("%d blocks leaked, %d were before", after, before)
	}
}
