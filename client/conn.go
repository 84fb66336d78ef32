package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// maxTags bounds the requests outstanding on a Conn; who wants more waits.
const maxTags = 1024

// A Conn is a connection to a server, for any number of goroutines.
//
//   - A tag is in calls from before its request is written until its reply is read, and, if the request
//     is being flushed, until the Rflush is.
//   - Once err is set, no call is outstanding and none gets in.
//   - Only the goroutine that set writing writes, and only reader reads.
type Conn struct {
	rwc   io.ReadWriteCloser
	msize uint32
	done  chan struct{} // closed when reader has ended

	mu      sync.Mutex
	room    sync.Cond // out got shorter, a tag got free, or err was set
	err     error     // why the connection is at its end
	closing bool      // by Close
	out     []byte    // frames to write
	spare   []byte    // the buffer that was written last
	writing bool
	calls   map[uint16]*Call
	tags    numbers[uint16]
	fids    numbers[uint32]
}

// A Call is a request that was sent.
type Call struct {
	conn *Conn
	tag  uint16
	typ  uint8 // of the request

	flushes *Call // the request this one asks to forget

	// guarded by Conn.mu until done is closed
	frame    []byte
	err      error
	answered bool
	flushing int // Tflushes of this tag that are outstanding

	done chan struct{} // closed when there is a reply, the request is flushed, or the connection ended
}

// ErrFlushed is the result of a Call that was flushed before it was answered: the server has
// forgotten it.
var ErrFlushed = errors.New("request flushed")

// Dial connects to addr, which is in any form that dial.Parse reads, and agrees on the protocol. It asks
// for frames of msize bytes at most. When ctx ends, it gives up; afterwards ctx has no meaning.
func Dial(ctx context.Context, addr string, msize uint32) (*Conn, error) {
	rwc, err := connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, err := New(ctx, rwc, msize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

// New agrees on the protocol over rwc, which then belongs to the Conn; if that fails it is closed.
// Closing rwc must end a Read and a Write that wait.
func New(ctx context.Context, rwc io.ReadWriteCloser, msize uint32) (*Conn, error) {
	got, err := version(ctx, rwc, msize)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		rwc:   rwc,
		msize: got,
		done:  make(chan struct{}),
		calls: make(map[uint16]*Call),
	}
	c.room.L = &c.mu
	go c.reader()
	return c, nil
}

// Msize returns the size of the largest frame the server agreed to.
func (c *Conn) Msize() uint32 { return c.msize }

// Done is closed when the connection has ended: every request fails from then on.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection has ended, nil as long as it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close hangs up and waits until nothing of the Conn runs any more. What is outstanding fails with
// net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	err := c.rwc.Close()
	<-c.done
	return err
}

// Start sends m, a request of any type but Tversion and with any tag, and returns at once, except that
// it waits while too many requests are outstanding or unwritten. m is not kept.
//
// It fails if m does not fit into a frame, or the connection is at its end.
func (c *Conn) Start(m proto.FCall) (*Call, error) { return c.start(m, nil) }

// start sends m; flushes is the request to forget if m is a Tflush. If that one is answered already,
// m is not sent and the call is nil.
func (c *Conn) start(m proto.FCall, flushes *Call) (*Call, error) {
	most := maxTags
	if flushes != nil {
		most *= 2 // ordinary requests must not keep the one from the server that could end them
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (len(c.calls) >= most || c.writing && len(c.out) > 4*int(c.msize)) {
		c.room.Wait()
	}
	if flushes != nil && flushes.answered {
		return nil, nil
	}
	if c.err != nil {
		return nil, c.err
	}
	at := len(c.out)
	out, err := ninep.Append(c.out, m)
	if err != nil {
		return nil, err
	}
	frame := out[at:]
	if uint32(len(frame)) > c.msize {
		return nil, fmt.Errorf("message of %d bytes, msize is %d: %w", len(frame), c.msize, ninep.ErrTooLong)
	}
	k := &Call{conn: c, typ: frame[4], flushes: flushes, done: make(chan struct{})}
	if k.typ%2 != 0 || k.typ == ninep.Tversion {
		return nil, fmt.Errorf("message of type %d is no request of a session", k.typ)
	}
	if flushes != nil {
		flushes.flushing++
	}
	k.tag = c.tags.take()
	binary.LittleEndian.PutUint16(frame[5:], k.tag)
	c.calls[k.tag] = k
	c.out = out
	if !c.writing {
		c.writeLocked()
	}
	return k, nil
}

// writeLocked writes what is in out, and what others add meanwhile. c.mu is held when it is called
// and when it returns, but not in between.
func (c *Conn) writeLocked() {
	c.writing = true
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out = c.spare[:0]
		c.room.Broadcast()
		c.mu.Unlock()
		_, err := c.rwc.Write(b)
		c.mu.Lock()
		c.spare = b
		if err != nil {
			c.failLocked(err)
			c.mu.Unlock()
			c.rwc.Close() // ends reader
			c.mu.Lock()
		}
	}
	c.writing = false
	c.room.Broadcast()
}

