package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/internal/faults"
)

// TestPowerLossOfARealKernel runs the server in a virtual machine, user-mode Linux, on the machine's disk or
// in a sparse file on its ext4, and kills the machine under sixteen clients that note what was acknowledged.
// With it goes everything that its kernel had not yet written to the disk, which is a file out here. The
// next machine must find a state that there was, with all that was synced in it, and a sound disk.
func TestPowerLossOfARealKernel(t *testing.T) {
	row := faultFlags.Row(t, 12, faults.Size{Ordinary: 8})
	if _, one := row.One(); !row.Long() && !one {
		t.Skip("boots machines, which scripts/powerloss has time for")
	}
	uml, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Skip("no user-mode Linux: there is no program linux.uml (Debian package user-mode-linux)")
	}
	row.Workers = 1
	kinds := []string{"raw", "ext4"}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		mke2fs = "/sbin/mke2fs" // which is in the path of the superuser only
	}
	if _, err := os.Stat(mke2fs); err != nil {
		t.Log("no disks in a file on ext4: there is no mke2fs (Debian package e2fsprogs)")
		kinds = kinds[:1]
	}
	work := t.TempDir()
	initrd, err := makeInitrd(work)
	if err != nil {
		t.Fatal(err)
	}
	var s *powerSeries
	defer func() { s.close() }()
	var sums tally
	row.Each(powerNames(kinds), func(name string) error {
		var disk string
		var series, loss int
		if _, err := fmt.Sscanf(name, "disk=%s series=%d loss=%d", &disk, &series, &loss); err != nil {
			return err
		}
		if s == nil || s.series != series {
			s.close()
			var err error
			rnd := row.Rand(uint64(series))
			s = &powerSeries{
				series: series, kind: disk, uml: uml, mke2fs: mke2fs, initrd: initrd, rnd: rnd,
				dir: t.TempDir(), j: newJournal(writers, rnd.Uint64(), &sums),
			}
			if err = s.make(); err != nil {
				s = nil
				return err
			}
		}
		for s.done < loss { // to try one again, all those before it
			s.done++
			if err := s.lose(t.Context()); err != nil {
				s.close()
				s = nil
				return err
			}
		}
		return nil
	})
	sums.report(t)
}

// powerNames names power losses for ever. Those of one series are of one disk; the kinds of disks take turns.
func powerNames(kinds []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for series := 0; ; series++ {
			for loss := 1; loss <= 4; loss++ {
				if !yield(fmt.Sprintf("disk=%s series=%d loss=%d", kinds[series%len(kinds)], series, loss)) {
					return
				}
			}
		}
	}
}

// A powerSeries is a disk in machines that lose power.
type powerSeries struct {
	series      int
	kind        string // raw or ext4
	done        int    // losses
	uml, mke2fs string // programs
	initrd      string
	dir         string
	rnd         *rand.Rand
	j           *journal
	m           *machine // running, and compared with the journal
}

func (s *powerSeries) image() string { return filepath.Join(s.dir, "disk") }

// make makes the disk and starts the first machine.
func (s *powerSeries) make() (err error) {
	switch s.kind {
	case "raw":
		if _, errs, code, err := command("ream", "-u", "glenda", "--size", "131088K", s.image()); err != nil || code != 0 {
			return fmt.Errorf("ream: exit code %d, %w\n%s", code, err, errs)
		}
	case "ext4":
		out, err := exec.Command(s.mke2fs, "-q", "-F", "-t", "ext4", s.image(), "192M").CombinedOutput()
		if err != nil {
			return fmt.Errorf("mke2fs: %w\n%s", err, out)
		}
	}
	s.m, err = s.boot()
	return err
}

func (s *powerSeries) close() {
	if s != nil && s.m != nil {
		s.m.kill()
		s.m = nil
	}
}

// lose lets the clients work, ends the machine, starts another and compares what it has with the journal.
func (s *powerSeries) lose(ctx context.Context) error {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.j.run(working, s.m.dial) }()
	time.Sleep(time.Duration(200+s.rnd.IntN(2800)) * time.Millisecond)
	s.m.kill()
	if err := <-ran; err != nil {
		return fmt.Errorf("the server refused what it must do: %w\n%s", err, s.m.said())
	}
	var err error
	if s.m, err = s.boot(); err != nil {
		return err
	}
	if err := s.j.verify(ctx, s.m.dial, false); err != nil {
		return fmt.Errorf("%w\n%s", err, s.m.said())
	}
	return nil
}

