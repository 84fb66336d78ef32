package betree

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A Visit says what Walk does. Any of the functions may be nil.
type Visit struct {
	// Skip is asked before a node is read, with its level. If it returns true the node and all
	// that is below it are left out.
	Skip func(bp blkfmt.Bptr, level int) bool
	// Data is called for each pointer to a data block, with its key, in no particular order.
	Data func(key []byte, bp blkfmt.Bptr) error
	// Node is called for each node, after everything below it.
	Node func(bp blkfmt.Bptr, level int) error
}

// Walk visits every node of the tree, and every data block it points at: those in the values, and
// those in messages that insert one, also where a later message replaces or clears it, since only
// the flush to the leaf frees them. No block is visited twice.
//
// It ends with the first error: one from the visitor as it is, *blkfmt.CorruptError, those of
// Store.GetNode. It holds one block for each level. Safe for concurrent use; the caller is inside
// an epoch. A visitor may leave it and enter it again if nobody frees what the tree reaches but the
// visitor itself.
func (t *Tree) Walk(g *epoch.Guard, v Visit) error {
	root, ht, err := t.acquire(g)
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	if v.Skip != nil && v.Skip(root.Where(), ht) {
		t.st.Drop(root)
		return nil
	}
	return t.walk(g, root, ht, v)
}

// walk visits b and what is below it, and drops it.
func (t *Tree) walk(g *epoch.Guard, b Block, level int, v Visit) error {
	defer t.st.Drop(b)
	n := kvfmt.Node(b.Bytes())
	for i := range n.Nval() {
		if level == 1 {
			key, val := n.Val(i)
			if err := visitData(b, key, val, v.Data); err != nil {
				return err
			}
			continue
		}
		bp, _ := n.Child(i)
		if v.Skip != nil && v.Skip(bp, level-1) {
			continue
		}
		c, err := t.get(g, bp, level-1)
		if err != nil {
			return fmt.Errorf("walk: %w", err)
		}
		if err := t.walk(g, c, level-1, v); err != nil {
			return err
		}
	}
	for i := range n.Nbuf() {
		if m := n.Msg(i); m.Op == kvfmt.Insert {
			if err := visitData(b, m.Key, m.Val, v.Data); err != nil {
				return err
			}
		}
	}
	if v.Node == nil {
		return nil
	}
	return v.Node(b.Where(), level)
}

// visitData calls visit if the pair, found in b, points at a data block.
func visitData(b Block, key, val []byte, visit func([]byte, blkfmt.Bptr) error) error {
	if visit == nil || key[0] != kvfmt.Kdat {
		return nil
	}
	bp, err := kvfmt.GetDatVal(val)
	if err != nil {
		return fmt.Errorf("walk: key %x: %w", key, corrupt(b, err))
	}
	return visit(key, bp)
}
