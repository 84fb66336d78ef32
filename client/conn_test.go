package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

func TestServerErrorsAreErrorsWithTheirText(t *testing.T) {
	_, root := dialFake(t, func(f *fake, m *ninep.Fcall) { f.fail(m, "file system full") })
	for name, err := range map[string]error{
		"open":   root.Open(ninep.OREAD),
		"create": root.Create("x", 0666, ninep.OWRITE),
		"fsync":  root.Fsync(),
		"read":   second(root.ReadAt(make([]byte, 1), 0)),
		"write":  second(root.WriteAt(make([]byte, 1), 0)),
		"walk":   second(root.Walk("a")),
		"stat":   second(root.Stat()),
		"remove": root.Remove(),
	} {
		if err != Error("file system full") {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestManyGoroutinesGetTheirOwnAnswers(t *testing.T) {
	// The fake answers 16 reads at a time, the last one first.
	var held []*ninep.Fcall
	const goroutines, reads = 16, 50
	_, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if held = append(held, m); len(held) < goroutines {
			return
		}
		var out []byte
		for i := range held {
			m := held[len(held)-1-i]
			out = ninep.AppendRread(out, m.Tag, binary.BigEndian.AppendUint64(nil, m.Tread.Offset))
		}
		held = held[:0]
		f.send(out)
	})
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			var p [8]byte
			for i := range reads {
				off := int64(g*1000 + i)
				if _, err := root.ReadAt(p[:], off); err != nil {
					t.Errorf("read at %d: %v", off, err)
					return
				}
				if got := int64(binary.BigEndian.Uint64(p[:])); got != off {
					t.Errorf("the read at %d got the answer for %d", off, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestRequestsOfManyGoroutinesLeaveInFewWrites(t *testing.T) {
	// While the first write is stuck, the other requests gather and leave together.
	client, server := net.Pipe()
	counter := &writes{Conn: client}
	go func() {
		f := &fake{t: t, conn: server, msize: testMsize, handle: (*fake).ok}
		f.serve()
	}()
	c, err := New(t.Context(), counter, testMsize)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	counter.hold.Lock()
	const n = 100
	calls := make([]*Call, n)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			k, err := c.Start(&proto.TClunk{Fid: uint32(i)})
			if err != nil {
				t.Error(err)
			}
			calls[i] = k
		})
	}
	eventually(t, "all requests are buffered", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.calls) == n
	})
	before := counter.n.Load()
	counter.hold.Unlock()
	wg.Wait()
	for _, k := range calls {
		var r ninep.Fcall
		if err := k.Wait(&r); err != nil {
			t.Fatal(err)
		}
	}
	if w := counter.n.Load() - before; w > 2 {
		t.Errorf("%d requests took %d writes", n, w)
	}
}

// writes counts writes, and lets them wait.
type writes struct {
	net.Conn
	n    atomic.Int64
	hold sync.Mutex
}

func (w *writes) Write(p []byte) (int, error) {
	w.hold.Lock()
	w.hold.Unlock()
	w.n.Add(1)
	return w.Conn.Write(p)
}

func TestCloseEndsWhatWaits(t *testing.T) {
	c, root := dialFake(t, func(*fake, *ninep.Fcall) {})
	errs := make(chan error)
	for range 5 {
		go func() {
			_, err := root.Stat()
			errs <- err
		}()
	}
	eventually(t, "requests are outstanding", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.calls) == 5
	})
	c.Close()
	for range 5 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := root.Stat(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	c.Close() // a second time does no harm
}

