package ninep_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

func TestConnectionsBeyondTheLimitAreToldSo(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Limits.Conns = 3 })
	var ps []*ninetest.Peer
	for range 3 {
		ps = append(ps, r.session())
	}
	for range 30 { // more than can be told at once
		p := r.dial()
		if b, err := io.ReadAll(p.Conn); err == nil && len(b) > 0 {
			var f ninep.Fcall
			if err := f.Decode(b); err != nil || f.Tag != ninep.NOTAG || f.Rerror.Ename != string(ninep.ErrTooManyConn) {
				t.Fatalf("refused with %q", b)
			}
		}
		p.Conn.Close()
	}
	p := r.dial()
	p.WantError(ninep.NOTAG, ninep.ErrTooManyConn)
	p.WantHangup()
	client, server := unixPair(t)
	defer client.Close()
	if err := r.s.ServeConn(t.Context(), server); !errors.Is(err, ninep.ErrTooManyConn) {
		t.Errorf("ServeConn: %v", err)
	}
	// The others are served on, and one that leaves makes room.
	ps[0].RPC(&proto.TStat{})
	ps[1].Conn.Close()
	for deadline := time.Now().Add(ninetest.Patience); r.s.NumConns() == 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("connection does not end")
		}
	}
	r.session()
}

func TestFidsBeyondTheLimitAreRefused(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Limits.Fids = 5; fs.Secret = "x" })
	p := r.dial()
	p.Version(8192)
	p.RPC(&proto.TAuth{Afid: 9, Uname: "glenda"})
	p.RPC(&proto.TWrite{Fid: 9, Data: []byte("x")})
	p.RPC(&proto.TAttach{Fid: 0, Afid: 9, Uname: "glenda"})
	for i := range uint32(3) {
		p.Walk(0, i+1)
	}
	p.Send(&proto.TWalk{Header: tag(1), Fid: 0, Newfid: 4})
	p.WantError(1, ninep.ErrTooManyFids)
	p.Send(&proto.TAttach{Header: tag(1), Fid: 4, Afid: 9, Uname: "glenda"})
	p.WantError(1, ninep.ErrTooManyFids)
	p.Send(&proto.TAuth{Header: tag(1), Afid: 4, Uname: "glenda"})
	p.WantError(1, ninep.ErrTooManyFids)
	p.Walk(1, 1, "hello") // in its own place
	if n := r.fs.Live(); n != 5 {
		t.Errorf("%d Files, want 5", n)
	}
	p.RPC(&proto.TClunk{Fid: 9})
	p.Walk(0, 4)
}

func TestOutstandingRequestsBeyondTheLimitWait(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Limits.Outstanding = 4
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error { return g.wait(c, name) })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	other := r.session()
	var ms []proto.FCall
	for i := range 4 {
		ms = append(ms, &proto.TRead{Header: tag(i), Fid: 1, Count: 5})
	}
	// Flushes pass, and are what can help; the first request after them waits.
	ms = append(ms, &proto.TFlush{Header: tag(10), Oldtag: 99})
	p.Send(ms...)
	g.entered(t, 4)
	p.Want(ninep.Rflush, 10)
	p.Send(&proto.TRead{Header: tag(4), Fid: 1, Count: 5}, &proto.TStat{Header: tag(5)})
	p.WantQuiet(20 * time.Millisecond)
	select {
	case <-g.in:
		t.Fatal("a fifth request runs")
	default:
	}
	other.RPC(&proto.TStat{})
	close(g.open)
	got := map[uint16]bool{}
	for range 6 {
		got[p.Recv().Tag] = true
	}
	for i := range uint16(6) {
		if !got[i] {
			t.Errorf("no reply %d", i)
		}
	}
}

// What blocked requests hold counts, not only how many there are.
func TestBuffersHeldBeyondTheLimitWait(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Limits.Held = 200 << 10
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			if op == "read" || op == "write" {
				return g.waitStubborn(c, name)
			}
			return nil
		}
	})
	for _, big := range []proto.FCall{
		&proto.TRead{Fid: 1, Count: 60 << 10},
		&proto.TWrite{Fid: 1, Data: make([]byte, 60<<10)},
	} {
		p := r.session()
		p.Walk(0, 1, "hello")
		p.Open(1, ninep.ORDWR)
		go func() { // the last may not fit into the kernel's buffers
			frame := ninetest.Frames(t, big)
			for i := range 5 {
				frame[5] = byte(i)
				p.Conn.Write(frame)
			}
		}()
		g.entered(t, 2)
		time.Sleep(20 * time.Millisecond)
		n := 2 + len(g.in)
		if n > 4 {
			t.Errorf("%d requests that hold 64 KiB each", n)
		}
		g.entered(t, n-2)
		for range n {
			g.open <- struct{}{}
		}
		for i := n; i < 5; i++ {
			g.entered(t, 1)
			g.open <- struct{}{}
		}
		got := map[uint16]bool{}
		for range 5 {
			got[p.Recv().Tag] = true
		}
		if len(got) != 5 {
			t.Errorf("replies %v", got)
		}
	}
}

