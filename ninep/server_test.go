package ninep_test

import (
	"context"
	"net"
	"testing"

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
	fs := ninetest.New()
	fs.Put("hello", []byte("hello, world\n"))
	fs.Put("dir/a", []byte("a"))
	fs.Put("dir/b", []byte("bb"))
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

func TestSmoke(t *testing.T) {
	r := newRig(t, nil)
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	f := p.RPC(&proto.TRead{Fid: 1, Count: 100})
	if string(f.Rread.Data) != "hello, world\n" {
		t.Fatal(ninep.Format(f.Msg()))
	}
}
