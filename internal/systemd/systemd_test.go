package systemd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// env is an environment of names and values.
func env(pairs ...string) func(string) string {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestWithoutAManagerNothingIsSaid(t *testing.T) {
	n, err := NewNotifier(env())
	if n != nil || err != nil {
		t.Fatalf("NewNotifier = %v, %v", n, err)
	}
	if err := n.Send(Ready, Status("hello")); err != nil {
		t.Error(err)
	}
	if d, err := WatchdogTime(env()); d != 0 || err != nil {
		t.Errorf("WatchdogTime = %v, %v", d, err)
	}
	if s, err := Sockets(env()); s != nil || err != nil {
		t.Errorf("Sockets = %v, %v", s, err)
	}
}

func TestAddressesThatAreNoneAreErrors(t *testing.T) {
	for _, addr := range []string{"run/notify", "vsock:2:1234", " "} {
		if n, err := NewNotifier(env("NOTIFY_SOCKET", addr)); n != nil || err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%q: %v, %v", addr, n, err)
		}
	}
}

func TestStatusIsOneLine(t *testing.T) {
	if got := Status("serving\nREADY=0\r\x00\x7f"); got != "STATUS=serving READY=0   " {
		t.Errorf("%q", got)
	}
	long := Status(strings.Repeat("ä", statusMost))
	if len(long) > statusMost+len("STATUS=") || !utf8.ValidString(long) {
		t.Errorf("%d bytes, valid: %v", len(long), utf8.ValidString(long))
	}
	if got := Extend(90 * time.Second); got != "EXTEND_TIMEOUT_USEC=90000000" {
		t.Errorf("%q", got)
	}
}

func TestWatchdogIsForOneProcess(t *testing.T) {
	me, other := fmt.Sprint(os.Getpid()), fmt.Sprint(os.Getpid()+1)
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
		ok        bool
	}{
		{"30000000", "", 30 * time.Second, true},
		{"30000000", me, 30 * time.Second, true},
		{"30000000", other, 0, true},
		{"1", me, time.Microsecond, true},
		{"0", me, 0, false},
		{"-5", me, 0, false},
		{"9223372036854775807", me, 0, false},
		{"99999999999999999999", me, 0, false},
		{"soon", me, 0, false},
		{"30000000", "me", 0, false},
		{"30000000", "-1", 0, false},
		{"", me, 0, true},
	} {
		got, err := WatchdogTime(env("WATCHDOG_USEC", tt.usec, "WATCHDOG_PID", tt.pid))
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
	}
}

func TestSocketsOfOthersAreLeftAlone(t *testing.T) {
	me, other := fmt.Sprint(os.Getpid()), fmt.Sprint(os.Getpid()+1)
	for _, tt := range []struct {
		pid, fds, names string
		ok              bool
	}{
		{"", "3", "", true},
		{other, "3", "", true},
		{me, "0", "", true},
		{"x", "1", "", false},
		{me, "", "", true},
		{me, "-1", "", false},
		{me, "1000000", "", false},
		{me, "many", "", false},
		{me, "2", "a", false},
		{me, "1", "a:b", false},
	} {
		got, err := Sockets(env("LISTEN_PID", tt.pid, "LISTEN_FDS", tt.fds, "LISTEN_FDNAMES", tt.names))
		if len(got) != 0 || (err == nil) != tt.ok {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
	}
}
