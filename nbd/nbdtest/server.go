// Package nbdtest is an NBD server inside of a test: it exports any blkdev.Device, and fails as it is
// told. It shares nothing with package nbd but the protocol, so that one finds the other's mistakes.
package nbdtest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
)

// Commands, as a Request names them.
const (
	Read  = 0
	Write = 1
	Flush = 3
	Trim  = 4
)

// A Request is what a client asks for.
type Request struct {
	N   int // of the server, from 1
	Cmd uint16
	FUA bool
	Off int64
	Len int64
}

// A Fault is what is to become of a request. The zero value does it and replies.
type Fault struct {
	Error uint32 // reply with it, and do nothing
	Hang  bool   // do nothing and reply never
	Lost  bool   // do nothing and hang up
	Mute  bool   // do it and hang up without a reply
	Raw   []byte // send this instead of a reply
}

// A Server exports one device under every name but "none". Set its fields before the first client comes; after that
// only by its methods.
type Server struct {
	Dev      blkdev.Device
	ReadOnly bool
	NoFlush  bool
	NoFUA    bool
	NoTrim   bool
	Min, Max uint32      // block sizes; Min 0 says nothing of them
	TLS      *tls.Config // insists on it

	// Hook sees each request first, from several goroutines. It may wait.
	Hook func(Request) Fault

	// Wrap sees each connection first; nil is the identity.
	Wrap func(net.Conn) net.Conn

	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	counts map[uint16]int
	n      int
	nconns int
	away   bool
}

// Start listens on a port of this machine until the end of the test.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.l, s.conns, s.counts = l, map[net.Conn]bool{}, map[uint16]int{}
	s.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if s.Wrap != nil {
				nc = s.Wrap(nc)
			}
			s.mu.Lock()
			if s.away {
				s.mu.Unlock()
				nc.Close()
				continue
			}
			s.nconns++
			s.conns[nc] = true
			s.wg.Add(1)
			s.mu.Unlock()
			go s.serve(nc)
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.HangUp()
		s.wg.Wait()
	})
}

// Addr returns host and port.
func (s *Server) Addr() string { return s.l.Addr().String() }

// HangUp ends all connections.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		nc.Close()
	}
}

// Leave hangs up, and from then on does so whenever somebody comes. It waits until no request is under way.
func (s *Server) Leave() {
	s.mu.Lock()
	s.away = true
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// Return takes Leave back, with another device if dev is not nil.
func (s *Server) Return(dev blkdev.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = false
	if dev != nil {
		s.Dev = dev
	}
}

// Count returns how many requests of this kind there have been.
func (s *Server) Count(cmd uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[cmd]
}

// Conns returns how many connections there have been.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nconns
}

func (s *Server) serve(raw net.Conn) {
	defer s.wg.Done()
	defer func() {
		raw.Close()
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
	}()
	nc, err := s.negotiate(raw)
	if err != nil {
		return
	}
	s.transmit(nc)
}

// negotiate speaks until the client has entered the export.
func (s *Server) negotiate(nc net.Conn) (net.Conn, error) {
	hello := []byte("NBDMAGICIHAVEOPT\x00\x03")
	if _, err := nc.Write(hello); err != nil {
		return nil, err
	}
	var flags [4]byte
	if _, err := io.ReadFull(nc, flags[:]); err != nil {
		return nil, err
	}
	if f := binary.BigEndian.Uint32(flags[:]); f&^3 != 0 || f&1 == 0 {
		return nil, errors.New("flags")
	}
	secure := false
	for {
		var head [16]byte
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			return nil, err
		}
		opt, n := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if string(head[:8]) != "IHAVEOPT" || n > 1<<16 {
			return nil, errors.New("option")
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(nc, data); err != nil {
			return nil, err
		}
		reply := func(kind uint32, data []byte) error {
			b := binary.BigEndian.AppendUint64(nil, 0x0003e889045565a9)
			b = binary.BigEndian.AppendUint32(b, opt)
			b = binary.BigEndian.AppendUint32(b, kind)
			b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
			_, err := nc.Write(append(b, data...))
			return err
		}
		const refused = 1 << 31
		switch {
		case opt == 5 && s.TLS != nil && !secure: // STARTTLS
			if err := reply(1, nil); err != nil {
				return nil, err
			}
			tc := tls.Server(nc, s.TLS)
			if err := tc.Handshake(); err != nil {
				return nil, err
			}
			nc, secure = tc, true
		case opt == 5:
			if err := reply(refused|2, []byte("no TLS here")); err != nil {
				return nil, err
			}
		case s.TLS != nil && !secure:
			if err := reply(refused|5, nil); err != nil {
				return nil, err
			}
		case opt == 7: // GO
			if len(data) < 4 || uint32(len(data)) < 4+binary.BigEndian.Uint32(data) {
				return nil, errors.New("go")
			}
			if string(data[4:4+binary.BigEndian.Uint32(data)]) == "none" {
				if err := reply(refused|6, []byte("try another")); err != nil {
					return nil, err
				}
				continue
			}
			if err := s.describe(reply); err != nil {
				return nil, err
			}
			return nc, reply(1, nil)
		default:
			if err := reply(refused|1, nil); err != nil {
				return nil, err
			}
		}
	}
}

