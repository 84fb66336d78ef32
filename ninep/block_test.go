package ninep_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

func TestThousandPipelinedReadsAreAnsweredInOrder(t *testing.T) {
	p := newRig(t, nil).session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	var ms []proto.FCall
	for i := range 1000 {
		ms = append(ms, &proto.TRead{Header: tag(i), Fid: 1, Offset: uint64(i % 13), Count: 8192})
	}
	p.Send(ms...)
	for i := range 1000 {
		if f := p.Want(ninep.Rread, uint16(i)); string(f.Rread.Data) != "hello, world\n"[i%13:] {
			t.Fatalf("read %d: %q", i, f.Rread.Data)
		}
	}
}

func TestBlockedRequestStopsNoOther(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error {
			if name == "a" {
				return g.wait(c, name)
			}
			return nil
		})
		s.Limits.Workers = 1 // blocked requests sit elsewhere
	})
	p := r.session()
	p.Walk(0, 1, "dir", "a")
	p.Open(1, ninep.OREAD)
	p.Walk(0, 2, "hello")
	p.Open(2, ninep.OREAD)
	// One write: the request behind the blocked one is already in the server's buffer, and the
	// reply to the one before has not been sent.
	p.Send(
		&proto.TStat{Header: tag(1), Fid: 2},
		&proto.TRead{Header: tag(2), Fid: 1, Count: 10},
		&proto.TRead{Header: tag(3), Fid: 2, Count: 5},
		&proto.TRead{Header: tag(4), Fid: 1, Count: 10},
	)
	p.Want(ninep.Rstat, 1)
	if f := p.Want(ninep.Rread, 3); string(f.Rread.Data) != "hello" {
		t.Fatalf("%q", f.Rread.Data)
	}
	g.entered(t, 2)
	p.RPC(&proto.TStat{Header: tag(5), Fid: 1})
	p.WantQuiet(20 * time.Millisecond)
	close(g.open)
	got := map[uint16]string{}
	for range 2 {
		f := p.Recv()
		got[f.Tag] = string(f.Rread.Data)
	}
	if got[2] != "a" || got[4] != "a" {
		t.Fatalf("blocked reads gave %v", got)
	}
}

// Frames and reply buffers belong to a blocked request until it ends, whatever the connection does
// meanwhile.
func TestBlockedRequestsKeepTheirFramesAndReplies(t *testing.T) {
	const n = 20
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		for i := range n {
			fs.Put(fmt.Sprintf("f%d", i), nil)
			fs.Put(fmt.Sprintf("r%d", i), bytes.Repeat([]byte{byte('a' + i)}, 9000))
		}
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			if (op == "write" || op == "read") && name != "hello" {
				return g.waitStubborn(c, name)
			}
			return nil
		}
	})
	p := r.session()
	p.Walk(0, 100, "hello")
	p.Open(100, ninep.OREAD)
	for i := range n {
		p.Walk(0, uint32(1+i), fmt.Sprintf("f%d", i))
		p.Open(uint32(1+i), ninep.OWRITE)
		p.Walk(0, uint32(51+i), fmt.Sprintf("r%d", i))
		p.Open(uint32(51+i), ninep.OREAD)
	}
	var ms []proto.FCall
	for i := range n {
		data := bytes.Repeat([]byte{byte('A' + i)}, 1000*i)
		ms = append(ms,
			&proto.TWrite{Header: tag(1 + i), Fid: uint32(1 + i), Data: data},
			&proto.TRead{Header: tag(51 + i), Fid: uint32(51 + i), Count: 9000},
			&proto.TRead{Header: tag(100), Fid: 100, Count: 100})
	}
	p.Send(ms...)
	for range n {
		p.Want(ninep.Rread, 100)
	}
	g.entered(t, 2*n)
	close(g.open)
	for range 2 * n {
		f := p.Recv()
		switch {
		case f.Type == ninep.Rwrite && int(f.Rwrite.Count) == 1000*(int(f.Tag)-1):
		case f.Type == ninep.Rread && bytes.Equal(f.Rread.Data, bytes.Repeat([]byte{byte('a' + f.Tag - 51)}, 9000)):
		default:
			t.Fatalf("got %s", ninep.Format(f.Msg()))
		}
	}
	for i := range n {
		if b, _ := r.fs.Get(fmt.Sprintf("f%d", i)); !bytes.Equal(b, bytes.Repeat([]byte{byte('A' + i)}, 1000*i)) {
			t.Errorf("file %d holds %d bytes, first %.1q", i, len(b), b)
		}
	}
}

