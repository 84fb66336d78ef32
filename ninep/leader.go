package ninep

import (
	"errors"
	"io"
	"os"
	"time"
)

// A leader is what belongs to the one goroutine that reads a connection. The role passes to another
// when a request blocks.
type leader struct {
	msize  uint32   // agreed on, 0 until Tversion
	in     *buffer  // of what has been read, in.b[r:w] is still to be looked at
	r, w   int      //
	full   bool     // the last Read filled the buffer
	out    *buffer  // replies not yet sent, nil for none
	cur    *request // to decode the next frame into
	worker Worker   // with seated
	seated bool     // the leader has a seat in the pool

	clock  time.Duration // when the last request ended, since Conn.born; 0 if something else was done since
	served uint64        // requests not yet in Conn.requests

	frameAt  time.Time // when the frame at the end of in was first seen, zero if none is there
	deadline deadline  // for reading
}

const (
	unversionedMax = 8192            // largest frame before Tversion
	burst          = 256 << 10       // input buffers grow to this if the client keeps them full
	flushAt        = 256 << 10       // replies are sent when there are as many bytes of them
	shrinkAfter    = 2 * time.Second // idle time after which a large input buffer is given back
)

// serve is the life of a leader: until the connection ends, or the role has passed to another
// goroutine and the request that was the reason is done.
func (c *Conn) serve() {
	for {
		frame, err := c.next()
		if err != nil {
			c.unseat()
			c.leave(err)
			return
		}
		r := c.lead.cur
		err = c.one(r, frame)
		if r.blocked {
			r.finish()
			return
		}
		if err != nil {
			c.unseat()
			c.leave(err)
			return
		}
	}
}

