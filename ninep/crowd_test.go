package ninep_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

var (
	crowdIdle  = flag.Int("crowd.idle", 500, "connections that do nothing")
	crowdBusy  = flag.Int("crowd.busy", 50, "connections that always wait for an answer")
	crowdSlow  = flag.Int("crowd.slow", 250, "connections that never finish a message, or never begin one")
	crowdRound = flag.Int("crowd.requests", 100, "requests of each busy connection")
	crowdTimes = flag.Bool("crowd.times", false, "three rounds; fail if others wait twice as long beside the crowd")
)

const crowdEnv = "NINEP_CROWD" // address of the server, for the process that holds the crowd

// TestCrowdHelper is no test: it is the process of the clients that only stand around, started by
// TestACrowdCostsTheOthersNothing, as one process cannot have both ends of so many connections.
func TestCrowdHelper(t *testing.T) {
	addr := os.Getenv(crowdEnv)
	if addr == "" {
		t.Skip("only in a process of its own")
	}
	var idle []*ninetest.Peer
	for range *crowdIdle {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		p := ninetest.NewPeer(t, c)
		p.Version(8192)
		p.Attach(0, "glenda")
		idle = append(idle, p)
	}
	frame := ninetest.Frames(t, &proto.TWrite{Header: tag(3), Data: make([]byte, 1000)})
	var slow []net.Conn
	for i := range *crowdSlow {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		if i%2 == 0 {
			c.Write(ninetest.Frames(t, &proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: "9P2000"}))
		}
	}
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	fmt.Println("ready")
	for i := 0; ; i++ { // a byte now and then, of a message that will never be whole
		select {
		case <-over:
			for _, p := range idle { // all still served
				p.RPC(&proto.TStat{})
			}
			return
		case <-time.After(time.Second):
		}
		for j, c := range slow {
			if j%2 == 0 && i < len(frame)/2 {
				c.Write(frame[i : i+1])
			}
		}
	}
}

// startCrowd starts the process of the crowd and waits until all have come. stop waits for its end, with
// the error of a client that was not served.
func startCrowd(t *testing.T, addr string) (stop func() error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrowdHelper$", "-test.timeout=10m",
		fmt.Sprint("-crowd.idle=", *crowdIdle), fmt.Sprint("-crowd.slow=", *crowdSlow))
	cmd.Env = append(os.Environ(), crowdEnv+"="+addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() (err error) {
		once.Do(func() {
			in.Close()
			rest, _ := io.ReadAll(out)
			if err = cmd.Wait(); err != nil {
				err = fmt.Errorf("the crowd: %w\n%s", err, rest)
			}
		})
		return err
	}
	t.Cleanup(func() { stop() })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("the crowd does not come: %v", stop())
	}
	return stop
}

