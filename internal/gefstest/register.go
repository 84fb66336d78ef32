package gefstest

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A RegisterOp is a read or write of a register, by somebody, at some moment between Start and End. No
// value is written twice.
type RegisterOp struct {
	Write      bool
	Value      uint64
	Start, End time.Duration
	Who        string // for the error
}

func (op *RegisterOp) String() string {
	what := "reads"
	if op.Write {
		what = "writes"
	}
	return fmt.Sprintf("%s %s %x in [%v, %v]", op.Who, what, op.Value, op.Start, op.End)
}

// A zone is where the operations on one value lie. If the first that ended did so before the last
// began, the register must have had the value all the time from the one to the other, and no other
// value: it is a forward zone. Otherwise one moment from lo to hi is enough.
type zone struct {
	forward bool
	lo, hi  time.Duration
	a, b    *RegisterOp // that end and begin it
}

// CheckRegister says whether there is an order of the operations in which each takes effect at one
// moment between its start and its end, and each read gives what was written last. Every value that
// is read must have been written by one of the operations.
//
// The order exists if and only if no two forward zones overlap and no other zone lies inside of a
// forward one. Source: Gibbons and Korach, "Testing Shared Memories", 1997, section 4.
func CheckRegister(ops []RegisterOp) error {
	byValue := make(map[uint64][]*RegisterOp)
	for i := range ops {
		byValue[ops[i].Value] = append(byValue[ops[i].Value], &ops[i])
	}
	var forward, other []zone
	for _, list := range byValue {
		var write *RegisterOp
		ends, begins := list[0], list[0]
		for _, op := range list {
			if op.Write {
				if write != nil {
					return fmt.Errorf("written twice: %v, %v", write, op)
				}
				write = op
			}
			if op.End < ends.End {
				ends = op
			}
			if op.Start > begins.Start {
				begins = op
			}
		}
		if write == nil {
			return fmt.Errorf("%v, which nobody wrote", list[0])
		}
		if ends.End < write.Start {
			return fmt.Errorf("%v before %v", ends, write)
		}
		if ends.End <= begins.Start {
			forward = append(forward, zone{true, ends.End, begins.Start, ends, begins})
		} else {
			other = append(other, zone{false, begins.Start, ends.End, begins, ends})
		}
	}
	slices.SortFunc(forward, func(a, b zone) int { return cmp.Compare(a.lo, b.lo) })
	for i := 1; i < len(forward); i++ {
		if a, b := forward[i-1], forward[i]; a.hi > b.lo {
			return fmt.Errorf("two values at once:\n\t%v\n\t%v\nbut\n\t%v\n\t%v", a.a, a.b, b.a, b.b)
		}
	}
	for _, z := range other {
		i, _ := slices.BinarySearchFunc(forward, z.lo, func(f zone, t time.Duration) int { return cmp.Compare(f.lo, t) })
		if i > 0 && forward[i-1].lo < z.lo && z.hi < forward[i-1].hi {
			f := forward[i-1]
			return fmt.Errorf("another value in between:\n\t%v\n\t%v\nbut\n\t%v", f.a, f.b, z.a)
		}
	}
	return nil
}
