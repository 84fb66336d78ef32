package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gefs9p/dial"
)

// startNull starts a Null for a run: on a Unix socket or on the loopback interface, as like is; as a
// process if there is a command for it, or else in this one. stop ends it.
func startNull(ctx context.Context, like string, command []string) (addr string, stop func(), err error) {
	network, _, err := dial.Parse(like)
	if err != nil {
		return "", nil, err
	}
	remove := func() {}
	address := "127.0.0.1:0"
	switch network {
	case "unix":
		dir, err := os.MkdirTemp("", "null9p")
		if err != nil {
			return "", nil, err
		}
		remove = func() { os.RemoveAll(dir) }
		address = filepath.Join(dir, "s")
	case "tcp6":
		address = "[::1]:0"
	}
	var end func()
	if len(command) > 0 {
		if network == "unix" {
			address = "unix!" + address
		}
		addr, end, err = spawnNull(ctx, address, command)
	} else {
		addr, end, err = listenNull(network, address)
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return addr, func() { end(); remove() }, nil
}

// listenNull runs a Null in this process.
func listenNull(network, address string) (addr string, stop func(), err error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return "", nil, err
	}
	var n Null
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Serve(l) // if it fails, so does the run
	}()
	return l.Addr().String(), func() { n.Close(); <-done }, nil
}

// spawnNull runs command with addr, which must answer with a line of where it listens.
func spawnNull(ctx context.Context, addr string, command []string) (at string, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	args := append(append([]string(nil), command[1:]...), addr)
	cmd := exec.CommandContext(ctx, command[0], args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() {
		cancel()
		cmd.Wait() // ended by a signal, as it should
	}
	line, err := bufio.NewReader(io.LimitReader(out, 4096)).ReadString('\n')
	at, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listening ")
	if !ok || err != nil {
		stop()
		return "", nil, fmt.Errorf("%s: it says %q, not where it listens", command[0], line)
	}
	return at, stop, nil
}
