package ninep

import (
	"errors"
	"os"
	"sync"
	"time"
)

// An output orders what is written to a connection. There is no goroutine for it: whoever has
// something to send writes it, and whatever others bring meanwhile; see (*Conn).send.
type output struct {
	deadline deadline // of the one who writes

	mu   sync.Mutex
	room sync.Cond // pend got shorter, or nobody writes
	busy bool      // somebody writes
	pend *buffer   // for the next write: of who writes now, or of the leader; nil for nothing
	err  error     // of the first write that failed; nothing is written after
}

// flush sends the leader's replies, and those left to it. No worker may be held.
func (c *Conn) flush() {
	l := &c.lead
	if l.out == nil {
		c.send(nil, nil)
		return
	}
	c.send(l.out.b, nil)
	c.s.bufs.put(l.out)
	l.out = nil
}

// mergeMax is how many bytes are rather copied than written by a call of their own.
const mergeMax = 32 << 10

// send writes b, or leaves a copy with whoever will write next: the one who is writing, or the leader
// if it is busy with requests and flushes after them. It waits while more than Limits.Output bytes
// are left with a writer. On return b may be used again.
//
// With r, b is the reply of that blocked request, maybe empty. The request's tag is forgotten and the
// Rflushes that wait for it are added in the moment in which the reply gets its place in the stream:
// a Tflush that comes before finds the request and is answered after it, one that comes later finds
// nothing and is answered by the leader, whose next send comes later too. And a client that has read
// the reply can use the tag again.
//
// A failed write closes the connection.
func (c *Conn) send(b []byte, r *request) {
	o := &c.out
	o.mu.Lock()
	for o.busy && o.err == nil && o.pend != nil && len(o.pend.b)+len(b) > c.s.Limits.Output {
		o.room.Wait()
	}
	if r != nil {
		b = r.settle(b)
	}
	left := 0
	if o.pend != nil {
		left = len(o.pend.b)
	}
	switch {
	case o.err != nil || left+len(b) == 0:
		o.mu.Unlock()
		return
	case o.busy, r != nil && c.busy.Load() && left+len(b) <= mergeMax:
		o.pend = c.s.bufs.grow(o.pend, len(b))
		o.pend.b = append(o.pend.b, b...)
		o.mu.Unlock()
		return
	}
	o.busy = true
	var mine *buffer // holds b, if it was left here
	if left > 0 {
		mine, o.pend = o.pend, nil
		if left+len(b) <= mergeMax {
			mine = c.s.bufs.grow(mine, len(b))
			mine.b = append(mine.b, b...)
			b = nil
		}
	}
	for {
		o.mu.Unlock()
		var err error
		if mine != nil {
			err = c.write(mine.b)
			c.s.bufs.put(mine)
		}
		if err == nil && len(b) > 0 {
			err = c.write(b)
			b = nil
		}
		o.mu.Lock()
		mine, o.pend = o.pend, nil
		o.room.Broadcast()
		if err != nil {
			o.err = err
			o.busy = false
			o.mu.Unlock()
			c.s.bufs.put(mine)
			c.kill(err)
			return
		}
		if mine == nil {
			break
		}
	}
	o.busy = false
	o.room.Broadcast()
	o.mu.Unlock()
}

// write writes all of b. A client has Limits.WriteTime to accept something, not everything. The
// kernel reports room in a socket's buffer only when there is much of it, so each quarter of that time
// the write is tried anew.
func (c *Conn) write(b []byte) error {
	c.trace("->", b)
	d := &c.out.deadline
	now := time.Now()
	for last := now; len(b) > 0; now = time.Now() {
		var n int
		var err error
		if d.set == nil {
			timer := time.AfterFunc(c.s.Limits.WriteTime, func() { c.kill(errSlowRead) })
			n, err = c.rwc.Write(b[:min(len(b), 64<<10)])
			timer.Stop()
		} else {
			d.within(now, c.s.Limits.WriteTime/4)
			n, err = c.rwc.Write(b)
		}
		if b = b[n:]; n > 0 {
			last = now
			c.sent.Add(uint64(n))
			if c.meter != nil {
				c.meter.sent.Add(uint64(n))
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if now.Sub(last) > c.s.Limits.WriteTime {
				return errSlowRead
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// trace prints the frames in b, if anybody wants to see them.
func (c *Conn) trace(dir string, b []byte) {
	if c.s.Trace == nil {
		return
	}
	var f Fcall
	for len(b) > 0 {
		n, err := FrameSize(b, ^uint32(0))
		if err != nil || n == 0 || n > len(b) {
			return
		}
		if err := f.DecodeAs(b[:n], c.speaks()); err != nil {
			c.s.Trace(dir, c.name, err.Error())
		} else {
			c.s.Trace(dir, c.name, f.Text(c.speaks()))
		}
		b = b[n:]
	}
}

// A deadline is a connection's read or write deadline. It belongs to whoever may read or write. It
// saves setting it anew for every call: a deadline that comes too early only makes its owner look at
// the clock.
type deadline struct {
	set func(time.Time) error // nil if the transport has no deadlines
	at  time.Time             // as last set, zero for none
}

// newDeadline finds out whether the transport has the deadline that method sets.
func newDeadline(rwc any, method string) deadline {
	var set func(time.Time) error
	switch method {
	case "SetReadDeadline":
		if t, ok := rwc.(interface{ SetReadDeadline(time.Time) error }); ok {
			set = t.SetReadDeadline
		}
	case "SetWriteDeadline":
		if t, ok := rwc.(interface{ SetWriteDeadline(time.Time) error }); ok {
			set = t.SetWriteDeadline
		}
	}
	if set == nil || set(time.Time{}) != nil { // files that cannot be polled say no
		return deadline{}
	}
	return deadline{set: set}
}

// within gives the next call between half of d and d from now before it times out.
func (t *deadline) within(now time.Time, d time.Duration) {
	if t.at.Sub(now) < d/2 {
		t.at = now.Add(d)
		t.set(t.at)
	}
}

// until makes the next call time out at the time at or earlier, but after now. The zero time is
// never. Where the transport has no deadlines, the connection is killed instead, for the reason
// given, by a timer that is to be stopped after the call.
func (t *deadline) until(c *Conn, now, at time.Time, reason error) *time.Timer {
	switch {
	case t.set == nil && at.IsZero():
	case t.set == nil:
		return time.AfterFunc(at.Sub(now), func() { c.kill(reason) })
	case at.IsZero() != t.at.IsZero() || t.at.After(at) || !at.IsZero() && t.at.Before(now):
		t.at = at
		t.set(at)
	}
	return nil
}

func stop(timer *time.Timer) {
	if timer != nil {
		timer.Stop()
	}
}

// interrupt makes the read that is under way, and every later one until the next deadline is set,
// time out. It reports whether the transport can do that. Any goroutine may call it.
func (t *deadline) interrupt() bool {
	return t.set != nil && t.set(time.Unix(1, 0)) == nil
}
