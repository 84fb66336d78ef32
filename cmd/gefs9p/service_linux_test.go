package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/nbd/nbdtest"
	"gefs9p/ninep"
)

// A manager plays systemd for one server: it listens for it, and hears what it says.
type manager struct {
	t     *testing.T
	dir   string // with a short name, for sockets
	conn  *net.UnixConn
	files []*os.File // of sockets to pass
	names []string

	mu   sync.Mutex
	said []string // assignments, in their order
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, dir: dir}
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		buf := make([]byte, 64<<10)
		for {
			n, err := m.conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, strings.Split(string(buf[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		m.conn.Close()
		<-over
		for _, f := range m.files {
			f.Close()
		}
		if t.Failed() {
			t.Logf("the manager was told %q", m.heard())
		}
	})
	return m
}

func (m *manager) path(name string) string { return filepath.Join(m.dir, name) }

// listen makes a socket to be passed under a name, and returns its address.
func (m *manager) listen(name, network, addr string) string {
	m.t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		m.t.Fatal(err)
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		m.t.Fatal(err)
	}
	m.files, m.names = append(m.files, f), append(m.names, name)
	return l.Addr().String()
}

// command is the server, with what the manager gives it.
func (m *manager) command(watchdog time.Duration, args ...string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`, "sh", program}, args...)...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path("notify"))
	if watchdog > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	}
	if len(m.files) > 0 {
		cmd.ExtraFiles = m.files
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	}
	return cmd
}

// start starts the server and waits until it listens.
func (m *manager) start(watchdog time.Duration, args ...string) *process {
	m.t.Helper()
	p, err := startCommand("listening ", m.command(watchdog, args...))
	if err != nil {
		m.t.Fatal(err)
	}
	p.kept(m.t)
	return p
}

// heard returns what has been said so far.
func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.said...)
}

// count returns how many assignments begin so.
func (m *manager) count(prefix string) (n int) {
	for _, s := range m.heard() {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// await waits until so many assignments begin so, and returns the place of the first in all.
func (m *manager) await(n int, prefix string) int {
	m.t.Helper()
	for end := time.Now().Add(30 * time.Second); m.count(prefix) < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%q was not said %d times", prefix, n)
		}
	}
	for i, s := range m.heard() {
		if strings.HasPrefix(s, prefix) {
			return i
		}
	}
	return -1
}

const (
	smallWatchdog = 400 * time.Millisecond
	smallCache    = "16M"
)

func TestManagerIsToldHowItGoes(t *testing.T) {
	disk, m := newDisk(t), newManager(t)
	p := m.start(smallWatchdog, "serve", "-m", smallCache, disk)
	opening, ready := m.await(1, "STATUS=opening "+disk), m.await(1, "READY=1")
	_, root := p.attach(t)
	put(t, root, "file", []byte("hello"))
	m.await(1, "STATUS=serving "+disk+" on "+p.addr)
	well := m.await(4, "WATCHDOG=1")
	// What it does to a disk of which the manager is told goes to that disk.
	if out := mustRun(t, "ctl", "-s", disk, "grow", "256M"); !strings.Contains(out, "new arena") {
		t.Errorf("grow: %s", out)
	}
	mustRun(t, "ctl", "-s", disk, "trim")
	if code := p.signal(os.Interrupt); code != 0 {
		t.Errorf("exit code %d", code)
	}
	end := m.await(1, "STOPPING=1")
	m.await(1, "STATUS=committing")
	if !(opening < ready && ready < well && well < end) || m.count("READY=1") != 1 || m.count("STOPPING=1") != 1 {
		t.Errorf("in another order: %d %d %d %d", opening, ready, well, end)
	}
	checkClean(t, disk)
	if n := m.count("WATCHDOG=1"); n > 1000 {
		t.Errorf("%d times the manager was told that all is well", n)
	}
}

// TestManagerWithoutAWatchdogHearsNone and one that nobody can talk to does no harm.
func TestManagerWithoutAWatchdogHearsNone(t *testing.T) {
	disk, m := newDisk(t), newManager(t)
	p := m.start(0, "serve", "-m", smallCache, disk)
	m.await(1, "READY=1")
	p.signal(os.Interrupt)
	m.await(1, "STOPPING=1")
	if n := m.count("WATCHDOG=1"); n > 0 {
		t.Errorf("%d times", n)
	}
	os.Remove(m.path("notify"))
	p = m.start(smallWatchdog, "serve", "-m", smallCache, disk)
	p.attach(t)
	if code := p.signal(os.Interrupt); code != 0 || strings.Count(p.stderr(), "does not listen") != 1 {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
}

// TestNoWatchdogWhileAChangeHangs: the storage has taken a request and does not answer. Nobody can change anything,
// and the manager does not hear that all is well. When the storage is away altogether it does: the server waits for
// it, and another one would too.
func TestNoWatchdogWhileAChangeHangs(t *testing.T) {
	m := newManager(t)
	t.Setenv("TMPDIR", m.dir)
	var hang atomic.Pointer[chan struct{}] // reads wait for it
	st := &nbdtest.Server{Dev: blkdev.NewMem(131088 << 10), Hook: func(r nbdtest.Request) nbdtest.Fault {
		if c := hang.Load(); c != nil && r.Cmd == nbdtest.Read {
			<-*c
		}
		return nbdtest.Fault{}
	}}
	st.Start(t)
	disk := "nbd://" + st.Addr() + "/disk"
	sock := m.path("9p")
	args := []string{"serve", "-m", smallCache, "--no-snapshots", "--ctl", "none", "-a", "unix!" + sock, disk}
	mustRun(t, "ream", "-u", "glenda", disk)
	p := m.start(0, args...)
	_, root := p.attach(t)
	put(t, root, "file", make([]byte, 64<<10))
	if code := p.signal(os.Interrupt); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	p = m.start(smallWatchdog, args...)
	_, root = p.attach(t)
	f, err := root.Walk("file")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(ninep.OWRITE); err != nil {
		t.Fatal(err)
	}
	m.await(3, "WATCHDOG=1")
	stuck := make(chan struct{})
	hang.Store(&stuck)
	wrote := make(chan error, 1)
	go func() {
		_, err := f.WriteAt([]byte("x"), 5) // needs the rest of the block
		wrote <- err
	}()
	quiet := func() int {
		time.Sleep(smallWatchdog / 2)
		n := m.count("WATCHDOG=1")
		time.Sleep(3 * smallWatchdog)
		return m.count("WATCHDOG=1") - n
	}
	if n := quiet(); n > 0 {
		t.Errorf("%d times the manager was told that all is well", n)
	}
	select {
	case err := <-wrote:
		t.Fatalf("the write has not hung: %v", err)
	default:
	}
	hang.Store(nil)
	close(stuck)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	m.await(m.count("WATCHDOG=1")+3, "WATCHDOG=1")

	st.Leave()
	go func() {
		_, err := f.WriteAt([]byte("y"), 40<<10)
		wrote <- err
	}()
	m.await(1, "STATUS=waiting for the storage since ")
	m.await(m.count("WATCHDOG=1")+3, "WATCHDOG=1")
	st.Return(nil)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	m.await(3, "STATUS=serving ") // of the first server, of this one, and again
	if code := p.signal(os.Interrupt); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
}

// TestPassedSocketsAreServed by one server after the other; clients that come between wait.
func TestPassedSocketsAreServed(t *testing.T) {
	disk, m := newDisk(t), newManager(t)
	sock, ctl, page := m.listen("9p", "unix", m.path("9p")), m.listen("ctl", "unix", m.path("ctl")), m.listen("http", "unix", m.path("http"))
	tcp := m.listen("gefs9p@disk.socket", "tcp", "127.0.0.1:0")
	browser := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", page)
	}}}
	defer browser.CloseIdleConnections()
	for round := range 2 {
		early := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c, err := client.Dial(ctx, sock, 8192)
			if err == nil {
				defer c.Close()
				_, err = c.Attach("glenda", "")
			}
			early <- err
		}()
		time.Sleep(100 * time.Millisecond) // until it waits
		p := m.start(0, "serve", "-A", "-m", smallCache, disk)
		if err := <-early; err != nil {
			t.Errorf("round %d: who came early: %v", round, err)
		}
		for _, addr := range []string{sock, tcp} {
			p.addr = addr
			p.attach(t)
		}
		if out := mustRun(t, "ctl", "-s", ctl, "df"); out == "" {
			t.Error("the console says nothing")
		}
		resp, err := browser.Get("http://x/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("/readyz: %s", resp.Status)
		}
		if code := p.signal(os.Interrupt); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.stderr())
		}
		for _, name := range []string{sock, ctl, page} {
			if _, err := os.Lstat(name); err != nil {
				t.Errorf("the server has removed the manager's socket: %v", err)
			}
		}
		for _, name := range []string{disk + ".sock", disk + ".ctl"} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("beside the manager's sockets there is %s", name)
			}
		}
	}
}

// TestPassedSocketsTakeThePlaceOfAddresses: the flags say what is for what, whatever the sockets are called.
func TestPassedSocketsTakeThePlaceOfAddresses(t *testing.T) {
	disk, m := newDisk(t), newManager(t)
	const unit = "gefs9p@disk.socket"
	ctl, sock := m.listen(unit, "unix", m.path("ctl")), m.listen(unit, "unix", m.path("9p"))
	_, port, err := net.SplitHostPort(m.listen(unit, "tcp", ":0"))
	if err != nil {
		t.Fatal(err)
	}
	p := m.start(0, "serve", "-A", "-m", smallCache, "--ctl", ctl, "-a", "unix!"+sock, "-a", "tcp!*!"+port, disk)
	p.attach(t)
	mustRun(t, "ctl", "-s", ctl, "df")
	p.addr = "127.0.0.1:" + port
	p.attach(t)
	p.signal(os.Interrupt)
	// The disk's own sockets, too; without a flag.
	m.files, m.names = nil, nil
	m.listen(unit, "unix", disk+".ctl")
	p = m.start(0, "serve", "-m", smallCache, disk)
	if p.addr != disk+".sock" {
		t.Errorf("it listens on %s", p.addr)
	}
	p.attach(t)
	mustRun(t, "ctl", "-s", disk, "df")
}

// TestPassedSocketsAreBelievedNoMoreThanFlags: what a flag would be refused for, a socket is refused for.
func TestPassedSocketsAreBelievedNoMoreThanFlags(t *testing.T) {
	disk := newDisk(t)
	for _, tt := range []struct {
		names, networks, args string
		code                  int
		say                   string
	}{
		{"9p", "tcp", "", 2, "who may attach over TCP"},
		{"x.socket", "tcp", "", 2, "who may attach over TCP"},
		{"unknown", "tcp", "", 2, "who may attach over TCP"},
		{"http", "any", "", 2, "status page"},
		{"ctl", "tcp", "-A", 2, "for a Unix socket"},
		{"ctl9p", "tcp", "", 2, "asks nobody for a proof"},
		{"ctl:ctl", "unix:unix", "", 2, "one console"},
		{"ctl", "unix", "--ctl none", 2, "one console"},
		{"9q", "unix", "", 1, `"9q"`},
	} {
		m := newManager(t)
		for i, name := range strings.Split(tt.names, ":") {
			switch strings.Split(tt.networks, ":")[i] {
			case "unix":
				m.listen(name, "unix", m.path(fmt.Sprint(i)))
			case "tcp":
				m.listen(name, "tcp", "127.0.0.1:0")
			case "any":
				m.listen(name, "tcp", ":0")
			}
		}
		cmd := m.command(0, append(append([]string{"serve", "-m", smallCache}, strings.Fields(tt.args)...), disk)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(errs.String(), tt.say) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s on %s: exit code %d\n%s", tt.names, tt.networks, code, errs.String())
		}
		if m.count("READY=1") > 0 {
			t.Errorf("%s on %s: it says that it is ready", tt.names, tt.networks)
		}
	}
}
