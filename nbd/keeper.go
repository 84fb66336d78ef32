package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// keep is the keeper: it waits for the end of connections and makes new ones, until ctx ends or it gives
// up. Then it ends whatever still waits.
func (d *Disk) keep(ctx context.Context, c *conn) {
	defer close(d.kept)
	var wait time.Duration
	for {
		select {
		case <-c.ended:
		case <-ctx.Done():
			c.disconnect(os.ErrClosed)
			<-c.ended
		}
		d.mu.Lock()
		d.conn = nil
		if d.lostSince.IsZero() {
			// The last connection was of use. Otherwise this is the same interruption still.
			d.lostSince, wait = time.Now(), 0
		}
		since, kept := d.lostSince, len(d.log)
		d.mu.Unlock()
		if ctx.Err() != nil {
			d.end(os.ErrClosed)
			return
		}
		why := c.cause()
		d.opt.Logger.Warn("connection to the disk lost, connecting again", "disk", d.addr.String(), "err", why, "unflushed", kept)
		var err error
		if c, wait, err = d.again(ctx, since, wait, why); err != nil {
			d.end(err)
			return
		}
	}
}

const (
	sayAgain    = time.Minute // how often the log says that a disk is still away
	replayBatch = 32          // writes that are made again between two flushes
)

// A finalError is one that another try will not mend.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// again makes a connection on which everything is as it was when the last one was lost, at since. wait is how
// long to wait before the first try, and afterwards before the first of the next time.
func (d *Disk) again(ctx context.Context, since time.Time, wait time.Duration, why error) (*conn, time.Duration, error) {
	var said string
	var saidAt time.Time
	impatient := func() bool { return d.opt.Patience > 0 && time.Since(since) > d.opt.Patience }
	if impatient() { // connections there are, and each ends before it was of use
		return nil, 0, fmt.Errorf("of no use since %v: %w", since.Format(time.TimeOnly), why)
	}
	for {
		// Many clients of one server do not come back all at once.
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			return nil, 0, os.ErrClosed
		}
		wait = min(max(2*wait, firstWait), maxWait)
		c, err := d.dial(ctx)
		if err == nil {
			if err = d.restore(ctx, c); err == nil {
				return c, wait, nil
			}
			c.disconnect(err)
			<-c.ended
		}
		var final finalError
		switch {
		case ctx.Err() != nil:
			return nil, 0, os.ErrClosed
		case errors.As(err, &final):
			d.opt.Logger.Error("the disk is lost", "disk", d.addr.String(), "err", err)
			return nil, 0, err
		case impatient():
			return nil, 0, fmt.Errorf("of no use since %v: %w; before that: %w", since.Format(time.TimeOnly), err, why)
		case err.Error() != said || time.Since(saidAt) > sayAgain:
			said, saidAt = err.Error(), time.Now()
			d.opt.Logger.Warn("no connection to the disk yet", "disk", d.addr.String(), "err", err)
		}
	}
}

// sleep waits for t and reports whether ctx lives still.
func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// restore makes c the connection of the disk: it starts its goroutine, looks whether this is the same disk,
// writes what has not been flushed, and then sends what waits. If it returns an error, c is not used and its
// goroutine is ending.
func (d *Disk) restore(ctx context.Context, c *conn) error {
	go c.run(d.deliver)
	// Nobody else looks at ctx while we wait for replies.
	defer context.AfterFunc(ctx, func() { c.kill(os.ErrClosed) })()

	d.mu.Lock()
	log := append([]*request(nil), d.log...)
	old, since := d.exp, d.lostSince
	check := d.failed == nil
	d.conns++
	d.mu.Unlock()
	if err := d.same(c.exp, old); err != nil {
		return err
	}
	if check {
		sector, err := d.readWitness(c)
		if err != nil {
			return fmt.Errorf("read of the first sector: %w", err)
		}
		if !d.recognizes(sector, log) {
			return errors.New("what is there now is not the disk that it was: its first sector has changed while " +
				"there was no connection; is there another disk behind the address, or another server at work on it?")
		}
	}
	if err := d.replay(c, log); err != nil {
		return err
	}
	d.mu.Lock()
	d.conn, d.exp = c, c.exp
	var wait []*request
	for r := range d.live {
		if r.on != c {
			d.assign(r, c)
			wait = append(wait, r)
		}
	}
	d.mu.Unlock()
	d.opt.Logger.Info("connected to the disk again", "disk", d.addr.String(), "after", time.Since(since).Round(time.Millisecond), "replayed", len(log))
	for _, r := range wait {
		c.send(r)
	}
	return nil
}

