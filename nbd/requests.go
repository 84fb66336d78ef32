package nbd

import "time"

// do sends one request and waits for its end.
func (d *Disk) do(r *request) error {
	if err := d.start(r); err != nil {
		return err
	}
	<-r.done
	return r.err
}

// start sends r, or leaves it to the keeper when there is no connection. Its end is the end of r.done. A
// write first waits until there is room for it among the unflushed ones.
func (d *Disk) start(r *request) error {
	d.mu.Lock()
	if r.cmd == cmdWrite {
		d.waitForRoom(r.cost())
		if d.dead == nil && d.failed != nil {
			defer d.mu.Unlock()
			return d.failed
		}
	}
	if d.dead != nil {
		defer d.mu.Unlock()
		return d.dead
	}
	r.done = make(chan struct{})
	d.live[r] = struct{}{}
	if r.cmd == cmdWrite {
		d.log = append(d.log, r)
		d.unflushed += r.cost()
	}
	c := d.conn
	if c != nil {
		d.assign(r, c)
	}
	d.mu.Unlock()
	if c != nil {
		c.send(r)
	}
	return nil
}

// assign notes that r is about to be sent on c. Needs d.mu.
func (d *Disk) assign(r *request, c *conn) {
	r.on = c
	if r.cmd == cmdFlush {
		// What is acknowledged later may be on its way while the server flushes.
		r.mark = d.acks
	}
}

// waitForRoom waits until n bytes more may be unflushed, or writing has no sense any more. One of those who
// wait flushes. Needs d.mu, and gives it back while it waits.
func (d *Disk) waitForRoom(n int64) {
	for d.dead == nil && d.failed == nil && len(d.log) > 0 && d.unflushed+n > d.opt.Unflushed {
		// A flush covers what is acknowledged, and only that; without any of it there is nothing to gain.
		if d.flushing || !d.anyAcked() || !d.exp.has(flagFlush) {
			d.moved.Wait()
			continue
		}
		d.flushing = true
		d.mu.Unlock()
		d.do(&request{cmd: cmdFlush}) // an error is in failed or dead now
		d.mu.Lock()
		d.flushing = false
		d.moved.Broadcast()
	}
}

// anyAcked reports whether a flush would make the log shorter. Needs d.mu.
func (d *Disk) anyAcked() bool {
	for _, r := range d.log {
		if r.ack != 0 {
			return true
		}
	}
	return false
}

// deliver ends a request with the server's answer. It is called by the goroutine of a connection.
func (d *Disk) deliver(r *request, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.live[r]; !ok { // the keeper's own, of a replay
		r.err = err
		close(r.done)
		return
	}
	delete(d.live, r)
	switch {
	case r.cmd == cmdWrite && err == nil:
		d.acks++
		r.ack = d.acks
		if !d.exp.has(flagFlush) {
			d.drop(func(l *request) bool { return l == r }) // written through
		}
	case r.cmd == cmdWrite:
		d.forget(r)
		d.fail(err)
	case r.cmd == cmdFlush && err == nil:
		d.drop(func(l *request) bool { return l.ack != 0 && l.ack <= r.mark })
	case r.cmd == cmdFlush:
		d.fail(err)
	}
	d.lostSince = time.Time{}
	r.err = err
	close(r.done)
	d.moved.Broadcast()
}

// fail records the first failure of a write or flush. Needs d.mu.
func (d *Disk) fail(err error) {
	if d.failed == nil {
		d.failed = err
	}
}

// drop takes the writes that are safe out of the log. Needs d.mu.
func (d *Disk) drop(safe func(*request) bool) {
	kept := d.log[:0]
	for _, r := range d.log {
		if !safe(r) {
			kept = append(kept, r)
			continue
		}
		d.unflushed -= r.cost()
		r.patch(d.witness)
	}
	clear(d.log[len(kept):])
	d.log = kept
}

// forget takes one write out of the log. Needs d.mu.
func (d *Disk) forget(r *request) {
	for i, l := range d.log {
		if l == r {
			d.log = append(d.log[:i], d.log[i+1:]...)
			d.unflushed -= r.cost()
			return
		}
	}
}

// cost returns how many bytes of memory a write takes while it is in the log.
func (r *request) cost() int64 { return r.n + 256 }

// patch does the write to sector, which is the first of the disk.
func (r *request) patch(sector []byte) {
	if r.off < int64(len(sector)) {
		copy(sector[r.off:], r.data)
	}
}