// The same when each frame comes alone, so that it could be read into the place of the one before, and
// when they come faster than buffers are given back.
func TestLaterFramesDoNotOverwriteThoseOfBlockedRequests(t *testing.T) {
	const n = 30
	for _, size := range []int{10, 1000, 3000, 20000} {
		g := newGate(t)
		r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
			s.Limits.Held = 1 << 30
			for i := range n {
				fs.Put(fmt.Sprintf("f%d", i), nil)
			}
			fs.Hook = on("write", func(c *ninep.Ctx, name string) error { return g.waitStubborn(c, name) })
		})
		p := r.session()
		for i := range n {
			p.Walk(0, uint32(1+i), fmt.Sprintf("f%d", i))
			p.Open(uint32(1+i), ninep.OWRITE)
		}
		for i := range n {
			p.Send(&proto.TWrite{Header: tag(i), Fid: uint32(1 + i), Data: bytes.Repeat([]byte{byte('A' + i)}, size)})
			g.entered(t, 1)
			p.RPC(&proto.TStat{Header: tag(500), Fid: 0})
		}
		other := r.session() // takes buffers that were given back too early
		for range 10 {
			other.Send(&proto.TWrite{Header: tag(1), Fid: 5, Data: bytes.Repeat([]byte{'!'}, size)})
			other.WantError(1, ninep.ErrUnknownFid)
		}
		close(g.open)
		for range n {
			if f := p.Recv(); f.Type != ninep.Rwrite || int(f.Rwrite.Count) != size {
				t.Fatal(ninep.Format(f.Msg()))
			}
		}
		for i := range n {
			if b, _ := r.fs.Get(fmt.Sprintf("f%d", i)); !bytes.Equal(b, bytes.Repeat([]byte{byte('A' + i)}, size)) {
				t.Fatalf("file %d holds %d bytes, %.20q", i, len(b), b)
			}
		}
	}
}

// A buffer that a request had while it was blocked is still the leader's afterwards, and no other
// connection's.
func TestBufferIsOneConnectionsAfterABlockedRequest(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("write", func(c *ninep.Ctx, name string) error { c.Block(); return nil })
	})
	p := r.session()
	stat := ninetest.Frames(t, &proto.TStat{Header: tag(7), Fid: 0})
	for range 20 {
		p.RPC(&proto.TWrite{Header: tag(1), Fid: 0, Data: []byte("x")})
		p.Write(stat[:9])
		for range 3 {
			q := r.session()
			q.RPC(&proto.TClunk{Header: tag(1), Fid: 5})
			defer q.Conn.Close()
		}
		p.Write(stat[9:])
		p.Want(ninep.Rstat, 7)
	}
}

// A request that wakes up must not need a seat: all may be taken by requests that wait for it.
func TestWakingUpNeedsNoSeat(t *testing.T) {
	g := newGate(t)
	woken := make(chan struct{})
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Limits.Workers = 1
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			switch op {
			case "read":
				c.Sleep(func() { g.in <- name; <-g.open })
				close(woken)
			case "stat":
				close(g.open)
				<-woken // in the only seat
			}
			return nil
		}
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
	g.entered(t, 1)
	p.Send(&proto.TStat{Header: tag(2), Fid: 0})
	got := map[uint8]bool{p.Recv().Type: true, p.Recv().Type: true}
	if !got[ninep.Rread] || !got[ninep.Rstat] {
		t.Fatal(got)
	}
}

