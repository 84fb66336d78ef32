package snap

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// A HalfError says that Reclaim has stopped in the middle of a piece, because the disk's bookkeeping
// contradicts itself: it must not be committed.
type HalfError struct{ Err error }

func (e *HalfError) Error() string { return "half a deletion: " + e.Err.Error() }

// Unwrap returns what stopped it.
func (e *HalfError) Unwrap() error { return e.Err }

// A merge is what becomes of a snapshot that goes, and of the only one derived from it. Everything is
// read before anything is done, so that a block that cannot be read leaves all as it was.
type merge struct {
	f    *Forest
	g    *epoch.Guard
	free []blkfmt.Bptr // blocks that only the snapshot had
	own  []blkfmt.Bptr // blocks of deadlists
	then []func()      // what becomes of the mirror, in order
}

// apply does it. The error is a *HalfError.
func (m *merge) apply() error {
	for _, bp := range m.own {
		if err := m.f.st.FreeOwn(bp); err != nil {
			return &HalfError{err}
		}
	}
	for _, bp := range m.free {
		if err := m.f.st.Free(bp); err != nil {
			return &HalfError{err}
		}
	}
	for _, fn := range m.then {
		fn()
	}
	return nil
}

// inherit gives c, derived from s and the only one that is, what s leaves: what s alone has becomes
// garbage, and c then lies next to s's pred. dropped are the blocks that s has and c has not, as found by
// comparing them, if c is doubtful.
func (m *merge) inherit(c, s *snapshot, dropped []blkfmt.Addr) error {
	f := m.f
	mine, err := f.listsOf(m.g, s)
	if err != nil {
		return err
	}
	theirs, err := f.listsOf(m.g, c)
	if err != nil {
		return err
	}
	prev := s.rec.Pred
	// Of the snapshot empty nobody needs to know what its heirs have dropped, as it never goes; but
	// not all that is as old is empty's.
	ours := func(bp blkfmt.Bptr) bool { return f.younger(bp, prev) }
	for _, bgen := range sortedGens(theirs) {
		d := theirs[bgen]
		switch {
		case bgen <= prev && prev != 0:
		case c.doubtful:
			err = m.dispose(d, nil) // what it should say is in dropped
		case bgen > prev:
			m.then = append(m.then, func() { f.discard(d) })
		default:
			err = m.dispose(d, ours)
		}
		if err != nil {
			return err
		}
	}
	for _, bgen := range sortedGens(mine) {
		src := mine[bgen]
		switch {
		case bgen > prev: // pred has nothing so young that s could have dropped it
			err = m.dispose(src, nil)
		case prev == 0:
			err = m.dispose(src, ours)
		default:
			d := theirs[bgen]
			if d == nil {
				d = newDeadlist(c.rec.Gen, bgen)
			}
			err = m.move(d, src)
			m.then = append(m.then, func() { theirs[bgen] = d })
		}
		if err != nil {
			return err
		}
	}
	m.then = append(m.then, func() {
		f.discardAll(dropped)
		c.doubtful = prev != 0 && (c.doubtful || s.doubtful)
		f.remove(s, c)
	})
	return nil
}

// dispose frees the blocks of d's chain, and those that stand on it if ours, unless nil, says so.
func (m *merge) dispose(d *deadlist, ours func(blkfmt.Bptr) bool) error {
	var entry func(blkfmt.Addr) error
	if ours != nil {
		entry = func(a blkfmt.Addr) error {
			if bp := (blkfmt.Bptr{Addr: a, Hash: blkfmt.NoHash, Gen: d.bgen}); ours(bp) {
				m.free = append(m.free, bp)
			}
			return nil
		}
	}
	if err := d.each(m.g, m.f.st, m.freeOwn, entry); err != nil {
		return fmt.Errorf("free deadlist %d of snapshot %d: %w", d.bgen, d.gen, err)
	}
	m.then = append(m.then, func() { m.f.clear(d) })
	return nil
}

func (m *merge) freeOwn(bp blkfmt.Bptr) error {
	m.own = append(m.own, bp)
	return nil
}

// move appends src to dst and empties src. Blocks on the device are never changed: the addresses
// of the shorter list are copied, unless the other is empty and can take the chain as it is.
func (m *merge) move(dst, src *deadlist) error {
	disk := dst.disk
	var addrs []blkfmt.Addr
	switch {
	case disk.Hd.Addr == blkfmt.NoAddr:
		disk = src.disk
	case src.disk.Hd.Addr != blkfmt.NoAddr:
		short, err := m.f.shorter(m.g, dst, src)
		if err == nil {
			if short == dst {
				disk = src.disk
			}
			err = (&deadlist{disk: short.disk}).each(m.g, m.f.st, m.freeOwn,
				func(a blkfmt.Addr) error { addrs = append(addrs, a); return nil })
		}
		if err != nil {
			return fmt.Errorf("merge deadlist %d of snapshot %d: %w", src.bgen, src.gen, err)
		}
	}
	m.then = append(m.then, func() {
		if !src.empty() {
			dst.disk = disk
			dst.fresh = append(append(dst.fresh, addrs...), src.fresh...)
			m.f.markList(dst)
		}
		m.f.clear(src)
	})
	return nil
}

// remove takes s out of the forest. heir, its only child, if any, becomes its pred's.
func (f *Forest) remove(s, heir *snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gen, pred := s.rec.Gen, f.snaps[s.rec.Pred]
	for _, d := range s.lists {
		f.markList(d)
	}
	f.mark(s)
	delete(f.snaps, gen)
	delete(f.condemned, gen)
	f.changed = true
	if heir != nil {
		heir.rec.Pred = s.rec.Pred
		heir.rec.Base = min(heir.rec.Base, s.rec.Pred)
		f.mark(heir)
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
	f.judge(pred)
}

// judge condemns s if nobody needs it any more: it has no label, and at most one snapshot was derived
// from it. The first snapshot stays always, and one whose predecessor is not there, as it cannot be said
// what of it is its own. f.mu is held.
func (f *Forest) judge(s *snapshot) {
	if s.rec.Gen != 0 && s.rec.Nlbl == 0 && s.rec.Nref <= 1 && f.snaps[s.rec.Pred] != nil && f.first != nil {
		f.condemned[s.rec.Gen] = s
	} else {
		delete(f.condemned, s.rec.Gen)
	}
}
