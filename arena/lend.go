package arena

import (
	"slices"

	"gefs9p/blkfmt"
)

// A Loan is a range of free blocks that nobody is handed until it is given back: for who tells the device that
// what they hold is not needed. The range is free in the log of the last barrier, in any state that is
// pinned, and in the state that is committed; so whatever becomes of its bytes, no crash needs them.
type Loan struct {
	Addr blkfmt.Addr
	Len  int64 // bytes
	a    *arena
}

// lendPart bounds what is lent of an arena: of what is free above the reserve, one part in so many. Whoever
// allocates meanwhile hardly notices.
const lendPart = 4

// Lend lends out the lowest range of at least least and at most most bytes at from or behind, and of every arena
// one at a time. With stale it looks only for what has become free since NoteStale was called and was
// not lent since; otherwise for all that is free. What would dig into an arena's reserve is left alone: there
// space is short, and will soon be written again.
//
// ok is false if there is none. least and most are at least a block. It takes the lock of one arena after the
// other.
func (s *Set) Lend(from blkfmt.Addr, least, most int64, stale bool) (l Loan, ok bool) {
	for _, a := range s.list() {
		if a.end <= from {
			continue
		}
		a.mu.Lock()
		at, n := a.lendLocked(from, least, most, stale)
		a.unlock()
		if n > 0 {
			return Loan{at, n, a}, true
		}
	}
	return Loan{}, false
}

func (a *arena) lendLocked(from blkfmt.Addr, least, most int64, stale bool) (blkfmt.Addr, int64) {
	most = min(most, (a.free.total-2*a.reserve)/lendPart) &^ (blkfmt.BlkSize - 1)
	if a.suspect != "" || a.lent.n > 0 || most < least {
		return 0, 0
	}
	ranges := a.free.all()
	if stale {
		ranges = a.stale.all()
	}
	for b, n := range ranges {
		if end := b + blkfmt.Addr(n); b < from {
			b, n = from, int64(end-from) // of a range that ends before, n is not positive
		}
		if n < least {
			continue
		}
		n = min(n, most)
		a.free.remove(b, n)
		a.lent.addRange(b, n)
		for end := b + blkfmt.Addr(n); a.stale.n > 0 && b < end; end -= blkfmt.BlkSize {
			a.stale.remove(end - blkfmt.BlkSize)
		}
		return b, n
	}
	return 0, 0
}

// Return gives back what Lend has lent: it can be handed out again.
func (s *Set) Return(l Loan) {
	l.a.mu.Lock()
	defer l.a.unlock()
	l.a.lent = blockSet{}
	l.a.free.insert(l.Addr, l.Len)
}

// NoteStale has every arena remember from now on what becomes free, for Lend. It costs a bit of memory for each
// such block.
func (s *Set) NoteStale() {
	s.sealMu.Lock() // no new arenas meanwhile
	defer s.sealMu.Unlock()
	s.noteStale = true
	for _, a := range s.list() {
		a.mu.Lock()
		a.noteStale = true
		a.mu.Unlock()
	}
}

// Lent tells whether something is lent at the moment.
func (s *Set) Lent() bool {
	return slices.ContainsFunc(s.list(), func(a *arena) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lent.n > 0
	})
}

// freedLocked makes n bytes at b free, which were in use or kept back until now: they may have been written.
func (a *arena) freedLocked(b blkfmt.Addr, n int64) {
	if a.free.insert(b, n) && a.noteStale {
		a.stale.addRange(b, n)
	}
}
