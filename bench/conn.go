package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// Fids of a connection: those that stay, and from slotFid on one for each slot.
const (
	rootFid = 0
	baseFid = 1 // the directory of the run
	workFid = 2 // the file or directory a workload works on
	dirFid  = 16
	slotFid = 1 << 30
)

// flushAt is how many bytes of requests are gathered at most before they are written, so that the server
// can begin while more are made.
const flushAt = 64 << 10

// A conn is one connection of a workload and belongs to one goroutine.
type conn struct {
	num   int // of the workload's connections
	site  *site
	load  *workload
	pipe  *client.Pipe
	stop  func() bool // of what hangs up when the run is over
	r     ninep.Fcall // the reply that was received last
	chunk int         // bytes that a request on workFid carries at most
	slots []slot
	rng   *rand.Rand

	next, end int // numbers of the operations still to start
	tally     tally
	marks     []byte // what was overwritten, as in site.big

	dirOff   int64 // of the next read of a directory
	dirDone  bool
	dirSeen  []bool // by number of the file
	dirEntry ninep.Dir
}

// A tally is what a connection counts.
type tally struct {
	lat    hist
	bytes  int64
	errors int
	first  error // of the errors
}

// A slot is a place for one operation at a time. Its number is the tag of its requests.
type slot struct {
	fid   uint32
	has   bool // the server knows fid
	bad   bool // something failed; the operation is being cleaned up
	live  bool
	step  int
	sent  uint8 // type of the outstanding request
	op    int   // number of the operation
	off   int64 // where in the file
	n     int   // how many bytes
	began time.Time
}

// A step is one request of an operation.
type step struct {
	// send appends the request to b.
	send func(c *conn, s *slot, b []byte) ([]byte, error)

	// check looks at the reply in c.r, which is of the right type. It may be nil.
	check func(c *conn, s *slot) error

	makes, drops bool // the slot's fid
}

