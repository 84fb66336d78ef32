package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// A line is our end of a serial line into a virtual machine, which clients use one after the other. The kernel
// there stops listening for good when its 4 KiB of input are full, so we send no more than is granted: what
// comes from the machine is in pieces, each behind two bytes, big-endian, that say how long it is; with
// lineGrant set it is no piece, but so many more bytes that we may send. testdata/vminit is the other end.
type line struct {
	c    net.Conn
	done chan struct{} // closed when nothing of it runs

	mu    sync.Mutex
	some  sync.Cond // of what follows has changed
	in    []byte    // received, and not yet read
	grant int       // bytes that may be sent
	err   error     // of c
}

const (
	lineGrant  = 1 << 15
	lineWindow = 2048 // granted from the start
)

func newLine(c net.Conn) *line {
	l := &line{c: c, done: make(chan struct{}), grant: lineWindow}
	l.some.L = &l.mu
	go l.receive()
	return l
}

// receive takes what comes from the machine until c is closed.
func (l *line) receive() {
	defer close(l.done)
	var head [2]byte
	for {
		_, err := io.ReadFull(l.c, head[:])
		n := int(binary.BigEndian.Uint16(head[:]))
		var piece []byte
		if err == nil && n < lineGrant {
			piece = make([]byte, n)
			_, err = io.ReadFull(l.c, piece)
		}
		l.mu.Lock()
		switch {
		case err != nil:
			l.err = err
		case piece != nil:
			l.in = append(l.in, piece...)
		default:
			l.grant += n - lineGrant
		}
		l.some.Broadcast()
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Close ends the line for all.
func (l *line) Close() {
	l.c.Close()
	<-l.done
}

// A lineUser is one of the clients. The server notices that there is a new one by its Tversion.
type lineUser struct {
	*line
	closed bool // guarded by mu
}

// Close ends what the client does and leaves the line open.
func (u *lineUser) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.some.Broadcast()
	return nil
}

// wait waits until ok holds. u.mu is held.
func (u *lineUser) wait(ok func() bool) error {
	for {
		switch {
		case u.closed:
			return net.ErrClosed
		case ok():
			return nil
		case u.err != nil:
			return u.err
		}
		u.some.Wait()
	}
}

func (u *lineUser) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.wait(func() bool { return len(u.in) > 0 }); err != nil {
		return 0, err
	}
	n := copy(p, u.in)
	u.in = u.in[n:]
	return n, nil
}

func (u *lineUser) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		u.mu.Lock()
		if err := u.wait(func() bool { return u.grant > 0 }); err != nil {
			u.mu.Unlock()
			return done, err
		}
		n := min(len(p)-done, u.grant)
		u.grant -= n
		u.mu.Unlock()
		if _, err := u.c.Write(p[done : done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}
