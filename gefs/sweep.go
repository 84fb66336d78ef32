package gefs

import (
	"errors"
	"math"
	"sync"
	"time"

	"gefs9p/arena"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// Files of up to clearNow blocks are cleared in the batch that truncates or removes them; the rest
// is done in the background, clearBatch blocks at a time.
const (
	clearNow   = 64
	clearBatch = 128
)

// A clearJob does what a Clear record says. The record stands in the tree so that clearing goes on
// after a crash. Job and record end together: as long as there is the record, the file's data must not
// change, or what is new would be taken for what is to be cleared.
type clearJob struct {
	m   *Mount      // with a reference
	rec kvfmt.Clear // guarded by the mutation lock

	// guarded by sweeper.mu
	queued bool
	done   chan struct{} // closed when it is no longer queued
	err    error         // then: why it has to be tried again
}

// A sweeper clears in the background.
//
//   - jobs are waiting or being done, in order.
//   - byID has these, and those that failed. They are tried again when somebody needs the file. Entries
//     come and go under the mutation lock.
type sweeper struct {
	mu   sync.Mutex
	cond *sync.Cond
	jobs []*clearJob
	stop bool
	byID map[clearID]*clearJob
}

type clearID struct {
	m   *Mount
	qid uint64
}

func (s *sweeper) init() {
	s.cond = sync.NewCond(&s.mu)
	s.byID = make(map[clearID]*clearJob)
}

// wake ends the sweeper's loop after the batch it works on.
func (s *sweeper) wake() {
	s.mu.Lock()
	s.stop = true
	s.cond.Broadcast()
	s.mu.Unlock()
}

// add enters a job, with a reference on the mount that it gives back when it is done.
func (s *sweeper) add(m *Mount, rec kvfmt.Clear) {
	j := &clearJob{m: m, rec: rec}
	s.mu.Lock()
	s.byID[clearID{m, rec.Qid}] = j
	s.mu.Unlock()
	s.again(j)
}

// again has the job, which is in byID, tried again if it has failed. The mutation lock is held. The
// channel is closed when it is done or has failed.
func (s *sweeper) again(j *clearJob) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !j.queued {
		j.queued, j.done, j.err = true, make(chan struct{}), nil
		s.jobs = append(s.jobs, j)
		s.cond.Broadcast()
	}
	return j.done
}

// forget removes a job that is done. The mutation lock is held.
func (s *sweeper) forget(j *clearJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, clearID{j.m, j.rec.Qid})
}

// job returns what is being cleared of the file, nil if nothing.
func (s *sweeper) job(m *Mount, qid uint64) *clearJob {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) == 0 {
		return nil
	}
	return s.byID[clearID{m, qid}]
}

// waitClear waits until nothing of the file is to be cleared. The mutation lock is held; if there
// was something to wait for, it was given back, and waitClear returns true: the caller begins again,
// unless there is an error, why it cannot be cleared or ErrInterrupted.
func (fs *FS) waitClear(c *ninep.Ctx, m *Mount, qid uint64) (waited bool, err error) {
	j := fs.sweeper.job(m, qid)
	if j == nil {
		return false, nil
	}
	done := fs.sweeper.again(j)
	fs.mutMu.Unlock()
	cancelled := c.Cancelled()
	c.Sleep(func() {
		select {
		case <-done:
			fs.sweeper.mu.Lock()
			err = j.err
			fs.sweeper.mu.Unlock()
		case <-cancelled:
			err = ninep.ErrInterrupted
		case <-fs.ctx.Done():
			err = errReadOnly
		}
	})
	return true, err
}

// settled runs change, which touches the data of f, with the mutation lock held and when nothing of
// the file is to be cleared. blocks is what begin is told. A change that gives space back, with 0, is
// tried again after a commit if the disk is too full even for that. The errors are begin's and change's.
func (fs *FS) settled(c *ninep.Ctx, f *File, blocks int, change func() error) error {
	for try := 0; ; {
		if err := fs.begin(c, blocks); err != nil {
			return err
		}
		if waited, err := fs.waitClear(c, f.mount, f.dent.qid); err != nil {
			return err
		} else if waited {
			continue
		}
		err := change()
		fs.end(c)
		if blocks > 0 || !errors.Is(err, arena.ErrFull) || try == 2 {
			return err
		}
		try++
		c.Sleep(func() { fs.reclaim() })
	}
}

// clears returns messages that clear the data blocks of which rec speaks, at most max of them, and
// whether there are more. Holes need none.
func (m *Mount) clears(g *epoch.Guard, rec kvfmt.Clear, max int) (msgs []kvfmt.Msg, more bool, err error) {
	from := kvfmt.AppendDatKey(nil, rec.Qid, rec.From)
	to := kvfmt.AppendDatKey(nil, rec.Qid, rec.To)
	var bad error
	err = m.tree.ScanRange(g, from, to, func(k, v []byte) bool {
		var bp blkfmt.Bptr
		if bp, bad = kvfmt.GetDatVal(v); bad != nil {
			return false
		}
		if bp.Gen > rec.Gen {
			return true
		}
		if len(msgs) == max {
			more = true
			return false
		}
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Clearb, Key: append([]byte(nil), k...)})
		return true
	})
	if err == nil {
		err = bad
	}
	return msgs, more, err
}

