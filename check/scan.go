package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A Mark is how far a scan of all live blocks has come. The zero Mark is the start. A Mark is good for
// any later state of the same disk.
//
// What is to be read is ordered: superblocks, arena headers and logs; the snapshot tree with the deadlists
// by key; then each snapshot, the one of the least generation first, by key. Of a snapshot only what
// is younger than its predecessor is read, as the rest is the predecessor's. A block that is live from the
// start to the end of a scan keeps its key, and if its snapshot goes, it is one of a greater generation
// that has it then; so the scan meets it, whatever happens meanwhile.
type Mark struct {
	Part Part
	Gen  blkfmt.Gen // of the snapshot, in PartFiles
	Key  []byte     // no key before it is left to be read
}

// A Part is a stage of a scan.
type Part uint8

// The parts, in order.
const (
	PartFixed Part = iota // superblocks, arena headers, logs
	PartSnaps             // the snapshot tree, deadlists
	PartFiles             // snapshots
)

// markKey is the length to which keys in a Mark's text are cut: a little is read twice then.
const markKey = 64

// String returns a text that ParseMark takes.
func (m Mark) String() string {
	return fmt.Sprintf("%d.%d.%x", m.Part, m.Gen, m.Key[:min(len(m.Key), markKey)])
}

// ParseMark reads what String has written.
func ParseMark(s string) (Mark, error) {
	var m Mark
	n, err := fmt.Sscanf(s, "%d.%d.%x", &m.Part, &m.Gen, &m.Key)
	if n == 2 { // the key is empty
		m.Key, err = nil, nil
	}
	if err != nil || m.Part > PartFiles || m.Gen < 0 || m.String() != s {
		return Mark{}, fmt.Errorf("%q is no mark of a scan", s)
	}
	return m, nil
}

// ScanOptions say how to scan.
type ScanOptions struct {
	// Super is the superblock of the state to be read, as whoever serves the disk knows it: on the device
	// both copies may be bad.
	Super blkfmt.Super
	// Stop is asked before each block whether the scan is to end here. It is told the number of blocks
	// read. A scan that is asked to stop at once reads something new all the same.
	Stop func(blocks int64) bool
}

// A ScanReport is what one Scan found.
type ScanReport struct {
	Next     Mark  // where the next one goes on
	Done     bool  // there is nothing left
	Blocks   int64 // read, the few on the way to where it went on included
	Problems []Problem
	Bad      int // of all problems, not only those listed, those that are errors or worse
}

// Scan reads live blocks of the device r, from mark on, and says which are not what the pointer to them
// or their own hash says. Unlike Run it compares nothing with anything else; but it can be done in pieces,
// while the disk changes between one and the next. Each piece reads r in one state, that of opt.Super.
// It fails when ctx is done, and is then to be done again from the same mark.
//
// A lost write is found too: what stands in its place is not what the pointer's hash says. Only blocks of
// logs and deadlists have no hash but their own.
func (c *Checker) Scan(ctx context.Context, r io.ReaderAt, size int64, opt ScanOptions, from Mark) (*ScanReport, error) {
	x := &run{
		c: c, ctx: ctx, r: r, size: size,
		opt:   Options{CacheBlocks: 256},
		rep:   &Report{Size: size, ByKind: map[Kind]int{}, Complete: true},
		nodes: map[blkfmt.Addr]*nodeInfo{},
		cache: map[blkfmt.Addr]cached{},
		said:  map[said]bool{},
		seed:  maphash.MakeSeed(),
		most:  int(size / blkfmt.BlkSize),
		super: &opt.Super,
		hash:  opt.Super.Hasher(),
	}
	x.buf = c.block()
	defer func() {
		for _, e := range x.cache {
			c.pool = append(c.pool, e.n)
		}
		c.pool = append(c.pool, x.buf)
	}()
	s := &scan{run: x, from: from, stop: opt.Stop, part: PartFixed}
	s.all()
	if x.stop != nil {
		return nil, x.stop
	}
	slices.SortStableFunc(x.forest.snaps, byFame)
	x.explain()
	if x.stop != nil {
		return nil, x.stop
	}
	return &ScanReport{
		Next: s.next, Done: !s.stopped, Blocks: x.nread,
		Problems: x.rep.Problems, Bad: x.rep.Found[Error] + x.rep.Found[Fatal],
	}, nil
}

