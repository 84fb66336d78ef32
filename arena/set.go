package arena

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"gefs9p/blkfmt"
)

// A Set is all arenas of a device. It is made by Format or Load. Its methods are safe for concurrent
// use, but for Rebuild, which belongs to opening.
type Set struct {
	arenas atomic.Pointer[[]*arena] // ascending addresses; replaced as a whole when there are more
	hash   blkfmt.Hasher
	count  atomic.Uint64 // calls of Alloc
	sums   sums

	qgen    atomic.Int64 // of the last barrier; -1 on a new device
	pin     atomic.Pointer[Pin]
	sealMu  sync.Mutex
	waiting *Sealed // returned by the last Seal and not released; under sealMu
	bufs    buffers // for what the next Seal returns; under sealMu

	noteStale bool // see NoteStale; under sealMu
}

// Meta is the hint for a block that is not part of a file.
const Meta = ^uint64(0)

// turn is the number of allocations after which the choice of arenas moves on.
const turn = 2048

// Format returns the arenas of a new device, everything in them free but for the lowest block of each,
// where its log will begin. The first Seal writes the logs; its qgen may be 0. It fails if g is no
// geometry of blkfmt.ReamGeometry's kind.
func Format(g blkfmt.Geometry, hash blkfmt.Hasher) (*Set, error) {
	if g.Count < 1 || g.Count > blkfmt.MaxArenas {
		return nil, fmt.Errorf("arena: %d arenas, must be 1 to %d", g.Count, blkfmt.MaxArenas)
	}
	s := &Set{hash: hash}
	s.arenas.Store(new([]*arena))
	s.qgen.Store(-1)
	if err := s.Extend(g); err != nil {
		return nil, err
	}
	return s, nil
}

// list returns the arenas there are, which must not be changed.
func (s *Set) list() []*arena { return *s.arenas.Load() }

// End returns where the last arena ends. New ones begin there or behind.
func (s *Set) End() blkfmt.Addr {
	list := s.list()
	if len(list) == 0 {
		return blkfmt.BlkSize
	}
	a := list[len(list)-1]
	return a.base + blkfmt.Addr(a.size)
}

// Extend adds g.Count new arenas, as Format makes them, behind those there are, and asks for a Seal
// (NeedsSeal). Alloc hands out their blocks at once: what points at these is part of the state of the next
// Seal, whose superblock names the new arenas. They take no part in a Pin, as no committed state has
// anything in them.
//
// Extend fails, and has changed nothing, if g does not fit behind the last arena, if there would be more
// than blkfmt.MaxArenas, or while a commit is not released. It takes no arena locks and does no I/O.
func (s *Set) Extend(g blkfmt.Geometry) error {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	const least = 4 * blkfmt.BlkSize
	list, end := s.list(), s.End()
	switch {
	case s.waiting != nil:
		return errors.New("arena: more arenas while a commit is not released")
	case g.Count < 1 || g.Count > blkfmt.MaxArenas-len(list):
		return fmt.Errorf("arena: %d arenas and %d more, at most %d can be", len(list), g.Count, blkfmt.MaxArenas)
	case g.First < end || g.First%blkfmt.BlkSize != 0:
		return fmt.Errorf("arena: new arenas at %v, where the last one ends at %v", g.First, end)
	case g.Size < least || g.Size%blkfmt.BlkSize != 0 || g.Size > (1<<62-int64(g.First))/int64(g.Count)-blkfmt.ArenaOverhead:
		return fmt.Errorf("arena: %d new arenas of %d bytes", g.Count, g.Size)
	}
	list = slices.Clone(list)
	for i := range g.Count {
		a := newArena(len(list), g.Header(i), g.Size, &s.sums)
		// The log will begin in the lowest block, where the reference has it.
		a.kept = a.base
		a.chain.add(a.kept)
		a.free.insert(a.base+blkfmt.BlkSize, int64(a.end-a.base)-blkfmt.BlkSize)
		a.added, a.noteStale = true, s.noteStale
		a.settleLocked() // nobody else has it yet
		list = append(list, a)
	}
	s.arenas.Store(&list)
	return nil
}

// Len returns the number of arenas.
func (s *Set) Len() int { return len(s.list()) }

// Qgen returns the generation of the last barrier: that of the last Seal, or what Load was told. It
// is -1 on a new device.
func (s *Set) Qgen() int64 { return s.qgen.Load() }

// find returns the arena that has b in the part of its body that may be in use, nil if there is none.
func (s *Set) find(b blkfmt.Addr) *arena {
	list := s.list()
	i := sort.Search(len(list), func(i int) bool { return list[i].head > b })
	if i == 0 {
		return nil
	}
	if a := list[i-1]; a.holds(b) {
		return a
	}
	return nil
}

// Contains tells whether b can be the address of a tree, data, log or deadlist block: a whole block
// inside an arena's body, other than the two that are never handed out. Source: getarena.
func (s *Set) Contains(b blkfmt.Addr) bool { return s.find(b) != nil }

// Index returns the number of the arena that contains b in the sense of Contains. Otherwise it
// returns an *AddrError.
func (s *Set) Index(b blkfmt.Addr) (int, error) {
	if a := s.find(b); a != nil {
		return a.no, nil
	}
	return -1, foreign("look-up", b)
}

func foreign(op string, b blkfmt.Addr) error {
	return &AddrError{Op: op, Addr: b, What: "in no arena"}
}

