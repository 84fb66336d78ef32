package gefs_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

const blk = 16384

// large is more than is cleared in one batch with the truncation, and in one batch afterwards.
const large = 300 * blk

// eventually waits until ok, which should take no time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not after 20 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) blocks(s *session, p string) int {
	w.t.Helper()
	n, err := w.fs.DataBlocks("main", s.stat(p).Qid.Uid)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// used returns the number of blocks in use, but for those of the logs, after a commit.
func (w *world) used() int64 {
	w.t.Helper()
	w.sync()
	n := int64(0)
	for _, a := range w.fs.Store().Arenas().Stat() {
		n += (a.Used-a.Waiting)/blk - int64(a.Log) // what waits comes back behind the commit
	}
	return n
}

func TestLargeFilesAreClearedInTheBackground(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("other", 0644, "other")
	empty := w.used()
	text := strings.Repeat("x", large)
	for what, clear := range map[string]func(){
		"wstat":  func() { s.truncate("f", 0) },
		"open":   func() { s.open("f", ninep.OWRITE|ninep.OTRUNC).clunk() },
		"remove": func() { s.remove("f") },
		"close":  func() { s.open("f", ninep.OREAD|ninep.ORCLOSE).clunk() },
	} {
		s.put("f", 0644, text)
		if got := w.used() - empty; got < 300 {
			t.Fatalf("the file takes %d blocks", got)
		}
		clear()
		// What is done elsewhere goes on.
		s.open("other", ninep.OWRITE).write("other", 0)
		eventually(t, "clearing", func() bool { return w.fs.ToClear() == 0 })
		if got := w.used() - empty; got > 8 {
			t.Errorf("%s: %d blocks did not come back", what, got)
		}
		if _, err := s.walkErr("f"); err == nil {
			s.remove("f")
		}
	}
	w.end()
}

func TestClearingGoesOnAfterACrash(t *testing.T) {
	for what, clear := range map[string]func(*session){
		"truncated":          func(s *session) { s.truncate("f", blk+100) },
		"truncated at open":  func(s *session) { s.open("f", ninep.OWRITE|ninep.OTRUNC).clunk() },
		"removed":            func(s *session) { s.remove("f") },
		"truncated, removed": func(s *session) { s.truncate("f", 5*blk+1); s.remove("f") },
		"renamed":            func(s *session) { s.wstat("f", func(d *ninep.Dir) { d.Length, d.Name = 7, "g" }) },
	} {
		t.Run(what, func(t *testing.T) {
			dev := gefstest.Ream(t)
			w := newWorldOn(t, dev, gefs.Options{})
			s := w.as("glenda", "")
			s.put("f", 0644, strings.Repeat("x", large))
			s.put("f2", 0644, strings.Repeat("y", large))
			qid := s.stat("f").Qid.Uid
			w.sync()
			w.fs.StopSweeping()
			clear(s)
			s.must("fsync", s.root.Fsync())
			crashed := dev.Clone()
			gefstest.CheckStrict(t, crashed) // what is to be cleared is no leak

			w2 := newWorldOn(t, crashed, gefs.Options{})
			s2 := w2.as("glenda", "")
			eventually(t, "clearing", func() bool { return w2.fs.ToClear() == 0 })
			n, err := w2.fs.DataBlocks("main", qid)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"truncated": 2, "renamed": 1}[what]
			if n != want {
				t.Errorf("%d blocks are left, want %d", n, want)
			}
			if got := s2.get("f2"); got != strings.Repeat("y", large) {
				t.Errorf("the other file is wrong at %d", differAt(got, strings.Repeat("y", large)))
			}
			name := "f"
			switch what {
			case "removed", "truncated, removed":
				_, err := s2.walkErr("f")
				refused(t, "walk", err, enotfound)
				w2.end()
				return
			case "renamed":
				name = "g"
			}
			length := int(s2.stat(name).Length)
			s2.truncate(name, large)
			if got, want := s2.get(name), strings.Repeat("x", length)+strings.Repeat("\x00", large-length); got != want {
				t.Errorf("extended, the file is wrong at %d", differAt(got, want))
			}
			w2.end()
		})
	}
}

