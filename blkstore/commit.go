package blkstore

import (
	"context"
	"fmt"

	"gefs9p/arena"
	"gefs9p/blkfmt"
	"gefs9p/internal/trace"
)

// A Root is what the superblock says of the file system above the blocks.
type Root struct {
	Snap    blkfmt.Bptr // root of the snapshot tree, its hash included
	SnapHt  int
	NextQid uint64
	NextGen blkfmt.Gen
}

// A Commit is a sealed state on its way to the device.
type Commit struct {
	store  *Store
	super  blkfmt.Super
	sealed *arena.Sealed
	dying  []blkfmt.Addr
	former blkfmt.Super  // the state committed before
	healAt []blkfmt.Addr // superblock copies that do not say so
	fresh  bool          // the first commit of a new disk
}

// Qgen returns the commit's generation.
func (c *Commit) Qgen() int64 { return c.super.Qgen }

// NeedsCommit reports whether the disk should be committed even if nothing changed: a copy of
// something on it is damaged or old. The caller has the mutation lock.
func (s *Store) NeedsCommit() bool {
	return !s.readOnly && (s.fresh || len(s.healAt) > 0 || s.arenas.NeedsSeal())
}

// Seal fixes the state that the next commit brings to the device: everything enqueued and freed so
// far, under root. The caller has the mutation lock, must have no commit running, and must let Run
// the result. What is enqueued from here on belongs to the commit after it.
func (s *Store) Seal(root Root) (*Commit, error) {
	switch {
	case s.readOnly:
		return nil, ErrReadOnly
	case s.Err() != nil:
		return nil, s.Err()
	case s.committing:
		panic("blkstore: Seal while a commit is running")
	}
	super := s.super
	super.Qgen = s.qgen.Load()
	super.Snap, super.SnapHt = root.Snap, root.SnapHt
	super.SnapDead = [2]blkfmt.Bptr{blkfmt.NoPtr, blkfmt.NoPtr}
	super.NextQid, super.NextGen = root.NextQid, root.NextGen

	sealed, err := s.arenas.Seal(super.Qgen)
	if err != nil {
		err = fmt.Errorf("seal generation %d: %w", super.Qgen, err)
		s.Latch(err)
		return nil, err
	}
	super.Arenas = sealed.Refs
	c := &Commit{store: s, super: super, sealed: sealed, dying: s.dying, former: s.super, healAt: s.healAt, fresh: s.fresh}
	s.dying, s.healAt, s.fresh = nil, nil, false
	s.super = super
	s.committing = true
	s.note("seal", super.Snap.Addr, super.Snap.Gen, int64(super.Qgen))
	s.qgen.Store(super.Qgen + 1)
	return c, nil
}

// Run brings the commit to the device and gives the space of what it no longer reaches back. It
// calls durable, if not nil, as soon as the state would survive a power cut, with nil, or else with
// the reason why it never will. The caller is outside any epoch and does not have the mutation
// lock, but must serialise commits. Source: sync.
func (c *Commit) Run(durable func(error)) error {
	s := c.store
	told := false
	tell := func(err error) {
		if !told && durable != nil {
			durable(err)
		}
		told = true
	}
	err := c.steps(tell)
	if err != nil {
		s.fail(fmt.Errorf("commit %d: %w", c.super.Qgen, err))
		for _, q := range s.allQueues() {
			q.still()
		}
		err = s.Err()
	}
	tell(err)
	if err == nil {
		// Readers may still follow pointers of the state before.
		if err := s.epochs.Wait(context.Background()); err != nil {
			return err
		}
		for _, a := range c.dying {
			s.note("released", a, trace.None, int64(c.super.Qgen))
			s.uncache(a)
		}
		if err := s.arenas.Release(c.sealed); err != nil {
			s.Latch(err)
			return err
		}
		s.commits.Add(1)
	}
	s.epochs.Tick()
	return err
}

// Done says that the commit's Run has returned. The caller has the mutation lock.
func (c *Commit) Done() { c.store.committing = false }

func (c *Commit) steps(tell func(error)) error {
	s := c.store
	super := make([]byte, blkfmt.BlkSize)
	if err := c.super.Encode(super); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return err
	}

	// What was on the device before a ream must not come back half overwritten, in the place of a
	// new disk whose second superblock is not written yet.
	if c.fresh {
		none := make([]byte, blkfmt.BlkSize)
		if err := s.step([]arena.Write{{Addr: 0, Data: none}, {Addr: blkfmt.BackupAddr(s.devSize.Load()), Data: none}}); err != nil {
			return err
		}
	}

	// After a crash in the middle of a commit there may be only one superblock, and only one copy
	// of some headers, that lead to the committed state. They are about to be overwritten, so first
	// there must be two again.
	if len(c.healAt) > 0 {
		buf := make([]byte, blkfmt.BlkSize)
		if err := c.former.Encode(buf); err != nil {
			return err
		}
		for _, at := range c.healAt {
			if err := s.step([]arena.Write{{Addr: at, Data: buf}}); err != nil {
				return err
			}
		}
	}
	if len(c.sealed.Heal) > 0 {
		if err := s.step(c.sealed.Heal); err != nil {
			return err
		}
	}

	for _, q := range s.allQueues() {
		q.ask(c.super.Qgen)
	}
	for _, q := range s.allQueues() {
		if err := q.drain(c.super.Qgen); err != nil {
			return err
		}
	}
	if err := s.step(c.sealed.Log, c.sealed.Headers); err != nil {
		return err
	}
	if !c.fresh {
		if err := s.follow(&c.former); err != nil {
			return err
		}
	}
	if err := s.step([]arena.Write{{Addr: 0, Data: super}}); err != nil {
		return err
	}
	s.note("supers", blkfmt.NoAddr, trace.None, int64(c.super.Qgen))
	tell(nil)
	if err := s.step([]arena.Write{{Addr: blkfmt.BackupAddr(s.devSize.Load()), Data: super}}); err != nil {
		return err
	}
	if err := s.step(c.sealed.Footers); err != nil {
		return err
	}
	s.note("synced", blkfmt.NoAddr, trace.None, int64(c.super.Qgen))
	return nil
}

// step writes the lists, outside the queues, what is adjacent in a list in one call, and flushes the device.
func (s *Store) step(lists ...[]arena.Write) error {
	var vec [][]byte
	for _, list := range lists {
		for len(list) > 0 {
			at := list[0].Addr
			vec = vec[:0]
			for len(list) > 0 && list[0].Addr == at+blkfmt.Addr(len(vec))*blkfmt.BlkSize {
				vec = append(vec, list[0].Data)
				list = list[1:]
			}
			s.note("step", at, trace.None, int64(len(vec)*blkfmt.BlkSize))
			if err := s.dev.WriteVec(vec, int64(at)); err != nil {
				return fmt.Errorf("write %d blocks at %v: %w", len(vec), at, err)
			}
			s.written.Add(uint64(len(vec)))
		}
	}
	return s.dev.Sync()
}
