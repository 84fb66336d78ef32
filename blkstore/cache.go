package blkstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// shards of the cache: enough that two readers seldom meet at one lock.
const nshard = 32

// A shard is a part of the cache: the blocks whose address hashes to it.
type shard struct {
	mu   sync.Mutex
	blks map[blkfmt.Addr]*Blk
	ring []*Blk // the same blocks, in no order; the clock's hand goes round it
	hand int
	_    [16]byte
}

func (s *Store) shard(a blkfmt.Addr) *shard {
	x := uint64(a) >> blkfmt.BlkShift
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	return &s.shards[x%nshard]
}

// insertLocked puts b, which the caller holds, into the shard, where nothing of its address is; the
// cache takes a reference of its own.
func (sh *shard) insertLocked(b *Blk) {
	b.ref.Add(1)
	b.slot = len(sh.ring)
	sh.ring = append(sh.ring, b)
	sh.blks[b.addr] = b
}

// removeLocked takes b out of the shard; the caller inherits the cache's reference.
func (sh *shard) removeLocked(b *Blk) {
	delete(sh.blks, b.addr)
	last := sh.ring[len(sh.ring)-1]
	sh.ring[b.slot], last.slot = last, b.slot
	sh.ring[len(sh.ring)-1] = nil
	sh.ring = sh.ring[:len(sh.ring)-1]
}

// evict takes a block that nobody holds out of the shard, one that was not asked for since the
// hand last passed it. It returns nil if there is none.
func (sh *shard) evict() *Blk {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range 2 * len(sh.ring) {
		if sh.hand >= len(sh.ring) {
			sh.hand = 0
		}
		b := sh.ring[sh.hand]
		if b.ref.Load() > 1 || b.visited.Swap(false) {
			sh.hand++
			continue
		}
		sh.removeLocked(b)
		b.ref.Store(0)
		return b
	}
	return nil
}

// uncache forgets the block at a, whose address is free from here on. Holders keep theirs.
func (s *Store) uncache(a blkfmt.Addr) {
	sh := s.shard(a)
	sh.mu.Lock()
	b := sh.blks[a]
	if b != nil {
		sh.removeLocked(b)
	}
	sh.mu.Unlock()
	s.Drop(b)
}

// cached returns the block at a with a reference if it is in memory, nil otherwise.
func (s *Store) cached(a blkfmt.Addr) *Blk {
	sh := s.shard(a)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.blks[a]
	if b != nil {
		b.ref.Add(1)
	}
	return b
}

// A pool holds the buffers that are in use for nothing. Buffers are made in slabs until there are
// max of them.
type pool struct {
	store *Store
	mu    sync.Mutex
	free  []*Blk
	made  int
	max   int
	avail chan struct{} // a token when a buffer may have become available
	next  atomic.Uint32 // shard to evict from
}

const slabBlocks = 64 // buffers made at a time: 1 MiB

func (p *pool) put(b *Blk) {
	p.mu.Lock()
	p.free = append(p.free, b)
	p.mu.Unlock()
	p.signal()
}

func (p *pool) signal() {
	select {
	case p.avail <- struct{}{}:
	default:
	}
}

// get returns an unused buffer or nil.
func (p *pool) get() *Blk {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 && p.made < p.max {
		n := min(slabBlocks, p.max-p.made)
		slab := make([]byte, n*blkfmt.BlkSize)
		blks := make([]Blk, n)
		for i := range blks {
			blks[i].store = p.store
			blks[i].buf = slab[i*blkfmt.BlkSize : (i+1)*blkfmt.BlkSize : (i+1)*blkfmt.BlkSize]
			p.free = append(p.free, &blks[i])
		}
		p.made += n
	}
	n := len(p.free)
	if n == 0 {
		return nil
	}
	b := p.free[n-1]
	p.free = p.free[:n-1]
	return b
}

