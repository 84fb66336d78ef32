package check

import (
	"fmt"
	"sort"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A forest is what the snapshot tree says.
type forest struct {
	snaps []*snapshot // by generation
	byGen map[blkfmt.Gen]*snapshot
	dead  []deadlist // by snapshot, then birth
	used  map[string]*used
}

// A snapshot is one of them, with what is known of it.
type snapshot struct {
	tree
	rec      kvfmt.Tree
	labels   []string
	mutable  bool
	refs     int  // snapshots that have it as predecessor
	readable bool // every node can be read and is in its place
	listed   int64

	checked            bool
	files, dirs, ndata int64
	bytes              uint64
}

type deadlist struct {
	gen, birth blkfmt.Gen
	kvfmt.Dlist
}

// loadForest checks the snapshot tree, what it says of snapshots and labels, and each snapshot's
// tree.
func (x *run) loadForest() {
	st := &tree{name: "snapshot tree", snap: true, gen: blkfmt.NoGen, root: x.super.Snap, ht: x.super.SnapHt}
	if !x.checkTree(st) {
		x.rep.Complete = false
		x.say(Unchecked, Note, "parts of the snapshot tree cannot be read: there may be more snapshots")
	}
	f := &x.forest
	f.byGen = map[blkfmt.Gen]*snapshot{}
	f.used = map[string]*used{}
	type label struct {
		name string
		kvfmt.Label
	}
	var labels []label
	c := x.newCursor(st)
	c.onErr = x.badMessage(st)
	c.each(func(k, v []byte) bool {
		switch k[0] {
		case kvfmt.Klabel:
			if l, err := kvfmt.GetLabel(v); err == nil {
				labels = append(labels, label{string(k[1:]), l})
			}
		case kvfmt.Ksnap:
			gen, err := kvfmt.GetSnapKey(k)
			t, err2 := kvfmt.GetTree(v)
			if err != nil || err2 != nil { // reported where it stands
				x.rep.Complete = false
				return true
			}
			if t.Gen != gen {
				x.say(SnapGen, Error, "snapshot %d says that it is %d", gen, t.Gen)
			}
			s := &snapshot{rec: t}
			s.gen, s.root, s.ht = gen, t.Root, int(t.Ht)
			f.snaps = append(f.snaps, s)
			f.byGen[gen] = s
		case kvfmt.Kdlist:
			gen, birth, err := kvfmt.GetDlistKey(k)
			d, err2 := kvfmt.GetDlist(v)
			if err != nil || err2 != nil {
				x.rep.Complete = false
				return true
			}
			f.dead = append(f.dead, deadlist{gen, birth, d})
		case kvfmt.Kconf:
			f.quotaRecord(x, k, v)
		}
		return true
	})
	named := make(map[string]bool)
	for _, l := range labels {
		s := f.byGen[l.Gen]
		if s == nil {
			x.say(LabelDangling, Error, "label %.100q: there is no snapshot %d", l.name, l.Gen)
			continue
		}
		named[l.name] = true
		s.labels = append(s.labels, l.name)
		s.mutable = s.mutable || l.Flags&kvfmt.LabelMutable != 0
	}
	for _, l := range []struct {
		name string
		sev  Severity
		lack string
	}{
		{"adm", Error, "there is no users file"},
		{"main", Error, "who attaches without naming a tree finds none"},
		{"empty", Note, "no hierarchy can be begun from nothing"},
	} {
		if !named[l.name] {
			x.say(LabelMissing, l.sev, "no snapshot is labelled %s: %s", l.name, l.lack)
		}
	}
	for _, s := range f.snaps {
		s.name = fmt.Sprintf("#%d", s.gen)
		if len(s.labels) > 0 {
			s.name = printable(s.labels[0])
		}
	}
	x.checkLinks()
	for _, s := range f.snaps {
		s.readable = x.checkTree(&s.tree)
	}
}

// checkLinks checks the snapshots against each other. Generation 0 is the root of all: its own
// predecessor.
func (x *run) checkLinks() {
	f := &x.forest
	for _, s := range f.snaps {
		r := s.rec
		if s.gen < 0 || s.gen >= x.super.NextGen {
			x.say(SnapGen, Error, "%s: generation %d, the next to be handed out is %d", s.title(), s.gen, x.super.NextGen)
		}
		if r.Base > s.gen || r.Base < 0 || r.Base == s.gen && s.gen != 0 {
			x.say(SnapBase, Error, "%s: its fork point is %d", s.title(), r.Base)
		}
		if p := f.byGen[r.Pred]; p == nil {
			x.say(SnapPred, Error, "%s: its predecessor %d is not there", s.title(), r.Pred)
		} else if r.Pred == s.gen && s.gen != 0 || r.Pred > s.gen {
			x.say(SnapPred, Error, "%s: its predecessor is %d, not older", s.title(), r.Pred)
		} else if p != s {
			p.refs++
		}
		if r.Succ == blkfmt.NoGen {
			continue
		}
		if n := f.byGen[r.Succ]; n == nil {
			x.say(SnapSucc, Error, "%s: its successor %d is not there", s.title(), r.Succ)
		} else if n == s || n.rec.Pred != s.gen {
			x.say(SnapSucc, Error, "%s: its successor %d has the predecessor %d", s.title(), r.Succ, n.rec.Pred)
		}
	}
	for _, s := range f.snaps {
		x.checkCount(s, "labels", int(s.rec.Nlbl), len(s.labels))
		x.checkCount(s, "references", int(s.rec.Nref), s.refs)
		if len(s.labels) == 0 && s.refs <= 1 {
			x.say(SnapStale, Note, "%s: no label, and %d snapshots derive from it: its removal is not finished", s.title(), s.refs)
		}
	}
}

func (x *run) checkCount(s *snapshot, what string, have, want int) {
	switch {
	case have < want:
		x.say(CountLow, Error, "%s: %d %s are recorded, there are %d", s.title(), have, what, want)
	case have > want:
		x.say(CountHigh, Leak, "%s: %d %s are recorded, there are %d", s.title(), have, what, want)
	}
}

// ruin reports whether s is a snapshot that nobody can see any more and from which none derives. Part
// of its tree may have been freed already, from the left, and of its deadlists: what is left must be
// sound, but need not make sense as files.
func (s *snapshot) ruin() bool { return len(s.labels) == 0 && s.refs == 0 && s.gen != 0 }

// title names s in texts.
func (s *snapshot) title() string {
	if len(s.labels) == 0 {
		return fmt.Sprintf("snapshot %d", s.gen)
	}
	return fmt.Sprintf("snapshot %d (%s)", s.gen, s.name)
}

// badMessage returns a cursor's onErr that reports.
func (x *run) badMessage(t *tree) func(blkfmt.Bptr, kvfmt.Msg, error) {
	return func(p blkfmt.Bptr, m kvfmt.Msg, err error) {
		if x.once(BadMessage, p.Addr, string(m.Key)) {
			x.sayKey(BadMessage, Error, t, p.Addr, m.Key, "%v", err)
		}
	}
}

// order returns the snapshots so that most stand right behind the one they derive from, and differ
// little from the one before.
func (f *forest) order() []*snapshot {
	kids := map[blkfmt.Gen][]*snapshot{}
	var roots []*snapshot
	for _, s := range f.snaps {
		if f.byGen[s.rec.Pred] != nil && s.rec.Pred < s.gen {
			kids[s.rec.Pred] = append(kids[s.rec.Pred], s)
		} else {
			roots = append(roots, s)
		}
	}
	out := make([]*snapshot, 0, len(f.snaps))
	stack := roots
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		out = append(out, s)
		k := kids[s.gen]
		sort.Slice(k, func(i, j int) bool { return k[i].gen > k[j].gen })
		stack = append(stack, k...)
	}
	return out
}

// fillReport puts what is known of the snapshots in the report.
func (x *run) fillReport() {
	for _, s := range x.forest.snaps {
		x.rep.Snaps = append(x.rep.Snaps, SnapReport{
			Gen: s.gen, Labels: s.labels, Mutable: s.mutable,
			Pred: s.rec.Pred, Succ: s.rec.Succ, Base: s.rec.Base, Height: s.ht,
			Nlbl: int(s.rec.Nlbl), Nref: int(s.rec.Nref), Refs: s.refs, Dead: s.listed,
			Checked: s.checked, Files: s.files, Dirs: s.dirs, Data: s.ndata, Bytes: s.bytes,
		})
	}
}