// connect opens a connection to the server with rootFid attached and baseFid walked to. It lasts until
// close or the end of ctx.
func (st *site) connect(ctx context.Context, w *workload) (*conn, error) {
	p, err := client.DialPipe(ctx, st.addr, st.msize)
	if err != nil {
		return nil, err
	}
	c := &conn{site: st, load: w, pipe: p, chunk: min(p.Iounit(), maxChunk)}
	c.stop = context.AfterFunc(ctx, func() { p.Close() })
	err = c.call(ninep.AppendTattach(nil, 0, rootFid, ninep.NOFID, st.opts.Uname, st.opts.Aname))
	if err != nil {
		err = fmt.Errorf("attach: %w", err)
	} else {
		err = c.walk(rootFid, baseFid, st.opts.Path)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close hangs up.
func (c *conn) close() {
	c.stop()
	c.pipe.Close()
}

// call sends one request while none is outstanding, and waits for its reply.
func (c *conn) call(b []byte, err error) error {
	if err != nil {
		return err
	}
	c.pipe.Out = append(c.pipe.Out[:0], b...)
	if err := c.receive(); err != nil {
		return err
	}
	return c.answer(b[4])
}

// walk makes newfid.
func (c *conn) walk(fid, newfid uint32, names ...string) error {
	if err := c.call(ninep.AppendTwalk(nil, 0, fid, newfid, names...)); err != nil {
		return fmt.Errorf("walk %q: %w", names, err)
	}
	if len(c.r.Rwalk.Wqid) != len(names) {
		return fmt.Errorf("walk %q: %w", names, client.ErrNotFound)
	}
	return nil
}

// open opens workFid, a file of the base directory, for mode.
func (c *conn) open(mode uint8, names ...string) error {
	if err := c.walk(baseFid, workFid, names...); err != nil {
		return err
	}
	if err := c.call(ninep.AppendTopen(nil, 0, workFid, mode), nil); err != nil {
		return fmt.Errorf("open %q: %w", names, err)
	}
	if n := c.r.Ropen.Iounit; n > 0 {
		c.chunk = min(c.chunk, int(min(n, maxChunk)))
	}
	return nil
}

// receive waits for a reply.
func (c *conn) receive() error {
	frame, err := c.pipe.Next()
	if err != nil {
		return err
	}
	if err := c.r.Decode(frame); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	return nil
}

// answer says whether the reply is what a request of type sent is answered with: nil if it is a
// success, the server's Error, or an ErrProtocol.
func (c *conn) answer(sent uint8) error {
	switch c.r.Type {
	case sent + 1:
		return nil
	case ninep.Rerror:
		return client.Error(c.r.Rerror.Ename)
	}
	return fmt.Errorf("%w: request of type %d answered by type %d", client.ErrProtocol, sent, c.r.Type)
}

// drive runs the operations next to end, as many at a time as there are slots. The error is one after
// which the connection is of no use; what the server refuses is counted in the tally. Every finished
// operation is added to done.
func (c *conn) drive(done *atomic.Int64) error {
	live := 0
	for i := range c.slots {
		more, err := c.start(uint16(i), time.Now())
		if err != nil {
			return err
		}
		if !more {
			break
		}
		live++
	}
	for live > 0 {
		if err := c.receive(); err != nil {
			return err
		}
		tag := c.r.Tag
		if int(tag) >= len(c.slots) || !c.slots[tag].live {
			return fmt.Errorf("%w: reply with tag %d, which is not outstanding", client.ErrProtocol, tag)
		}
		finished, err := c.proceed(tag)
		if err != nil {
			return err
		}
		if !finished {
			continue
		}
		s := &c.slots[tag]
		now := time.Now()
		c.tally.lat.add(now.Sub(s.began))
		done.Add(1)
		more, err := c.start(tag, now)
		if err != nil {
			return err
		}
		if !more {
			s.live = false
			live--
		}
	}
	return nil
}

// start begins the next operation in a slot; false if there is none left.
func (c *conn) start(tag uint16, now time.Time) (bool, error) {
	s := &c.slots[tag]
	if c.next >= c.end {
		return false, nil
	}
	s.op = c.next
	if !c.load.pick(c, s) {
		return false, nil
	}
	c.next++
	s.live, s.bad, s.step, s.began = true, false, 0, now
	return true, c.send(tag)
}

// send appends the request of the slot's step, or the clunk after a failure.
func (c *conn) send(tag uint16) error {
	s := &c.slots[tag]
	at := len(c.pipe.Out)
	b := c.pipe.Out
	var err error
	if s.bad {
		b = ninep.AppendTclunk(b, tag, s.fid)
	} else {
		b, err = c.load.steps[s.step].send(c, s, b)
	}
	if err != nil {
		return err
	}
	// Steps do not know of tags.
	b[at+5], b[at+6] = byte(tag), byte(tag>>8)
	s.sent = b[at+4]
	c.pipe.Out = b
	if len(b) >= flushAt {
		return c.pipe.Flush()
	}
	return nil
}

// proceed takes the reply in c.r to the slot's outstanding request and sends what comes next; true if
// the operation is over.
func (c *conn) proceed(tag uint16) (bool, error) {
	s := &c.slots[tag]
	err := c.answer(s.sent)
	if errors.Is(err, client.ErrProtocol) {
		return false, err
	}
	if s.bad { // that was the clunk
		s.has = false
		return true, nil
	}
	st := &c.load.steps[s.step]
	if st.drops { // whatever the answer: clunk(5), remove(5)
		s.has = false
	}
	if err == nil && st.check != nil {
		err = st.check(c, s)
	}
	if st.makes && err == nil { // a walk that came only part of the way made nothing
		s.has = true
	}
	if err != nil {
		c.fail(s, err)
		if !s.has {
			return true, nil
		}
		s.bad = true
		return false, c.send(tag)
	}
	if s.step++; s.step == len(c.load.steps) {
		return true, nil
	}
	return false, c.send(tag)
}

// fail counts an operation that did not do what it should.
func (c *conn) fail(s *slot, err error) {
	if c.tally.errors == 0 {
		c.tally.first = fmt.Errorf("operation %d: %w", s.op, err)
	}
	c.tally.errors++
	if c.load.failed != nil {
		c.load.failed(c, s)
	}
}