// take returns a buffer with one reference, evicting or waiting for one. Its bytes are what its
// last owner left. It fails only when the store is closed.
func (s *Store) take(g *epoch.Guard, addr blkfmt.Addr, t blkfmt.Type, gen blkfmt.Gen) (*Blk, error) {
	b := s.pool.get()
	for b == nil {
		for range nshard {
			if b = s.shards[s.pool.next.Add(1)%nshard].evict(); b != nil {
				break
			}
		}
		if b != nil {
			break
		}
		// Everything is held or unwritten. The writers need no buffer, so they will make room;
		// the timer is for references dropped by readers, which signal nobody.
		g.Block()
		s.setPressure(true)
		select {
		case <-s.pool.avail:
		case <-time.After(time.Millisecond):
		case <-s.stop:
			return nil, ErrClosed
		}
		b = s.pool.get()
	}
	b.addr, b.typ, b.gen = addr, t, gen
	b.hashed.Store(false)
	b.visited.Store(false)
	b.seq.Store(0)
	b.ready, b.err = nil, nil
	b.ref.Store(1)
	return b, nil
}

// Get returns the block bp points at, with a reference that the caller must Drop. t is Data or
// Deadlist; see GetNode for the rest. A block not in memory is read and verified: one caller
// reads, others that come meanwhile wait for it. Errors: *blkfmt.CorruptError, those of the device.
// The caller is inside an epoch, g, which keeps the address from being given to another block.
// Source: getblk, readblk.
func (s *Store) Get(g *epoch.Guard, bp blkfmt.Bptr, t blkfmt.Type) (*Blk, error) {
	return s.get(g, bp, t)
}

// GetNode is Get for a pivot or leaf. Its structure has been checked too, so that kvfmt.Node may be
// used on its bytes.
func (s *Store) GetNode(g *epoch.Guard, bp blkfmt.Bptr) (*Blk, error) {
	return s.get(g, bp, blkfmt.Leaf)
}

func (s *Store) get(g *epoch.Guard, bp blkfmt.Bptr, t blkfmt.Type) (*Blk, error) {
	sh := s.shard(bp.Addr)
	sh.mu.Lock()
	b := sh.blks[bp.Addr]
	if b != nil {
		b.ref.Add(1)
		sh.mu.Unlock()
		return s.found(g, b, bp, t)
	}
	sh.mu.Unlock()
	if !s.arenas.Contains(bp.Addr) {
		return nil, &blkfmt.CorruptError{Addr: bp.Addr, Type: t, What: "the address is in no arena"}
	}
	g.Block()
	fresh, err := s.take(g, bp.Addr, t, bp.Gen)
	if err != nil {
		return nil, err
	}
	sh.mu.Lock()
	if b = sh.blks[bp.Addr]; b != nil {
		b.ref.Add(1)
		sh.mu.Unlock()
		s.Drop(fresh)
		return s.found(g, b, bp, t)
	}
	b = fresh
	b.ready = make(chan struct{})
	sh.insertLocked(b)
	sh.mu.Unlock()

	b.err = s.fill(b, bp, t)
	if b.err != nil {
		sh.mu.Lock()
		mine := sh.blks[b.addr] == b // or else somebody uncached it, and dropped it
		if mine {
			sh.removeLocked(b)
		}
		sh.mu.Unlock()
		if mine {
			s.Drop(b)
		}
	}
	close(b.ready)
	if err := b.err; err != nil {
		s.Drop(b)
		return nil, err
	}
	return b, nil
}

