package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/cons"
	"gefs9p/internal/faults"
)

// faultFlags are for the rows of faults of this package.
var faultFlags = faults.NewFlags()

// writers is how many clients write at once in the rows with a journal.
const writers = 16

// dial connects a client of a journal.
func (p *process) dial(ctx context.Context) (*client.Conn, error) {
	return client.Dial(ctx, p.addr, 1<<20)
}

// TestKillsUnderAJournal kills the server again and again under sixteen clients that note what was
// acknowledged. What the next server finds on the same disk must be a state that the file system had, with all
// that was synced in it; the strict check finds the disk sound. Snapshots come and go meanwhile.
func TestKillsUnderAJournal(t *testing.T) {
	row := faultFlags.Row(t, 4, faults.Size{Ordinary: 20, Short: 5})
	row.Workers = 1
	var sums tally
	var s *killSeries
	kills := 0
	defer func() { s.close() }()
	row.Each(killNames, func(name string) error {
		var series, kill int
		if _, err := fmt.Sscanf(name, "series=%d kill=%d", &series, &kill); err != nil {
			return err
		}
		if s == nil || s.series != series {
			s.close()
			var err error
			if s, err = newKillSeries(t.TempDir(), series, row, &sums); err != nil {
				return err
			}
		}
		for s.done < kill { // to try one again, all those before it
			s.done++
			kills++
			if err := s.kill(t.Context()); err != nil {
				s.close()
				s = nil
				return err
			}
		}
		if kill%20 == 0 {
			t.Logf("series %d: %d kills; so far %v", series, kill, &sums)
		}
		return nil
	})
	if kills < 5 { // on a slow machine nobody may have done anything before so few
		t.Log(&sums)
		return
	}
	sums.report(t)
}

// killNames names kills for ever. Those of one series are done to one disk, so that what they leave
// gathers; now and then there is a new one, for what happens only to young disks.
func killNames(yield func(string) bool) {
	for series := 0; ; series++ {
		for kill := 1; kill <= 200; kill++ {
			if !yield(fmt.Sprintf("series=%d kill=%d", series, kill)) {
				return
			}
		}
	}
}

// A killSeries is a disk under kills.
type killSeries struct {
	series int
	done   int // kills
	disk   string
	rnd    *rand.Rand
	j      *journal
	p      *process // serving the disk, and compared with the journal
}

// newKillSeries makes a disk and serves it.
func newKillSeries(dir string, series int, row *faults.Row, sums *tally) (*killSeries, error) {
	rnd := row.Rand(uint64(series))
	s := &killSeries{series: series, disk: filepath.Join(dir, "disk"), rnd: rnd, j: newJournal(writers, rnd.Uint64(), sums)}
	if _, errs, code, err := command("ream", "-u", "glenda", "--size", "131088K", s.disk); err != nil || code != 0 {
		return nil, fmt.Errorf("ream: exit code %d, %w\n%s", code, err, errs)
	}
	var err error
	s.p, err = start(program, s.args()...)
	return s, err
}

func (s *killSeries) args() []string {
	return []string{"serve", "-m", "32M", "--no-snapshots", s.disk}
}

// close ends the series. The disk is the test's.
func (s *killSeries) close() {
	if s != nil && s.p != nil {
		s.p.cmd.Process.Kill()
		<-s.p.wait
	}
}

// kill lets the clients work, kills the server, perhaps another one or two while they start, starts one more and
// compares what it has with the journal.
func (s *killSeries) kill(ctx context.Context) error {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.j.run(working, s.p.dial) }()
	snapped := make(chan struct{})
	go func() {
		defer close(snapped)
		snapshots(working, s.disk)
	}()
	time.Sleep(time.Duration(s.rnd.IntN(400)) * time.Millisecond)
	err := s.p.die()
	rerr := <-ran
	cancel()
	<-snapped
	if rerr != nil {
		rerr = fmt.Errorf("the server refused what it must do: %w\n%s", rerr, s.p.stderr())
	}
	if err := errors.Join(err, rerr, sound(s.disk)); err != nil {
		return err
	}
	for s.rnd.IntN(4) == 0 {
		if err := s.killWhileItStarts(time.Duration(s.rnd.IntN(40)) * time.Millisecond); err != nil {
			return err
		}
	}
	p, err := start(program, s.args()...)
	if err != nil {
		return err
	}
	s.p = p
	if err := s.j.verify(ctx, p.dial, false); err != nil {
		return fmt.Errorf("%w\n%s", err, p.stderr())
	}
	return nil
}

// killWhileItStarts kills a server so long after its start, whatever it does then.
func (s *killSeries) killWhileItStarts(after time.Duration) error {
	p := &process{cmd: exec.Command(program, s.args()...), wait: make(chan struct{})}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.wait)
	}()
	time.Sleep(after)
	if err := p.die(); err != nil {
		return err
	}
	return sound(s.disk)
}

// snapshots makes and deletes a few snapshots in turn, on the console of the server, until ctx ends or the server
// is gone.
func snapshots(ctx context.Context, disk string) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", disk+".ctl")
	if err != nil {
		return
	}
	console, err := cons.NewClient(ctx, nc)
	if err != nil {
		return
	}
	defer console.Close()
	for labels := []string{"monday", "tuesday", "wednesday"}; ; labels = append(labels[1:], labels[0]) {
		// From the kill before there may be one of that name, or none.
		for _, command := range [][]string{{"snap", "-d", labels[0]}, {"snap", "main", labels[0]}} {
			if err := console.Run(ctx, command, io.Discard); err != nil && err != cons.ErrReported {
				return
			}
		}
	}
}
