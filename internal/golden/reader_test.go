package golden_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A reader reads a disk with nothing but the three format packages, and complains to t about
// whatever they do not read, or write otherwise than the reference did.
type reader struct {
	t     *testing.T
	disk  *golden.Disk
	hash  blkfmt.Hasher
	super *blkfmt.Super // the newer one
	nodes int
	msgs  int
	seen  map[blkfmt.Addr]bool // nodes already looked at
}

// newReader reads both superblocks.
func newReader(t *testing.T, disk *golden.Disk) *reader {
	r := &reader{t: t, disk: disk, seen: make(map[blkfmt.Addr]bool)}
	for _, addr := range []blkfmt.Addr{0, blkfmt.BackupAddr(disk.Size())} {
		p := disk.Block(t, int64(addr))
		s, err := blkfmt.DecodeSuper(p, nil, addr)
		if err != nil {
			t.Fatal(err)
		}
		q := make([]byte, blkfmt.BlkSize)
		if err := s.Encode(q); err != nil {
			t.Fatal(err)
		}
		if n := 104 + 16*len(s.Arenas) + 8; !bytes.Equal(p[:n], q[:n]) {
			t.Errorf("superblock at %v: written again it is\n%x, not\n%x", addr, q[:n], p[:n])
		}
		if r.super == nil || s.Qgen > r.super.Qgen {
			r.super = s
		}
	}
	r.hash = r.super.Hasher()
	return r
}

// header reads arena i's header, or its copy if that is the current one. It returns how many of
// the two are current.
func (r *reader) header(i int) (*blkfmt.ArenaHdr, int) {
	ref := r.super.Arenas[i]
	var hdr *blkfmt.ArenaHdr
	current := 0
	for _, addr := range []blkfmt.Addr{ref.Addr, ref.Addr + blkfmt.BlkSize} {
		p := r.disk.Block(r.t, int64(addr))
		h, err := blkfmt.DecodeArenaHdr(p, addr)
		if err != nil {
			r.t.Fatal(err)
		}
		q := make([]byte, blkfmt.BlkSize)
		h.Encode(q)
		if !bytes.Equal(p[:34], q[:34]) {
			r.t.Errorf("header at %v: written again it is\n%x, not\n%x", addr, q[:34], p[:34])
		}
		if r.hash.Sum(p) == ref.Hash {
			hdr = h
			current++
		}
	}
	if hdr == nil {
		r.t.Fatalf("arena %d: no header is current", i)
	}
	return hdr, current
}

// A free set is the blocks that are free, one by one.
type freeSet map[blkfmt.Addr]bool

// replay reads an arena's log up to the barrier of the committed generation. It returns what is
// free there, and whether there was a barrier.
func (r *reader) replay(h *blkfmt.ArenaHdr) (freeSet, bool) {
	t := r.t
	free := make(freeSet)
	for addr := h.Log.Addr; addr != blkfmt.NoAddr; {
		p := r.disk.Block(t, int64(addr))
		lh, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, r.hash, addr)
		if err != nil {
			t.Fatal(err)
		}
		q := bytes.Clone(p)
		clear(q[:blkfmt.LogHdSize])
		blkfmt.EncodeLogHdr(q, lh, r.hash)
		if !bytes.Equal(p, q) {
			t.Errorf("log block at %v: its header written again is %x, not %x", addr, q[:36], p[:36])
		}
		ents := p[blkfmt.LogHdSize : blkfmt.LogHdSize+lh.Size]
		var again []byte
		for off := 0; off < len(ents); {
			e, n, err := logfmt.Next(ents[off:])
			if err != nil {
				t.Fatalf("log block at %v, entry at %d: %v", addr, off, err)
			}
			again = logfmt.Append(again, e)
			off += n
			if e.Op == logfmt.Sync && e.Qgen >= r.super.Qgen {
				return free, true
			}
			for a := e.Addr; a < e.Addr+blkfmt.Addr(e.Len); a += blkfmt.BlkSize {
				freed := e.Op == logfmt.Free || e.Op == logfmt.Free1
				if free[a] == freed {
					t.Fatalf("log block at %v, entry at %d: %v of %v, free before: %v", addr, off-n, e.Op, a, free[a])
				}
				if free[a] = freed; !freed {
					delete(free, a)
				}
			}
		}
		if !bytes.Equal(again, ents) {
			t.Errorf("log block at %v: its entries written again differ", addr)
		}
		addr = lh.Chain.Addr
	}
	return free, false
}