// found finishes a get that met b in the cache: it waits for its fill and compares generations.
func (s *Store) found(g *epoch.Guard, b *Blk, bp blkfmt.Bptr, t blkfmt.Type) (*Blk, error) {
	if b.ready != nil {
		select {
		case <-b.ready:
		default:
			g.Block()
			<-b.ready
		}
		if err := b.err; err != nil {
			s.Drop(b)
			return nil, err
		}
	}
	var err error
	switch {
	case !sameKind(b.typ, t) || bp.Gen != blkfmt.NoGen && b.gen != blkfmt.NoGen && bp.Gen != b.gen:
		err = &blkfmt.CorruptError{Addr: bp.Addr, Type: t,
			What: fmt.Sprintf("cached there is a %v block born in %d, wanted one born in %d", b.typ, b.gen, bp.Gen)}
	case bp.Hash != blkfmt.NoHash && b.hashed.Load() && b.hash.Load() != bp.Hash:
		err = &blkfmt.CorruptError{Addr: bp.Addr, Type: t, Want: bp.Hash, Got: b.hash.Load()}
	}
	if err != nil {
		s.Drop(b)
		return nil, err
	}
	b.visited.Store(true)
	s.hits.Add(1)
	return b, nil
}

func sameKind(a, b blkfmt.Type) bool {
	node := func(t blkfmt.Type) bool { return t == blkfmt.Pivot || t == blkfmt.Leaf }
	return a == b || node(a) && node(b)
}

// fill reads and verifies b.
func (s *Store) fill(b *Blk, bp blkfmt.Bptr, t blkfmt.Type) error {
	s.misses.Add(1)
	s.note("readb", bp.Addr, bp.Gen, int64(t))
	if _, err := s.dev.ReadAt(b.buf, int64(bp.Addr)); err != nil {
		s.unreadable.Add(1)
		return fmt.Errorf("%w: read %v block %v: %w", ErrIO, t, bp.Addr, err)
	}
	err := s.verify(b, bp, t)
	if err != nil {
		s.corrupt.Add(1)
	}
	return err
}

// A Stats counts what the store did since it was opened, and what it holds, in blocks.
type Stats struct {
	Hits, Misses    uint64
	Written         uint64 // blocks written, logs, headers and superblocks included
	Cancelled       uint64 // writes saved because the block died first
	Commits         uint64
	Corrupt         uint64 // blocks read that were not what the pointer to them, or their own hash, says
	Unreadable      uint64 // reads that the device refused
	Cache, CacheMax int    // buffers made, and at most
	Dirty           int    // waiting to be written, or dead and not yet reclaimed
	Queued          int    // of Dirty, in the write queues, or being written
	Limbo           int
	Epoch           uint64 // the current one
}

// Stats returns the counters. Safe for concurrent use.
func (s *Store) Stats() Stats {
	s.pool.mu.Lock()
	made := s.pool.made
	s.pool.mu.Unlock()
	queued := 0
	for _, q := range s.allQueues() {
		q.mu.Lock()
		queued += q.live + q.flight
		q.mu.Unlock()
	}
	return Stats{
		Corrupt: s.corrupt.Load(), Unreadable: s.unreadable.Load(), Queued: queued, Epoch: s.epochs.Epoch(),
		Hits: s.hits.Load(), Misses: s.misses.Load(), Written: s.written.Load(),
		Cancelled: s.cancelled.Load(), Commits: s.commits.Load(),
		Cache: made, CacheMax: s.pool.max, Dirty: int(s.pinned.Load()), Limbo: s.epochs.Pending(),
	}
}

// Crowded reports whether so many blocks wait to be written or reclaimed that a mutation should
// wait in WaitRoom before it starts. A mutation that has started never waits for them.
func (s *Store) Crowded() bool {
	if s.pinned.Load() > int64(s.pool.max/2) {
		s.setPressure(true)
		return true
	}
	return false
}

// WaitRoom waits until the store is no longer Crowded. The caller holds no lock and is outside any
// epoch. It returns the store's error, or ctx's.
func (s *Store) WaitRoom(ctx context.Context) error {
	for s.pinned.Load() > int64(s.pool.max/2) {
		if err := s.Err(); err != nil {
			return err
		}
		s.setPressure(true)
		s.epochs.Tick()
		select {
		case <-s.roomy:
		case <-time.After(2 * time.Millisecond):
		case <-s.stop:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