// next returns the next frame, in the input buffer. Only when there is none does it send the replies
// and read; the worker is given back first.
func (c *Conn) next() ([]byte, error) {
	l := &c.lead
	limit := l.msize
	if limit == 0 {
		limit = unversionedMax
	}
	for {
		b := l.in.b[l.r:l.w]
		n, err := FrameSize(b, limit)
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= len(b) {
			l.r += n
			l.frameAt = time.Time{}
			return b[:n:n], nil
		}
		c.unseat()
		c.flush()
		c.pause()
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads once. Room is made by what has come, not by what a size field promises: the buffer
// doubles when it is full.
func (c *Conn) fill() error {
	l := &c.lead
	size := cap(l.in.b)
	switch kept := c.kept(); {
	case l.full && l.w-l.r < size && size < burst, l.w-l.r == size:
		c.resize(2 * size)
	case kept && size-l.w < size/2:
		c.resize(size)
	case kept: // only what comes after w is free
	case l.r == l.w:
		l.r, l.w = 0, 0
	case size-l.w < size/2:
		l.w = copy(l.in.b[:size], l.in.b[l.r:l.w])
		l.r = 0
	}
	l.full = false

	lim := &c.s.Limits
	began := time.Now()
	if l.w > l.r && l.frameAt.IsZero() {
		l.frameAt = began
	}
	for now := began; ; now = time.Now() {
		// hard is when the client loses its connection, at when to wake up.
		var hard, at time.Time
		slow := errIdle
		switch {
		case l.w > l.r:
			hard, slow = l.frameAt.Add(lim.FrameTime), errSlowFrame
		case lim.IdleTime > 0:
			hard = began.Add(lim.IdleTime)
		}
		at = hard
		if l.w == l.r && cap(l.in.b) > smallBuf && l.deadline.set != nil {
			if shrink := began.Add(shrinkAfter); !now.Before(shrink) {
				c.resize(smallBuf)
				l.cur.fc = Fcall{} // may hold strings as large
			} else if at.IsZero() || shrink.Before(at) {
				at = shrink
			}
		}
		if !hard.IsZero() && !now.Before(hard) {
			return slow
		}

		timer := l.deadline.until(c, now, at, slow)
		c.reading.Store(true)
		if c.stopping.Load() { // after reading and the deadline are set, so that stop cannot miss us
			c.reading.Store(false)
			stop(timer)
			return errStopping
		}
		n, err := c.rwc.Read(l.in.b[l.w:cap(l.in.b)])
		c.reading.Store(false)
		stop(timer)
		if n > 0 {
			l.w += n
			l.full = l.w == cap(l.in.b)
			c.received.Add(uint64(n))
			if c.meter != nil {
				c.meter.received.Add(uint64(n))
			}
			return nil
		}
		switch {
		case err == nil: // io.Reader allows it
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.deadline.at = time.Unix(1, 0) // used up
		case c.stopping.Load():
			return errStopping
		case err == io.EOF && l.w > l.r:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

// resize moves the input to a buffer of another size, which must hold it.
func (c *Conn) resize(n int) {
	l := &c.lead
	nb := c.s.bufs.get(n)
	l.w = copy(nb.b[:cap(nb.b)], l.in.b[l.r:l.w])
	l.r = 0
	c.abandon(l.in)
	l.in = nb
}

// kept says whether a blocked request has a part of the input buffer.
func (c *Conn) kept() bool {
	if c.outstanding.Load() == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lead.in.holders > 0
}

// abandon is the leader's giving up of an input buffer, which blocked requests may still have.
func (c *Conn) abandon(b *buffer) {
	c.mu.Lock()
	b.left = b.holders > 0
	put := !b.left
	c.mu.Unlock()
	if put {
		c.s.bufs.put(b)
	}
}

// keepLocked lets a blocked request keep the input buffer; Conn.mu is held.
func (c *Conn) keepLocked(b *buffer) {
	if b.holders++; b.holders == 1 {
		c.held += b.size()
	}
}

// giveBack ends that. The last to have a buffer that the leader has left returns it to the pool.
func (c *Conn) giveBack(b *buffer) {
	if b == nil {
		return
	}
	c.mu.Lock()
	b.holders--
	last := b.holders == 0
	if last {
		c.held -= b.size()
	}
	put := last && b.left
	c.mu.Unlock()
	if put {
		c.s.bufs.put(b)
	}
}

// seat takes a worker, if the leader has none.
func (c *Conn) seat() {
	if l := &c.lead; !l.seated {
		l.worker, l.seated = c.s.pool.get(), true
		c.busy.Store(true)
	}
}

// unseat gives the worker back. It comes before whatever can wait for a client, and flush comes next.
func (c *Conn) unseat() {
	if l := &c.lead; l.seated {
		c.busy.Store(false)
		c.s.pool.put(l.worker)
		l.worker, l.seated = nil, false
	}
}

// one runs one request. If it has blocked, the caller is no longer leader. An error ends the
// connection.
func (c *Conn) one(r *request, frame []byte) error {
	l := &c.lead
	r.frame, r.own, r.at, r.failed = nil, nil, 0, false
	if c.meter != nil {
		r.began = l.start(c)
	}
	c.trace("<-", frame)
	decodeErr := r.fc.DecodeAs(frame, c.speaks())
	typ, tag := r.fc.Type, r.fc.Tag
	var text Error
	if decodeErr != nil {
		var ok bool
		if text, ok = decodeErr.(*DecodeError).answer(); !ok {
			return decodeErr
		}
	}
	switch {
	case typ&1 != 0:
		return errReply
	case typ == Tversion:
		c.version(r)
		c.count(r)
		return nil
	case l.msize == 0:
		return errNoVersion
	}
	if c.outstanding.Load() > 0 {
		if err := c.admit(r); err != nil {
			return err
		}
	}
	switch {
	case decodeErr != nil:
		b := r.room(errorReply)
		b.b = c.appendError(b.b, tag, string(text), text)
		r.failed = true
		c.count(r)
		return nil
	case typ == Tflush:
		c.flushTag(tag, r.fc.Tflush.Oldtag)
		c.count(r)
		return nil
	}

	r.ctx.Msize = l.msize
	// The reply must not make the buffer larger than flushAt and one message.
	if need := r.replySize(); l.out != nil && len(l.out.b) > 0 && len(l.out.b)+need > flushAt {
		c.unseat()
		c.flush()
		c.again(r)
	}
	c.seat()
	r.ctx.Worker = l.worker
	r.enter()
	r.handle()
	r.leave()
	if !r.blocked {
		r.done()
		c.count(r)
	}
	return nil
}

// admit waits until there may be one more outstanding request, and refuses a tag that is in use: an
// Rerror would be taken for the answer to the first request, so the connection ends.
// A Tflush is not kept waiting for what it may have come to end.
func (c *Conn) admit(r *request) error {
	lim := &c.s.Limits
	full := func() bool {
		more := c.blocked < lim.Outstanding && c.held < lim.Held || r.fc.Type == Tflush
		return !c.dead && (!more || len(c.tags) >= 8*lim.Outstanding)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags[r.fc.Tag] != nil {
		return errTagInUse
	}
	if !full() {
		return nil
	}
	c.mu.Unlock()
	c.unseat()
	c.flush()
	c.mu.Lock()
	for full() {
		c.fewer.Wait()
	}
	c.again(r)
	return nil
}

// flushTag answers a Tflush, or leaves it to be answered after the request that it names: a blocked
// one, or a Tflush that itself waits for one.
// Source: flush(5).
func (c *Conn) flushTag(tag, old uint16) {
	c.mu.Lock()
	r := c.tags[old]
	if r != nil {
		r.cancelLocked()
		r.flushers = append(r.flushers, tag)
		c.tags[tag] = r
		c.outstanding.Store(int32(len(c.tags)))
	}
	c.mu.Unlock()
	if r == nil {
		l := &c.lead
		l.out = c.s.bufs.grow(l.out, HeaderSize)
		l.out.b = AppendRflush(l.out.b, tag)
	}
}
