package gefstest

import (
	"testing"
	"time"
)

// TestRegisterHistories gives CheckRegister histories that a register can have, and some that it
// cannot.
func TestRegisterHistories(t *testing.T) {
	w := func(v uint64, from, to int) RegisterOp {
		return RegisterOp{Write: true, Value: v, Start: time.Duration(from), End: time.Duration(to)}
	}
	r := func(v uint64, from, to int) RegisterOp {
		op := w(v, from, to)
		op.Write = false
		return op
	}
	for _, x := range []struct {
		name string
		ok   bool
		ops  []RegisterOp
	}{
		{"in order", true, []RegisterOp{w(1, 0, 1), r(1, 2, 3), w(2, 4, 5), r(2, 6, 7)}},
		{"a read beside the write sees it or not", true, []RegisterOp{w(1, 0, 1), w(2, 2, 9), r(1, 3, 4), r(2, 5, 6)}},
		{"a write may take effect late", true, []RegisterOp{w(1, 0, 10), w(2, 1, 2), r(2, 3, 4), r(1, 5, 6)}},
		{"old after new", false, []RegisterOp{w(1, 0, 1), w(2, 2, 9), r(2, 3, 4), r(1, 5, 6)}},
		{"stale", false, []RegisterOp{w(1, 0, 1), w(2, 2, 3), r(1, 4, 5)}},
		{"from the future", false, []RegisterOp{w(1, 0, 1), r(2, 2, 3), w(2, 4, 5)}},
		{"never written", false, []RegisterOp{w(1, 0, 1), r(3, 2, 3)}},
		{"written twice", false, []RegisterOp{w(1, 0, 1), w(1, 2, 3)}},
		{"two readers disagree", false, []RegisterOp{w(1, 0, 9), w(2, 0, 9), r(1, 1, 2), r(2, 3, 4), r(1, 5, 6)}},
		{"lost between two reads", false, []RegisterOp{w(1, 0, 1), r(1, 2, 3), w(2, 4, 5), r(1, 6, 7)}},
	} {
		if err := CheckRegister(x.ops); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
