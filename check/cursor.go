package check

import (
	"bytes"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A cursor goes through the content of a tree in key order, with all buffered messages applied.
//
// It opens a node only when its keys are needed: between two steps it may stand before a child that
// is not open (ahead), which can be skipped as a whole. Nodes that cannot be read are passed over
// as if they were empty.
type cursor struct {
	x *run
	f []frame // open nodes, root first

	ahead bool // child is to be opened or skipped next
	child blkfmt.Bptr
	level int    // of child
	ckey  []byte // no key below child is less; nil for the root

	done bool
	left int // nodes that may still be opened: a sane tree has no more
	// onErr, if not nil, hears of messages that cannot be applied; p is the node that holds m.
	onErr func(p blkfmt.Bptr, m kvfmt.Msg, err error)
	// onInsert, if not nil, hears of inserts over a value.
	onInsert func(p blkfmt.Bptr, m kvfmt.Msg, old []byte)

	tmp [2][]byte // values made by messages
}

type frame struct {
	n     kvfmt.Node
	p     blkfmt.Bptr
	level int
	vi    int // next entry or child
	bi    int // next message
}

// newCursor returns a cursor before the first key of t.
func (x *run) newCursor(t *tree) *cursor {
	return &cursor{x: x, ahead: true, child: t.root, level: t.ht - 1, left: 2*max(len(x.nodes), x.most) + 2}
}

// seekCursor returns a cursor before the first key of t that is not below key.
func (x *run) seekCursor(t *tree, key []byte) *cursor {
	c := x.newCursor(t)
	for c.ahead {
		n := c.open()
		if n == nil {
			break
		}
		f := &c.f[len(c.f)-1]
		i, exact := n.Search(key)
		f.bi = n.BufSearch(key)
		if n.Leaf() {
			if !exact {
				i++
			}
			f.vi = i
			break
		}
		f.vi = max(i, 0)
		c.settle()
	}
	return c
}

// open opens the child ahead and returns it, nil if that cannot be read.
func (c *cursor) open() kvfmt.Node {
	p, level := c.child, c.level
	c.skip()
	if c.left--; c.left < 0 {
		return nil
	}
	n, err := c.x.nodeAt(p, level)
	if err != nil {
		return nil
	}
	c.f = append(c.f, frame{n: n, p: p, level: level})
	return n
}

// skip passes the child ahead.
func (c *cursor) skip() {
	c.ahead = false
	if len(c.f) > 0 {
		c.f[len(c.f)-1].vi++
	}
}

// settle leaves what is exhausted, until there is a key, a child ahead, or nothing.
func (c *cursor) settle() {
	for !c.ahead {
		if len(c.f) == 0 {
			c.done = true
			return
		}
		f := &c.f[len(c.f)-1]
		if f.vi < f.n.Nval() {
			if !f.n.Leaf() {
				c.ckey = f.n.Key(f.vi)
				c.child, _ = f.n.Child(f.vi)
				c.level = f.level - 1
				c.ahead = true
			}
			return
		}
		if f.bi < f.n.Nbuf() {
			return
		}
		c.f = c.f[:len(c.f)-1]
	}
}

// next returns a lower bound of the next key, and whether that is a key and not only a bound. The
// cursor must be settled and not done.
func (c *cursor) next() (key []byte, exact bool) {
	for i := range c.f {
		if f := &c.f[i]; f.bi < f.n.Nbuf() {
			if k := f.n.Msg(f.bi).Key; key == nil || kvfmt.Compare(k, key) < 0 {
				key = k
			}
		}
	}
	if c.ahead {
		if key != nil && kvfmt.Compare(key, c.ckey) < 0 {
			return key, true
		}
		return c.ckey, false
	}
	if f := &c.f[len(c.f)-1]; f.n.Leaf() {
		if k := f.n.Key(f.vi); key == nil || kvfmt.Compare(k, key) < 0 {
			key = k
		}
	}
	return key, true
}

// touched reports whether an open node has messages left for the child ahead, or before it.
func (c *cursor) touched() bool {
	var hi []byte
	for i := len(c.f) - 1; i >= 0 && hi == nil; i-- {
		vi := c.f[i].vi
		if i == len(c.f)-1 {
			vi++ // vi is the child ahead; further up it is the next one already
		}
		if n := c.f[i].n; vi < n.Nval() {
			hi = n.Key(vi)
		}
	}
	for i := range c.f {
		if f := &c.f[i]; f.bi < f.n.Nbuf() && (hi == nil || kvfmt.Compare(f.n.Msg(f.bi).Key, hi) < 0) {
			return true
		}
	}
	return false
}

// take passes key, which next must have returned as exact, and returns its value if it has one.
// The value is good until the next call.
func (c *cursor) take(key []byte) (val []byte, present bool) {
	if f := &c.f[len(c.f)-1]; f.n.Leaf() && f.vi < f.n.Nval() {
		if k, v := f.n.Val(f.vi); bytes.Equal(k, key) {
			val, present = v, true
			f.vi++
		}
	}
	for i := len(c.f) - 1; i >= 0; i-- {
		f := &c.f[i]
		for f.bi < f.n.Nbuf() {
			m := f.n.Msg(f.bi)
			if !bytes.Equal(m.Key, key) {
				break
			}
			f.bi++
			if present && m.Op == kvfmt.Insert && c.onInsert != nil {
				c.onInsert(f.p, m, val)
			}
			c.tmp[0], c.tmp[1] = c.tmp[1], c.tmp[0] // val may be in the one used last
			v, ok, err := kvfmt.Apply(c.tmp[0], m, val, present)
			if err != nil {
				if c.onErr != nil {
					c.onErr(f.p, m, err)
				}
				continue
			}
			if m.Op != kvfmt.Insert && ok {
				c.tmp[0] = v
			}
			val, present = v, ok
		}
	}
	return val, present
}

// each calls f with every pair from where the cursor stands, until f returns false.
func (c *cursor) each(f func(key, val []byte) bool) {
	for {
		c.settle()
		if c.done {
			return
		}
		key, exact := c.next()
		if !exact {
			c.open()
			continue
		}
		if v, ok := c.take(key); ok && !f(key, v) {
			return
		}
	}
}

// diff calls f with every key that a and b, both before their first key, have different values
// for; nil stands for no value. What they share is not read. a may be nil: an empty tree.
func diff(a, b *cursor, f func(key, old, new []byte)) {
	if a == nil {
		a = &cursor{done: true}
	}
	for {
		if !a.done {
			a.settle()
		}
		b.settle()
		if a.done && b.done {
			return
		}
		var (
			ka, kb []byte
			ea, eb = true, true
			cmp    int
		)
		switch {
		case a.done:
			kb, eb = b.next()
			cmp = +1
		case b.done:
			ka, ea = a.next()
			cmp = -1
		default:
			ka, ea = a.next()
			kb, eb = b.next()
			cmp = kvfmt.Compare(ka, kb)
		}
		if !ea && !eb && a.child == b.child && a.level == b.level && !a.touched() && !b.touched() {
			a.skip()
			b.skip()
			continue
		}
		switch {
		case cmp == 0 && !ea && !eb: // the higher one first, so that they may meet further down
			la, lb := a.level, b.level
			if la >= lb {
				a.open()
			}
			if lb >= la {
				b.open()
			}
		case cmp <= 0 && !ea:
			a.open()
		case cmp >= 0 && !eb:
			b.open()
		default:
			var (
				va, vb []byte
				oa, ob bool
				key    = ka
			)
			if cmp <= 0 {
				va, oa = a.take(ka)
			}
			if cmp >= 0 {
				key = kb
				vb, ob = b.take(kb)
			}
			if oa != ob || !bytes.Equal(va, vb) {
				f(key, va, vb)
			}
		}
	}
}
