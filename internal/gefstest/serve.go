package gefstest

import (
	"context"
	"net"
	"sync"
	"testing"

	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// A Server serves a file system to clients in the same process.
type Server struct {
	t    testing.TB
	srv  *ninep.Server
	wg   sync.WaitGroup
	once sync.Once
}

// Serve starts a server of fs with frames of at most msize bytes, 0 for the default. It is stopped at
// the end of the test, if not before; fs stays open.
func Serve(t testing.TB, fs *gefs.FS, msize uint32) *Server {
	s := &Server{t: t, srv: &ninep.Server{
		FS:         fs,
		NewWorker:  fs.NewWorker,
		FreeWorker: fs.FreeWorker,
		Limits:     ninep.Limits{Msize: msize},
	}}
	t.Cleanup(s.Stop)
	return s
}

// Stop answers what is under way and hangs up on everybody.
func (s *Server) Stop() {
	s.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.srv.Shutdown(ctx)
		s.wg.Wait()
	})
}

// Listen accepts connections on a new listener, as net.Listen makes it, and returns its address.
func (s *Server) Listen(network, address string) net.Addr {
	s.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.wg.Go(func() {
		if err := s.srv.Serve(context.Background(), l); err != nil {
			s.t.Errorf("serve %v: %v", l.Addr(), err)
		}
	})
	return l.Addr()
}

// Pipe returns the client's end of a new connection.
func (s *Server) Pipe() net.Conn {
	ours, theirs := net.Pipe()
	s.wg.Go(func() { s.srv.ServeConn(context.Background(), theirs) })
	s.t.Cleanup(func() { ours.Close() })
	return ours
}

// Dial returns a new connection with frames as large as the server allows.
func (s *Server) Dial() *client.Conn {
	s.t.Helper()
	c, err := client.New(context.Background(), s.Pipe(), 1<<20)
	if err != nil {
		s.t.Fatalf("connect: %v", err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Attach returns the root of aname for uname, on a connection of its own.
func (s *Server) Attach(uname, aname string) *client.Fid {
	s.t.Helper()
	f, err := s.Dial().Attach(uname, aname)
	if err != nil {
		s.t.Fatalf("attach to %q as %s: %v", aname, uname, err)
	}
	return f
}

// NumConns returns the number of connections whose fids have not all been clunked.
func (s *Server) NumConns() int { return s.srv.NumConns() }
