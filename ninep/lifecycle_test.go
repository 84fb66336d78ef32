package ninep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

func TestHangupInMidFrame(t *testing.T) {
	r := newRig(t, nil)
	whole := ninetest.Frames(t, &proto.TWrite{Header: tag(1), Fid: 0, Data: make([]byte, 20000)})
	for _, n := range []int{1, 3, 4, 5, 7, 100, 4096, 10000, len(whole) - 1} {
		p := r.session()
		p.Walk(0, 1, "dir")
		p.Write(whole[:n])
		p.Conn.Close()
	}
	// The rig looks for Files that were not clunked.
}

func TestHangupCancelsAndClunksAfterTheLastRequest(t *testing.T) {
	g := newGate(t)
	clunks := make(chan string, 10)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			switch op {
			case "read":
				return g.waitStubborn(c, name)
			case "stat":
				c.Block()
				g.in <- name
				<-c.Cancelled()
				return ninep.ErrInterrupted
			case "clunk":
				clunks <- name
			}
			return nil
		}
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TStat{Header: tag(2)})
	g.entered(t, 2)
	p.Conn.Close()
	select {
	case name := <-clunks:
		t.Fatalf("%s clunked while a request runs", name)
	case <-time.After(50 * time.Millisecond):
	}
	close(g.open)
	got := map[string]bool{<-clunks: true, <-clunks: true}
	if !got["hello"] || !got["/"] {
		t.Error(got)
	}
}

// A client that closes only its sending side still gets the answers to what it has sent.
func TestHalfClosedConnectionIsAnswered(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error { return g.waitStubborn(c, name) })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TStat{Header: tag(2)})
	p.Conn.(*net.TCPConn).CloseWrite()
	p.Want(ninep.Rstat, 2)
	g.entered(t, 1)
	close(g.open)
	p.Want(ninep.Rread, 1)
	p.WantHangup()
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	for _, kind := range []string{"tcp", "no deadlines"} {
		t.Run(kind, func(t *testing.T) {
			g := newGate(t)
			r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
				fs.Hook = on("read", func(c *ninep.Ctx, name string) error { return g.wait(c, name) })
			})
			idle := r.dialKind(kind)
			idle.Version(8192)
			p := r.dialKind(kind)
			p.Version(8192)
			p.Attach(0, "glenda")
			p.Walk(0, 1, "hello")
			p.Open(1, ninep.OREAD)
			p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
			g.entered(t, 1)
			down := make(chan error)
			go func() { down <- r.s.Shutdown(context.Background()) }()
			idle.WantHangup()
			select {
			case <-down:
				t.Fatal("Shutdown did not wait")
			case <-time.After(20 * time.Millisecond):
			}
			close(g.open)
			if f := p.Want(ninep.Rread, 1); string(f.Rread.Data) != "hello" {
				t.Error(ninep.Format(f.Msg()))
			}
			p.WantHangup()
			if err := <-down; err != nil {
				t.Error(err)
			}
			if n := r.fs.Live(); n != 0 {
				t.Errorf("%d Files after Shutdown", n)
			}
			if _, err := net.Dial(r.addr.Network(), r.addr.String()); err == nil {
				t.Error("still listening")
			}
			if err := r.s.ServeConn(t.Context(), plain{nopConn{}}); !errors.Is(err, ninep.ErrClosed) {
				t.Errorf("ServeConn after Shutdown: %v", err)
			}
		})
	}
}

type nopConn struct{}

func (nopConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (nopConn) Write(p []byte) (int, error) { return len(p), nil }
func (nopConn) Close() error                { return nil }

func TestShutdownOutOfPatienceCancelsAndStillWaits(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			switch op {
			case "read": // blocked
				g.in <- name
				c.Block()
				<-c.Cancelled()
				return ninep.ErrInterrupted
			case "stat": // inline: bad manners, but it watches
				g.in <- name
				<-c.Cancelled()
				<-g.open
				return ninep.ErrInterrupted
			}
			return nil
		}
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TStat{Header: tag(2)})
	g.entered(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	down := make(chan error)
	go func() { down <- r.s.Shutdown(ctx) }()
	p.WantHangup()
	select {
	case <-down:
		t.Fatal("Shutdown left a request behind")
	case <-time.After(50 * time.Millisecond):
	}
	close(g.open)
	if err := <-down; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	fs := ninetest.New()
	s := &ninep.Server{FS: fs}
	defer s.Shutdown(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, otherServed := make(chan error), make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	go func() { otherServed <- s.Serve(context.Background(), other) }()
	r := &rig{t, fs, s, l.Addr()}
	p := r.session()
	q := (&rig{t, fs, s, other.Addr()}).session()
	cancel()
	p.WantHangup()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	q.RPC(&proto.TStat{}) // the other listener's clients stay
	if n := fs.Live(); n != 1 {
		t.Errorf("%d Files, want 1", n)
	}
	other.Close()
	if err := <-otherServed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve of a listener closed by another: %v", err)
	}
	q.WantHangup()
	s.Shutdown(context.Background())
	if err := s.Serve(ctx, l); !errors.Is(err, ninep.ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// fickle is a listener that is out of descriptors now and then, and in the end broken.
type fickle struct {
	net.Listener
	errs chan error
}

func (l fickle) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	default:
		return l.Listener.Accept()
	}
}

