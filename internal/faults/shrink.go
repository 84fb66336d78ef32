package faults

import (
	"math/rand/v2"
	"slices"
	"time"

	"gefs9p/blkdev"
)

// A Failure is a cut of a history after which something was found that should not be.
type Failure struct {
	History *History
	Cut     blkdev.Cut
	Err     error
}

// tries is how many random cuts near its end a shorter script gets to show that it fails too.
const tries = 200

// Find looks for a cut near the end of the history after which verify has something to say; nil if it finds none.
func (h *History) Find(verify func(blkdev.Cut) error) *Failure {
	r := rand.New(rand.NewPCG(uint64(len(h.Ops)), 13))
	for cut := range h.Near(len(h.Ops), 2, tries, r) {
		if err := verify(cut); err != nil {
			return &Failure{h, cut, err}
		}
	}
	return nil
}

// Shrink looks for a smaller script that fails as well. fails records a script and returns how it fails, nil if it
// does not. op is the operation of f that was under way: what comes after it is left out first; then
// parts of what is before, halves at first, single operations in the end, until nothing can be left out or
// time is over. The result fails; it is f if nothing shorter does.
func Shrink(f *Failure, op int, limit time.Duration, fails func(ops []Op) (*Failure, error)) (*Failure, error) {
	end := time.Now().Add(limit)
	ops := f.History.Ops
	try := func(shorter []Op) (bool, error) {
		g, err := fails(shorter)
		if err != nil || g == nil {
			return false, err
		}
		f, ops = g, g.History.Ops
		return true, nil
	}
	if op < len(ops) {
		if _, err := try(slices.Clone(ops[:op])); err != nil {
			return f, err
		}
	}
	for part := (len(ops) + 1) / 2; part > 0; {
		shrunk := false
		// From the end: what a later operation needs stays as long as that does.
		for from := len(ops) - part; from > -part; from -= part {
			if time.Now().After(end) {
				return f, nil
			}
			lo, hi := max(from, 0), min(from+part, len(ops))
			if lo >= hi {
				continue
			}
			ok, err := try(slices.Concat(ops[:lo], ops[hi:]))
			if err != nil {
				return f, err
			}
			shrunk = shrunk || ok
		}
		if !shrunk {
			part /= 2
		} else {
			part = min(part, (len(ops)+1)/2)
		}
	}
	return f, nil
}
