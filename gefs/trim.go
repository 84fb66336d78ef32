package gefs

import (
	"context"
	"errors"

	"gefs9p/blkstore"
)

// trimRate is how many bytes a second are discarded in the background.
const trimRate = 512 << 20

// Trim tells the device all that is free on the disk, so that it need not keep it, and returns how many
// bytes that were. What was freed before the call is free then. Others go on meanwhile. The caller has no
// lock and is outside any epoch. Errors: those of blkstore.Store.Trim and of a commit.
func (fs *FS) Trim(ctx context.Context) (int64, error) {
	if err := fs.Err(); err != nil {
		return 0, err
	}
	if err := fs.release(); err != nil {
		return 0, err
	}
	return fs.st.Trim(ctx, blkstore.TrimOptions{})
}

// trimLoop discards what commits have made free, until the file system is closed or it turns out that this is in
// vain.
func (fs *FS) trimLoop() {
	for {
		select {
		case <-fs.trim:
		case <-fs.ctx.Done():
			return
		}
		_, err := fs.st.Trim(fs.ctx, blkstore.TrimOptions{Stale: true, Least: blkstore.TrimLeast, Rate: trimRate})
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled):
			return
		default:
			fs.log.Warn("what is free is not discarded any more", "err", err)
			return
		}
	}
}

// released says that a commit has made blocks free.
func (fs *FS) released() {
	select {
	case fs.trim <- struct{}{}:
	default:
	}
}
