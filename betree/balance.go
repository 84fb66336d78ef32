package betree

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Two neighbours become one if that leaves room for it to grow before it has to be split again.
// Nothing is moved between neighbours that stay two: it would cost a block written and save none.
const (
	joinLeaf  = blkfmt.LeafSpc * 3 / 4 // most bytes of entries in a leaf made of two
	joinPivot = blkfmt.PivSpc * 3 / 4  // the same for a pivot
	smallPiv  = blkfmt.PivSpc / 3      // most bytes of entries in a pivot for which a neighbour is looked for
)

// balance joins child i of p, a proto, with one of its neighbours, if they are empty enough. It
// tries one only, as it may have to be read.
func (u *update) balance(p *proto, i int) error {
	j := u.partner(p, i)
	if j < 0 {
		return nil
	}
	e := &p.ents[j]
	near := e.sub
	var bp blkfmt.Bptr
	if near == nil {
		bp, _ = kvfmt.GetChild(e.val)
		b, err := u.get(bp, p.level-1)
		if err != nil {
			return err
		}
		near = u.decode(b, p.level-1)
	}
	child := p.ents[i].sub
	if child.valSize()+near.valSize() > child.joinable() {
		return nil
	}
	if e.sub == nil {
		u.dead = append(u.dead, bp)
	}
	left, right := near, child
	if i < j {
		left, right = child, near
	}
	if !before(left, right) {
		return corrupt(p.src, fmt.Errorf("keys of its children overlap at %x", right.firstKey()))
	}
	both := u.proto(p.level - 1)
	both.src = left.src
	both.ents = append(append(u.ents.take(len(left.ents)+len(right.ents)), left.ents...), right.ents...)
	both.msgs = append(append(u.msgs.take(len(left.msgs)+len(right.msgs)), left.msgs...), right.msgs...)
	nodes := []*proto{both}
	if both.level > 1 {
		// The buffers of two may be more than one buffer.
		var err error
		if nodes, err = u.settle(both); err != nil {
			return err
		}
	}
	return u.replace(p, min(i, j), max(i, j)+1, nodes)
}

// before reports whether all of left comes before all of right. It is so unless the disk is corrupt.
func before(left, right *proto) bool {
	l, r := left.ents, right.ents
	if len(l) > 0 && len(r) > 0 && kvfmt.Compare(l[len(l)-1].key, r[0].key) >= 0 {
		return false
	}
	a, b := left.msgs, right.msgs
	return len(a) == 0 || len(b) == 0 || kvfmt.Compare(a[len(a)-1].Key, b[0].Key) < 0
}

// joinable returns how much the entries of a node made of two may take.
func (p *proto) joinable() int {
	if p.level == 1 {
		return joinLeaf
	}
	return joinPivot
}

// partner returns the neighbour of child i of p with which it may be joined, as far as what p
// records of them can tell, and the emptier one if both may; -1 if none.
func (u *update) partner(p *proto, i int) int {
	child := p.ents[i].sub
	size := child.valSize()
	if child.level > 1 && size > smallPiv {
		return -1
	}
	best, least := -1, 0
	for _, j := range []int{i - 1, i + 1} {
		if j < 0 || j >= len(p.ents) {
			continue
		}
		fill := p.ents[j].fill()
		vals := fill // bytes of entries that the neighbour must have at least
		if child.level > 1 {
			vals = fill - blkfmt.BufSpc
		}
		if size+vals <= child.joinable() && (best < 0 || fill < least) {
			best, least = j, fill
		}
	}
	return best
}

// fill returns the occupancy of a child.
func (e *entry) fill() int {
	if e.sub != nil {
		return e.sub.valSize() + e.sub.bufSize()
	}
	_, fill := kvfmt.GetChild(e.val)
	return fill
}
