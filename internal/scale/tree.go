package scale

import (
	"math"
	"math/rand/v2"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A Level is what is predicted of the nodes of one level.
type Level struct {
	Level    int     `json:"level"` // 1 are the leaves
	Nodes    float64 `json:"nodes"`
	Entries  float64 `json:"entries"`  // of a node
	Batch    float64 `json:"batch"`    // messages that come to a node at once
	Rewrites float64 `json:"rewrites"` // nodes that are replaced for one operation
	Written  float64 `json:"written"`  // nodes that a commit writes
}

// A Tree is what is predicted of a tree.
type Tree struct {
	Entries float64 `json:"entries"`
	Levels  []Level `json:"levels"` // leaves first
}

// Height returns the number of levels.
func (t Tree) Height() int { return len(t.Levels) }

// Leaves, Pivots and Written return the number of leaves, of all other nodes, and of those of all levels that a
// commit writes.
func (t Tree) Leaves() float64 { return t.Levels[0].Nodes }

// Pivots returns the number of nodes above the leaves.
func (t Tree) Pivots() float64 {
	n := 0.0
	for _, l := range t.Levels[1:] {
		n += l.Nodes
	}
	return n
}

// Written returns how many nodes a commit writes.
func (t Tree) Written() float64 {
	n := 0.0
	for _, l := range t.Levels {
		n += l.Written
	}
	return n
}

// What fits. A pivot is split in time to leave room for two entries of the longest key: see betree.
const (
	leafRoom  = blkfmt.LeafSpc
	pivotRoom = blkfmt.PivSpc - 2*kvfmt.ChildMax
	bufRoom   = blkfmt.BufSpc
)

// Predict says what the tree is like after so many operations of a load, and what further ones of the same
// load cost if there is a commit after every perCommit of them. ops is the number of files or blocks
// there are, also where the operations replace them. The seed makes the simulation repeatable.
func Predict(l Load, ops, perCommit float64, seed uint64) Tree {
	rng := rand.New(rand.NewPCG(seed, 1))
	streams := float64(len(l.Streams))
	t := Tree{Entries: ops * streams}
	children := math.Floor(pivotRoom / l.size(Stream.child)) // most of a pivot

	e := t.shape(l, ops, children)
	if l.Random {
		t.random(rng, l, ops, perCommit)
	} else {
		t.ascending(e, perCommit, math.Ceil((children+1)/2))
	}
	return t
}

// shape sets the levels and the number of nodes on each, and returns the edges of a tree of that height, nil if it
// has none as keys come at random.
func (t *Tree) shape(l Load, ops, children float64) (e *edges) {
	leaves, fanout := 0.0, math.Ceil((children+1)/2)
	if l.Random && !l.Replace {
		leaves = t.Entries / (math.Floor(leafRoom/l.size(Stream.entry)) * math.Ln2)
		fanout = children * math.Ln2
	} else {
		// How full a leaf is left behind hangs on the height the tree had then: messages come down
		// in larger batches if there are more buffers above.
		most := children // leaves in a tree of that height
		for height := 2; ops > 0; height++ {
			e = newEdges(l, height)
			n := min(ops*e.leavesPerOp(), most-leaves)
			leaves += n
			ops -= n / e.leavesPerOp()
			if ops < 1 {
				break
			}
			most *= fanout
		}
	}
	for n := max(leaves, 1); ; {
		below := t.Entries
		if h := len(t.Levels); h > 0 {
			below = t.Levels[h-1].Nodes
		}
		t.Levels = append(t.Levels, Level{Level: len(t.Levels) + 1, Nodes: n, Entries: below / n})
		switch {
		case n <= 1:
			return e
		case n <= children:
			n = 1
		default:
			n = max(n/fanout, 1.001) // more than one root there is not
		}
	}
}

// fills is how many differently full pivots stand for those of a level.
const fills = 8

// random sets what is written where keys come at random, from the root down.
func (t *Tree) random(rng *rand.Rand, l Load, ops, perCommit float64) {
	streams := float64(len(l.Streams))
	room := int(bufRoom / l.size(Stream.message))
	in := []int{len(l.Streams)}
	top := len(t.Levels) - 1
	t.Levels[top].Rewrites, t.Levels[top].Batch = 1, streams
	t.Levels[top].Written = min(1, perCommit)
	for i := top; i > 0; i-- {
		up, down := &t.Levels[i], &t.Levels[i-1]
		window := perCommit * streams / up.Nodes
		hot := 0
		if i == top && l.Hot.Name != "" {
			hot = int(math.Round(float64(l.Hot.message()) / l.size(Stream.message)))
		}
		var flows []flow
		var shares []float64
		if i == top || l.Replace {
			flows = append(flows, run(rng, in, int(math.Round(up.Entries)), room, hot, window, !l.Replace))
			shares = append(shares, 1)
		} else {
			for f := range fills {
				x := fillAt((float64(f)+0.5)/fills) / math.Ln2
				flows = append(flows, run(rng, in, max(int(math.Round(up.Entries*x)), 1), room, hot, window*x, true))
				shares = append(shares, x)
			}
		}
		down.Batch, in = mix(flows, shares)
		down.Rewrites = streams / down.Batch
		for _, f := range flows {
			down.Written += up.Nodes * f.touched / float64(len(flows))
		}
		if !l.Replace {
			down.Written += perCommit * down.Nodes / ops // those that a split makes two of
		}
	}
}

// mix returns the mean of the batches of pivots that get so large a share of the messages each, and a sample
// of them.
func mix(flows []flow, shares []float64) (mean float64, sample []int) {
	const most = 4096
	messages, batches := 0.0, 0.0
	for i, f := range flows {
		messages += shares[i]
		batches += shares[i] / f.mean
	}
	for i, f := range flows {
		n := int(math.Ceil(most * shares[i] / f.mean / batches))
		step := max(len(f.batches)/n, 1)
		for j := 0; j < len(f.batches); j += step {
			sample = append(sample, f.batches[j])
		}
	}
	return messages / batches, sample
}

// ascending sets what is written where keys ascend.
func (t *Tree) ascending(e *edges, perCommit, fanout float64) {
	top := len(t.Levels) - 1
	left := perCommit * e.leavesPerOp() // nodes left behind
	for i := range t.Levels {
		v := &t.Levels[i]
		if i == top {
			v.Rewrites, v.Batch, v.Written = 1, float64(len(e.streams)), min(1, perCommit)
			continue
		}
		for _, s := range e.streams {
			replaced := s.replaced[i] / e.ops
			v.Rewrites += replaced
			v.Written += min(1, perCommit*replaced) // the one that is the edge in the end
		}
		v.Written += left
		left /= fanout
		if e.hot != nil {
			v.Rewrites += e.hot.replaced[i] / e.ops
			v.Written += min(1, perCommit*e.hot.replaced[i]/e.ops)
		}
		v.Batch = float64(len(e.streams)) / v.Rewrites
	}
}
