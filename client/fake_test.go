package client

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gefs9p/ninep"
)

// A fake is a server that a test scripts: handle is called for every request but Tversion, by one
// goroutine, and answers through the methods of fake, at once or later.
type fake struct {
	t      *testing.T
	handle func(f *fake, m *ninep.Fcall)
	msize  uint32

	mu   sync.Mutex
	conn net.Conn
}

const testMsize = 8192 + ninep.IOHDRSZ

// serveFake listens on a socket and serves one connection with handle. It returns the address.
func serveFake(t *testing.T, handle func(f *fake, m *ninep.Fcall)) string {
	t.Helper()
	addr := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, handle: handle, msize: testMsize}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		f.conn = conn
		f.serve()
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return addr
}

func (f *fake) serve() {
	var buf []byte
	for {
		frame, err := ninep.ReadFrame(f.conn, buf, 1<<20)
		if err != nil {
			return
		}
		buf = frame
		m := new(ninep.Fcall)
		if err := m.Decode(frame); err != nil {
			f.t.Errorf("the client sent %x: %v", frame, err)
			return
		}
		m.Twrite.Data = append([]byte(nil), m.Twrite.Data...)
		if m.Type != ninep.Tversion {
			f.handle(f, m)
			continue
		}
		out, err := ninep.AppendRversion(nil, m.Tag, min(f.msize, m.Version.Msize), ninep.Version)
		if err != nil {
			f.t.Error(err)
		}
		f.send(out)
	}
}

// send writes frames; the client may have hung up.
func (f *fake) send(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.Write(b)
}

func (f *fake) fail(m *ninep.Fcall, text string) { f.send(ninep.AppendRerror(nil, m.Tag, text)) }

// ok answers m with a success that says nothing in particular.
func (f *fake) ok(m *ninep.Fcall) {
	var b []byte
	var err error
	switch m.Type {
	case ninep.Tattach:
		b = ninep.AppendRattach(b, m.Tag, ninep.Qid{Qtype: ninep.QTDIR})
	case ninep.Twalk:
		b, err = ninep.AppendRwalk(b, m.Tag, make([]ninep.Qid, len(m.Twalk.Wname))...)
	case ninep.Topen:
		b = ninep.AppendRopen(b, m.Tag, ninep.Qid{}, 0)
	case ninep.Tcreate:
		b = ninep.AppendRcreate(b, m.Tag, ninep.Qid{}, 0)
	case ninep.Tread:
		b = ninep.AppendRread(b, m.Tag, make([]byte, m.Tread.Count))
	case ninep.Twrite:
		b = ninep.AppendRwrite(b, m.Tag, m.Twrite.Count)
	case ninep.Tclunk:
		b = ninep.AppendRclunk(b, m.Tag)
	case ninep.Tremove:
		b = ninep.AppendRremove(b, m.Tag)
	case ninep.Tstat:
		b, err = ninep.AppendRstat(b, m.Tag, &ninep.Dir{Name: "x"})
	case ninep.Twstat:
		b = ninep.AppendRwstat(b, m.Tag)
	case ninep.Tflush:
		b = ninep.AppendRflush(b, m.Tag)
	default:
		f.t.Errorf("message of type %d", m.Type)
	}
	if err != nil {
		f.t.Error(err)
	}
	f.send(b)
}

// dialFake returns a Conn to a fake, and a fid that it is attached with. They are gone when the test is.
func dialFake(t *testing.T, handle func(f *fake, m *ninep.Fcall)) (*Conn, *Fid) {
	t.Helper()
	attached := false
	addr := serveFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type == ninep.Tattach && !attached {
			attached = true
			f.ok(m)
			return
		}
		handle(f, m)
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dial(ctx, addr, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.Msize() != testMsize {
		t.Errorf("msize %d", c.Msize())
	}
	root, err := c.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

// eventually waits for cond, which another goroutine makes true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
