package betree

import (
	"errors"
	"fmt"
	"sync"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Errors.
var (
	ErrNotFound = errors.New("no such key")
	ErrBatch    = errors.New("batch refused") // ill formed or too large; nothing was looked at
)

// A Freer learns of blocks, nodes and data, that a tree no longer points at. Free is called once
// for each, after the new root is published, by the goroutine that called Upsert. The pointer of a
// node may lack its hash. Free must not upsert to the same tree.
type Freer interface {
	Free(bp blkfmt.Bptr) error
}

// A FreeError says that an upsert took effect, but that blocks it no longer needs could not be
// freed. They are lost until the disk is repaired.
type FreeError struct{ Err error }

func (e *FreeError) Error() string { return "free after upsert: " + e.Err.Error() }

// Unwrap returns what Freer.Free said.
func (e *FreeError) Unwrap() error { return e.Err }

// A Tree is one tree, and its present root.
//
//   - blk is nil until the root is first used. Then it is the block of the root, and ptr is stale.
//   - The tree has a reference on blk.
type Tree struct {
	st    Store
	freer Freer

	mu  sync.Mutex // leaf: nothing is called with it held
	ptr blkfmt.Bptr
	blk Block
	ht  int

	up update // scratch memory of Upsert; belongs to the holder of the mutation lock
}

// Open returns the tree with that root and height in levels. The root is read when it is first
// used.
func Open(st Store, f Freer, root blkfmt.Bptr, ht int) *Tree {
	return &Tree{st: st, freer: f, ptr: root, ht: ht}
}

// Create returns a new tree without keys: a leaf born in gen, which is queued to be written. Errors
// are those of Store.New. The caller has the mutation lock.
func Create(g *epoch.Guard, st Store, f Freer, gen blkfmt.Gen) (*Tree, error) {
	b, err := st.New(g, blkfmt.Leaf, gen)
	if err != nil {
		return nil, fmt.Errorf("create tree: %w", err)
	}
	kvfmt.Node(b.Bytes()).InitLeaf()
	st.Enqueue(b)
	return &Tree{st: st, freer: f, blk: b, ht: 1}, nil
}

// Root returns the pointer to the root, and the height. The root's hash is computed here if nobody
// needed it before. Safe for concurrent use.
func (t *Tree) Root() (blkfmt.Bptr, int) {
	t.mu.Lock()
	b, bp, ht := t.blk, t.ptr, t.ht
	if b == nil {
		t.mu.Unlock()
		return bp, ht
	}
	b.Hold()
	t.mu.Unlock()
	bp = b.Ptr()
	t.st.Drop(b)
	return bp, ht
}

// Height returns the number of levels; 1 is a root that is a leaf. Safe for concurrent use.
func (t *Tree) Height() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ht
}

// Clone returns a second tree that starts with the present root. From here each goes its own way;
// what both reach is for their Freers to know. The caller has the mutation lock.
func (t *Tree) Clone(f Freer) *Tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blk != nil {
		t.blk.Hold()
	}
	return &Tree{st: t.st, freer: f, ptr: t.ptr, blk: t.blk, ht: t.ht}
}

// Reset makes the tree the one with that root and height; nothing is freed. Readers that have begun
// finish on the old root. The caller has the mutation lock.
func (t *Tree) Reset(root blkfmt.Bptr, ht int) {
	t.mu.Lock()
	old := t.blk
	t.ptr, t.ht, t.blk = root, ht, nil
	t.mu.Unlock()
	if old != nil {
		t.st.Drop(old)
	}
}

// Close gives back the tree's reference on its root. The blocks stay as they are. The caller has
// the mutation lock, and nobody uses the tree afterwards; whoever is still reading it may finish.
func (t *Tree) Close() {
	t.mu.Lock()
	b := t.blk
	t.blk = nil
	t.mu.Unlock()
	if b != nil {
		t.st.Drop(b)
	}
}

// acquire returns the root with a reference for the caller, and the height.
func (t *Tree) acquire(g *epoch.Guard) (Block, int, error) {
	t.mu.Lock()
	b, bp, ht := t.blk, t.ptr, t.ht
	if b != nil {
		b.Hold()
		t.mu.Unlock()
		return b, ht, nil
	}
	t.mu.Unlock()
	if ht < 1 || ht > blkfmt.MaxHeight {
		return nil, 0, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Pivot, What: fmt.Sprintf("root of a tree of height %d", ht)}
	}
	b, err := t.get(g, bp, ht)
	if err != nil {
		return nil, 0, fmt.Errorf("root: %w", err)
	}
	t.mu.Lock()
	// Somebody else may have been faster, and may even have changed the root since. What we read
	// is the root as it was when we came.
	if t.blk == nil && t.ptr == bp {
		b.Hold()
		t.blk = b
	}
	t.mu.Unlock()
	return b, ht, nil
}

// publish makes b, at level ht, the root. It takes over the caller's reference.
func (t *Tree) publish(b Block, ht int) {
	t.mu.Lock()
	old := t.blk
	t.blk, t.ht = b, ht
	t.mu.Unlock()
	t.st.Drop(old)
}

// get reads the node at bp, which must fit the level.
func (t *Tree) get(g *epoch.Guard, bp blkfmt.Bptr, level int) (Block, error) {
	b, err := t.st.GetNode(g, bp)
	if err != nil {
		return nil, err
	}
	if kvfmt.Node(b.Bytes()).Leaf() == (level == 1) {
		return b, nil
	}
	t.st.Drop(b)
	if level == 1 {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Leaf, What: "a pivot stands where a leaf belongs"}
	}
	return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Pivot, What: fmt.Sprintf("a leaf stands at level %d", level)}
}

// corrupt says that the node b does not make sense, because of err.
func corrupt(b Block, err error) error {
	t := blkfmt.Pivot
	if kvfmt.Node(b.Bytes()).Leaf() {
		t = blkfmt.Leaf
	}
	return fmt.Errorf("%w: %w", &blkfmt.CorruptError{Addr: b.Where().Addr, Type: t, What: "content"}, err)
}
