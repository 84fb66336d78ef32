package gefs_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// TestFsyncSurvivesAPowerCut loses everything that was not flushed when an fsync was answered.
func TestFsyncSurvivesAPowerCut(t *testing.T) {
	crash := blkdev.NewCrash(gefstest.Ream(t))
	w := newWorldOn(t, crash, gefs.Options{CommitEvery: time.Hour})
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	for i := range 20 {
		s.put(fmt.Sprint("d/f", i), 0644, strings.Repeat(fmt.Sprint(i), 5000))
		if i%3 == 2 {
			f := s.walk(fmt.Sprint("d/f", i-1))
			f.must("fsync", f.Fsync()) // of whatever file
			f.clunk()
			want := gefstest.Tree(t, s.root)
			s.put(fmt.Sprint("d/later", i), 0644, "later")

			trace := crash.Trace()
			disk, err := trace.State(trace.None(trace.Len()))
			if err != nil {
				t.Fatal(err)
			}
			gefstest.CheckStrict(t, disk)
			w2 := &world{t: t, dev: disk}
			w2.start()
			gefstest.SameTree(t, fmt.Sprint("after fsync ", i), gefstest.Tree(t, w2.as("glenda", "").root), want)
			w2.end()
		}
	}
	w.end()
}

// TestAcknowledgedWritesAreCommittedInTime waits for a commit that nobody asked for.
func TestAcknowledgedWritesAreCommittedInTime(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{CommitEvery: 20 * time.Millisecond})
	s := w.as("glenda", "")
	s.put("f", 0644, "text")
	// The last one leaves, and takes nothing along.
	s.hangUp()
	eventually(t, "a commit", func() bool {
		w2 := &world{t: t, dev: dev.Clone()}
		w2.start()
		defer w2.stop()
		f, err := w2.as("glenda", "").openErr("f", ninep.OREAD)
		if err != nil {
			return false
		}
		text, err := f.readErr()
		return err == nil && text == "text"
	})
	w.end()
}

// TestPitfall51NothingIsLostAtTheEnd closes right after writes, without commits in between.
func TestPitfall51NothingIsLostAtTheEnd(t *testing.T) {
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: time.Hour})
	for i := range 5 {
		s := w.as("glenda", "")
		s.put(fmt.Sprint("f", i), 0644, strings.Repeat("x", 100000*i))
		s.hangUp()
		w.as("glenda", "%adm").put(fmt.Sprint("a", i), 0644, "")
		w.restart()
		s = w.as("glenda", "")
		for j := range i + 1 {
			if d := s.stat(fmt.Sprint("f", j)); d.Length != uint64(100000*j) {
				t.Errorf("start %d: file %d has %d bytes", i, j, d.Length)
			}
		}
		if got := len(w.as("glenda", "%adm").list("/")); got != i+2 {
			t.Errorf("start %d: adm has %d files", i, got)
		}
	}
	w.end()
}

// TestFsyncOfACleanDiskWritesNothing asks for what is done.
func TestFsyncOfACleanDiskWritesNothing(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{CommitEvery: time.Hour})
	s := w.as("glenda", "")
	s.put("f", 0644, "text")
	s.must("fsync", s.root.Fsync())
	w.sync()
	before := dev.Clone()
	for range 10 {
		s.get("f")
		s.must("fsync", s.root.Fsync())
	}
	if same, off := dev.Equal(before); !same {
		t.Errorf("the disk has changed at %#x", off)
	}
	w.end()
}