// Alloc takes one block and returns its address. hint is the qid path of the file that it is for, or
// Meta. With seq it takes a block that lies well behind the one taken last for the same hint, from
// the low end; otherwise the highest free one.
//
// The blocks of a file go to one arena for a while, apart from the one that trees go to; a busy or
// full arena is passed over. Alloc returns ErrFull when every arena is down to its log floor; it
// ignores the reserve, see Room. The block is fresh until the next Seal. It waits for other calls,
// never for I/O. Source: pickarena, blkalloc, blkalloc_lk.
func (s *Set) Alloc(hint uint64, seq bool) (blkfmt.Addr, error) {
	list := s.list()
	n := uint64(len(list))
	start := (s.count.Add(1) - 1) / turn
	if hint != Meta && n > 1 {
		start += hint%(n-1) + 1
	}
	// The try counts in the choice, or a full first arena would look like a full disk. No arena goes
	// below its reserve before all are down to theirs: space that is given back would first have to
	// make up for that.
	for try := uint64(0); try < 3*n; try++ {
		if try == 2*n && s.GiveWay() {
			try = 0
		}
		a := list[(start+try)%n]
		if try+1 >= n {
			a.mu.Lock()
		} else if !a.mu.TryLock() {
			continue
		}
		b, ok := a.allocLocked(hint, seq, try < 2*n)
		a.unlock()
		if ok {
			return b, nil
		}
	}
	if sus := s.Suspects(); len(sus) > 0 {
		return blkfmt.NoAddr, fmt.Errorf("arena %d: %w: %s", sus[0].Arena, ErrSuspect, sus[0].Why)
	}
	return blkfmt.NoAddr, ErrFull
}

// Free gives back a block that no committed state and no reader needs: one that Fresh tells of, or
// would have told of. It may be handed out again at once. A block that the last Seal counted as
// used is kept back until the Release after the next Seal all the same, as by FreeLater, because
// nothing else would be safe. A block that is free, was given back before, is part of a log or lies
// in no arena is refused with an *AddrError. Source: blkdealloc, blkdealloc_lk.
func (s *Set) Free(b blkfmt.Addr) error {
	return s.free(b, func(*arena) *blockSet { return nil })
}

// Retire gives back a block that the next state to be committed does not need, while readers may
// still be on their way to it. Every log from the next Seal's on says that it is free. It is handed
// out again after Give if it was Fresh, and otherwise after the Release of the next Seal. It refuses
// what Free refuses.
func (s *Set) Retire(b blkfmt.Addr) error {
	return s.free(b, func(a *arena) *blockSet { return &a.young })
}

// Give lets a block be handed out that was fresh when it was retired: its readers have left. Any
// other block is refused with an *AddrError.
func (s *Set) Give(b blkfmt.Addr) error {
	a := s.find(b)
	if a == nil {
		return foreign("give", b)
	}
	a.mu.Lock()
	defer a.unlock()
	if !a.young.remove(b) {
		return &AddrError{Op: "give", Addr: b, What: "not retired"}
	}
	a.freedLocked(b, blkfmt.BlkSize)
	return nil
}

// NeedsSeal tells whether there is something to write even if nothing changes: a header whose
// other copy had to stand in for it, a log that was not to be believed and has been rebuilt, a new arena.
func (s *Set) NeedsSeal() bool {
	for _, a := range s.list() {
		a.mu.Lock()
		bad := a.headBad || a.footBad || a.rebuilt || a.added
		a.mu.Unlock()
		if bad {
			return true
		}
	}
	return false
}

// Mend says that a copy of the header of arena i is not as the last Seal had it. good is the content of the
// first copy if that one is good; the next Seal then asks for the second to be made like it first (see
// Sealed.Heal). It is nil if the first is bad: that one is written before the second anyway.
func (s *Set) Mend(i int, good []byte) {
	a := s.list()[i]
	a.mu.Lock()
	defer a.unlock()
	if good == nil {
		a.headBad = true
		return
	}
	a.footBad, a.hdr = true, good
}

// FreeLater gives back blocks that the next state to be committed does not need, but the last one,
// or a reader, may: the next Seal logs them as free, and its Release lets them be handed out. It
// refuses blocks as Free does, but goes on with the others, and returns the first error with a count.
func (s *Set) FreeLater(list ...blkfmt.Addr) error {
	var first error
	bad := 0
	for _, b := range list {
		if err := s.free(b, func(a *arena) *blockSet { return &a.later }); err != nil {
			if first == nil {
				first = err
			}
			bad++
		}
	}
	if bad > 1 {
		return fmt.Errorf("%w (and %d more)", first, bad-1)
	}
	return first
}

// free gives back b; where says where its arena keeps it if it is fresh.
func (s *Set) free(b blkfmt.Addr, where func(*arena) *blockSet) error {
	a := s.find(b)
	if a == nil {
		return foreign("free", b)
	}
	a.mu.Lock()
	defer a.unlock()
	return a.freeLocked(b, where(a))
}

// Fresh tells whether the block at b was handed out since the last Seal and not given back: no
// committed state can reach it. It takes constant time.
func (s *Set) Fresh(b blkfmt.Addr) bool {
	a := s.find(b)
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.born.has(b)
}

// Room returns the number of blocks that ordinary requests may still take: what is free above the
// reserves. A request that needs space asks first and is refused when there is not enough; removes
// and the like go ahead and live on the reserve. It takes no lock.
func (s *Set) Room() int64 { return s.sums.room.Load() }

// LogPressure tells whether a commit should come soon: in some arena the next log may need more than
// half of the blocks that are left for it. From then until the Seal, 6000 more blocks may change in
// each arena, and Seal finds room, however full and fragmented the arena is. It takes no lock.
func (s *Set) LogPressure() bool { return s.sums.pressed.Load() > 0 }

var errNoArena = errors.New("arena: no such arena")
