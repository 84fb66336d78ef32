package check

import (
	"bytes"
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A maker makes a disk: it hands out blocks from the bottom of arena 0 for nodes and of arena 1
// for data.
type maker struct {
	*disk
	geo  blkfmt.Geometry
	next [2]blkfmt.Addr
}

func newMaker(size int64) *maker {
	geo, err := blkfmt.ReamGeometry(size)
	if err != nil {
		panic(err)
	}
	m := &maker{disk: newDisk(size), geo: geo}
	for i := range m.next {
		m.next[i] = geo.Header(i) + blkfmt.ArenaOverhead + blk // behind the log
	}
	return m
}

func (m *maker) take(arena int) blkfmt.Addr {
	a := m.next[arena]
	m.next[arena] += blk
	return a
}

func (m *maker) ptr(a blkfmt.Addr, gen blkfmt.Gen) blkfmt.Bptr {
	return blkfmt.Bptr{Addr: a, Hash: m.hash.Sum(m.block(a)), Gen: gen}
}

// data writes a data block of the given byte and returns it as the value of a Kdat key.
func (m *maker) data(fill byte, gen blkfmt.Gen) []byte {
	a := m.take(1)
	copy(m.block(a), bytes.Repeat([]byte{fill}, blk))
	return m.ptr(a, gen).Append(nil)
}

func (m *maker) leaf(gen blkfmt.Gen, ps ...pair) blkfmt.Bptr {
	a := m.take(0)
	e := &nodeEdit{leaf: true}
	for _, p := range ps {
		e.set(p.key, p.val)
	}
	m.put(a, e)
	return m.ptr(a, gen)
}

// pivot writes a pivot above kids, each under its least key.
func (m *maker) pivot(gen blkfmt.Gen, msgs []kvfmt.Msg, kids ...blkfmt.Bptr) blkfmt.Bptr {
	a := m.take(0)
	n := kvfmt.Node(m.block(a))
	n.InitPivot()
	for _, k := range kids {
		c := kvfmt.Node(m.blocks[k.Addr])
		n.AddChild(c.FirstKey(), k, c.Fill())
	}
	for _, msg := range msgs {
		n.InsertMsg(msg)
	}
	return m.ptr(a, gen)
}

// deadlist writes the list of the addresses, one chunk to a block, the newest chunk first.
func (m *maker) deadlist(chunks ...[]blkfmt.Addr) kvfmt.Dlist {
	d := kvfmt.Dlist{Hd: blkfmt.NoPtr, Tl: blkfmt.NoPtr}
	for i := len(chunks) - 1; i >= 0; i-- {
		a := m.take(0)
		var p []byte
		for _, x := range chunks[i] {
			p = logfmt.AppendDead(p, x)
		}
		b := m.block(a)
		copy(b[blkfmt.LogHdSize:], p)
		blkfmt.EncodeLogHdr(b, blkfmt.LogHdr{Type: blkfmt.Deadlist, Size: len(p), Chain: d.Hd}, m.hash)
		d.Hd = m.ptr(a, 0)
		if d.Tl.Addr == blkfmt.NoAddr {
			d.Tl = d.Hd
		}
	}
	return d
}

// finish writes logs, headers and superblocks. Qgen is 7; older barriers stand before it.
func (m *maker) finish(snap blkfmt.Bptr, ht int, nextGen blkfmt.Gen) *disk {
	s := &blkfmt.Super{SnapHt: ht, Snap: snap, SnapDead: [2]blkfmt.Bptr{blkfmt.NoPtr, blkfmt.NoPtr}, NextQid: 100, NextGen: nextGen, Qgen: 7}
	for i := range m.geo.Count {
		h := m.geo.Header(i)
		body := h + blkfmt.ArenaOverhead
		used := int64(blk)
		if i < len(m.next) {
			used = int64(m.next[i] - body)
		}
		size := m.geo.Size - blkfmt.ArenaUnused
		m.putLog(body, []logfmt.Entry{
			{Op: logfmt.Free, Addr: body, Len: size},
			{Op: logfmt.Sync, Qgen: 2},
			logfmt.Range(logfmt.Alloc, body, used),
			{Op: logfmt.Sync, Qgen: 7},
		}, blkfmt.NoPtr)
		hdr := blkfmt.ArenaHdr{Log: m.ptr(body, 0), Size: m.geo.Size, Used: used + blkfmt.ArenaUnused}
		hdr.Encode(m.block(h))
		copy(m.block(h+blk), m.block(h))
		s.Arenas = append(s.Arenas, blkfmt.ArenaRef{Addr: h, Hash: m.hash.Sum(m.block(h))})
	}
	if err := s.Encode(m.block(0)); err != nil {
		panic(err)
	}
	copy(m.block(m.backup()), m.block(0))
	return m.disk
}

func entKey(pqid uint64, name string) []byte { return kvfmt.AppendEntKey(nil, pqid, name) }
func datKey(qid, off uint64) []byte          { return kvfmt.AppendDatKey(nil, qid, off) }
func upKey(qid uint64) []byte                { return kvfmt.AppendUpKey(nil, qid) }
func snapKey(gen blkfmt.Gen) []byte          { return kvfmt.AppendSnapKey(nil, gen) }

func dirVal(qid uint64) []byte {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: qid, Type: 0x80}, Mode: 0x80000000 | 0o775}
	return d.Append(nil)
}

