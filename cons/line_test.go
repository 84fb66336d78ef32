package cons_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/cons"
)

// blockCheck starts a check and holds it up until release is called.
func blockCheck(t *testing.T, c *cons.Console) (release func()) {
	t.Helper()
	w := &stuckWriter{began: make(chan struct{}), release: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- c.Exec(context.Background(), []string{"check"}, w) }()
	<-w.began
	return func() {
		close(w.release)
		if err := <-done; err != nil {
			t.Errorf("the check that was held up: %v", err)
		}
	}
}

// A stuckWriter takes nothing until it is released.
type stuckWriter struct {
	once           sync.Once
	began, release chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.began) })
	<-w.release
	return len(p), nil
}

// A watched listener tells when its connections are closed.
type watched struct {
	net.Listener
	closed chan struct{} // a token for each
}

type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *watched) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: nc, closed: l.closed}, nil
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { c.closed <- struct{}{} })
	return c.Conn.Close()
}

func newClient(t *testing.T, path string) *cons.Client {
	t.Helper()
	c, err := cons.NewClient(t.Context(), dial(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestClient(t *testing.T) {
	c, _, _ := newConsole(t)
	client := newClient(t, serve(t, c))
	for _, tt := range []struct {
		words []string
		out   string
		err   error
	}{
		{[]string{"snap", "main", "it's a day"}, "labeled: it's a day from main\n", nil},
		{[]string{"snap", "-l"}, "snap adm [mutable]\nsnap empty\nsnap it's a day\nsnap main [mutable]\n", nil},
		{[]string{"set", "main", "retain", ""}, "", nil},
		{[]string{"snap", "-d", "nosuch"}, "", cons.Failure("snap: open 'nosuch': does not exist")},
		{[]string{"--json", "sync"}, "{\n\t\"synced\": true\n}\n", nil},
		{[]string{"=ok"}, "", cons.Failure("unknown command '=ok'")},
		{[]string{}, "", nil},
		{[]string{"sync"}, "synced\n", nil},
	} {
		var out bytes.Buffer
		err := client.Run(t.Context(), tt.words, &out)
		if out.String() != tt.out || err != tt.err {
			t.Errorf("%q: %q and %v, want %q and %v", tt.words, out.String(), err, tt.out, tt.err)
		}
	}
	for _, words := range [][]string{{"snap", "main", "a\nhalt"}, {"df", strings.Repeat("x", 64<<10)}} {
		if err := client.Run(t.Context(), words, io.Discard); err == nil {
			t.Errorf("%.20q was sent", words)
		}
	}
	if err := client.Run(t.Context(), []string{"sync"}, io.Discard); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

// TestClientDoesNotBelieve those who are no console.
func TestClientDoesNotBelieve(t *testing.T) {
	for _, tt := range []struct{ say, want string }{
		{"SSH-2.0-OpenSSH\n", "no console"},
		{"gefs", "EOF"},
		{"", "EOF"},
		{"gefs# what\n", "says \"what\""},
		{"gefs# |a\n|b\n", "EOF"},
		{"gefs# |a", "EOF"},
		{"gefs# \n", "says \"\""},
		{"gefs# " + strings.Repeat("y", 1<<17), "says"},
	} {
		ours, theirs := net.Pipe()
		go func() {
			theirs.SetDeadline(time.Now().Add(20 * time.Second))
			prompt, rest := tt.say, ""
			if len(prompt) > 6 {
				prompt, rest = tt.say[:6], tt.say[6:]
			}
			io.WriteString(theirs, prompt)
			if strings.HasPrefix(tt.say, "gefs# ") {
				theirs.Read(make([]byte, 100))
			}
			io.WriteString(theirs, rest)
			theirs.Close()
		}()
		c, err := cons.NewClient(t.Context(), ours)
		if err == nil {
			err = c.Run(t.Context(), []string{"df"}, io.Discard)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.30q: %v, want %s", tt.say, err, tt.want)
		}
		ours.Close()
	}
}

// TestClientThatGoesAwayCancels a command that waits; a person who has closed only the sending side
// gets the answer.
func TestClientThatGoesAwayCancels(t *testing.T) {
	c, _, _ := newConsole(t)
	path := filepath.Join(t.TempDir(), "ctl")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{l, make(chan struct{}, 10)}
	serveOn(t, c, w)
	release := blockCheck(t, c)

	client := newClient(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx, []string{"check"}, io.Discard) }()
	select {
	case err := <-done:
		t.Fatalf("the check did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	select {
	case <-w.closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the command goes on without its client")
	}

	person := dial(t, path)
	fmt.Fprint(person, "check\nsnap main x\nbogus")
	person.(*net.UnixConn).CloseWrite()
	release()
	got, err := io.ReadAll(person)
	if err != nil || !strings.Contains(string(got), "\nok\ngefs# labeled: x from main\ngefs# unknown command 'bogus'\ngefs# ") {
		t.Errorf("%v, %q", err, got)
	}
}

// TestConsolesAreFew, and a line is not long.
func TestConsolesAreFew(t *testing.T) {
	c, _, _ := newConsole(t)
	path := serve(t, c)
	var first *cons.Client
	for i := range 32 {
		client := newClient(t, path)
		if i == 0 {
			first = client
		}
	}
	if _, err := cons.NewClient(t.Context(), dial(t, path)); err == nil || !strings.Contains(err.Error(), "32 consoles are open") {
		t.Errorf("one too many: %v", err)
	}
	first.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		client, err := cons.NewClient(t.Context(), dial(t, path))
		if err == nil {
			client.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place was given back: %v", err)
		}
		time.Sleep(time.Millisecond)
	}

	for range 2 {
		nc := dial(t, path)
		if got, err := io.ReadAll(io.LimitReader(nc, 6)); err != nil || string(got) != "gefs# " {
			break // the place of the one before may not be given back yet
		}
		go nc.Write(bytes.Repeat([]byte("x"), 1<<20))
		if got, err := io.ReadAll(nc); len(got) > 0 {
			t.Errorf("a line without an end is answered: %q, %v", got, err)
		}
	}
}

// TestServerEndsWhileCommandsRun cancels them and hangs up.
func TestServerEndsWhileCommandsRun(t *testing.T) {
	c, _, _ := newConsole(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "ctl"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, l) }()
	release := blockCheck(t, c)
	defer release()
	idle := dial(t, l.Addr().String())
	client := newClient(t, l.Addr().String())
	done := make(chan error, 1)
	go func() { done <- client.Run(t.Context(), []string{"check"}, io.Discard) }()
	select {
	case err := <-done:
		t.Fatalf("the check did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("the command says %v", err)
	}
	if got, _ := io.ReadAll(idle); string(got) != "gefs# " {
		t.Errorf("a console that is idle says %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
