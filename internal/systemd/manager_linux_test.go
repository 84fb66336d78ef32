package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMessagesArriveWhole(t *testing.T) {
	for _, addr := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@gefs9p-test-%d", os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n, err := NewNotifier(env("NOTIFY_SOCKET", addr))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range [][]string{{Ready, Status("it serves")}, {Watchdog}, {Stopping, Extend(time.Minute)}} {
			if err := n.Send(m...); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			l.SetReadDeadline(time.Now().Add(10 * time.Second))
			k, err := l.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(buf[:k]), strings.Join(m, "\n"); got != want {
				t.Errorf("%s: %q, want %q", addr, got, want)
			}
		}
	}
}

// TestADeafManagerHoldsUpNobody: one that is not there, and one that does not read.
func TestADeafManagerHoldsUpNobody(t *testing.T) {
	addr := filepath.Join(t.TempDir(), "notify")
	n := &Notifier{addr}
	if err := n.Send(Watchdog); err == nil {
		t.Error("nobody listens, and it was sent")
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	for err = nil; err == nil; {
		err = n.Send(Watchdog)
		if time.Since(began) > 20*time.Second {
			t.Fatal("it can be sent for ever")
		}
	}
	if !os.IsTimeout(err) && !strings.Contains(err.Error(), "timeout") {
		t.Errorf("nobody reads: %v", err)
	}
}

// pass puts the files of sockets on numbers from first on, as a manager does.
func pass(t *testing.T, first int, all ...interface{ File() (*os.File, error) }) {
	t.Helper()
	for i, s := range all {
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(f.Fd()), first+i, 0); err != nil { // without close-on-exec
			t.Fatal(err)
		}
		f.Close()
	}
}

// isOpen reports whether fd is an open file.
func isOpen(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil
}

func TestPassedSocketsAcceptUnderTheirNames(t *testing.T) {
	const first = 700
	path := filepath.Join(t.TempDir(), "sock")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	u.SetUnlinkOnClose(false)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pass(t, first, u, tcp.(*net.TCPListener), tcp.(*net.TCPListener))
	u.Close() // what listens from here on is what was passed
	tcp.Close()
	me := fmt.Sprint(os.Getpid())
	all, err := sockets(env("LISTEN_PID", me, "LISTEN_FDS", "3", "LISTEN_FDNAMES", "9p:http:"), first)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"9p", "http", "unknown"} {
		if all[i].Name != want {
			t.Errorf("socket %d is called %q, not %q", i, all[i].Name, want)
		}
		if isOpen(first + i) {
			t.Errorf("file %d is still open", first+i)
		}
	}
	for _, s := range all[:2] {
		c, err := net.Dial(s.Addr().Network(), s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		c.Close()
	}
	for _, s := range all {
		s.Close()
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the manager's socket is gone: %v", err)
	}
}

func TestWhatDoesNotListenIsRefused(t *testing.T) {
	const first = 720
	good, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	c, err := net.Dial("tcp", good.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tt := range []struct {
		name string
		bad  interface{ File() (*os.File, error) }
		say  string
	}{
		{"connected", c.(*net.TCPConn), "does not listen"},
		{"udp", udp.(*net.UDPConn), "stream"},
		{"file", filer(file.Fd()), "socket"},
	} {
		pass(t, first, good.(*net.TCPListener), tt.bad)
		all, err := sockets(env("LISTEN_PID", fmt.Sprint(os.Getpid()), "LISTEN_FDS", "2", "LISTEN_FDNAMES", "good:"+tt.name), first)
		if all != nil || err == nil || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), "("+tt.name+")") {
			t.Errorf("%s: %v, %v", tt.name, all, err)
		}
		if isOpen(first) || isOpen(first+1) {
			t.Errorf("%s: files are still open", tt.name)
		}
	}
	// What was announced and not passed.
	if all, err := sockets(env("LISTEN_PID", fmt.Sprint(os.Getpid()), "LISTEN_FDS", "1"), first); all != nil || err == nil {
		t.Errorf("no file: %v, %v", all, err)
	}
}

// A filer is an open file that can be passed as sockets are.
type filer uintptr

func (f filer) File() (*os.File, error) {
	fd, err := syscall.Dup(int(f))
	return os.NewFile(uintptr(fd), "file"), err
}
