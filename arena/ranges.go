package arena

import (
	"iter"

	"github.com/emirpasic/gods/v2/trees/avltree"

	"gefs9p/blkfmt"
)

// ranges is a set of blocks kept as disjoint ranges that never touch, ordered by address.
// It has no lock. Lengths are in bytes. The zero value is not ready; use newRanges.
//
// Start and end of a node are edited in place where they stay between the node's neighbours: the
// order of the tree does not change by it.
type ranges struct {
	tree  *avltree.Tree[blkfmt.Addr, blkfmt.Addr] // start to end
	total int64                                   // bytes in all ranges
}

type rangeNode = avltree.Node[blkfmt.Addr, blkfmt.Addr]

func newRanges() *ranges { return &ranges{tree: avltree.New[blkfmt.Addr, blkfmt.Addr]()} }

// count returns the number of ranges.
func (r *ranges) count() int64 { return int64(r.tree.Size()) }

// blocks returns the number of blocks.
func (r *ranges) blocks() int64 { return r.total >> blkfmt.BlkShift }

// holding returns the range that a lies in.
func (r *ranges) holding(a blkfmt.Addr) *rangeNode {
	n, ok := r.tree.Floor(a)
	if !ok || a >= n.Value {
		return nil
	}
	return n
}

// insert adds n bytes at a and joins them with the ranges that they touch. It returns false and
// changes nothing if some of them are there already.
func (r *ranges) insert(a blkfmt.Addr, n int64) bool {
	end := a + blkfmt.Addr(n)
	prev, _ := r.tree.Floor(a)
	next, _ := r.tree.Ceiling(a)
	if prev != nil && prev.Value > a || next != nil && next.Key < end {
		return false
	}
	joinsPrev := prev != nil && prev.Value == a
	joinsNext := next != nil && next.Key == end
	switch {
	case joinsPrev && joinsNext:
		// Removing a node may move another's contents; prev is finished before.
		prev.Value = next.Value
		r.tree.Remove(next.Key)
	case joinsPrev:
		prev.Value = end
	case joinsNext:
		next.Key = a
	default:
		r.tree.Put(a, end)
	}
	r.total += n
	return true
}

// remove takes n bytes at a out of the one range that has them all. It returns false and changes
// nothing if there is none.
func (r *ranges) remove(a blkfmt.Addr, n int64) bool {
	node := r.holding(a)
	if node == nil || n > int64(node.Value-a) {
		return false
	}
	r.cut(node, a, n)
	return true
}

// cut takes n bytes at a out of node, which must have them.
func (r *ranges) cut(node *rangeNode, a blkfmt.Addr, n int64) {
	end := a + blkfmt.Addr(n)
	r.total -= n
	switch {
	case node.Key == a && node.Value == end:
		r.tree.Remove(a)
	case node.Key == a:
		node.Key = end
	case node.Value == end:
		node.Value = a
	default:
		tail := node.Value
		node.Value = a
		r.tree.Put(end, tail)
	}
}

// takeFirst removes the lowest block.
func (r *ranges) takeFirst() (blkfmt.Addr, bool) {
	n := r.tree.Left()
	if n == nil {
		return blkfmt.NoAddr, false
	}
	a := n.Key
	r.cut(n, a, blkfmt.BlkSize)
	return a, true
}

// takeLast removes the highest block.
func (r *ranges) takeLast() (blkfmt.Addr, bool) {
	n := r.tree.Right()
	if n == nil {
		return blkfmt.NoAddr, false
	}
	a := n.Value - blkfmt.BlkSize
	r.cut(n, a, blkfmt.BlkSize)
	return a, true
}

// takeRun removes the first n bytes of the lowest range that has as many.
func (r *ranges) takeRun(n int64) (blkfmt.Addr, bool) {
	for node := r.tree.Left(); node != nil; node = node.Next() {
		if int64(node.Value-node.Key) >= n {
			a := node.Key
			r.cut(node, a, n)
			return a, true
		}
	}
	return blkfmt.NoAddr, false
}

// all yields the start and the length of each range in ascending order. The set must not change
// meanwhile.
func (r *ranges) all() iter.Seq2[blkfmt.Addr, int64] {
	return func(yield func(blkfmt.Addr, int64) bool) {
		for n := r.tree.Left(); n != nil; n = n.Next() {
			if !yield(n.Key, int64(n.Value-n.Key)) {
				return
			}
		}
	}
}
