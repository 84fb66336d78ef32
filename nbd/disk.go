package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/blkdev"
)

// Options says how Open connects. The zero value is for a server: read, write, never give up.
type Options struct {
	ReadOnly  bool          // refuse writes; the export may be read-only then
	Patience  time.Duration // how long a lost connection is tried to be had again before all fails; 0 is for ever
	Stall     time.Duration // how long a reply may take before the connection counts as lost; 0 is DefaultStall
	Unflushed int64         // bytes of writes that may be unflushed; 0 is DefaultUnflushed
	Logger    *slog.Logger  // lost connections, and those had again; nil is nowhere

	// Dial makes connections; nil is TCP or a Unix socket, as the address says. TLS comes on top.
	Dial func(ctx context.Context) (net.Conn, error)
}

// Defaults of Options.
const (
	DefaultStall     = 2 * time.Minute
	DefaultUnflushed = 64 << 20
)

const (
	maxPiece  = 1 << 20          // bytes of one request; larger ones are cut
	window    = 16               // pieces of one call that are under way at a time
	dialTime  = 30 * time.Second // for connection and negotiation together
	firstWait = 10 * time.Millisecond
	maxWait   = 5 * time.Second
	trimPiece = 1 << 30
	witnessSz = blkdev.SectorSize
)

// A Disk is an export of an NBD server. It is a blkdev.Device, safe for concurrent use.
//
//   - log holds, in the order in which they were made, the writes that no flush has covered yet, and
//     unflushed is the sum of their bytes. A write that the server refused is not among them.
//   - live holds every request whose maker waits; the keeper sends those again that were not sent
//     on the connection it has just made.
//   - Once failed or dead is set, it is set for ever. failed: writes and Sync fail, because nobody
//     knows what the disk holds. dead: everything fails.
//   - witness is what the first sector holds after the last flush, as far as that is known; else nil.
type Disk struct {
	addr   Address
	opt    Options
	stop   context.CancelFunc // ends the keeper
	kept   chan struct{}      // closed when the keeper has ended
	noTrim atomic.Bool

	// Held for writing by a write that reads the blocks around it first. Outside mu.
	around sync.RWMutex

	mu        sync.Mutex
	moved     sync.Cond // of mu: log, failed, dead or flushing has changed
	conn      *conn     // nil while there is none
	exp       export    // of the last connection
	live      map[*request]struct{}
	log       []*request
	unflushed int64
	acks      uint64
	flushing  bool // because of too much in log
	failed    error
	dead      error
	witness   []byte
	lostSince time.Time // when the connection was lost; zero again when a request has succeeded since
	replayed  int       // writes, in all
	conns     int
}

var _ blkdev.Device = (*Disk)(nil)

// Open connects to the export at a and returns when it can be used, or why it cannot be. ctx is for
// this only. Open is not patient: a server that is not there is an error. Errors are *blkdev.OpError.
func Open(ctx context.Context, a Address, opt Options) (*Disk, error) {
	d, err := open(ctx, a, opt)
	if err != nil {
		return nil, &blkdev.OpError{Op: "open", Path: a.String(), Err: err}
	}
	return d, nil
}

func open(ctx context.Context, a Address, opt Options) (*Disk, error) {
	if opt.Stall <= 0 {
		opt.Stall = DefaultStall
	}
	if opt.Unflushed <= 0 {
		opt.Unflushed = DefaultUnflushed
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Dial == nil {
		opt.Dial = func(ctx context.Context) (net.Conn, error) {
			// A host that is gone is noticed by the kernel, also when nothing is asked of it.
			dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}}
			return dialer.DialContext(ctx, a.Network, a.Host)
		}
	}
	d := &Disk{addr: a, opt: opt, live: map[*request]struct{}{}, kept: make(chan struct{})}
	d.moved.L = &d.mu
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	// Certificates and flags may be wrong for writing only; say so now, and not at the first commit.
	if !opt.ReadOnly {
		if err := c.exp.writable(); err != nil {
			c.disconnect(err)
			return nil, err
		}
	}
	d.exp = c.exp
	go c.run(d.deliver)
	var sector []byte
	unhang := context.AfterFunc(ctx, func() { c.kill(ctx.Err()) })
	sector, err = d.readWitness(c)
	if !unhang() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.disconnect(err)
		<-c.ended
		return nil, fmt.Errorf("read of the first sector: %w", err)
	}
	d.witness, d.conn, d.conns = sector, c, 1
	keep, stop := context.WithCancel(context.Background())
	d.stop = stop
	go d.keep(keep, c)
	return d, nil
}