// A flood of Tflushes for one request takes no more memory than a few hundred tags.
func TestFlushesWaitTooWhenThereAreTooMany(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Limits.Outstanding = 2 // and so 16 tags
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error { return g.waitStubborn(c, name) })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(0), Fid: 1, Count: 5})
	g.entered(t, 1)
	var ms []proto.FCall
	for i := 1; i <= 15; i++ {
		ms = append(ms, &proto.TFlush{Header: tag(i), Oldtag: 0})
	}
	// The sixteenth would be answered at once, if it were looked at.
	p.Send(append(ms, &proto.TFlush{Header: tag(16), Oldtag: 500})...)
	p.WantQuiet(20 * time.Millisecond)
	close(g.open)
	p.Want(ninep.Rread, 0)
	for i := 1; i <= 16; i++ {
		p.Want(ninep.Rflush, uint16(i))
	}
}

func TestStartedFrameMustComplete(t *testing.T) {
	for _, kind := range []string{"tcp", "no deadlines"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Limits.FrameTime = 300 * time.Millisecond })
			p := r.dialKind(kind)
			p.Version(64 << 10)
			p.Attach(0, "glenda")
			// Idle for longer than a frame may take.
			p.WantQuiet(400 * time.Millisecond)
			p.RPC(&proto.TStat{})
			// Two halves, in time.
			b := ninetest.Frames(t, &proto.TStat{Header: tag(1)}, &proto.TStat{Header: tag(2)})
			p.Write(b[:len(b)/2-1])
			time.Sleep(20 * time.Millisecond)
			p.Write(b[len(b)/2-1 : len(b)-3])
			p.Want(ninep.Rstat, 1)
			p.Write(b[len(b)-3:])
			p.Want(ninep.Rstat, 2)
			// A byte at a time, for ever.
			start := time.Now()
			frame := ninetest.Frames(t, &proto.TWrite{Header: tag(3), Data: make([]byte, 10000)})
			for i := range frame {
				if _, err := p.Conn.Write(frame[i : i+1]); err != nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
				if time.Since(start) > ninetest.Patience {
					t.Fatal("the frame may take for ever")
				}
			}
			if d := time.Since(start); d < 250*time.Millisecond {
				t.Errorf("hung up after %v", d)
			}
		})
	}
}

func TestIdleConnectionsEndOnlyIfAskedFor(t *testing.T) {
	for _, kind := range []string{"tcp", "no deadlines"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Limits.IdleTime = 400 * time.Millisecond })
			p := r.dialKind(kind)
			p.Version(8192)
			p.Attach(0, "glenda")
			for range 4 {
				time.Sleep(150 * time.Millisecond)
				p.RPC(&proto.TStat{})
			}
			p.WantHangup()
		})
	}
}

// dialKind opens a connection of some kind; without deadlines the server gets it by ServeConn.
func (r *rig) dialKind(kind string) *ninetest.Peer {
	if kind == "tcp" {
		return r.dial()
	}
	client, server := unixPair(r.t)
	done := make(chan struct{})
	go func() {
		r.s.ServeConn(context.Background(), plain{server})
		close(done)
	}()
	r.t.Cleanup(func() {
		client.Close()
		<-done
	})
	return ninetest.NewPeer(r.t, client)
}

