package gefs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// StopSweeping ends clearing in the background, so that a test can look at what is still to be done.
func (fs *FS) StopSweeping() { fs.sweeper.wake() }

// CommitEnds waits until no commit is under way: the last steps of one come after those who waited for
// it have been told.
func (fs *FS) CommitEnds() {
	fs.commitMu.Lock()
	defer fs.commitMu.Unlock()
}

// ToClear returns the number of files of which something is still to be cleared.
func (fs *FS) ToClear() int {
	fs.sweeper.mu.Lock()
	defer fs.sweeper.mu.Unlock()
	return len(fs.sweeper.jobs)
}

// TreeVersion returns how many batches of changes were made to a tree that somebody is attached to.
func (fs *FS) TreeVersion(label string) uint64 {
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	return fs.mounts[label].tree.Version()
}

// DataBlocks returns the number of data blocks of the file with this qid path.
func (fs *FS) DataBlocks(label string, qid uint64) (n int, err error) {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return 0, err
	}
	defer fs.unmount(c, m)
	from, to := kvfmt.AppendDatKey(nil, qid, 0), kvfmt.AppendDatKey(nil, qid, ^uint64(0))
	err = m.tree.ScanRange(guard(c), from, to, func(_, _ []byte) bool { n++; return true })
	return n, err
}

// DataAddr returns the address of the first data block of the file with this qid path.
func (fs *FS) DataAddr(label string, qid uint64) (at blkfmt.Addr, err error) {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return 0, err
	}
	defer fs.unmount(c, m)
	v, err := m.tree.Lookup(guard(c), kvfmt.AppendDatKey(nil, qid, 0), nil)
	if err != nil {
		return 0, err
	}
	bp, err := kvfmt.GetDatVal(v)
	return bp.Addr, err
}

// PlantData gives the file a data block at off, which need not be where one may begin: the one it has at 0.
func (fs *FS) PlantData(label string, qid, off uint64) error {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return err
	}
	defer fs.unmount(c, m)
	v, err := m.tree.Lookup(guard(c), kvfmt.AppendDatKey(nil, qid, 0), nil)
	if err != nil {
		return err
	}
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	return fs.upsert(guard(c), m, []kvfmt.Msg{{Op: kvfmt.Insert, Key: kvfmt.AppendDatKey(nil, qid, off), Val: v}})
}

// PlantClear puts a record of what is to be cleared into a tree, and has nobody clear it.
func (fs *FS) PlantClear(label string, rec kvfmt.Clear) error {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return err
	}
	defer fs.unmount(c, m)
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	return fs.upsert(guard(c), m, []kvfmt.Msg{{Op: kvfmt.Insert, Key: rec.AppendKey(nil), Val: rec.AppendValue(nil)}})
}

// A Limiter is a limiter with a clock of the test's.
type Limiter struct{ l *limiter }

// NewLimiter returns a limiter that sleeps and looks at the clock as it is told.
func NewLimiter(now func() time.Time, sleep func(time.Duration)) Limiter {
	return Limiter{&limiter{now: now, sleep: func(_ context.Context, d time.Duration) error { sleep(d); return nil }}}
}

// Take takes n bytes at rate bytes a second.
func (l Limiter) Take(n int, rate int64) { l.l.take(context.Background(), n, rate) }

// ScrubTakes makes the scrubber's clock one that goes on by itself: nobody waits, and it tells how long a
// scrub would have taken.
func (fs *FS) ScrubTakes() func() time.Duration {
	var mu sync.Mutex
	var took time.Duration
	fs.scrub.lim.mu.Lock()
	defer fs.scrub.lim.mu.Unlock()
	began := time.Now()
	fs.scrub.lim.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return began.Add(took) }
	fs.scrub.lim.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		took += d
		return ctx.Err()
	}
	return func() time.Duration { mu.Lock(); defer mu.Unlock(); return took }
}

// Reclaimed waits until all that deletions of snapshots have left to do is done, at the usual pace.
func (fs *FS) Reclaimed() {
	for {
		r := &fs.reclaimer
		r.mu.Lock()
		idle, moved := r.idle, r.moved
		r.mu.Unlock()
		if idle {
			return
		}
		<-moved
	}
}

// Reclaiming reports whether deletions of snapshots have left something to do.
func (fs *FS) Reclaiming() bool {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	return fs.forest.Reclaiming()
}

// ScrubSteps makes the scrubber's clock one that goes on by itself, but stops when a step has brought the
// scrub past *past bytes, until there is more there or the scrub is stopped.
func (fs *FS) ScrubSteps(past *atomic.Int64) {
	fs.ScrubTakes()
	fs.scrub.lim.mu.Lock()
	defer fs.scrub.lim.mu.Unlock()
	sleep := fs.scrub.lim.sleep
	fs.scrub.lim.sleep = func(ctx context.Context, d time.Duration) error {
		for fs.Scrub().Read > past.Load() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return sleep(ctx, d)
	}
}

// LiveBlocks returns the blocks of the label's tree, as it is now: nodes and data.
func (fs *FS) LiveBlocks(c *ninep.Ctx, label string) (map[blkfmt.Addr]bool, error) {
	fs.lockMut(c)
	t, err := fs.forest.Open(label)
	fs.mutMu.Unlock()
	if err != nil {
		return nil, err
	}
	live := map[blkfmt.Addr]bool{}
	err = t.Walk(guard(c), betree.Visit{
		Skip: func(bp blkfmt.Bptr, _ int) bool { live[bp.Addr] = true; return false },
		Data: func(_ []byte, bp blkfmt.Bptr) error { live[bp.Addr] = true; return nil },
	})
	fs.lockMut(c)
	t.Close()
	fs.mutMu.Unlock()
	return live, err
}

// StopCounting makes fs a server that knows nothing of quotas.
func (fs *FS) StopCounting() {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	clear(fs.quotas.tallies)
	for _, m := range fs.mounts {
		m.tally.Store(nil)
	}
}

// Miscount makes what is known of a label that has quotas wrong.
func (fs *FS) Miscount(label string) {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	fs.quotas.tallies[label].take([]charge{{1, account{Use: kvfmt.Use{Blocks: 3, Files: 1}}}})
}