// dial makes a connection. Certificates are read each time: they are renewed now and then.
func (d *Disk) dial(ctx context.Context) (*conn, error) {
	cfg, err := d.addr.tlsConfig()
	if err != nil {
		return nil, err
	}
	return dial(ctx, d.addr, cfg, d.opt.Dial, dialTime, d.opt.Stall)
}

// Path returns the address that the disk was opened by.
func (d *Disk) Path() string { return d.addr.String() }

// Size implements blkdev.Device: the size the server said when the connection was made.
func (d *Disk) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead != nil {
		return 0, d.opErr("size", 0, 0, d.dead)
	}
	return d.exp.size, nil
}

// ReadAt implements blkdev.Device. While there is no connection it waits for one.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	exp, err := d.export()
	if err == nil && off < 0 {
		err = blkdev.ErrRange
	}
	if err != nil {
		return 0, d.opErr("read", off, int64(len(p)), err)
	}
	want := p
	p = p[:max(0, min(int64(len(p)), exp.size-off))]
	n, err := d.read(exp, p, off)
	switch {
	case err != nil:
		return n, d.opErr("read", off+int64(n), int64(len(want)-n), err)
	case n < len(want):
		return n, io.EOF
	}
	return n, nil
}

// read fills p, which lies inside the export. All requests are over when it returns.
func (d *Disk) read(exp export, p []byte, off int64) (int, error) {
	var q queue
	for done := int64(0); done < int64(len(p)); {
		k, partial := exp.step(off+done, int64(len(p))-done)
		dst := p[done : done+k]
		r := &request{cmd: cmdRead, off: off + done, n: k, data: dst}
		var arrived func()
		if partial {
			in := r.off % exp.min
			r.off -= in
			r.n = exp.min
			r.data = make([]byte, exp.min)
			arrived = func() { copy(dst, r.data[in:]) }
		}
		q.push(d, r, k, arrived)
		done += k
		if q.err != nil {
			break
		}
	}
	return q.wait()
}

// step returns how many of the n bytes at off can go into one request, and whether they are only part
// of a block.
func (e export) step(off, n int64) (k int64, partial bool) {
	if in := off % e.min; in != 0 || n < e.min {
		return min(n, e.min-in), true
	}
	return min(n-n%e.min, e.max, max(maxPiece, e.min)), false
}

// A queue is the pieces of one call that are under way. Its count is of bytes from the first piece on,
// up to the first that failed.
type queue struct {
	pieces []piece
	n      int64
	err    error
}

type piece struct {
	r    *request
	n    int64
	done func()
}

// push sends one more piece, after waiting until there are not too many.
func (q *queue) push(d *Disk, r *request, n int64, done func()) {
	for len(q.pieces) >= window {
		q.pop()
	}
	if q.err != nil {
		return
	}
	if err := d.start(r); err != nil {
		for len(q.pieces) > 0 {
			q.pop()
		}
		if q.err == nil {
			q.err = err
		}
		return
	}
	q.pieces = append(q.pieces, piece{r, n, done})
}

// pop waits for the oldest piece.
func (q *queue) pop() {
	p := q.pieces[0]
	q.pieces = q.pieces[1:]
	<-p.r.done
	switch {
	case q.err != nil:
	case p.r.err != nil:
		q.err = p.r.err
	default:
		q.n += p.n
		if p.done != nil {
			p.done()
		}
	}
}

func (q *queue) wait() (int, error) {
	for len(q.pieces) > 0 {
		q.pop()
	}
	return int(q.n), q.err
}

// WriteAt implements blkdev.Device. p is copied, and the copy kept until the server has flushed it.
// A write that the server refuses makes all later writes and Syncs fail.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.write([][]byte{p}, off)
	if err != nil {
		return n, d.opErr("write", off+int64(n), int64(len(p)-n), err)
	}
	return n, nil
}

// WriteVec implements blkdev.Device: one request for up to a MiB.
func (d *Disk) WriteVec(bufs [][]byte, off int64) error {
	n, err := d.write(bufs, off)
	if err != nil {
		left := -int64(n)
		for _, b := range bufs {
			left += int64(len(b))
		}
		return d.opErr("write", off+int64(n), left, err)
	}
	return nil
}