func (s *Server) describe(reply func(uint32, []byte) error) error {
	size, err := s.dev().Size()
	if err != nil {
		return err
	}
	flags := uint16(1)
	for i, set := range []bool{1: s.ReadOnly, 2: !s.NoFlush, 3: !s.NoFUA, 5: !s.NoTrim} {
		if set {
			flags |= 1 << i
		}
	}
	info := binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(size))
	if err := reply(3, binary.BigEndian.AppendUint16(info, flags)); err != nil {
		return err
	}
	if s.Min == 0 {
		return nil
	}
	info = binary.BigEndian.AppendUint32([]byte{0, 3}, s.Min)
	info = binary.BigEndian.AppendUint32(info, max(s.Min, 4096))
	return reply(3, binary.BigEndian.AppendUint32(info, s.Max))
}

func (s *Server) dev() blkdev.Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Dev
}

// transmit answers requests, each in a goroutine, so that replies come in any order.
func (s *Server) transmit(nc net.Conn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer nc.Close() // so that whoever still replies does not wait
	dev := s.dev()
	r := bufio.NewReader(nc)
	var wmu sync.Mutex
	for {
		var head [28]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		flags, cmd := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
		req := Request{Cmd: cmd, FUA: flags&1 != 0, Off: int64(binary.BigEndian.Uint64(head[16:])), Len: int64(binary.BigEndian.Uint32(head[24:]))}
		if binary.BigEndian.Uint32(head[:]) != 0x25609513 || cmd == 2 || req.Len > 64<<20 && cmd < 2 {
			return
		}
		var data []byte
		if cmd < 2 {
			data = make([]byte, req.Len)
		}
		if cmd == Write {
			if _, err := io.ReadFull(r, data); err != nil {
				return
			}
		}
		s.mu.Lock()
		s.n++
		s.counts[cmd]++
		req.N = s.n
		s.mu.Unlock()
		wg.Go(func() {
			var f Fault
			if s.Hook != nil {
				f = s.Hook(req)
			}
			code := f.Error
			switch {
			case f.Hang:
				return
			case f.Lost:
				nc.Close()
				return
			case code == 0 && f.Raw == nil:
				code = s.do(dev, req, data)
			}
			b := binary.BigEndian.AppendUint32([]byte{0x67, 0x44, 0x66, 0x98}, code)
			b = append(b, head[8:16]...)
			if cmd == Read && code == 0 {
				b = append(b, data...)
			}
			if f.Raw != nil {
				b = f.Raw
			}
			if f.Mute {
				nc.Close()
				return
			}
			wmu.Lock()
			defer wmu.Unlock()
			if _, err := nc.Write(b); err != nil {
				nc.Close()
			}
		})
	}
}

// do does the request and returns the error to reply with. It is strict about what a client may ask.
func (s *Server) do(dev blkdev.Device, r Request, data []byte) uint32 {
	const invalid, ioError, permission, space = 22, 5, 1, 28
	least := int64(max(s.Min, 1))
	if r.Cmd != Flush && (r.Off%least != 0 || r.Len%least != 0 || r.Len == 0) || r.FUA && s.NoFUA {
		return invalid
	}
	if r.Cmd < 2 && s.Min != 0 && r.Len > int64(s.Max) {
		return invalid
	}
	if r.Cmd != Read && s.ReadOnly {
		return permission
	}
	var err error
	switch r.Cmd {
	case Read:
		_, err = dev.ReadAt(data, r.Off)
	case Write:
		_, err = dev.WriteAt(data, r.Off)
		if err == nil && r.FUA {
			err = dev.Sync()
		}
	case Flush:
		if s.NoFlush || r.Off != 0 || r.Len != 0 {
			return invalid
		}
		err = dev.Sync()
	case Trim:
		if s.NoTrim {
			return invalid
		}
		err = dev.Discard(r.Off, r.Len)
	default:
		return invalid
	}
	switch {
	case errors.Is(err, blkdev.ErrRange) && r.Cmd != Read:
		return space
	case errors.Is(err, blkdev.ErrRange), errors.Is(err, io.EOF):
		return invalid
	case err != nil:
		return ioError
	}
	return 0
}