func TestHangupFailsEveryCall(t *testing.T) {
	_, root := dialFake(t, func(f *fake, m *ninep.Fcall) { f.conn.Close() })
	for range 2 {
		if _, err := root.Stat(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	}
}

// What a server must not say ends the connection, and never panics.
func TestProtocolViolationsEndTheConnection(t *testing.T) {
	read := func(root *Fid) error { return second(root.ReadAt(make([]byte, 10), 0)) }
	stat := func(root *Fid) error { return second(root.Stat()) }
	for _, c := range []struct {
		name   string
		do     func(*Fid) error
		answer func(m *ninep.Fcall) []byte
		want   string
	}{
		{"wrong type", stat, func(m *ninep.Fcall) []byte { return ninep.AppendRclunk(nil, m.Tag) }, "answered by type"},
		{"a request", stat, func(m *ninep.Fcall) []byte { return ninep.AppendTstat(nil, m.Tag, 1) }, "answered by type"},
		{"wrong tag", stat, func(m *ninep.Fcall) []byte { return ninep.AppendRclunk(nil, m.Tag+1) }, "not outstanding"},
		{"answered twice", stat, func(m *ninep.Fcall) []byte {
			return ninep.AppendRerror(ninep.AppendRerror(nil, m.Tag, "a"), m.Tag, "b")
		}, "not outstanding"},
		{"size too small", stat, func(*ninep.Fcall) []byte { return []byte{6, 0, 0, 0, 0, 0, 0} }, "frame size"},
		{"size above msize", stat, func(*ninep.Fcall) []byte { return []byte{0, 0, 0, 1} }, "frame size"},
		{"unknown type", stat, func(m *ninep.Fcall) []byte { return []byte{7, 0, 0, 0, 99, byte(m.Tag), byte(m.Tag >> 8)} }, "unknown message type"},
		{"short frame", stat, func(m *ninep.Fcall) []byte {
			return []byte{8, 0, 0, 0, ninep.Rstat, byte(m.Tag), byte(m.Tag >> 8), 0}
		}, "ends inside"},
		{"more read than asked", read, func(m *ninep.Fcall) []byte { return ninep.AppendRread(nil, m.Tag, make([]byte, 11)) }, "11 bytes read"},
		{"more written than asked", func(root *Fid) error { return second(root.WriteAt(make([]byte, 10), 0)) },
			func(m *ninep.Fcall) []byte { return ninep.AppendRwrite(nil, m.Tag, 11) }, "11 bytes written"},
		{"more qids than names", func(root *Fid) error { return second(root.Walk("a")) },
			func(m *ninep.Fcall) []byte { b, _ := ninep.AppendRwalk(nil, m.Tag, make([]ninep.Qid, 2)...); return b }, "2 qids for 1 names"},
		{"directory of garbage", func(root *Fid) error { return second(root.ReadDir()) },
			func(m *ninep.Fcall) []byte { return ninep.AppendRread(nil, m.Tag, []byte{1, 2, 3}) }, "directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, root := dialFake(t, func(f *fake, m *ninep.Fcall) { f.send(c.answer(m)) })
			err := c.do(root)
			for err == Error("a") || err == Error("b") { // one of two answers can come through
				err = c.do(root)
			}
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err := root.Fsync(); !errors.Is(err, ErrProtocol) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestFlushForgetsARequest(t *testing.T) {
	c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type != ninep.Tstat { // which is never answered
			f.ok(m)
		}
	})
	k, err := c.Start(&proto.TStat{Fid: root.Num()})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Flush(); err != nil {
		t.Fatal(err)
	}
	var r ninep.Fcall
	if err := k.Wait(&r); err != ErrFlushed {
		t.Errorf("result %v", err)
	}
	if err := k.Flush(); err != nil {
		t.Errorf("flushing again: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.RPC(ctx, &proto.TStat{Fid: root.Num()}, &r); err != context.DeadlineExceeded {
		t.Errorf("RPC that times out: %v", err)
	}
	if err := c.RPC(ctx, &proto.TStat{Fid: root.Num()}, &r); err != context.DeadlineExceeded {
		t.Errorf("RPC after its time: %v", err)
	}
	checkTagsFree(t, c)
	if err := root.Fsync(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAnswerBeforeRflushCounts(t *testing.T) {
	// The server answers the Tstat when it gets the Tflush, and the Tflush later: in between, the
	// tag must not be used again.
	var stat, flush *ninep.Fcall
	var c *Conn
	c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		switch m.Type {
		case ninep.Tstat:
			stat = m
		case ninep.Tflush:
			if m.Tflush.Oldtag != stat.Tag {
				t.Errorf("flush of tag %d, not %d", m.Tflush.Oldtag, stat.Tag)
			}
			flush = m
			f.ok(stat)
		case ninep.Twstat:
			if m.Tag == stat.Tag {
				t.Error("the tag of a request being flushed was used again")
			}
			f.ok(m)
			f.ok(flush)
		}
	})
	k, err := c.Start(&proto.TStat{Fid: root.Num()})
	if err != nil {
		t.Fatal(err)
	}
	flushed := make(chan error)
	go func() { flushed <- k.Flush() }()
	var r ninep.Fcall
	if err := k.Wait(&r); err != nil || r.Rstat.Stat.Name != "x" {
		t.Errorf("the answer was lost: %v", err)
	}
	if err := root.Fsync(); err != nil {
		t.Error(err)
	}
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	checkTagsFree(t, c)
}

func TestSeveralFlushesOfOneRequest(t *testing.T) {
	var flushes []*ninep.Fcall
	c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type == ninep.Tflush {
			if flushes = append(flushes, m); len(flushes) == 3 {
				for _, m := range flushes {
					f.ok(m)
				}
			}
		}
	})
	k, err := c.Start(&proto.TStat{Fid: root.Num()})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := k.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var r ninep.Fcall
	if err := k.Wait(&r); err != ErrFlushed {
		t.Errorf("result %v", err)
	}
	checkTagsFree(t, c)
}

// checkTagsFree fails if a tag is still in use, or if one was given back twice.
func checkTagsFree(t *testing.T, c *Conn) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 0 {
		t.Errorf("%d tags in use", len(c.calls))
	}
	if len(c.tags.free) != int(c.tags.next) {
		t.Errorf("%d tags free of %d", len(c.tags.free), c.tags.next)
	}
	seen := make(map[uint16]bool)
	for _, tag := range c.tags.free {
		if seen[tag] {
			t.Errorf("tag %d is free twice", tag)
		}
		seen[tag] = true
	}
}

