package blkstore

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"gefs9p/arena"
	"gefs9p/blkfmt"
)

// An enlarger is a device that can be made longer from here: a file. What it gains reads as zeros. The
// change is durable when Enlarge returns.
type enlarger interface{ Enlarge(size int64) error }

// ErrFixedSize says that only who owns the device can make it longer.
var ErrFixedSize = errors.New("this device is as large as it is: make it larger, and then grow into it without a size")

// A Growth is what growing does, or would do.
type Growth struct {
	First  int             // number of the first new arena
	Arenas blkfmt.Geometry // the new ones
	Length int64           // of the device, bytes
}

// PlanGrow says how the disk would grow on a device of size bytes, or as long as it is if size is 0. Errors:
// *blkfmt.GrowthError, the device's; a disk that has as many arenas as the
// format allows, a size below the device's. It changes nothing.
func (s *Store) PlanGrow(size int64) (Growth, error) {
	now, err := s.dev.Size()
	if err != nil {
		return Growth{}, err
	}
	if size == 0 {
		size = now
	}
	if size < now {
		return Growth{}, fmt.Errorf("to %d bytes, where the disk has %d: a gefs disk cannot shrink, its arenas stay where they are", size, now)
	}
	n := s.arenas.Len()
	if n+blkfmt.GrowCount > blkfmt.MaxArenas {
		return Growth{}, fmt.Errorf("the disk has %d arenas, growing adds %d, and the format has room for %d: ream a larger disk and copy the files",
			n, blkfmt.GrowCount, blkfmt.MaxArenas)
	}
	g, err := blkfmt.GrowGeometry(s.arenas.End(), size)
	if err != nil {
		return Growth{}, err
	}
	return Growth{First: n, Arenas: g, Length: size}, nil
}

// Grow makes the disk as large as its device, or first, if size is not 0, the device that large, where that
// can be done (ErrFixedSize). The new arenas are of use at once, and on the disk with the next commit, which
// the caller has to make: NeedsCommit is true until then. Before that a power cut finds the disk as it was.
//
// The second superblock is found by the device's length, so the one there was is lost to a reader as soon as the
// device is longer, and a new arena may lie over it. So the committed state first gets a second superblock
// at the new place, with a flush, before anything is written into a new arena and before the first one is
// touched.
//
// The caller serialises Grow with commits, none of which may be running, is outside any epoch and does not
// have the mutation lock, which is mut. Errors: ErrReadOnly and those of PlanGrow, which have changed nothing, and
// those of making the device longer; the store's failure.
func (s *Store) Grow(mut sync.Locker, size int64) (Growth, error) {
	if s.readOnly {
		return Growth{}, ErrReadOnly
	}
	if err := s.Err(); err != nil {
		return Growth{}, err
	}
	plan, err := s.PlanGrow(size)
	if err != nil {
		return plan, err
	}
	mut.Lock()
	if s.committing || s.fresh {
		mut.Unlock()
		return plan, errors.New("blkstore: growing while a commit is running, or before the first")
	}
	former := s.super
	// The new place first: while the first superblock is damaged, there is no other.
	at := append([]blkfmt.Addr{plan.Arenas.Backup}, s.healAt...)
	mut.Unlock()

	if now, err := s.dev.Size(); err != nil {
		return plan, err
	} else if plan.Length > now {
		dev, ok := s.dev.(enlarger)
		if !ok {
			return plan, ErrFixedSize
		}
		if err := dev.Enlarge(plan.Length); err != nil {
			return plan, err
		}
	}
	buf := make([]byte, blkfmt.BlkSize)
	if err := former.Encode(buf); err != nil {
		return plan, err
	}
	for _, a := range at {
		if err := s.step([]arena.Write{{Addr: a, Data: buf}}); err != nil {
			s.fail(fmt.Errorf("grow: %w", err))
			return plan, s.Err()
		}
	}

	mut.Lock()
	defer mut.Unlock()
	s.healAt = slices.DeleteFunc(s.healAt, func(a blkfmt.Addr) bool { return slices.Contains(at, a) })
	s.devSize.Store(plan.Length)
	s.start(plan.Arenas.Count) // before anybody gets an address that needs one
	if err := s.arenas.Extend(plan.Arenas); err != nil {
		return plan, err
	}
	return plan, nil
}

// follow sees to it that the second superblock is where the next start will look for it, given that the device
// may have become longer, or shorter behind the last arena, since the last commit. If so it writes
// former, the committed state, there, with a flush: the first superblock, which is overwritten next, was
// the only one that could be found.
func (s *Store) follow(former *blkfmt.Super) error {
	size, err := s.dev.Size()
	if err != nil {
		return err
	}
	at := blkfmt.BackupAddr(size)
	if at == blkfmt.BackupAddr(s.devSize.Load()) || at < s.arenas.End() {
		return nil // what is too short for its arenas fails where they are written
	}
	buf := make([]byte, blkfmt.BlkSize)
	if err := former.Encode(buf); err != nil {
		return err
	}
	s.log.Info("the disk has another length; its second superblock moves", "bytes", size, "was", s.devSize.Load(), "to", at)
	if err := s.step([]arena.Write{{Addr: at, Data: buf}}); err != nil {
		return err
	}
	s.devSize.Store(size)
	return nil
}
