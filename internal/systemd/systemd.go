// Package systemd is what a service says to the manager that started it, and what it gets from it: the
// notifications of sd_notify(3), the watchdog of sd_watchdog_enabled(3), the sockets of sd_listen_fds(3).
// systemd is the manager they are named after; others, and containers, speak the same.
//
// All of it is announced in environment variables. Where they are not set there is no manager: a nil *Notifier is
// valid and says nothing to nobody, and there are no sockets. The environment is read through a function, so that
// a test can be a manager.
//
// The hard rule: what the manager is told is true at that moment. Nothing here sends anything by itself.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a Notifier can send, beside the results of Status and Extend.
const (
	Ready    = "READY=1"    // clients are answered
	Stopping = "STOPPING=1" // the service ends
	Watchdog = "WATCHDOG=1" // the service is well
)

// statusMost is how long a status may be, in bytes.
const statusMost = 1024

// Status says in a line, which systemctl status shows, what the service does. Line ends become blanks, and what is
// too long is cut.
func Status(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > statusMost {
		text = strings.ToValidUTF8(text[:statusMost], "")
	}
	return "STATUS=" + text
}

// Extend asks for d more, from now on, for what the manager is waiting for: the beginning or the end of the service.
func Extend(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10)
}

// sendTime is how long a manager may take to have room for a message.
const sendTime = time.Second

// A Notifier sends messages to the manager. A nil one sends none. It is safe for concurrent use.
type Notifier struct{ addr string }

// NewNotifier returns what sends to the manager that env (os.Getenv) names in NOTIFY_SOCKET, nil if it names none.
func NewNotifier(env func(string) string) (*Notifier, error) {
	addr := env("NOTIFY_SOCKET")
	switch {
	case addr == "":
		return nil, nil
	case addr[0] != '/' && addr[0] != '@': // an abstract name; package net takes the same spelling
		return nil, fmt.Errorf("NOTIFY_SOCKET=%q is no Unix socket", addr)
	}
	return &Notifier{addr}, nil
}

// Send sends assignments, together in one message. The error is that of the socket; the service can go on without
// a manager that does not listen, and the next message may arrive again.
func (n *Notifier) Send(assignments ...string) error {
	if n == nil {
		return nil
	}
	// A socket for each message: the manager may have made its own anew.
	c, err := net.Dial("unixgram", n.addr)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if _, err := c.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// WatchdogTime returns how often at least the manager wants to hear Watchdog, 0 if it does not. It gives up on a
// service that it has not heard in that time; so half of it is a good measure. Source: sd_watchdog_enabled(3).
func WatchdogTime(env func(string) string) (time.Duration, error) {
	val := env("WATCHDOG_USEC")
	if val == "" {
		return 0, nil
	}
	if mine, err := isMine(env, "WATCHDOG_PID"); err != nil {
		return 0, err
	} else if !mine && env("WATCHDOG_PID") != "" {
		return 0, nil
	}
	usec, err := strconv.ParseInt(val, 10, 64)
	if err != nil || usec <= 0 || usec > int64(1<<63-1)/int64(time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC=%q is no time in microseconds", val)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// isMine reports whether the variable holds the number of this process: what is announced may be for an ancestor.
func isMine(env func(string) string, name string) (bool, error) {
	val := env(name)
	if val == "" {
		return false, nil
	}
	pid, err := strconv.Atoi(val)
	if err != nil || pid <= 0 {
		return false, fmt.Errorf("%s=%q is no process", name, val)
	}
	return pid == os.Getpid(), nil
}
