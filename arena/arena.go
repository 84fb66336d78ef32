package arena

import (
	"fmt"
	"sync"
	"sync/atomic"

	"gefs9p/blkfmt"
)

// Limits of an arena's reserve, in bytes. Source: the reference's Minresv and Maxresv.
const (
	minReserve = 512 << 10
	maxReserve = 8 << 20
)

// An arena is one stretch of the device with its free ranges and its allocation log.
//
//   - free, young, later, limbo, held, lent, the chain and what is in use are disjoint, and make up the
//     usable body.
//   - Every block in young was free at the last barrier, whatever Seals came in between.
//   - Every block in free, held or lent was free at the last barrier too: what the last barrier has in use
//     goes through later and limbo first. So a log block may be taken from free at any point of a log.
//   - died is part of later; the rest of later came and went since the last barrier.
type arena struct {
	no      int         // index in the superblock
	head    blkfmt.Addr // address of the header
	size    int64       // bytes of the body
	base    blkfmt.Addr // first block of the body
	end     blkfmt.Addr // end of what is ever handed out
	reserve int64       // bytes that ordinary requests leave alone
	floor   int64       // blocks that only the log may take

	mu      sync.Mutex
	free    *ranges
	born    blockSet // in use, and free at the last barrier
	died    blockSet // given back, and in use at the last barrier
	young   blockSet // retired while fresh: free as far as any log knows, but kept back until Give
	later   blockSet // given back, to be logged as free by the next Seal
	limbo   blockSet // logged as free by the last Seal, to be handed out after its Release
	streams streams

	// for who reads a committed state; see Pin
	pin   *Pin
	since blockSet // what the pinned state does not have in use, but was not in free when it was pinned, or was taken since
	held  blockSet // free in every log, but kept back because the pinned state has it in use

	// for who discards what is free; see Lend
	lent      blockSet // free in every log, but kept back until Return; one range
	stale     blockSet // part of free: what became so since NoteStale and was not lent since
	noteStale bool

	// the log
	chain    blockSet    // its blocks, the empty tail included
	first    blkfmt.Addr // first block; NoAddr before the first Seal of a new arena
	sum      uint64      // of the first block as it was written; informational
	kept     blkfmt.Addr // where the first log of a new arena begins; NoAddr once there is one
	tail     blkfmt.Addr // empty block behind the last barrier; NoAddr: the next log is a new one
	lastSize int64       // blocks of the log when it was last written anew

	// what Load found
	suspect string // why the log is not to be believed; empty if it is
	rebuilt bool   // what is free comes from a census, and no log says so yet
	added   bool   // no commit has it yet
	headBad bool   // the header did not verify, its copy did
	footBad bool   // the copy differs from the header
	hdr     []byte // the header, while footBad

	// What Set's sums hold of this arena; under mu as well.
	room    int64
	pressed bool
	sums    *sums
}

// sums are totals over all arenas that are asked for often.
type sums struct {
	room    atomic.Int64 // blocks above the reserves
	pressed atomic.Int32 // arenas whose log wants a commit
}

// newArena returns an arena with no free blocks and no log.
func newArena(no int, head blkfmt.Addr, size int64, s *sums) *arena {
	reserve := min(max(size/1024, minReserve), maxReserve)
	base := head + blkfmt.ArenaOverhead
	return &arena{
		no:      no,
		head:    head,
		size:    size,
		base:    base,
		end:     base + blkfmt.Addr(size) - blkfmt.ArenaUnused,
		reserve: reserve,
		floor:   reserve / 2 / blkfmt.BlkSize,
		free:    newRanges(),
		first:   blkfmt.NoAddr,
		sum:     blkfmt.NoHash,
		kept:    blkfmt.NoAddr,
		tail:    blkfmt.NoAddr,
		sums:    s,
	}
}

// holds tells whether the block at a may ever be in use in this arena.
func (a *arena) holds(b blkfmt.Addr) bool {
	return b >= a.base && b < a.end && b%blkfmt.BlkSize == 0
}

// unlock brings Set's sums up to date and unlocks.
func (a *arena) unlock() {
	a.settleLocked()
	a.mu.Unlock()
}

// countLocked returns what Set's sums are to hold of this arena.
func (a *arena) countLocked() (room int64, pressed bool) {
	if a.suspect != "" {
		return 0, false
	}
	return max(0, (a.free.total-a.reserve)>>blkfmt.BlkShift), a.pressedLocked()
}

// settleLocked brings Set's sums up to date. An arena whose log runs out of room because of a pin gives
// way first.
func (a *arena) settleLocked() {
	room, pressed := a.countLocked()
	if a.held.n > 0 && (a.pin.Broken() || pressed && a.free.blocks() < a.floor) {
		a.pin.broken.Store(true) // before anybody can take one of them
		a.unholdLocked()
		room, pressed = a.countLocked()
	}
	if room != a.room {
		a.sums.room.Add(room - a.room)
		a.room = room
	}
	if pressed != a.pressed {
		if pressed {
			a.sums.pressed.Add(1)
		} else {
			a.sums.pressed.Add(-1)
		}
		a.pressed = pressed
	}
}

// allocLocked takes a block for a caller of Set.Alloc. It returns false at the log floor, or already
// at the reserve if that is to be left alone.
func (a *arena) allocLocked(hint uint64, seq, spare bool) (blkfmt.Addr, bool) {
	if a.suspect != "" || a.free.blocks() <= a.floor || spare && a.free.total <= a.reserve {
		return blkfmt.NoAddr, false
	}
	var b blkfmt.Addr
	var ok bool
	if seq {
		b, ok = a.streams.take(a.free, hint)
	} else {
		b, ok = a.free.takeLast()
	}
	if ok {
		a.born.add(b)
		a.takenLocked(b)
	}
	return b, ok
}

// freeLocked gives the block b back. If it is fresh it goes to the set given, or is free at once if
// that is nil; if the last barrier has it in use it goes to later.
func (a *arena) freeLocked(b blkfmt.Addr, fresh *blockSet) error {
	switch {
	case a.suspect != "":
		return fmt.Errorf("free of block %v: arena %d: %w: %s", b, a.no, ErrSuspect, a.suspect)
	case a.young.has(b) || a.later.has(b) || a.limbo.has(b) || a.held.has(b):
		return &AddrError{Op: "free", Addr: b, What: "given back already"}
	case a.chain.has(b):
		return &AddrError{Op: "free", Addr: b, What: "a block of the allocation log"}
	}
	switch born := a.born.remove(b); {
	case !born && (a.lent.has(b) || a.free.holding(b) != nil):
		return &AddrError{Op: "free", Addr: b, What: "free already"}
	case !born:
		a.died.add(b)
		a.later.add(b)
	case fresh == nil:
		a.freedLocked(b, blkfmt.BlkSize)
	default:
		fresh.add(b)
	}
	return nil
}

// takeLogLocked takes a block for the log: the one at near if it is free, so that both go out in one
// write, the highest otherwise. Neither reserve nor floor hold it up.
func (a *arena) takeLogLocked(near blkfmt.Addr) (blkfmt.Addr, bool) {
	b := near
	if !a.free.remove(near, blkfmt.BlkSize) {
		var ok bool
		if b, ok = a.free.takeLast(); !ok {
			return blkfmt.NoAddr, false
		}
	}
	a.chain.add(b)
	a.takenLocked(b)
	return b, true
}
