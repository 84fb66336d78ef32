package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/auth"
	"gefs9p/client"
	"gefs9p/ninep"
)

// newKey has the program make a key.
func newKey(t *testing.T, dir, user string, args ...string) (string, *auth.Key) {
	t.Helper()
	file := filepath.Join(dir, user)
	args = append([]string{"auth", "newkey", "--authid", user, "--authdom", "example.com"}, append(args, file)...)
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader("correct horse battery staple\n")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("auth newkey: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.ParseKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	return file, keys[0]
}

// TestProcessesAuthenticate has a file server, an authentication server and a client, each a process of its
// own; the client is this one.
func TestProcessesAuthenticate(t *testing.T) {
	dir := t.TempDir()
	serverFile, serverKey := newKey(t, dir, "bootes")
	userFile, userKey := newKey(t, dir, "glenda", "--password")
	var table []byte
	for _, f := range []string{serverFile, userFile} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		table = append(table, b...)
	}
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, table, 0o600); err != nil {
		t.Fatal(err)
	}
	as := serve(t, "auth", "serve", "-a", "tcp!127.0.0.1!0", users)
	fs := serve(t, "serve", "-m", "16M", "--auth", serverFile, "-a", "tcp!127.0.0.1!0", newDisk(t))
	from := &auth.AuthServer{Key: userKey, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", as.addr)
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, fs.addr, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	prove := func(from auth.TicketSource) func(io.ReadWriter) error {
		return func(rw io.ReadWriter) error { return auth.Prove(ctx, rw, "glenda", from) }
	}
	for _, uname := range []string{"glenda", "none"} {
		if _, err := c.Attach(uname, ""); err == nil {
			t.Fatalf("%s needs no proof", uname)
		}
	}
	root, err := c.AttachAs("glenda", "", prove(from))
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Create("file", 0o600, ninep.OWRITE); err != nil {
		t.Fatal(err)
	}
	if _, err := root.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach("none", ""); err != nil {
		t.Errorf("none beside glenda: %v", err)
	}

	// A proof that was heard on the wire proves nothing to a second server with the same key.
	fs2 := serve(t, "serve", "-m", "16M", "--auth", serverFile, "-a", "tcp!127.0.0.1!0", newDisk(t))
	var said [][]byte
	if _, err := c.AttachAs("glenda", "", func(rw io.ReadWriter) error { return prove(from)(&recorder{rw, &said}) }); err != nil {
		t.Fatal(err)
	}
	c2, err := client.Dial(ctx, fs2.addr, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	_, err = c2.AttachAs("glenda", "", func(rw io.ReadWriter) error {
		buf := make([]byte, 4096)
		for i, b := range said {
			if i < 3 {
				if _, err := rw.Read(buf); err != nil {
					return err
				}
			}
			if _, err := rw.Write(b); err != nil {
				return err
			}
		}
		_, err := rw.Read(buf)
		return err
	})
	if err == nil {
		t.Error("what somebody else has said lets in")
	}
	if !strings.Contains(fs2.stderr(), "authentication failed") {
		t.Errorf("the second server has not noticed:\n%s", fs2.stderr())
	}

	// No secrets have been logged.
	for _, k := range []*auth.Key{serverKey, userKey} {
		line := auth.AppendKey(nil, k)
		secret := string(bytes.TrimSpace(line[bytes.LastIndexByte(line, '=')+1:]))
		for _, p := range []*process{as, fs, fs2} {
			if strings.Contains(p.stderr(), secret) {
				t.Errorf("%v's key is in a log", k)
			}
		}
	}
}

// A recorder remembers what was written.
type recorder struct {
	io.ReadWriter
	said *[][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	*r.said = append(*r.said, bytes.Clone(p))
	return r.ReadWriter.Write(p)
}
