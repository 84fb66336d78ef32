package faults

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"gefs9p/blkdev"
)

// powerOps is how many operations are in the trace of the power cuts.
const powerOps = 10000

// movesOps is how many are in the trace of the power cuts during moves.
const movesOps = 2000

// history does a script of random operations for a row, fewer with -short.
func history(t *testing.T, row *Row, ops int) *History {
	t.Helper()
	if testing.Short() && !row.Long() {
		if ops /= 10; raceEnabled {
			ops /= 4
		}
	}
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	return historyOn(t, row, disk, ops)
}

// historyOn is history on a disk that there is.
func historyOn(t *testing.T, row *Row, disk *Disk, ops int) *History {
	t.Helper()
	script, err := row.Script()
	if err != nil {
		t.Fatal(err)
	}
	if script == nil {
		script = (&Source{R: row.Rand(1), Full: true}).Ops(disk.Oracle, ops)
	}
	h, err := RecordAlone(disk, script, row.Seed()%2 == 0)
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

// cuts tries cuts of the history. With -faults.shrink a failure is made smaller, and its script logged.
func (h *History) cuts(t *testing.T, row *Row, cuts iter.Seq[blkdev.Cut]) {
	row.Each(h.names(cuts), func(name string) error {
		err := h.Try(name)
		if err == nil || row.Shrink() == 0 {
			return err
		}
		cut, cutErr := h.cut(name)
		if cutErr != nil {
			return cutErr
		}
		var op int
		if _, err := fmt.Sscanf(name, "op=%d", &op); err != nil {
			return err
		}
		short, shrinkErr := Shrink(&Failure{h, cut, err}, op, row.Shrink(), func(ops []Op) (*Failure, error) {
			g, err := RecordAlone(h.base, ops, row.Seed()%2 == 0)
			if err != nil {
				return nil, err
			}
			return g.Find(func(cut blkdev.Cut) error { _, _, err := g.Verify(cut); return err }), nil
		})
		if shrinkErr != nil {
			t.Logf("while shrinking: %v", shrinkErr)
		}
		t.Logf("%d operations remain; as a file for -faults.script:\n%sthe cut is %s: %v",
			len(short.History.Ops), Text(short.History.Ops), short.History.Name(short.Cut), short.Err)
		return err
	})
}

// TestPowerCutAtEveryWrite cuts the power before any write of a long trace. What is found is the state
// after some operations and not the later ones, with all that was fsynced, sound and without leaks; opening it
// twice gives the same.
func TestPowerCutAtEveryWrite(t *testing.T) {
	row := flags.Row(t, 1, Size{Ordinary: 5000, Short: 200})
	h := history(t, row, powerOps)
	cuts := slices.Collect(h.Trace.Boundaries())
	t.Logf("%d write boundaries", len(cuts))
	h.cuts(t, row, Apart(cuts))
}

// TestPowerCutDuringMoves has a trace of which half is moves between directories, over others as well, and cuts the
// power at writes and between them: what was moved is in one of the two places, and what it replaced is gone
// only if it is in the other one. That is what being the state after some operations says.
func TestPowerCutDuringMoves(t *testing.T) {
	row := flags.Row(t, 1, Size{Ordinary: 1000, Short: 100})
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	script, err := row.Script()
	if err != nil {
		t.Fatal(err)
	}
	if script == nil {
		script = (&Source{R: row.Rand(1), Moves: true}).Ops(disk.Oracle, movesOps)
	}
	h, err := RecordAlone(disk, script, row.Seed()%2 == 0)
	if err != nil {
		t.Fatal(err)
	}
	moves, over, o := 0, 0, disk.Oracle.Clone()
	for i, op := range h.Ops {
		if op.Kind == Move {
			moves++
			if o.Nodes[op.To] != nil {
				over++
			}
		}
		op.Predict(o, h.secs[i])
	}
	t.Logf("%d operations, %d of them moves, %d over something; %d events", len(h.Ops), moves, over, h.Trace.Len())
	if *flags.script == "" && (moves < len(h.Ops)/4 || over < moves/10) {
		t.Error("there should be more")
	}
	// Whole prefixes of the writes and mixtures take turns.
	h.cuts(t, row, func(yield func(blkdev.Cut) bool) {
		next, stop := iter.Pull(WindowCuts(h.Trace, row.Seed()))
		defer stop()
		for _, cut := range slices.Collect(Apart(slices.Collect(h.Trace.Boundaries()))) {
			if mixed, ok := next(); !yield(cut) || ok && !yield(mixed) {
				return
			}
		}
		for mixed, ok := next(); ok && yield(mixed); mixed, ok = next() {
		}
	})
}

// TestUnsyncedWritesLostTornReordered is the same with only some of the writes since the last flush on the
// disk, in any order, and some of them only in part.
func TestUnsyncedWritesLostTornReordered(t *testing.T) {
	row := flags.Row(t, 2, Size{Ordinary: 20000, Short: 500})
	h := history(t, row, powerOps/4)
	h.cuts(t, row, WindowCuts(h.Trace, row.Seed()))
}
