package betree

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// BatchMax is the most that the Sizes of the messages of one upsert may add up to: what fits an
// empty buffer.
const BatchMax = blkfmt.BufSpc

// Upsert applies msgs, those for the same key in the order given. All of them become visible at
// once. Blocks made for it are born in gen. The keys and payloads are copied.
//
// The first message for a key without a value must be Insert, Clearb or Clobber. Upsert does not
// look; if it is not so, the error comes from here (kvfmt.ErrMissing) or, long after, from the
// upsert that brings the message to a leaf.
//
// On any error but *FreeError the tree is as it was, nothing was freed and all space given back.
// Errors: ErrBatch; *blkfmt.CorruptError; those of Store.GetNode and Store.New, a full disk above
// all; *FreeError, with which the upsert took effect.
//
// It holds all the blocks that it reads and makes until it is done: a dozen as a rule, two hundred
// when messages lie so that half of a pivot's leaves must be rewritten to make room.
//
// The caller has the mutation lock and is inside an epoch. Source: btupsert.
func (t *Tree) Upsert(g *epoch.Guard, gen blkfmt.Gen, msgs []kvfmt.Msg) error {
	return t.UpsertPublish(g, gen, msgs, func(swap func()) { swap() })
}

// UpsertPublish is Upsert for who keeps something else in step with the tree: when all is ready and
// nothing can fail any more, it calls publish, which must call swap once. That makes the upsert
// visible. After an error that says that the tree is as it was, publish was not called.
func (t *Tree) UpsertPublish(g *epoch.Guard, gen blkfmt.Gen, msgs []kvfmt.Msg, publish func(swap func())) error {
	size, err := checkBatch(msgs)
	if err != nil || len(msgs) == 0 {
		return err
	}
	root, ht, err := t.acquire(g)
	if err != nil {
		return fmt.Errorf("upsert: %w", err)
	}
	u := &t.up
	u.begin(t, g, gen)
	defer u.end()
	u.held = append(u.held, root)
	u.dead = append(u.dead, root.Where())
	var top Block
	if n := kvfmt.Node(root.Bytes()); !n.Leaf() && n.BufSize()+size-spared(n, msgs) <= blkfmt.BufSpc {
		top, err = u.buffer(n, msgs)
	} else {
		top, ht, err = u.flush(root, ht, msgs)
	}
	if err != nil {
		u.abort()
		return fmt.Errorf("upsert: %w", err)
	}
	publish(func() { t.publish(top, ht) })
	return u.commit()
}

// Settle moves messages down: of those in the root's buffer the ones for the child that has most, of
// those in that child again, and so on to a leaf. So blocks are freed that the tree held on to only
// because the message that frees them was still on its way. The contents stay the same. It returns
// false if the root has no messages. Errors, blocks and callers are as for Upsert.
func (t *Tree) Settle(g *epoch.Guard, gen blkfmt.Gen) (bool, error) {
	root, ht, err := t.acquire(g)
	if err != nil {
		return false, fmt.Errorf("settle: %w", err)
	}
	if n := kvfmt.Node(root.Bytes()); n.Leaf() || n.Nbuf() == 0 {
		t.st.Drop(root)
		return false, nil
	}
	u := &t.up
	u.begin(t, g, gen)
	u.down = true
	defer u.end()
	u.held = append(u.held, root)
	u.dead = append(u.dead, root.Where())
	top, ht, err := u.flush(root, ht, nil)
	if err != nil {
		u.abort()
		return false, fmt.Errorf("settle: %w", err)
	}
	t.publish(top, ht)
	return true, u.commit()
}

// checkBatch verifies the messages and returns the sum of their sizes.
func checkBatch(msgs []kvfmt.Msg) (size int, err error) {
	for _, m := range msgs {
		if err := checkMsg(m); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrBatch, err)
		}
		size += m.Size()
	}
	if size > BatchMax {
		return 0, fmt.Errorf("%w: %d messages of %d bytes, at most %d fit", ErrBatch, len(msgs), size, BatchMax)
	}
	return size, nil
}

