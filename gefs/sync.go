package gefs

import (
	"context"
	"errors"
	"sync"
	"time"

	"gefs9p/blkstore"
	"gefs9p/ninep"
)

// A round is one commit: sealed from what was acknowledged before, and then on its way.
type round struct {
	durable chan struct{} // closed when it would survive a power cut, or never will
	err     error         // valid once durable is closed
}

// A committer gathers everybody who waits for the next commit.
type committer struct {
	mu      sync.Mutex
	next    *round        // not sealed yet
	current *round        // sealed, nil if none is on its way
	kick    chan struct{} // a token when somebody waits for next
}

func (cm *committer) init() {
	cm.next = &round{durable: make(chan struct{})}
	cm.kick = make(chan struct{}, 1)
}

// Sync returns when everything that was acknowledged before the call is on stable storage. Many
// callers share one commit. The caller has no lock and is outside any epoch. Errors: ctx's, the
// failure for which the disk takes no more writes.
func (fs *FS) Sync(ctx context.Context) error {
	if !fs.st.CanWrite() {
		return nil
	}
	fs.mutMu.Lock()
	changed := fs.forest.Changed() || fs.st.NeedsCommit() || fs.st.Dying() > 0
	cm := &fs.commit
	cm.mu.Lock()
	r := cm.next
	if !changed {
		r = cm.current
	}
	cm.mu.Unlock()
	fs.mutMu.Unlock()
	if r == nil {
		return fs.st.Err()
	}
	if changed {
		select {
		case cm.kick <- struct{}{}:
		default:
		}
	}
	select {
	case <-r.durable:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// syncFor is Sync for a client, whose other requests go on meanwhile.
func (fs *FS) syncFor(c *ninep.Ctx) error {
	ctx, cancel := context.WithCancel(fs.ctx)
	defer cancel()
	if done := c.Cancelled(); done != nil {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-done:
				cancel()
			case <-stop:
			}
		})
		defer wg.Wait()
		defer close(stop)
	}
	var err error
	c.Sleep(func() { err = fs.Sync(ctx) })
	if errors.Is(err, context.Canceled) {
		return ninep.ErrInterrupted
	}
	return fs.wire(err, "sync", nil)
}

// commitLoop makes one commit after the other: when somebody waits for one, and when the last is
// long enough ago. It ends when the file system is closed; whoever waits then is told so.
func (fs *FS) commitLoop() {
	every := fs.opt.CommitEvery
	if every <= 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-fs.commit.kick:
		case <-tick.C:
		case <-fs.ctx.Done():
			fs.commit.mu.Lock()
			r := fs.commit.next
			r.err = fs.ctx.Err()
			close(r.durable)
			fs.commit.next = &round{durable: make(chan struct{})}
			fs.commit.mu.Unlock()
			return
		}
		fs.makeCommit()
	}
}

// makeCommit seals and commits what there is.
func (fs *FS) makeCommit() {
	fs.commitMu.Lock()
	defer fs.commitMu.Unlock()
	fs.makeCommitLocked()
}

// makeCommitLocked is makeCommit with commitMu held.
func (fs *FS) makeCommitLocked() {
	cm := &fs.commit
	begin := func() *round {
		cm.mu.Lock()
		defer cm.mu.Unlock()
		r := cm.next
		cm.next, cm.current = &round{durable: make(chan struct{})}, r
		return r
	}
	finish := func(r *round, err error) {
		cm.mu.Lock()
		defer cm.mu.Unlock()
		if cm.current == r {
			r.err = err
			close(r.durable)
			cm.current = nil
		}
	}

	g := fs.st.Guard()
	defer fs.st.FreeGuard(g)
	fs.mutMu.Lock()
	if err := fs.st.Err(); err != nil || !fs.forest.Changed() && !fs.st.NeedsCommit() && fs.st.Dying() == 0 {
		r := begin()
		if err == nil {
			fs.unsynced.none()
		}
		fs.mutMu.Unlock()
		finish(r, err)
		return
	}
	var com *blkstore.Commit
	g.Enter()
	err := fs.saveQuotas(g)
	var root blkstore.Root
	if err == nil {
		root, err = fs.forest.Seal(g)
	}
	if err == nil {
		com, err = fs.st.Seal(root)
	}
	g.Leave()
	if err != nil {
		fs.st.Latch(err)
	}
	r := begin()
	fs.unsynced.seal()
	fs.mutMu.Unlock()
	if err != nil {
		finish(r, err)
		return
	}
	err = com.Run(func(err error) {
		if err == nil {
			fs.unsynced.durable()
		}
		finish(r, err)
	})
	fs.mutMu.Lock()
	com.Done()
	fs.mutMu.Unlock()
	if err != nil {
		fs.log.Error("commit failed", "err", err)
		return
	}
	fs.released()
}
