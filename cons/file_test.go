package cons_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/client"
	"gefs9p/cons"
	"gefs9p/ninep"
)

// dial9P returns a root of srv, for user. srv is shut down at the end of the test.
func dial9P(t *testing.T, srv *ninep.Server, user string) *client.Fid {
	t.Helper()
	root, err := try9P(t, srv, user)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func try9P(t *testing.T, srv *ninep.Server, user string) (*client.Fid, error) {
	t.Helper()
	c, err := connect(t, srv)
	if err != nil {
		t.Fatal(err)
	}
	return c.Attach(user, "")
}

func connect(t *testing.T, srv *ninep.Server) (*client.Conn, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { srv.ServeConn(context.Background(), theirs) })
	c, err := client.New(t.Context(), ours, 64<<10)
	t.Cleanup(func() {
		if err == nil {
			c.Close()
		}
		wg.Wait()
	})
	return c, err
}

func openCmd(t *testing.T, root *client.Fid) *client.Fid {
	t.Helper()
	f, err := root.Walk("cmd")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(ninep.ORDWR); err != nil {
		t.Fatal(err)
	}
	return f
}

// readFrom reads a fid to its end from off on.
func readFrom(t *testing.T, f *client.Fid, off int64) string {
	t.Helper()
	buf := make([]byte, 1<<20)
	n, err := f.ReadAt(buf, off)
	if err != io.EOF {
		t.Fatalf("read: %v", err)
	}
	return string(buf[:n])
}

func TestCmdFile(t *testing.T) {
	c, _, halted := newConsole(t)
	srv := &ninep.Server{FS: cons.NewFileSystem(t.Context(), c)}
	root := dial9P(t, srv, "glenda")
	dir, err := root.Walk()
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Open(ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	list, err := dir.ReadDir()
	if err != nil || len(list) != 1 || list[0].Name != "cmd" || list[0].Mode != 0o600 {
		t.Errorf("the directory holds %v, %v", list, err)
	}

	f := openCmd(t, root)
	if got := readFrom(t, f, 0); got != "" {
		t.Errorf("before any command cmd holds %q", got)
	}
	line := "snap -m main 'a fork'\n"
	if n, err := f.WriteAt([]byte(line), 0); err != nil || n != len(line) {
		t.Fatalf("%q: %d, %v", line, n, err)
	}
	// As programs do that read on where they wrote, and as those that go back.
	for _, off := range []int64{int64(len(line)), 0} {
		if _, err := f.WriteAt([]byte("snap -l\nshow users"), 0); err != nil {
			t.Fatal(err)
		}
		want := "snap a fork [mutable]\nsnap adm [mutable]\nsnap empty\nsnap main [mutable]\n-1:adm::glenda\n0:none::\n1:glenda:glenda:\n"
		if got := readFrom(t, f, off); got != want {
			t.Errorf("from %d cmd holds %q", off, got)
		}
		if got := readFrom(t, f, off+5); got != want[5:] {
			t.Errorf("from %d and 5 cmd holds %q", off, got)
		}
	}
	other := openCmd(t, root)
	if got := readFrom(t, other, 0); got != "" {
		t.Errorf("another fid reads %q", got)
	}

	for _, tt := range []struct{ line, want string }{
		{"snap -d nosuch", "snap: open 'nosuch': does not exist"},
		{"df\nbogus\nhalt\n", "unknown command 'bogus'"},
		{"snap 'x", "a quote is not closed"},
	} {
		_, err := f.WriteAt([]byte(tt.line), 0)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: %v, want %s", tt.line, err, tt.want)
		}
	}
	select {
	case <-halted:
		t.Error("a command behind one that failed was run")
	default:
	}
	if got := readFrom(t, f, 0); got != "" {
		t.Errorf("after a refusal cmd holds %q", got)
	}
	if _, err := f.WriteAt([]byte("halt\n"), 0); err != nil {
		t.Fatal(err)
	}
	<-halted
	if got := readFrom(t, f, 0); got != "gefs: ending...\n" {
		t.Errorf("halt says %q", got)
	}
}

func TestCmdFileIsForAdm(t *testing.T) {
	c, _, _ := newConsole(t)
	must(t, c, "user add moody")
	srv := &ninep.Server{FS: cons.NewFileSystem(t.Context(), c)}
	for _, user := range []string{"none", "moody", "nobody", ""} {
		if _, err := try9P(t, srv, user); err == nil || !strings.Contains(err.Error(), "adm") {
			t.Errorf("attach as %q: %v", user, err)
		}
	}
	must(t, c, "user group add adm moody")
	root := dial9P(t, srv, "moody")
	if err := root.Create("x", 0o644, ninep.OWRITE); err == nil {
		t.Error("a file was created")
	}
	f, err := root.Walk("cmd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Walk(".."); err == nil {
		t.Error("walked out of a file")
	}
	d := ninep.NullDir()
	d.Name = "y"
	if err := f.Wstat(d); err == nil {
		t.Error("cmd was renamed")
	}
	if _, err := f.WriteAt([]byte("df"), 0); err == nil {
		t.Error("a command was taken on a fid that is not open")
	}
	if err := f.Open(ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("df"), 0); err == nil {
		t.Error("a command was taken on a fid that is open for reading")
	}
	if err := f.Remove(); err == nil {
		t.Error("cmd was removed")
	}
}

// TestFlushCancelsCommand flushes the write of a command that waits.
func TestFlushCancelsCommand(t *testing.T) {
	c, _, _ := newConsole(t)
	release := blockCheck(t, c)
	defer release()
	srv := &ninep.Server{FS: cons.NewFileSystem(t.Context(), c)}
	conn, err := connect(t, srv)
	if err != nil {
		t.Fatal(err)
	}
	root, err := conn.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	f := openCmd(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var r ninep.Fcall
		done <- conn.RPC(ctx, &proto.TWrite{Fid: f.Num(), Count: 5, Data: []byte("check")}, &r)
	}()
	select {
	case err := <-done:
		t.Fatalf("the check did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the command goes on")
	}
}