func TestStartWaitsForATag(t *testing.T) {
	c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type == ninep.Tflush {
			f.ok(m)
		}
	})
	calls := make([]*Call, maxTags)
	for i := range calls {
		var err error
		if calls[i], err = c.Start(&proto.TStat{Fid: root.Num()}); err != nil {
			t.Fatal(err)
		}
	}
	started := make(chan error)
	go func() {
		_, err := c.Start(&proto.TStat{Fid: root.Num()})
		started <- err
	}()
	select {
	case <-started:
		t.Fatal("one more request than there are tags")
	case <-time.After(20 * time.Millisecond):
	}
	if err := calls[7].Flush(); err != nil { // which must not need one of those tags
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
}

func TestStartRefusesWhatIsNoRequest(t *testing.T) {
	c, root := dialFake(t, (*fake).ok)
	long := strings.Repeat("x", 70000)
	for name, m := range map[string]proto.FCall{
		"reply":             &proto.RClunk{},
		"version":           &proto.TRVersion{Header: proto.Header{Type: ninep.Tversion}, Msize: 8192, Version: ninep.Version},
		"larger than msize": &proto.TWrite{Fid: root.Num(), Data: make([]byte, testMsize)},
		"string too long":   &proto.TCreate{Fid: root.Num(), Name: long},
		"too many names":    &proto.TWalk{Fid: root.Num(), Wname: make([]string, 17)},
	} {
		if k, err := c.Start(m); err == nil || k != nil {
			t.Errorf("%s: sent", name)
		}
	}
	checkTagsFree(t, c)
	if err := root.Fsync(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestVersionIsNegotiated(t *testing.T) {
	answer := func(msize uint32, version string, tag uint16) func(net.Conn) {
		return func(conn net.Conn) {
			if _, err := ninep.ReadFrame(conn, nil, 1<<20); err != nil {
				return
			}
			b, err := ninep.AppendRversion(nil, tag, msize, version)
			if err != nil {
				t.Error(err)
			}
			conn.Write(b)
		}
	}
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"unknown", answer(8192, "unknown", ninep.NOTAG), `does not speak 9P2000: it answers "unknown"`},
		{"other dialect", answer(8192, "9P2000.u", ninep.NOTAG), `it answers "9P2000.u"`},
		{"msize above", answer(8193, ninep.Version, ninep.NOTAG), "msize 8193"},
		{"msize tiny", answer(64, ninep.Version, ninep.NOTAG), "msize 64"},
		{"tag", answer(8192, ninep.Version, 1), "tag 1"},
		{"hangup", func(net.Conn) {}, "unexpected EOF"},
		{"garbage", func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n")) }, "frame size"},
		{"error", func(conn net.Conn) {
			ninep.ReadFrame(conn, nil, 1<<20)
			conn.Write(ninep.AppendRerror(nil, ninep.NOTAG, "go away"))
		}, "go away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", addr)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					c.serve(conn)
					if u, ok := conn.(*net.UnixConn); ok {
						u.CloseWrite()
						io.Copy(io.Discard, u)
					}
					conn.Close()
				}
			}()
			defer func() { l.Close(); <-done }()
			if _, err := Dial(t.Context(), addr, 8192); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Dial: %v, want %q", err, c.want)
			}
			if _, err := DialPipe(t.Context(), addr, 8192); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("DialPipe: %v, want %q", err, c.want)
			}
		})
	}
}