// node reads and verifies a node of a tree.
func (r *reader) node(bp blkfmt.Bptr) kvfmt.Node {
	p := r.disk.Block(r.t, int64(bp.Addr))
	if got := r.hash.Sum(p); got != bp.Hash {
		r.t.Fatalf("node %v: hash is %016x", bp, got)
	}
	if err := kvfmt.CheckNode(p); err != nil {
		r.t.Fatalf("node %v: %v", bp, err)
	}
	if n := kvfmt.Node(p); !r.seen[bp.Addr] {
		r.seen[bp.Addr] = true
		r.nodes++
		r.msgs += n.Nbuf()
		r.rebuild(bp, n)
	}
	return kvfmt.Node(p)
}

// rebuild builds n anew. The reference packs entries downwards in the order in which it adds them,
// so everything outside the free space must be the same, byte by byte.
func (r *reader) rebuild(bp blkfmt.Bptr, n kvfmt.Node) {
	be := binary.BigEndian
	const buf = blkfmt.PivHdSize + blkfmt.PivSpc
	m := make(kvfmt.Node, blkfmt.BlkSize)
	used := [][2]int{{0, blkfmt.LeafHdSize + 2*n.Nval()}, {blkfmt.BlkSize - int(be.Uint16(n[4:])), blkfmt.BlkSize}}
	if n.Leaf() {
		m.InitLeaf()
		for i := range n.Nval() {
			m.AddVal(n.Val(i))
		}
	} else {
		m.InitPivot()
		for i := range n.Nval() {
			child, fill := n.Child(i)
			m.AddChild(n.Key(i), child, fill)
		}
		order := make([]int, n.Nbuf()) // in which the messages were put in
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(i, j int) int { return int(be.Uint16(n[buf+2*j:])) - int(be.Uint16(n[buf+2*i:])) })
		for _, i := range order {
			m.InsertMsg(n.Msg(i))
		}
		used = [][2]int{
			{0, blkfmt.PivHdSize + 2*n.Nval()}, {buf - int(be.Uint16(n[4:])), buf},
			{buf, buf + 2*n.Nbuf()}, {blkfmt.BlkSize - int(be.Uint16(n[8:])), blkfmt.BlkSize},
		}
	}
	for _, u := range used {
		if !bytes.Equal(n[u[0]:u[1]], m[u[0]:u[1]]) {
			r.t.Errorf("node %v: built anew it differs in bytes %d to %d", bp, u[0], u[1])
		}
	}
}

// load returns all pairs of a tree: what its leaves say, changed by the messages on their way. It
// holds the tree to the rules between nodes. Keys must be in [low, high); nil is no bound.
func (r *reader) load(bp blkfmt.Bptr, ht int, low, high []byte) map[string][]byte {
	t := r.t
	n := r.node(bp)
	if n.Leaf() != (ht == 1) {
		t.Fatalf("node %v: leaf is %v, %d levels are left", bp, n.Leaf(), ht)
	}
	inside := func(key []byte) {
		if low != nil && kvfmt.Compare(key, low) < 0 || high != nil && kvfmt.Compare(key, high) >= 0 {
			t.Errorf("node %v: key %x is not in [%x,%x)", bp, key, low, high)
		}
	}
	all := make(map[string][]byte)
	for i := range n.Nval() {
		key, val := n.Val(i)
		inside(key)
		if err := kvfmt.CheckKey(key); err != nil {
			t.Errorf("node %v, entry %d: %v", bp, i, err)
		}
		if n.Leaf() {
			all[string(key)] = val
			continue
		}
		child, fill := n.Child(i)
		if got := r.node(child).Fill(); got != fill {
			t.Errorf("node %v: child %d is said to hold %d bytes and holds %d", bp, i, fill, got)
		}
		if bp.Gen != blkfmt.NoGen && child.Gen > bp.Gen {
			t.Errorf("node %v: child %d is younger: %v", bp, i, child)
		}
		next := high
		if i+1 < n.Nval() {
			next = n.Key(i + 1)
		}
		for k, v := range r.load(child, ht-1, key, next) {
			all[k] = v
		}
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		inside(m.Key)
		cur, present := all[string(m.Key)]
		val, present, err := kvfmt.Apply(nil, m, cur, present)
		if err != nil {
			t.Errorf("node %v, message %d: %v", bp, i, err)
		}
		if delete(all, string(m.Key)); present {
			all[string(m.Key)] = val
		}
	}
	return all
}

// pairs loads a tree and puts its values through the codecs.
func (r *reader) pairs(bp blkfmt.Bptr, ht int) map[string][]byte {
	all := r.load(bp, ht, nil, nil)
	for k, v := range all {
		again, err := recode([]byte(k), v)
		if err != nil || !bytes.Equal(again, v) {
			r.t.Errorf("tree %v, key %x: value %x is written again as %x, error %v", bp, k, v, again, err)
		}
	}
	return all
}

