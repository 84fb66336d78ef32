package gefs

import (
	"context"

	"gefs9p/blkstore"
)

// Grow makes the disk as large as its device, or the device size bytes long first if size is not 0; that can
// be done with files only. It returns when the larger disk is on stable storage: a power cut before
// finds the disk with the arenas that it had.
//
// Clients go on. Who was told that the disk is full finds room in the new arenas even before Grow returns.
// The caller has no lock and is outside any epoch. Errors: those of blkstore.Store.Grow, which refuses
// before anything has changed; if the commit failed, what Err says from then on.
func (fs *FS) Grow(ctx context.Context, size int64) (blkstore.Growth, error) {
	fs.commitMu.Lock()
	defer fs.commitMu.Unlock()
	if err := ctx.Err(); err != nil {
		return blkstore.Growth{}, err
	}
	if err := fs.ctx.Err(); err != nil { // closed, or about to be
		return blkstore.Growth{}, err
	}
	done, err := fs.st.Grow(&fs.mutMu, size)
	if err != nil {
		return done, err
	}
	fs.makeCommitLocked()
	if err := fs.st.Err(); err != nil {
		return done, err
	}
	g := done.Arenas
	fs.log.Info("the disk has grown", "bytes", done.Length, "arenas", g.Count, "each", g.Size, "first", g.First)
	return done, nil
}
