package snap

import (
	"fmt"
	"sync/atomic"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A Tree is a label somebody has open: the file-system tree that it names. All who open a label
// share its Tree.
//
// Its reading methods (Lookup, Scan) are those of betree.Tree; the caller is inside an epoch.
type Tree struct {
	*betree.Tree
	forest  *Forest
	name    string
	mutable bool
	refs    int // guarded by forest.mu

	snap  *snapshot    // the one the label names; guarded by the mutation lock
	guard *epoch.Guard // of the upsert that runs, for Free
	vers  atomic.Uint64
}

// Open opens the label. The Tree must be closed. Errors wrap ErrNoLabel. The caller has the
// mutation lock.
func (f *Forest) Open(name string) (*Tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.open[name]; t != nil {
		t.refs++
		return t, nil
	}
	l := f.labels[name]
	if l == nil {
		return nil, fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
	}
	s := f.snaps[l.val.Gen]
	t := &Tree{forest: f, name: name, mutable: l.val.Flags&kvfmt.LabelMutable != 0, refs: 1, snap: s}
	t.Tree = betree.Open(f.nodes, t, s.rec.Root, int(s.rec.Ht))
	f.open[name] = t
	return t, nil
}

// Close ends one Open. The caller has the mutation lock.
func (t *Tree) Close() {
	f := t.forest
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.refs--; t.refs > 0 {
		return
	}
	t.settle()
	delete(f.open, t.name)
	t.Tree.Close()
}

// Name returns the label. Mutable reports whether the tree may be written.
func (t *Tree) Name() string { return t.name }

// Mutable reports whether the tree may be written.
func (t *Tree) Mutable() bool { return t.mutable }

// Version changes with every upsert. Safe for concurrent use.
func (t *Tree) Version() uint64 { return t.vers.Load() }

// settle brings the snapshot's record up to date with the tree.
func (t *Tree) settle() {
	if !t.mutable {
		return
	}
	root, ht := t.Tree.Root()
	if rec := &t.snap.rec; rec.Root.Addr != root.Addr || rec.Root.Hash != root.Hash || int(rec.Ht) != ht {
		rec.Root, rec.Ht = root, int32(ht)
		t.forest.mark(t.snap)
		t.forest.changed = true
	}
}

// Prepare makes the tree ready to be changed and returns the generation with which new blocks are
// to be born: if the snapshot it writes to has become somebody else's too, it moves on to a new
// one. Upsert does it by itself; who makes data blocks for it calls Prepare first. The caller has
// the mutation lock.
func (t *Tree) Prepare() blkfmt.Gen {
	o := t.snap
	if !o.shared() {
		return o.rec.Gen
	}
	f := t.forest
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.advance(t.name).rec.Gen
}

// advance moves a mutable label on to a new snapshot, derived from the one it names, and returns
// that. f.mu is held.
func (f *Forest) advance(name string) *snapshot {
	l, t := f.labels[name], f.open[name]
	if t != nil {
		t.settle()
	}
	o := f.snaps[l.val.Gen]
	n := f.child(o, o.rec.Base)
	o.rec.Nlbl--
	f.judge(o)
	f.markLabel(name)
	l.val.Gen = n.rec.Gen
	if t != nil {
		t.snap = n
	}
	return n
}

// child enters a new snapshot with one label and the content of o, derived from it. f.mu is held.
func (f *Forest) child(o *snapshot, base blkfmt.Gen) *snapshot {
	n := &snapshot{
		rec: kvfmt.Tree{
			Nlbl: 1, Ht: o.rec.Ht, Gen: f.newGen(),
			Pred: o.rec.Gen, Succ: blkfmt.NoGen, Base: base, Root: o.rec.Root,
		},
		lists: make(map[blkfmt.Gen]*deadlist),
	}
	o.adopt(n)
	o.rec.Succ = n.rec.Gen
	f.snaps[n.rec.Gen] = n
	f.mark(o)
	f.mark(n)
	f.changed = true
	return n
}

// Upsert applies the messages, all or none. The tree must be mutable. The caller has the mutation
// lock and is inside an epoch. See betree.Tree.Upsert.
func (t *Tree) Upsert(g *epoch.Guard, msgs []kvfmt.Msg) error {
	return t.UpsertPublish(g, msgs, func(swap func()) { swap() })
}

// UpsertPublish is Upsert for who keeps something else in step with the tree. See
// betree.Tree.UpsertPublish.
func (t *Tree) UpsertPublish(g *epoch.Guard, msgs []kvfmt.Msg, publish func(swap func())) error {
	if !t.mutable {
		return fmt.Errorf("snapshot %s does not change", t.name)
	}
	gen := t.Prepare()
	// Free will need them, when it is too late to fail.
	if _, err := t.forest.listsOf(g, t.snap); err != nil {
		return err
	}
	t.guard = g
	err := t.Tree.UpsertPublish(g, gen, msgs, publish)
	t.guard = nil
	t.vers.Add(1)
	t.forest.touch()
	return err
}

// Settle moves messages down the tree, so that what they free is freed; see betree.Tree.Settle. It does
// nothing if somebody else has the snapshot too: then it would only take space. The caller has the
// mutation lock and is inside an epoch.
func (t *Tree) Settle(g *epoch.Guard) (bool, error) {
	if !t.mutable || t.snap.shared() {
		return false, nil
	}
	t.guard = g
	moved, err := t.Tree.Settle(g, t.snap.rec.Gen)
	t.guard = nil
	if moved {
		t.forest.touch()
	}
	return moved, err
}

// touch notes that there is something to commit.
func (f *Forest) touch() {
	f.mu.Lock()
	f.changed = true
	f.mu.Unlock()
}

// Free judges a block that the tree no longer points at. It is betree's Freer, called by Upsert
// and by nobody else.
func (t *Tree) Free(bp blkfmt.Bptr) error {
	rec := &t.snap.rec
	switch {
	case t.forest.younger(bp, rec.Pred):
		return t.forest.st.Free(bp)
	case rec.Pred == 0:
		return nil // empty never goes, so nobody needs to know what of it we have dropped
	}
	return t.forest.kill(t.guard, t.snap, bp)
}

// younger reports whether bp, which a snapshot derived from pred has or had, is surely not pred's: it
// was born after pred. Ream dates the blocks of adm as if they were those of the snapshot empty, 0, who
// has only its root.
func (f *Forest) younger(bp blkfmt.Bptr, pred blkfmt.Gen) bool {
	if bp.Gen > pred || pred != 0 {
		return bp.Gen > pred
	}
	e := f.first
	return e != nil && e.rec.Ht == 1 && e.rec.Root.Addr != bp.Addr
}