// recode decodes a value and encodes it again, after doing the same to its key.
func recode(key, val []byte) ([]byte, error) {
	var again []byte
	var err error
	switch key[0] {
	case kvfmt.Kdat:
		var qid, off uint64
		if qid, off, err = kvfmt.GetDat(key); err == nil {
			again = kvfmt.AppendDatKey(nil, qid, off)
		}
	case kvfmt.Kent:
		var e kvfmt.Ent
		if e, err = kvfmt.GetEnt(key); err == nil {
			again = kvfmt.AppendEntKey(nil, e.Pqid, e.Name)
		}
	case kvfmt.Kup:
		var qid uint64
		if qid, err = kvfmt.GetUp(key); err == nil {
			again = kvfmt.AppendUpKey(nil, qid)
		}
	case kvfmt.Klabel:
		again = kvfmt.AppendLabelKey(nil, string(key[1:]))
	case kvfmt.Ksnap:
		var gen blkfmt.Gen
		if gen, err = kvfmt.GetSnapKey(key); err == nil {
			again = kvfmt.AppendSnapKey(nil, gen)
		}
	case kvfmt.Kdlist:
		var gen, bgen blkfmt.Gen
		if gen, bgen, err = kvfmt.GetDlistKey(key); err == nil {
			again = kvfmt.AppendDlistKey(nil, gen, bgen)
		}
	case kvfmt.Kconf:
		again = kvfmt.AppendConfKey(nil, string(key[1:]))
	}
	if err != nil || !bytes.Equal(again, key) {
		return nil, fmt.Errorf("key is written again as %x: %w", again, err)
	}
	switch key[0] {
	case kvfmt.Kdat:
		bp, err := kvfmt.GetDatVal(val)
		return bp.Append(nil), err
	case kvfmt.Kent:
		d, err := kvfmt.GetDir(val)
		return d.Append(nil), err
	case kvfmt.Kup:
		e, err := kvfmt.GetEnt(val)
		return kvfmt.AppendEntKey(nil, e.Pqid, e.Name), err
	case kvfmt.Klabel:
		l, err := kvfmt.GetLabel(val)
		return l.Append(nil), err
	case kvfmt.Ksnap:
		tr, err := kvfmt.GetTree(val)
		return tr.Append(nil), err
	case kvfmt.Kdlist:
		d, err := kvfmt.GetDlist(val)
		return d.Append(nil), err
	}
	return val, nil
}

// deadlist returns the addresses on a list, and puts its blocks through the codec.
func (r *reader) deadlist(d kvfmt.Dlist) []blkfmt.Addr {
	var dead []blkfmt.Addr
	last := blkfmt.NoAddr
	for addr := d.Hd.Addr; addr != blkfmt.NoAddr; {
		p := r.disk.Block(r.t, int64(addr))
		h, err := blkfmt.DecodeLogHdr(p, blkfmt.Deadlist, r.hash, addr)
		if err != nil {
			r.t.Fatal(err)
		}
		q := bytes.Clone(p)
		clear(q[:blkfmt.LogHdSize])
		blkfmt.EncodeLogHdr(q, h, r.hash)
		if !bytes.Equal(p, q) {
			r.t.Errorf("deadlist block at %v: its header written again is %x, not %x", addr, q[:36], p[:36])
		}
		n := len(dead)
		if dead, err = logfmt.Dead(dead, p[blkfmt.LogHdSize:blkfmt.LogHdSize+h.Size]); err != nil {
			r.t.Errorf("deadlist block at %v: %v", addr, err)
		}
		if len(dead)-n > logfmt.DeadMax {
			r.t.Errorf("deadlist block at %v: %d addresses", addr, len(dead)-n)
		}
		last, addr = addr, h.Chain.Addr
	}
	if last != d.Tl.Addr {
		r.t.Errorf("deadlist %v ends at %v", d, last)
	}
	return dead
}

// content hands the blocks of a file to w in order, holes as zeros, or only those that are there
// if sparse.
func (r *reader) content(w io.Writer, tree map[string][]byte, qid, length uint64, sparse bool) {
	zero := make([]byte, blkfmt.BlkSize)
	for off := uint64(0); off < length; off += blkfmt.BlkSize {
		p := zero
		if v, ok := tree[string(kvfmt.AppendDatKey(nil, qid, off))]; ok {
			bp, err := kvfmt.GetDatVal(v)
			if err != nil {
				r.t.Error(err)
				return
			}
			if p = r.disk.Block(r.t, int64(bp.Addr)); r.hash.Sum(p) != bp.Hash {
				r.t.Errorf("data block %v of file %d at %d: wrong hash", bp, qid, off)
			}
		} else if sparse {
			continue
		}
		w.Write(p[:min(blkfmt.BlkSize, length-off)])
	}
}
