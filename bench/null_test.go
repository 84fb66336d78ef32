package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// With nullEnv set the test binary is a Null, as the command line's bench --null is.
const nullEnv = "GEFS9P_BENCH_NULL"

func TestMain(m *testing.M) {
	if os.Getenv(nullEnv) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := ServeNull(ctx, os.Args[len(os.Args)-1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestWireCanBeAProcess(t *testing.T) {
	t.Setenv(nullEnv, "yes")
	for _, addr := range []string{
		serveNullFor(t, "unix", filepath.Join(t.TempDir(), "s")),
		serveNullFor(t, "tcp", "127.0.0.1:0"),
	} {
		o := tiny(addr, "W1", "W3")
		o.Wire = true
		o.WireCommand = []string{os.Args[0], "an argument"}
		rep := mustRun(t, o)
		if len(rep.Rows) != 2 || rep.Rows[1].Wire == nil || rep.Rows[1].Wire.Ops != 700 {
			t.Errorf("rows %+v", rep.Rows)
		}
	}
}

func TestWireCommandThatIsNoneIsAnError(t *testing.T) {
	addr := serveNullFor(t, "tcp", "127.0.0.1:0")
	for _, command := range [][]string{{"/nowhere/at/all"}, {"false"}, {"echo", "hello"}} {
		o := tiny(addr, "W1")
		o.Wire = true
		o.WireCommand = command
		if _, err := Run(t.Context(), o, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "null server") {
			t.Errorf("%q: %v", command, err)
		}
	}
}

func TestNullAnswersEverything(t *testing.T) {
	addr := serveNullFor(t, "unix", filepath.Join(t.TempDir(), "s"))
	c, err := client.Dial(t.Context(), addr, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Msize() != nullMsize {
		t.Errorf("msize %d", c.Msize())
	}
	root, err := c.Attach("anybody", "anything")
	if err != nil {
		t.Fatal(err)
	}
	if root.Qid() != nullQid {
		t.Errorf("root %v", root.Qid())
	}
	f, err := root.WalkPath("a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(ninep.ORDWR); err != nil {
		t.Error(err)
	}
	p := bytes.Repeat([]byte{1}, 3<<20)
	if n, err := f.ReadFull(p, 1<<40); n != len(p) || err != nil || bytes.IndexByte(p, 1) >= 0 {
		t.Errorf("read %d bytes, %v, or no zeros", n, err)
	}
	if n, err := f.WriteAt(p, 5); n != len(p) || err != nil {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	if d, err := f.Stat(); err != nil || d.Name != "null" {
		t.Errorf("stat %v, %v", d, err)
	}
	if err := f.Fsync(); err != nil {
		t.Error(err)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if err := root.Create("x", 0666, ninep.OWRITE); err != nil {
		t.Error(err)
	}
	if err := root.Clunk(); err != nil {
		t.Error(err)
	}
}

func TestNullReadsFitIntoFrames(t *testing.T) {
	addr := serveNullFor(t, "tcp", "127.0.0.1:0")
	p, err := client.DialPipe(t.Context(), addr, 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Out = ninep.AppendTread(p.Out, 1, 0, 0, 1<<31)
	frame, err := p.Next()
	if err != nil || len(frame) != 8192-ninep.IOHDRSZ+11 {
		t.Errorf("frame of %d bytes, %v", len(frame), err)
	}
}

func TestNullHangsUpOnGarbage(t *testing.T) {
	addr := serveNullFor(t, "tcp", "127.0.0.1:0")
	for name, b := range map[string][]byte{
		"no 9P":       []byte("GET / HTTP/1.1\r\n\r\n"),
		"a reply":     ninep.AppendRclunk(nil, 1),
		"short Tread": {11, 0, 0, 0, ninep.Tread, 0, 0, 0, 0, 0, 0},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write(b)
		if rest, _ := io.ReadAll(conn); len(rest) != 0 {
			t.Errorf("%s: answered %x", name, rest)
		}
		conn.Close()
	}
	// Another protocol is refused, not hung up on.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, _ := ninep.AppendTversion(nil, ninep.NOTAG, 8192, "9P1000")
	conn.Write(b)
	frame, err := ninep.ReadFrame(conn, nil, 8192)
	var m ninep.Fcall
	if err != nil || m.Decode(frame) != nil || m.Version.Version != "unknown" {
		t.Errorf("%q, %v", m.Version.Version, err)
	}
}

func TestServeNullListensUntilTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- ServeNull(ctx, "tcp!127.0.0.1!0", w) }()
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "listening ")
	if !ok {
		t.Fatalf("it said %q", line[:n])
	}
	c, err := client.Dial(t.Context(), addr, 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Attach("x", ""); err == nil {
		t.Error("answered after its end")
	}
	for _, bad := range []string{"nonsense", "tcp!256.0.0.1!0"} {
		if err := ServeNull(t.Context(), bad, io.Discard); err == nil {
			t.Errorf("listened on %s", bad)
		}
	}
}

func TestNullCanBeClosedBeforeServing(t *testing.T) {
	var n Null
	n.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(l); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
	n.Close()
}
