package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"gefs9p/internal/faults"
)

// A storage is a process that exports a disk over NBD. Killed, it forgets what it was not told to flush.
type storage struct {
	socket, image string
	cmd           *exec.Cmd
}

// newStorage exports an image of zeros by nbdkit, whose cache holds writes back until a flush.
func newStorage(dir string) (*storage, error) {
	s := &storage{socket: filepath.Join(dir, "nbd"), image: filepath.Join(dir, "image")}
	f, err := os.Create(s.image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(131088 << 10); err != nil {
		return nil, err
	}
	return s, s.start()
}

// start starts the process and waits until it can be connected to.
func (s *storage) start() error {
	if err := os.RemoveAll(s.socket); err != nil {
		return err
	}
	s.cmd = exec.Command("nbdkit", "-f", "-U", s.socket, "--filter=cache", "file", s.image, "cache=writeback")
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if nc, err := net.Dial("unix", s.socket); err == nil {
			return nc.Close()
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.kill()
	return fmt.Errorf("nbdkit does not listen on %s", s.socket)
}

func (s *storage) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *storage) address() string { return "nbd+unix:///?socket=" + s.socket }

// replayed says how many writes a server has made again on new connections, by what it logged.
func replayed(log string) (connections, writes int) {
	for _, m := range regexp.MustCompile(`connected to the disk again.* replayed=(\d+)`).FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(m[1])
		connections, writes = connections+1, writes+n
	}
	return connections, writes
}

// TestStorageIsKilledUnderAJournal kills the server of the storage twenty times under sixteen clients that note what
// was acknowledged, and starts it again; the kills take along whatever was not flushed. Nothing acknowledged may be
// missing afterwards: gefs9p has lived on. Then both are killed at once, and all that was synced must be there, on a
// disk that the strict check finds sound.
func TestStorageIsKilledUnderAJournal(t *testing.T) {
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("nbdkit is not installed (Debian: nbdkit)")
	}
	dir, err := os.MkdirTemp("", "nbd") // with a short name, for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("TMPDIR", dir)
	row := faultFlags.Row(t, 13, faults.Size{Ordinary: 20, Short: 5})
	row.Workers = 1
	st, err := newStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { st.kill() }()
	mustRun(t, "ream", "-u", "glenda", st.address())
	var sums tally
	rnd := row.Rand(0)
	j := newJournal(writers, rnd.Uint64(), &sums)
	args := []string{"serve", "-m", "32M", "--no-snapshots", "--ctl", "none", "-a", "unix!" + filepath.Join(dir, "9p"), st.address()}
	p := serve(t, args...)
	kills, connections, writes := 0, 0, 0
	count := func() {
		c, w := replayed(p.stderr())
		connections, writes = connections+c, writes+w
	}
	row.Each(func(yield func(string) bool) {
		for kill := 1; yield(fmt.Sprintf("kill=%d", kill)); kill++ {
		}
	}, func(name string) error {
		kills++
		if err := st.killUnder(t.Context(), j, p, rnd); err != nil {
			return fmt.Errorf("%w\n%s", err, p.stderr())
		}
		var kill int
		if _, err := fmt.Sscanf(name, "kill=%d", &kill); err != nil || kill%5 > 0 {
			return err
		}
		// Both at once.
		working, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- j.run(working, p.dial) }()
		time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		st.kill()
		err := p.die()
		cancel()
		if rerr := <-ran; rerr != nil {
			return rerr
		}
		if err != nil {
			return err
		}
		count()
		if err := st.start(); err != nil {
			return err
		}
		if err := sound(st.address()); err != nil {
			return err
		}
		if p, err = start(program, args...); err != nil {
			return err
		}
		return j.verify(t.Context(), p.dial, false)
	})
	p.cmd.Process.Kill()
	<-p.wait
	if kills%5 > 0 {
		count()
	}
	t.Logf("connected %d times again, %d writes made again", connections, writes)
	if !t.Failed() && kills >= 5 && (connections == 0 || writes == 0) {
		t.Error("no write was ever made again: this proves nothing")
	}
	if kills < 5 { // on a slow machine nobody may have done anything before so few
		t.Log(&sums)
		return
	}
	sums.report(t)
}

// killUnder kills the storage while clients work, starts it again, lets them go on for a while, and looks that
// nothing is missing.
func (s *storage) killUnder(ctx context.Context, j *journal, p *process, rnd *rand.Rand) error {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- j.run(working, p.dial) }()
	time.Sleep(time.Duration(rnd.IntN(250)) * time.Millisecond)
	s.kill()
	time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
	err := s.start()
	time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	cancel()
	if rerr := <-ran; rerr != nil {
		return fmt.Errorf("the server refused what it must do: %w", rerr)
	}
	if err != nil {
		return err
	}
	return j.verify(ctx, p.dial, true)
}
