package arena

import (
	"errors"
	"sync/atomic"

	"gefs9p/blkfmt"
)

// A Pin keeps every block that one committed state has in use as it is: none of them is handed out
// until Unpin, whatever later commits free. What was never part of that state comes and goes as ever, so
// the room that a Pin costs is what has been freed of its state since.
//
// Memory: a bit for each block taken or kept back meanwhile.
type Pin struct {
	set    *Set
	broken atomic.Bool
}

// ErrPinned says that somebody has a Pin already.
var ErrPinned = errors.New("arena: a committed state is pinned already")

// Pin pins the state of the last barrier. No commit may be under way: the last Sealed must have been
// released. There is one Pin at a time; another is refused with ErrPinned. It does no I/O and takes all
// arena locks.
func (s *Set) Pin() (*Pin, error) {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	if s.waiting != nil {
		return nil, errors.New("arena: pin while a commit is not released")
	}
	p := &Pin{set: s}
	if !s.pin.CompareAndSwap(nil, p) {
		return nil, ErrPinned
	}
	for _, a := range s.list() {
		a.mu.Lock()
		defer a.mu.Unlock()
	}
	for _, a := range s.list() {
		a.pin = p
		for _, set := range []*blockSet{&a.born, &a.young, &a.later} {
			for b, n := range set.all() {
				a.since.addRange(b, n)
			}
		}
		for b := range blocks(a.died.all()) {
			a.since.remove(b)
		}
	}
	return p, nil
}

// Unpin ends the Pin: what it kept back is free. A second call does nothing.
func (p *Pin) Unpin() {
	if !p.set.pin.CompareAndSwap(p, nil) {
		return
	}
	p.broken.Store(true) // whoever reads on is told
	for _, a := range p.set.list() {
		a.mu.Lock()
		a.unholdLocked()
		a.pin, a.since = nil, blockSet{}
		a.unlock()
	}
}

// Broken reports whether the Pin has given way, or ended. It turns true before the first block of the
// pinned state can be handed out: bytes that were read before it was false are those of that state.
func (p *Pin) Broken() bool { return p.broken.Load() }

// GiveWay breaks the Pin, if there is one that keeps blocks back, and reports whether there are more
// free blocks now. It is for who would otherwise have to say that the disk is full. Safe for concurrent
// use.
func (s *Set) GiveWay() bool {
	p := s.pin.Load()
	if p == nil {
		return false
	}
	more := false
	for _, a := range s.list() {
		a.mu.Lock()
		if a.held.n > 0 {
			p.broken.Store(true) // before anybody can take one of them
			more = a.unholdLocked() || more
		}
		a.unlock()
	}
	return more
}

// unholdLocked is GiveWay with all arena locks held.
func (s *Set) unholdLocked() bool {
	more := false
	for _, a := range s.list() {
		if a.held.n > 0 {
			a.pin.broken.Store(true)
			more = a.unholdLocked() || more
		}
	}
	return more
}

// unholdLocked hands out again what the Pin kept back, which must be broken by now.
func (a *arena) unholdLocked() bool {
	if a.held.n == 0 {
		return false
	}
	for b, n := range a.held.all() {
		a.freedLocked(b, n)
	}
	a.held = blockSet{}
	return true
}

// takenLocked notes that the block b was free.
func (a *arena) takenLocked(b blkfmt.Addr) {
	if a.noteStale {
		a.stale.remove(b)
	}
	if a.pin != nil {
		a.since.add(b)
	}
}

// freeLimboLocked makes free what is in limbo, but for what a pinned state has in use.
func (a *arena) freeLimboLocked() {
	if a.pin == nil || a.pin.Broken() {
		for b, n := range a.limbo.all() {
			a.freedLocked(b, n)
		}
		return
	}
	for b := range blocks(a.limbo.all()) {
		if a.since.has(b) {
			a.freedLocked(b, blkfmt.BlkSize)
		} else {
			a.held.add(b)
		}
	}
}
