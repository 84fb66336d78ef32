package faults

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"gefs9p/blkdev"
)

// TestShrinkKeepsWhatTheFailureNeeds plants a defect: the disk is found wrong once a directory that was renamed
// has had something removed. Of a long script few operations remain, and they still fail.
func TestShrinkKeepsWhatTheFailureNeeds(t *testing.T) {
	disk, err := NewDisk(0)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(ops []Op) (*Failure, error) {
		h, err := Record(disk, ops, false)
		if err != nil {
			return nil, err
		}
		return h.Find(func(cut blkdev.Cut) error {
			_, last := h.Window(cut)
			renamed := false
			for _, op := range h.Ops[:last] {
				switch op.Kind {
				case Rename:
					renamed = true
				case Remove:
					if renamed {
						return errors.New("planted")
					}
				}
			}
			return nil
		}), nil
	}
	ops := (&Source{R: rand.New(rand.NewPCG(5, 5))}).Ops(disk.Oracle, 120)
	f, err := fails(ops)
	if err != nil || f == nil {
		t.Fatalf("the script does not fail: %v", err)
	}
	_, op := f.History.Window(f.Cut)
	short, err := Shrink(f, op, time.Minute, fails)
	if err != nil {
		t.Fatal(err)
	}
	// A file or two that are created, a rename and a removal.
	if n := len(short.History.Ops); n < 3 || n > 4 {
		t.Errorf("%d operations remain of %d: %v", n, len(f.History.Ops), short.History.Ops)
	}
	if short.Err == nil || short.Err.Error() != "planted" {
		t.Errorf("what remains fails with %v", short.Err)
	}
}

func TestOperationsAreReadAsTheyAreWritten(t *testing.T) {
	disk, err := NewDisk(0)
	if err != nil {
		t.Fatal(err)
	}
	ops := (&Source{R: rand.New(rand.NewPCG(6, 6)), Full: true}).Ops(disk.Oracle, 2000)
	kinds := make(map[Kind]bool)
	for _, op := range ops {
		kinds[op.Kind] = true
	}
	if len(kinds) != 13 {
		t.Errorf("only %d kinds of operations: %v", len(kinds), kinds)
	}
	got, err := ParseOps(Text(ops))
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if got[i] != ops[i] {
			t.Fatalf("operation %d is %+v, want %+v", i, got[i], ops[i])
		}
	}
	for _, bad := range []string{"jump f1", "create f1", "write f1 0 x 3", "remove a b", "fill -"} {
		if _, err := ParseOps(bad); err == nil {
			t.Errorf("%q is an operation", bad)
		}
	}
}
