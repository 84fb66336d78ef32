package betree

import (
	"bytes"
	"fmt"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// push returns the nodes that p becomes when the messages in, sorted, reach it. They fit a block
// each and stand in order. There is none if no key and no message is left.
func (u *update) push(p *proto, in []kvfmt.Msg) ([]*proto, error) {
	if p.level > 1 {
		p.msgs = u.merge(p.msgs, in)
		return u.settle(p)
	}
	var err error
	if p.ents, err = u.apply(p.ents, in); err != nil {
		if u.ht > 1 {
			err = corrupt(p.src, err)
		}
		return nil, err
	}
	return u.split(p), nil
}

// settle returns the nodes that the pivot p becomes when its children take as many of its messages
// as do not fit its buffer. Each time those for one child go down, the child for which there is
// most: that is when rewriting one pays best. To push more than has to be, so as to flush less
// often, was measured to write more.
//
// While there are messages there is a child, if need be a new one: otherwise they would vanish with
// the pivot.
func (u *update) settle(p *proto) ([]*proto, error) {
	for once := u.down; p.bufSize() > blkfmt.BufSpc || len(p.msgs) > 0 && (once || len(p.ents) == 0); once = false {
		i, lo, hi := p.fullest()
		child, err := u.child(p, i)
		if err != nil {
			return nil, err
		}
		nodes, err := u.push(child, p.msgs[lo:hi])
		if err != nil {
			return nil, err
		}
		p.msgs = slices.Delete(p.msgs, lo, hi)
		if err := u.replace(p, i, min(i+1, len(p.ents)), nodes); err != nil {
			return nil, err
		}
		if len(nodes) == 1 {
			if err := u.balance(p, i); err != nil {
				return nil, err
			}
		}
	}
	return u.split(p), nil
}

// fullest returns the child of p for which there are the most bytes of messages, the first of
// equals, and which messages these are: from lo up to hi. Messages below the first child's key are
// for that one.
func (p *proto) fullest() (child, lo, hi int) {
	most := -1
	j := 0
	for i := 0; i == 0 || i < len(p.ents); i++ {
		first, size := j, 0
		for j < len(p.msgs) && (i+1 >= len(p.ents) || kvfmt.Compare(p.msgs[j].Key, p.ents[i+1].key) < 0) {
			size += p.msgs[j].Size()
			j++
		}
		if size > most {
			child, lo, hi, most = i, first, j, size
		}
	}
	return child, lo, hi
}

// child returns the child i of p to be changed; its block is dead then. A pivot without children
// gets an empty one.
func (u *update) child(p *proto, i int) (*proto, error) {
	if len(p.ents) == 0 {
		c := u.proto(p.level - 1)
		c.src = p.src
		return c, nil
	}
	e := &p.ents[i]
	if e.sub != nil {
		return e.sub, nil
	}
	bp, _ := kvfmt.GetChild(e.val)
	b, err := u.get(bp, p.level-1)
	if err != nil {
		return nil, err
	}
	u.dead = append(u.dead, bp)
	return u.decode(b, p.level-1), nil
}

// replace puts nodes in the place of the children of p from i up to j. It fails if their keys do
// not fit between those of the neighbours, as they cannot unless the disk is corrupt.
func (u *update) replace(p *proto, i, j int, nodes []*proto) error {
	ents := u.ents.take(len(p.ents) - (j - i) + len(nodes))
	ents = append(ents, p.ents[:i]...)
	for _, c := range nodes {
		ents = append(ents, entry{key: c.firstKey(), sub: c})
	}
	ents = append(ents, p.ents[j:]...)
	for k := max(i, 1); k < len(ents) && k <= i+len(nodes); k++ {
		if kvfmt.Compare(ents[k-1].key, ents[k].key) >= 0 {
			return corrupt(p.src, fmt.Errorf("keys of its children overlap at %x", ents[k].key))
		}
	}
	p.ents = ents
	return nil
}

// merge returns the messages of both, sorted; for equal keys those of older come first.
func (u *update) merge(older, newer []kvfmt.Msg) []kvfmt.Msg {
	out := u.msgs.take(len(older) + len(newer))
	for len(older) > 0 && len(newer) > 0 {
		if kvfmt.Compare(older[0].Key, newer[0].Key) <= 0 {
			out = append(out, older[0])
			older = older[1:]
		} else {
			out = append(out, newer[0])
			newer = newer[1:]
		}
	}
	return append(append(out, older...), newer...)
}

// apply returns the entries of a leaf after the messages, and puts to the dead what data blocks
// these replace or remove. This is the one place where that happens: a message gets here once.
func (u *update) apply(ents []entry, in []kvfmt.Msg) ([]entry, error) {
	out := u.ents.take(len(ents) + len(in))
	for len(in) > 0 {
		key := in[0].Key
		i, found := slices.BinarySearchFunc(ents, key, func(e entry, key []byte) int { return kvfmt.Compare(e.key, key) })
		out = append(out, ents[:i]...)
		ents = ents[i:]
		var val []byte
		if found {
			val = ents[0].val
			ents = ents[1:]
		}
		n := 1
		for n < len(in) && bytes.Equal(in[n].Key, key) {
			n++
		}
		val, present, err := u.applyRun(in[:n], val, found)
		if err != nil {
			return nil, err
		}
		if present {
			out = append(out, entry{key: key, val: val})
		}
		in = in[n:]
	}
	return append(out, ents...), nil
}

// applyRun returns what the messages, all for one key, make of its value.
func (u *update) applyRun(run []kvfmt.Msg, val []byte, present bool) ([]byte, bool, error) {
	scratch := false // val is in u.tmp
	for _, m := range run {
		next, ok, err := u.tmp.apply(m, val, present)
		if err != nil {
			return nil, false, err
		}
		if present && m.Key[0] == kvfmt.Kdat {
			bp, err := kvfmt.GetDatVal(val)
			if err != nil {
				return nil, false, fmt.Errorf("key %x: %w", m.Key, err)
			}
			u.dead = append(u.dead, bp)
		}
		val, present = next, ok
		scratch = !(m.Op == kvfmt.Insert || m.Op == kvfmt.Delete || m.Op.Clears())
	}
	if scratch {
		val = append(u.bytes.take(len(val)), val...)
	}
	return val, present, nil
}