// checkMsg refuses what must not get into a tree: beside ill-formed messages ill-formed keys, and
// values on which a later message, or the freeing of a data block, would fail.
func checkMsg(m kvfmt.Msg) error {
	if err := kvfmt.CheckMsg(m); err != nil {
		return err
	}
	if err := kvfmt.CheckKey(m.Key); err != nil {
		return err
	}
	if m.Op != kvfmt.Insert {
		return nil
	}
	var err error
	switch m.Key[0] {
	case kvfmt.Kdat:
		_, err = kvfmt.GetDatVal(m.Val)
	case kvfmt.Kent:
		_, err = kvfmt.GetDir(m.Val)
	case kvfmt.Ksnap:
		_, err = kvfmt.GetTree(m.Val)
	}
	return err
}

// An update is one upsert at work, and its memory, which is used again by the next.
//
// Nothing is written before everything has been read and computed, in memory, as protos. Only then
// are the blocks allocated, all of them, and only when that has worked is the first one queued.
type update struct {
	t   *Tree
	g   *epoch.Guard
	gen blkfmt.Gen
	ht  int // of the tree as it was

	down bool // each pivot met gives the messages for one child on, even if its buffer is not full

	held []Block       // nodes read: protos point into their bytes
	born []Block       // blocks allocated and not yet queued
	dead []blkfmt.Bptr // what the tree no longer points at, once the new root is published

	protos slab[proto]
	lists  slab[*proto]
	ents   slab[entry]
	msgs   slab[kvfmt.Msg]
	bytes  slab[byte]
	tmp    valbuf
}

func (u *update) begin(t *Tree, g *epoch.Guard, gen blkfmt.Gen) { u.t, u.g, u.gen = t, g, gen }

// end drops what was read and forgets the rest.
func (u *update) end() {
	for _, b := range u.held {
		u.t.st.Drop(b)
	}
	clear(u.held)
	u.held = u.held[:0]
	clear(u.born)
	u.born = u.born[:0]
	u.dead = u.dead[:0]
	u.protos.reset()
	u.lists.reset()
	u.ents.reset()
	u.msgs.reset()
	u.bytes.reset()
	u.t, u.g, u.down = nil, nil, false
}

// abort takes back what was allocated.
func (u *update) abort() {
	for _, b := range u.born {
		u.t.st.Discard(b)
	}
}

// commit frees what the new root does not reach. What cannot be freed does not keep the rest.
func (u *update) commit() error {
	var errs []error
	for _, bp := range u.dead {
		if err := u.t.freer.Free(bp); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", bp, err))
		}
	}
	if errs != nil {
		return &FreeError{errors.Join(errs...)}
	}
	return nil
}

// get reads a node and holds it until the end.
func (u *update) get(bp blkfmt.Bptr, level int) (Block, error) {
	b, err := u.t.get(u.g, bp, level)
	if err == nil {
		u.held = append(u.held, b)
	}
	return b, err
}

// buffer returns a copy of root with the messages in its buffer, which has room for them.
func (u *update) buffer(root kvfmt.Node, msgs []kvfmt.Msg) (Block, error) {
	b, err := u.t.st.New(u.g, blkfmt.Pivot, u.gen)
	if err != nil {
		return nil, err
	}
	n := kvfmt.Node(b.Bytes())
	copy(n, root)
	for _, m := range msgs {
		if !replaces(m) || !n.Supersede(m) {
			n.InsertMsg(m)
		}
	}
	u.t.st.Enqueue(b)
	return b, nil
}

// replaces reports whether m may take the place of an Insert for the same key that is still in the root's
// buffer. A directory's or a file's entry is what changes over and over; without this, a directory in
// which much is created, and a file written in small pieces, would fill the buffers with messages that
// flushes carry and lookups apply one by one. A data pointer may not: the block that the older one
// points at is freed by its coming to a leaf.
func replaces(m kvfmt.Msg) bool { return m.Op == kvfmt.Insert && m.Key[0] == kvfmt.Kent }

