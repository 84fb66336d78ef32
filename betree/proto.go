package betree

import (
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A proto is a node that is being made: the contents of a leaf or pivot that are not in a block
// yet, and may be too much for one. Entries and messages are in order. Their bytes are those of
// blocks the update holds, of the batch, or of its scratch memory.
//
// Protos may share what their ents and msgs are slices of, so neither is appended to.
type proto struct {
	level int
	ents  []entry
	msgs  []kvfmt.Msg
	src   Block // what it was made of, or its parent was: to name in errors; nil if nothing
	blk   Block // the block allocated for it
}

// An entry is a pair in a leaf. In a pivot it is a child and the least key that it may hold: either
// a proto, or a block, whose pointer is encoded in val.
type entry struct {
	key []byte
	val []byte
	sub *proto
}

// valSize returns the bytes the entries take in a node.
func (p *proto) valSize() int {
	n := 0
	for i := range p.ents {
		n += p.entSize(i)
	}
	return n
}

func (p *proto) entSize(i int) int {
	e := &p.ents[i]
	n := kvfmt.EntrySize(e.key, e.val)
	if e.sub != nil {
		n += kvfmt.ChildSize
	}
	return n
}

// bufSize returns the bytes the messages take in a buffer.
func (p *proto) bufSize() int {
	n := 0
	for i := range p.msgs {
		n += p.msgs[i].Size()
	}
	return n
}

// firstKey returns the least key of a proto that has entries, be it an entry's or a message's.
func (p *proto) firstKey() []byte {
	k := p.ents[0].key
	if len(p.msgs) > 0 && kvfmt.Compare(p.msgs[0].Key, k) < 0 {
		k = p.msgs[0].Key
	}
	return k
}

// decode returns what stands in b, at that level.
func (u *update) decode(b Block, level int) *proto {
	n := kvfmt.Node(b.Bytes())
	p := u.proto(level)
	p.src = b
	p.ents = u.ents.take(n.Nval())
	for i := range n.Nval() {
		key, val := n.Val(i)
		p.ents = append(p.ents, entry{key: key, val: val})
	}
	p.msgs = u.msgs.take(n.Nbuf())
	for i := range n.Nbuf() {
		p.msgs = append(p.msgs, n.Msg(i))
	}
	return p
}

func (u *update) proto(level int) *proto {
	s := append(u.protos.take(1), proto{level: level})
	return &s[0]
}

// entries returns the entries of a parent for nodes.
func (u *update) entries(nodes []*proto) []entry {
	ents := u.ents.take(len(nodes))
	for _, p := range nodes {
		ents = append(ents, entry{key: p.firstKey(), sub: p})
	}
	return ents
}

// pivotFull is the most bytes of entries for which a pivot is not split. It leaves room for two
// entries of the longest key, as the reference does, which splits in time to need no more.
const pivotFull = blkfmt.PivSpc - 2*kvfmt.ChildMax

// space returns how much the entries of p may take together.
func (p *proto) space() int {
	if p.level == 1 {
		return blkfmt.LeafSpc
	}
	return pivotFull
}

// split returns the nodes into which p has to be cut so that the entries of each fit: none if p is
// empty, else as few as possible, about equally full. Messages go to the node under whose first key
// they come, those below all keys to the first. They must fit one buffer.
func (u *update) split(p *proto) []*proto {
	if len(p.ents) == 0 {
		return nil
	}
	total := p.valSize()
	if total <= p.space() {
		return append(u.lists.take(1), p)
	}
	for parts := (total + p.space() - 1) / p.space(); ; parts++ {
		if nodes := u.cut(p, total, parts); nodes != nil {
			return nodes
		}
	}
}

// cut cuts p into parts, or returns nil if one of them would be too full. total is p's valSize.
func (u *update) cut(p *proto, total, parts int) []*proto {
	nodes := u.lists.take(parts)
	ents, msgs := 0, 0 // cut off so far
	sum := 0           // bytes of entries before i
	for i := 0; i < len(p.ents); {
		start, end := sum, total*(len(nodes)+1)/parts
		for i < len(p.ents) && (sum == start || sum+p.entSize(i)/2 <= end) {
			sum += p.entSize(i)
			i++
		}
		if sum-start > p.space() {
			return nil
		}
		hi := len(p.msgs)
		if i < len(p.ents) {
			hi = below(p.msgs, p.ents[i].key)
		}
		q := u.proto(p.level)
		q.src = p.src
		q.ents = p.ents[ents:i]
		q.msgs = p.msgs[msgs:hi]
		nodes = append(nodes, q)
		ents, msgs = i, hi
	}
	return nodes
}

// below returns how many of the messages have keys below key.
func below(msgs []kvfmt.Msg, key []byte) int {
	lo, hi := 0, len(msgs)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if kvfmt.Compare(msgs[m].Key, key) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// A slab hands out slices of memory that is used again after reset.
type slab[T any] struct {
	buf  []T
	used int
}

// take returns an empty slice with room for n.
func (s *slab[T]) take(n int) []T {
	if s.used+n > len(s.buf) {
		// Slices of the old memory stay good; it goes when they do.
		s.buf = make([]T, max(2*len(s.buf), n, 256))
		s.used = 0
	}
	p := s.buf[s.used : s.used : s.used+n]
	s.used += n
	return p
}

// reset takes everything back. Pointers stay in it until they are overwritten: they keep nothing
// alive but buffers that stay anyway, and a batch or two.
func (s *slab[T]) reset() { s.used = 0 }
