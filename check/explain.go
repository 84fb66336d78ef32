package check

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// How much is looked for: a report is for reading.
const (
	maxPaths   = 8    // of a problem
	maxOccurs  = 64   // wanted blocks remembered below one node
	maxSnaps   = 64   // snapshots in which paths are looked for
	maxPath    = 4096 // bytes
	maxNames   = 4096 // files for which names are looked for in one snapshot
	unresolved = "(qid %d)"
)

// A fileRef is files of a snapshot.
type fileRef struct {
	gen blkfmt.Gen
	qidRange
}

// A qidRange is the files whose qids are in [lo, hi], or the entries of those that are directories.
// If it is more than one qid, the files that have no data are left out.
type qidRange struct {
	lo, hi  uint64
	entries bool
}

// keyRange is the file that k belongs to. Of an entry that is the directory it is in.
func keyRange(k []byte) qidRange {
	if len(k) < 9 || k[0] > kvfmt.Kup {
		return qidRange{0, math.MaxUint64, true}
	}
	q := binary.BigEndian.Uint64(k[1:])
	return qidRange{q, q, k[0] != kvfmt.Kdat}
}

// keyRanges are the files whose data, entries or parents may be at keys from lo to before hi. A nil
// hi is the end of the tree.
func keyRanges(lo, hi []byte) []qidRange {
	var rs []qidRange
	for _, kind := range []byte{kvfmt.Kdat, kvfmt.Kent, kvfmt.Kup} {
		if len(lo) > 0 && lo[0] > kind || len(hi) > 0 && hi[0] < kind {
			continue
		}
		r := qidRange{0, math.MaxUint64, kind != kvfmt.Kdat}
		if len(lo) >= 9 && lo[0] == kind {
			r.lo = binary.BigEndian.Uint64(lo[1:])
		}
		if len(hi) >= 9 && hi[0] == kind {
			r.hi = binary.BigEndian.Uint64(hi[1:])
			if len(hi) == 9 || strings.Trim(string(hi[9:]), "\x00") == "" {
				if r.hi == r.lo { // nothing of this kind is below hi
					continue
				}
				r.hi--
			}
		} else if len(hi) > 0 && hi[0] == kind {
			continue
		}
		rs = append(rs, r)
	}
	return rs
}

// An occur is a wanted block where a tree points at it, with the keys that are there.
type occur struct {
	addr   blkfmt.Addr
	lo, hi string // of a data block: its key, twice
}

// explain gives the problems the paths of the files that they concern.
func (x *run) explain() {
	wanted := map[blkfmt.Addr][]int{} // problems by block
	byGen := map[blkfmt.Gen]map[qidRange][]int{}
	want := func(i int, f fileRef) {
		m := byGen[f.gen]
		if m == nil {
			m = map[qidRange][]int{}
			byGen[f.gen] = m
		}
		if l := m[f.qidRange]; len(l) == 0 || l[len(l)-1] != i {
			m[f.qidRange] = append(l, i)
		}
	}
	for i := range x.rep.Problems {
		p := &x.rep.Problems[i]
		for _, f := range p.refs {
			want(i, f)
		}
		if len(p.refs) == 0 && p.Addr != blkfmt.NoAddr && p.Severity >= Error {
			if u := x.use(p.Addr); u == ownNode || u == ownData || p.Kind == BadAddress {
				wanted[p.Addr] = append(wanted[p.Addr], i)
			}
		}
	}
	if len(wanted) > 0 {
		memo := map[blkfmt.Addr][]occur{}
		for _, s := range x.forest.snaps {
			for _, o := range x.occurs(s.root, s.ht-1, "", "", wanted, memo) {
				rs := keyRanges([]byte(o.lo), []byte(o.hi))
				if o.lo == o.hi && o.lo != "" {
					rs = []qidRange{keyRange([]byte(o.lo))}
				}
				for _, i := range wanted[o.addr] {
					for _, r := range rs {
						want(i, fileRef{s.gen, r})
					}
				}
			}
		}
	}
	snaps := 0
	for _, s := range x.forest.snaps {
		m := byGen[s.gen]
		if m == nil {
			continue
		}
		if snaps++; snaps > maxSnaps {
			for _, is := range m {
				for _, i := range is {
					x.rep.Problems[i].MorePaths++
				}
			}
			continue
		}
		x.name(s, m)
	}
}

// occurs returns where wanted blocks are pointed at from the tree at p, whose keys are in [lo, hi).
func (x *run) occurs(p blkfmt.Bptr, level int, lo, hi string, wanted map[blkfmt.Addr][]int, memo map[blkfmt.Addr][]occur) []occur {
	var out []occur
	add := func(os ...occur) {
		for _, o := range os {
			if len(out) < maxOccurs {
				out = append(out, o)
			}
		}
	}
	if wanted[p.Addr] != nil {
		add(occur{p.Addr, lo, hi})
	}
	if level < 0 {
		return out
	}
	below, ok := memo[p.Addr]
	if !ok {
		memo[p.Addr] = nil // a circle ends here
		if n, err := x.nodeAt(p, level); err == nil {
			below = x.occursIn(n, level, hi, wanted, memo)
		}
		memo[p.Addr] = below
	}
	add(below...)
	return out
}

