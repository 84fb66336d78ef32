package ninep_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// A rig is a server in a test: fs in memory, listening on the loopback address.
type rig struct {
	t    testing.TB
	fs   *ninetest.FS
	s    *ninep.Server
	addr net.Addr
}

// newRig starts a server. When the test ends it is shut down, and must have clunked every File.
func newRig(t testing.TB, set func(*ninetest.FS, *ninep.Server)) *rig {
	before := runtime.NumGoroutine()
	fs := ninetest.New()
	fs.Put("hello", []byte("hello, world\n"))
	fs.Put("dir/a", []byte("a"))
	fs.Put("dir/b", []byte("bb"))
	fs.Damaged = "damaged"
	s := &ninep.Server{FS: fs}
	if set != nil {
		set(fs, s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ninetest.Patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := fs.Live(); n != 0 {
			t.Errorf("%d Files never clunked", n)
		}
		for _, m := range fs.Misuse() {
			t.Errorf("misuse: %s", m)
		}
		if n := s.NumConns(); n != 0 {
			t.Errorf("%d connections after shutdown", n)
		}
		// Whatever ran for the test may need a moment to be gone.
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				break
			}
		}
	})
	return &rig{t, fs, s, l.Addr()}
}

// dial opens a connection.
func (r *rig) dial() *ninetest.Peer {
	r.t.Helper()
	c, err := net.Dial(r.addr.Network(), r.addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	return ninetest.NewPeer(r.t, c)
}

// session opens a connection and attaches fid 0.
func (r *rig) session() *ninetest.Peer {
	r.t.Helper()
	p := r.dial()
	p.Version(64 << 10)
	p.Attach(0, "glenda")
	return p
}

// A gate stops handlers. Those that come tell in; they go on when open is closed.
type gate struct {
	in   chan string
	open chan struct{}
	over <-chan struct{} // the test has ended, maybe without opening
}

func newGate(t testing.TB) *gate {
	return &gate{make(chan string, 1000), make(chan struct{}), t.Context().Done()}
}

// wait blocks the request until the gate is open or the request cancelled.
func (g *gate) wait(c *ninep.Ctx, what string) error {
	c.Block()
	g.in <- what
	select {
	case <-g.open:
		return nil
	case <-c.Cancelled():
		return ninep.ErrInterrupted
	}
}

// waitStubborn blocks the request until the gate is open.
func (g *gate) waitStubborn(c *ninep.Ctx, what string) error {
	c.Block()
	g.in <- what
	select {
	case <-g.open:
	case <-g.over:
	}
	return nil
}

// entered waits until n handlers have come.
func (g *gate) entered(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-g.in:
		case <-time.After(ninetest.Patience):
			t.Fatalf("only %d of %d handlers came", i, n)
		}
	}
}

// on makes a hook for one operation.
func on(op string, f func(c *ninep.Ctx, name string) error) func(*ninep.Ctx, string, string) error {
	return func(c *ninep.Ctx, o, name string) error {
		if o == op {
			return f(c, name)
		}
		return nil
	}
}

func tag(n int) proto.Header { return proto.Header{Tag: uint16(n)} }
