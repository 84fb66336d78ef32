package salvage

import (
	"cmp"
	"maps"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A snapshot is a tree of files.
type snapshot struct {
	kvfmt.Tree
	tree tree
	sure bool   // its record is
	root uint64 // qid of its root directory
}

// A label is a name of a snapshot.
type label struct {
	name string
	kvfmt.Label
	snap *snapshot // nil if its record is lost
}

// A visit is what mark knows of a node.
type visit struct {
	hash uint64
	ok   bool // it could be read
}

// Names and qids that ream gives. Source: section 14 of the format.
const (
	labelMain = "main"
	labelAdm  = "adm"
	rootMain  = 0
	rootAdm   = 1
)

// loadForest reads labels and snapshots and goes through all nodes of their trees, to find out which
// are missing and, once there is an index, whose the others are.
func (x *run) loadForest() error {
	x.rep.LostNodes = 0
	clear(x.visited)
	clear(x.patches)
	x.snapTree = tree{kind: snaps, top: child{blkfmt.NoPtr, blkfmt.MaxHeight, true}}
	switch {
	case x.super != nil:
		x.snapTree.top = child{x.super.Snap, x.super.SnapHt - 1, true}
	case x.ix == nil:
		return nil
	default:
		// A single whole tree that may be in use is the tree of snapshots of some commit.
		nowhere := x.snapTree.top
		p := x.patch(&x.snapTree, nowhere, nil, nil)
		if len(p.tiles) == 1 && !p.tiles[0].lost && p.tiles[0].rank.class != stale {
			x.snapTree.top = child{p.tiles[0].ptr, p.tiles[0].level, true}
			if err := x.readForest(); err != nil {
				return err
			}
			if !x.forestComplete() {
				x.snapTree.top = nowhere // it is only a part of one
			}
		}
	}
	x.mark(&x.snapTree, blkfmt.NoGen)
	if err := x.readForest(); err != nil {
		return err
	}
	x.nameRoots()
	for _, g := range slices.Sorted(maps.Keys(x.snaps)) {
		x.mark(&x.snaps[g].tree, g)
	}
	x.findTops()
	return x.stop
}

// forestComplete reports whether what every tree of snapshots has is there: adm, and a record for each
// label.
func (x *run) forestComplete() bool {
	adm := false
	for _, l := range x.labels {
		adm = adm || l.name == labelAdm
		if x.snaps[l.Gen] == nil {
			return false
		}
	}
	return adm
}

// readForest reads labels and snapshots.
func (x *run) readForest() error {
	x.snaps, x.labels = map[blkfmt.Gen]*snapshot{}, nil
	return x.scan(&x.snapTree, nil, nil, func(key, val []byte, sure bool) error {
		switch key[0] {
		case kvfmt.Klabel:
			if l, err := kvfmt.GetLabel(val); err == nil {
				x.labels = append(x.labels, &label{name: string(key[1:]), Label: l})
			}
		case kvfmt.Ksnap:
			if t, err := kvfmt.GetTree(val); err == nil {
				x.snaps[t.Gen] = x.newSnapshot(t, sure)
			}
		}
		return nil
	}, nil)
}

func (x *run) newSnapshot(t kvfmt.Tree, sure bool) *snapshot {
	s := &snapshot{Tree: t, sure: sure}
	s.tree = tree{kind: files, top: child{t.Root, int(t.Ht) - 1, sure}, snap: s}
	return s
}

// nameRoots puts labels and snapshots together, and says which root directory each snapshot has.
func (x *run) nameRoots() {
	for _, l := range x.labels {
		if l.snap = x.snaps[l.Gen]; l.snap != nil && l.name == labelAdm {
			l.snap.root = rootAdm
		}
	}
	for _, s := range x.snaps {
		if v, sure := x.lookup(&s.tree, rootKey); sure {
			if d, err := kvfmt.GetDir(v); err == nil {
				s.root = d.Qid.Path
			}
		}
	}
	slices.SortStableFunc(x.labels, func(a, b *label) int {
		first := func(l *label) int {
			switch {
			case l.name == labelMain:
				return 0
			case l.name == labelAdm:
				return 1
			case l.Flags&kvfmt.LabelMutable != 0:
				return 2
			}
			return 3
		}
		return cmp.Compare(first(a), first(b))
	})
}

// findTops looks for the roots of snapshots whose records are lost, or may be of an earlier commit. An
// immutable one has not changed since, whatever its record's age.
func (x *run) findTops() {
	if x.ix == nil || !x.inDoubt() {
		return
	}
	x.note("a part of the tree of snapshots is lost: there may have been more labels")
	have := map[string]bool{}
	mutable := 0
	for _, l := range x.labels {
		if have[l.name] = true; l.Flags&kvfmt.LabelMutable != 0 && l.name != labelAdm {
			mutable++
		}
	}
	for _, name := range []string{labelMain, labelAdm} {
		if !have[name] {
			x.labels = append(x.labels, &label{name: name, Label: kvfmt.Label{Gen: blkfmt.NoGen, Flags: kvfmt.LabelMutable}})
			mutable++
		}
	}
	for _, l := range x.labels {
		if l.Flags&kvfmt.LabelMutable == 0 || l.snap != nil && l.snap.sure {
			continue
		}
		// The record may be of an earlier state. With only one label that moves, what no other tree has is
		// its; with several nobody can tell, and the record is all there is.
		if s := l.snap; s != nil && (l.name == labelAdm || mutable > 1) {
			if _, ok := x.node(s.Root, int(s.Ht)-1); ok {
				continue
			}
		}
		root := uint64(rootMain)
		if l.name == labelAdm {
			root = rootAdm
		} else if l.snap != nil {
			root = l.snap.root
		}
		l.snap = x.newSnapshot(kvfmt.Tree{Gen: blkfmt.NoGen, Pred: blkfmt.NoGen, Root: blkfmt.NoPtr, Ht: blkfmt.MaxHeight + 1}, false)
		l.snap.root = root
	}
}

// inDoubt reports whether something of the tree of snapshots is missing.
func (x *run) inDoubt() bool {
	lost := false
	x.scan(&x.snapTree, nil, nil, func([]byte, []byte, bool) error { return nil }, func(child, []byte, []byte, *patch) error {
		lost = true
		return errEnough
	})
	return lost
}

// mark goes through the nodes of t, those that were not gone through yet.
func (x *run) mark(t *tree, gen blkfmt.Gen) {
	if t.top.ptr.Addr != blkfmt.NoAddr {
		x.markNode(t.top.ptr, t.top.level, gen)
	}
}

func (x *run) markNode(p blkfmt.Bptr, level int, gen blkfmt.Gen) {
	if v, ok := x.visited[p.Addr]; ok && v.hash == p.Hash || x.stop != nil {
		return
	}
	n, ok := x.node(p, level)
	if x.stop != nil {
		return
	}
	x.visited[p.Addr] = visit{p.Hash, ok}
	if !ok {
		x.rep.LostNodes++
		return
	}
	if x.ix != nil {
		if r := x.ix.find(p); r != nil {
			r.reached, r.owner, r.gen = true, gen, p.Gen
		}
		x.markData(n)
	}
	if n.Leaf() {
		return
	}
	for i := range n.Nval() {
		c, _ := n.Child(i)
		x.markNode(c, level-1, gen)
	}
}

// markData notes which of the nodes found are the data of files: images of disks, for example.
func (x *run) markData(n kvfmt.Node) {
	look := func(key, val []byte) {
		if len(key) == 0 || key[0] != kvfmt.Kdat {
			return
		}
		if p, err := kvfmt.GetDatVal(val); err == nil {
			if r := x.ix.find(p); r != nil {
				r.isData = true
			}
		}
	}
	if n.Leaf() {
		for i := range n.Nval() {
			look(n.Val(i))
		}
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		look(m.Key, m.Val)
	}
}

// holes calls fn for each hole of t that lies in an intact node, with the keys it spans.
func (x *run) holes(t *tree, fn func(c child, lo, hi []byte)) {
	if !t.top.sure || t.top.ptr.Addr == blkfmt.NoAddr {
		fn(t.top, nil, nil)
		return
	}
	x.nodeHoles(t.top, nil, nil, fn)
}

func (x *run) nodeHoles(c child, lo, hi []byte, fn func(c child, lo, hi []byte)) {
	if x.stop != nil {
		return
	}
	if c.level == 0 {
		if v, ok := x.visited[c.ptr.Addr]; ok && v.hash == c.ptr.Hash && v.ok {
			return
		}
	}
	n, ok := x.node(c.ptr, c.level)
	switch {
	case !ok:
		fn(c, lo, hi)
		return
	case n.Leaf():
		return
	}
	for i := range n.Nval() {
		from, to := n.Key(i), hi
		if i == 0 {
			from = lo
		}
		if i+1 < n.Nval() {
			to = n.Key(i + 1)
		}
		p, _ := n.Child(i)
		x.nodeHoles(child{p, c.level - 1, c.sure}, from, to, fn)
	}
}
