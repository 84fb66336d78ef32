package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A disk is an image in memory, made to be damaged: its blocks can be edited, and repair makes all
// hashes good again, up to the superblocks. It is the reader's enemy, so it shares no code with it.
type disk struct {
	size   int64
	blocks map[blkfmt.Addr][]byte // those not here are zeros; never written in place: see block
	own    map[blkfmt.Addr]bool   // blocks that are not shared with a clone
	hash   blkfmt.Hasher
	fail   map[blkfmt.Addr]bool // reads of these fail
	reads  int
}

const blk = blkfmt.BlkSize

func newDisk(size int64) *disk {
	return &disk{size: size, blocks: map[blkfmt.Addr][]byte{}, own: map[blkfmt.Addr]bool{}, hash: blkfmt.Metro{}, fail: map[blkfmt.Addr]bool{}}
}

// clone returns a disk that starts as d is. d must not be changed any more.
func (d *disk) clone() *disk {
	e := newDisk(d.size)
	maps.Copy(e.blocks, d.blocks)
	e.hash = d.hash
	return e
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.reads++
	if off < 0 || off%blk != 0 || len(p) != blk || off > d.size-blk {
		return 0, fmt.Errorf("read of %d bytes at %d", len(p), off)
	}
	if d.fail[blkfmt.Addr(off)] {
		return 0, io.ErrClosedPipe
	}
	clear(p)
	copy(p, d.blocks[blkfmt.Addr(off)])
	return len(p), nil
}

// block returns the block at a, to be changed.
func (d *disk) block(a blkfmt.Addr) []byte {
	if !d.own[a] {
		p := make([]byte, blk)
		copy(p, d.blocks[a])
		d.blocks[a], d.own[a] = p, true
	}
	return d.blocks[a]
}

func (d *disk) backup() blkfmt.Addr { return blkfmt.BackupAddr(d.size) }

// super changes both superblocks. Their hash is good afterwards.
func (d *disk) super(f func(*blkfmt.Super)) *blkfmt.Super {
	s, err := blkfmt.DecodeSuper(d.block(0), nil, 0)
	if err != nil {
		panic(err)
	}
	if f != nil {
		f(s)
		if err := s.Encode(d.block(0)); err != nil {
			panic(err)
		}
		copy(d.block(d.backup()), d.block(0))
	}
	return s
}

// header changes both copies of arena i's header; repair makes the superblock agree.
func (d *disk) header(i int, f func(*blkfmt.ArenaHdr)) *blkfmt.ArenaHdr {
	ref := d.super(nil).Arenas[i]
	h, err := blkfmt.DecodeArenaHdr(d.block(ref.Addr), ref.Addr)
	if err != nil {
		panic(err)
	}
	if f != nil {
		f(h)
		h.Encode(d.block(ref.Addr))
		copy(d.block(ref.Addr+blk), d.block(ref.Addr))
	}
	return h
}

// log changes the entries of arena i's log, which must be one block.
func (d *disk) log(i int, f func([]logfmt.Entry) []logfmt.Entry) {
	at := d.header(i, nil).Log.Addr
	h, err := blkfmt.DecodeLogHdr(d.block(at), blkfmt.Log, d.hash, at)
	if err != nil {
		panic(err)
	}
	var es []logfmt.Entry
	for p := d.block(at)[blkfmt.LogHdSize:][:h.Size]; len(p) > 0; {
		e, n, err := logfmt.Next(p)
		if err != nil {
			panic(err)
		}
		es = append(es, e)
		p = p[n:]
	}
	d.putLog(at, f(es), h.Chain)
}

func (d *disk) putLog(at blkfmt.Addr, es []logfmt.Entry, chain blkfmt.Bptr) {
	var p []byte
	for _, e := range es {
		p = logfmt.Append(p, e)
	}
	b := d.block(at)
	copy(b[blkfmt.LogHdSize:], p)
	blkfmt.EncodeLogHdr(b, blkfmt.LogHdr{Type: blkfmt.Log, Size: len(p), Chain: chain}, d.hash)
}

// before puts an entry before the last one, which is the barrier.
func before(e logfmt.Entry) func([]logfmt.Entry) []logfmt.Entry {
	return func(es []logfmt.Entry) []logfmt.Entry { return slices.Insert(es, len(es)-1, e) }
}

// alloc takes a block in the middle of arena 3, where nothing else is.
func (d *disk) alloc() blkfmt.Addr {
	a := d.super(nil).Arenas[3].Addr + 500*blk
	for d.blocks[a] != nil {
		a += blk
	}
	d.block(a)
	d.log(3, before(logfmt.Entry{Op: logfmt.Alloc1, Addr: a, Len: blk}))
	d.header(3, func(h *blkfmt.ArenaHdr) { h.Used += blk })
	return a
}