// A scan is the state of one Scan.
type scan struct {
	*run
	from    Mark
	next    Mark
	stop    func(int64) bool
	stopped bool
	seen    int // blocks that were not only on the way to where it goes on

	t    *tree
	pred blkfmt.Gen // what is not younger than it is not read; 0 if all is
	part Part
}

// full reports whether the scan is to end before key. It does not end where it began: then the next one
// would too.
func (s *scan) full(key []byte) bool {
	if !s.stopped && s.run.stop == nil && s.seen > 0 && kvfmt.Compare(key, s.from.Key) > 0 && s.stop != nil && s.stop(s.nread) {
		s.stopped = true
		s.next = Mark{s.part, 0, bytes.Clone(key)}
		if s.part == PartFiles {
			s.next.Gen = s.t.gen
		}
	}
	return s.stopped || s.run.stop != nil
}

func (s *scan) all() {
	if s.from.Part == PartFixed {
		s.fixed()
		s.from = Mark{Part: PartSnaps}
	}
	st := &tree{name: "snapshot tree", snap: true, gen: blkfmt.NoGen, root: s.super.Snap, ht: s.super.SnapHt}
	if s.from.Part == PartSnaps {
		s.part = PartSnaps
		if !s.tree(st, 0) {
			return
		}
		s.from = Mark{Part: PartFiles}
	}
	s.listSnapshots(st)
	s.part = PartFiles
	from := s.from
	for _, sn := range s.forest.snaps {
		if sn.gen < from.Gen {
			continue
		}
		s.from.Key = nil
		if sn.gen == from.Gen {
			s.from.Key = from.Key
		}
		pred := sn.rec.Pred
		if pred >= sn.gen || s.forest.byGen[pred] == nil {
			pred = 0
		}
		if !s.tree(&sn.tree, pred) {
			return
		}
	}
}

// fixed reads what is found without the trees.
func (s *scan) fixed() {
	for _, a := range []blkfmt.Addr{0, blkfmt.BackupAddr(s.size)} {
		s.seen++
		err := s.read(s.buf, a)
		if err == nil {
			var on *blkfmt.Super
			if on, err = blkfmt.DecodeSuper(s.buf, s.super.Key, a); err == nil && on.Qgen != s.super.Qgen {
				err = fmt.Errorf("it is of commit %d, the disk is at %d", on.Qgen, s.super.Qgen)
			}
		}
		if err != nil {
			s.sayAt(SuperBad, Error, a, blkfmt.SuperBlk, "%v", err)
		}
	}
	_, ps, _ := s.loadArenas(s.super)
	for _, p := range ps {
		if p.Kind == HeaderStale {
			p.Severity = Error // for whoever wants it mended
		}
		s.problem(p)
	}
}

