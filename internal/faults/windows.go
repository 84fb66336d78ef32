package faults

import (
	"iter"
	"math/rand/v2"

	"gefs9p/blkdev"
)

// A window is the writes between two flushes, any of which may be lost, with the cuts to be tried of it.
type window struct {
	trace  *blkdev.Trace
	end    int   // event of the flush that ends it
	writes []int // events
}

// Of windows with up to smallWindow writes every subset is tried; of others those with one or two writes, or
// all but one or two, and randomIn random ones.
const (
	smallWindow = 10
	randomIn    = 1000
)

// subsets is how many cuts keep some of the writes and lose the others; random, in how many more some are torn or
// in another order as well.
func (w window) subsets() int {
	n := len(w.writes)
	if n <= smallWindow {
		return 1 << n
	}
	return 2*n + n*(n-1)
}

func (w window) random() int {
	if len(w.writes) <= smallWindow {
		return 16 * len(w.writes)
	}
	return randomIn
}

func (w window) cuts() int { return w.subsets() + w.random() }

// cut returns the i-th of them; seed is for the random ones.
func (w window) cut(i int, seed uint64) blkdev.Cut {
	n := len(w.writes)
	if i >= w.subsets() {
		return w.trace.RandomAt(rand.New(rand.NewPCG(seed, uint64(w.end)<<32|uint64(i))), w.end)
	}
	if n <= smallWindow {
		var kept []int
		for k, e := range w.writes {
			if i>>k&1 != 0 {
				kept = append(kept, e)
			}
		}
		return w.trace.Only(w.end, kept...)
	}
	but, i := i%2 != 0, i/2
	some := w.writes[i%n : i%n+1]
	if i >= n { // the i-th pair
		a := (i - n) % n
		b := (a + 1 + (i-n)/n) % n
		some = []int{w.writes[min(a, b)], w.writes[max(a, b)]}
	}
	if but {
		return w.trace.Without(w.end, some...)
	}
	return w.trace.Only(w.end, some...)
}

// WindowCuts yields the cuts of all windows of the trace, one of each window in turn, and then those with a torn
// write or with two in the wrong order.
func WindowCuts(t *blkdev.Trace, seed uint64) iter.Seq[blkdev.Cut] {
	var ws []window
	most := 0
	for end, writes := range t.Windows() {
		w := window{t, end, writes}
		ws = append(ws, w)
		most = max(most, w.cuts())
	}
	special := func(yield func(blkdev.Cut) bool) {
		for _, list := range []iter.Seq[blkdev.Cut]{t.Overtakes(), t.Tears()} {
			for cut := range list {
				if !yield(cut) {
					return
				}
			}
		}
	}
	return func(yield func(blkdev.Cut) bool) {
		next, stop := iter.Pull[blkdev.Cut](special)
		defer stop()
		tears := Apart(ws)
		for i := range most {
			for w := range tears {
				if n := w.cuts(); i < n && !yield(w.cut(scattered(i, n), seed)) {
					return
				}
				if i%2 == 0 { // as many of these, as long as there are any
					if cut, ok := next(); ok && !yield(cut) {
						return
					}
				}
			}
		}
		for cut, ok := next(); ok; cut, ok = next() {
			if !yield(cut) {
				return
			}
		}
	}
}

// scattered is a permutation of 0 to n-1 in which neighbours are far apart.
func scattered(i, n int) int {
	step := max(1, int(float64(n)*0.381966))
	for gcd(step, n) != 1 {
		step++
	}
	return i % n * step % n
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Apart yields the elements of the list, each once, in an order in which any beginning is spread over all of it.
func Apart[E any](list []E) iter.Seq[E] {
	return func(yield func(E) bool) {
		for i := range list {
			if !yield(list[scattered(i, len(list))]) {
				return
			}
		}
	}
}
