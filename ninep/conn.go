package ninep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn is one client's connection.
//
// Its goroutines are the leader, who owns Conn.lead and hands it on in (*request).block, and one for
// each blocked request. Whoever of them leaves last clunks the fids and closes the connection.
type Conn struct {
	s             *Server
	rwc           io.ReadWriteCloser
	id            uint64 // counts connections
	name          string // for logs and traces
	remote, local net.Addr
	done          chan struct{} // closed when everything has ended

	lead leader
	out  output

	born                     time.Time
	meter                    *meterShard // nil if nobody counts
	requests, received, sent atomic.Uint64

	outstanding atomic.Int32 // len(tags), to be read without the lock
	stopping    atomic.Bool  // Shutdown: read no more
	dialect     atomic.Int32 // a Dialect; changes in a Tversion, when nothing is outstanding
	reading     atomic.Bool  // the leader is about to Read, or does
	busy        atomic.Bool  // the leader has a seat, and will flush when it has given it back

	mu      sync.Mutex
	fewer   sync.Cond           // blocked went down
	fids    map[uint32]*fid     //
	tags    map[uint16]*request // blocked requests, and Tflushes that will be answered after one
	blocked int                 // blocked requests
	held    int                 // bytes of their buffers
	refs    int                 // blocked requests, and 1 for the leader
	inline  *request            // the leader's request, if it has asked for its Cancelled channel
	authed  bool                // an attach with an afid has succeeded
	first   string              // who was the first to attach by name
	users   []string            // who has attached, see Clients
	dead    bool                // every request is cancelled
	closed  bool                // rwc.Close has been called
	reason  error               // why the server hung up
}

func newConn(s *Server, rwc io.ReadWriteCloser, id uint64) *Conn {
	c := &Conn{s: s, rwc: rwc, id: id, name: fmt.Sprint(id), done: make(chan struct{}), refs: 1}
	c.born, c.meter = time.Now(), s.Meter.shard(id)
	if nc, ok := rwc.(net.Conn); ok {
		c.remote, c.local = nc.RemoteAddr(), nc.LocalAddr()
		if c.remote != nil {
			c.name = fmt.Sprintf("%d %s", id, c.remote)
		}
	}
	c.fewer.L = &c.mu
	c.fids = make(map[uint32]*fid)
	c.tags = make(map[uint16]*request)
	c.lead.deadline = newDeadline(rwc, "SetReadDeadline")
	c.out.deadline = newDeadline(rwc, "SetWriteDeadline")
	c.out.room.L = &c.out.mu
	return c
}

// RemoteAddr is the client's address, nil if the connection has none.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr is the address that the client connected to, nil if the connection has none.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// Transport is what the connection runs on, for asking about the peer. It must not be read, written
// or closed.
func (c *Conn) Transport() io.ReadWriteCloser { return c.rwc }

// speaks is the dialect that was agreed on.
func (c *Conn) speaks() Dialect { return Dialect(c.dialect.Load()) }

// String names the connection in logs.
func (c *Conn) String() string { return c.name }

// run serves the connection until it has ended.
func (c *Conn) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.kill(nil) })
	defer stop()
	c.s.Logger.Debug("connected", "conn", c.name)
	c.lead.in = c.s.bufs.get(smallBuf)
	c.lead.cur = c.s.newRequest(c)
	c.serve()
	<-c.done
	return c.reason
}

// Why a connection ends, beside the client's hanging up.
var (
	errNoVersion = errors.New("version required")
	errReply     = errors.New("client sent a reply")
	errTagInUse  = errors.New("tag of an outstanding request used again")
	errSlowFrame = errors.New("frame not complete in time")
	errIdle      = errors.New("idle for too long")
	errSlowRead  = errors.New("client does not read its replies")
	errStopping  = errors.New("server is shutting down")
)

// leave ends reading: the leader's last act. What is outstanding is cancelled, unless the server
// shuts down in good order. After the client's end of file its requests can still be answered,
// after anything else the connection is closed at once.
func (c *Conn) leave(err error) {
	c.flush()
	switch {
	case err == errStopping:
	case err == io.EOF:
		c.cancelAll()
	default:
		c.kill(err)
	}
	l := &c.lead
	c.abandon(l.in)
	l.in = nil
	c.s.freeRequest(l.cur)
	l.cur = nil
	c.release()
}

// kill cancels all requests and closes the connection. The first reason that is not nil is kept and
// logged.
func (c *Conn) kill(reason error) {
	c.mu.Lock()
	first := reason != nil && !c.dead
	if first {
		c.reason = reason
	}
	c.cancelLocked()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if first {
		if c.s.Meter != nil {
			c.s.Meter.hangups.Add(1)
		}
		c.s.Logger.Info("hung up", "conn", c.name, "reason", reason)
	}
	if !closed {
		c.rwc.Close()
	}
}

func (c *Conn) cancelAll() {
	c.mu.Lock()
	c.cancelLocked()
	c.mu.Unlock()
}

