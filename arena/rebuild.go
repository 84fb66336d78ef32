package arena

import (
	"fmt"
	"iter"
	"slices"

	"gefs9p/blkfmt"
)

// A Suspect is an arena whose log Load could not believe.
type Suspect struct {
	Arena int    // its number
	Why   string // what is wrong, in words: "its log …"
}

// Suspects returns the arenas that wait for Rebuild. Until then they hand out nothing and take
// nothing back, and there is no Seal; reading the device needs none of that. A disk that the
// reference has made but not yet committed to has only such arenas, because its logs lack barriers.
func (s *Set) Suspects() []Suspect {
	var list []Suspect
	for _, a := range s.list() {
		a.mu.Lock()
		if a.suspect != "" {
			list = append(list, Suspect{a.no, a.suspect})
		}
		a.mu.Unlock()
	}
	return list
}

// Rebuild makes the free ranges of the given arenas, or of all suspect ones if none are given, from a
// census: whatever live does not yield is free. live yields the address of each block that the
// committed state reaches, of any arena, in any order, as often as it likes. If it yields an error,
// or an address that no arena contains, Rebuild returns that and changes nothing.
//
// The old log's blocks stay as they are until the next Seal has been released, which writes a new
// log; so the disk remains what it was for others until then. Nothing may have been handed out yet:
// Rebuild belongs right behind Load, and must not overlap with other calls.
func (s *Set) Rebuild(live iter.Seq2[blkfmt.Addr, error], arenas ...int) error {
	used := map[*arena]*blockSet{}
	if len(arenas) == 0 {
		for _, x := range s.Suspects() {
			arenas = append(arenas, x.Arena)
		}
	}
	for _, i := range arenas {
		if i < 0 || i >= len(s.list()) {
			return fmt.Errorf("%w: %d of %d", errNoArena, i, len(s.list()))
		}
		used[s.list()[i]] = &blockSet{}
	}
	if len(used) == 0 {
		return nil
	}
	for b, err := range live {
		if err != nil {
			return fmt.Errorf("census of blocks in use: %w", err)
		}
		a := s.find(b)
		if a == nil {
			return foreign("census", b)
		}
		if set := used[a]; set != nil {
			set.add(b)
		}
	}
	for a, set := range used {
		a.rebuild(set)
	}
	return nil
}

// rebuild makes everything free that is neither in used nor a block of the log that was read.
func (a *arena) rebuild(used *blockSet) {
	a.mu.Lock()
	defer a.unlock()
	for b := range blocks(used.all()) {
		a.chain.remove(b) // a log that says it is there is wrong
	}
	a.free = newRanges()
	at := a.base
	for b, n := range merged(used.all(), a.chain.all()) {
		if b > at {
			a.free.insert(at, int64(b-at))
		}
		at = b + blkfmt.Addr(n)
	}
	if at < a.end {
		a.free.insert(at, int64(a.end-at))
	}
	a.born, a.died, a.young, a.later, a.limbo = blockSet{}, blockSet{}, blockSet{}, blockSet{}, blockSet{}
	a.streams = streams{}
	a.tail = blkfmt.NoAddr
	a.suspect, a.rebuilt = "", true
}

// blocks yields each block of the ranges in seq.
func blocks(seq iter.Seq2[blkfmt.Addr, int64]) iter.Seq[blkfmt.Addr] {
	return func(yield func(blkfmt.Addr) bool) {
		for b, n := range seq {
			for end := b + blkfmt.Addr(n); b < end; b += blkfmt.BlkSize {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// A Stat describes an arena. All sizes are bytes but for Log.
type Stat struct {
	Addr    blkfmt.Addr // of its header
	Size    int64       // of its body
	Used    int64       // of the body, what cannot be handed out now; at least the two blocks that never are
	Free    int64       // what can
	Waiting int64       // of Used, given back and to be free after the next commit or two, or when a Pin or a Loan ends
	Reserve int64       // of Free, what Room leaves alone
	Log     int         // blocks of the allocation log
	HeadBad bool        // the header did not verify when it was loaded; its copy did
	FootBad bool        // the copy of the header was not the same
	Suspect string      // as in Suspects; empty if the log is good
}

// Stat returns a description of each arena.
func (s *Set) Stat() []Stat {
	list := make([]Stat, 0, len(s.list()))
	for _, a := range s.list() {
		a.mu.Lock()
		list = append(list, Stat{
			Addr:    a.head,
			Size:    a.size,
			Used:    a.size - a.free.total,
			Free:    a.free.total,
			Waiting: (a.young.n + a.later.n + a.limbo.n + a.held.n + a.lent.n) * blkfmt.BlkSize,
			Reserve: a.reserve,
			Log:     int(a.chain.n),
			HeadBad: a.headBad,
			FootBad: a.footBad,
			Suspect: a.suspect,
		})
		a.mu.Unlock()
	}
	return list
}

// Ranges yields the address and the length in bytes of each free range of arena i, ascending: what
// can be handed out at the time of the call. It yields nothing if there is no such arena.
func (s *Set) Ranges(i int) iter.Seq2[blkfmt.Addr, int64] {
	type span struct {
		a blkfmt.Addr
		n int64
	}
	return func(yield func(blkfmt.Addr, int64) bool) {
		if i < 0 || i >= len(s.list()) {
			return
		}
		a := s.list()[i]
		a.mu.Lock()
		list := make([]span, 0, a.free.count())
		for b, n := range a.free.all() {
			list = append(list, span{b, n})
		}
		a.mu.Unlock() // yield may take its time, and other locks
		for _, r := range list {
			if !yield(r.a, r.n) {
				return
			}
		}
	}
}

// Waiting yields the address and the length in bytes of each run of blocks of arena i that were given back
// and cannot be handed out yet, at the time of the call, in no order: those that Stat.Waiting counts. It
// yields nothing if there is no such arena.
func (s *Set) Waiting(i int) iter.Seq2[blkfmt.Addr, int64] {
	type span struct {
		a blkfmt.Addr
		n int64
	}
	return func(yield func(blkfmt.Addr, int64) bool) {
		if i < 0 || i >= len(s.list()) {
			return
		}
		a := s.list()[i]
		a.mu.Lock()
		sets := [...]*blockSet{&a.young, &a.later, &a.limbo, &a.held}
		runs := int64(0)
		for _, set := range sets {
			runs += set.runs
		}
		list := make([]span, 0, runs)
		for _, set := range sets {
			for b, n := range set.all() {
				list = append(list, span{b, n})
			}
		}
		a.mu.Unlock()
		for _, r := range list {
			if !yield(r.a, r.n) {
				return
			}
		}
	}
}

// Log returns the addresses of the blocks of arena i's allocation log, ascending, the empty tail
// included: the blocks in use that no tree points at. It is empty before the first Seal of a new
// device.
func (s *Set) Log(i int) []blkfmt.Addr {
	if i < 0 || i >= len(s.list()) {
		return nil
	}
	a := s.list()[i]
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(blocks(a.chain.all()))
}
