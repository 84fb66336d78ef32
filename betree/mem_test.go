package betree

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")

// newRand returns the source of a random test and logs its seed, which -seed takes back.
func newRand(t testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

var errInjected = errors.New("injected failure")

// A memStore is a Store and a Freer that keeps books. Each GetNode gives out a copy of its own,
// which is overwritten when its last reference goes, so that whoever looks at it then sees rubbish.
//
//   - live holds the nodes and data blocks in use: those queued, or given out by data, and not
//     freed since. A freed block can be read no more, unless keep is set.
//   - out counts the references given out and not yet dropped, raw the blocks allocated and neither
//     queued nor discarded.
type memStore struct {
	t    testing.TB
	fast bool        // share the bytes instead of copying them, and check nothing
	keep bool        // dead blocks can still be read, as inside an epoch
	lax  bool        // a node may not be what its pointer promises
	base io.ReaderAt // a disk, for the nodes that are not here

	mu      sync.Mutex
	next    blkfmt.Addr
	nodes   map[blkfmt.Addr]*memNode
	live    map[blkfmt.Addr]bool
	foreign map[blkfmt.Addr]bool // nodes that came by put
	spare   [][]byte
	out     int
	raw     int
	failIn  int // calls of GetNode and New until one fails; 0 is never
	gets    int
	writes  int
	frees   int
	held    int // most references out at a time
}

// A memNode is a node as it is on disk.
type memNode struct {
	bp     blkfmt.Bptr // its hash is good once hashed
	hashed bool
	data   []byte
}

// rubbish is what the bytes of a block become when nobody holds it any more.
var rubbish = bytes.Repeat([]byte{0xdb}, blkfmt.BlkSize)

// A memBlk is a node in memory.
type memBlk struct {
	s     *memStore
	typ   blkfmt.Type
	buf   []byte
	where blkfmt.Bptr
	node  *memNode // once queued
	refs  int
}

func newStore(t testing.TB) *memStore {
	return &memStore{t: t, fast: raced, next: blkfmt.BlkSize,
		nodes: make(map[blkfmt.Addr]*memNode), live: make(map[blkfmt.Addr]bool), foreign: make(map[blkfmt.Addr]bool)}
}

// rule panics with a broken rule rather than go on with books that are wrong.
func (s *memStore) rule(ok bool, format string, arg ...any) {
	if !ok {
		panic(fmt.Sprintf(format, arg...))
	}
}

func (b *memBlk) Bytes() []byte {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.rule(b.refs > 0, "bytes of %v without a reference", b.where)
	return b.buf
}

func (b *memBlk) Where() blkfmt.Bptr { return b.where }

func (b *memBlk) Ptr() blkfmt.Bptr {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.rule(b.refs > 0 && b.node != nil, "pointer to %v, which may still change or is gone", b.where)
	return b.node.ptr()
}

// ptr returns the pointer to n, with its hash.
func (n *memNode) ptr() blkfmt.Bptr {
	if !n.hashed {
		n.bp.Hash, n.hashed = blkfmt.Metro{}.Sum(n.data), true
	}
	return n.bp
}

func (b *memBlk) Hold() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.rule(b.refs > 0, "hold of %v without a reference", b.where)
	b.refs++
	b.s.took()
}

func (s *memStore) took() {
	s.out++
	s.held = max(s.held, s.out)
}

func (s *memStore) fails() bool {
	if s.failIn > 0 {
		s.failIn--
		return s.failIn == 0
	}
	return false
}

func (s *memStore) buffer() []byte {
	if n := len(s.spare); n > 0 {
		p := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return p
	}
	return make([]byte, blkfmt.BlkSize)
}

func (s *memStore) GetNode(g *epoch.Guard, bp blkfmt.Bptr) (Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails() {
		return nil, fmt.Errorf("read %v: %w", bp, errInjected)
	}
	s.gets++
	n := s.nodes[bp.Addr]
	if n == nil && s.base != nil {
		var err error
		if n, err = s.load(bp); err != nil {
			return nil, err
		}
	}
	if n == nil {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Leaf, What: "no node is there"}
	}
	if bp != n.ptr() && !s.lax {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Leaf, Want: bp.Hash, Got: n.bp.Hash}
	}
	b := &memBlk{s: s, where: n.bp, node: n, buf: n.data, refs: 1}
	if !s.fast {
		b.buf = s.buffer()
		copy(b.buf, n.data)
	}
	s.took()
	return b, nil
}

func (s *memStore) New(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen) (Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails() {
		return nil, fmt.Errorf("allocate: %w", errInjected)
	}
	b := &memBlk{s: s, typ: t, buf: s.buffer(), where: blkfmt.Bptr{Addr: s.next, Hash: blkfmt.NoHash, Gen: gen}, refs: 1}
	clear(b.buf)
	s.next += blkfmt.BlkSize
	s.raw++
	s.took()
	return b, nil
}

func (s *memStore) Enqueue(blk Block) {
	b := blk.(*memBlk)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule(b.refs > 0 && b.node == nil, "enqueue of %v, which is queued or gone", b.where)
	data := b.buf
	if !s.fast {
		err := kvfmt.CheckNode(b.buf)
		s.rule(err == nil, "enqueue of %v: %v", b.where, err)
		s.rule(kvfmt.Node(b.buf).Leaf() == (b.typ == blkfmt.Leaf), "enqueue of %v, allocated as a %v", b.where, b.typ)
		data = append([]byte(nil), b.buf...)
	}
	b.node = &memNode{bp: b.where, data: data}
	s.nodes[b.where.Addr] = b.node
	s.live[b.where.Addr] = true
	s.raw--
	s.writes++
}

