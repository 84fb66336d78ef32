package salvage

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A patch is what stands in for a node that cannot be read: nodes found by the scan, in the order of
// their keys and without overlap.
type patch struct{ tiles []tile }

// A tile is one node of a patch.
type tile struct {
	ptr         blkfmt.Bptr
	level       int
	first, last []byte
	rank        rank
	lost        bool // something below it was not found
}

// A patchKey says which hole a patch is for.
type patchKey struct {
	ptr    blkfmt.Bptr
	lo, hi string
	end    bool // hi is the end
	snap   *snapshot
}

// A class says how likely it is that a node is of the state that is looked for.
type class uint8

const (
	stale    class = iota // free by the log: an older version
	anyone                // nobody knows whether it is in use
	shared                // another snapshot's, and old enough to be shared
	orphaned              // in use, and no tree that can be read has it
)

// A rank orders the candidates for a hole.
type rank struct {
	class class
	clock clock
	level int8
}

// patch returns what stands in for c, a hole of t whose keys are in [lo, hi).
func (x *run) patch(t *tree, c child, lo, hi []byte) *patch {
	if x.ix == nil {
		return &patch{}
	}
	key := patchKey{c.ptr, string(lo), string(hi), hi == nil, t.snap}
	p := x.patches[key]
	if p == nil {
		p = x.makePatch(t, c, lo, hi)
		x.patches[key] = p
	}
	return p
}

func (x *run) makePatch(t *tree, c child, lo, hi []byte) *patch {
	ix := x.ix
	type candidate struct {
		r    *record
		rank rank
	}
	var cs []candidate
	i := sort.Search(len(ix.byKey), func(i int) bool { return kvfmt.Compare(ix.key(ix.recs[ix.byKey[i]].first), lo) >= 0 })
	for ; i < len(ix.byKey); i++ {
		r := &ix.recs[ix.byKey[i]]
		if !below(ix.key(r.first), hi) {
			break
		}
		if cl, ok := x.candidate(t, c, r); ok {
			cs = append(cs, candidate{r, rank{cl, r.clock, r.level}})
		}
	}
	slices.SortStableFunc(cs, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.rank.class, a.rank.class), b.rank.clock.compare(a.rank.clock), cmp.Compare(b.rank.level, a.rank.level))
	})
	p := &patch{}
	for _, c := range cs {
		first, last := ix.key(c.r.first), ix.key(c.r.last)
		at := sort.Search(len(p.tiles), func(i int) bool { return kvfmt.Compare(p.tiles[i].first, first) >= 0 })
		if at > 0 && kvfmt.Compare(p.tiles[at-1].last, first) >= 0 || at < len(p.tiles) && kvfmt.Compare(last, p.tiles[at].first) >= 0 {
			continue
		}
		if c.r.level == 0 && x.foreign(c.r) {
			continue
		}
		p.tiles = slices.Insert(p.tiles, at, tile{ptr: blkfmt.Bptr{Addr: c.r.addr, Hash: c.r.hash, Gen: blkfmt.NoGen},
			level: int(c.r.level), first: first, last: last, rank: c.rank, lost: c.r.lost})
	}
	return p
}

// candidate reports whether r may stand in for c, or a part of it, and how likely it is.
func (x *run) candidate(t *tree, c child, r *record) (class, bool) {
	if r.kind&t.kind == 0 || r.level < 0 || int(r.level) > c.level || r.isData {
		return 0, false
	}
	if s := t.snap; s != nil {
		if r.root != noRoot && r.root != s.root || c.ptr.Gen != blkfmt.NoGen && r.clock.gen > c.ptr.Gen {
			return 0, false
		}
		if r.reached {
			return shared, r.gen <= x.common(s.Gen, r.owner)
		}
	} else if r.reached {
		return 0, false // it has its place in the tree
	}
	switch x.use(r.addr) {
	case inUse:
		return orphaned, true
	case isFree:
		return stale, true
	}
	return anyone, true
}

// foreign reports whether the leaf r is one of another disk, an image of which is a file on this one
// whose own records are lost: it points at data, and none of that is where it says.
func (x *run) foreign(r *record) bool {
	n, ok := x.node(blkfmt.Bptr{Addr: r.addr, Hash: r.hash}, 0)
	if !ok {
		return true // it has changed since the scan
	}
	const tries = 8
	tried := 0
	for i := 0; i < n.Nval() && tried < tries; i++ {
		k, v := n.Val(i)
		if len(k) == 0 || k[0] != kvfmt.Kdat {
			break
		}
		if p, err := kvfmt.GetDatVal(v); err == nil {
			if _, ok := x.data(p); ok {
				return false
			}
			tried++
		}
	}
	return tried > 0
}

// common returns the generation up to which the snapshots a and b can have blocks in common. Where the
// records are lost that would tell, there is no limit.
func (x *run) common(a, b blkfmt.Gen) blkfmt.Gen {
	line := map[blkfmt.Gen]bool{}
	for g := a; !line[g]; {
		line[g] = true
		s := x.snaps[g]
		if s == nil {
			return math.MaxInt64
		}
		g = s.Pred
	}
	for n := 0; n <= len(x.snaps); n++ {
		if line[b] {
			return b
		}
		s := x.snaps[b]
		if s == nil {
			break
		}
		b = s.Pred
	}
	return math.MaxInt64
}
