package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/auth"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// newKeyFile makes a key with the program and returns the file and the key.
func newKeyFile(t *testing.T, user string) (string, *auth.Key) {
	t.Helper()
	file := filepath.Join(t.TempDir(), user+".key")
	if out := must(t, "auth", "newkey", "--authid", user, "--authdom", "example.com", file); out != "" {
		t.Errorf("newkey says %q", out)
	}
	k, err := readServerKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, k
}

func dialAddr(t *testing.T, addr string) *client.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, addr, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// prover is what AttachAs wants.
func prover(t *testing.T, user string, from auth.TicketSource) func(io.ReadWriter) error {
	return func(rw io.ReadWriter) error { return auth.Prove(t.Context(), rw, user, from) }
}

func TestNewkeyKeepsTheKeyToItself(t *testing.T) {
	file, k := newKeyFile(t, "bootes")
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("the file's mode is %v", st.Mode())
	}
	dir := filepath.Dir(file)
	refused(t, dir, exitFail, []string{file, "there is a file"}, "auth", "newkey", "--authid", "bootes", "--authdom", "example.com", file)
	refused(t, dir, exitFail, []string{"bootes@example.com", "has a key"}, "auth", "newkey", "--authid", "bootes", "--authdom", "example.com", "--add", file)
	refused(t, dir, exitUsage, []string{"--authid"}, "auth", "newkey", file+"2")
	refused(t, dir, exitUsage, []string{"longer than 27"}, "auth", "newkey", "--authid", strings.Repeat("u", 28), "--authdom", "d", file+"2")
	refused(t, dir, exitFail, []string{"no password"}, "auth", "newkey", "--password", "--authid", "u", "--authdom", "d", file+"2")

	// A second one, made of a password.
	var out, errs bytes.Buffer
	args := []string{"auth", "newkey", "--authid", "glenda", "--authdom", "example.com", "--password", "--add", file}
	if code := Main(t.Context(), args, strings.NewReader("correct horse\n"), &out, &errs); code != 0 || out.Len()+errs.Len() > 0 {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	keys, err := readAuthKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := auth.PasswordKey("glenda", "example.com", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || !keys[0].Equal(k) || !keys[1].Equal(want) {
		t.Errorf("the file has %v", keys)
	}
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		t.Errorf("then its mode is %v: %v", st.Mode(), err)
	}
	disk := newDisk(t)
	refused(t, dir, exitFail, []string{file, "2 keys"}, "serve", "--auth", file, disk)
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitFail, []string{file, "chmod 600"}, "serve", "--auth", file, disk)
	refused(t, dir, exitFail, []string{"not a key file"}, "serve", "--auth", disk, disk)
	refused(t, dir, exitFail, []string{"no such file"}, "serve", "--auth", disk+".key", disk)
}

func TestServeRefusesToListenForNobodyKnowsWho(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	key, _ := newKeyFile(t, "bootes")
	refused(t, dir, exitUsage, []string{"--auth", "-A"}, "serve", "-a", "tcp!127.0.0.1!0", disk)
	refused(t, dir, exitUsage, []string{"-A"}, "serve", "-A", "--auth", key, "-a", "tcp!127.0.0.1!0", disk)
	refused(t, dir, exitUsage, []string{"console", "-A"}, "serve", "--auth", key, "--ctl9p", "tcp!127.0.0.1!0", disk)
	refused(t, dir, exitUsage, []string{"--peers", "self, any or prove"}, "serve", "--peers", "some", disk)
	refused(t, dir, exitUsage, []string{"--auth"}, "serve", "--peers", "prove", disk)
}