func TestAcceptIsTriedAgainAfterWhatMayPass(t *testing.T) {
	fs := ninetest.New()
	s := &ninep.Server{FS: fs}
	defer s.Shutdown(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	errs <- syscall.EMFILE
	errs <- os.NewSyscallError("accept4", syscall.ECONNABORTED)
	served := make(chan error)
	go func() { served <- s.Serve(context.Background(), fickle{l, errs}) }()
	r := &rig{t, fs, s, l.Addr()}
	p := r.session()
	errs <- syscall.EBADF
	// Ends the Accept under way, if that has not met the error already.
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		defer c.Close()
	}
	if err := <-served; !errors.Is(err, syscall.EBADF) {
		t.Errorf("Serve: %v", err)
	}
	p.WantHangup()
}

func TestServeConnSaysWhyItHungUp(t *testing.T) {
	for _, tt := range []struct {
		name, send, want string
	}{
		{"end of file", "", "<nil>"},
		{"mid-frame", "\x13\x00\x00", "unexpected EOF"},
		{"bad size", "\x00\x00\x00\x00", "frame size out of range"},
		{"no version", "\x0b\x00\x00\x00\x78\x01\x00\x00\x00\x00\x00", "version required"},
		{"reply", "\x07\x00\x00\x00\x79\x01\x00", "client sent a reply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &ninep.Server{FS: ninetest.New()}
			defer s.Shutdown(context.Background())
			client, server := unixPair(t)
			io.WriteString(client, tt.send)
			client.(*net.UnixConn).CloseWrite()
			err := s.ServeConn(t.Context(), server)
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			client.Close()
		})
	}
}

func TestErrorTextsAndTheirLog(t *testing.T) {
	var log bytes.Buffer
	full := ninep.Error("file system full")
	errs := []error{
		full,
		fmt.Errorf("arena 3: %w", full),
		errors.New("disk on fire"),
		ninep.Error(strings.Repeat("ä", 100)),
	}
	i := 0
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		fs.Hook = on("stat", func(c *ninep.Ctx, name string) error {
			i++
			return errs[i-1]
		})
	})
	p := r.session()
	for _, want := range []ninep.Error{full, full, "disk on fire", ninep.Error(strings.Repeat("ä", 63))} {
		p.Send(&proto.TStat{Header: tag(1)})
		p.WantError(1, want)
	}
	p.Conn.Close()
	r.s.Shutdown(t.Context()) // so that the log is complete
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "disk on fire") {
		t.Errorf("log:\n%s", s)
	}
}

// oddFile is a File that breaks the rules.
type oddFile struct {
	benchFile
	n int
}

func (f *oddFile) Read(c *ninep.Ctx, p []byte, off uint64) (int, error)  { return f.n, nil }
func (f *oddFile) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) { return f.n, nil }
func (f *oddFile) Stat(c *ninep.Ctx, d *ninep.Dir) error {
	*d = ninep.Dir{Name: strings.Repeat("n", f.n)}
	return nil
}
func (f *oddFile) Open(c *ninep.Ctx, mode uint8) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, uint32(f.n), nil
}
func (f *oddFile) Create(c *ninep.Ctx, name string, perm uint32, mode uint8) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, uint32(f.n), nil
}
func (f *oddFile) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	if len(names) == 3 {
		return f, 1, nil
	}
	return nil, f.n, nil
}

type oddFS struct{ f ninep.File }

func (fs oddFS) Auth(*ninep.Ctx, string, string) (ninep.AuthFile, ninep.Qid, error) {
	return nil, ninep.Qid{}, nil
}
func (fs oddFS) Attach(*ninep.Ctx, ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	return fs.f, ninep.Qid{}, nil
}