// A pair is a key and its value.
type pair struct{ key, val []byte }

// A nodeEdit is a node taken apart.
type nodeEdit struct {
	leaf  bool
	pairs []pair
	msgs  []kvfmt.Msg
}

func (d *disk) get(a blkfmt.Addr) *nodeEdit {
	n := kvfmt.Node(bytes.Clone(d.blocks[a]))
	if err := kvfmt.CheckNode(n); err != nil {
		panic(fmt.Sprintf("node at %v: %v", a, err))
	}
	e := &nodeEdit{leaf: n.Leaf()}
	for i := range n.Nval() {
		k, v := n.Val(i)
		e.pairs = append(e.pairs, pair{k, v})
	}
	for i := range n.Nbuf() {
		e.msgs = append(e.msgs, n.Msg(i))
	}
	return e
}

func (d *disk) put(a blkfmt.Addr, e *nodeEdit) {
	n := kvfmt.Node(d.block(a))
	if n.InitPivot(); e.leaf {
		n.InitLeaf()
	}
	for _, p := range e.pairs {
		n.AddVal(p.key, p.val)
	}
	for _, m := range e.msgs {
		n.InsertMsg(m)
	}
}

func (e *nodeEdit) set(key, val []byte) {
	i, ok := slices.BinarySearchFunc(e.pairs, key, func(p pair, k []byte) int { return bytes.Compare(p.key, k) })
	if !ok {
		e.pairs = slices.Insert(e.pairs, i, pair{key: key})
	}
	e.pairs[i].val = val
}

func (e *nodeEdit) del(key []byte) {
	e.pairs = slices.DeleteFunc(e.pairs, func(p pair) bool { return bytes.Equal(p.key, key) })
}

// snapTree stands for the snapshot tree where a generation is wanted.
const snapTree = blkfmt.NoGen

// tree returns the root and the height of a snapshot's tree.
func (d *disk) tree(gen blkfmt.Gen) (blkfmt.Bptr, int) {
	s := d.super(nil)
	if gen == snapTree {
		return s.Snap, s.SnapHt
	}
	key := kvfmt.AppendSnapKey(nil, gen)
	for _, p := range d.get(d.leafOf(snapTree, key)).pairs {
		if bytes.Equal(p.key, key) {
			t, err := kvfmt.GetTree(p.val)
			if err != nil {
				panic(err)
			}
			return t.Root, int(t.Ht)
		}
	}
	panic(fmt.Sprintf("no snapshot %d", gen))
}

// path returns the nodes of a snapshot's tree from the root to the leaf where key is or would be.
func (d *disk) path(gen blkfmt.Gen, key []byte) []blkfmt.Addr {
	p, ht := d.tree(gen)
	out := []blkfmt.Addr{p.Addr}
	for range ht - 1 {
		n := kvfmt.Node(d.blocks[p.Addr])
		i, _ := n.Search(key)
		p, _ = n.Child(max(i, 0))
		out = append(out, p.Addr)
	}
	return out
}

func (d *disk) rootOf(gen blkfmt.Gen) blkfmt.Addr { return d.path(gen, nil)[0] }

func (d *disk) leafOf(gen blkfmt.Gen, key []byte) blkfmt.Addr {
	p := d.path(gen, key)
	return p[len(p)-1]
}

// edit changes the node at a.
func (d *disk) edit(a blkfmt.Addr, f func(*nodeEdit)) {
	e := d.get(a)
	f(e)
	d.put(a, e)
}

// val returns the value of key in its leaf.
func (d *disk) val(gen blkfmt.Gen, key []byte) []byte {
	for _, p := range d.get(d.leafOf(gen, key)).pairs {
		if bytes.Equal(p.key, key) {
			return p.val
		}
	}
	panic("no " + keyText(key))
}

func (d *disk) setVal(gen blkfmt.Gen, key, val []byte) {
	d.edit(d.leafOf(gen, key), func(e *nodeEdit) { e.set(key, val) })
}

func (d *disk) delVal(gen blkfmt.Gen, key []byte) {
	d.edit(d.leafOf(gen, key), func(e *nodeEdit) { e.del(key) })
}

// snapshot changes the record of a snapshot.
func (d *disk) snapshot(gen blkfmt.Gen, f func(*kvfmt.Tree)) {
	k := kvfmt.AppendSnapKey(nil, gen)
	t, err := kvfmt.GetTree(d.val(snapTree, k))
	if err != nil {
		panic(err)
	}
	f(&t)
	d.setVal(snapTree, k, t.Append(nil))
}

// dir changes a directory entry.
func (d *disk) dir(gen blkfmt.Gen, key []byte, f func(*kvfmt.Dir)) {
	v, err := kvfmt.GetDir(d.val(gen, key))
	if err != nil {
		panic(err)
	}
	f(&v)
	d.setVal(gen, key, v.Append(nil))
}

