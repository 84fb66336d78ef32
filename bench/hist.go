package bench

import (
	"math/bits"
	"time"
)

// A hist counts durations in buckets whose width grows with the duration, so that a quantile is off by
// at most one part in 64, and recording one is an increment: no allocation, no lock. It belongs to one
// goroutine; the histograms of several are added up when all are done.
//
// Below 128 ns every nanosecond has a bucket. Above, each power of two is cut into 64.
type hist struct {
	n   uint64
	max time.Duration
	at  [histBuckets]uint64
}

const (
	histBits    = 6 // of a duration that choose the bucket within a power of two
	histSub     = 1 << histBits
	histBuckets = (64 - histBits) * histSub // for every non-negative duration
)

// add records d; a negative one, from a clock that was set back, counts as zero.
func (h *hist) add(d time.Duration) {
	if d < 0 {
		d = 0
	}
	h.n++
	h.max = max(h.max, d)
	h.at[bucket(d)]++
}

// merge adds what o has counted.
func (h *hist) merge(o *hist) {
	h.n += o.n
	h.max = max(h.max, o.max)
	for i, c := range o.at {
		h.at[i] += c
	}
}

// quantile returns the duration that the part q (0 to 1) of what was recorded does not exceed, up to the
// width of a bucket; zero if nothing was.
func (h *hist) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) || rank == 0 {
		rank++
	}
	var seen uint64
	for i, c := range h.at {
		if seen += c; seen >= rank {
			return min(bucketTop(i), h.max)
		}
	}
	return h.max
}

// bucket returns the number of the bucket of d, which must not be negative.
func bucket(d time.Duration) int {
	v := uint64(d)
	if v < 2*histSub {
		return int(v)
	}
	shift := bits.Len64(v) - histBits - 1
	return shift*histSub + int(v>>shift)
}

// bucketTop returns the longest duration of bucket i.
func bucketTop(i int) time.Duration {
	if i < 2*histSub {
		return time.Duration(i)
	}
	shift := i/histSub - 1
	low := uint64(i-shift*histSub) << shift
	return time.Duration(low + 1<<shift - 1)
}