// A machine is a virtual one that serves the disk.
type machine struct {
	cmd  *exec.Cmd
	wait chan struct{} // closed when no process of it is left

	mu    sync.Mutex
	lines []*line // our ends of its serial lines
	dials int
	text  bytes.Buffer
}

// boot starts a machine and waits until the server in it is ready, on a disk that it found sound.
func (s *powerSeries) boot() (*machine, error) {
	m := &machine{wait: make(chan struct{})}
	// Between a machine that writes dirty pages almost at once, so that some of them are there before
	// the others, and one that writes only what it is told to.
	expire := []int{1, 20, 3000}[s.rnd.IntN(3)]
	args := []string{
		"mem=192M", "initrd=" + s.initrd, "ubd0=" + s.image(), "uml_dir=" + s.dir, "umid=vm", "quiet", "panic=1",
		"con=null", "con0=null,fd:1", "ssl=null",
		"vm.disk=" + s.kind, fmt.Sprint("vm.expire=", expire), fmt.Sprint("vm.lines=", writers),
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	for i := range writers {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			m.closeLines()
			return nil, err
		}
		theirs = append(theirs, os.NewFile(uintptr(fds[1]), "line"))
		ours := os.NewFile(uintptr(fds[0]), "line")
		c, err := net.FileConn(ours)
		ours.Close()
		if err != nil {
			m.closeLines()
			return nil, err
		}
		m.lines = append(m.lines, newLine(c))
		args = append(args, fmt.Sprintf("ssl%d=fd:%d", i, 3+i)) // as ExtraFiles numbers them
	}
	m.cmd = exec.Command(s.uml, args...)
	m.cmd.Dir, m.cmd.Env = s.dir, []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	m.cmd.ExtraFiles = theirs
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		m.closeLines()
		return nil, err
	}
	m.cmd.Stdout, m.cmd.Stderr = w, w
	err = m.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		m.closeLines()
		return nil, err
	}
	ready := make(chan struct{})
	go m.listen(r, ready)
	select {
	case <-ready:
		return m, nil
	case <-m.wait:
		err = errors.New("the machine ended")
	case <-time.After(5 * time.Minute): // of a second or two, where nobody else wants the processor
		err = errors.New("the machine does not become ready")
	}
	m.kill()
	return nil, fmt.Errorf("%w\n%s", err, m.said())
}

// listen reads the console until the last process of the machine is gone.
func (m *machine) listen(r *os.File, ready chan<- struct{}) {
	defer close(m.wait)
	defer r.Close()
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		m.mu.Lock()
		fmt.Fprintln(&m.text, line)
		m.mu.Unlock()
		if line == "vm: ready" {
			close(ready)
			ready = nil
		}
	}
	m.cmd.Wait()
}

// said is what was on the console.
func (m *machine) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// kill ends the machine and all its processes at once, and waits until none of them can write any more.
func (m *machine) kill() {
	syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
	<-m.wait
	m.closeLines()
}

func (m *machine) closeLines() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		l.Close()
	}
	m.lines = nil
}

// dial connects a client of a journal by a serial line, one after the other and then the first one again:
// whoever had that before has closed it.
func (m *machine) dial(ctx context.Context) (*client.Conn, error) {
	m.mu.Lock()
	if len(m.lines) == 0 {
		m.mu.Unlock()
		return nil, net.ErrClosed
	}
	l := m.lines[m.dials%len(m.lines)]
	m.dials++
	m.mu.Unlock()
	return client.New(ctx, &lineUser{line: l}, 64<<10)
}

// makeInitrd builds the server and the machine's first process, without anything of this machine's that
// they would need, and packs them for a kernel to begin with.
func makeInitrd(dir string) (string, error) {
	var b bytes.Buffer
	for _, name := range []string{"dev", "proc", "tmp", "disk"} {
		addCpio(&b, name, 0o040755, nil)
	}
	for name, pkg := range map[string]string{"init": "./testdata/vminit", "gefs9p": "."} {
		exe := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", exe, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		data, err := os.ReadFile(exe)
		if err != nil {
			return "", err
		}
		addCpio(&b, name, 0o100755, data)
	}
	addCpio(&b, "TRAILER!!!", 0, nil)
	initrd := filepath.Join(dir, "initrd")
	return initrd, os.WriteFile(initrd, b.Bytes(), 0o600)
}

// addCpio adds a file to an archive of the form that the kernel unpacks. Source: the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
func addCpio(b *bytes.Buffer, name string, mode int, data []byte) {
	ino := b.Len() + 1 // any number that no other file has
	fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	pad := func() { io.CopyN(b, zeros{}, int64(-b.Len()&3)) }
	pad()
	b.Write(data)
	pad()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