// TestRefusedRequestsLeaveNoTrace refuses everything that can be refused, on a disk that is in order,
// and finds nothing to commit afterwards.
func TestRefusedRequestsLeaveNoTrace(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{CommitEvery: time.Hour})
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0755)
	s.put("d/f", 0644, strings.Repeat("x", 100))
	s.put("d/lock", ninep.DMEXCL|0666, "")
	s.mkdir("d/e", 0777)
	s.put("d/e/g", 0644, "")
	s.must("fsync", s.root.Fsync())
	locked := s.open("d/lock", ninep.OREAD)
	reader := bob.open("d/f", ninep.OREAD)
	w.sync()
	tree := gefstest.Tree(t, w.as("glenda", "%").root, "/d/lock")
	before := dev.Clone()
	qid := w.fs.Forest().NextGen()

	refusals := map[string]func() error{
		"create an existing file":        func() error { _, err := s.createErr("d/f", 0644, ninep.OREAD); return err },
		"create without permission":      func() error { _, err := bob.createErr("d/n", 0644, ninep.OREAD); return err },
		"create with a bad name":         func() error { return s.walk("d").Create("a\nb", 0644, ninep.OREAD) },
		"create with bad bits":           func() error { _, err := s.createErr("d/n", 01000|0644, ninep.OREAD); return err },
		"create with a bad mode":         func() error { _, err := s.createErr("d/n", 0644, 4); return err },
		"create below a file":            func() error { _, err := s.createErr("d/f/n", 0644, ninep.OREAD); return err },
		"create a directory for writing": func() error { _, err := s.createErr("d/n", ninep.DMDIR|0755, ninep.OWRITE); return err },
		"open without permission":        func() error { _, err := bob.openErr("d/f", ninep.OWRITE); return err },
		"truncate without permission":    func() error { _, err := bob.openErr("d/f", ninep.OREAD|ninep.OTRUNC); return err },
		"open to remove":                 func() error { _, err := bob.openErr("d/f", ninep.OREAD|ninep.ORCLOSE); return err },
		"open what is locked":            func() error { _, err := bob.openErr("d/lock", ninep.OREAD); return err },
		"truncate what is locked":        func() error { _, err := bob.openErr("d/lock", ninep.OWRITE|ninep.OTRUNC); return err },
		"open a directory for writing":   func() error { _, err := s.openErr("d", ninep.OWRITE); return err },
		"open a full directory ORCLOSE":  func() error { _, err := s.openErr("d", ninep.OREAD|ninep.ORCLOSE); return err },
		"write what is open to read":     func() error { return reader.writeErr("x", 0) },
		"write beyond the end of all":    func() error { return s.open("d/f", ninep.OWRITE).writeErr("x", 1<<63-1) },
		"remove a full directory":        func() error { return s.removeErr("d") },
		"remove without permission":      func() error { return bob.removeErr("d/f") },
		"remove what is locked":          func() error { return s.removeErr("d/lock") },
		"remove the root":                func() error { return s.removeErr("/") },
		"rename to a taken name":         func() error { return s.wstatErr("d/f", func(d *ninep.Dir) { d.Name = "e" }) },
		"rename the root":                func() error { return s.wstatErr("/", func(d *ninep.Dir) { d.Name = "e" }) },
		"truncate by wstat":              func() error { return bob.wstatErr("d/f", func(d *ninep.Dir) { d.Length = 0 }) },
		"extend by wstat":                func() error { return bob.wstatErr("d/f", func(d *ninep.Dir) { d.Length = 1 << 40 }) },
		"chmod":                          func() error { return bob.wstatErr("d/f", func(d *ninep.Dir) { d.Mode = 0666 }) },
		"make it a directory":            func() error { return s.wstatErr("d/f", func(d *ninep.Dir) { d.Mode = ninep.DMDIR | 0755 }) },
		"chown":                          func() error { return s.wstatErr("d/f", func(d *ninep.Dir) { d.Uid = "bob" }) },
		"length of a directory":          func() error { return s.wstatErr("d", func(d *ninep.Dir) { d.Length = 10 }) },
		"another qid":                    func() error { return s.wstatErr("d/f", func(d *ninep.Dir) { d.Qid.Uid = 1 }) },
		"half of it":                     func() error { return s.wstatErr("d/f", func(d *ninep.Dir) { d.Mode = 0600; d.Uid = "bob" }) },
		"attach to nothing":              func() error { _, err := s.conn.Attach("glenda", "nothing"); return err },
		"attach as nobody":               func() error { _, err := s.conn.Attach("nobody", ""); return err },
	}
	for what, f := range refusals {
		if err := f(); err == nil {
			t.Errorf("%s: done", what)
		}
		if w.fs.Forest().Changed() || w.fs.Store().Dying() != 0 {
			t.Fatalf("%s: refused, and there is something to commit", what)
		}
	}
	s.must("fsync", s.root.Fsync())
	w.fs.CommitEnds()
	if same, off := dev.Equal(before); !same {
		t.Errorf("the disk has changed at %#x", off)
	}
	if got := w.fs.Forest().NextGen(); got != qid {
		t.Errorf("%d generations were used up", got-qid)
	}
	// Neither has anything changed in memory: no marks, no locks.
	gefstest.SameTree(t, "main", gefstest.Tree(t, w.as("glenda", "%").root, "/d/lock"), tree)
	locked.clunk()
	bob.open("d/lock", ninep.OWRITE).clunk()
	f := s.open("d/f", ninep.OWRITE|ninep.OTRUNC)
	f.write("done", 0)
	f.clunk()
	s.remove("d/e/g")
	s.remove("d/e")
	w.end()
}