func (s *memStore) Discard(blk Block) {
	b := blk.(*memBlk)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule(b.refs == 1 && b.node == nil, "discard of %v, which is queued or shared", b.where)
	s.raw--
	s.drop(b)
}

func (s *memStore) Drop(blk Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := blk.(*memBlk)
	s.rule(b.node != nil, "drop of %v, which was never queued", b.where)
	s.drop(b)
}

func (s *memStore) drop(b *memBlk) {
	s.rule(b.refs > 0, "%v dropped more often than held", b.where)
	b.refs--
	s.out--
	if b.refs > 0 {
		return
	}
	if !s.fast {
		copy(b.buf, rubbish)
		s.spare = append(s.spare, b.buf)
		b.buf = nil
	}
}

// Free makes memStore a Freer.
func (s *memStore) Free(bp blkfmt.Bptr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frees++
	if !s.live[bp.Addr] {
		s.t.Errorf("free of %v, which is not in use", bp)
	}
	if n := s.nodes[bp.Addr]; n != nil && n.bp.Gen != bp.Gen {
		s.t.Errorf("free of %v, born in %d", bp, n.bp.Gen)
	}
	delete(s.live, bp.Addr)
	if !s.keep {
		delete(s.nodes, bp.Addr)
	}
	return nil
}

// data returns a pointer to a data block in use.
func (s *memStore) data(gen blkfmt.Gen) blkfmt.Bptr {
	s.mu.Lock()
	defer s.mu.Unlock()
	bp := blkfmt.Bptr{Addr: s.next, Hash: uint64(s.next), Gen: gen}
	s.next += blkfmt.BlkSize
	s.live[bp.Addr] = true
	return bp
}

// load reads a node of the base, as a block store would.
func (s *memStore) load(bp blkfmt.Bptr) (*memNode, error) {
	n := &memNode{bp: bp, data: make([]byte, blkfmt.BlkSize)}
	if _, err := s.base.ReadAt(n.data, int64(bp.Addr)); err != nil {
		return nil, err
	}
	if got := n.ptr().Hash; got != bp.Hash {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Leaf, Want: bp.Hash, Got: got}
	}
	if err := kvfmt.CheckNode(n.data); err != nil {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Leaf, What: err.Error()}
	}
	s.nodes[bp.Addr] = n
	s.foreign[bp.Addr] = true
	return n, nil
}

// put writes a node that somebody else made.
func (s *memStore) put(gen blkfmt.Gen, n kvfmt.Node) blkfmt.Bptr {
	s.t.Helper()
	if err := kvfmt.CheckNode(n); err != nil {
		s.t.Fatal(err)
	}
	node := &memNode{bp: blkfmt.Bptr{Addr: s.next, Gen: gen}, data: append([]byte(nil), n...)}
	s.next += blkfmt.BlkSize
	s.nodes[node.bp.Addr] = node
	s.live[node.bp.Addr] = true
	s.foreign[node.bp.Addr] = true
	return node.ptr()
}

// verify reports what is wrong with the books and with trees, the only ones there are: references
// held but one for each tree, blocks in use that they do not reach or the other way round, broken
// invariants, and nodes that Upsert would not make.
func (s *memStore) verify(trees ...*Tree) error {
	if s.out != len(trees) || s.raw != 0 {
		return fmt.Errorf("%d references held for %d trees, and %d blocks never queued", s.out, len(trees), s.raw)
	}
	reached := make(map[blkfmt.Addr]bool)
	for _, t := range trees {
		if err := Check(nil, t); err != nil {
			return err
		}
		err := t.Walk(nil, Visit{
			Data: func(_ []byte, bp blkfmt.Bptr) error { reached[bp.Addr] = true; return nil },
			Node: func(bp blkfmt.Bptr, level int) error {
				reached[bp.Addr] = true
				if s.foreign[bp.Addr] {
					return nil
				}
				return s.shape(bp, level == t.Height())
			},
		})
		if err != nil {
			return err
		}
	}
	for a := range reached {
		if !s.live[a] {
			return fmt.Errorf("block %v was freed, but is reached", a)
		}
	}
	for a := range s.live {
		if !reached[a] {
			return fmt.Errorf("block %v is in use, but nothing reaches it (a node: %v)", a, s.nodes[a] != nil)
		}
	}
	return nil
}

// shape reports what is wrong with a node that Upsert made, beyond the invariants of any tree.
func (s *memStore) shape(bp blkfmt.Bptr, root bool) error {
	n := kvfmt.Node(s.nodes[bp.Addr].data)
	if n.Nval() == 0 && !(root && n.Leaf()) {
		return fmt.Errorf("node %v has no entries", bp)
	}
	if n.Leaf() {
		return nil
	}
	if root && n.Nval() == 1 && n.Nbuf() == 0 {
		return fmt.Errorf("root %v does nothing but point at one child", bp)
	}
	if n.ValSize() > pivotFull {
		return fmt.Errorf("pivot %v has %d bytes of entries", bp, n.ValSize())
	}
	for i := range n.Nval() {
		c, _ := n.Child(i)
		if k := kvfmt.Node(s.nodes[c.Addr].data).FirstKey(); !bytes.Equal(k, n.Key(i)) {
			return fmt.Errorf("pivot %v has key %x for a child that starts with %x", bp, n.Key(i), k)
		}
	}
	return nil
}

func (s *memStore) check(trees ...*Tree) {
	s.t.Helper()
	if err := s.verify(trees...); err != nil {
		s.t.Fatal(err)
	}
}