func (x *run) occursIn(n kvfmt.Node, level int, hi string, wanted map[blkfmt.Addr][]int, memo map[blkfmt.Addr][]occur) []occur {
	var out []occur
	data := func(k, v []byte) {
		if k[0] != kvfmt.Kdat {
			return
		}
		if bp, err := kvfmt.GetDatVal(v); err == nil && wanted[bp.Addr] != nil && len(out) < maxOccurs {
			out = append(out, occur{bp.Addr, string(k), string(k)})
		}
	}
	if n.Leaf() {
		for i := range n.Nval() {
			data(n.Val(i))
		}
		return out
	}
	for i := range n.Nbuf() {
		if m := n.Msg(i); m.Op == kvfmt.Insert {
			data(m.Key, m.Val)
		}
	}
	for i := range n.Nval() {
		child, _ := n.Child(i)
		next := hi
		if i+1 < n.Nval() {
			next = string(n.Key(i + 1))
		}
		for _, o := range x.occurs(child, level-1, string(n.Key(i)), next, wanted, memo) {
			if len(out) < maxOccurs {
				out = append(out, o)
			}
		}
	}
	return out
}

// A named is a directory entry, as far as paths need it.
type named struct {
	parent uint64
	name   string
	dir    bool
	data   bool
}

// name adds the paths of the files of s in the ranges of m to the problems that m gives for them.
func (x *run) name(s *snapshot, m map[qidRange][]int) {
	ranges := make([]qidRange, 0, len(m))
	for r := range m {
		ranges = append(ranges, r)
	}
	sort.Slice(ranges, func(i, j int) bool {
		a, b := ranges[i], ranges[j]
		if a.lo != b.lo {
			return a.lo < b.lo
		}
		return a.hi < b.hi || a.hi == b.hi && !a.entries && b.entries
	})
	names, dirs := x.names(s, ranges), map[uint64]*named{}
	qids := make([]uint64, 0, len(names))
	for q := range names {
		qids = append(qids, q)
	}
	sort.Slice(qids, func(i, j int) bool { return qids[i] < qids[j] })
	for _, r := range ranges {
		add := func(path string) {
			if r.entries {
				path += "/"
			}
			for _, i := range m[r] {
				switch p := &x.rep.Problems[i]; {
				case slices.Contains(p.Paths, path):
				case len(p.Paths) >= maxPaths:
					p.MorePaths++
				default:
					p.Paths = append(p.Paths, path)
				}
			}
		}
		found := false
		for _, q := range qids[sort.Search(len(qids), func(i int) bool { return qids[i] >= r.lo }):] {
			if q > r.hi {
				break
			}
			for _, n := range names[q] {
				if r.entries && n.dir || !r.entries && (r.lo == r.hi || n.data && !n.dir) {
					add(x.pathOf(s, n, names, dirs))
					found = true
				}
			}
		}
		switch {
		case found:
		case r.lo == r.hi && r.lo != kvfmt.RootPqid:
			add(fmt.Sprintf("%s/"+unresolved, s.name, r.lo))
		default: // some of it, if anything; the entries are what cannot be read
			r.entries = true
			add(s.name)
		}
	}
}

// names returns the entries of the files in the ranges, which are sorted by lo.
func (x *run) names(s *snapshot, ranges []qidRange) map[uint64][]named {
	var one, data, dirs []qidRange // each disjoint and ascending
	for _, r := range ranges {
		l := &data
		if r.entries {
			l = &dirs
		} else if r.lo == r.hi {
			l = &one
		}
		if n := len(*l); n > 0 && r.lo <= (*l)[n-1].hi {
			(*l)[n-1].hi = max((*l)[n-1].hi, r.hi)
		} else {
			*l = append(*l, r)
		}
	}
	in := func(l []qidRange, qid uint64) bool {
		i := sort.Search(len(l), func(i int) bool { return l[i].hi >= qid })
		return i < len(l) && l[i].lo <= qid
	}
	names := map[uint64][]named{}
	n := 0
	x.seekCursor(&s.tree, []byte{kvfmt.Kent}).each(func(k, v []byte) bool {
		if k[0] != kvfmt.Kent {
			return k[0] < kvfmt.Kent
		}
		e, err := kvfmt.GetEnt(k)
		d, err2 := kvfmt.GetDir(v)
		if err != nil || err2 != nil {
			return true
		}
		q, dir := d.Qid.Path, d.Mode&dmdir != 0
		if in(one, q) || dir && in(dirs, q) || !dir && d.Length > 0 && in(data, q) {
			names[q] = append(names[q], named{e.Pqid, e.Name, dir, d.Length > 0})
			n++
		}
		return n < maxNames
	})
	return names
}

// pathOf returns snapshot/path of n. A directory finds its own entry by its Kup record; dirs keeps
// those found.
func (x *run) pathOf(s *snapshot, n named, names map[uint64][]named, dirs map[uint64]*named) string {
	path, size := []string{}, 0
	way := map[uint64]bool{}
	for n.parent != kvfmt.RootPqid {
		path = append(path, n.name)
		up, ok := dirs[n.parent]
		if !ok {
			up = x.dirEntry(s, n.parent)
			if l := names[n.parent]; up == nil && len(l) > 0 && l[0].dir {
				up = &l[0]
			}
			dirs[n.parent] = up
		}
		if size += len(n.name) + 1; up == nil || way[n.parent] || size > maxPath {
			path = append(path, fmt.Sprintf(unresolved, n.parent))
			break
		}
		way[n.parent] = true
		n = *up
	}
	path = append(path, s.name)
	slices.Reverse(path)
	return strings.Join(path, "/")
}

// dirEntry returns the entry of a directory, nil if it does not know it.
func (x *run) dirEntry(s *snapshot, qid uint64) (n *named) {
	key := kvfmt.AppendUpKey(nil, qid)
	x.seekCursor(&s.tree, key).each(func(k, v []byte) bool {
		if kvfmt.Compare(k, key) == 0 {
			if e, err := kvfmt.GetEnt(v); err == nil {
				n = &named{parent: e.Pqid, name: e.Name, dir: true}
			}
		}
		return false
	})
	return n
}