// TestFailingDiskTakesNoMoreChanges fails a write, or a flush, at every step of a commit: nothing is
// acknowledged any more, everything can still be read, and the disk is what it was before or after.
func TestFailingDiskTakesNoMoreChanges(t *testing.T) {
	for _, op := range []blkdev.Op{blkdev.OpWrite, blkdev.OpSync} {
		for nth := 1; ; nth++ {
			mem := gefstest.Ream(t)
			dev := blkdev.NewFault(mem)
			w := newWorldOn(t, dev, gefs.Options{CommitEvery: time.Hour})
			s := w.as("glenda", "")
			s.put("old", 0644, strings.Repeat("old", 10000))
			w.sync()
			s.put("new", 0644, strings.Repeat("new", 10000))
			dev.Fail(blkdev.Rule{Op: op, Nth: nth, Forever: true})
			err := s.root.Fsync()
			w.fs.CommitEnds()
			if w.fs.Err() == nil {
				if nth < 4 {
					t.Errorf("a commit takes %d times %v", nth-1, op)
				}
				dev.Heal()
				w.end()
				break
			}
			f := s.open("old", ninep.OWRITE)
			refused(t, "write", f.writeErr("x", 0), erdonly)
			_, cerr := s.createErr("another", 0644, ninep.OREAD)
			refused(t, "create", cerr, erdonly)
			refused(t, "remove", s.removeErr("old"), erdonly)
			if err := s.root.Fsync(); err == nil {
				t.Errorf("%v %d fails, and a later fsync is answered", op, nth)
			}
			if got := s.get("old") + s.get("new"); got != strings.Repeat("old", 10000)+strings.Repeat("new", 10000) {
				t.Errorf("%v %d fails, and what can be read is wrong at %d", op, nth, differAt(got, ""))
			}
			w.srv.Stop()
			if w.fs.Close() == nil {
				t.Errorf("%v %d fails, and the end is in order", op, nth)
			}
			gefstest.CheckStrict(t, mem)
			w2 := &world{t: t, dev: mem}
			w2.start()
			files := w2.as("glenda", "").list("/")
			if err == nil && !slices.Contains(files, "new") || !slices.Contains(files, "old") {
				t.Errorf("%v %d fails, fsync says %v, and there is %q", op, nth, err, files)
			}
			w2.end()
		}
	}
}

// TestDamageStaysWhereItIs spoils the data of one file: whoever needs it is told which, everything else
// works.
func TestDamageStaysWhereItIs(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{})
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	text := func(c string) string { return strings.Repeat(c, 3*blk) }
	for _, name := range []string{"a", "b", "c"} {
		s.put("d/"+name, 0644, text(name))
	}
	w.stop()
	// The second block of b.
	spoiled := 0
	p := make([]byte, blk)
	for off := int64(0); off < gefstest.SmallDisk; off += blk {
		if _, err := dev.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(p, []byte(text("b")[:blk])) {
			if spoiled++; spoiled == 2 {
				p[77] ^= 1
				dev.WriteAt(p, off)
			}
		}
	}
	if spoiled != 3 {
		t.Fatalf("found %d blocks of the file", spoiled)
	}
	var log bytes.Buffer
	w.opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.start()
	s = w.as("glenda", "")
	f := s.open("d/b", ninep.ORDWR)
	bad := int64(-1)
	for i := range int64(3) {
		p := make([]byte, blk)
		_, err := f.ReadAt(p, i*blk)
		if err == nil {
			if string(p) != text("b")[:blk] {
				t.Errorf("block %d is wrong", i)
			}
			continue
		}
		if bad >= 0 {
			t.Errorf("blocks %d and %d cannot be read", bad, i)
		}
		bad = i
		refused(t, "read", err, "block contents corrupted: main/d/b")
	}
	if bad < 0 {
		t.Fatal("the damage was not noticed")
	}
	if !strings.Contains(log.String(), "main/d/b") {
		t.Errorf("the log says %s", log.String())
	}
	_, err := f.ReadAt(make([]byte, 3*blk), 0)
	refused(t, "read of everything", err, "block contents corrupted: main/d/b")
	refused(t, "write of a part", f.writeErr("x", bad*blk+5), "block contents corrupted: main/d/b")
	// The others, and the directory, are as good as before.
	if got := s.get("d/a") + s.get("d/c"); got != text("a")+text("c") {
		t.Errorf("the other files are wrong at %d", differAt(got, text("a")+text("c")))
	}
	s.put("d/new", 0644, "new")
	s.wstat("d/b", func(d *ninep.Dir) { d.Name = "B" })
	if err := w.fs.Err(); err != nil {
		t.Fatalf("the file system takes no changes: %v", err)
	}
	// A whole new block in its place mends it.
	f.write(text("!")[:blk], bad*blk)
	want := []byte(text("b"))
	copy(want[bad*blk:], text("!")[:blk])
	if got := f.read(); got != string(want) {
		t.Errorf("mended, it is wrong at %d", differAt(got, string(want)))
	}
	w.end()
}