// repair makes every hash on the disk good: those of data blocks, nodes, logs, deadlists, headers
// and superblocks. With fills, the fills that pivots record too. Nodes that are malformed are
// hashed as they are.
func (d *disk) repair(fills bool) {
	sb := d.block(0)
	s := d.super(nil)
	done := map[blkfmt.Addr]bool{}
	inside := func(a blkfmt.Addr) bool { return a > 0 && a%blk == 0 && int64(a) <= d.size-blk }
	put := func(slot []byte) {
		if a := blkfmt.GetPtr(slot).Addr; inside(a) {
			h := d.hash.Sum(d.block(a))
			copy(slot[8:16], []byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)})
		}
	}
	logs := func(a blkfmt.Addr) {
		for inside(a) && !done[a] {
			done[a] = true
			b := d.block(a)
			n := int(b[2])<<8 | int(b[3])
			if n > blkfmt.LogSpc {
				return
			}
			h := blkfmt.LogHdr{Type: blkfmt.Type(int(b[0])<<8 | int(b[1])), Size: n, Chain: blkfmt.GetPtr(b[12:])}
			blkfmt.EncodeLogHdr(b, h, d.hash)
			a = h.Chain.Addr
		}
	}
	var node func(slot []byte, level int)
	value := func(k, v []byte) {
		switch {
		case k[0] == kvfmt.Kdat && len(v) == blkfmt.PtrSize:
			put(v)
		case k[0] == kvfmt.Ksnap && len(v) == kvfmt.TreeSize:
			if t, err := kvfmt.GetTree(v); err == nil {
				node(v[48:72], int(t.Ht)-1)
			}
		case k[0] == kvfmt.Kdlist && len(v) == kvfmt.DlistSize:
			logs(blkfmt.GetPtr(v).Addr)
		}
	}
	node = func(slot []byte, level int) {
		a := blkfmt.GetPtr(slot).Addr
		if !inside(a) {
			return
		}
		if n := kvfmt.Node(d.block(a)); !done[a] && kvfmt.CheckNode(n) == nil {
			done[a] = true
			for i := range n.Nval() {
				k, v := n.Val(i)
				if n.Leaf() {
					value(k, v)
				} else if level > 0 {
					node(v, level-1)
					if c := kvfmt.Node(d.blocks[blkfmt.GetPtr(v).Addr]); fills && c != nil && kvfmt.CheckNode(c) == nil {
						v[24], v[25] = byte(c.Fill()>>8), byte(c.Fill())
					}
				}
			}
			for i := range n.Nbuf() {
				if m := n.Msg(i); m.Op == kvfmt.Insert {
					value(m.Key, m.Val)
				}
			}
		}
		put(slot)
	}
	root := s.Snap.Append(nil)
	node(root, s.SnapHt-1)
	s.Snap.Hash = blkfmt.GetPtr(root).Hash
	for i, r := range s.Arenas {
		if h, err := blkfmt.DecodeArenaHdr(d.block(r.Addr), r.Addr); err == nil {
			logs(h.Log.Addr)
		}
		copy(d.block(r.Addr+blk), d.block(r.Addr))
		s.Arenas[i].Hash = d.hash.Sum(d.block(r.Addr))
	}
	if err := s.Encode(sb); err != nil {
		panic(err)
	}
	copy(d.block(d.backup()), sb)
}

var background = context.Background()

func (d *disk) check(t testing.TB) *Report {
	t.Helper()
	r, err := Run(background, d, d.size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t testing.TB, r *Report) string {
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// goldenDisks holds each golden disk once: unpacking takes long.
var goldenDisks struct {
	sync.Mutex
	m map[string]*golden.Disk
}

func goldenDisk(t testing.TB, name string) *golden.Disk {
	goldenDisks.Lock()
	defer goldenDisks.Unlock()
	d := goldenDisks.m[name]
	if d == nil {
		d = golden.Image(t, name)
		if goldenDisks.m == nil {
			goldenDisks.m = map[string]*golden.Disk{}
		}
		goldenDisks.m[name] = d
	}
	return d
}

// fromGolden returns a disk with the content of a golden one.
func fromGolden(t testing.TB, name string) *disk {
	g := goldenDisk(t, name)
	d := newDisk(g.Size())
	if err := g.CopyTo(blockWriter{d}); err != nil {
		t.Fatal(err)
	}
	return d
}

type blockWriter struct{ d *disk }

func (w blockWriter) WriteAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); n += blk {
		copy(w.d.block(blkfmt.Addr(off)+blkfmt.Addr(n)), p[n:])
	}
	return len(p), nil
}
