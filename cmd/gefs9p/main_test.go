// The tests here run the real program as a process of its own: they kill it, send it signals, and
// have two of them fight over a disk. What can be tested in-process is tested in internal/cli.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/client"
)

var program string // the gefs9p under test

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv("GORACE", "atexit_sleep_ms=0") // or each program built with -race waits a second at its end
	os.Exit(withProgram(m))
}

// withProgram builds the program, runs the tests and removes it.
func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gefs9p-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "gefs9p")
	args := append([]string{"build", "-o", program}, raceFlags...)
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A process is a server under test.
type process struct {
	t    testing.TB // nil unless it is serve's
	cmd  *exec.Cmd
	addr string // of the first listener
	wait chan struct{}
	err  error // of the process, once wait is closed

	mu   sync.Mutex
	errs bytes.Buffer // standard error
}

// Write keeps what the process says on standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.Write(b)
}

// stderr is what the process has said so far.
func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.String()
}

// serve starts the program with args and waits until it listens. It is killed at the end of the test
// if it still runs then.
func serve(t testing.TB, args ...string) *process {
	t.Helper()
	p, err := start(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	p.kept(t)
	return p
}

// kept has the process killed at the end of the test.
func (p *process) kept(t testing.TB) {
	p.t = t
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.wait
		if t.Failed() {
			t.Logf("the server said:\n%s", p.stderr())
		}
	})
}

// start runs a program that is gefs9p, or becomes it, and waits until it listens. Whoever starts it ends it.
func start(name string, args ...string) (*process, error) {
	return startUntil("listening ", name, args...)
}

// startUntil waits until the program's first line says that it has begun.
func startUntil(begun, name string, args ...string) (*process, error) {
	return startCommand(begun, exec.Command(name, args...))
}

// startCommand is startUntil for a command with an environment and files of its own.
func startCommand(begun string, cmd *exec.Cmd) (*process, error) {
	p := &process{wait: make(chan struct{}), cmd: cmd}
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string, 1)
	go func() {
		sc := bufio.NewScanner(out)
		if sc.Scan() {
			lines <- sc.Text()
		}
		io.Copy(io.Discard, out)
		p.err = p.cmd.Wait()
		close(p.wait)
	}()
	select {
	case line := <-lines:
		var ok bool
		if p.addr, ok = strings.CutPrefix(line, begun); ok {
			return p, nil
		}
		err = fmt.Errorf("the server's first line is %q", line)
	case <-p.wait:
		return nil, fmt.Errorf("%s ended before it had begun: %v\n%s", cmd.Args[1], p.err, p.stderr())
	case <-time.After(time.Minute):
		err = errors.New("the server does not listen")
	}
	p.cmd.Process.Kill()
	<-p.wait
	return nil, fmt.Errorf("%w\n%s", err, p.stderr())
}

// kill ends the process as a power cut would end the machine.
func (p *process) kill() {
	p.t.Helper()
	if err := p.die(); err != nil {
		p.t.Fatal(err)
	}
}

// die is kill for those who are no test.
func (p *process) die() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill: %w\n%s", err, p.stderr())
	}
	<-p.wait
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || exit.ExitCode() != -1 {
		return fmt.Errorf("the server had ended before it was killed: %v\n%s", p.err, p.stderr())
	}
	return nil
}

// signal sends sig and returns the exit code.
func (p *process) signal(sig os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.wait:
	case <-time.After(time.Minute):
		p.t.Fatalf("the server does not end\n%s", p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs the program to its end and returns what it said and its exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, code, err := command(args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr, code
}

// command is run for those who are no test.
func command(args ...string) (stdout, stderr string, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return "", "", 0, fmt.Errorf("gefs9p %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode(), nil
}

// mustRun runs the program, which is to succeed.
func mustRun(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, code := run(t, args...)
	if code != 0 {
		t.Fatalf("gefs9p %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// checkClean has a disk checked, strictly.
func checkClean(t testing.TB, disk string) {
	t.Helper()
	t.Logf("check:\n%s", mustRun(t, "check", "--strict", disk))
}

// sound has a disk checked, strictly.
func sound(disk string) error {
	out, errs, code, err := command("check", "--strict", disk)
	if err == nil && code != 0 {
		err = fmt.Errorf("gefs9p check --strict: exit code %d\n%s%s", code, out, errs)
	}
	return err
}

// attach connects to the server.
func (p *process) attach(t testing.TB) (*client.Conn, *client.Fid) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, p.addr, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	root, err := c.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}