// TestChangesOfAFileWaitForItsClearing looks at a file that is still to be cleared: it reads as
// truncated, and who would change it waits, alone.
func TestChangesOfAFileWaitForItsClearing(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{})
	s := w.as("glenda", "")
	s.put("f", 0644, strings.Repeat("x", large))
	reader := s.open("f", ninep.OREAD)
	w.fs.StopSweeping()
	s.truncate("f", 100)
	if got := reader.read(); got != strings.Repeat("x", 100) {
		t.Errorf("%d bytes after the truncation", len(got))
	}
	writer := s.open("f", ninep.OWRITE)
	waiting := make(chan error, 3)
	go func() { waiting <- writer.writeErr("late", large-4) }()
	go func() { waiting <- s.wstatErr("f", func(d *ninep.Dir) { d.Length = large - 50 }) }()
	go func() {
		f, err := s.openErr("f", ninep.OREAD|ninep.OTRUNC)
		if err == nil {
			f.Clunk()
		}
		waiting <- err
	}()
	// Others, on the same connection as well, do not.
	for i := range 20 {
		p := fmt.Sprint("other", i)
		s.put(p, 0644, p)
		if got := s.get(p); got != p {
			t.Errorf("%s has %q", p, got)
		}
	}
	if got := reader.read(); got != strings.Repeat("x", 100) {
		t.Errorf("%d bytes while others wait", len(got))
	}
	s.must("fsync", s.root.Fsync())
	select {
	case err := <-waiting:
		t.Errorf("somebody did not wait: %v", err)
	default:
	}
	// It can be removed, though: what is left to clear grows.
	s.remove("f")
	w.srv.Stop() // hangs up on those who wait
	crashed := dev.Clone()
	gefstest.Check(t, crashed)
	if err := w.fs.Close(); err != nil {
		t.Fatal(err)
	}
	for range cap(waiting) {
		<-waiting
	}
	gefstest.CheckStrict(t, dev)
	w.start()
	w.as("glenda", "")
	eventually(t, "clearing", func() bool { return w.fs.ToClear() == 0 })
	w.end()
}

// TestTruncationOfWhatTheReferenceLeft cuts files on a disk of the reference, which left its own traces
// behind the ends of files.
func TestTruncationOfWhatTheReferenceLeft(t *testing.T) {
	quick(t)
	dev := gefstest.Golden(t, "tree")
	w := newWorldOn(t, dev, gefs.Options{})
	s := w.as("glenda", "%")
	for _, p := range []string{"sizes/big", "sparse/at1g", "sparse/holes"} {
		length := s.stat(p).Length
		for _, cut := range []uint64{100000, 16385, 77, 0} {
			before := s.open(p, ninep.OREAD).at(0, 100000)
			s.truncate(p, min(cut, length))
			s.truncate(p, length)
			f := s.open(p, ninep.OREAD)
			want := before[:min(int(cut), len(before))] + strings.Repeat("\x00", max(0, len(before)-int(cut)))
			if got := f.at(0, 100000); got != want {
				t.Errorf("%s: cut to %d, wrong at %d", p, cut, differAt(got, want))
			}
			if got := f.at(int64(length)-50, 100); got != strings.Repeat("\x00", 50) {
				t.Errorf("%s: cut to %d, it ends in %q", p, cut, got)
			}
			f.clunk()
		}
	}
	w.stop()
	gefstest.Check(t, dev)
}