// listSnapshots fills in the forest, quietly: what is wrong with the snapshot tree was said when it was
// scanned.
func (s *scan) listSnapshots(st *tree) {
	f := &s.forest
	f.byGen = map[blkfmt.Gen]*snapshot{}
	labels := map[blkfmt.Gen][]string{}
	mutable := map[blkfmt.Gen]bool{}
	c := s.newCursor(st)
	c.each(func(k, v []byte) bool {
		switch k[0] {
		case kvfmt.Klabel:
			if l, err := kvfmt.GetLabel(v); err == nil {
				labels[l.Gen] = append(labels[l.Gen], string(k[1:]))
				mutable[l.Gen] = mutable[l.Gen] || l.Flags&kvfmt.LabelMutable != 0
			}
		case kvfmt.Ksnap:
			gen, err := kvfmt.GetSnapKey(k)
			rec, err2 := kvfmt.GetTree(v)
			if err == nil && err2 == nil && gen >= 0 {
				sn := &snapshot{rec: rec}
				sn.gen, sn.root, sn.ht = gen, rec.Root, int(rec.Ht)
				f.snaps = append(f.snaps, sn)
				f.byGen[gen] = sn
			}
		}
		return true
	})
	for _, sn := range f.snaps {
		sn.name, sn.labels, sn.mutable = fmt.Sprintf("#%d", sn.gen), labels[sn.gen], mutable[sn.gen]
		if len(sn.labels) > 0 {
			sn.name = printable(sn.labels[0])
		}
	}
	slices.SortFunc(f.snaps, func(a, b *snapshot) int { return int(a.gen - b.gen) })
}

// tree scans t from s.from.Key on. It reports whether it came to its end.
func (s *scan) tree(t *tree, pred blkfmt.Gen) bool {
	s.t, s.pred = t, pred
	if s.older(t.root) {
		return true
	}
	return s.node(t.root, t.ht-1, nil, nil)
}

// older reports whether what bp points at is the predecessor's too.
func (s *scan) older(bp blkfmt.Bptr) bool { return s.pred != 0 && bp.Gen <= s.pred }

// node scans the node at p with what is below, whose keys are in [lo, hi).
func (s *scan) node(p blkfmt.Bptr, level int, lo, hi []byte) bool {
	from := s.from.Key
	start := lo
	if kvfmt.Compare(start, from) < 0 {
		start = from
	}
	if s.full(start) {
		return false
	}
	n, err := s.nodeAt(p, level)
	if err != nil {
		s.seen++
		s.bad(err, p.Addr, nodeType(level), fmt.Sprintf("keys %v", bounds{lo, hi}), lo, keyRanges(lo, hi))
		return s.run.stop == nil
	}
	if n.Leaf() {
		for i := range n.Nval() {
			if k, v := n.Val(i); kvfmt.Compare(k, from) >= 0 && !s.pair(k, k, v) {
				return false
			}
		}
		s.seen++
		return true
	}
	mi := n.BufSearch(from)
	for i := range n.Nval() {
		k := n.Key(i)
		end := hi
		if i+1 < n.Nval() {
			end = n.Key(i + 1)
		}
		if end != nil && kvfmt.Compare(end, from) <= 0 {
			continue
		}
		// What is on its way to the child comes right before it, so that a scan that goes on inside of
		// the child has read all that was before; and one that ends here goes on before the child.
		at := k
		if i == 0 {
			at = lo
		}
		for ; mi < n.Nbuf() && (i+1 == n.Nval() || kvfmt.Compare(n.Msg(mi).Key, end) < 0); mi++ {
			if m := n.Msg(mi); m.Op == kvfmt.Insert && !s.pair(at, m.Key, m.Val) {
				return false
			}
		}
		if child, _ := n.Child(i); !s.older(child) && !s.node(child, level-1, k, end) {
			return false
		}
	}
	s.seen++
	return true
}

// pair scans what the value v of key k points at. If the scan is to end before, it goes on at the key at.
func (s *scan) pair(at, k, v []byte) bool {
	switch {
	case k[0] == kvfmt.Kdat && !s.t.snap:
		bp, err := kvfmt.GetDatVal(v)
		if err != nil || s.older(bp) {
			return true
		}
		if s.full(at) {
			return false
		}
		s.seen++
		if err = s.read(s.buf, bp.Addr); err == nil {
			if got := s.hash.Sum(s.buf); got != bp.Hash {
				err = &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Data, Want: bp.Hash, Got: got}
			}
		}
		if err != nil {
			s.bad(err, bp.Addr, blkfmt.Data, keyText(k), k, []qidRange{keyRange(k)})
		}
	case k[0] == kvfmt.Kdlist && s.t.snap:
		if d, err := kvfmt.GetDlist(v); err == nil {
			if s.full(at) {
				return false
			}
			s.seen++
			s.deadlist(keyText(k), d)
		}
	}
	return s.run.stop == nil
}