func TestClunkWaitsForTheFilesLastRequest(t *testing.T) {
	g := newGate(t)
	clunked := make(chan struct{})
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			if op == "read" {
				return g.waitStubborn(c, name)
			}
			if op == "clunk" && name == "hello" {
				close(clunked) // and again would panic
			}
			return nil
		}
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
	g.entered(t, 1)
	p.Send(&proto.TClunk{Header: tag(2), Fid: 1})
	p.Want(ninep.Rclunk, 2)
	p.Send(&proto.TStat{Header: tag(3), Fid: 1})
	p.WantError(3, ninep.ErrUnknownFid)
	select {
	case <-clunked:
		t.Fatal("clunked under a read")
	case <-time.After(20 * time.Millisecond):
	}
	close(g.open)
	if f := p.Want(ninep.Rread, 1); string(f.Rread.Data) != "hello" {
		t.Fatalf("%q", f.Rread.Data)
	}
	<-clunked
}

// A walk to itself that blocks may find its fid gone, or taken again, when it is done.
func TestWalkToItselfFindsItsFidGone(t *testing.T) {
	for _, again := range []bool{false, true} {
		g := newGate(t)
		r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
			fs.Hook = on("walk", func(c *ninep.Ctx, name string) error {
				if name == "dir" {
					return g.waitStubborn(c, name)
				}
				return nil
			})
		})
		p := r.session()
		p.Walk(0, 1, "dir")
		p.Send(&proto.TWalk{Header: tag(1), Fid: 1, Newfid: 1, Wname: []string{"a"}})
		g.entered(t, 1)
		p.RPC(&proto.TClunk{Fid: 1})
		if again {
			p.Walk(0, 1, "hello")
		}
		close(g.open)
		p.WantError(1, ninep.ErrUnknownFid)
		if again {
			if f := p.RPC(&proto.TStat{Fid: 1}); f.Rstat.Name != "hello" {
				t.Error(ninep.Format(f.Msg()))
			}
		}
	}
}

// Two walks to the same newfid: the second that ends loses.
func TestNewfidIsTakenByWhoComesFirst(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("walk", func(c *ninep.Ctx, name string) error {
			if name == "dir" {
				return g.waitStubborn(c, name)
			}
			return nil
		})
	})
	p := r.session()
	p.Walk(0, 1, "dir")
	p.Send(&proto.TWalk{Header: tag(1), Fid: 1, Newfid: 7, Wname: []string{"a"}})
	g.entered(t, 1)
	p.Walk(0, 7, "hello")
	close(g.open)
	p.WantError(1, ninep.ErrFidInUse)
	if f := p.RPC(&proto.TStat{Fid: 7}); f.Rstat.Name != "hello" {
		t.Error(ninep.Format(f.Msg()))
	}
}

// Every kind of request can block, and its reply is right.
func TestEveryOperationCanBlock(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Secret = "sesame"
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			c.Block()
			c.Block() // no more than a word
			c.Sleep(func() { time.Sleep(time.Microsecond) })
			return nil
		}
	})
	for range 3 {
		p := r.dial()
		p.Version(8192)
		must := func(typ uint8, m proto.FCall) {
			t.Helper()
			if f := p.RPC(m); f.Type != typ {
				t.Fatalf("%s: %s", ninep.Format(m), ninep.Format(f.Msg()))
			}
		}
		must(ninep.Rauth, &proto.TAuth{Afid: 9, Uname: "glenda"})
		must(ninep.Rread, &proto.TRead{Fid: 9, Count: 10})
		must(ninep.Rwrite, &proto.TWrite{Fid: 9, Data: []byte("sesame")})
		must(ninep.Rattach, &proto.TAttach{Fid: 0, Afid: 9, Uname: "glenda"})
		must(ninep.Rwalk, &proto.TWalk{Fid: 0, Newfid: 1})
		must(ninep.Rcreate, &proto.TCreate{Fid: 1, Name: "new", Perm: 0666, Mode: ninep.ORDWR})
		must(ninep.Rwrite, &proto.TWrite{Fid: 1, Data: []byte("data")})
		must(ninep.Rread, &proto.TRead{Fid: 1, Count: 10})
		must(ninep.Rstat, &proto.TStat{Fid: 1})
		must(ninep.Rwstat, &proto.TWstat{Fid: 1, Stat: proto.Stat(ninep.NullDir())})
		must(ninep.Rwalk, &proto.TWalk{Fid: 0, Newfid: 2, Wname: []string{"dir"}})
		must(ninep.Rwalk, &proto.TWalk{Fid: 2, Newfid: 2, Wname: []string{"a"}})
		must(ninep.Ropen, &proto.TOpen{Fid: 2})
		must(ninep.Rclunk, &proto.TClunk{Fid: 2})
		must(ninep.Rremove, &proto.TRemove{Fid: 1})
		must(ninep.Rerror, &proto.TWalk{Fid: 0, Newfid: 1, Wname: []string{"new"}})
		p.Version(8192)
		must(ninep.Rerror, &proto.TStat{Fid: 0})
		p.Conn.Close()
	}
}

