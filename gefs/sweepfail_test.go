package gefs_test

import (
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// TestWritesWaitForAClearingThatFailed truncates a large file on a disk that then cannot be read for
// a while. What is written to the file afterwards must not be taken for what was to be cleared, not
// after a restart either.
func TestWritesWaitForAClearingThatFailed(t *testing.T) {
	mem := gefstest.Ream(t)
	w := newWorldOn(t, mem, gefs.Options{})
	s := w.as("glenda", "")
	// More leaves than are read by the truncation itself.
	s.put("f", 0644, strings.Repeat("x", 1500*blk))
	w.stop()

	fault := blkdev.NewFault(mem)
	w.dev, w.opt = fault, gefs.Options{Cache: blkstore.MinCache}
	w.start()
	s = w.as("glenda", "")
	f := s.open("f", ninep.ORDWR)
	fault.Fail(blkdev.Rule{Op: blkdev.OpRead, Nth: 4, Forever: true})
	f.wstat(func(d *ninep.Dir) { d.Length = 0 })
	eventually(t, "clearing", func() bool { return w.fs.ToClear() == 0 })
	if fault.Count(blkdev.OpRead) == 0 {
		t.Fatal("the clearing has read nothing")
	}
	if err := f.writeErr("lost?", 0); err == nil || !strings.HasPrefix(err.Error(), "i/o error") {
		t.Errorf("write while the disk cannot be read: %v", err)
	}
	fault.Heal()
	text := strings.Repeat("y", 3*blk+5)
	f.write(text, 700*blk)
	if got := f.at(700*blk, len(text)+1); got != text {
		t.Errorf("it reads as %.20q, %d bytes", got, len(got))
	}
	w.restart()
	s = w.as("glenda", "")
	eventually(t, "clearing", func() bool { return w.fs.ToClear() == 0 })
	if got := s.open("f", ninep.OREAD).at(700*blk, len(text)+1); got != text {
		t.Errorf("after a restart it reads as %.20q, %d bytes", got, len(got))
	}
	if n := strings.Trim(s.open("f", ninep.OREAD).at(0, 700*blk), "\x00"); n != "" {
		t.Errorf("before it there are other bytes than zeros: %.20q", n)
	}
	w.end()
}
