package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/internal/faults"
	"gefs9p/ninep"
)

// limitSize is how often each of the tests of row 10 does what it does.
var limitSize = faults.Size{Ordinary: 3, Short: 1}

// A limited is a disk of row 10 with the journal of its clients. Cases follow each other on it; one that
// failed leaves it to nobody.
type limited struct {
	dir, disk string
	sockets   string // a directory with room for some
	clients   int
	rnd       *rand.Rand
	sums      tally
	j         *journal // nil if there is no disk yet
}

// each does the cases of a row, each on what the one before has left.
func (l *limited) each(row *faults.Row, what string, try func() error) {
	row.Workers = 1
	names := func(yield func(string) bool) {
		for i := 1; yield(fmt.Sprint(what, "=", i)); i++ {
		}
	}
	row.Each(names, func(string) error {
		if l.j == nil {
			if err := l.make(); err != nil {
				return err
			}
		}
		err := try()
		if err != nil {
			l.j = nil
		}
		return err
	})
}

// make makes a small disk and an empty journal.
func (l *limited) make() error {
	l.disk = filepath.Join(l.dir, "disk")
	_, errs, code, err := command("ream", "--force", "-u", "glenda", "--size", "131088K", l.disk)
	if err != nil || code != 0 {
		return fmt.Errorf("ream: exit code %d, %w\n%s", code, err, errs)
	}
	l.j = newJournal(l.clients, l.rnd.Uint64(), &l.sums)
	return nil
}

// restart serves the disk, as it is after a kill or, with all, an end in good order, and compares.
func (l *limited) restart(ctx context.Context, all bool) error {
	if err := sound(l.disk); err != nil {
		return err
	}
	p, err := start(program, "serve", "-m", "32M", "--ctl", "none", "-a", "unix!"+filepath.Join(l.sockets, "sock"), l.disk)
	if err != nil {
		return err
	}
	return errors.Join(l.j.verify(ctx, p.dial, all), p.die())
}

// end ends the server with sig and returns its exit code.
func (p *process) end(sig syscall.Signal) (int, error) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", sig, err, p.stderr())
	}
	select {
	case <-p.wait:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(time.Minute):
		return 0, fmt.Errorf("the server does not end\n%s", p.stderr())
	}
}

// TestFullHostUnderASparseDisk has the file system on which a sparse disk lies fill up while the server writes.
// The server takes no more changes and says why, goes on reading, and ends with an error. Until there is
// room again, and then, what was synced is there.
func TestFullHostUnderASparseDisk(t *testing.T) {
	row := faultFlags.Row(t, 10, limitSize)
	host := &smallHost{limited{dir: t.TempDir(), sockets: t.TempDir(), clients: writers, rnd: row.Rand(10)}}
	if err := syscall.Mount("gefs9p-test", host.dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a file system that can fill up cannot be mounted: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(host.dir, 0); err != nil {
			t.Error(err)
		}
	}()
	host.each(row, "full", func() error {
		err := host.fill(t.Context())
		return errors.Join(err, host.leave(64<<20))
	})
	host.sums.report(t)
}

// A smallHost is a file system in memory for a disk, whose size can be set.
type smallHost struct{ limited }