func TestHandlersThatBreakTheRulesAreNotBelieved(t *testing.T) {
	f := new(oddFile)
	s := &ninep.Server{FS: oddFS{f}}
	defer s.Shutdown(context.Background())
	client, server := unixPair(t)
	go s.ServeConn(context.Background(), server)
	p := ninetest.NewPeer(t, client)
	p.Version(8192)
	p.Attach(0, "glenda")
	bad := func(m proto.FCall, want ninep.Error) {
		t.Helper()
		p.Send(m)
		p.WantError(0, want)
	}
	bad(&proto.TAuth{Afid: 1}, ninep.ErrInternal)
	for _, n := range []int{-1, 11, 1 << 30} {
		f.n = n
		bad(&proto.TRead{Count: 10}, ninep.ErrInternal)
		bad(&proto.TWrite{Data: make([]byte, 10)}, ninep.ErrInternal)
	}
	for _, n := range []int{-1, 2, 3} {
		f.n = n
		bad(&proto.TWalk{Newfid: 1, Wname: []string{"a", "b"}}, ninep.ErrInternal)
	}
	bad(&proto.TWalk{Newfid: 1, Wname: []string{"a", "b", "c"}}, ninep.ErrInternal)
	f.n = 0
	bad(&proto.TWalk{Newfid: 1, Wname: []string{"a", "b"}}, ninep.ErrNotFound)
	bad(&proto.TWalk{Newfid: 1}, ninep.ErrInternal)
	for _, n := range []int{8192 - ninep.DirSize - 9 + 1, 65535, 70000} {
		f.n = n
		bad(&proto.TStat{}, ninep.ErrStatSize)
	}
	f.n = 8192 - ninep.DirSize - 9
	if m := p.RPC(&proto.TStat{}); len(m.Rstat.Name) != f.n {
		t.Errorf("largest stat: %s", ninep.Format(m.Msg()))
	}
	for n, want := range map[int]uint32{0: 8192 - 24, 4096: 4096, 8192 - 24: 8192 - 24, 8192: 8192 - 24, 1 << 30: 8192 - 24} {
		f.n = n
		if m := p.RPC(&proto.TOpen{}); m.Ropen.Iounit != want {
			t.Errorf("Ropen iounit %d for %d, want %d", m.Ropen.Iounit, n, want)
		}
		if m := p.RPC(&proto.TCreate{}); m.Rcreate.Iounit != want {
			t.Errorf("Rcreate iounit %d for %d, want %d", m.Rcreate.Iounit, n, want)
		}
	}
	client.Close()
}

func TestTraceShowsTheConversation(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Trace = func(dir, conn, msg string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, dir+" "+msg)
		}
		fs.Hook = on("open", func(c *ninep.Ctx, name string) error { c.Block(); return nil })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TClunk{Header: tag(2), Fid: 7})
	p.Want(ninep.Rread, 1)
	p.Want(ninep.Rerror, 2)
	p.Write([]byte{7, 0, 0, 0, 99, 0, 0})
	p.WantHangup()
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{
		"<- Tversion tag NOTAG msize 65536 version 9P2000",
		"-> Rversion tag NOTAG msize 65536 version 9P2000",
		"<- Tattach tag 0 fid 0 afid NOFID uname glenda aname ''",
		"-> Rattach tag 0 qid 0x0.0.d",
		"<- Twalk tag 0 fid 0 newfid 1 wname [hello]",
		"-> Rwalk tag 0 wqid [0x1.1]",
		"<- Topen tag 0 fid 1 mode OREAD",
		"-> Ropen tag 0 qid 0x1.1 iounit 65512",
		"<- Tread tag 1 fid 1 offset 0 count 5",
		"<- Tclunk tag 2 fid 7",
		"-> Rread tag 1 count 5 data 'hello'",
		"-> Rerror tag 2 ename 'unknown fid'",
		"<- message type 99: type at byte 4: unknown message type",
	}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestConnKnowsItsAddresses(t *testing.T) {
	var got []string
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("attach", func(c *ninep.Ctx, name string) error {
			_, tcp := c.Conn.Transport().(*net.TCPConn)
			got = append(got, c.Conn.RemoteAddr().String(), c.Conn.LocalAddr().String(), fmt.Sprint(tcp, c.Msize))
			return nil
		})
	})
	p := r.session()
	nc := p.Conn.(net.Conn)
	want := []string{nc.LocalAddr().String(), nc.RemoteAddr().String(), "true 65536"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
