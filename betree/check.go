package betree

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Check reads the whole tree and says what is wrong with it, nil if nothing is. It finds the first
// of these, beside what Store.GetNode verifies of each node by itself:
//
//   - a leaf that is not at level 1, or a pivot that is
//   - a key, of an entry or of a message, that is not between its node's key in the parent and the
//     key that follows there
//   - a recorded fill that is not the child's
//   - a child that is younger than its parent
//   - a node or data block pointed at twice
//   - a message for a key that has no value then, or that does not fit its value
//
// An error that does not wrap a *blkfmt.CorruptError is that of a read. Safe for concurrent use; the
// caller is inside an epoch. It is for tests and for fsck: it takes memory for each block.
func Check(g *epoch.Guard, t *Tree) error {
	c := checker{t: t, g: g, owner: make(map[blkfmt.Addr]blkfmt.Addr)}
	root, ht, err := t.acquire(g)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	err = c.node(root, ht, nil, nil)
	t.st.Drop(root)
	if err == nil {
		// Every message is applied by a scan of everything.
		err = t.ScanRange(g, nil, nil, func(key, val []byte) bool { return true })
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

type checker struct {
	t     *Tree
	g     *epoch.Guard
	owner map[blkfmt.Addr]blkfmt.Addr // block to the node that points at it
}

// own notes that b points at bp.
func (c *checker) own(b Block, bp blkfmt.Bptr) error {
	if first, ok := c.owner[bp.Addr]; ok {
		return corrupt(b, fmt.Errorf("it points at %v, and so does %v", bp, first))
	}
	c.owner[bp.Addr] = b.Where().Addr
	if gen := b.Where().Gen; gen != blkfmt.NoGen && bp.Gen > gen {
		return corrupt(b, fmt.Errorf("it was born in %d and points at %v, born later", gen, bp))
	}
	return nil
}

// node checks b and what is below it. All its keys must be from lo up to hi, which is not included;
// nil is no limit.
func (c *checker) node(b Block, level int, lo, hi []byte) error {
	n := kvfmt.Node(b.Bytes())
	within := func(what string, i int, k []byte) error {
		if kvfmt.Compare(k, lo) < 0 || hi != nil && kvfmt.Compare(k, hi) >= 0 {
			return corrupt(b, fmt.Errorf("%s %d has key %x, not from %x up to %x", what, i, k, lo, hi))
		}
		return nil
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		if err := within("message", i, m.Key); err != nil {
			return err
		}
		if m.Op == kvfmt.Insert {
			if err := c.data(b, m.Key, m.Val); err != nil {
				return err
			}
		}
	}
	for i := range n.Nval() {
		key, val := n.Val(i)
		if err := within("entry", i, key); err != nil {
			return err
		}
		if level == 1 {
			if err := c.data(b, key, val); err != nil {
				return err
			}
			continue
		}
		end := hi
		if i+1 < n.Nval() {
			end = n.Key(i + 1)
		}
		if err := c.child(b, i, level, end); err != nil {
			return err
		}
	}
	return nil
}

// data checks a pair of b that may point at a data block.
func (c *checker) data(b Block, key, val []byte) error {
	return visitData(b, key, val, func(_ []byte, bp blkfmt.Bptr) error { return c.own(b, bp) })
}

// child checks child i of b, whose keys end before hi.
func (c *checker) child(b Block, i, level int, hi []byte) error {
	n := kvfmt.Node(b.Bytes())
	bp, fill := n.Child(i)
	if err := c.own(b, bp); err != nil {
		return err
	}
	sub, err := c.t.get(c.g, bp, level-1)
	if err != nil {
		return fmt.Errorf("child %d of %v: %w", i, b.Where(), err)
	}
	defer c.t.st.Drop(sub)
	if got := kvfmt.Node(sub.Bytes()).Fill(); got != fill {
		return corrupt(b, fmt.Errorf("child %d is recorded to hold %d bytes, but holds %d", i, fill, got))
	}
	return c.node(sub, level-1, n.Key(i), hi)
}
