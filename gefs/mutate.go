package gefs

import (
	"context"
	"errors"
	"maps"
	"slices"

	"gefs9p/arena"
	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// treeBlocks is how many blocks an upsert of one small batch may need at most while the disk
// still counts as having room: shadows and splits along a path.
const treeBlocks = 64

// lockMut takes the mutation lock. The caller is inside an epoch and leaves it while it waits.
func (fs *FS) lockMut(c *ninep.Ctx) {
	if !fs.mutMu.TryLock() {
		c.Sleep(fs.mutMu.Lock)
	}
}

// begin takes the mutation lock for a request that changes something and needs up to blocks new
// blocks for good; 0 is for requests that give space back, which may use what is kept in reserve.
// It waits until the store has room in memory. fs.mutMu is held if and only if the error is nil.
// What the caller knew before may have changed.
func (fs *FS) begin(c *ninep.Ctx, blocks int) error {
	for try := 0; ; try++ {
		fs.lockMut(c)
		var wait func() error
		switch {
		case !fs.st.CanWrite() || fs.st.Err() != nil:
			fs.mutMu.Unlock()
			return errReadOnly
		case fs.st.Crowded():
			wait = func() error { return fs.st.WaitRoom(fs.ctx) }
		case fs.st.Arenas().LogPressure():
			wait = func() error { return fs.Sync(fs.ctx) }
		case blocks > 0 && fs.room() < int64(blocks+treeBlocks) && fs.st.GiveWay():
			wait = func() error { return nil } // there is more room now than when it was asked for
		case blocks > 0 && fs.room() < int64(blocks+treeBlocks):
			need := int64(blocks + treeBlocks)
			if fs.reclaimer.busy() {
				try = 0 // what it frees comes first
			} else if try >= 3 || fs.room()+fs.waiting() < need && !fs.settle(guard(c), need) {
				fs.mutMu.Unlock()
				return errFull
			}
			wait = fs.reclaim
		default:
			return nil
		}
		fs.mutMu.Unlock()
		var err error
		c.Sleep(func() { err = wait() })
		if err != nil && !errors.Is(err, context.Canceled) {
			return errReadOnly
		}
		if fs.ctx.Err() != nil {
			return errReadOnly
		}
	}
}

// waiting returns the number of blocks that were freed and are not free yet: a commit has to come
// first, or readers have to leave.
func (fs *FS) waiting() int64 {
	n := int64(0)
	for _, a := range fs.st.Arenas().Stat() {
		n += a.Waiting / blkfmt.BlkSize
	}
	return n
}

// settleMost is how many times a tree's messages are moved down for one request.
const settleMost = 64

// settle moves messages down the trees in use, as blocks that were cleared are freed only when the
// message arrives. It stops when need blocks are free or on their way, and reports whether they are.
// The mutation lock is held.
func (fs *FS) settle(g *epoch.Guard, need int64) bool {
	fs.mountMu.Lock()
	mounts := slices.Collect(maps.Values(fs.mounts))
	fs.mountMu.Unlock()
	for _, m := range mounts {
		for range settleMost {
			moved, err := m.tree.Settle(g)
			var free *betree.FreeError
			if errors.As(err, &free) {
				fs.st.Latch(err)
			}
			if err != nil {
				fs.log.Warn("moving messages down for space", "snapshot", m.name, "err", err)
			}
			if err != nil || !moved {
				break
			}
			if fs.room()+fs.waiting() >= need {
				return true
			}
		}
	}
	return false
}

// reclaim makes free what was freed before it is called, and some of what deletions of snapshots have
// left to free. The caller has no lock and is outside any epoch.
func (fs *FS) reclaim() error {
	fs.reclaimer.wait(fs.ctx.Done())
	return fs.release()
}

// release makes free what was freed before it is called. The caller has no lock and is outside any epoch.
func (fs *FS) release() error {
	if err := fs.Sync(fs.ctx); err != nil {
		return err
	}
	// A commit gives space back when it has done all else.
	fs.commitMu.Lock()
	fs.commitMu.Unlock()
	fs.st.TrimEnds()
	return fs.st.Reclaim(fs.ctx)
}

// end gives the mutation lock back after a request that changed something: its worker moves limbo
// on when it leaves the epoch.
func (fs *FS) end(c *ninep.Ctx) {
	c.Worker.(*Worker).tick = true
	fs.unsynced.changed(fs)
	fs.mutMu.Unlock()
}

// Leave leaves the epoch, and reclaims what the request made unreachable.
func (w *Worker) Leave() {
	w.Guard.Leave()
	if w.tick && w.store != nil {
		w.tick = false
		w.store.Tick()
	}
}

// upsert applies msgs to the tree of m. The mutation lock is held. On failure nothing has changed.
func (fs *FS) upsert(g *epoch.Guard, m *Mount, msgs []kvfmt.Msg) error {
	return fs.upsertPublish(g, m, msgs, func(swap func()) { swap() })
}

func (fs *FS) upsertPublish(g *epoch.Guard, m *Mount, msgs []kvfmt.Msg, publish func(swap func())) error {
	err := m.tree.UpsertPublish(g, msgs, publish)
	var free *betree.FreeError
	if errors.As(err, &free) {
		// The change is made, but the disk's bookkeeping contradicts itself: no further step
		// may be built on it.
		fs.st.Latch(err)
	}
	return err
}

// retry runs a change that gives space back; if the disk is too full even for that, it commits,
// which frees what is dead, and tries once more. change is called with the mutation lock held.
func (fs *FS) retry(c *ninep.Ctx, change func() error) error {
	return fs.retryWait(c, func() (bool, error) { return false, change() })
}

// retryWait is retry for a change that may have waited, and then has given the mutation lock back: that
// ends it.
func (fs *FS) retryWait(c *ninep.Ctx, change func() (waited bool, err error)) error {
	for try := 0; ; try++ {
		if err := fs.begin(c, 0); err != nil {
			return err
		}
		waited, err := change()
		if waited {
			return err
		}
		fs.end(c)
		if !errors.Is(err, arena.ErrFull) || try == 2 {
			return err
		}
		c.Sleep(func() { fs.reclaim() })
	}
}

// A change collects what one request does to a tree: the messages of one batch, the new data blocks
// they point at, and what becomes of the Dents. Readers see all of it or nothing.
type change struct {
	fs    *FS
	m     *Mount
	g     *epoch.Guard
	gen   blkfmt.Gen
	msgs  []kvfmt.Msg
	blks  []*blkstore.Blk // queued, with a reference
	edits []edit

	charges []charge // what it adds to what users have, if the label has quotas
}

// An edit changes a Dent, whose lock is held.
type edit struct {
	de *Dent
	fn func(de *Dent)
}

func (fs *FS) newChange(g *epoch.Guard, m *Mount) *change {
	return &change{fs: fs, m: m, g: g, gen: m.tree.Prepare()}
}

func (ch *change) add(op kvfmt.Op, key, val []byte) {
	ch.msgs = append(ch.msgs, kvfmt.Msg{Op: op, Key: key, Val: val})
}

// data adds a block of file data at off, whose bytes fill writes. seq says that the block will not
// grow any more.
func (ch *change) data(qid, off uint64, seq bool, fill func(p []byte)) error {
	b, err := ch.fs.st.NewData(ch.g, ch.gen, qid, seq)
	if err != nil {
		return err
	}
	fill(b.Bytes())
	ch.fs.st.Enqueue(b)
	ch.blks = append(ch.blks, b)
	ch.add(kvfmt.Insert, kvfmt.AppendDatKey(nil, qid, off), b.Ptr().Append(nil))
	return nil
}

// then has fn change de in the moment in which the batch becomes visible.
func (ch *change) then(de *Dent, fn func(de *Dent)) { ch.edits = append(ch.edits, edit{de, fn}) }

// touch marks the directory dir as changed by f's user, now.
func (ch *change) touch(dir *Dent, uid int32, now int64) {
	ch.wstat(dir, kvfmt.AppendWstat(nil, kvfmt.WMtime|kvfmt.WMuid, &kvfmt.Dir{Mtime: now, Muid: uid}))
}

// wstat changes the entry of de as the payload of a Wstat message says. What goes to the tree is the
// whole entry where that is known, and not the Wstat: as long as it is in the root's buffer the next one
// takes its place there (see betree), and so a directory or file that changes all the time has one
// message, not thousands. A Wstat would have to stay, as each adds one to the version. An orphan has no
// entry any more, only its Dent.
func (ch *change) wstat(de *Dent, payload []byte) {
	de.mu.RLock()
	d, gone, root := de.dir, de.gone, de.isRoot() // for the mutation lock is held
	de.mu.RUnlock()
	if mask := payload[0]; mask&(kvfmt.WLength|kvfmt.WUid) != 0 && !root && ch.counts() {
		after := d
		if kvfmt.ApplyWstat(&after, payload) == nil {
			ch.replaces(&d, &after, gone)
		}
	}
	known := true
	for _, e := range ch.edits {
		known = known && e.de != de // another edit of this batch comes first
	}
	switch {
	case gone:
	case known && kvfmt.ApplyWstat(&d, payload) == nil:
		ch.add(kvfmt.Insert, de.key(nil), d.Append(nil))
	default:
		ch.add(kvfmt.Wstat, de.key(nil), payload)
	}
	ch.then(de, func(de *Dent) {
		if err := kvfmt.ApplyWstat(&de.dir, payload); err != nil {
			panic(err) // we made it
		}
	})
}

// apply upserts the batch, if quotas allow what it adds. If that fails nothing has changed, and the new
// data blocks are free again.
func (ch *change) apply() error {
	if err := ch.allowed(); err != nil {
		return ch.done(err)
	}
	if len(ch.msgs) == 0 { // an orphan's values
		ch.publish(func() {})
		return nil
	}
	return ch.done(ch.fs.upsertPublish(ch.g, ch.m, ch.msgs, ch.publish))
}

// publish makes the batch visible in the tree and in the Dents.
func (ch *change) publish(swap func()) {
	for i, e := range ch.edits {
		if i == 0 || e.de != ch.edits[i-1].de {
			e.de.mu.Lock()
			defer e.de.mu.Unlock()
		}
	}
	swap()
	for _, e := range ch.edits {
		e.fn(e.de)
	}
	if t := ch.m.tally.Load(); t != nil && len(ch.charges) > 0 {
		t.take(ch.charges)
	}
}

// done drops the data blocks; after an error it frees them.
func (ch *change) done(err error) error {
	for _, b := range ch.blks {
		var free *betree.FreeError
		if err != nil && !errors.As(err, &free) {
			if err := ch.fs.st.Free(b.Where()); err != nil {
				ch.fs.st.Latch(err)
			}
		}
		ch.fs.st.Drop(b)
	}
	ch.blks = nil
	return err
}
