package blkstore

import (
	"gefs9p/arena"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// New allocates a block of the type for a tree node or deadlist, zeroed, with one reference. gen
// is its birth. Errors: arena.ErrFull, ErrClosed, the store's failure. The caller has the mutation
// lock. Source: newblk.
func (s *Store) New(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen) (*Blk, error) {
	b, err := s.alloc(g, t, gen, arena.Meta, false)
	if err == nil {
		clear(b.buf)
	}
	return b, err
}

// NewData allocates a block for file data; its bytes are undefined. hint is the file's qid path,
// which keeps a file in one arena; seq asks for the place after the blocks allocated before, for
// what will be read in order. Source: newdblk.
func (s *Store) NewData(g *epoch.Guard, gen blkfmt.Gen, hint uint64, seq bool) (*Blk, error) {
	return s.alloc(g, blkfmt.Data, gen, hint, seq)
}

func (s *Store) alloc(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen, hint uint64, seq bool) (*Blk, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	addr, err := s.arenas.Alloc(hint, seq)
	if err != nil {
		return nil, err
	}
	b, err := s.take(g, addr, t, gen)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Enqueue makes b final: its bytes do not change any more, Get finds it, and the write queue has
// it. The caller keeps its reference. Source: enqueue.
func (s *Store) Enqueue(b *Blk) {
	if b.typ == blkfmt.Pivot && b.Node().Leaf() {
		b.typ = blkfmt.Leaf
	}
	sh := s.shard(b.addr)
	sh.mu.Lock()
	sh.insertLocked(b)
	sh.mu.Unlock()
	s.pinned.Add(1)
	s.queue(b.addr).put(b)
}

// Discard gives back a block from New or NewData that was never enqueued, with its reference.
func (s *Store) Discard(b *Blk) {
	if err := s.arenas.Free(b.addr); err != nil {
		s.Latch(err)
	}
	s.Drop(b)
}

// A dead block waits in limbo for its readers to leave.
type dead struct {
	addr blkfmt.Addr
	blk  *Blk // if it was never written, or is in memory anyway; nil otherwise
}

// Free says that the state being prepared no longer reaches the block at bp.Addr. If the committed
// state does, its space comes back after the next commit, otherwise as soon as no reader can have
// its pointer. The caller has the mutation lock; the new state is already published. An error
// means that the block is not in use: the disk is corrupt. Source: freeblk, freebp, deferfree.
func (s *Store) Free(bp blkfmt.Bptr) error {
	a := bp.Addr
	fresh := s.arenas.Fresh(a)
	if err := s.arenas.Retire(a); err != nil {
		return err
	}
	if !fresh { // handed out again by the Release of the next Seal
		s.dying = append(s.dying, a)
		return nil
	}
	b := s.cached(a)
	if b != nil {
		if s.queue(a).cancel(b) {
			s.cancelled.Add(1)
			s.Drop(b) // the queue's reference; limbo now pins it instead
		} else {
			s.pinned.Add(1)
		}
	}
	s.epochs.Limbo(dead{a, b})
	return nil
}

// release gives the space of blocks that nobody can reach any more back to the arenas.
func (s *Store) release(list []dead) {
	n := 0
	for _, d := range list {
		s.uncache(d.addr)
		if d.blk != nil {
			s.Drop(d.blk)
			n++
		}
		if err := s.arenas.Give(d.addr); err != nil {
			s.Latch(err)
		}
	}
	s.unpin(n)
	s.pool.signal()
}

// Tick moves limbo on if that is possible without waiting. Whoever made a mutation calls it
// afterwards, outside of its epoch and locks.
func (s *Store) Tick() { s.epochs.Tick() }

// Dying returns the number of blocks that the next commit gives back. The caller has the mutation
// lock.
func (s *Store) Dying() int { return len(s.dying) }