// TestServeLetsInWhoProves over TCP, and nobody else.
func TestServeLetsInWhoProves(t *testing.T) {
	disk := newDisk(t)
	file, key := newKeyFile(t, "bootes")
	l := start(t, 1, "serve", "-m", "16M", "--auth", file, "-a", "tcp!127.0.0.1!0", disk)
	c := dialAddr(t, l.addrs[0])
	for _, uname := range []string{"glenda", "none", "bootes"} {
		if _, err := c.Attach(uname, ""); err == nil || !strings.Contains(err.Error(), "failed authentication") {
			t.Errorf("%s attaches: %v", uname, err)
		}
	}
	root, err := c.AttachAs("glenda", "", prover(t, "glenda", auth.ServerKey{Key: key}))
	if err != nil {
		t.Fatal(err)
	}
	put(t, root, "file", "hello")
	if _, err := c.Attach("none", ""); err != nil {
		t.Errorf("none, beside glenda: %v", err)
	}
	if _, err := dialAddr(t, l.addrs[0]).Attach("none", ""); err == nil {
		t.Error("none, alone, is let in")
	}
	if !strings.Contains(l.stderr(), "authenticated") {
		t.Errorf("the log says nothing of it:\n%s", l.stderr())
	}

	// Another key.
	_, wrong := newKeyFile(t, "bootes")
	began := time.Now()
	_, err = c.AttachAs("glenda", "", prover(t, "glenda", auth.ServerKey{Key: wrong}))
	if err == nil {
		t.Fatal("a wrong key lets in")
	}
	if d := time.Since(began); d < failUnit {
		t.Errorf("the answer took %v", d)
	}
	if got := l.stderr(); !strings.Contains(got, "authentication failed") || !strings.Contains(got, "another key") || !strings.Contains(got, "user=glenda") {
		t.Errorf("the log does not say so:\n%s", got)
	}
	// What the client is told does not say what was wrong.
	if !strings.Contains(err.Error(), "authentication failed") || strings.Contains(err.Error(), "another key") {
		t.Errorf("the client is told %q", err)
	}
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// The same, of a server that writes nothing (pitfall 103).
	l = start(t, 1, "serve", "-m", "16M", "--read-only", "--auth", file, "-a", "tcp!127.0.0.1!0", disk)
	c = dialAddr(t, l.addrs[0])
	root, err = c.AttachAs("glenda", "", prover(t, "glenda", auth.ServerKey{Key: key}))
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, root, "file"); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
}

// TestASiteWithoutPlan9 has an authentication server, a file server and users with passwords.
func TestASiteWithoutPlan9(t *testing.T) {
	disk := newDisk(t)
	file, key := newKeyFile(t, "bootes")
	users := filepath.Join(t.TempDir(), "users")
	if err := writeAuthKey(users, key, true); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	args := []string{"auth", "newkey", "--authid", "glenda", "--authdom", "example.com", "--password", "--add", users}
	if code := Main(t.Context(), args, strings.NewReader("correct horse"), io.Discard, &errs); code != 0 {
		t.Fatal(&errs)
	}
	as := start(t, 1, "auth", "serve", "-a", "tcp!127.0.0.1!0", users)
	fs := start(t, 1, "serve", "-m", "16M", "--auth", file, "-a", "tcp!127.0.0.1!0", disk)

	mine := filepath.Join(t.TempDir(), "mine")
	args = []string{"auth", "newkey", "--authid", "glenda", "--authdom", "example.com", "--password", mine}
	if code := Main(t.Context(), args, strings.NewReader("correct horse"), io.Discard, &errs); code != 0 {
		t.Fatal(&errs)
	}
	if got := must(t, "auth", "try", "--key", mine, "--as", as.addrs[0], fs.addrs[0]); got != "glenda is let in\n" {
		t.Errorf("try says %q", got)
	}
	if got := must(t, "auth", "try", "--key", file, "-u", "glenda", fs.addrs[0]); got != "glenda is let in\n" {
		t.Errorf("try with the server's key says %q", got)
	}
	other, _ := newKeyFile(t, "glenda")
	dir := filepath.Dir(other)
	refused(t, dir, exitFail, []string{"wrong password or unknown user"}, "auth", "try", "--key", other, "--as", as.addrs[0], fs.addrs[0])
	refused(t, dir, exitFail, []string{"wrong password or unknown user"}, "auth", "try", "--key", mine, "-u", "adm", "--as", as.addrs[0], fs.addrs[0])
	refused(t, dir, exitFail, []string{"the key is that of glenda@example.com"}, "auth", "try", "--key", mine, fs.addrs[0])
	if as.stop() != 0 {
		t.Errorf("the authentication server ends badly:\n%s", as.stderr())
	}
	refused(t, dir, exitFail, []string{"authentication server"}, "auth", "try", "--key", mine, "--as", as.addrs[0], fs.addrs[0])
	// Nobody was asked to prove anything on the Unix socket.
	fs.stop()
	local := start(t, 1, "serve", "-m", "16M", disk)
	if got := must(t, "auth", "try", "--key", mine, local.addrs[0]); got != "glenda is let in without proof\n" {
		t.Errorf("try says %q", got)
	}
}

