package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// What scripts/ceph says of the cluster that it has made.
var (
	cephPart    = flag.String("ceph.part", "", "program that kills and starts the parts of a Ceph cluster; scripts/ceph makes one")
	cephAddress = flag.String("ceph.address", "", "where an image of that cluster is exported")
	cephKills   = flag.Int("ceph.kills", 12, "how often something of it is killed")
)

// A cluster is one of Ceph, with two OSDs, and an exporter of one of its images.
type cluster struct {
	program string
	down    []string // parts that were killed and not started again
}

// do kills or starts a part.
func (c *cluster) do(what, part string) error {
	out, err := exec.Command(c.program, what, part).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", what, part, err, out)
	}
	return nil
}

func (c *cluster) kill(parts ...string) error {
	for _, p := range parts {
		if err := c.do("kill", p); err != nil {
			return err
		}
		c.down = append(c.down, p)
	}
	return nil
}

// start starts what was killed.
func (c *cluster) start() error {
	for _, p := range c.down {
		if err := c.do("start", p); err != nil {
			return err
		}
	}
	c.down = nil
	return nil
}

// progress waits until n more requests of a journal were sent or acknowledged.
func (j *journal) progress(ctx context.Context, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for from := j.clock.Load(); j.clock.Load() < from+n; {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("clients do not get on: %d requests since then, not %d", j.clock.Load()-from, n)
		}
	}
	return nil
}

// TestCephIsKilledUnderAJournal kills parts of a Ceph cluster on which a disk is, under sixteen clients that note what
// was acknowledged: one OSD, so that the other one has to do, and then has to give what it got; both; an OSD and the
// exporter; and all of that together with gefs9p. As long as that lives nothing acknowledged may be missing, and
// otherwise nothing that was synced, on a disk that the strict check finds sound.
func TestCephIsKilledUnderAJournal(t *testing.T) {
	if *cephPart == "" {
		t.Skip("scripts/ceph makes a cluster for it")
	}
	for *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	rnd := rand.New(rand.NewPCG(*seed, 0))
	dir, err := os.MkdirTemp("", "ceph") // with a short name, for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("TMPDIR", dir)
	c := &cluster{program: *cephPart}
	mustRun(t, "ream", "-u", "glenda", *cephAddress)
	args := []string{"serve", "-m", "32M", "--no-snapshots", "--ctl", "none", "-a", "unix!" + filepath.Join(dir, "9p"), *cephAddress}
	var sums tally
	j := newJournal(writers, rnd.Uint64(), &sums)
	p := serve(t, args...)
	connections, writes := 0, 0
	count := func() {
		c, w := replayed(p.stderr())
		connections, writes = connections+c, writes+w
	}
	for i := range *cephKills {
		began := time.Now()
		kind := i % 4
		osd := fmt.Sprintf("osd.%d", rnd.IntN(2))
		parts := [][]string{{osd}, {"osd.0", "osd.1"}, {"nbd", osd}, {"nbd", "osd.0", "osd.1"}}[kind]
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- j.run(ctx, p.dial) }()
		fail := func(err error) {
			cancel()
			<-ran
			out, _ := exec.Command(c.program, "status").CombinedOutput()
			t.Fatalf("kill %d, of %q: %v\n%s", i+1, parts, err, out)
		}
		if err := j.progress(ctx, 200); err != nil {
			fail(err)
		}
		time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		if err := c.kill(parts...); err != nil {
			fail(err)
		}
		switch kind {
		case 0: // the other one goes on alone, when the cluster has noticed
			if err := j.progress(ctx, 400); err != nil {
				fail(fmt.Errorf("on one OSD: %w", err))
			}
		case 3:
			if err := p.die(); err != nil {
				fail(err)
			}
		default:
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		}
		if err := c.start(); err != nil {
			fail(err)
		}
		if kind < 3 {
			if err := j.progress(ctx, 200); err != nil {
				fail(fmt.Errorf("when all is there again: %w", err))
			}
		}
		cancel()
		if err := <-ran; err != nil {
			t.Fatalf("kill %d, of %q: the server refused what it must do: %v", i+1, parts, err)
		}
		if kind == 3 {
			count()
			if err := c.exported(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := sound(*cephAddress); err != nil {
				t.Fatal(err)
			}
			p = serve(t, args...)
		}
		if err := j.verify(t.Context(), p.dial, kind < 3); err != nil {
			t.Fatalf("kill %d, of %q: %v", i+1, parts, err)
		}
		t.Logf("kill %d, of %q: %.1f s; so far %v", i+1, parts, time.Since(began).Seconds(), &sums)
	}
	if err := p.die(); err != nil {
		t.Fatal(err)
	}
	count()
	if err := sound(*cephAddress); err != nil {
		t.Fatal(err)
	}
	t.Logf("connected %d times again, %d writes made again", connections, writes)
	if *cephKills > 2 && connections == 0 {
		t.Error("the exporter was killed, and gefs9p has not connected again: this proves nothing")
	}
	sums.report(t)
}

// exported waits until the exporter has opened the image and listens.
func (c *cluster) exported(ctx context.Context) error {
	addr, err := url.Parse(*cephAddress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		nc, err := new(net.Dialer).DialContext(ctx, "unix", addr.Query().Get("socket"))
		if err == nil {
			return nc.Close()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the image is not exported again: %w", err)
		}
	}
}