func fileVal(qid, length uint64) []byte {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: qid}, Mode: 0o664, Length: length}
	return d.Append(nil)
}

// rootPairs are the root directory of a snapshot.
func rootPairs(qid uint64) []pair {
	k := entKey(kvfmt.RootPqid, "")
	return []pair{{k, dirVal(qid)}, {upKey(qid), k}}
}

// Qids of the sample.
const (
	qRoot  = 0
	qAdm   = 1
	qUsers = 2
	qDir   = 10 // /dir, with the file f
	qF     = 11 // /dir/f: three blocks, of which the second is a hole
	qG     = 20 // /g: a block and 5 bytes
	qH     = 21 // /h: its block is in a message
)

// sample makes a disk as a faultless writer would, with nothing to complain about: pivots with
// messages of all kinds, snapshots in a line, a fork, deadlists.
//
//	0 empty
//	├─ 1 adm
//	└─ 3 v1 ── 5 main           5 has replaced a data block of 3
//	   └────── 7 f1 ── 9 fork   7 is a fork of 3
func sample() *disk {
	m := newMaker(blkfmt.MinDevice)
	empty := m.leaf(0, rootPairs(qRoot)...)
	adm := m.leaf(0, append(rootPairs(qAdm), pair{entKey(qAdm, "users"), fileVal(qUsers, 41)}, pair{datKey(qUsers, 0), m.data('u', 0)})...)

	g0 := m.data('g', 3)
	l0 := m.leaf(3, pair{datKey(qF, 0), m.data('f', 3)}, pair{datKey(qF, 2*blk), m.data('F', 3)})
	l1 := m.leaf(3, pair{datKey(qG, 0), g0}, pair{datKey(qG, blk), m.data('G', 3)})
	l2 := m.leaf(3, pair{entKey(qRoot, "g"), fileVal(qG, 1)}, pair{entKey(qRoot, "dir"), dirVal(qDir)}, pair{entKey(qRoot, "old"), fileVal(30, 0)})
	rest := append(rootPairs(qRoot), pair{entKey(qDir, "f"), fileVal(qF, 3*blk)}, pair{upKey(qDir), entKey(qRoot, "dir")})
	l3 := m.leaf(3, rest...)
	length := kvfmt.AppendWstat(nil, kvfmt.WLength, &kvfmt.Dir{Length: blk + 5})
	p1 := m.pivot(3, []kvfmt.Msg{
		{Op: kvfmt.Insert, Key: datKey(qH, 0), Val: m.data('h', 3)}, // replaced before it reached a leaf
		{Op: kvfmt.Insert, Key: datKey(qH, 0), Val: m.data('H', 3)},
		{Op: kvfmt.Insert, Key: entKey(qRoot, "h"), Val: fileVal(qH, 2)},
		{Op: kvfmt.Wstat, Key: entKey(qRoot, "g"), Val: length},
		{Op: kvfmt.Delete, Key: entKey(qRoot, "old")},
		{Op: kvfmt.Clobber, Key: entKey(qRoot, "never")},
		{Op: kvfmt.Clearb, Key: datKey(qG, 2*blk)},
	}, l0, l1, l2, l3)

	more := []kvfmt.Msg{
		{Op: kvfmt.Wstat, Key: entKey(qRoot, "g"), Val: length},
		{Op: kvfmt.Delete, Key: entKey(qRoot, "old")},
	}
	l1b := m.leaf(5, pair{datKey(qG, 0), m.data('5', 5)}, pair{datKey(qG, blk), m.pairVal(l1, 1)})
	hold := m.get(p1.Addr).msgs[1:3] // the messages that hold data stay
	p2 := m.pivot(5, append(more, hold[0], hold[1], kvfmt.Msg{Op: kvfmt.Insert, Key: entKey(qRoot, "h"), Val: fileVal(qH, 2)}), l0, l1b, l2, l3)

	l2b := m.leaf(7, pair{entKey(qRoot, "g"), fileVal(qG, blk+5)}, pair{entKey(qRoot, "h"), fileVal(qH, 1)}, pair{entKey(qRoot, "dir"), dirVal(qDir)})
	p3 := m.pivot(7, []kvfmt.Msg{hold[0], hold[1]}, l0, l1, l2b, l3)
	p4 := m.pivot(9, []kvfmt.Msg{hold[0], hold[1], {Op: kvfmt.Clobber, Key: entKey(qDir, "x")}}, l0, l1, l2b, l3)

	dead5 := m.deadlist([]blkfmt.Addr{p1.Addr}, []blkfmt.Addr{l1.Addr, blkfmt.GetPtr(g0).Addr})
	dead9 := m.deadlist([]blkfmt.Addr{p3.Addr})
	none := m.deadlist()

	var labels, snaps []pair
	for _, s := range []struct {
		label string
		flags uint32
		rec   kvfmt.Tree
	}{
		{"empty", 0, kvfmt.Tree{Nref: 2, Nlbl: 1, Ht: 1, Gen: 0, Pred: 0, Succ: 3, Base: 0, Root: empty}},
		{"adm", 1, kvfmt.Tree{Nref: 0, Nlbl: 1, Ht: 1, Gen: 1, Pred: 0, Succ: -1, Base: 0, Root: adm}},
		{"v1", 0, kvfmt.Tree{Nref: 1, Nlbl: 2, Ht: 2, Gen: 3, Pred: 0, Succ: 7, Base: 0, Root: p1}}, // see the relink
		{"main", 1, kvfmt.Tree{Nref: 0, Nlbl: 1, Ht: 2, Gen: 5, Pred: 3, Succ: -1, Base: 0, Root: p2}},
		{"f1", 0, kvfmt.Tree{Nref: 1, Nlbl: 1, Ht: 2, Gen: 7, Pred: 3, Succ: 9, Base: 3, Root: p3}},
		{"fork", 1, kvfmt.Tree{Nref: 0, Nlbl: 1, Ht: 2, Gen: 9, Pred: 7, Succ: -1, Base: 3, Root: p4}},
	} {
		labels = append(labels, pair{kvfmt.AppendLabelKey(nil, s.label), kvfmt.Label{Gen: s.rec.Gen, Flags: s.flags}.Append(nil)})
		snaps = append(snaps, pair{snapKey(s.rec.Gen), s.rec.Append(nil)})
	}
	snaps = append(snaps,
		pair{kvfmt.AppendDlistKey(nil, 5, 3), dead5.Append(nil)},
		pair{kvfmt.AppendDlistKey(nil, 9, 7), dead9.Append(nil)},
		pair{kvfmt.AppendDlistKey(nil, 9, 5), none.Append(nil)},
		pair{kvfmt.AppendConfKey(nil, "retain"), nil})
	link := append(snapKey(5)[1:], 0xff, 1) // succ := 5, a label less, a reference more
	root := m.pivot(0, []kvfmt.Msg{{Op: kvfmt.Relink, Key: snapKey(3), Val: link}}, m.leaf(0, labels...), m.leaf(0, snaps...))
	root.Gen = blkfmt.NoGen
	return m.finish(root, 2, 12)
}

