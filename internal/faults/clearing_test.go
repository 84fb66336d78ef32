package faults

import (
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/check"
)

// TestCutWhileAFileIsCleared cuts the power while the blocks of large files that were truncated or removed
// are being cleared. Opening such a disk goes on with that: its trees change, and what it shows does not.
func TestCutWhileAFileIsCleared(t *testing.T) {
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	const large, piece = 400 * blkfmt.BlkSize, 50 * blkfmt.BlkSize
	var ops []Op
	for i := range uint64(6) {
		name := fmt.Sprint("large", i)
		ops = append(ops, Op{Kind: Create, Path: name, Mode: 0644})
		for off := 0; off < large; off += piece {
			ops = append(ops, Op{Kind: Write, Path: name, Off: off, Len: piece, Seed: i})
		}
		ops = append(ops, Op{Kind: Fsync})
		if i%2 == 0 {
			ops = append(ops, Op{Kind: Truncate, Path: name})
		} else {
			ops = append(ops, Op{Kind: Remove, Path: name})
		}
		ops = append(ops, Op{Kind: Fsync})
	}
	states := 0
	for try := 0; states == 0 && try < 30; try++ {
		// Clearing is as fast as it is. Only where a commit comes before its end is something to be seen.
		h, err := Record(disk, ops, true)
		if err != nil {
			t.Fatal(err)
		}
		states = h.clearing(t, 40)
	}
	if t.Logf("%d states with something to clear", states); states == 0 {
		t.Error("not one state has something to clear")
	}
}

// clearing verifies up to max states in which something is to be cleared and returns how many there are.
func (h *History) clearing(t *testing.T, max int) (states int) {
	for cut := range h.Trace.Boundaries() {
		img, err := h.Trace.State(cut)
		if err != nil {
			t.Fatal(err)
		}
		left, err := h.base.sound(new(check.Checker), img)
		if err != nil {
			t.Fatalf("%v: %v", h.Name(cut), err)
		}
		if !left.clearing {
			continue
		}
		if _, _, err := h.Verify(cut); err != nil {
			t.Fatalf("%v: %v", h.Name(cut), err)
		}
		if states++; states == max {
			break
		}
	}
	return states
}
