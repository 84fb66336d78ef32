package gefs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// TestRollback goes back, and back again, while the label is mounted.
func TestRollback(t *testing.T) {
	dev := blkdev.NewMem(140 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, end := fs.Background()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	root, err := gefstest.Attach(fs, c, "glenda", "")
	must("attach", err)
	write := func(name, text string) {
		t.Helper()
		f, err := gefstest.Walk(c, root, name)
		if err != nil {
			f, _, err = root.Walk(c, nil, nil)
			must("clone", err)
			_, _, err = f.Create(c, name, 0644, ninep.OWRITE)
		} else {
			_, _, err = f.Open(c, ninep.OWRITE|ninep.OTRUNC)
		}
		must("open "+name, err)
		_, err = f.Write(c, []byte(text), 0)
		must("write "+name, err)
		f.Clunk(c)
	}
	read := func(name, want string) {
		t.Helper()
		f, err := gefstest.Walk(c, root, name)
		if err != nil {
			if want != "" {
				t.Fatalf("walk to %s: %v", name, err)
			}
			return
		}
		defer f.Clunk(c)
		got, err := gefstest.ReadAll(c, f)
		must("read "+name, err)
		if string(got) != want {
			t.Fatalf("%s is %q, want %q", name, got, want)
		}
	}
	write("a", "one")
	write("b", "one")
	must("label", fs.Label(c, "main", "first", false))
	write("a", "two")
	write("c", "two")
	b, err := gefstest.Walk(c, root, "b")
	must("walk", err)
	must("remove", b.Remove(c))
	b.Clunk(c)

	held, err := gefstest.Walk(c, root, "c") // a fid that is not open does not stand in the way
	must("walk", err)
	open, err := gefstest.Walk(c, root, "a")
	must("walk", err)
	_, _, err = open.Open(c, ninep.OREAD)
	must("open", err)
	if err := fs.Rollback(c, "main", "first", "second", false); !errors.Is(err, gefs.ErrOpenFiles) {
		t.Fatalf("rollback under an open file: %v", err)
	}
	read("a", "two")
	open.Clunk(c)
	for _, tt := range []struct {
		label, old, keep string
		want             error
	}{
		{"main", "nosuch", "x", snap.ErrNoLabel},
		{"nosuch", "first", "x", snap.ErrNoLabel},
		{"first", "main", "x", snap.ErrNotMutable},
		{"main", "first", "first", snap.ErrExists},
		{"main", "first", "dump", snap.ErrReserved},
	} {
		if err := fs.Rollback(c, tt.label, tt.old, tt.keep, false); !errors.Is(err, tt.want) {
			t.Errorf("rollback %s %s %s: %v, want %v", tt.label, tt.old, tt.keep, err, tt.want)
		}
	}
	must("rollback", fs.Rollback(c, "main", "first", "second", false))
	read("a", "one")
	read("b", "one")
	read("c", "")
	if _, _, err := held.Open(c, ninep.OREAD); err == nil {
		t.Error("a fid on a file that is gone was opened")
	}
	held.Clunk(c)
	write("a", "three")
	write("d", "three")
	read("a", "three")
	must("and back", fs.Rollback(c, "main", "second", "third", false))
	read("a", "two")
	read("b", "")
	read("c", "two")
	read("d", "")
	must("and again", fs.Rollback(c, "main", "third", "fourth", false))
	read("a", "three")
	read("d", "three")

	used := func() (n int64) {
		c.Sleep(func() {
			fs.Reclaimed()
			must("sync", fs.Sync(t.Context()))
		})
		for _, a := range fs.Arenas() {
			n += (a.Used-a.Waiting)/16384 - int64(a.Log)
		}
		return n
	}
	before := used()
	all := []string{"second", "first", "fourth", "third"}
	frees, err := fs.Space(t.Context(), c, all...)
	must("space", err)
	for _, name := range all {
		must("delete "+name, fs.DeleteLabel(c, name))
	}
	if got := before - used(); frees <= 0 || got < frees-2 || got > frees+2 {
		t.Errorf("deleting %v gave %d blocks back, Space said %d", all, got, frees)
	}
	read("a", "three")
	read("b", "one")
	root.Clunk(c)
	end()
	must("close", fs.Close())
	size, _ := dev.Size()
	rep, err := check.Run(t.Context(), dev, size, check.Options{})
	must("check", err)
	if !rep.Clean(true) {
		t.Fatalf("not clean: %v", rep.Problems)
	}
}

// TestARollbackBringsBackFilesThatAreRemovedAndOpen goes back to where a file was still there that is open on
// Linux: who closes it then must not have the data cleared that is in use again.
func TestARollbackBringsBackFilesThatAreRemovedAndOpen(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	for i := range 300 { // messages wait in a pivot
		l.put("", fmt.Sprintf("%0200d", i), "")
	}
	text := strings.Repeat("0123456789", 6000)
	f := l.create("", "f", text)
	w.snapshot("main", "first", false)
	l.must("unlink", l.unlink("", "f", 0))
	c, end := w.fs.Background()
	if err := w.fs.Rollback(c, "main", "first", "second", false); err != nil {
		t.Fatal(err)
	}
	end()
	if got, err := l.Read(f, 0, 60000); err != nil || got != text {
		t.Errorf("after the rollback %d bytes are read, %v", len(got), err)
	}
	l.Clunk(f)
	for w.fs.ToClear() > 0 {
		time.Sleep(time.Millisecond)
	}
	s := w.as("glenda", "")
	if got := s.get("f"); got != text {
		t.Errorf("after it is closed there are %d bytes, of which %d are zero", len(got), strings.Count(got, "\x00"))
	}
	s.hangUp()
	l.Close()
	w.end()
}
