package gefs

import (
	"context"

	"gefs9p/ninep"
)

// Label gives the snapshot old a second name, or with mutable makes a fork of it that can be
// written, while others go on working in it. It is durable after the next Sync. Errors: those of
// snap.Forest.Label, errReadOnly. Source: the console's snap.
func (fs *FS) Label(c *ninep.Ctx, old, name string, mutable bool) error {
	if err := fs.begin(c, 1); err != nil {
		return err
	}
	defer fs.end(c)
	if err := fs.forest.Label(old, name, mutable); err != nil {
		return err
	}
	fs.recount(name)
	return nil
}

// DeleteLabel removes a name. What only it kept is given back in the background; it takes the same time
// for any snapshot. It is durable after the next Sync. Errors: those of snap.Forest.Delete, errReadOnly.
func (fs *FS) DeleteLabel(c *ninep.Ctx, name string) error {
	if err := fs.begin(c, 0); err != nil {
		return err
	}
	defer fs.end(c)
	err := fs.forest.Delete(name)
	if err == nil {
		fs.dropQuotas(guard(c), name)
		fs.reclaimer.wake()
	}
	return err
}

// Space returns the number of blocks that would come back if all the labels were deleted, although
// nothing is. It counts what stands on deadlists, and walks what no later snapshot shares, while others
// go on. Errors: those of DeleteLabel, ctx's, what cannot be read.
func (fs *FS) Space(ctx context.Context, c *ninep.Ctx, labels ...string) (blocks int64, err error) {
	g := guard(c)
	fs.lockMut(c)
	v, err := fs.forest.Survey(g, labels)
	fs.mutMu.Unlock()
	if err != nil {
		return 0, err
	}
	blocks, err = v.Count(ctx, g)
	fs.lockMut(c)
	v.Done()
	fs.mutMu.Unlock()
	fs.reclaimer.wake() // it may have waited for the snapshots
	return blocks, err
}
