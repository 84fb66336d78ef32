package ninep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Limits bounds what clients can take. Zero means the default.
type Limits struct {
	Msize uint32 // largest frame agreed to, default 1 MiB, at least MinMsize

	Workers     int // requests running at once on all connections, default 4 for each processor, at least 8
	Conns       int // connections, default 1024; more are told so and closed
	Fids        int // fids of one connection, default 131072; more get ErrTooManyFids
	Outstanding int // blocked requests of one connection, default 64; then it is read no further
	Held        int // bytes of buffers that they hold, one more may go over it, default 8 MiB; then the same
	Output      int // bytes of replies waiting for one connection's client to read, default 1 MiB

	// FrameTime is how long a frame may take from its first byte to its last, default 1 minute.
	// WriteTime is how long a client may accept nothing of what is sent, default 1 minute.
	// IdleTime is how long a client may send nothing, default for ever.
	// Whoever takes longer is hung up on.
	FrameTime, WriteTime, IdleTime time.Duration
}

func (l *Limits) setDefaults() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	if l.Msize == 0 {
		l.Msize = 1 << 20
	}
	l.Msize = max(l.Msize, MinMsize)
	def(&l.Workers, max(8, 4*runtime.GOMAXPROCS(0)))
	def(&l.Conns, 1024)
	def(&l.Fids, 1<<17)
	def(&l.Outstanding, 64)
	def(&l.Held, 8<<20)
	def(&l.Output, 1<<20)
	if l.FrameTime <= 0 {
		l.FrameTime = time.Minute
	}
	if l.WriteTime <= 0 {
		l.WriteTime = time.Minute
	}
}

// A Server serves one FS on any number of listeners and connections. The fields are set before the
// first Serve or ServeConn and not changed after. Only FS is required.
type Server struct {
	FS     FS
	Limits Limits

	// NewWorker makes a Worker, FreeWorker takes it when it is no longer needed. There are
	// Limits.Workers of them and one more for each blocked request. Both must be safe for
	// concurrent use and must not wait for requests.
	NewWorker  func() Worker
	FreeWorker func(Worker)

	// Logger hears of hangups and of errors whose text no client was meant to see; nil for none.
	Logger *slog.Logger

	// Meter counts requests, bytes and connections; nil counts nothing.
	Meter *Meter

	// Trace is called with every message: dir is "<-" for one that came and "->" for one that
	// goes, msg is Format's line. It must be safe for concurrent use.
	Trace func(dir, conn, msg string)

	locks lockTable

	once sync.Once
	pool *pool
	bufs buffers
	reqs sync.Pool // of *request

	wg sync.WaitGroup // listeners, connections, rejections

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	rejecting int
	lastID    uint64
	closeOnce sync.Once
}

// ErrClosed is what Serve and ServeConn return after Shutdown.
var ErrClosed = errors.New("server is shut down")

func (s *Server) init() {
	s.once.Do(func() {
		s.Limits.setDefaults()
		if s.Logger == nil {
			s.Logger = slog.New(slog.DiscardHandler)
		}
		s.pool = newPool(s.Limits.Workers, s.NewWorker, s.FreeWorker)
		s.listeners = make(map[net.Listener]struct{})
		s.conns = make(map[*Conn]struct{})
	})
}

// Serve accepts connections on l until ctx ends, Shutdown is called, or accepting fails for good.
// It returns when the connections it accepted are gone: Shutdown lets them finish what they are at,
// the others hang up. l is closed. The error is nil unless accepting failed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.init()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		l.Close()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()

	var conns sync.WaitGroup
	err := s.accept(ctx, l, &conns)
	l.Close()
	s.mu.Lock()
	delete(s.listeners, l)
	closing := s.closing
	s.mu.Unlock()
	if !closing {
		if ctx.Err() != nil {
			err = nil
		}
		cancel() // hangs up
	} else {
		err = nil
	}
	conns.Wait()
	return err
}

// accept starts a connection for every client until l is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, conns *sync.WaitGroup) error {
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors, or a client that went away again: wait, go on.
			if ne, ok := err.(net.Error); ok && (ne.Timeout() || isTemporary(err)) {
				delay = min(max(2*delay, 5*time.Millisecond), time.Second)
				s.Logger.Warn("accept failed, trying again", "addr", l.Addr(), "err", err, "in", delay)
				select {
				case <-time.After(delay):
				case <-ctx.Done():
				}
				continue
			}
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		}
		delay = 0
		c, err := s.newConn(nc)
		if err != nil {
			s.reject(nc, err)
			continue
		}
		conns.Go(func() { c.run(ctx) })
	}
}

// ServeConn serves one connection, which need not be a network's: standard input and output will do.
// It returns when the connection is closed and all its requests are done; the error says why the
// server hung up, nil if the client did, ctx ended or Shutdown was called.
func (s *Server) ServeConn(ctx context.Context, rwc io.ReadWriteCloser) error {
	s.init()
	c, err := s.newConn(rwc)
	if err != nil {
		rwc.Close()
		return err
	}
	return c.run(ctx)
}

// newConn enters a connection, if there may be one more.
func (s *Server) newConn(rwc io.ReadWriteCloser) (*Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, ErrClosed
	}
	if len(s.conns) >= s.Limits.Conns {
		return nil, ErrTooManyConn
	}
	s.lastID++
	c := newConn(s, rwc, s.lastID)
	if s.Meter != nil {
		s.Meter.accepted.Add(1)
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return c, nil
}

// forget removes a connection that has ended.
func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}

// rejectTime and maxRejecting bound what saying no may cost.
const (
	rejectTime   = time.Second
	maxRejecting = 16
)

// reject tells a client why it is not served and closes its connection. A client that listens gets
// the Rerror as the answer to its Tversion, since both have the tag NOTAG.
func (s *Server) reject(nc net.Conn, why error) {
	s.mu.Lock()
	polite := !s.closing && s.rejecting < maxRejecting
	if polite {
		s.rejecting++
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if s.Meter != nil {
		s.Meter.refused.Add(1)
	}
	s.Logger.Warn("connection refused", "remote", nc.RemoteAddr(), "err", why)
	if !polite {
		nc.Close()
		return
	}
	go func() {
		defer s.wg.Done()
		nc.SetDeadline(time.Now().Add(rejectTime))
		text, _, _ := wireText(why)
		if _, err := nc.Write(AppendRerror(nil, NOTAG, text)); err == nil {
			// Closing with unread input would reset the connection before the answer is
			// read; one message is enough to wait for.
			if cw, ok := nc.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
				var b [512]byte
				nc.Read(b[:])
			}
		}
		nc.Close()
		s.mu.Lock()
		s.rejecting--
		s.mu.Unlock()
	}()
}

// Shutdown stops accepting connections and reading requests, and waits until those under way are
// answered and all Files clunked. When ctx ends first, they are cancelled and their connections
// closed; Shutdown still waits for them, because the file system below must not go away under a
// request, and then returns ctx's error. Last it frees the workers.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.stop()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		for _, c := range conns {
			c.kill(nil)
		}
		<-done
	}
	s.closeOnce.Do(s.pool.close)
	return err
}

// NumConns is the number of connections now open.
func (s *Server) NumConns() int {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
