package snap

import (
	"bytes"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A stump is what is left of a node whose lowest keys were cut off: its other children, the first of
// which may be a stump itself, and the messages for them. The bytes are the stump's own.
type stump struct {
	level int
	sub   *stump // the first child; kids then starts with the second
	kids  []kid
	msgs  []kvfmt.Msg
}

type kid struct {
	key  []byte
	bp   blkfmt.Bptr
	fill int
}

// first returns the lowest key.
func (s *stump) first() []byte {
	if s.sub != nil {
		return s.sub.first()
	}
	return s.kids[0].key
}

// A trimmer cuts a tree from the left until it has found enough blocks that only this tree has.
type trimmer struct {
	f     *Forest
	g     *epoch.Guard
	pred  blkfmt.Gen
	nodes int           // that may still be read
	dead  []blkfmt.Bptr // what the stump does not reach any more, and nobody else has
}

func (t *trimmer) full() bool { return t.nodes <= 0 || len(t.dead) >= t.f.piece.blocks }

// cut returns what is left of the node at bp, which is younger than pred; nil if that is nothing. It
// cuts at least the way down to one leaf.
func (t *trimmer) cut(bp blkfmt.Bptr, level int) (*stump, error) {
	b, err := t.f.st.GetNode(t.g, bp)
	if err != nil {
		return nil, err
	}
	defer t.f.st.Drop(b)
	n := b.Node()
	if n.Leaf() != (level == 1) {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Pivot, What: "it is not at the level where it stands"}
	}
	t.nodes--
	t.dead = append(t.dead, b.Where())
	if level == 1 {
		for i := range n.Nval() {
			if err := t.datum(n.Val(i)); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	left := &stump{level: level}
	i := 0
	for cut := false; i < n.Nval() && left.sub == nil && !(cut && t.full()); i++ {
		child, _ := n.Child(i)
		if !t.f.younger(child, t.pred) {
			continue // another's, with all that is below
		}
		if left.sub, err = t.cut(child, level-1); err != nil {
			return nil, err
		}
		cut = true
	}
	for ; i < n.Nval(); i++ {
		key, _ := n.Val(i)
		child, fill := n.Child(i)
		left.kids = append(left.kids, kid{bytes.Clone(key), child, fill})
	}
	gone := left.sub == nil && len(left.kids) == 0
	for i := range n.Nbuf() {
		m := n.Msg(i)
		if !gone && kvfmt.Compare(m.Key, left.first()) >= 0 {
			m.Key, m.Val = bytes.Clone(m.Key), bytes.Clone(m.Val)
			left.msgs = append(left.msgs, m)
		} else if m.Op == kvfmt.Insert {
			if err := t.datum(m.Key, m.Val); err != nil {
				return nil, err
			}
		}
	}
	if gone {
		return nil, nil
	}
	return left, nil
}

// datum enters the data block that a value points at, if it does and nobody else has it.
func (t *trimmer) datum(key, val []byte) error {
	if key[0] != kvfmt.Kdat {
		return nil
	}
	bp, err := kvfmt.GetDatVal(val)
	if err == nil && t.f.younger(bp, t.pred) {
		t.dead = append(t.dead, bp)
	}
	return err
}

// plant gives the stump blocks, born in gen, and returns the pointer to the topmost. After an error,
// as when the disk is full, nothing has changed.
func (s *stump) plant(g *epoch.Guard, st *blkstore.Store, gen blkfmt.Gen) (blkfmt.Bptr, error) {
	var blks []*blkstore.Blk // from the top
	for x := s; x != nil; x = x.sub {
		b, err := st.New(g, blkfmt.Pivot, gen)
		if err != nil {
			for _, b := range blks {
				st.Discard(b)
			}
			return blkfmt.NoPtr, err
		}
		blks = append(blks, b)
	}
	top := s.write(st, blks)
	for _, b := range blks {
		st.Drop(b)
	}
	return top, nil
}

// write fills the blocks, those of the lower levels first, and queues them.
func (s *stump) write(st *blkstore.Store, blks []*blkstore.Blk) blkfmt.Bptr {
	n := blks[0].Node()
	n.InitPivot()
	if s.sub != nil {
		bp := s.sub.write(st, blks[1:])
		n.AddChild(s.sub.first(), bp, blks[1].Node().Fill())
	}
	for _, k := range s.kids {
		n.AddChild(k.key, k.bp, k.fill)
	}
	for _, m := range s.msgs {
		n.InsertMsg(m)
	}
	st.Enqueue(blks[0])
	return blks[0].Ptr()
}
