package betree

import (
	"bytes"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Scan calls fn for each pair whose key starts with prefix and is above after, in the order of
// keys, until fn returns false. A nil after is below every key. key and val are good only until fn
// returns.
//
// All pairs are of one moment: the tree's when Scan was called. To go on later, with what the tree
// is then, pass the last key. Errors: *blkfmt.CorruptError, those of Store.GetNode. Safe for
// concurrent use; the caller is inside an epoch, and stays there.
func (t *Tree) Scan(g *epoch.Guard, prefix, after []byte, fn func(key, val []byte) (more bool)) error {
	c := cursor{t: t, g: g, prefix: prefix}
	start, skip := prefix, false
	if after != nil && kvfmt.Compare(after, prefix) >= 0 {
		start, skip = after, true
	}
	root, ht, err := t.acquire(g)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return c.scan(root, ht, start, skip, fn)
}

// ScanRange is Scan for the keys from from up to to, which is not included. A nil to is above every
// key.
func (t *Tree) ScanRange(g *epoch.Guard, from, to []byte, fn func(key, val []byte) (more bool)) error {
	c := cursor{t: t, g: g, to: to}
	root, ht, err := t.acquire(g)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return c.scan(root, ht, from, false, fn)
}

// A cursor is a position between the pairs of a tree: a path from the root down, and on each level
// the next child or entry, and the next message. Everything before it has been returned.
type cursor struct {
	t      *Tree
	g      *epoch.Guard
	prefix []byte // the keys wanted, and
	to     []byte // where they end, unless it is nil

	ht    int
	depth int // nodes on the path; ht when it reaches a leaf
	step  [blkfmt.MaxHeight]step
	val   valbuf
}

// A step is one node of a cursor's path. In a pivot that is not the last of the path, vi is the
// child that comes next on the path.
type step struct {
	b        Block
	n        kvfmt.Node
	vi, nval int
	bi, nbuf int
	msgKey   []byte // of message bi; nil if there is none
}

// toMsg makes i the next message of the step.
func (s *step) toMsg(i int) {
	s.bi, s.msgKey = i, nil
	if i < s.nbuf {
		s.msgKey = s.n.MsgKey(i)
	}
}

// scan calls fn for the pairs from start on; if skip, for those after it. It takes over the reference
// on the root.
func (c *cursor) scan(root Block, ht int, start []byte, skip bool, fn func(key, val []byte) bool) error {
	defer c.close()
	c.ht = ht
	c.push(root)
	if err := c.seek(start, skip); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	for {
		key, val, ok, err := c.next()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if !ok || !fn(key, val) {
			return nil
		}
	}
}

func (c *cursor) close() {
	for c.depth > 0 {
		c.pop()
	}
}

func (c *cursor) push(b Block) {
	n := kvfmt.Node(b.Bytes())
	s := &c.step[c.depth]
	*s = step{b: b, n: n, nval: n.Nval(), nbuf: n.Nbuf()}
	s.toMsg(0)
	c.depth++
}

func (c *cursor) pop() {
	c.depth--
	c.t.st.Drop(c.step[c.depth].b)
	c.step[c.depth] = step{}
}

// descend adds to the path the next child of its last node.
func (c *cursor) descend() error {
	s := &c.step[c.depth-1]
	bp, _ := s.n.Child(s.vi)
	b, err := c.t.get(c.g, bp, c.ht-c.depth)
	if err != nil {
		return err
	}
	c.push(b)
	return nil
}

// seek moves from the root to the first place not before start, or, if skip, after it.
func (c *cursor) seek(start []byte, skip bool) error {
	for {
		s := &c.step[c.depth-1]
		i, exact := s.n.Search(start)
		if c.depth == c.ht {
			if !exact || skip {
				i++
			}
			s.vi = i
			return nil
		}
		s.toMsg(s.n.BufSearch(start))
		for skip && s.msgKey != nil && bytes.Equal(s.msgKey, start) {
			s.toMsg(s.bi + 1)
		}
		if i < 0 {
			return nil // all that is below comes after start
		}
		s.vi = i
		if err := c.descend(); err != nil {
			return err
		}
	}
}

// next returns the next pair wanted, and moves behind it. ok is false when there is none.
func (c *cursor) next() (key, val []byte, ok bool, err error) {
	for {
		if err := c.settle(); err != nil || c.depth == 0 {
			return nil, nil, false, err
		}
		key, leaf := c.least()
		if c.past(key) {
			return nil, nil, false, nil
		}
		val, ok, err := c.take(key, leaf)
		if err != nil || ok {
			return key, val, ok, err
		}
	}
}

// past reports whether key, which is not before the start, and all after it are behind the keys
// wanted.
func (c *cursor) past(key []byte) bool {
	return c.to != nil && kvfmt.Compare(key, c.to) >= 0 || !bytes.HasPrefix(key, c.prefix)
}

// settle brings the path to the next leaf that has an entry left, or to a pivot that has only
// messages left. The path is empty when nothing is left at all.
func (c *cursor) settle() error {
	for c.depth > 0 {
		s := &c.step[c.depth-1]
		pivot := c.depth < c.ht
		// No key in a child is below the child's own: do not read it for nothing.
		if pivot && s.vi < s.nval && c.past(s.n.Key(s.vi)) {
			s.vi = s.nval
		}
		switch {
		case pivot && s.vi < s.nval:
			if err := c.descend(); err != nil {
				return err
			}
		case s.vi < s.nval || s.bi < s.nbuf:
			return nil
		default:
			c.pop()
			if c.depth > 0 {
				c.step[c.depth-1].vi++
			}
		}
	}
	return nil
}

// least returns the smallest key that is next on any level, and whether the leaf has it. There is
// one, after settle.
func (c *cursor) least() (least []byte, leaf bool) {
	if c.depth == c.ht {
		s := &c.step[c.depth-1]
		least, leaf = s.n.Key(s.vi), true
	}
	for i := range min(c.depth, c.ht-1) {
		if k := c.step[i].msgKey; k != nil && (least == nil || kvfmt.Compare(k, least) < 0) {
			least, leaf = k, false
		}
	}
	return least, leaf
}

// take moves every level behind key, the least, and returns the value that all of them make together.
// leaf says that the leaf has the key.
func (c *cursor) take(key []byte, leaf bool) (val []byte, ok bool, err error) {
	if leaf {
		s := &c.step[c.depth-1]
		_, val = s.n.Val(s.vi)
		ok = true
		s.vi++
	}
	for i := min(c.depth, c.ht-1) - 1; i >= 0; i-- {
		s := &c.step[i]
		for s.msgKey != nil && bytes.Equal(s.msgKey, key) {
			if val, ok, err = c.val.apply(s.n.Msg(s.bi), val, ok); err != nil {
				return nil, false, corrupt(s.b, err)
			}
			s.toMsg(s.bi + 1)
		}
	}
	return val, ok, nil
}
