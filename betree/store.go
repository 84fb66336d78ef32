package betree

import (
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
)

// A Block is one block in memory.
type Block interface {
	// Bytes returns the block's BlkSize bytes, which may be written only between New and Enqueue.
	Bytes() []byte
	// Ptr returns the pointer for a parent to store. The first call computes the hash; it must
	// come after Enqueue. Where returns it without the hash.
	Ptr() blkfmt.Bptr
	Where() blkfmt.Bptr
	// Hold takes one more reference; the caller has one.
	Hold()
}

// A Store is what a tree needs of the block store. On makes one of a blkstore.Store.
type Store interface {
	// GetNode returns the pivot or leaf at bp, whose hash and structure have been verified.
	GetNode(g *epoch.Guard, bp blkfmt.Bptr) (Block, error)
	// New allocates a zeroed block. Enqueue makes it final; Discard takes it back instead.
	New(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen) (Block, error)
	Enqueue(b Block)
	Discard(b Block)
	// Drop gives back the reference that GetNode, New or Hold took.
	Drop(b Block)
}

// On returns s as trees see it.
func On(s *blkstore.Store) Store { return onStore{s} }

type onStore struct{ s *blkstore.Store }

func (o onStore) GetNode(g *epoch.Guard, bp blkfmt.Bptr) (Block, error) {
	b, err := o.s.GetNode(g, bp)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (o onStore) New(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen) (Block, error) {
	b, err := o.s.New(g, t, gen)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (o onStore) Enqueue(b Block) { o.s.Enqueue(b.(*blkstore.Blk)) }
func (o onStore) Discard(b Block) { o.s.Discard(b.(*blkstore.Blk)) }
func (o onStore) Drop(b Block)    { o.s.Drop(b.(*blkstore.Blk)) }
