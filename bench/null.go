package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"gefs9p/dial"
	"gefs9p/ninep"
)

// nullQid is the qid of a Null's root, by which a run knows that nothing it is told can be true.
var nullQid = ninep.Qid{Qtype: ninep.QTDIR, Vers: 0x6c6c756e, Uid: 0x6c6c756e6c6c756e}

// nullMsize is the largest frame of a Null.
const nullMsize = maxChunk + ninep.IOHDRSZ

// A Null is a 9P server that does nothing as fast as that can be done: every request succeeds at once,
// reads give as many zeros as were asked for, and no end of them, and no state is kept. The zero value
// is ready to use. It shows how much of a benchmark is sockets, codec and the benchmark itself.
type Null struct {
	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	conns     map[net.Conn]bool
	wg        sync.WaitGroup
}

// Serve answers the connections that l accepts until Close is called, then returns nil; or until l
// fails. It closes l.
func (n *Null) Serve(l net.Listener) error {
	defer l.Close()
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	if n.listeners == nil {
		n.listeners = make(map[net.Listener]bool)
		n.conns = make(map[net.Conn]bool)
	}
	n.listeners[l] = true
	n.mu.Unlock()
	for {
		conn, err := l.Accept()
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			delete(n.listeners, l)
			n.mu.Unlock()
			return err
		}
		n.conns[conn] = true
		n.wg.Go(func() {
			serveNull(conn)
			conn.Close()
			n.mu.Lock()
			delete(n.conns, conn)
			n.mu.Unlock()
		})
		n.mu.Unlock()
	}
}

// Close ends all of the server's connections and waits for them.
func (n *Null) Close() error {
	n.mu.Lock()
	n.closed = true
	for l := range n.listeners {
		l.Close()
	}
	for conn := range n.conns {
		conn.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}

// ServeNull listens on addr, which is in any form that dial.Parse reads, says so in a line "listening ADDR" on
// out, and is a Null until ctx ends.
func ServeNull(ctx context.Context, addr string, out io.Writer) error {
	network, address, err := dial.Parse(addr)
	if err != nil {
		return err
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening %s\n", l.Addr()); err != nil {
		l.Close()
		return err
	}
	var n Null
	stop := context.AfterFunc(ctx, func() { n.Close() })
	err = n.Serve(l)
	if stop() { // not ctx
		n.Close()
	}
	return err
}

// serveNull answers one connection until it ends or says something that is no 9P.
func serveNull(conn io.ReadWriter) {
	var (
		in    = bufio.NewReaderSize(conn, 2*nullMsize)
		out   []byte
		zeros = make([]byte, maxChunk) // as many as a reply can carry
		m     ninep.Fcall
	)
	// have waits until n bytes are there; before it waits it sends what there is to send.
	have := func(n int) ([]byte, bool) {
		if in.Buffered() < n && len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return nil, false
			}
			out = out[:0]
		}
		b, err := in.Peek(n)
		return b, err == nil
	}
	for {
		b, ok := have(4)
		if !ok {
			return
		}
		n, err := ninep.FrameSize(b, nullMsize)
		if err != nil {
			return
		}
		frame, ok := have(n)
		if !ok || m.Decode(frame) != nil {
			return
		}
		if out, err = appendNull(out, &m, zeros); err != nil {
			return
		}
		if m.Type == ninep.Tversion {
			msize := max(ninep.MinMsize, min(m.Version.Msize, nullMsize))
			zeros = zeros[:msize-ninep.IOHDRSZ]
		}
		in.Discard(n)
		if len(out) >= flushAt {
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

var errNoRequest = errors.New("not a request")

// appendNull answers m.
func appendNull(b []byte, m *ninep.Fcall, zeros []byte) ([]byte, error) {
	switch m.Type {
	case ninep.Tversion:
		version, _, _ := strings.Cut(m.Version.Version, ".")
		if version != ninep.Version {
			version = "unknown"
		}
		return ninep.AppendRversion(b, m.Tag, min(m.Version.Msize, nullMsize), version)
	case ninep.Tauth:
		return ninep.AppendRerror(b, m.Tag, "authentication failed"), nil // so that clients do without
	case ninep.Tattach:
		return ninep.AppendRattach(b, m.Tag, nullQid), nil
	case ninep.Tflush:
		return ninep.AppendRflush(b, m.Tag), nil
	case ninep.Twalk:
		var qids [ninep.MaxWalk]ninep.Qid
		return ninep.AppendRwalk(b, m.Tag, qids[:len(m.Twalk.Wname)]...)
	case ninep.Topen:
		return ninep.AppendRopen(b, m.Tag, ninep.Qid{}, 0), nil
	case ninep.Tcreate:
		return ninep.AppendRcreate(b, m.Tag, ninep.Qid{}, 0), nil
	case ninep.Tread:
		return ninep.AppendRread(b, m.Tag, zeros[:min(int64(m.Tread.Count), int64(len(zeros)))]), nil
	case ninep.Twrite:
		return ninep.AppendRwrite(b, m.Tag, m.Twrite.Count), nil
	case ninep.Tclunk:
		return ninep.AppendRclunk(b, m.Tag), nil
	case ninep.Tremove:
		return ninep.AppendRremove(b, m.Tag), nil
	case ninep.Tstat:
		return ninep.AppendRstat(b, m.Tag, &ninep.Dir{Name: "null", Uid: "none", Gid: "none", Muid: "none"})
	case ninep.Twstat:
		return ninep.AppendRwstat(b, m.Tag), nil
	}
	return b, errNoRequest
}
