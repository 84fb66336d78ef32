package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// page waits until the server says where its page is, and returns that.
func (l *live) page(t *testing.T) string {
	t.Helper()
	said := regexp.MustCompile(`status page (http://\S+/|on \S+)`)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := said.FindStringSubmatch(l.stderr()); m != nil {
			return strings.TrimPrefix(m[1], "on ")
		}
	}
	t.Fatalf("there is no page:\n%s", l.stderr())
	return ""
}

// fetch asks for a page.
func fetch(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServeShowsHowItIsDoing(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", "--http", "127.0.0.1:0", disk)
	put(t, l.attach(l.addrs[0]), "file", "hello")
	url := l.page(t)
	for path, want := range map[string]string{
		"": "<title>", "metrics": `gefs9p_requests_total{type="Tcreate"} 1`, "healthz": "ok", "readyz": "ok",
	} {
		if code, body := fetch(t, http.DefaultClient, url+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("/%s: %d, without %q:\n%.300s", path, code, want, body)
		}
	}
	if code, _ := fetch(t, http.DefaultClient, url+"debug/pprof/"); code != 404 {
		t.Errorf("profiles without --pprof: %d", code)
	}
	if _, body := fetch(t, http.DefaultClient, url); !strings.Contains(body, disk[strings.LastIndexByte(disk, '/')+1:]) || !strings.Contains(body, "glenda") {
		t.Error("the page names neither the disk nor its user")
	}
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, l.stderr())
	}
	if c, err := net.DialTimeout("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"), time.Second); err == nil {
		c.Close()
		t.Error("the page is still there")
	}
	must(t, "check", "--strict", disk)
}

func TestServeShowsProfilesIfAsked(t *testing.T) {
	l := start(t, 1, "serve", "-m", "16M", "--http", "127.0.0.1:0", "--pprof", newDisk(t))
	if code, body := fetch(t, http.DefaultClient, l.page(t)+"debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine") {
		t.Errorf("%d %.100s", code, body)
	}
}

func TestServeShowsItsPageOnAUnixSocket(t *testing.T) {
	disk := newDisk(t)
	sock := filepath.Join(filepath.Dir(disk), "http.sock")
	l := start(t, 1, "serve", "-m", "16M", "--http", sock, disk)
	if got := l.page(t); got != sock {
		t.Errorf("it is on %s, want %s", got, sock)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}}
	if code, body := fetch(t, c, "http://any.name/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
}

func TestServeShowsItsPageToOthersOnlyIfToldSo(t *testing.T) {
	disk := newDisk(t)
	for _, args := range [][]string{
		{"--http", "tcp!*!8564"}, {"--http", ":8564"}, {"--http", "192.0.2.1:8564"}, {"--http", "server.example:8564"}, {"--http", "0.0.0.0:0"},
		{"--pprof"}, {"--http", "no address"},
	} {
		refused(t, filepath.Dir(disk), exitUsage, []string{args[len(args)-1]}, append(append([]string{"serve", "-m", "16M"}, args...), disk)...)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "127.9.9.9:1": true, "[::ffff:127.0.0.1]:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "localhost.example:1": false, "1": false,
	} {
		if got := loopbackAddr(addr); got != want {
			t.Errorf("%s is for this machine only: %v", addr, got)
		}
	}
	l := start(t, 1, "serve", "-m", "16M", "-A", "--http", "tcp!*!0", disk)
	l.page(t)
	if !strings.Contains(l.stderr(), "can see its status page") {
		t.Errorf("no warning:\n%s", l.stderr())
	}
}
