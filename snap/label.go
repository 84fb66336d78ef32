package snap

import (
	"fmt"
	"unicode/utf8"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// CheckName says whether name may be given to a new label. Errors wrap ErrReserved or ErrName.
func CheckName(name string) error {
	switch name {
	case Dump, Empty, Adm:
		return fmt.Errorf("snap: '%s': %w", name, ErrReserved)
	}
	if name == "" || len(name) > NameMax || !utf8.ValidString(name) || name == "." || name == ".." {
		return fmt.Errorf("snap: '%s': %w: 1 to %d bytes of UTF-8 are needed", name, ErrName, NameMax)
	}
	for _, r := range name {
		if r < ' ' || r == '/' || r == '%' || r == 0x7f {
			return fmt.Errorf("snap: '%s': %w: bad character %q", name, ErrName, r)
		}
	}
	return nil
}

// Label gives the snapshot that the label old names now, with everything written so far, a second
// name. With mutable the new label names a fork, a snapshot of its own that can be written. Errors
// wrap ErrNoLabel, ErrExists, ErrReserved, ErrName; nothing has changed then. The caller has the
// mutation lock; the label is durable after the next commit. Source: tagsnap.
func (f *Forest) Label(old, name string, mutable bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.labels[old]
	if l == nil {
		return fmt.Errorf("snap: open '%s': %w", old, ErrNoLabel)
	}
	if f.labels[name] != nil {
		return fmt.Errorf("snap: %w '%s'", ErrExists, name)
	}
	if t := f.open[old]; t != nil {
		t.settle()
	}
	s := f.snaps[l.val.Gen]
	if !mutable {
		s.rec.Nlbl++
		f.mark(s)
		f.addLabel(name, kvfmt.Label{Gen: s.rec.Gen})
		return nil
	}
	succ := s.rec.Succ
	n := f.child(s, s.rec.Gen)
	if succ != blkfmt.NoGen {
		s.rec.Succ = succ // the line goes on where it went
	}
	f.addLabel(name, kvfmt.Label{Gen: n.rec.Gen, Flags: kvfmt.LabelMutable})
	return nil
}

// addLabel enters a label. f.mu is held.
func (f *Forest) addLabel(name string, val kvfmt.Label) {
	f.markLabel(name)
	f.labels[name] = &label{val: val}
	f.changed = true
}

// Delete removes the label; if nothing else needs the snapshot it named, its space comes back with
// the next commit. Errors wrap ErrNoLabel, ErrMounted, ErrReserved, or say what cannot be read; nothing
// has changed then, except with a *HalfError. The caller has the mutation lock and is inside an epoch.
// Source: delsnap.
func (f *Forest) Delete(g *epoch.Guard, name string) error {
	switch name {
	case Dump, Empty, Adm:
		return fmt.Errorf("snap: '%s': %w", name, ErrReserved)
	}
	f.mu.Lock()
	l := f.labels[name]
	switch {
	case l == nil:
		f.mu.Unlock()
		return fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
	case f.open[name] != nil:
		f.mu.Unlock()
		return fmt.Errorf("snap: %w: '%s'", ErrMounted, name)
	}
	f.mu.Unlock()
	s := f.snaps[l.val.Gen]
	r := removal{f: f, g: g}
	if err := r.prune(s); err != nil {
		return err
	}
	f.mu.Lock()
	f.markLabel(name)
	delete(f.labels, name)
	s.rec.Nlbl--
	f.mark(s)
	f.changed = true
	f.mu.Unlock()
	if err := r.apply(); err != nil {
		return &HalfError{err}
	}
	return nil
}

// A HalfError says that a deletion has stopped in the middle, because the disk's bookkeeping contradicts
// itself: it must not be committed.
type HalfError struct{ Err error }

func (e *HalfError) Error() string { return "half a deletion: " + e.Err.Error() }

// Unwrap returns what stopped it.
func (e *HalfError) Unwrap() error { return e.Err }

// A removal is what a deletion will do. Everything is read before anything is done, so that a block
// that cannot be read leaves all as it was.
type removal struct {
	f    *Forest
	g    *epoch.Guard
	free []blkfmt.Bptr // blocks of trees
	own  []blkfmt.Bptr // blocks of deadlists
	then []func()      // what becomes of the mirror, in order
}

func (r *removal) apply() error {
	for _, bp := range r.own {
		if err := r.f.st.FreeOwn(bp); err != nil {
			return err
		}
	}
	for _, bp := range r.free {
		if err := r.f.st.Free(bp); err != nil {
			return err
		}
	}
	for _, fn := range r.then {
		fn()
	}
	return nil
}

// prune removes s, and what only s kept, if nobody needs it any more once it has a label less.
func (r *removal) prune(s *snapshot) error {
	f := r.f
	var gone *snapshot // child of s that goes too
	for nlbl := s.rec.Nlbl - 1; s.rec.Gen != 0 && nlbl == 0; nlbl = s.rec.Nlbl {
		var heir *snapshot
		heirs := 0
		for _, c := range s.children {
			if c != gone {
				heir = c
				heirs++
			}
		}
		pred, old := f.snaps[s.rec.Pred], s
		switch heirs {
		case 0:
			if err := r.fell(s); err != nil {
				return fmt.Errorf("free snapshot %d: %w", s.rec.Gen, err)
			}
			r.then = append(r.then, func() { f.remove(old, nil, pred) })
			if pred == nil {
				return nil
			}
			gone, s = s, pred
			continue
		case 1:
			if err := r.inherit(heir, s); err != nil {
				return fmt.Errorf("merge snapshot %d into %d: %w", s.rec.Gen, heir.rec.Gen, err)
			}
			r.then = append(r.then, func() { f.remove(old, heir, pred) })
		}
		return nil
	}
	return nil
}

// fell frees a snapshot from which no other was derived: the blocks that are younger than its pred
// are nobody else's, and those on its deadlists are still pred's.
func (r *removal) fell(s *snapshot) error {
	lists, err := r.f.listsOf(r.g, s)
	if err != nil {
		return err
	}
	for _, bgen := range sortedGens(lists) {
		if err := r.dispose(lists[bgen], nil); err != nil {
			return err
		}
	}
	return r.f.ownBlocks(r.g, s, s.rec.Pred, func(bp blkfmt.Bptr) { r.free = append(r.free, bp) })
}

// inherit gives the only child c what s leaves: c now lies next to s's pred.
func (r *removal) inherit(c, s *snapshot) error {
	f := r.f
	mine, err := f.listsOf(r.g, s)
	if err != nil {
		return err
	}
	theirs, err := f.listsOf(r.g, c)
	if err != nil {
		return err
	}
	// Of the snapshot empty nobody needs to know what its heirs have dropped, as it never goes; but
	// not all that is as old is empty's.
	prev := s.rec.Pred
	ours := func(bp blkfmt.Bptr) bool { return f.younger(bp, prev) }
	theirOurs := ours
	if c.rec.Base == s.rec.Gen { // a fork
		dropped, err := f.missing(r.g, c, s)
		if err != nil {
			return err
		}
		r.free = append(r.free, dropped...)
		theirOurs = nil // they are among the missing
	}
	for _, bgen := range sortedGens(theirs) {
		if bgen > prev || prev == 0 {
			if err := r.dispose(theirs[bgen], theirOurs); err != nil {
				return err
			}
		}
	}
	for _, bgen := range sortedGens(mine) {
		if bgen > prev || prev == 0 {
			if err := r.dispose(mine[bgen], ours); err != nil {
				return err
			}
			continue
		}
		d := theirs[bgen]
		if d == nil {
			d = newDeadlist(c.rec.Gen, bgen)
		}
		if err := r.move(d, mine[bgen]); err != nil {
			return err
		}
		r.then = append(r.then, func() { theirs[bgen] = d })
	}
	return nil
}

// missing returns the blocks of s, younger than its pred, that its child c does not reach. A fork of
// the reference keeps no list of what it drops that is older than itself, so they are found by
// walking both.
func (f *Forest) missing(g *epoch.Guard, c, s *snapshot) ([]blkfmt.Bptr, error) {
	f.mu.Lock()
	for _, t := range f.open {
		if t.snap == c {
			t.settle()
		}
	}
	f.mu.Unlock()
	kept := make(map[blkfmt.Addr]bool)
	err := f.ownBlocks(g, c, s.rec.Pred, func(bp blkfmt.Bptr) { kept[bp.Addr] = true })
	if err != nil {
		return nil, err
	}
	var list []blkfmt.Bptr
	err = f.ownBlocks(g, s, s.rec.Pred, func(bp blkfmt.Bptr) {
		if !kept[bp.Addr] {
			list = append(list, bp)
		}
	})
	return list, err
}

// remove takes s out of the forest. heir, its only child, if any, becomes pred's.
func (f *Forest) remove(s, heir, pred *snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gen := s.rec.Gen
	for _, d := range s.lists {
		f.markList(d)
	}
	f.mark(s)
	delete(f.snaps, gen)
	f.changed = true
	if heir != nil {
		heir.rec.Pred = s.rec.Pred
		heir.rec.Base = min(heir.rec.Base, s.rec.Pred)
		f.mark(heir)
	}
	if pred == nil {
		return
	}
	f.mark(pred)
	pred.disown(s)
	if heir != nil {
		pred.adopt(heir)
	}
	if pred.rec.Succ == gen {
		pred.rec.Succ = blkfmt.NoGen
		for c := range pred.children {
			pred.rec.Succ = max(pred.rec.Succ, c)
		}
		if heir != nil {
			pred.rec.Succ = heir.rec.Gen
		}
	}
}