// leave sets the size so that n bytes are free.
func (h *smallHost) leave(n int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(h.dir, &st); err != nil {
		return err
	}
	used := int64(st.Blocks-st.Bfree) * st.Bsize
	return syscall.Mount("gefs9p-test", h.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", used+n))
}

// fill serves the disk once until the host is full, and looks at what is left of it.
func (h *smallHost) fill(ctx context.Context) error {
	disk, j, rnd := h.disk, h.j, h.rnd
	if err := h.leave(int64(rnd.IntN(1 << 20))); err != nil {
		return err
	}
	serve := func() (*process, error) {
		return start(program, "serve", "-m", "32M", "--ctl", "none", "-a", "unix!"+filepath.Join(h.sockets, "sock"), disk)
	}
	p, err := serve()
	if err != nil {
		return err
	}
	defer p.end(syscall.SIGKILL)
	working, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = j.run(working, p.dial)
	var r *refusal
	switch {
	case !errors.As(err, &r):
		return fmt.Errorf("the host did not fill up, or the server died: %v\n%s", err, p.stderr())
	case !strings.Contains(err.Error(), "read only") && !strings.Contains(err.Error(), "no space left"):
		return fmt.Errorf("clients are told: %w", err)
	case !strings.Contains(p.stderr(), "read-only from now on") || !strings.Contains(p.stderr(), "no space left on device"):
		return fmt.Errorf("the log does not say what happened:\n%s", p.stderr())
	}
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	root, err := c.Attach("glenda", "")
	if err != nil {
		return err
	}
	if err := root.Fsync(); err == nil {
		return errors.New("an fsync succeeds on a disk that failed")
	}
	if _, _, err := j.compare(ctx, p.dial, true); err != nil {
		return fmt.Errorf("reading from the server that stopped writing: %w", err)
	}
	if rnd.IntN(2) == 0 {
		if err := p.die(); err != nil {
			return err
		}
	} else if code, err := p.end(syscall.SIGTERM); err != nil || code == 0 || !strings.Contains(p.stderr(), "could not be committed") {
		return fmt.Errorf("SIGTERM: %v, exit code %d\n%s", err, code, p.stderr())
	}
	if err := sound(disk); err != nil {
		return err
	}
	// The host is as full as before.
	if p, err = serve(); err != nil {
		return err
	}
	_, _, err = j.compare(ctx, p.dial, false)
	if derr := p.die(); err != nil || derr != nil {
		return errors.Join(err, derr)
	}
	if err := h.leave(64 << 20); err != nil {
		return err
	}
	if p, err = serve(); err != nil {
		return err
	}
	if err := j.verify(ctx, p.dial, false); err != nil {
		return err
	}
	working, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := j.run(working, p.dial); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if code, err := p.end(syscall.SIGTERM); err != nil || code != 0 {
		return fmt.Errorf("with room again: SIGTERM: %v, exit code %d\n%s", err, code, p.stderr())
	}
	return h.restart(ctx, true)
}

// TestNoDescriptorsLeft gives the server few file descriptors, and more connections than that. Who is connected goes
// on, the others get in as soon as somebody leaves, and nothing is lost when the server is killed then.
func TestNoDescriptorsLeft(t *testing.T) {
	row := faultFlags.Row(t, 10, limitSize)
	l := &limited{dir: t.TempDir(), sockets: t.TempDir(), clients: 8, rnd: row.Rand(11)}
	l.each(row, "crowd", func() error { return l.crowd(t.Context()) })
	l.sums.report(t)
}

// crowd serves the disk once with few descriptors.
func (l *limited) crowd(ctx context.Context) error {
	disk, j, rnd := l.disk, l.j, l.rnd
	limit := 24 + rnd.IntN(24) // the server itself and the clients of the journal need some
	p, err := start("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, limit), "sh", program, "serve", "-m", "32M", disk)
	if err != nil {
		return err
	}
	defer p.end(syscall.SIGKILL)
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- j.run(working, p.dial) }()
	time.Sleep(300 * time.Millisecond) // until they are all connected

	var in []*client.Conn
	defer func() {
		for _, c := range in {
			c.Close()
		}
	}()
	refused := 0
	for refused < 3 {
		if len(in) > limit {
			return fmt.Errorf("%d connections with %d descriptors", len(in), limit)
		}
		short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		c, err := p.dial(short)
		stop()
		if err != nil {
			refused++
			continue
		}
		in = append(in, c)
	}
	for _, c := range in { // those that are in are served
		root, err := c.Attach("glenda", "")
		if err == nil {
			_, err = root.Stat()
		}
		if err != nil {
			return fmt.Errorf("one of %d connections: %w", len(in), err)
		}
	}
	if !strings.Contains(p.stderr(), "too many open files") || strings.Count(p.stderr(), "\n") > 100 {
		return fmt.Errorf("the log does not say what happened, or says it too often:\n%s", p.stderr())
	}
	for _, c := range in {
		c.Close()
	}
	in = nil
	late, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	c, err := p.dial(late)
	if err != nil {
		return fmt.Errorf("after the crowd has left: %w\n%s", err, p.stderr())
	}
	c.Close()
	killed := rnd.IntN(2) == 0
	if killed {
		err = p.die()
	} else {
		cancel()
		var code int
		if code, err = p.end(syscall.SIGTERM); err == nil && code != 0 {
			err = fmt.Errorf("exit code %d\n%s", code, p.stderr())
		}
	}
	if rerr := <-ran; rerr != nil {
		err = errors.Join(err, fmt.Errorf("the server refused what it must do: %w\n%s", rerr, p.stderr()))
	}
	if err != nil {
		return err
	}
	return l.restart(ctx, !killed)
}

// littleMemory is all that the server of TestLittleMemory has.
const littleMemory = 64 << 20

// TestLittleMemory serves sixteen clients that write, and as many that read large files as fast as they can, in a
// control group with 64 MiB of memory in all, with what the kernel keeps of the disk: a server that wanted
// more would be killed.
func TestLittleMemory(t *testing.T) {
	if raceFlags != nil {
		t.Skip("the race detector needs more than that for itself")
	}
	row := faultFlags.Row(t, 10, limitSize)
	group, err := newMemoryGroup(littleMemory)
	if err != nil {
		t.Skipf("memory cannot be limited: %v", err)
	}
	t.Logf("limited by %s", group)
	defer os.Remove(group)
	l := &limited{dir: t.TempDir(), sockets: t.TempDir(), clients: writers, rnd: row.Rand(12)}
	l.each(row, "little", func() error { return l.little(t, group) })
	l.sums.report(t)
}

// newMemoryGroup makes a control group whose processes get so many bytes. It returns its directory.
func newMemoryGroup(limit int64) (string, error) {
	for _, version := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(version.root, fmt.Sprint("gefs9p-test-", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, version.file), []byte(strconv.FormatInt(limit, 10)), 0)
		if err == nil {
			return dir, nil
		}
		os.Remove(dir)
	}
	return "", errors.New("no control group can be made, of version 1 or 2; that takes root")
}