// busy has all busy connections make their requests, one after the other each, and returns how long
// requests took that 50 and 99 of a hundred were not longer than.
func busy(t *testing.T, ps []*ninetest.Peer) (p50, p99 time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	took := make([][]time.Duration, len(ps))
	frame := ninetest.Frames(t, &proto.TRead{Fid: 1, Count: 4096})
	for i, p := range ps {
		wg.Go(func() {
			p.Conn.(net.Conn).SetDeadline(time.Now().Add(3 * ninetest.Patience))
			var b []byte
			for range *crowdRound {
				if t.Failed() {
					return // one is enough
				}
				began := time.Now()
				_, err := p.Conn.Write(frame)
				if err == nil {
					b, err = ninep.ReadFrame(p.Conn, b, 8192)
				}
				if err != nil || len(b) != 11+4096 {
					t.Errorf("a busy connection has %d bytes, %v", len(b), err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	if slices.Sort(all); len(all) == 0 {
		t.Fatal("nobody was served")
	}
	return all[len(all)/2], all[len(all)*99/100]
}

// never has a client ask for a large file again and again and read nothing of it. The channel gives the error
// with which it was hung up on.
func never(t *testing.T, r *rig) <-chan error {
	t.Helper()
	p := r.dial()
	p.Version(64 << 10)
	p.Attach(0, "glenda")
	p.Walk(0, 1, "big")
	p.Open(1, ninep.OREAD)
	hungUp := make(chan error, 1)
	frame := ninetest.Frames(t, &proto.TRead{Fid: 1, Count: 60 << 10})
	go func() {
		for {
			if _, err := p.Conn.Write(frame); err != nil {
				hungUp <- err
				return
			}
		}
	}()
	return hungUp
}

// TestACrowdCostsTheOthersNothing has busy clients beside many that are idle, slow or only half there, and
// one that never reads. All who behave are served, the one that never reads is hung up on, and memory stays
// bounded. With the flag -crowd.times the time that 99 of 100 requests do not take longer than must not be twice
// that without the crowd. Of three rounds with and without the quickest counts, as what else the machine does only
// makes them slower.
func TestACrowdCostsTheOthersNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("a process of its own, with 750 connections")
	}
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Put("page", bytes.Repeat([]byte("x"), 4096))
		fs.Put("big", bytes.Repeat([]byte("x"), 60<<10))
		s.Limits.Conns = *crowdIdle + *crowdBusy + *crowdSlow + 10
		s.Limits.WriteTime = 3 * time.Second
		s.Limits.FrameTime = 10 * time.Minute
	})
	var ps []*ninetest.Peer
	for range *crowdBusy {
		p := r.dial()
		p.Version(8192)
		p.Attach(0, "glenda")
		p.Walk(0, 1, "page")
		p.Open(1, ninep.OREAD)
		ps = append(ps, p)
	}
	rounds := 1
	if *crowdTimes {
		rounds = 3
	}
	busy(t, ps) // everything is warm
	alone50, alone := quickest(rounds, func() (p50, p99 time.Duration) { return busy(t, ps) })
	before := heap()

	stop := startCrowd(t, r.addr.String())
	first := true
	crowd50, crowd := quickest(rounds, func() (p50, p99 time.Duration) {
		hungUp := never(t, r)
		if n, want := r.s.NumConns(), *crowdIdle+*crowdBusy+*crowdSlow+1; first && n != want {
			t.Errorf("%d connections, want %d", n, want)
		}
		first = false
		p50, p99 = busy(t, ps)
		select {
		case <-hungUp:
		case <-time.After(ninetest.Patience):
			t.Error("the client that never reads is still there")
		}
		return p50, p99
	})
	grown := heap() - before
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d busy alone: p50 %v, p99 %v; beside %d idle, %d slow and one that never reads: p50 %v, p99 %v; %d KiB more in use, %d MiB from the system",
		*crowdBusy, alone50, alone, *crowdIdle, *crowdSlow, crowd50, crowd, grown>>10, m.Sys>>20)
	if each := grown / int64(*crowdIdle+*crowdSlow+1); each > 32<<10 {
		t.Errorf("%d bytes for each of the crowd", each)
	}
	if m.Sys > 1<<30 {
		t.Errorf("%d MiB of memory", m.Sys>>20)
	}
	if *crowdTimes && crowd >= 2*alone {
		t.Errorf("beside the crowd 99 of 100 requests take up to %v, alone %v", crowd, alone)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// Whoever went away has left nothing behind.
	ctx, cancel := context.WithTimeout(context.Background(), ninetest.Patience)
	defer cancel()
	for r.s.NumConns() > *crowdBusy {
		select {
		case <-ctx.Done():
			t.Fatalf("%d connections", r.s.NumConns())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// quickest returns the least of what n rounds return.
func quickest(n int, round func() (p50, p99 time.Duration)) (p50, p99 time.Duration) {
	p50, p99 = round()
	for range n - 1 {
		a, b := round()
		p50, p99 = min(p50, a), min(p99, b)
	}
	return p50, p99
}
