package blkstore

import (
	"sync/atomic"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A Blk is one block in memory.
//
//   - Its bytes never change after Enqueue, nor after it was read: writers shadow, they do not edit.
//   - ref counts the holders; the cache is one of them, the write queue and limbo are others. At
//     zero the buffer goes back to the pool.
//   - While it is cached, ref grows only under its shard's lock or by a holder. So whoever has that
//     lock and sees ref at one, the cache's own, may evict it.
//   - seq is not zero exactly while the write queue wants to write it.
type Blk struct {
	store *Store
	buf   []byte
	addr  blkfmt.Addr
	gen   blkfmt.Gen
	typ   blkfmt.Type

	ref     atomic.Int32
	seq     atomic.Uint64
	hash    atomic.Uint64
	hashed  atomic.Bool
	visited atomic.Bool // since the clock's hand last came by

	slot  int           // in shard.ring; guarded by shard.mu
	ready chan struct{} // closed when the fill is over; nil for blocks that were never filled from the device
	err   error         // of the fill; valid once ready is closed
}

// Bytes returns the block's BlkSize bytes. They may be written only between New and Enqueue.
func (b *Blk) Bytes() []byte { return b.buf }

// Node returns the bytes as a tree node.
func (b *Blk) Node() kvfmt.Node { return kvfmt.Node(b.buf) }

// Addr returns the block's address.
func (b *Blk) Addr() blkfmt.Addr { return b.addr }

// Where returns a pointer to b without its hash: enough to free it, and free of cost.
func (b *Blk) Where() blkfmt.Bptr {
	return blkfmt.Bptr{Addr: b.addr, Hash: blkfmt.NoHash, Gen: b.gen}
}

// Ptr returns the pointer to b that a parent stores. The hash is computed by the first call, which
// must come after the last change of the bytes. Safe for concurrent use.
func (b *Blk) Ptr() blkfmt.Bptr {
	if !b.hashed.Load() {
		b.hash.Store(b.store.hash.Sum(b.buf))
		b.hashed.Store(true)
	}
	return blkfmt.Bptr{Addr: b.addr, Hash: b.hash.Load(), Gen: b.gen}
}

// SetGen changes the birth generation of a block from New that was not yet enqueued.
func (b *Blk) SetGen(gen blkfmt.Gen) { b.gen = gen }

// Hold takes one more reference; the caller must have one already.
func (b *Blk) Hold() { b.ref.Add(1) }

// Drop gives back a reference; nil is allowed.
func (s *Store) Drop(b *Blk) {
	if b == nil {
		return
	}
	switch n := b.ref.Add(-1); {
	case n == 0:
		s.pool.put(b)
	case n < 0:
		panic("blkstore: block dropped more often than held: " + b.Where().String())
	}
}