// little serves the disk once with little memory.
func (l *limited) little(t *testing.T, group string) error {
	ctx, disk, j, rnd := t.Context(), l.disk, l.j, l.rnd
	p, err := start("/bin/sh", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs && exec "$@"`, group),
		"sh", program, "serve", "--no-snapshots", disk)
	if err != nil {
		return err
	}
	defer p.end(syscall.SIGKILL)
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- j.run(working, p.dial) }()
	read := make(chan error, writers)
	for i := range writers {
		go func() { read <- p.readForLong(working, fmt.Sprint("large", i)) }()
	}
	select {
	case <-time.After(time.Duration(1000+rnd.IntN(2000)) * time.Millisecond):
	case <-p.wait:
		err = fmt.Errorf("the server ended: %v\n%s", p.err, p.stderr())
	}
	p.highWater(t)
	killed := rnd.IntN(2) == 0
	if err == nil && killed {
		err = p.die()
	} else if err == nil {
		cancel()
		var code int
		if code, err = p.end(syscall.SIGTERM); err == nil && code != 0 {
			err = fmt.Errorf("exit code %d\n%s", code, p.stderr())
		}
	}
	cancel()
	p.cmd.Process.Kill()
	if rerr := <-ran; rerr != nil {
		err = errors.Join(err, fmt.Errorf("the server refused what it must do: %w", rerr))
	}
	for range writers {
		err = errors.Join(err, <-read)
	}
	if err != nil {
		return err
	}
	return l.restart(ctx, !killed)
}

// readForLong writes a file of some MiB, unless it is there, and reads it with many requests under way
// until ctx ends or the server is gone.
func (p *process) readForLong(ctx context.Context, name string) error {
	c, err := p.dial(ctx)
	if err != nil {
		return nil
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	const size = 4 << 20
	root, err := c.Attach("glenda", "")
	if err != nil {
		return nil
	}
	f, err := root.Walk(name)
	if err == nil {
		f.Open(ninep.ORDWR)
	} else if f, err = create(root, name, 0o664, ninep.ORDWR); err != nil {
		return nil
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte(name), size/len(name)), 0); err != nil {
		return nil
	}
	for ctx.Err() == nil {
		r, err := f.NewReader(0, 16)
		if err != nil {
			return nil
		}
		n, err := io.Copy(io.Discard, r)
		r.Close()
		if err == nil && n < size-100 {
			return fmt.Errorf("%s: %d bytes are read, %d were written", name, n, size)
		}
	}
	return nil
}

// highWater logs how much memory the server has had, which is not all its own: code is shared.
func (p *process) highWater(t *testing.T) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return // it has ended, and somebody else says so
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(rest, "\n")
	t.Logf("of %d MiB the server took %s", littleMemory>>20, strings.TrimSpace(line))
}
