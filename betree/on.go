package betree

import (
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
)

// On returns the block store as trees see it.
func On(s *blkstore.Store) Store { return on{s} }

type on struct{ s *blkstore.Store }

func (o on) GetNode(g *epoch.Guard, bp blkfmt.Bptr) (Block, error) {
	b, err := o.s.GetNode(g, bp)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (o on) New(g *epoch.Guard, t blkfmt.Type, gen blkfmt.Gen) (Block, error) {
	b, err := o.s.New(g, t, gen)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (o on) Enqueue(b Block) { o.s.Enqueue(b.(*blkstore.Blk)) }
func (o on) Discard(b Block) { o.s.Discard(b.(*blkstore.Blk)) }
func (o on) Drop(b Block)    { o.s.Drop(b.(*blkstore.Blk)) }