func TestDialGivesUpWhenToldTo(t *testing.T) {
	addr := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", addr) // and never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, addr, 8192); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := Dial(t.Context(), "nowhere", 8192); err == nil {
		t.Error("dialled nowhere")
	}
	if _, err := Dial(t.Context(), addr+"x", 8192); err == nil {
		t.Error("dialled a socket that is not there")
	}
	if _, err := Dial(t.Context(), addr, 100); err == nil {
		t.Error("asked for an msize of 100")
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		client, server := net.Pipe()
		go (&fake{t: t, conn: server, msize: testMsize, handle: (*fake).ok}).serve()
		c, err := New(t.Context(), client, testMsize)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Attach("glenda", ""); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// Whatever a server sends before it hangs up, a client neither panics nor waits for ever.
func FuzzReplies(f *testing.F) {
	f.Add(ninep.AppendRattach(nil, 0, ninep.Qid{}))
	f.Add(ninep.AppendRread(ninep.AppendRattach(nil, 0, ninep.Qid{}), 0, []byte("abc")))
	f.Add(ninep.AppendRerror(ninep.AppendRattach(nil, 0, ninep.Qid{}), 0, "no"))
	f.Add(ninep.AppendRattach(ninep.AppendRattach(nil, 0, ninep.Qid{}), 0, ninep.Qid{}))
	walk, _ := ninep.AppendRwalk(ninep.AppendRattach(nil, 0, ninep.Qid{Qtype: ninep.QTDIR}), 0, make([]ninep.Qid, 3)...)
	f.Add(walk)
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, do := range []func(*Fid) error{
			func(root *Fid) error { return second(root.ReadAt(make([]byte, 10), 0)) },
			func(root *Fid) error { return second(root.ReadFull(make([]byte, 10), 0)) },
			func(root *Fid) error { return second(root.Walk("a", "b")) },
			func(root *Fid) error { return second(root.ReadDir()) },
			func(root *Fid) error { return second(root.Stat()) },
		} {
			ours, theirs := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { // answers the version, and then says what it wants
				defer theirs.Close()
				if _, err := ninep.ReadFrame(theirs, nil, 8192); err != nil {
					return
				}
				b, _ := ninep.AppendRversion(nil, ninep.NOTAG, 8192, ninep.Version)
				theirs.Write(append(b, stream...))
			})
			c, err := New(t.Context(), &sink{Conn: ours}, 8192)
			if err != nil {
				t.Fatal(err)
			}
			if root, err := c.Attach("glenda", ""); err == nil {
				do(root)
			}
			c.Close()
			wg.Wait()
		}
	})
}

// A sink is a connection that swallows what is written after the first message.
type sink struct {
	net.Conn
	n int
}

func (s *sink) Write(p []byte) (int, error) {
	if s.n++; s.n > 1 {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func ExampleConn() {
	c, err := Dial(context.Background(), "tcp!localhost!9fs", 64<<10)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	root, err := c.Attach("glenda", "main")
	if err != nil {
		fmt.Println(err)
		return
	}
	motd, err := root.WalkPath("lib/motd")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer motd.Clunk()
	if err := motd.Open(ninep.OREAD); err != nil {
		fmt.Println(err)
		return
	}
	r, err := motd.NewReader(0, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Printf("%s%v\n", text, err)
}
