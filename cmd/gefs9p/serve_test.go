package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// newDisk makes a small disk for glenda.
func newDisk(t testing.TB) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	mustRun(t, "ream", "-u", "glenda", "--size", "131088K", disk)
	return disk
}

// put writes a file on the server.
func put(t testing.TB, root *client.Fid, name string, data []byte) {
	t.Helper()
	f, err := create(root, name, 0o664, ninep.OWRITE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Clunk(); err != nil {
		t.Fatal(err)
	}
}

func TestSignalsCommitAndEndWith0(t *testing.T) {
	disk := newDisk(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		p := serve(t, "serve", "-m", "16M", disk)
		_, root := p.attach(t)
		put(t, root, sig.String(), []byte(sig.String()))
		if code := p.signal(sig); code != 0 { // with a client connected
			t.Errorf("%v: exit code %d\n%s", sig, code, p.stderr())
		}
		checkClean(t, disk)
		p = serve(t, "serve", "-m", "16M", disk)
		_, root = p.attach(t)
		if _, err := root.Walk(sig.String()); err != nil {
			t.Errorf("%v lost what was written: %v", sig, err)
		}
		p.kill()
	}
}

// TestSecondSignalEndsAtOnce: a client that does not read its replies keeps the server from ending; whoever
// does not want to wait for that signals again.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "16M", disk)
	_, root := p.attach(t)
	put(t, root, "big", bytes.Repeat([]byte("x"), 8<<20))
	put(t, root, "after", nil)

	const msize = 1 << 20
	pipe, err := client.DialPipe(t.Context(), p.addr, msize)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if pipe.Out, err = ninep.AppendTattach(pipe.Out, 1, 1, ninep.NOFID, "glenda", ""); err != nil {
		t.Fatal(err)
	}
	if pipe.Out, err = ninep.AppendTwalk(pipe.Out, 2, 1, 2, "big"); err != nil {
		t.Fatal(err)
	}
	pipe.Out = ninep.AppendTopen(pipe.Out, 3, 2, ninep.OREAD)
	for i := range 64 {
		pipe.Out = ninep.AppendTread(pipe.Out, uint16(4+i), 2, 0, msize-ninep.IOHDRSZ)
	}
	if err := pipe.Flush(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until the server waits for us

	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(p.stderr(), "shutting down") {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("nothing happens\n%s", p.stderr())
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-p.wait:
		t.Fatal("the server did not wait for its client: the second signal is not tested")
	case <-time.After(200 * time.Millisecond):
	}
	if code := p.signal(syscall.SIGTERM); code <= 0 {
		t.Errorf("exit code %d after a second signal", code)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("the server took %v to end", d)
	}
	checkClean(t, disk)
	p = serve(t, "serve", "-m", "16M", disk)
	_, root = p.attach(t)
	if _, err := root.Walk("after"); err != nil {
		t.Errorf("what was written before the first signal: %v", err)
	}
}

func TestServerKilledLeavesASocketThatTheNextTakesOver(t *testing.T) {
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "16M", disk)
	p.kill()
	if _, err := os.Lstat(p.addr); err != nil {
		t.Fatalf("the killed server's socket: %v", err)
	}
	p = serve(t, "serve", "-m", "16M", disk)
	p.attach(t)
}

func TestTwoServersOnOneDiskAreRefused(t *testing.T) {
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "16M", disk)
	for _, args := range [][]string{{"serve", disk}, {"check", disk}, {"ream", "--force", "-u", "rob", disk}, {"-f", disk}} {
		out, errs, code := run(t, args...)
		if code == 0 || out != "" || !strings.Contains(errs, "already served") {
			t.Errorf("%v: exit code %d, %s%s", args, code, out, errs)
		}
	}
	p.attach(t) // still there
}

// TestStdioIsAConnection has the program speak 9P on a pair of pipes, as under ssh.
func TestStdioIsAConnection(t *testing.T) {
	disk := newDisk(t)
	for round := range 2 {
		cmd := exec.Command(program, "serve", "-s", "-m", "16M", disk)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := client.New(ctx, pipes{out, in}, 64<<10)
		if err != nil {
			t.Fatalf("%v\n%s", err, &errs)
		}
		root, err := c.Attach("glenda", "")
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			put(t, root, "file", []byte("hello"))
			c.Close() // the server's only client hangs up: it ends
		} else {
			if _, err := root.Walk("file"); err != nil {
				t.Error(err)
			}
			cmd.Process.Signal(syscall.SIGTERM) // while the client stays
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, &errs)
		}
		c.Close()
		checkClean(t, disk)
	}
}

type pipes struct {
	io.ReadCloser
	w io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }

func (p pipes) Close() error {
	p.w.Close()
	return p.ReadCloser.Close()
}

func TestDiskOfSomebodyElseIsRefused(t *testing.T) {
	disk := newDisk(t)
	if err := os.Chmod(disk, 0); err != nil {
		t.Fatal(err)
	}
	asNobody := func(args ...string) (string, int) {
		cmd := exec.Command(program, args...)
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		cmd.Run()
		return errs.String(), cmd.ProcessState.ExitCode()
	}
	if os.Getuid() == 0 {
		// Nobody needs to find the program and the disk.
		for dir := disk; dir != os.TempDir(); dir = filepath.Dir(dir) {
			if dir != disk {
				os.Chmod(dir, 0o755)
			}
		}
		os.Chmod(filepath.Dir(program), 0o755)
	}
	for _, args := range [][]string{{"serve", disk}, {"check", disk}, {"ream", "--force", "-u", "rob", disk}} {
		errs, code := asNobody(args...)
		if code == 0 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "permission denied") || !strings.Contains(errs, disk) {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
	}
}
