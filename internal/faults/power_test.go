package faults

import (
	"iter"
	"slices"
	"testing"

	"gefs9p/blkdev"
)

// powerOps is how many operations are in the trace of the power cuts.
const powerOps = 10000

// history does a script of random operations for a row, fewer with -short.
func history(t *testing.T, row *Row, ops int) *History {
	t.Helper()
	if testing.Short() && !row.Long() {
		ops /= 10
	}
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	src := &Source{R: row.Rand(1), Full: true}
	h, err := RecordAlone(disk, src.Ops(disk.Oracle, ops), row.Seed()%2 == 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %d refused by a full disk; %d events", len(h.Ops), h.Refused, h.Trace.Len())
	return h
}

// names gives the cuts their names.
func (h *History) names(cuts iter.Seq[blkdev.Cut]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for cut := range cuts {
			if !yield(h.Name(cut)) {
				return
			}
		}
	}
}

// TestPowerCutAtEveryWrite cuts the power before any write of a long trace. What is found is the state
// after some operations and not the later ones, with all that was fsynced, sound and without leaks; opening it
// twice gives the same.
func TestPowerCutAtEveryWrite(t *testing.T) {
	row := flags.Row(t, 1, Size{Ordinary: 5000, Short: 200})
	h := history(t, row, powerOps)
	cuts := slices.Collect(h.Trace.Boundaries())
	t.Logf("%d write boundaries", len(cuts))
	row.Each(h.names(Apart(cuts)), h.Try)
}

// TestUnsyncedWritesLostTornReordered is the same with only some of the writes since the last flush on the
// disk, in any order, and some of them only in part.
func TestUnsyncedWritesLostTornReordered(t *testing.T) {
	row := flags.Row(t, 2, Size{Ordinary: 20000, Short: 500})
	h := history(t, row, powerOps/4)
	row.Each(h.names(WindowCuts(h.Trace, row.Seed())), h.Try)
}
