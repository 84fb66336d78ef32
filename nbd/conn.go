package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A request is one command to the server, from its making to its end. It survives connections.
type request struct {
	cmd  uint16
	off  int64
	n    int64
	data []byte        // what is written, never changed; where a read goes to
	done chan struct{} // closed at the end; err is set before
	err  error

	// guarded by Disk.mu
	on   *conn  // the connection it was sent on last
	mark uint64 // of a flush: the last acknowledgement before it was sent
	ack  uint64 // of a write: its acknowledgement, counted from 1; 0 before
}

// A conn is one connection, after the negotiation.
//
//   - A request is in pending from before its first byte is sent until its reply has been read whole.
//   - Only the goroutine of run reads, and writes into the buffers of reads; it has ended when
//     ended is closed. Nothing is delivered after that.
//   - There is a read deadline exactly while something is pending.
type conn struct {
	nc    net.Conn
	exp   export
	stall time.Duration

	wmu sync.Mutex // held while a request is on its way out

	mu      sync.Mutex
	pending map[uint64]*request
	last    uint64 // handle
	err     error  // why it ended; set once
	ended   chan struct{}
}

// dial makes a connection and negotiates, in at most limit.
func dial(ctx context.Context, a Address, cfg *tls.Config, dialer func(context.Context) (net.Conn, error), limit, stall time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	nc, err := dialer(ctx)
	if err != nil {
		return nil, err
	}
	// Whatever ends ctx ends the negotiation: the server may say nothing at all.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c, exp, err := handshake(ctx, nc, a, cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if cerr := ctx.Err(); cerr != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)) {
			err = cerr
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the server did not answer within %v", limit)
		}
		return nil, err
	}
	return &conn{nc: c, exp: exp, stall: stall, pending: map[uint64]*request{}, ended: make(chan struct{})}, nil
}

// send puts a request on the wire. It does not say whether that worked: if not, the connection is ending, and
// whoever waits for the end of it or of the request will know.
func (c *conn) send(r *request) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.last++
	handle := c.last
	if len(c.pending) == 0 {
		c.nc.SetReadDeadline(time.Now().Add(c.stall))
	}
	c.pending[handle] = r
	c.mu.Unlock()

	var flags uint16
	var data []byte
	if r.cmd == cmdWrite {
		data = r.data
		if !c.exp.has(flagFlush) {
			flags = cmdFlagFUA
		}
	}
	if err := c.put(flags, r.cmd, handle, r.off, r.n, data); err != nil {
		c.kill(err)
	}
}

// put writes one request with its data.
func (c *conn) put(flags, cmd uint16, handle uint64, off, n int64, data []byte) error {
	var head [requestSize]byte
	putRequest(&head, flags, cmd, handle, uint64(off), uint32(n))
	c.wmu.Lock()
	defer c.wmu.Unlock()
	bufs := net.Buffers{head[:], data}
	if len(data) == 0 {
		bufs = bufs[:1]
	}
	_, err := bufs.WriteTo(c.nc)
	return err
}

// run reads replies until the connection ends, and gives each to deliver, which must not wait.
func (c *conn) run(deliver func(*request, error)) {
	defer close(c.ended)
	r := bufio.NewReaderSize(c.nc, 64<<10)
	for {
		if err := c.reply(r, deliver); err != nil {
			c.kill(err)
			return
		}
	}
}

// reply reads one reply.
func (c *conn) reply(r *bufio.Reader, deliver func(*request, error)) error {
	var head [replySize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return c.explain(err)
	}
	code, handle, err := parseReply(&head)
	if err != nil {
		return err
	}
	c.mu.Lock()
	req := c.pending[handle]
	c.mu.Unlock()
	if req == nil {
		return fmt.Errorf("%w: a reply to request %d, which there is not", ErrProtocol, handle)
	}
	var failed error
	switch {
	case code == CodeShutdown:
		return &ServerError{code} // the next server will do it
	case code != 0:
		failed = &ServerError{code}
	case req.cmd == cmdRead:
		if _, err := io.ReadFull(r, req.data); err != nil {
			return c.explain(err)
		}
	}
	c.mu.Lock()
	delete(c.pending, handle)
	if c.err == nil {
		var deadline time.Time
		if len(c.pending) > 0 {
			deadline = time.Now().Add(c.stall)
		}
		c.nc.SetReadDeadline(deadline)
	}
	c.mu.Unlock()
	deliver(req, failed)
	return nil
}

// explain makes clear what the end of a connection was.
func (c *conn) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no reply for %v", c.stall)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return errors.New("the server hung up")
	}
	return err
}

// kill ends the connection because of err. The first reason counts. It does not wait.
func (c *conn) kill(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.nc.Close()
}

// cause returns why the connection ended.
func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// disconnect says good-bye, if that can be said at once, and ends the connection.
func (c *conn) disconnect(err error) {
	c.nc.SetWriteDeadline(time.Now().Add(time.Second)) // also for a request that is on its way out
	c.put(0, cmdDisc, 0, 0, 0, nil)
	c.kill(err)
}