// TestP9sk1IsForThoseWhoSwitchItOn: the server, the authentication server and the client each have to say so.
func TestP9sk1IsForThoseWhoSwitchItOn(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	file, key := newKeyFile(t, "bootes")
	site := []string{"--authdom", "example.com"}
	refused(t, dir, exitUsage, []string{"--auth"}, "serve", "--auth-p9sk1", disk)
	refused(t, dir, exitFail, []string{file, "no key in it for p9sk1"}, "serve", "--auth", file, "--auth-p9sk1", disk)
	must(t, append([]string{"auth", "newkey", "--p9sk1", "--add", "--authid", "bootes", file}, site...)...)
	refused(t, filepath.Dir(file), exitFail, []string{"bootes@example.com", "has a key"}, append([]string{"auth", "newkey", "--p9sk1", "--add", "--authid", "bootes", file}, site...)...)
	if k, err := readServerKey(file); err != nil || !k.Equal(key) {
		t.Fatalf("the other key is %v, %v", k, err)
	}

	users := filepath.Join(t.TempDir(), "users")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(users, text, 0o600); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(t.TempDir(), "mine")
	for _, f := range []string{users, mine} {
		for _, kind := range []string{"--p9sk1=true", "--p9sk1=false"} {
			var errs bytes.Buffer
			args := append([]string{"auth", "newkey", kind, "--add", "--password", "--authid", "glenda", f}, site...)
			if code := Main(t.Context(), args, strings.NewReader("correct horse\n"), io.Discard, &errs); code != 0 {
				t.Fatalf("%q: %s", args, &errs)
			}
		}
	}
	start := func(args ...string) *live { return start(t, 1, args...) }
	as := start("auth", "serve", "--p9sk1", "-a", "tcp!127.0.0.1!0", users)
	on := start("serve", "-m", "16M", "--auth", file, "--auth-p9sk1", "-a", "tcp!127.0.0.1!0", disk)
	for _, with := range [][]string{{"--p9sk1"}, nil} {
		args := append([]string{"auth", "try", "--key", mine, "--as", as.addrs[0], on.addrs[0]}, with...)
		if got := must(t, args...); got != "glenda is let in\n" {
			t.Errorf("%q says %q", args, got)
		}
	}
	if got := must(t, "auth", "try", "--p9sk1", "--key", file, "-u", "glenda", on.addrs[0]); got != "glenda is let in\n" {
		t.Errorf("with the server's key, try says %q", got)
	}
	if log := on.stderr(); !strings.Contains(log, "p9sk1 is offered") || !strings.Contains(log, "proto=p9sk1") || !strings.Contains(log, "proto=dp9ik") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	other := filepath.Join(t.TempDir(), "other")
	must(t, append([]string{"auth", "newkey", "--p9sk1", "--authid", "glenda", other}, site...)...)
	refused(t, dir, exitFail, []string{"wrong password or unknown user"}, "auth", "try", "--p9sk1", "--key", other, "--as", as.addrs[0], on.addrs[0])
	if code := on.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Off, at the one and at the other.
	off := start("serve", "-m", "16M", "--auth", file, "-a", "tcp!127.0.0.1!0", disk)
	refused(t, dir, exitFail, []string{"dp9ik@example.com", "p9sk1"}, "auth", "try", "--p9sk1", "--key", file, "-u", "glenda", off.addrs[0])
	off.stop()
	as.stop()
	as = start("auth", "serve", "-a", "tcp!127.0.0.1!0", users)
	on = start("serve", "-m", "16M", "--auth", file, "--auth-p9sk1", "-a", "tcp!127.0.0.1!0", disk)
	refused(t, dir, exitFail, []string{"authentication failed"}, "auth", "try", "--p9sk1", "--key", mine, "--as", as.addrs[0], on.addrs[0])
}