// RPC sends m and waits for the reply, which it decodes into r. The data of an Rread in r is r's own.
//
// If ctx ends first, the request is flushed: when the server has confirmed that, the result is ctx's
// error; if it answers after all, the result is the answer. So after an error of ctx the request had no
// effect that the server would stand by.
func (c *Conn) RPC(ctx context.Context, m proto.FCall, r *ninep.Fcall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := c.Start(m)
	if err != nil {
		return err
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		if err := k.Flush(); err != nil {
			return err
		}
	}
	err = k.Wait(r)
	if err == ErrFlushed {
		return ctx.Err()
	}
	return err
}

// Done is closed when Wait would not wait.
func (k *Call) Done() <-chan struct{} { return k.done }

// Wait waits for the reply and decodes it into r. The error is the server's Error, ErrFlushed, or what
// ended the connection. It can be called again.
func (k *Call) Wait(r *ninep.Fcall) error {
	<-k.done
	if k.err != nil {
		return k.err
	}
	return decodeReply(r, k.frame, k.typ)
}

// Flush asks the server to forget the request and waits until it has said so or has answered it: after
// that Wait does not wait. Flushing what is already answered does nothing. The error is that of the
// connection. Source: flush(5).
func (k *Call) Flush() error {
	f, err := k.conn.start(&proto.TFlush{Oldtag: k.tag}, k)
	if f == nil {
		return err
	}
	<-f.done
	return f.err
}

// reader hands replies to those who wait for them, until the connection ends.
func (c *Conn) reader() {
	defer close(c.done)
	err := c.read()
	c.mu.Lock()
	c.failLocked(err)
	c.mu.Unlock()
	c.rwc.Close()
}

// read is the loop of reader; it returns what ended it.
func (c *Conn) read() error {
	in := newFrames(c.rwc, c.msize)
	var r ninep.Fcall
	for {
		frame, err := in.take()
		if err == nil && frame == nil {
			err = in.fill()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := r.Decode(frame); err != nil {
			return protocolError("%w", err)
		}
		c.mu.Lock()
		err = c.deliverLocked(&r, frame)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// deliverLocked hands the reply r, decoded from frame, to its call.
func (c *Conn) deliverLocked(r *ninep.Fcall, frame []byte) error {
	k := c.calls[r.Tag]
	switch {
	case k == nil || k.answered:
		return protocolError("reply of type %d with tag %d, which is not outstanding", r.Type, r.Tag)
	case r.Type != k.typ+1 && (r.Type != ninep.Rerror || k.typ == ninep.Tflush):
		return protocolError("request of type %d answered by type %d", k.typ, r.Type)
	}
	k.frame = bytes.Clone(frame)
	c.finishLocked(k, nil)
	if old := k.flushes; old != nil {
		old.flushing--
		if !old.answered {
			c.finishLocked(old, ErrFlushed)
		} else {
			c.releaseLocked(old)
		}
	}
	return nil
}

// finishLocked ends k's wait.
func (c *Conn) finishLocked(k *Call, err error) {
	k.err = err
	k.answered = true
	close(k.done)
	c.releaseLocked(k)
}

// releaseLocked gives k's tag back, unless a Tflush that names it is still under way: the server may
// take the tag for that of the flushed request until it has answered.
func (c *Conn) releaseLocked(k *Call) {
	if k.flushing == 0 {
		delete(c.calls, k.tag)
		c.tags.give(k.tag)
		c.room.Broadcast()
	}
}

// failLocked ends the connection's use: every call fails with err, or with net.ErrClosed if it was Close
// that ended it. Only the first failure counts.
func (c *Conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	switch {
	case c.closing:
		err = net.ErrClosed
	case err == io.EOF:
		err = fmt.Errorf("the server hung up: %w", io.ErrUnexpectedEOF)
	}
	c.err = err
	for _, k := range c.calls {
		if !k.answered {
			k.err = err
			k.answered = true
			close(k.done)
		}
	}
	clear(c.calls)
	c.out = nil
	c.room.Broadcast()
}

// violated ends the connection because of a reply that only its caller could see was wrong, and returns
// the error that says so.
func (c *Conn) violated(format string, args ...any) error {
	err := protocolError(format, args...)
	c.mu.Lock()
	c.failLocked(err)
	c.mu.Unlock()
	c.rwc.Close()
	return err
}

// numbers hands out numbers that are not in use, lowest first as long as none was given back.
type numbers[T uint16 | uint32] struct {
	next T
	free []T
}

func (n *numbers[T]) take() T {
	if k := len(n.free); k > 0 {
		t := n.free[k-1]
		n.free = n.free[:k-1]
		return t
	}
	n.next++
	return n.next - 1
}

func (n *numbers[T]) give(t T) { n.free = append(n.free, t) }
