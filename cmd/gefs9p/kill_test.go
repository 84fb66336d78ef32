package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/cons"
)

var kills = flag.Int("kills", 20, "how often TestKillsUnderAJournalLoseNothingSynced kills the server")

// random returns the source of a test's randomness, and its seed, which it logs.
func random(t testing.TB) (*rand.Rand, uint64) {
	for *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	return rand.New(rand.NewPCG(*seed, 0)), *seed
}

// dial connects a client of a journal.
func (p *process) dial(ctx context.Context) (*client.Conn, error) {
	return client.Dial(ctx, p.addr, 1<<20)
}

// writers is how many clients write at once in the tests with a journal.
const writers = 16

// TestKillsUnderAJournalLoseNothingSynced kills the server again and again under sixteen clients that note what was
// acknowledged, mostly in the middle of their work, sometimes while it starts. What the next server finds on
// the same disk must be a state that the file system had, with all that was synced in it; and the strict
// check finds the disk sound. Snapshots come and go meanwhile.
func TestKillsUnderAJournalLoseNothingSynced(t *testing.T) {
	rnd, seed := random(t)
	disk := newDisk(t)
	j := newJournal(writers, seed)
	began := time.Now()
	for done := 0; done < *kills; {
		if done > 0 && rnd.IntN(4) == 0 {
			killWhileItStarts(t, disk, time.Duration(rnd.IntN(40))*time.Millisecond)
			done++
		}
		oneKill(t, disk, j, rnd)
		done++
	}
	p := serve(t, "serve", "-m", "32M", disk)
	if err := j.verify(t.Context(), p.dial, false); err != nil {
		t.Fatal(err)
	}
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d at the end\n%s", code, p.stderr())
	}
	t.Logf("%d kills in %v: %v", *kills, time.Since(began).Round(time.Second), j)
	if j.kept == 0 || j.fsyncs == 0 || j.ops == j.kept {
		t.Errorf("a journal that proves nothing: %v", j)
	}
}

// oneKill starts a server, compares what it has with the journal, lets the clients work and kills it.
func oneKill(t *testing.T, disk string, j *journal, rnd *rand.Rand) {
	p := serve(t, "serve", "-m", "32M", "--no-snapshots", disk)
	if err := j.verify(t.Context(), p.dial, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- j.run(ctx, p.dial) }()
	snapped := make(chan struct{})
	go func() {
		defer close(snapped)
		snapshots(ctx, disk)
	}()
	time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
	p.kill()
	if err := <-ran; err != nil {
		t.Errorf("the server refused what it must do: %v\n%s", err, p.stderr())
	}
	cancel()
	<-snapped
	mustRun(t, "check", "--strict", disk)
	p.quiet = !t.Failed()
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

// killWhileItStarts kills a server so long after its start, whatever it does then.
func killWhileItStarts(t *testing.T, disk string, after time.Duration) {
	cmd := exec.Command(program, "serve", "-m", "32M", "--no-snapshots", disk)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	cmd.Process.Kill()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the server had ended before it was killed: %v", err)
	}
	mustRun(t, "check", "--strict", disk)
}
