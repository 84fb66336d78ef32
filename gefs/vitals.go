package gefs

import (
	"context"
	"sync/atomic"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
)

// unsynced knows since when there is something that a loss of power would take. Its times are nanoseconds since
// born, 0 for none.
type unsynced struct {
	born   time.Time
	open   atomic.Int64 // the first change since the last Seal; set with the mutation lock held
	sealed atomic.Int64 // the first change that is sealed and not durable
}

// changed is called after each request that may have changed something, with the mutation lock held.
func (u *unsynced) changed(fs *FS) {
	if u.open.Load() == 0 && fs.forest.Changed() {
		u.open.Store(int64(time.Since(u.born)))
	}
}

// none says that there is nothing to commit.
func (u *unsynced) none() { u.open.Store(0) }

// seal says that all changes so far are part of the commit that begins. After one that failed its are too.
func (u *unsynced) seal() {
	if u.sealed.Load() == 0 {
		u.sealed.Store(u.open.Load())
	}
	u.open.Store(0)
}

// durable says that the commit that began last would survive.
func (u *unsynced) durable() { u.sealed.Store(0) }

// Unsynced returns the age of the oldest change that is not on stable storage, 0 if there is none. It takes no
// lock.
func (fs *FS) Unsynced() time.Duration {
	u := &fs.unsynced
	oldest := u.open.Load() // before sealed, to which it moves
	if sealed := u.sealed.Load(); sealed != 0 {
		oldest = sealed
	}
	if oldest == 0 {
		return 0
	}
	return time.Since(u.born) - time.Duration(oldest)
}

// Backlog says how much deletions of snapshots have left to do in the background: the number of snapshots
// that nobody needs any more, and of lists of blocks that only they had. It waits for the mutation lock; the
// caller has none, and is outside any epoch.
func (fs *FS) Backlog() (snapshots, lists int) {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	return fs.forest.Backlog()
}

// Held calls f with the address of every block that is kept for snapshots only, in the committed state, until
// f returns false; see check.Checker.Held. It reads the snapshot tree and the deadlists from the device, while
// others go on, as Examine does, but does not commit first. The caller has no lock and is outside any epoch.
// Errors: ctx's, blkstore.ErrGaveWay.
func (fs *FS) Held(ctx context.Context, f func(blkfmt.Addr) bool) error {
	return fs.viewed(ctx, func(ctx context.Context, v *blkstore.View) error {
		var c check.Checker
		return c.Held(ctx, v, v.Size(), v.Super(), f)
	})
}