// spared returns how much less room than their sizes the messages need in root's buffer, as they take the
// place of others. More may be spared in the end, but not less: a message counts only if the batch has
// none for the same key before it, which could come between.
func spared(root kvfmt.Node, msgs []kvfmt.Msg) int {
	n := 0
	for i, m := range msgs {
		same := func(o kvfmt.Msg) bool { return bytes.Equal(o.Key, m.Key) }
		if replaces(m) && root.Supersedes(m) && !slices.ContainsFunc(msgs[:i], same) {
			n += m.Size()
		}
	}
	return n
}

// flush returns what root, at level ht, becomes when msgs reach it and its buffer is full, or it is
// a leaf; and the new height. The block comes with a reference.
func (u *update) flush(root Block, ht int, msgs []kvfmt.Msg) (Block, int, error) {
	u.ht = ht
	in := append(u.msgs.take(len(msgs)), msgs...)
	slices.SortStableFunc(in, func(a, b kvfmt.Msg) int { return kvfmt.Compare(a.Key, b.Key) })
	tops, err := u.push(u.decode(root, ht), in)
	if err != nil {
		return nil, 0, err
	}
	top, old, err := u.collapse(u.grow(tops, ht))
	if err != nil {
		return nil, 0, err
	}
	if top.level > blkfmt.MaxHeight {
		return nil, 0, fmt.Errorf("tree would become %d levels high", top.level)
	}
	if old != nil {
		old.Hold()
		return old, top.level, nil
	}
	if err := u.alloc(top); err != nil {
		return nil, 0, err
	}
	u.write(top)
	return top.blk, top.level, nil
}

// grow returns the one root over nodes that stand side by side at level.
func (u *update) grow(nodes []*proto, level int) *proto {
	if len(nodes) == 0 {
		return u.proto(1) // no key is left
	}
	for len(nodes) > 1 {
		level++
		p := u.proto(level)
		p.ents = u.entries(nodes)
		nodes = u.split(p)
	}
	return nodes[0]
}

// collapse takes away pivots at the top that have one child and no message for it. old is the block
// in which the result already stands, if it does.
func (u *update) collapse(top *proto) (_ *proto, old Block, err error) {
	for top.level > 1 && len(top.ents) == 1 && len(top.msgs) == 0 {
		if old != nil {
			u.dead = append(u.dead, old.Where())
			old = nil
		}
		e := top.ents[0]
		if e.sub != nil {
			top = e.sub
			continue
		}
		bp, _ := kvfmt.GetChild(e.val)
		if old, err = u.get(bp, top.level-1); err != nil {
			return nil, nil, err
		}
		top = u.decode(old, top.level-1)
	}
	return top, old, nil
}

// alloc gives p, and every proto below it, a block.
func (u *update) alloc(p *proto) error {
	for _, e := range p.ents {
		if e.sub != nil {
			if err := u.alloc(e.sub); err != nil {
				return err
			}
		}
	}
	typ := blkfmt.Pivot
	if p.level == 1 {
		typ = blkfmt.Leaf
	}
	b, err := u.t.st.New(u.g, typ, u.gen)
	if err != nil {
		return err
	}
	u.born = append(u.born, b)
	p.blk = b
	return nil
}

// write fills and queues the blocks of p and of all protos below it, children first: a parent needs
// their hashes. The caller gets the reference on p's.
func (u *update) write(p *proto) {
	n := kvfmt.Node(p.blk.Bytes())
	if p.level == 1 {
		n.InitLeaf()
		for _, e := range p.ents {
			n.AddVal(e.key, e.val)
		}
	} else {
		n.InitPivot()
		for _, e := range p.ents {
			if e.sub == nil {
				n.AddVal(e.key, e.val)
				continue
			}
			u.write(e.sub)
			b := e.sub.blk
			n.AddChild(e.key, b.Ptr(), kvfmt.Node(b.Bytes()).Fill())
			u.t.st.Drop(b)
		}
		for _, m := range p.msgs {
			n.InsertMsg(m)
		}
	}
	u.t.st.Enqueue(p.blk)
}