// seat is a Worker that knows the rules.
type seat struct {
	t       testing.TB
	entered atomic.Bool
	inside  *atomic.Int32 // entered seats in all
	freed   atomic.Bool
}

func (s *seat) Enter() {
	if s.freed.Load() || !s.entered.CompareAndSwap(false, true) {
		s.t.Error("worker entered twice, or after it was freed")
	}
	s.inside.Add(1)
}

func (s *seat) Leave() {
	if !s.entered.CompareAndSwap(true, false) {
		s.t.Error("worker left twice")
	}
	s.inside.Add(-1)
}

// watched is a connection that looks at the workers whenever it is used.
type watched struct {
	ninetestConn
	idle func(what string)
}

type ninetestConn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
}

func (w watched) Read(p []byte) (int, error)  { w.idle("read"); return w.ninetestConn.Read(p) }
func (w watched) Write(p []byte) (int, error) { w.idle("write"); return w.ninetestConn.Write(p) }

func TestWorkersAreEnteredForHandlersAndNothingElse(t *testing.T) {
	var inside, made, freed atomic.Int32
	var woken atomic.Bool // then one request's write and another's handler may be at the same time
	fs := ninetest.New()
	fs.Put("hello", []byte("hello"))
	g := newGate(t)
	fs.Hook = func(c *ninep.Ctx, op, name string) error {
		w := c.Worker.(*seat)
		if !w.entered.Load() {
			t.Errorf("%s of %s with a worker that is not entered", op, name)
		}
		if op == "write" {
			c.Sleep(func() { g.in <- name; <-g.open })
			if !w.entered.Load() {
				t.Error("not entered after Sleep")
			}
		}
		return nil
	}
	s := &ninep.Server{
		FS: fs,
		NewWorker: func() ninep.Worker {
			made.Add(1)
			return &seat{t: t, inside: &inside}
		},
		FreeWorker: func(w ninep.Worker) {
			freed.Add(1)
			if w.(*seat).freed.Swap(true) {
				t.Error("worker freed twice")
			}
		},
		Limits: ninep.Limits{Workers: 2},
	}
	client, server := unixPair(t)
	done := make(chan error)
	go func() {
		done <- s.ServeConn(context.Background(), watched{server, func(what string) {
			if n := inside.Load(); n != 0 && !woken.Load() {
				t.Errorf("%d workers entered during a %s", n, what)
			}
		}})
	}()
	p := ninetest.NewPeer(t, client)
	p.Version(8192)
	p.Attach(0, "glenda")
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.ORDWR)
	var ms []proto.FCall
	for i := range 30 {
		ms = append(ms, &proto.TStat{Header: tag(100), Fid: 1}, &proto.TWrite{Header: tag(i), Fid: 1, Data: []byte("x")})
	}
	p.Send(ms...)
	for range 30 {
		p.Want(ninep.Rstat, 100)
	}
	g.entered(t, 30)
	if n := made.Load(); n != 32 {
		t.Errorf("%d workers for 2 seats and 30 blocked requests", n)
	}
	woken.Store(true)
	client.Close()
	close(g.open) // replies to nobody
	<-done
	if n := made.Load() - freed.Load(); n > 4 {
		t.Errorf("%d workers kept for 2 seats", n)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if made.Load() != freed.Load() {
		t.Errorf("%d workers made, %d freed", made.Load(), freed.Load())
	}
	if fs.Live() != 0 {
		t.Errorf("%d Files never clunked", fs.Live())
	}
}

func TestZeroCtxServesCallersThatAreNoRequests(t *testing.T) {
	var c ninep.Ctx
	c.Block()
	slept := false
	c.Sleep(func() { slept = true })
	if !slept || c.Cancelled() != nil {
		t.Error("a zero Ctx is not usable")
	}
}
