package arena

import (
	"iter"

	"gefs9p/blkfmt"
)

// census yields list.
func census(list ...blkfmt.Addr) iter.Seq2[blkfmt.Addr, error] {
	return func(yield func(blkfmt.Addr, error) bool) {
		for _, b := range list {
			if !yield(b, nil) {
				return
			}
		}
	}
}