// clear adds to the batch what clears the file's data from offset from on, or else a record for the
// background. start is to be called when the batch is applied.
//
// Of an orphan everything is cleared at once, in several batches: there is a record that speaks of all its
// data already, and no place for another. A failure then may leave a part cleared.
func (ch *change) clear(de *Dent, from uint64) (start func(), err error) {
	if de.orphan {
		return func() {}, ch.clearOrphan(de, from)
	}
	rec := kvfmt.Clear{Qid: de.qid, Gen: ch.gen, From: from, To: math.MaxUint64}
	msgs, more, err := ch.m.clears(ch.g, rec, clearNow)
	if err != nil {
		return nil, err
	}
	ch.msgs = append(ch.msgs, msgs...)
	if !more {
		return func() {}, nil
	}
	ch.add(kvfmt.Insert, rec.AppendKey(nil), rec.AppendValue(nil))
	return func() {
		ch.m.hold()
		ch.fs.sweeper.add(ch.m, rec)
	}, nil
}

// clearOrphan clears the data of an orphan from offset from on; the last batch is ch itself.
func (ch *change) clearOrphan(de *Dent, from uint64) error {
	rec := orphanRecord(de)
	rec.From = from
	for {
		msgs, more, err := ch.m.clears(ch.g, rec, clearNow)
		if err != nil {
			return err
		}
		if !more {
			ch.msgs = append(ch.msgs, msgs...)
			return nil
		}
		if err := ch.fs.upsert(ch.g, ch.m, msgs); err != nil {
			return err
		}
	}
}

// widen makes the job that clears the end of the file clear all of it, once the batch is applied and
// start is called. The mutation lock is held until then, so no batch of the job is under way.
func (ch *change) widen(j *clearJob) (start func()) {
	rec := j.rec
	rec.From, rec.To, rec.Gen = 0, math.MaxUint64, ch.gen
	ch.add(kvfmt.Insert, rec.AppendKey(nil), rec.AppendValue(nil))
	return func() {
		j.rec = rec
		ch.fs.sweeper.again(j)
	}
}

// resume enters the jobs that a tree still has from before. The mutation lock and FS.mountMu are
// held.
func (s *sweeper) resume(m *Mount) {
	g := m.fs.st.Guard()
	defer m.fs.st.FreeGuard(g)
	g.Enter()
	defer g.Leave()
	err := m.tree.Scan(g, kvfmt.AppendClearPrefix(nil), nil, func(k, v []byte) bool {
		rec, err := kvfmt.GetClear(k, v)
		if err != nil {
			m.fs.log.Warn("ignoring a malformed record", "snapshot", m.name, "err", err)
			return true
		}
		m.refs++
		s.add(m, rec)
		return true
	})
	if err != nil {
		m.fs.log.Error("cannot find out what is still to be cleared", "snapshot", m.name, "err", err)
	}
}

// sweepLoop does one job after the other until the file system is closed. What is left then goes
// on when the snapshot is mounted next.
func (fs *FS) sweepLoop() {
	s := &fs.sweeper
	for {
		s.mu.Lock()
		for len(s.jobs) == 0 && !s.stop {
			s.cond.Wait()
		}
		if s.stop {
			s.mu.Unlock()
			return
		}
		j := s.jobs[0]
		s.mu.Unlock()

		err := fs.sweep(j)
		if err != nil && fs.ctx.Err() == nil {
			fs.log.Error("clearing a truncated or removed file failed; it will be tried again when the file is written to, or at the next start",
				"snapshot", j.m.name, "qid", j.rec.Qid, "err", err)
		}

		s.mu.Lock()
		s.jobs = s.jobs[1:]
		j.queued, j.err = false, err
		close(j.done)
		s.mu.Unlock()
		if err == nil {
			c, end := fs.Background()
			fs.unmount(c, j.m)
			end()
		}
	}
}

// sweep does a job, batch by batch, so that others come in between.
func (fs *FS) sweep(j *clearJob) error {
	for {
		if fs.ctx.Err() != nil {
			return fs.ctx.Err()
		}
		more, err := fs.sweepBatch(j)
		if errors.Is(err, arena.ErrFull) {
			if err := fs.reclaim(); err != nil {
				return err
			}
			// If that gave nothing, somebody else has to make room first.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-fs.ctx.Done():
			}
			continue
		}
		if err != nil || !more {
			return err
		}
	}
}

func (fs *FS) sweepBatch(j *clearJob) (more bool, err error) {
	c, end := fs.Background()
	defer end()
	if err := fs.begin(c, 0); err != nil {
		return false, err
	}
	defer fs.end(c)
	g := guard(c)
	msgs, more, err := j.m.clears(g, j.rec, clearBatch)
	if err != nil {
		return false, err
	}
	if !more {
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: j.rec.AppendKey(nil)})
	}
	err = fs.upsert(g, j.m, msgs)
	if err == nil && !more {
		fs.sweeper.forget(j)
	}
	return more, err
}
