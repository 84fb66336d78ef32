package scale

import (
	"cmp"
	"math"
	"slices"
)

// Edges are the right edges of a tree whose keys ascend, one for each stream: all that changes of it.
type edges struct {
	streams []*edge
	hot     *edge   // the way to the hot entry; nil without one
	ops     float64 // that were simulated
}

// An edge is the rightmost node of each level that a stream goes to.
type edge struct {
	Stream
	msg      int       // bytes of a message
	room     float64   // entries that a leaf holds
	buffered []int     // messages in the buffer of level i+1; the root's are in the last
	replaced []float64 // how often a node of level i+1 was replaced
	still    bool      // its leaf does not grow
	inLeaf   float64   // entries of the last leaf
	closed   float64   // leaves left behind, and entries in them
	entries  float64
}

// leavesPerOp returns how many leaves are left behind for an operation.
func (es *edges) leavesPerOp() (n float64) {
	for _, e := range es.streams {
		n += e.closed / e.entries
	}
	return n
}

// edgeOps is how many operations are simulated: enough for hundreds of leaves.
const edgeOps = 100_000

// newEdges lets a load run in a tree of that height.
func newEdges(l Load, height int) *edges {
	es := &edges{ops: edgeOps}
	begin := func(s Stream) *edge {
		return &edge{Stream: s, msg: s.message(), room: math.Floor(leafRoom / float64(s.entry())), buffered: make([]int, height), replaced: make([]float64, height)}
	}
	for _, s := range l.Streams {
		es.streams = append(es.streams, begin(s))
	}
	all := es.streams
	if l.Hot.Name != "" {
		es.hot = begin(l.Hot)
		es.hot.still = true
		all = append(slices.Clone(all), es.hot)
	}
	sum := 0 // bytes in the root's buffer
	add := func(e *edge) {
		e.buffered[height-1]++
		sum += e.msg
	}
	for range edgeOps {
		for _, e := range es.streams {
			add(e)
		}
		if es.hot != nil && (sum > bufRoom || es.hot.buffered[height-1] == 0) {
			add(es.hot)
		}
		for sum > bufRoom {
			most := slices.MaxFunc(all, func(a, b *edge) int { return cmp.Compare(a.size(height), b.size(height)) })
			sum -= most.size(height)
			most.down(height)
		}
	}
	return es
}

// size returns the bytes of the stream's messages in the buffer of a level.
func (e *edge) size(level int) int { return e.buffered[level-1] * e.msg }

// down moves what is in the buffer of a level to the level below, and on from there if it does not fit.
func (e *edge) down(level int) {
	n := e.buffered[level-1]
	e.buffered[level-1] = 0
	e.replaced[level-2]++
	if level > 2 {
		e.buffered[level-2] += n
		if e.size(level-1) > bufRoom {
			e.down(level - 1)
		}
		return
	}
	if e.still {
		return
	}
	e.inLeaf += float64(n)
	if e.inLeaf > e.room {
		parts := math.Ceil(e.inLeaf / e.room)
		e.closed += parts - 1
		e.entries += e.inLeaf / parts * (parts - 1)
		e.inLeaf /= parts
	}
}
