package arena

import (
	"iter"

	"gefs9p/blkfmt"
)

// merged yields the ranges of x and y, which must be ascending and disjoint, in ascending order,
// joining those that touch.
func merged(x, y iter.Seq2[blkfmt.Addr, int64]) iter.Seq2[blkfmt.Addr, int64] {
	return func(yield func(blkfmt.Addr, int64) bool) {
		next, stop := iter.Pull2(y)
		defer stop()
		start, end := blkfmt.NoAddr, blkfmt.NoAddr // the open range
		out := func(b blkfmt.Addr, n int64) bool {
			if b != end {
				if start != blkfmt.NoAddr && !yield(start, int64(end-start)) {
					return false
				}
				start = b
			}
			end = b + blkfmt.Addr(n)
			return true
		}
		yb, yn, more := next()
		for xb, xn := range x {
			for more && yb < xb {
				if !out(yb, yn) {
					return
				}
				yb, yn, more = next()
			}
			if !out(xb, xn) {
				return
			}
		}
		for more {
			if !out(yb, yn) {
				return
			}
			yb, yn, more = next()
		}
		if start != blkfmt.NoAddr {
			yield(start, int64(end-start))
		}
	}
}