func TestAuthServeEndsWithClientsConnected(t *testing.T) {
	users, _ := newKeyFile(t, "bootes")
	as := start(t, 1, "auth", "serve", "-a", "tcp!127.0.0.1!0", users)
	conn, err := net.Dial("tcp", as.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte{19, 'x'})
	if as.stop() != 0 {
		t.Errorf("it ends badly:\n%s", as.stderr())
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

// TestFailuresCostTime but not without bounds, and not those of others.
func TestFailuresCostTime(t *testing.T) {
	_, key := newKeyFile(t, "bootes")
	g := gate{key: key, unit: 10 * time.Millisecond}
	var last time.Duration
	for i := range 5 {
		d := g.failed("a")
		if want := g.unit << i; d != want {
			t.Errorf("failure %d costs %v, want %v", i+1, d, want)
		}
		last = d
	}
	if d := g.failed("b"); d != g.unit {
		t.Errorf("the first failure of another host costs %v", d)
	}
	if last >= failMost {
		t.Fatal("too long")
	}
	g.unit = time.Hour
	if d := g.failed("a"); d != failMost {
		t.Errorf("a failure costs %v", d)
	}
	if g.full("a") {
		t.Error("six failures are too many")
	}
	for range failWaiting {
		g.failed("a")
	}
	if !g.full("a") || g.full("b") || g.full("c") {
		t.Errorf("full: a %v, b %v, c %v", g.full("a"), g.full("b"), g.full("c"))
	}
	if _, err := g.begin(&ninep.Ctx{}, "glenda"); err != nil {
		t.Errorf("a conversation from elsewhere: %v", err)
	}
	for range failWaiting {
		g.failed("this machine")
	}
	if _, err := g.begin(&ninep.Ctx{}, "glenda"); err == nil {
		t.Error("a conversation while too many wait")
	}
	g.hosts["a"].last = time.Now().Add(-2 * failForget)
	g.unit = time.Millisecond
	if d := g.failed("a"); d != g.unit {
		t.Errorf("after a long time a failure costs %v", d)
	}
	for i := range 3 * maxVisitors {
		g.failed(string(rune('A' + i)))
		if len(g.hosts) > maxVisitors {
			t.Fatalf("%d hosts are remembered", len(g.hosts))
		}
	}
}

func TestAuthFidsOfAHostAreBounded(t *testing.T) {
	_, key := newKeyFile(t, "bootes")
	g := gate{key: key}
	var open []gefs.Proof
	for range maxOpen {
		p, err := g.begin(&ninep.Ctx{}, "glenda")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, p)
	}
	if _, err := g.begin(&ninep.Ctx{}, "glenda"); !errors.Is(err, ninep.ErrNoAuth) {
		t.Errorf("one more: %v", err)
	}
	open[0].Clunk(&ninep.Ctx{})
	if _, err := g.begin(&ninep.Ctx{}, "glenda"); err != nil {
		t.Errorf("after one was clunked: %v", err)
	}
	for _, p := range open {
		p.Clunk(&ninep.Ctx{})
	}
	if len(g.open) != 0 {
		t.Errorf("then there are %v", g.open)
	}
}

// TestTicketsAreRationed by hosts.
func TestTicketsAreRationed(t *testing.T) {
	now := time.Now()
	b := &bucket{burst: 3, every: time.Second}
	for i, want := range []bool{true, true, true, false, false} {
		if got := b.take("a", now); got != want {
			t.Errorf("turn %d: %v", i+1, got)
		}
	}
	if !b.take("b", now) {
		t.Error("another host has to wait")
	}
	now = now.Add(time.Second)
	if !b.take("a", now) || b.take("a", now) {
		t.Error("after a second there is not exactly one turn more")
	}
	for i := range 2 * maxVisitors {
		b.take(string(rune('A'+i)), now)
	}
	if len(b.hosts) > maxVisitors {
		t.Errorf("%d hosts are remembered", len(b.hosts))
	}
	for _, tt := range []struct{ a, b string }{
		{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"2001:db8::1", "2001:db8::/64"}, {"2001:db8::ffff:1", "2001:db8::/64"},
	} {
		if got := hostOfAddr(&net.TCPAddr{IP: net.ParseIP(tt.a), Port: 1}); got != tt.b {
			t.Errorf("%s is on host %s, want %s", tt.a, got, tt.b)
		}
	}
}

// TestNoProofOnTheNetworkIsWarnedOf at every start, and proof is not.
func TestNoProofOnTheNetworkIsWarnedOf(t *testing.T) {
	disk := newDisk(t)
	file, _ := newKeyFile(t, "bootes")
	const warning = "everybody who can reach this machine"
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"-A", "-a", "tcp!*!0"}, true},
		{[]string{"-A", "-a", "tcp!*!0"}, true},
		{[]string{"-A", "-a", "tcp!127.0.0.1!0"}, false},
		{[]string{"--auth", file, "-a", "tcp!*!0"}, false},
	} {
		l := start(t, 1, append(append([]string{"serve", "-m", "16M"}, tt.args...), disk)...)
		if got := strings.Contains(l.stderr(), warning); got != tt.want {
			t.Errorf("%v: %v\n%s", tt.args, got, l.stderr())
		}
		l.stop()
	}
}
