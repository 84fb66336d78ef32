package scale

import (
	"math/rand/v2"
	"slices"
)

// A pivot is one pivot of a tree whose keys come at random: how many messages there are in its buffer for
// each child.
type pivot struct {
	rng   *rand.Rand
	room  int       // messages that the buffer holds
	upto  []float64 // sums of the children's shares of the keys
	count []int     // messages for each child
	sum   int

	hot     int // of the root: what a message of the load's hot entry counts; 0 without one
	hots    int // what those in the buffer count
	hotLast int64

	window  float64 // messages that come between two commits
	came    float64
	last    []int64 // in which window a child was replaced last
	batches []int   // messages that went down at once
	windows int     // in which a child was replaced, counted once for each child and window
}

// newPivot returns an empty pivot of so many children, whose shares are as unequal as those of nodes that
// were filled and split at random if uneven, and equal otherwise.
func newPivot(rng *rand.Rand, children, room int, window float64, uneven bool) *pivot {
	p := &pivot{rng: rng, room: room, window: window, upto: make([]float64, children), count: make([]int, children), last: make([]int64, children)}
	sum := 0.0
	for i := range p.upto {
		share := 1.0
		if uneven {
			share = fillAt(rng.Float64())
		}
		sum += share
		p.upto[i] = sum
		p.last[i] = -1
	}
	return p
}

// fillAt returns the fill of the node below which a share u of all nodes are, where nodes are filled at random
// and cut into halves when they are full: between one half and one, seldom nearly full. Such a node has
// keys in proportion to its fill.
func fillAt(u float64) float64 { return 1 / (2 - u) }

// take puts a batch into the buffer and moves down what has to go.
func (p *pivot) take(batch int) {
	for range batch {
		at, _ := slices.BinarySearch(p.upto, p.rng.Float64()*p.upto[len(p.upto)-1])
		p.count[min(at, len(p.count)-1)]++
	}
	p.sum += batch
	p.came += float64(batch)
	if p.sum+p.hots > p.room || p.hots == 0 {
		p.hots += p.hot
	}
	for p.sum+p.hots > p.room {
		most := 0
		for i, n := range p.count {
			if n > p.count[most] {
				most = i
			}
		}
		if p.hots > p.count[most] {
			p.hots = 0
			p.touch(&p.hotLast)
			continue
		}
		p.batches = append(p.batches, p.count[most])
		p.sum -= p.count[most]
		p.count[most] = 0
		p.touch(&p.last[most])
	}
}

// touch counts a child as replaced, once between two commits.
func (p *pivot) touch(last *int64) {
	if w := int64(p.came / p.window); *last != w {
		*last = w
		p.windows++
	}
}

// A flow is what one pivot, or those of a level together, give to the level below.
type flow struct {
	batches []int   // a sample of how many messages come to a node at once
	mean    float64 // of them
	touched float64 // children that are replaced between two commits, of one pivot
}

// Bounds of a simulation, in messages.
const (
	leastMessages = 30_000
	mostMessages  = 1_000_000
)

// run lets batches, drawn from those that come, through a pivot. hot is what a message of the hot entry counts.
func run(rng *rand.Rand, in []int, children, room, hot int, window float64, uneven bool) flow {
	p := newPivot(rng, children, room, window, uneven)
	p.hot = hot
	draw := func(n float64) {
		for end := p.came + n; p.came < end; {
			p.take(in[rng.IntN(len(in))])
		}
	}
	draw(float64(4 * (room + 20*children))) // until it is as it stays
	p.batches, p.windows, p.came = p.batches[:0], 0, 0
	for i := range p.last {
		p.last[i] = -1
	}
	p.hotLast = -1
	draw(min(max(leastMessages, float64(100*room), 6*window), mostMessages))
	f := flow{batches: p.batches}
	if len(p.batches) == 0 {
		return f
	}
	sum := 0
	for _, n := range p.batches {
		sum += n
	}
	f.mean = float64(sum) / float64(len(p.batches))
	f.touched = float64(p.windows) / (p.came / window)
	return f
}