// deadlist reads the blocks of a deadlist.
func (s *scan) deadlist(name string, d kvfmt.Dlist) {
	seen := map[blkfmt.Addr]bool{}
	for at := d.Hd.Addr; at != blkfmt.NoAddr && !seen[at]; {
		seen[at] = true
		var h blkfmt.LogHdr
		err := s.read(s.buf, at)
		if err == nil {
			h, err = blkfmt.DecodeLogHdr(s.buf, blkfmt.Deadlist, s.hash, at)
		}
		if err == nil {
			_, err = logfmt.Dead(nil, s.buf[blkfmt.LogHdSize:blkfmt.LogHdSize+h.Size])
		}
		if err != nil {
			var ce *blkfmt.CorruptError
			if errors.As(err, &ce) && ce.What != "" {
				err = errors.New(ce.What)
			}
			s.sayErr(err, at, blkfmt.Deadlist, name)
			return
		}
		at = h.Chain.Addr
	}
}

// sharers is the number of snapshots whose names for a bad block are looked for.
const sharers = 4

// bad reports a block that the tree s.t has at key, and which concerns the files in rs.
func (s *scan) bad(err error, a blkfmt.Addr, t blkfmt.Type, what string, key []byte, rs []qidRange) {
	if s.run.stop != nil {
		return
	}
	n := len(s.rep.Problems)
	s.sayErr(err, a, t, s.t.name+": "+what)
	if len(s.rep.Problems) == n || s.t.snap {
		return
	}
	p := &s.rep.Problems[n]
	// People know a file by its name in what they work on; so that comes first.
	have := []*snapshot{}
	for _, sn := range s.forest.snaps {
		if sn.gen >= s.t.gen && s.reaches(sn, key, a) {
			have = append(have, sn)
		}
	}
	slices.SortStableFunc(have, byFame)
	if len(have) > 0 && len(have[0].labels) > 0 {
		have = slices.DeleteFunc(have, func(sn *snapshot) bool { return len(sn.labels) == 0 })
	}
	for i, sn := range have {
		if i >= sharers {
			p.MorePaths++
			continue
		}
		for _, r := range rs {
			p.refs = append(p.refs, fileRef{sn.gen, r})
		}
	}
}

// byFame orders snapshots: what people work on, what has a name, the rest.
func byFame(a, b *snapshot) int {
	rank := func(sn *snapshot) int {
		switch {
		case sn.mutable:
			return 0
		case len(sn.labels) > 0:
			return 1
		}
		return 2
	}
	return rank(a) - rank(b)
}

// reaches reports whether the tree of sn has the block at a on the way to key, or as its data.
func (s *scan) reaches(sn *snapshot, key []byte, a blkfmt.Addr) bool {
	data := func(k, v []byte) bool {
		if !bytes.Equal(k, key) || len(k) == 0 || k[0] != kvfmt.Kdat {
			return false
		}
		bp, err := kvfmt.GetDatVal(v)
		return err == nil && bp.Addr == a
	}
	p := sn.root
	for level := sn.ht - 1; level >= 0; level-- {
		if p.Addr == a {
			return true
		}
		n, err := s.nodeAt(p, level)
		if err != nil {
			return false
		}
		i, exact := n.Search(key)
		if n.Leaf() {
			if exact {
				return data(n.Val(i))
			}
			return false
		}
		for mi := n.BufSearch(key); mi < n.Nbuf(); mi++ {
			m := n.Msg(mi)
			if !bytes.Equal(m.Key, key) {
				break
			}
			if m.Op == kvfmt.Insert && data(m.Key, m.Val) {
				return true
			}
		}
		p, _ = n.Child(max(i, 0))
	}
	return false
}
