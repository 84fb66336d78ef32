package gefs_test

import (
	"fmt"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// TestDeletionThatCannotReadGoesOnAfterARestart fails each of the reads that giving back the space of a
// deleted label needs. The file system goes on, and whoever opens it next ends the work.
func TestDeletionThatCannotReadGoesOnAfterARestart(t *testing.T) {
	mem := gefstest.Ream(t)
	w := newWorldOn(t, mem, gefs.Options{})
	s := w.as("glenda", "")
	for round := range 4 { // deadlists of several births
		for i := range 40 {
			name := fmt.Sprint("f", i)
			if round > 0 {
				s.remove(name)
			}
			s.put(name, 0644, strings.Repeat(fmt.Sprint(round), 20000))
		}
		w.snapshot("main", fmt.Sprint("label", round), false)
		w.sync()
	}
	w.snapshot("main", "fork", true)
	fork := w.as("glenda", "fork")
	for i := range 40 {
		fork.remove(fmt.Sprint("f", i))
		fork.put(fmt.Sprint("g", i), 0644, strings.Repeat("fork", 20000))
	}
	w.stop()
	for _, label := range []string{"label1", "fork"} {
		reads := 0
		for deletionFails(t, mem.Clone(), label, reads+1) {
			reads++
		}
		t.Logf("the deletion of %s reads %d blocks", label, reads)
		if reads == 0 {
			t.Errorf("the deletion of %s reads nothing", label)
		}
	}
}

// deletionFails deletes the label, but for one read that fails, and reports whether that was so.
func deletionFails(t *testing.T, img *blkdev.Mem, label string, nth int) (failed bool) {
	dev := blkdev.NewFault(img)
	w := &world{t: t, dev: dev, opt: gefs.Options{Cache: blkstore.MinCache}}
	w.start()
	s := w.as("glenda", "")
	dev.Fail(blkdev.Rule{Op: blkdev.OpRead, Nth: nth})
	w.deleteLabel(label)
	w.fs.Reclaimed()
	dev.Heal()
	failed = w.fs.Reclaiming()
	s.put("new", 0644, "new")
	w.stop()
	stale := func() int {
		r := gefstest.CheckStrict(t, img)
		return r.ByKind[check.SnapStale] + r.ByKind[check.DeadWaiting]
	}
	if left := stale(); (left > 0) != failed {
		t.Fatalf("%s, read %d: something is left to do: %v; on the disk: %v", label, nth, failed, left > 0)
	}
	w.start()
	w.stop()
	if stale() > 0 {
		t.Fatalf("%s, read %d: something is left to do after a restart", label, nth)
	}
	return failed
}

// TestDataAtAnOddPlaceIsCorruption reads a file one of whose blocks begins where none can, as on a disk that
// was damaged before it was hashed.
func TestDataAtAnOddPlaceIsCorruption(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("good", 0o644, "good")
	s.put("bad", 0o644, strings.Repeat("b", 3*blkfmt.BlkSize))
	for _, off := range []uint64{2048, 2*blkfmt.BlkSize - 1} {
		if err := w.fs.PlantData("main", s.stat("bad").Qid.Uid, off); err != nil {
			t.Fatal(err)
		}
		if _, err := s.open("bad", ninep.OREAD).readErr(); err == nil || !strings.Contains(err.Error(), "corrupt") || !strings.Contains(err.Error(), "bad") {
			t.Errorf("a block at %d: %v", off, err)
		}
	}
	if got := s.get("good"); got != "good" {
		t.Errorf("the other file holds %q", got)
	}
}