// same says why the export is not one that we can go on with.
func (d *Disk) same(now, old export) error {
	switch {
	case now.size < old.size:
		return fmt.Errorf("the export had %d bytes and has %d now", old.size, now.size)
	case now.min > old.min:
		return fmt.Errorf("the export had blocks of %d bytes and has blocks of %d now", old.min, now.min)
	case now.max < min(old.max, max(maxPiece, old.min)):
		return fmt.Errorf("the server took requests of %d bytes and takes %d now", old.max, now.max)
	case !d.opt.ReadOnly && now.writable() != nil:
		return now.writable()
	case now.has(flagFlush) != old.has(flagFlush):
		return errors.New("the server flushes otherwise than before")
	}
	return nil
}

// readWitness reads the first sector by a connection that nobody else uses yet.
func (d *Disk) readWitness(c *conn) ([]byte, error) {
	n := min(max(c.exp.min, witnessSz), c.exp.size)
	r := &request{cmd: cmdRead, n: n, data: make([]byte, n), done: make(chan struct{})}
	if n > 0 {
		c.send(r)
		if err := c.await(r); err != nil {
			return nil, err
		}
	}
	return r.data[:min(n, witnessSz)], nil
}

// await waits for the end of r or of the connection.
func (c *conn) await(r *request) error {
	select {
	case <-r.done:
		return r.err
	case <-c.ended:
	}
	select {
	case <-r.done: // both
		return r.err
	default:
		return c.cause()
	}
}

// recognizes reports whether the first sector can be what a server has that was lost with the writes in log
// neither surely done nor surely lost. Nothing says which of them it has kept, nor in which order they reached its
// storage, nor that a sector is kept whole: so each byte must be what it was when that was last flushed, or what one of
// the writes put there.
func (d *Disk) recognizes(sector []byte, log []*request) bool {
	d.mu.Lock()
	witness := bytes.Clone(d.witness)
	d.mu.Unlock()
	if len(sector) < len(witness) {
		return false
	}
	for at, was := range witness {
		now := sector[at]
		put := func(r *request) bool {
			i := int64(at) - r.off
			return 0 <= i && i < int64(len(r.data)) && r.data[i] == now
		}
		if now != was && !slices.ContainsFunc(log, put) {
			return false
		}
	}
	return true
}

// replay writes log again, in an order that differs from its own only between writes that do not overlap. It flushes
// now and then, so that on connections that do not last it still comes to an end.
func (d *Disk) replay(c *conn, log []*request) error {
	for len(log) > 0 {
		n := 1
		for n < len(log) && n < replayBatch && !overlaps(log[:n], log[n]) {
			n++
		}
		batch := make([]*request, n)
		for i, r := range log[:n] {
			batch[i] = d.repeat(c, r)
			c.send(batch[i])
		}
		for i, r := range batch {
			var refused *ServerError
			switch err := c.await(r); {
			case err == nil:
			case errors.As(err, &refused) && refused.Code != CodeShutdown && r == log[i]:
				// Its maker knows, and the disk has failed.
			case errors.As(err, &refused) && refused.Code != CodeShutdown:
				return finalError{fmt.Errorf("a write of %d bytes at %d, which was acknowledged before the connection was lost and not flushed, could not be made again: %w", r.n, r.off, err)}
			default:
				return err
			}
		}
		if n < len(log) && c.exp.has(flagFlush) {
			if err := d.secure(c, log[:n]); err != nil {
				return err
			}
		}
		log = log[n:]
	}
	return nil
}

// secure flushes, and takes what has just been replayed out of the log. Since the log is replayed in its order, what a
// server that is killed now has is what all before it have left.
func (d *Disk) secure(c *conn, done []*request) error {
	flush := &request{cmd: cmdFlush, done: make(chan struct{})}
	c.send(flush)
	if err := c.await(flush); err != nil {
		var refused *ServerError
		if errors.As(err, &refused) && refused.Code != CodeShutdown {
			return finalError{fmt.Errorf("flush of what was written again: %w", err)}
		}
		return err
	}
	safe := make(map[*request]bool, len(done))
	for _, r := range done {
		safe[r] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(func(r *request) bool { return safe[r] })
	d.moved.Broadcast()
	return nil
}

// repeat returns the request with which r is done again on c: r itself if its maker still waits.
func (d *Disk) repeat(c *conn, r *request) *request {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replayed++
	if _, ok := d.live[r]; ok {
		d.assign(r, c)
		return r
	}
	return &request{cmd: r.cmd, off: r.off, n: r.n, data: r.data, done: make(chan struct{})}
}

func overlaps(log []*request, r *request) bool {
	for _, l := range log {
		if l.off < r.off+r.n && r.off < l.off+l.n {
			return true
		}
	}
	return false
}

// end ends the disk and all who wait because of err. No connection has a goroutine any more.
func (d *Disk) end(err error) {
	var final finalError
	if errors.As(err, &final) {
		err = final.error
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead == nil {
		if n := len(d.log); n > 0 {
			err = fmt.Errorf("%w; %d writes since the last flush may be lost", err, n)
		}
		d.dead = err
	}
	for r := range d.live {
		delete(d.live, r)
		r.err = d.dead
		close(r.done)
	}
	d.log, d.unflushed = nil, 0
	d.moved.Broadcast()
}
