package gefs_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"gefs9p/kvfmt"
)

// wide is so many blocks that the pointers to them fill several leaves, of which no message speaks when a file of
// that size is removed.
const wide = 1200

// dataBlocks returns how many data blocks the tree of a label has of the file.
func (w *world) dataBlocks(label string, qid uint64) int {
	w.t.Helper()
	n, err := w.fs.DataBlocks(label, qid)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// toClear fails the test if nothing waits to be cleared: then it proves nothing.
func (w *world) toClear(n int) {
	w.t.Helper()
	if got := w.fs.ToClear(); got != n {
		w.t.Fatalf("%d files wait to be cleared, want %d", got, n)
	}
}

// TestWhatIsToBeClearedIsNotSent sends snapshots in which files of many leaves were removed and cut, and nothing of
// them is cleared yet: whole, as the difference to one that has all of the files, and the other way round. Most of what
// differs stands in nodes that both have.
func TestWhatIsToBeClearedIsNotSent(t *testing.T) {
	a, b, c := newWorld(t), newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	for i := range 30 {
		s.put(fmt.Sprintf("small%d", i), 0644, "small")
	}
	s.put("removed", 0644, strings.Repeat("removed", wide*blk/7))
	s.put("cut", 0644, strings.Repeat("cut", wide*blk/3))
	removed, cut := s.stat("removed").Qid.Uid, s.stat("cut").Qid.Uid
	a.snapshot("main", "full", false)
	a.fs.StopSweeping()
	s.remove("removed")
	s.truncate("cut", 100*blk+5)
	a.snapshot("main", "less", false)
	a.toClear(2)
	if n := a.dataBlocks("less", removed); n < wide/2 {
		t.Fatalf("of the removed file %d blocks are left, which should wait", n)
	}

	is := func(w *world, label string, wantRemoved, wantCut int) {
		t.Helper()
		sameSnapshot(t, a, w, label, label)
		if n := w.dataBlocks(label, removed); n != wantRemoved {
			t.Errorf("%s has %d blocks of the removed file, want %d", label, n, wantRemoved)
		}
		if n := w.dataBlocks(label, cut); n != wantCut {
			t.Errorf("%s has %d blocks of the cut file, want %d", label, n, wantCut)
		}
	}
	b.recv(a.send("full", "", nil), "")
	part := a.send("less", "full", nil)
	if len(part) > 200<<10 {
		t.Errorf("what was removed is %d bytes of a stream", len(part))
	}
	b.recv(part, "")
	is(b, "full", wide, wide)
	is(b, "less", 0, 101)

	c.recv(a.send("less", "", nil), "")
	is(c, "less", 0, 101)
	c.recv(a.send("full", "less", nil), "")
	is(c, "full", wide, wide)

	// Clearing does not change what a tree holds.
	a.snapshot("less", "work", true)
	before := a.digest("main")
	a.restart()
	g := a.as("glenda", "%main")
	eventually(t, "clearing", func() bool { return a.fs.ToClear() == 0 })
	if n := a.dataBlocks("main", removed) + a.dataBlocks("main", cut); n != 101 {
		t.Errorf("%d blocks are left when all is cleared", n)
	}
	if after := a.digest("main"); after != before {
		t.Errorf("digest %v when all is cleared, %v before", after, before)
	}
	g.put("one more", 0644, "text")
	a.snapshot("main", "last", false)
	b.recv(a.send("last", "less", nil), "")
	sameSnapshot(t, a, b, "last", "last")
	for _, w := range []*world{a, b, c} {
		w.end()
	}
}

// TestWhatWasWrittenAndRemovedBetweenSnapshotsIsNotSent: the data to be cleared is as young as the record that says
// so, as no snapshot was made in between.
func TestWhatWasWrittenAndRemovedBetweenSnapshotsIsNotSent(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	s.put("keep", 0644, "text")
	a.snapshot("main", "before", false)
	s.put("first", 0644, "text") // now main has a generation of its own
	a.fs.StopSweeping()
	s.put("short-lived", 0644, strings.Repeat("x", large))
	qid := s.stat("short-lived").Qid.Uid
	s.remove("short-lived")
	a.toClear(1)
	a.snapshot("main", "after", false)
	if n := a.dataBlocks("after", qid); n == 0 {
		t.Fatal("nothing is left to be cleared")
	}
	whole := a.send("after", "", nil)
	if len(whole) > large/2 {
		t.Errorf("a stream of %d bytes has what is to be cleared", len(whole))
	}
	b.recv(whole, "")
	sameSnapshot(t, a, b, "after", "after")
	b.recv(a.send("before", "", nil), "")
	b.recv(a.send("after", "before", nil), "difference")
	sameSnapshot(t, a, b, "after", "difference")
	for _, label := range []string{"after", "difference"} {
		if n := b.dataBlocks(label, qid); n > 0 {
			t.Errorf("%s was received with %d blocks that belong to no file", label, n)
		}
	}
	before := a.digest("main")
	a.restart()
	s = a.as("glenda", "%main")
	eventually(t, "clearing", func() bool { return a.fs.ToClear() == 0 })
	if after := a.digest("main"); after != before {
		t.Errorf("digest %v when all is cleared, %v before", after, before)
	}
	a.end()
	b.end()
}

// TestWhatIsYoungerThanARecordOfClearingIsSent: a server that does not know the records may have written to
// the file again, and what it wrote is not to be cleared.
func TestWhatIsYoungerThanARecordOfClearingIsSent(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	s.put("file", 0644, strings.Repeat("text", 2*blk))
	before := a.digest("main")
	rec := kvfmt.Clear{Qid: s.stat("file").Qid.Uid, Gen: 1, To: math.MaxUint64}
	if err := a.fs.PlantClear("main", rec); err != nil {
		t.Fatal(err)
	}
	if after := a.digest("main"); after != before {
		t.Errorf("digest %v with the record, %v without", after, before)
	}
	b.recv(a.send("main", "", nil), "copy")
	sameSnapshot(t, a, b, "main", "copy")
	a.end()
	b.end()
}