// pairVal returns value i of a leaf.
func (m *maker) pairVal(p blkfmt.Bptr, i int) []byte { return m.get(p.Addr).pairs[i].val }

func TestFaultlessDiskIsStrictlyClean(t *testing.T) {
	r := sample().check(t)
	if !r.Clean(true) || len(r.Problems) != 0 || !r.Complete {
		t.Errorf("problems:\n%s", text(t, r))
	}
	want := Counts{Total: 8152, Free: 8152 - 34, Used: 34, Log: 8, SnapNodes: 3, Pivots: 4, Leaves: 8, Data: 8, Deadlist: 3, Dead: 0}
	if r.Counts != want {
		t.Errorf("%+v, want %+v", r.Counts, want)
	}
	got := ""
	for _, s := range r.Snaps {
		got += fmt.Sprintf("%d %s: %d files, %d dirs, %d data, %d bytes, %d dead\n", s.Gen, s.Labels, s.Files, s.Dirs, s.Data, s.Bytes, s.Dead)
	}
	if want := `0 [empty]: 0 files, 1 dirs, 0 data, 0 bytes, 0 dead
1 [adm]: 1 files, 1 dirs, 1 data, 41 bytes, 0 dead
3 [v1]: 3 files, 2 dirs, 5 data, 65543 bytes, 0 dead
5 [main]: 3 files, 2 dirs, 5 data, 65543 bytes, 3 dead
7 [f1]: 3 files, 2 dirs, 5 data, 65542 bytes, 0 dead
9 [fork]: 3 files, 2 dirs, 5 data, 65542 bytes, 1 dead
`; got != want {
		t.Errorf("snapshots:\n%swant\n%s", got, want)
	}
}
