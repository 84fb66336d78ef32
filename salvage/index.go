package salvage

import (
	"bytes"
	"math"
	"slices"
	"sort"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A kind says which trees a node may belong to.
type kind uint8

const (
	files kind = 1 << iota // of files
	snaps                  // of snapshots
)

// noRoot stands in record.root for a node that does not say which root directory it belongs to.
const noRoot = math.MaxUint64

// A record is what is kept of a node that the scan has found.
type record struct {
	addr  blkfmt.Addr
	hash  uint64
	clock clock
	root  uint64 // qid of the root directory, if its entry is in here

	first, last span // keys; last is that of all that is below, as far as it was found
	edge, nedge uint32

	owner blkfmt.Gen // the oldest snapshot that has it, if reached
	gen   blkfmt.Gen // its birth, as the pointer says by which it was reached

	kind    kind
	level   int8 // 0 is a leaf; -1 a pivot that points at nothing that was found
	lost    bool // something below it was not found
	reached bool // a snapshot has it
	isData  bool // it is data that looks like a node
}

// A clock orders versions of a node: what one mentions, one that is older does not. The time counts if
// the generations are the same.
type clock struct {
	gen   blkfmt.Gen
	mtime int64
}

func (c clock) compare(d clock) int {
	switch {
	case c.gen != d.gen && c.gen > d.gen, c.gen == d.gen && c.mtime > d.mtime:
		return +1
	case c == d:
		return 0
	}
	return -1
}

func (c *clock) take(d clock) {
	c.gen, c.mtime = max(c.gen, d.gen), max(c.mtime, d.mtime)
}

// A span is a key in index.keys.
type span struct {
	off uint64
	n   uint16
}

// An index is all nodes of a device.
type index struct {
	recs  []record // by address
	keys  []byte
	edges []blkfmt.Bptr // what the nodes point at, but data
	byKey []uint32      // records by first key
}

func (ix *index) key(s span) []byte { return ix.keys[s.off : s.off+uint64(s.n)] }

func (ix *index) keep(k []byte) span {
	s := span{uint64(len(ix.keys)), uint16(len(k))}
	ix.keys = append(ix.keys, k...)
	return s
}

// find returns the record of the node that p points at, nil if the scan has not found it.
func (ix *index) find(p blkfmt.Bptr) *record {
	i, ok := slices.BinarySearchFunc(ix.recs, p.Addr, func(r record, a blkfmt.Addr) int {
		switch {
		case r.addr < a:
			return -1
		case r.addr > a:
			return +1
		}
		return 0
	})
	if !ok || ix.recs[i].hash != p.Hash {
		return nil
	}
	return &ix.recs[i]
}

// scanDevice reads the whole device and makes the index. It fails if nothing is found that could
// be a gefs disk's.
func (x *run) scanDevice() error {
	x.begin("scan", x.size/blkfmt.BlkSize)
	ix := &index{}
	var headers []header
	b := make([]byte, blkfmt.BlkSize)
	for a := blkfmt.Addr(blkfmt.BlkSize); int64(a) <= x.size-blkfmt.BlkSize; a += blkfmt.BlkSize {
		if x.read(b, a) != nil {
			if x.stop != nil {
				return x.stop
			}
			continue
		}
		switch {
		case isNode(b) && kvfmt.CheckNode(b) == nil:
			ix.add(a, x.hash.Sum(b), b)
		case x.super == nil && b[0] == 0 && b[1] == byte(blkfmt.Arena):
			if h, err := blkfmt.DecodeArenaHdr(b, a); err == nil {
				headers = append(headers, header{a, *h, x.hash.Sum(b)})
			}
		}
	}
	matches := ix.relate()
	x.ix, x.rep.Scanned, x.rep.Nodes = ix, true, int64(len(ix.recs))
	if x.super == nil {
		if len(ix.recs) == 0 {
			return ErrNothing
		}
		if matches == 0 && x.opt.Key != nil {
			return blkfmt.ErrForeignKey
		}
		if matches == 0 && len(ix.edges) > 0 {
			return blkfmt.ErrNoKey
		}
		x.findArenas(headers)
	}
	return nil
}

// add enters the node n, which has passed CheckNode.
func (ix *index) add(a blkfmt.Addr, hash uint64, n kvfmt.Node) {
	first := n.FirstKey()
	if first == nil {
		return // says nothing
	}
	r := record{addr: a, hash: hash, root: noRoot, edge: uint32(len(ix.edges)), clock: clock{gen: blkfmt.NoGen}, level: -1}
	r.first = ix.keep(first)
	last := first
	if n.Nval() > 0 {
		last = n.Key(n.Nval() - 1)
	}
	for i := range n.Nval() {
		if n.Leaf() {
			k, v := n.Val(i)
			ix.look(&r, k, v, true)
			continue
		}
		p, _ := n.Child(i)
		r.clock.take(clock{gen: p.Gen})
		r.kind |= kindOf(n.Key(i))
		ix.edges = append(ix.edges, p)
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		ix.look(&r, m.Key, m.Val, m.Op == kvfmt.Insert)
		if m.Op == kvfmt.Wstat {
			var d kvfmt.Dir
			if kvfmt.ApplyWstat(&d, m.Val) == nil {
				r.clock.take(clock{blkfmt.NoGen, d.Mtime})
			}
		}
		if kvfmt.Compare(m.Key, last) > 0 {
			last = m.Key
		}
	}
	if n.Leaf() {
		r.level = 0
	}
	if r.kind == 0 {
		r.kind = files | snaps // only configuration, which both have
	}
	if r.last = r.first; !bytes.Equal(first, last) {
		r.last = ix.keep(last)
	}
	r.nedge = uint32(len(ix.edges)) - r.edge
	ix.recs = append(ix.recs, r)
}

func kindOf(key []byte) kind {
	if len(key) == 0 {
		return 0
	}
	switch key[0] {
	case kvfmt.Kdat, kvfmt.Kent, kvfmt.Kup:
		return files
	case kvfmt.Klabel, kvfmt.Ksnap, kvfmt.Kdlist:
		return snaps
	}
	return 0
}

// look takes from a key, and its value if it has one, what they say of kind and age.
func (ix *index) look(r *record, key, val []byte, isVal bool) {
	r.kind |= kindOf(key)
	if !isVal || len(key) == 0 {
		return
	}
	switch key[0] {
	case kvfmt.Kdat:
		if p, err := kvfmt.GetDatVal(val); err == nil {
			r.clock.take(clock{gen: p.Gen})
		}
	case kvfmt.Kent:
		if d, err := kvfmt.GetDir(val); err == nil {
			r.clock.take(clock{blkfmt.NoGen, d.Mtime})
			if bytes.Equal(key, rootKey) {
				r.root = d.Qid.Path
			}
		}
	case kvfmt.Ksnap:
		if t, err := kvfmt.GetTree(val); err == nil {
			r.clock.take(clock{gen: t.Gen})
			ix.edges = append(ix.edges, t.Root)
		}
	}
}

var rootKey = kvfmt.AppendEntKey(nil, kvfmt.RootPqid, "")

// relate gives every pivot its level, and every node what is known from those below it. It returns
// how many pointers from node to node are right.
func (ix *index) relate() (matches int) {
	for level := int8(1); level <= blkfmt.MaxHeight; level++ {
		found := false
		for i := range ix.recs {
			r := &ix.recs[i]
			if r.level >= 0 {
				continue
			}
			for _, p := range ix.edges[r.edge : r.edge+r.nedge] {
				if c := ix.find(p); c != nil && c.level == level-1 {
					r.level, found = level, true
					break
				}
			}
		}
		if !found {
			break
		}
	}
	order := make([]uint32, len(ix.recs))
	for i := range ix.recs {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return int(ix.recs[a].level) - int(ix.recs[b].level) })
	for pass := range 2 { // the trees of files first, as snapshots point at them from leaves
		for _, i := range order {
			r := &ix.recs[i]
			if isSnaps := r.kind == snaps; isSnaps == (pass == 0) {
				continue
			}
			for _, p := range ix.edges[r.edge : r.edge+r.nedge] {
				c := ix.find(p)
				if c == nil || c.kind == snaps && r.kind != snaps {
					r.lost = true
					continue
				}
				matches++
				r.lost = r.lost || c.lost
				if c.kind&files != 0 && r.kind == snaps {
					r.clock.mtime = max(r.clock.mtime, c.clock.mtime) // generations of roots may be older than the record's
					continue
				}
				r.clock.take(c.clock)
				if r.root == noRoot {
					r.root = c.root
				}
				if kvfmt.Compare(ix.key(c.last), ix.key(r.last)) > 0 {
					r.last = c.last
				}
			}
		}
	}
	for _, i := range slices.Backward(order) { // what is below a root belongs to it
		r := &ix.recs[i]
		if r.root == noRoot || r.kind == snaps {
			continue
		}
		for _, p := range ix.edges[r.edge : r.edge+r.nedge] {
			if c := ix.find(p); c != nil && c.root == noRoot {
				c.root = r.root
			}
		}
	}
	ix.byKey = order
	sort.Slice(ix.byKey, func(a, b int) bool {
		p, q := &ix.recs[ix.byKey[a]], &ix.recs[ix.byKey[b]]
		if c := kvfmt.Compare(ix.key(p.first), ix.key(q.first)); c != 0 {
			return c < 0
		}
		return p.addr < q.addr
	})
	return matches
}
