package betree

import (
	"bytes"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Lookup returns the value of key, appended to dst[:0]; dst may share storage with key. Errors:
// ErrNotFound, *blkfmt.CorruptError, those of Store.GetNode. Safe for concurrent use; the caller is
// inside an epoch.
func (t *Tree) Lookup(g *epoch.Guard, key, dst []byte) ([]byte, error) {
	root, ht, err := t.acquire(g)
	if err != nil {
		return nil, fmt.Errorf("lookup: %w", err)
	}
	return t.lookup(g, root, ht, key, dst)
}

// lookup is Lookup below root, whose reference it takes over.
func (t *Tree) lookup(g *epoch.Guard, root Block, ht int, key, dst []byte) ([]byte, error) {
	var p path
	p.push(root)
	val, ok, err := p.lookup(t, g, ht, key)
	if err == nil && ok {
		dst = append(dst[:0], val...)
	}
	for _, s := range p.step[:p.n] {
		t.st.Drop(s.b)
	}
	switch {
	case err != nil:
		// A copy, so that no caller's key has to be on the heap for the sake of this line.
		return nil, fmt.Errorf("lookup of key %x: %w", bytes.Clone(key), err)
	case !ok:
		return nil, ErrNotFound
	}
	return dst, nil
}

// A path is the nodes from the root down to where the value of a key may be, and the range of
// messages for that key in each. It holds a reference on each node.
type path struct {
	n    int
	step [blkfmt.MaxHeight]struct {
		b      Block
		lo, hi int
	}
	val valbuf
}

func (p *path) push(b Block) {
	p.step[p.n].b = b
	p.n++
}

// lookup goes down from the root, which is the whole path so far. The value it returns, if there
// is one, is good for as long as the path is.
func (p *path) lookup(t *Tree, g *epoch.Guard, ht int, key []byte) (val []byte, ok bool, err error) {
	for level := ht; ; level-- {
		s := &p.step[p.n-1]
		n := kvfmt.Node(s.b.Bytes())
		if level == 1 {
			var i int
			if i, ok = n.Search(key); ok {
				_, val = n.Val(i)
			}
			break
		}
		s.lo = n.BufSearch(key)
		s.hi = s.lo
		whole := -1 // the last message that says all there is to say about the value before it
		for nbuf := n.Nbuf(); s.hi < nbuf; s.hi++ {
			m := n.Msg(s.hi)
			if !bytes.Equal(m.Key, key) {
				break
			}
			if m.Op == kvfmt.Insert || m.Op.Clears() {
				whole = s.hi
			}
		}
		if whole >= 0 {
			s.lo = whole
			break
		}
		i, _ := n.Search(key)
		if i < 0 {
			break // below the first key of the first child
		}
		bp, _ := n.Child(i)
		b, err := t.get(g, bp, level-1)
		if err != nil {
			return nil, false, err
		}
		p.push(b)
	}
	for i := p.n - 1; i >= 0; i-- {
		s := &p.step[i]
		for j := s.lo; j < s.hi; j++ {
			val, ok, err = p.val.apply(kvfmt.Node(s.b.Bytes()).Msg(j), val, ok)
			if err != nil {
				return nil, false, corrupt(s.b, err)
			}
		}
	}
	return val, ok, nil
}

// A valbuf is where messages that change a value leave the result: in turns, as the value they
// change must not be overwritten, and may be in the other one.
type valbuf struct {
	buf  [2][kvfmt.TreeSize]byte
	turn int
}

// apply is kvfmt.Apply. The result is good until the next call but one.
func (v *valbuf) apply(m kvfmt.Msg, cur []byte, ok bool) ([]byte, bool, error) {
	v.turn ^= 1
	return kvfmt.Apply(v.buf[v.turn][:0], m, cur, ok)
}