// A client that sends requests and reads nothing is hung up on; others do not notice.
func TestClientThatNeverReadsCostsOnlyItself(t *testing.T) {
	for _, kind := range []string{"tcp", "no deadlines"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
				fs.Put("big", bytes.Repeat([]byte("x"), 60<<10))
				s.Limits.WriteTime = time.Second
				s.Limits.Workers = 1
			})
			bad := r.dialKind(kind)
			bad.Version(64 << 10)
			bad.Attach(0, "glenda")
			bad.Walk(0, 1, "big")
			bad.Open(1, ninep.OREAD)
			sent := make(chan error)
			go func() {
				b := ninetest.Frames(t, &proto.TRead{Fid: 1, Count: 60 << 10})
				for {
					if _, err := bad.Conn.Write(b); err != nil {
						sent <- err
						return
					}
				}
			}()
			good := r.session()
			for n := 0; ; n++ {
				good.RPC(&proto.TStat{})
				select {
				case err := <-sent:
					t.Logf("%d answers, then the other's write failed: %v", n, err)
					if n < 5 {
						t.Errorf("only %d answers in the meantime", n)
					}
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
}

// A client that reads slowly, but reads, is served.
func TestSlowReaderIsServed(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Put("big", bytes.Repeat([]byte("x"), 60<<10))
		s.Limits.WriteTime = 700 * time.Millisecond
	})
	p := r.dial()
	p.Version(64 << 10)
	p.Attach(0, "glenda")
	p.Walk(0, 1, "big")
	p.Open(1, ninep.OREAD)
	go func() {
		for i := range 400 { // 24 MB, more than the kernel holds
			p.Conn.Write(ninetest.Frames(t, &proto.TRead{Header: tag(i), Fid: 1, Count: 60 << 10}))
		}
	}()
	start := time.Now()
	for i := range 400 {
		if time.Since(start) < 1500*time.Millisecond {
			time.Sleep(20 * time.Millisecond)
		}
		if f := p.Want(ninep.Rread, uint16(i)); len(f.Rread.Data) != 60<<10 {
			t.Fatalf("%d bytes", len(f.Rread.Data))
		}
	}
}

// Replies of blocked requests for a client that does not read wait, and end with it.
func TestRepliesOfBlockedRequestsAreBounded(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Put("big", bytes.Repeat([]byte("x"), 1<<20))
		s.Limits.WriteTime = 200 * time.Millisecond
		s.Limits.Output = 64 << 10
		s.Limits.Held = 1 << 30
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error { return g.waitStubborn(c, name) })
	})
	p := r.dial()
	p.Version(1 << 20)
	p.Attach(0, "glenda")
	p.Walk(0, 1, "big")
	p.Open(1, ninep.OREAD)
	var ms []proto.FCall
	for i := range 60 {
		ms = append(ms, &proto.TRead{Header: tag(i), Fid: 1, Count: 1 << 20})
	}
	p.Send(ms...)
	g.entered(t, 60)
	close(g.open)
	for deadline := time.Now().Add(ninetest.Patience); r.s.NumConns() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection does not end")
		}
	}
}

// heap is what is in use after collecting garbage, stacks included.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // a sync.Pool lets go at the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestIdleConnectionIsSmall(t *testing.T) {
	n := 1000
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Limits.Conns = n })
	before := heap()
	ps := make([]*ninetest.Peer, n)
	for i := range ps {
		ps[i] = r.session()
	}
	for _, p := range ps {
		p.RPC(&proto.TStat{})
	}
	if r.s.NumConns() != n {
		t.Errorf("%d connections", r.s.NumConns())
	}
	each := (heap() - before) / int64(n)
	t.Logf("%d bytes for a connection, the client's side included", each)
	if each > 32<<10 {
		t.Errorf("%d bytes for an idle connection", each)
	}
	runtime.KeepAlive(ps)
}

func TestIdleFidIsSmall(t *testing.T) {
	fs := benchFS{new(benchFile)}
	s := &ninep.Server{FS: fs}
	defer s.Shutdown(context.Background())
	client, server := unixPair(t)
	go s.ServeConn(context.Background(), server)
	p := ninetest.NewPeer(t, client)
	p.Version(8192)
	p.Attach(0, "glenda")
	const n = 5000
	before := heap()
	for i := uint32(0); i < n; i += 100 {
		var b []byte
		for j := range uint32(100) {
			b, _ = ninep.AppendTwalk(b, 1, 0, 1+i+j)
		}
		p.Write(b)
		for range 100 {
			p.Want(ninep.Rwalk, 1)
		}
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for a fid", each)
	if each > 150 {
		t.Errorf("%d bytes for an idle fid", each)
	}
	client.Close()
}

func TestLargeBuffersAreGivenBackWhenIdle(t *testing.T) {
	r := newRig(t, nil)
	before := heap()
	var ps []*ninetest.Peer
	const n = 20
	data := make([]byte, 512<<10)
	for range n {
		p := r.dial()
		p.Version(1 << 20)
		p.Attach(0, strings.Repeat("u", 60000))
		p.Send(&proto.TWrite{Header: tag(1), Fid: 0, Data: data})
		p.Want(ninep.Rerror, 1)
		ps = append(ps, p)
	}
	busy := (heap() - before) / n
	for deadline := time.Now().Add(ninetest.Patience); ; time.Sleep(100 * time.Millisecond) {
		each := (heap() - before) / n
		// The File keeps its user's name.
		if each < 60000+32<<10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes for an idle connection, %d when it was busy", each, busy)
		}
	}
	if busy < 256<<10 {
		t.Errorf("only %d bytes when busy: is this measuring anything?", busy)
	}
	for _, p := range ps {
		p.RPC(&proto.TStat{})
	}
}
