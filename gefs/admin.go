package gefs

import (
	"context"
	"io"

	"gefs9p/arena"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/snap"
)

// Permit says whether every user may attach with '%', without permission checks; it returns what
// held before.
func (fs *FS) Permit(on bool) (was bool) { return fs.permit.Swap(on) }

// Reserve says whether ordinary requests leave the reserve alone, as they do at first; it returns
// what held before. Without it a full disk can be filled further, until only what the logs need is
// left, and then may need a removal of a snapshot to be of use again.
func (fs *FS) Reserve(on bool) (was bool) { return !fs.spendReserve.Swap(!on) }

// room returns the number of blocks that a request may still take.
func (fs *FS) room() int64 {
	n := fs.st.Arenas().Room()
	if fs.spendReserve.Load() {
		for _, a := range fs.st.Arenas().Stat() {
			n += min(a.Free, a.Reserve) / 2 / blkfmt.BlkSize
		}
	}
	return n
}

// Arenas describes the disk's arenas: sizes, what is used and free.
func (fs *FS) Arenas() []arena.Stat { return fs.st.Arenas().Stat() }

// Err returns why the file system takes no more changes, nil as long as it does.
func (fs *FS) Err() error {
	if err := fs.st.Err(); err != nil {
		return err
	}
	if !fs.st.CanWrite() {
		return errReadOnly
	}
	return nil
}

// Examine commits, and then calls f with the device, on which that state, or a newer one, stays as it
// is until f returns. Clients go on reading, writing and syncing: they wait for no more than the moment in
// which the state is fixed. See blkstore.View.
//
// If the disk becomes too full to keep what f reads, f's context ends, its reads fail, and Examine returns
// blkstore.ErrGaveWay. Callers wait for each other. The caller has no lock and is outside any epoch.
func (fs *FS) Examine(ctx context.Context, f func(ctx context.Context, r io.ReaderAt, size int64) error) error {
	if err := fs.Sync(ctx); err != nil && fs.st.CanWrite() {
		return err
	}
	return fs.viewed(ctx, func(ctx context.Context, v *blkstore.View) error { return f(ctx, v, v.Size()) })
}

// viewed calls f with a View of what is committed. It waits for who has one already. Otherwise it is as
// Examine.
func (fs *FS) viewed(ctx context.Context, f func(ctx context.Context, v *blkstore.View) error) error {
	select {
	case fs.viewing <- struct{}{}:
		defer func() { <-fs.viewing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fs.commitMu.Lock()
	v, err := fs.st.View()
	fs.commitMu.Unlock()
	if err != nil {
		return err
	}
	defer v.Close()
	v.OnLost(func() { cancel(blkstore.ErrGaveWay) })
	err = f(ctx, v)
	if v.Lost() {
		return blkstore.ErrGaveWay
	}
	return err
}

// Labels returns the labels of the disk, ordered by name.
func (fs *FS) Labels() []snap.LabelInfo { return fs.forest.Labels() }