func (d *Disk) write(bufs [][]byte, off int64) (int, error) {
	var n int64
	for _, b := range bufs {
		n += int64(len(b))
	}
	exp, err := d.mayWrite(off, n)
	if err != nil || n == 0 {
		return 0, err
	}
	if off%exp.min != 0 || n%exp.min != 0 {
		d.around.Lock()
		defer d.around.Unlock()
	} else if exp.min > 1 {
		d.around.RLock()
		defer d.around.RUnlock()
	}
	src := source{bufs: bufs}
	var q queue
	for done := int64(0); done < n && q.err == nil; {
		k, partial := exp.step(off+done, n-done)
		r := &request{cmd: cmdWrite, off: off + done, n: k}
		if partial {
			in := r.off % exp.min
			r.off -= in
			r.n = exp.min
			r.data = make([]byte, exp.min)
			if m, err := d.read(exp, r.data, r.off); err != nil || int64(m) < exp.min {
				q.wait()
				return int(q.n), errors.Join(q.err, err)
			}
			src.copy(r.data[in : in+k])
		} else {
			r.data = make([]byte, k)
			src.copy(r.data)
		}
		q.push(d, r, k, nil)
		done += k
	}
	return q.wait()
}

// A source is buffers read one after the other.
type source struct {
	bufs [][]byte
	at   int // in bufs[0]
}

// copy fills p with what comes next.
func (s *source) copy(p []byte) {
	for len(p) > 0 {
		n := copy(p, s.bufs[0][s.at:])
		p = p[n:]
		if s.at += n; s.at == len(s.bufs[0]) {
			s.bufs, s.at = s.bufs[1:], 0
		}
	}
}

// Sync implements blkdev.Device. After a refused write or flush it returns that first error for ever.
func (d *Disk) Sync() error {
	d.mu.Lock()
	err := d.dead
	if err == nil {
		err = d.failed
	}
	flush := d.exp.has(flagFlush) && !d.opt.ReadOnly // else every write went through
	d.mu.Unlock()
	if err == nil && flush {
		err = d.do(&request{cmd: cmdFlush})
	}
	if err != nil {
		return d.opErr("sync", 0, 0, err)
	}
	return nil
}

// Discard implements blkdev.Device: it trims, in whole blocks, where the server can. A trim is not done
// again for a server that was killed.
func (d *Disk) Discard(off, n int64) error {
	exp, err := d.mayWrite(off, n)
	if err != nil {
		return d.opErr("discard", off, n, err)
	}
	end := off + n
	end -= end % exp.min
	off += (exp.min - off%exp.min) % exp.min
	if off < witnessSz {
		d.mu.Lock()
		d.witness = nil // nobody knows what it will be
		d.mu.Unlock()
	}
	for off < end && exp.has(flagTrim) && !d.noTrim.Load() {
		k := min(end-off, trimPiece)
		err := d.do(&request{cmd: cmdTrim, off: off, n: k})
		var se *ServerError
		switch {
		case errors.As(err, &se) && (se.Code == CodeNotSup || se.Code == CodeInvalid):
			d.noTrim.Store(true)
		case err != nil:
			return d.opErr("discard", off, end-off, err)
		}
		off += k
	}
	return nil
}

// Discards reports whether Discard has an effect: whether the server said that it can trim, and has not refused
// it since.
func (d *Disk) Discards() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.exp.has(flagTrim) && !d.noTrim.Load()
}

// Close implements blkdev.Device: it says good-bye to the server and waits until nothing of the Disk
// runs any more. Whoever waits for the server gets os.ErrClosed.
func (d *Disk) Close() error {
	d.mu.Lock()
	if errors.Is(d.dead, os.ErrClosed) {
		d.mu.Unlock()
		return d.opErr("close", 0, 0, os.ErrClosed)
	}
	d.dead = os.ErrClosed
	d.mu.Unlock()
	d.stop()
	<-d.kept
	return nil
}

// Stats returns how many connections there have been and how many writes were written again.
func (d *Disk) Stats() (connections, replayed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns, d.replayed
}

// Lost returns when the connection was lost, the zero time if a request has succeeded since. It waits for nobody.
func (d *Disk) Lost() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lostSince
}

// opErr wraps err with the place.
func (d *Disk) opErr(op string, off, n int64, err error) error {
	return &blkdev.OpError{Op: op, Path: d.addr.String(), Off: off, Len: n, Err: err}
}

// export returns what is known of the export, or why nothing can be done with it.
func (d *Disk) export() (export, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.exp, d.dead
}

// mayWrite refuses what must not reach the server.
func (d *Disk) mayWrite(off, n int64) (export, error) {
	exp, err := d.export()
	switch {
	case err != nil:
		return exp, err
	case d.opt.ReadOnly:
		return exp, blkdev.ErrReadOnly
	case off < 0 || n < 0 || off > exp.size || n > exp.size-off:
		return exp, fmt.Errorf("%w of %d bytes", blkdev.ErrRange, exp.size)
	}
	return exp, nil
}