// cancelLocked cancels every request there is or will be.
func (c *Conn) cancelLocked() {
	c.dead = true
	c.abortLocked()
	if c.inline != nil {
		c.inline.cancelLocked()
	}
	c.fewer.Broadcast()
}

// abortLocked cancels the blocked requests.
func (c *Conn) abortLocked() {
	for _, r := range c.tags {
		r.cancelLocked()
	}
}

// stop asks the leader to read no more. A transport that cannot be woken up is closed, but not
// before the last blocked request is answered.
func (c *Conn) stop() {
	c.stopping.Store(true)
	if !c.lead.deadline.interrupt() {
		c.nudge()
	}
}

// nudge closes a stopped connection whose leader sleeps in a Read that nothing else would end.
func (c *Conn) nudge() {
	if c.lead.deadline.set != nil || !c.stopping.Load() || !c.reading.Load() {
		return
	}
	c.mu.Lock()
	alone := c.refs == 1
	c.mu.Unlock()
	if alone {
		c.kill(nil)
	}
}

// release gives up one reference; the last one ends the connection.
func (c *Conn) release() {
	c.mu.Lock()
	c.refs--
	last := c.refs == 0
	c.mu.Unlock()
	if !last {
		c.nudge()
		return
	}
	c.clunkAll()
	c.kill(nil)
	c.s.Logger.Debug("disconnected", "conn", c.name)
	c.s.forget(c)
	close(c.done)
}

// A fid is what the client's number stands for: a File or an AuthFile. The table holds one
// reference and each request that uses it another; the last one clunks it.
type fid struct {
	refs   atomic.Int32
	file   File
	auth   AuthFile
	locked []any // files of which it has locks; guarded by lockTable.mu
}

// use finds a fid and takes a reference.
func (c *Conn) use(n uint32) (*fid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fids[n]
	if f == nil {
		return nil, ErrUnknownFid
	}
	f.refs.Add(1)
	return f, nil
}

// take removes a fid from the table; the table's reference is the caller's.
func (c *Conn) take(n uint32) (*fid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fids[n]
	if f == nil {
		return nil, ErrUnknownFid
	}
	delete(c.fids, n)
	return f, nil
}

// enter puts a new fid into the table.
func (c *Conn) enter(n uint32, f *fid) error {
	f.refs.Store(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n == NOFID:
		return ErrUnknownFid
	case c.fids[n] != nil:
		return ErrFidInUse
	case len(c.fids) >= c.s.Limits.Fids:
		return ErrTooManyFids
	}
	c.fids[n] = f
	return nil
}

// exchange puts f in the place of old, whose reference of the table is the caller's.
func (c *Conn) exchange(n uint32, old, f *fid) error {
	f.refs.Store(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fids[n] != old {
		return ErrUnknownFid // clunked while the walk was under way
	}
	c.fids[n] = f
	return nil
}

// drop gives back a reference.
func (f *fid) drop(ctx *Ctx) {
	if f.refs.Add(-1) > 0 {
		return
	}
	if f.auth != nil {
		f.auth.Clunk(ctx)
	} else {
		ctx.Conn.s.locks.release(f)
		f.file.Clunk(ctx)
	}
}

// clunkAll clunks every fid. There must be no request but the caller's, whose worker, if any, has
// been given back.
func (c *Conn) clunkAll() {
	c.mu.Lock()
	fids := c.fids
	if len(fids) > 0 {
		c.fids = make(map[uint32]*fid)
	}
	c.authed, c.first, c.users = false, "", nil
	c.mu.Unlock()
	if len(fids) == 0 {
		return
	}
	r := c.s.newRequest(c)
	r.stay = true
	w := c.s.pool.get()
	r.ctx.Worker = w
	for _, f := range fids {
		r.enter()
		f.drop(&r.ctx)
		r.leave()
	}
	if r.blocked {
		c.s.pool.retire(w)
	} else {
		c.s.pool.put(w)
	}
	c.s.freeRequest(r)
}

// A ConnInfo describes a connection.
type ConnInfo struct {
	Conn        *Conn
	Fids        []FidInfo // ordered by number
	Outstanding int       // requests that wait for something
}

// A FidInfo describes a fid.
type FidInfo struct {
	Num  uint32
	File File // nil for an auth fid; it may be clunked at any time, and is for looking at only
}

// Connections describes all connections, in the order in which they came. Safe for concurrent use.
func (s *Server) Connections() []ConnInfo {
	s.init()
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.id, b.id) })
	list := make([]ConnInfo, len(conns))
	for i, c := range conns {
		info := ConnInfo{Conn: c}
		c.mu.Lock()
		info.Outstanding = len(c.tags)
		for n, f := range c.fids {
			info.Fids = append(info.Fids, FidInfo{n, f.file})
		}
		c.mu.Unlock()
		slices.SortFunc(info.Fids, func(a, b FidInfo) int { return cmp.Compare(a.Num, b.Num) })
		list[i] = info
	}
	return list
}
