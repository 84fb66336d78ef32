package blkstore

import (
	"context"

	"gefs9p/arena"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/internal/trace"
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
	s.note("blkalloc", addr, gen, int64(t))
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
	s.note("queueb", b.addr, b.gen, int64(b.typ))
	sh := s.shard(b.addr)
	sh.mu.Lock()
	stray := sh.blks[b.addr]
	if stray != nil {
		sh.removeLocked(stray)
	}
	sh.insertLocked(b)
	sh.mu.Unlock()
	if stray != nil {
		s.stray(stray)
	}
	s.pinned.Add(1)
	s.queue(b.addr).put(b)
}

// stray deals with a block that was in the cache although its address was free: somebody followed a
// pointer there, so the disk is corrupt. If what was read verifies, the block is in use and free at
// once, and to go on would overwrite it. The caller inherits the cache's reference.
func (s *Store) stray(b *Blk) {
	good := b.ready == nil
	if !good {
		select {
		case <-b.ready:
			good = b.err == nil
		default: // still being read; whoever reads it sees that it does not verify
		}
	}
	if good {
		s.Latch(&blkfmt.CorruptError{Addr: b.addr, Type: b.typ, What: "it is in use and free at once"})
	}
	s.Drop(b)
}

// Discard gives back a block from New or NewData that was never enqueued, with its reference.
func (s *Store) Discard(b *Blk) {
	s.note("discard", b.addr, b.gen, trace.None)
	if err := s.arenas.Free(b.addr); err != nil {
		s.Latch(err)
	}
	s.Drop(b)
}

// A dead block waits in limbo for its readers to leave.
type dead struct {
	addr blkfmt.Addr
	blk  *Blk // if it was never written, so that readers find it in memory only; nil otherwise
}

// Free says that the state being prepared no longer reaches the block at bp.Addr. If the committed
// state does, its space comes back after the next commit, otherwise as soon as no reader can have
// its pointer. The caller has the mutation lock; the new state is already published. An error
// means that the block is not in use: the disk is corrupt. Source: freeblk, freebp, deferfree.
func (s *Store) Free(bp blkfmt.Bptr) error {
	a := bp.Addr
	fresh := s.arenas.Fresh(a)
	s.note("freeb", a, bp.Gen, trace.None)
	if err := s.arenas.Retire(a); err != nil {
		return err
	}
	if !fresh { // handed out again by the Release of the next Seal
		s.dying = append(s.dying, a)
		return nil
	}
	// Limbo pins only what it must, so that it pins no more than the queue did: whoever waits for a
	// buffer inside an epoch would wait for ever for those in limbo.
	b := s.cancel(a)
	s.Drop(b) // what cached holds; limbo inherits the queue's
	s.epochs.Limbo(dead{a, b})
	return nil
}

// FreeOwn is Free for a block that no reader but the holder of the mutation lock can be on its way
// to, and that the caller has done with: its space comes back at once, unless the committed state
// reaches it. It suits the nodes of a tree that is only read under that lock.
func (s *Store) FreeOwn(bp blkfmt.Bptr) error {
	a := bp.Addr
	if !s.arenas.Fresh(a) {
		return s.Free(bp)
	}
	s.note("freeown", a, bp.Gen, trace.None)
	if b := s.cancel(a); b != nil {
		s.Drop(b)
		s.Drop(b)
		s.unpin(1)
	}
	s.uncache(a)
	// A write of it that is under way ends before any later one to this address begins.
	return s.arenas.Free(a)
}

// cancel voids the queue's entry for the block at a. If it did, it returns the block, on which the
// caller then has two references, its own and the queue's; the block stays counted as pinned.
func (s *Store) cancel(a blkfmt.Addr) *Blk {
	b := s.cached(a)
	if b == nil {
		return nil
	}
	if !s.queue(a).cancel(b) {
		s.Drop(b)
		return nil
	}
	s.cancelled.Add(1)
	s.note("cancel", a, trace.None, trace.None)
	return b
}

// release gives the space of blocks that nobody can reach any more back to the arenas.
func (s *Store) release(list []dead) {
	n := 0
	for _, d := range list {
		s.note("reclaim", d.addr, trace.None, trace.None)
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

// Reclaim returns when no reader holds up what was freed before the call, and such blocks as no commit
// has to come for first are free. The caller holds no lock and is outside any epoch. The error is
// ctx's.
func (s *Store) Reclaim(ctx context.Context) error {
	for try := 0; try < 3 && s.epochs.Pending() > 0; try++ {
		if err := s.epochs.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Dying returns the number of blocks that the next commit gives back. The caller has the mutation
// lock.
func (s *Store) Dying() int { return len(s.dying) }
