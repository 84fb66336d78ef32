package blkstore

import (
	"bytes"
	"errors"
	"testing"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

// TestAViewShowsOneCommit reads the device through a View in pieces of any size, before and after
// commits have changed what is written in place.
func TestAViewShowsOneCommit(t *testing.T) {
	dev := blkdev.NewMem(diskSize)
	y := newToy(t, dev, Options{})
	defer y.close()
	for i := range uint64(20) {
		y.must(y.set(i, byte(i)))
	}
	y.must(y.commit())
	before := dev.Clone()
	v, err := y.st.View()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := y.st.View(); !errors.Is(err, arena.ErrPinned) {
		t.Errorf("a second View: %v", err)
	}
	live := map[blkfmt.Addr]bool{y.root.Addr: true}
	for _, bp := range y.data {
		live[bp.Addr] = true
	}
	for i := range uint64(20) {
		y.must(y.set(i, byte(100+i)))
		y.must(y.commit())
	}
	if same, _ := dev.Equal(before); same {
		t.Fatal("nothing was written")
	}
	for _, a := range y.st.fixed(&v.super) {
		live[a] = true
	}
	same := func(off int64, n int) {
		t.Helper()
		got, want := make([]byte, n), make([]byte, n)
		if m, err := v.ReadAt(got, off); err != nil || m != n {
			t.Fatalf("read %d bytes at %d: %d, %v", n, off, m, err)
		}
		if _, err := before.ReadAt(want, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes at %#x have changed", n, off)
		}
	}
	for a := range live {
		same(int64(a), blkfmt.BlkSize)
		same(int64(a)+100, 300)
	}
	head := int64(v.Super().Arenas[0].Addr)
	same(head, 2*blkfmt.BlkSize)
	same(head+7, 2*blkfmt.BlkSize-9)
	same(head+blkfmt.BlkSize-5, 10)
	v.Close()
	v.Close()
	if v.Lost() {
		t.Error("a View that nobody has read without an answer is lost")
	}
	lost := 0
	v.OnLost(func() { lost++ })
	for range 2 {
		if _, err := v.ReadAt(make([]byte, 10), int64(y.root.Addr)); !errors.Is(err, ErrGaveWay) {
			t.Errorf("a read after the end: %v", err)
		}
	}
	if lost != 1 || !v.Lost() {
		t.Errorf("told %d times that the View is lost", lost)
	}
}
