package snap

import (
	"fmt"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A Held is the tree of a snapshot as it was when Hold was called, for who reads it for long without the
// mutation lock: whoever wants to write to it moves on to another, and nothing of it is given back before
// Release. Its reading methods are those of betree.Tree; the caller is inside an epoch, but may leave it
// between two calls.
type Held struct {
	*betree.Tree
	Name string
	Rec  kvfmt.Tree // the snapshot's record; Root has its hash
	f    *Forest
	s    *snapshot
}

// Hold pins what the label names. Errors wrap ErrNoLabel. The caller has the mutation lock.
func (f *Forest) Hold(name string) (*Held, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.labels[name]
	if l == nil {
		return nil, fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
	}
	s := f.snaps[l.val.Gen]
	for _, t := range f.open {
		if t.snap == s {
			t.settle()
		}
	}
	s.pins++
	h := &Held{Name: name, Rec: s.rec, f: f, s: s}
	h.Tree = betree.Open(f.nodes, ownFreer{f.st}, s.rec.Root, int(s.rec.Ht))
	return h, nil
}

// Release ends Hold. The caller has the mutation lock, and nobody uses h any more.
func (h *Held) Release() {
	h.s.pins--
	h.Tree.Close()
}

// Differ returns spans outside of which a and b hold the same keys with the same values: those that stand
// in a node which only one of them has, be it as a value or as a message. Nodes that both have are not
// read, nor is what is below them. The list is as long as such nodes and the messages in them are many.
//
// It need not be that one was derived from the other. pause is called for each node that is read. The
// caller is inside an epoch, which pause may leave for another.
func (f *Forest) Differ(g *epoch.Guard, a, b *Held, pause func() error) (Spans, error) {
	var found []Span
	// The nodes of one level, from the top down, that may be only a's or only b's. The same node stands at the same
	// level in every tree, and has there one parent: if both have it, and not both have its parent, both
	// lists have it.
	var level [2][]blkfmt.Bptr
	top := max(a.Rec.Ht, b.Rec.Ht)
	for ht := int(top); ht >= 1; ht-- {
		for i, t := range [2]*Held{a, b} {
			if int(t.Rec.Ht) == ht {
				level[i] = []blkfmt.Bptr{t.Rec.Root}
			}
		}
		level[0], level[1] = apart(level[0], level[1])
		for i := range level {
			var below []blkfmt.Bptr
			for _, bp := range level[i] {
				kids, err := f.read(g, bp, ht, &found)
				if err != nil {
					return nil, err
				}
				below = append(below, kids...)
				if err := pause(); err != nil {
					return nil, err
				}
			}
			level[i] = below
		}
	}
	return union(found), nil
}

// apart takes out of both lists what both have.
func apart(a, b []blkfmt.Bptr) (onlyA, onlyB []blkfmt.Bptr) {
	without := func(a, b []blkfmt.Bptr) (out []blkfmt.Bptr) {
		has := make(map[blkfmt.Addr]bool, len(b))
		for _, bp := range b {
			has[bp.Addr] = true
		}
		for _, bp := range a {
			if !has[bp.Addr] {
				out = append(out, bp)
			}
		}
		return out
	}
	return without(a, b), without(b, a)
}

// read enters the keys in the node at bp into found, and returns its children.
func (f *Forest) read(g *epoch.Guard, bp blkfmt.Bptr, level int, found *[]Span) (kids []blkfmt.Bptr, err error) {
	b, err := f.st.GetNode(g, bp)
	if err != nil {
		return nil, err
	}
	defer f.st.Drop(b)
	n := b.Node()
	if n.Leaf() != (level == 1) {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Pivot, What: "it is not at the level where it stands"}
	}
	clone := func(key []byte) []byte { return append(make([]byte, 0, len(key)+1), key...) }
	if level == 1 {
		if n.Nval() > 0 {
			*found = append(*found, Span{clone(n.Key(0)), behind(clone(n.Key(n.Nval() - 1)))})
		}
		return nil, nil
	}
	for i := range n.Nval() {
		child, _ := n.Child(i)
		kids = append(kids, child)
	}
	for i := range n.Nbuf() {
		key := clone(n.MsgKey(i))
		*found = append(*found, Span{key, behind(key)})
	}
	return kids, nil
}