func TestSparseFilesTakeNoSpace(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	f := s.create("f", 0644, ninep.ORDWR)
	empty := w.used()
	for i := range int64(20) {
		f.write("x", i<<30)
	}
	if n := w.blocks(s, "f"); n != 20 {
		t.Errorf("%d data blocks, want 20", n)
	}
	for i := range int64(20) {
		if got := f.at(i<<30, 3); i < 19 && got != "x\x00\x00" {
			t.Errorf("at %d GiB: %q", i, got)
		}
		if got := f.at(i<<30+blk-2, 4); i < 19 && got != "\x00\x00\x00\x00" {
			t.Errorf("behind %d GiB: %q", i, got)
		}
	}
	// A hole in the middle is read as zeros, across the borders of blocks.
	if got := f.at(3<<30+blk-10, 3*blk); got != strings.Repeat("\x00", 3*blk) {
		t.Errorf("the hole has something at %d", differAt(got, strings.Repeat("\x00", 3*blk)))
	}
	s.truncate("f", 10<<30+1)
	if n := w.blocks(s, "f"); n != 11 {
		t.Errorf("%d data blocks after the truncation, want 11", n)
	}
	s.truncate("f", 1<<40)
	if n := w.blocks(s, "f"); n != 11 {
		t.Errorf("%d data blocks after the extension, want 11", n)
	}
	f.must("remove", f.Remove())
	if got := w.used() - empty; got > 4 {
		t.Errorf("%d blocks did not come back", got)
	}
	w.end()
}

// TestOffsetsNearTheEnd writes where offsets end.
func TestOffsetsNearTheEnd(t *testing.T) {
	const most = math.MaxInt64 - blk // the longest file
	w := newWorld(t)
	s := w.as("glenda", "")
	f := s.create("f", 0644, ninep.ORDWR)
	f.write("end", most-3)
	if d := f.stat(); d.Length != most {
		t.Errorf("length %d, want %d", d.Length, int64(most))
	}
	if got := f.at(most-5, 100); got != "\x00\x00end" {
		t.Errorf("it ends in %q", got)
	}
	before := f.stat()
	for _, off := range []int64{most - 2, most, most + 1, math.MaxInt64 - 2, math.MaxInt64} {
		refused(t, fmt.Sprint("write at ", off), f.writeErr("end", off), efsize)
	}
	for _, off := range []uint64{1 << 63, 1<<63 + 5, math.MaxUint64 - 2, math.MaxUint64} {
		_, err := s.raw(rawWrite(f, off, "end"))
		refused(t, fmt.Sprint("write at ", off), err, efsize)
		r, err := s.raw(rawRead(f, off, 100))
		if err != nil || len(r.Rread.Data) != 0 {
			t.Errorf("read at %d: %d bytes, %v", off, len(r.Rread.Data), err)
		}
	}
	refused(t, "length beyond the end", f.wstatErr(func(d *ninep.Dir) { d.Length = most + 1 }), efsize)
	refused(t, "negative length", f.wstatErr(func(d *ninep.Dir) { d.Length = 1 << 63 }), "wstat -- attempt to make length negative")
	if got := f.stat(); got != before {
		t.Errorf("the file is %+v, was %+v", got, before)
	}
	f.wstat(func(d *ninep.Dir) { d.Length = 10 })
	f.wstat(func(d *ninep.Dir) { d.Length = most })
	if got := f.at(most-5, 100); got != "\x00\x00\x00\x00\x00" {
		t.Errorf("it ends in %q", got)
	}
	w.end()
}

// TestClearingStopsAtAFailingDisk fails every write of the background: whoever waits for it is told.
func TestClearingStopsAtAFailingDisk(t *testing.T) {
	mem := gefstest.Ream(t)
	dev := blkdev.NewFault(mem)
	w := newWorldOn(t, dev, gefs.Options{})
	s := w.as("glenda", "")
	s.put("f", 0644, strings.Repeat("x", large))
	w.sync()
	dev.Fail(blkdev.Rule{Op: blkdev.OpWrite, Forever: true})
	s.truncate("f", 0)
	if err := s.root.Fsync(); err == nil {
		t.Error("fsync on a disk that takes no writes")
	}
	f := s.walk("f")
	if err := f.Open(ninep.OWRITE); err == nil {
		refused(t, "write", f.writeErr("x", 0), erdonly)
	}
	refused(t, "remove", s.removeErr("f"), erdonly)
	s.stat("f")
	w.srv.Stop()
	if err := w.fs.Close(); err == nil {
		t.Error("close on a disk that takes no writes")
	}
	gefstest.CheckStrict(t, mem)
}
