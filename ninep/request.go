package ninep

import (
	"errors"
	"time"
)

// A request is one T-message being worked on. Unless it blocks, it is the leader's for the next one.
type request struct {
	c   *Conn
	ctx Ctx
	fc  Fcall

	dir  UnixDir      // for Tstat, and Twstat of 9P2000.u
	qids [MaxWalk]Qid // for Twalk

	stay    bool    // does not make another goroutine the leader when it blocks
	blocked bool    // no longer the leader's
	frame   *buffer // of a blocked Twrite: what holds its data
	own     *buffer // of a blocked request: where its reply goes, after at bytes that are not its
	at      int     // where an Rread starts
	held    int     // bytes of own when it blocked

	began  time.Duration // since Conn.born, if there is a Meter
	failed bool          // it was answered with an error

	// Guarded by Conn.mu.
	flushers []uint16 // Tflushes to be answered after this, in their order
	gone     bool     // cancelled
	cancel   chan struct{}
}

func (s *Server) newRequest(c *Conn) *request {
	r, _ := s.reqs.Get().(*request)
	if r == nil {
		r = new(request)
	}
	r.c = c
	r.ctx = Ctx{Conn: c, req: r}
	r.stay, r.blocked, r.gone = false, false, false
	r.frame, r.own, r.at = nil, nil, 0
	r.flushers, r.cancel = r.flushers[:0], nil
	return r
}

// freeRequest takes back a request that nobody can find any more.
func (s *Server) freeRequest(r *request) {
	r.c, r.ctx = nil, Ctx{}
	s.reqs.Put(r)
}

func (r *request) enter() {
	if w := r.ctx.Worker; w != nil {
		w.Enter()
	}
}

func (r *request) leave() {
	if w := r.ctx.Worker; w != nil {
		w.Leave()
	}
}

// room makes room for a reply of n bytes, which is to be appended to the buffer returned.
func (r *request) room(n int) *buffer {
	p := &r.c.lead.out
	if r.blocked {
		p = &r.own
	}
	*p = r.c.s.bufs.grow(*p, n)
	return *p
}

// block makes another goroutine the leader. This request keeps what its handler may be using: the
// data of a Twrite lies in the input buffer, which it shares with the new leader, that of an Rread in
// the output buffer, of whose other bytes the new leader gets a copy.
func (r *request) block() {
	if r.blocked {
		return
	}
	c := r.c
	r.blocked = true
	if r.stay {
		c.s.pool.replace()
		return
	}
	l := &c.lead
	switch r.fc.Type {
	case Twrite:
		r.frame = l.in
	case Tread, Treaddir:
		r.own, l.out = l.out, nil
		if r.at > 0 {
			l.out = c.s.bufs.get(r.at)
			l.out.b = append(l.out.b, r.own.b[:r.at]...)
		}
	}
	l.cur = c.s.newRequest(c)
	l.worker, l.seated = nil, false
	c.pause()
	c.busy.Store(false)

	c.mu.Lock()
	c.refs++
	c.blocked++
	r.held = r.own.size()
	c.held += r.held
	if r.frame != nil {
		c.keepLocked(r.frame)
	}
	c.tags[r.fc.Tag] = r
	c.outstanding.Store(int32(len(c.tags)))
	if c.inline == r {
		c.inline = nil
	}
	if c.dead {
		r.cancelLocked()
	}
	c.mu.Unlock()

	c.s.pool.replace()
	go c.serve()
}

// finish sends the reply of a blocked request and ends it.
func (r *request) finish() {
	c := r.c
	c.s.pool.retire(r.ctx.Worker)
	r.ctx.Worker = nil
	c.requests.Add(1)
	if c.meter != nil {
		c.meter.request(r.fc.Type, time.Since(c.born)-r.began, r.failed)
	}
	r.fc.Twrite.Data = nil
	c.giveBack(r.frame)
	r.frame = nil
	var reply []byte
	if r.own != nil {
		reply = r.own.b[r.at:]
	}
	c.send(reply, r)
	c.s.bufs.put(r.own)
	r.own = nil
	held := r.held
	c.s.freeRequest(r)

	c.mu.Lock()
	c.blocked--
	c.held -= held
	c.fewer.Broadcast()
	c.mu.Unlock()
	c.release()
}

// settle forgets the tag of a blocked request and returns its reply with the Rflushes that wait for
// it. A flushed request that gave up has no reply.
func (r *request) settle(reply []byte) []byte {
	c := r.c
	c.mu.Lock()
	delete(c.tags, r.fc.Tag)
	for _, tag := range r.flushers {
		delete(c.tags, tag)
		b := r.room(HeaderSize)
		b.b = AppendRflush(b.b, tag)
		reply = b.b[r.at:]
	}
	c.outstanding.Store(int32(len(c.tags)))
	c.mu.Unlock()
	return reply
}

// done ends a request that did not block and may have asked for its channel.
func (r *request) done() {
	r.fc.Twrite.Data = nil
	if r.cancel == nil {
		return
	}
	c := r.c
	c.mu.Lock()
	c.inline = nil
	r.cancel, r.gone = nil, false
	c.mu.Unlock()
}

// cancelled is Ctx.Cancelled.
func (r *request) cancelled() <-chan struct{} {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.cancel == nil {
		r.cancel = make(chan struct{})
		if r.gone || c.dead {
			r.gone = true
			close(r.cancel)
		} else if !r.blocked {
			c.inline = r
		}
	}
	return r.cancel
}

// cancelLocked tells the handler that nobody waits for it; Conn.mu is held.
func (r *request) cancelLocked() {
	if r.gone {
		return
	}
	r.gone = true
	if r.cancel != nil {
		close(r.cancel)
	}
}

// fail answers with an error, or not at all if the request was cancelled and gave up.
func (r *request) fail(err error) {
	c := r.c
	if errors.Is(err, ErrInterrupted) {
		c.mu.Lock()
		gone := r.gone
		c.mu.Unlock()
		if gone {
			return
		}
	}
	r.failed = true
	text, plain, known := wireText(err)
	switch {
	case !known:
		c.s.Logger.Error("request failed", "conn", c.name, "request", typeName(r.fc.Type), "err", err)
	case !plain:
		c.s.Logger.Debug("request failed", "conn", c.name, "request", typeName(r.fc.Type), "err", err)
	}
	b := r.room(errorReply)
	b.b = c.appendError(b.b, r.fc.Tag, text, err)
}

// errorReply bounds the size of the reply to a request that failed, in any dialect.
const errorReply = HeaderSize + 2 + MaxError + 4

// appendError appends the reply to a request that failed with err, which the client is told in the words of
// text, by number, or both.
func (c *Conn) appendError(b []byte, tag uint16, text string, err error) []byte {
	switch c.speaks() {
	case Linux:
		b, _ = AppendLinux(b, Rlerror, tag, &LError{c.s.errno(err)}) // has no strings
		return b
	case Unix:
		return AppendRerrorU(b, tag, text, c.s.errno(err))
	}
	return AppendRerror(b, tag, text)
}
