package gefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"gefs9p/arena"
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

// clearPrefix begins the names of configuration keys that say what is still to be cleared of a
// file: the qid path in hexadecimal follows; the value is from[8] to[8], offsets in bytes, to
// exclusive. They stand in the tree whose blocks they speak of, so that clearing goes on after a
// crash. The reference ignores configuration keys it does not know.
const clearPrefix = "gefs9p.clear."

func clearKey(qid uint64) []byte {
	return kvfmt.AppendConfKey(nil, fmt.Sprintf("%s%016x", clearPrefix, qid))
}

// A clearJob clears the data of a file in [from, to).
type clearJob struct {
	m        *Mount // with a reference
	qid      uint64
	from, to uint64
	done     chan struct{}
}

// A sweeper clears in the background.
type sweeper struct {
	mu   sync.Mutex
	cond *sync.Cond
	jobs []*clearJob // waiting or being done, in order
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

// add enters a job; the mount is held until it is done.
func (s *sweeper) add(m *Mount, qid, from, to uint64) {
	m.hold()
	j := &clearJob{m: m, qid: qid, from: from, to: to, done: make(chan struct{})}
	s.mu.Lock()
	s.jobs = append(s.jobs, j)
	s.byID[clearID{m, qid}] = j
	s.cond.Broadcast()
	s.mu.Unlock()
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
// was something to wait for, it was given back, and waitClear returns true: the caller begins
// again.
func (fs *FS) waitClear(c *ninep.Ctx, m *Mount, qid uint64) bool {
	j := fs.sweeper.job(m, qid)
	if j == nil {
		return false
	}
	fs.mutMu.Unlock()
	c.Sleep(func() {
		select {
		case <-j.done:
		case <-fs.ctx.Done():
		}
	})
	return true
}

// clears returns messages that clear the file's data blocks in [from, to), at most max of them, and
// whether there are more. Holes need none.
func (m *Mount) clears(g *epoch.Guard, qid, from, to uint64, max int) (msgs []kvfmt.Msg, more bool, err error) {
	err = m.tree.ScanRange(g, kvfmt.AppendDatKey(nil, qid, from), kvfmt.AppendDatKey(nil, qid, to), func(k, _ []byte) bool {
		if len(msgs) == max {
			more = true
			return false
		}
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Clearb, Key: append([]byte(nil), k...)})
		return true
	})
	return msgs, more, err
}

// clear adds to the batch what clears the file's data from offset from, on, and returns the job
// that is left over for the background, nil if none is. start is what to call after the batch is
// applied.
func (ch *change) clear(qid, from, to uint64) (start func(), err error) {
	msgs, more, err := ch.m.clears(ch.g, qid, from, to, clearNow)
	if err != nil {
		return nil, err
	}
	ch.msgs = append(ch.msgs, msgs...)
	if !more {
		return func() {}, nil
	}
	v := binary.BigEndian.AppendUint64(nil, from)
	ch.add(kvfmt.Insert, clearKey(qid), binary.BigEndian.AppendUint64(v, to))
	return func() { ch.fs.sweeper.add(ch.m, qid, from, to) }, nil
}

// resume enters the jobs that a tree still has from before. The mutation lock is held.
func (s *sweeper) resume(m *Mount) {
	g := m.fs.st.Guard()
	defer m.fs.st.FreeGuard(g)
	g.Enter()
	defer g.Leave()
	prefix := kvfmt.AppendConfKey(nil, clearPrefix)
	err := m.tree.Scan(g, prefix, nil, func(k, v []byte) bool {
		var qid uint64
		if _, err := fmt.Sscanf(string(k[len(prefix):]), "%016x", &qid); err != nil || len(v) != 16 {
			m.fs.log.Warn("ignoring a malformed record of a file to be cleared", "snapshot", m.name, "key", string(k[1:]))
			return true
		}
		m.refs++ // FS.mountMu is held
		j := &clearJob{m: m, qid: qid, from: binary.BigEndian.Uint64(v), to: binary.BigEndian.Uint64(v[8:]), done: make(chan struct{})}
		s.mu.Lock()
		s.jobs = append(s.jobs, j)
		s.byID[clearID{m, qid}] = j
		s.cond.Broadcast()
		s.mu.Unlock()
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

		if err := fs.sweep(j); err != nil && fs.ctx.Err() == nil {
			fs.log.Error("clearing a truncated or removed file failed; it will be tried again at the next start",
				"snapshot", j.m.name, "qid", j.qid, "err", err)
		}

		s.mu.Lock()
		s.jobs = s.jobs[1:]
		delete(s.byID, clearID{j.m, j.qid})
		s.mu.Unlock()
		close(j.done)
		c, end := fs.Background()
		fs.unmount(c, j.m)
		end()
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
			if err := fs.Sync(fs.ctx); err != nil {
				return err
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
	msgs, more, err := j.m.clears(g, j.qid, j.from, j.to, clearBatch)
	if err != nil {
		return false, err
	}
	if !more {
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: clearKey(j.qid)})
	}
	return more, fs.upsert(g, j.m, msgs)
}

// widen makes the job that clears the end of the file clear all of it. The mutation lock is held,
// so no batch of the job is under way.
func (fs *FS) widen(ch *change, qid uint64) error {
	j := fs.sweeper.job(ch.m, qid)
	if j == nil {
		return nil
	}
	j.from, j.to = 0, maxOffset
	v := binary.BigEndian.AppendUint64(nil, j.from)
	ch.add(kvfmt.Insert, clearKey(qid), binary.BigEndian.AppendUint64(v, j.to))
	return nil
}
