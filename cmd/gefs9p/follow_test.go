package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// TestAStandbyTakesTheKilledServersPlace has a disk follow one that is served and written to, kills the server, and
// the follower too, promotes the disk and serves it: what it has is a state that the first one had, seconds before its
// end.
func TestAStandbyTakesTheKilledServersPlace(t *testing.T) {
	disk, standby := newDisk(t), newDisk(t)
	p := serve(t, "serve", disk)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := p.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	root, err := conn.Attach("glenda", "main")
	if err != nil {
		t.Fatal(err)
	}
	a, b := counter(t, root, "a"), counter(t, root, "b")
	// Two files that count, one behind the other.
	n := 0
	count := func() {
		t.Helper()
		n++
		for _, f := range []*client.Fid{a, b} {
			if _, err := f.WriteAt(fmt.Appendf(nil, "%09d", n), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	count()
	follow := func() (*exec.Cmd, *process) {
		t.Helper()
		f := &process{t: t}
		cmd := exec.Command(program, "recv", "--follow", "--every", "100ms", standby, "--", program, "send", "--follow", disk)
		cmd.Stdout, cmd.Stderr = f, f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, f
	}
	received := func(f *process, want int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); strings.Count(f.stderr(), "received: main@follow.") < want; {
			if time.Now().After(end) {
				t.Fatalf("the follower says only\n%s", f.stderr())
			}
			count()
			time.Sleep(10 * time.Millisecond)
		}
	}
	cmd, f := follow()
	received(f, 3)
	cmd.Process.Kill()
	cmd.Wait()
	cmd, f = follow()
	received(f, 2)
	known := n // this much came at least one round before the end
	received(f, 4)
	p.kill()
	time.Sleep(300 * time.Millisecond) // it tries again
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the follower: %v\n%s", err, f.stderr())
	}

	if out, err := exec.Command(program, "promote", standby).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("promoted: main is main@follow.")) {
		t.Fatalf("promote: %v\n%s", err, out)
	}
	if out, err := exec.Command(program, "check", "--strict", standby).CombinedOutput(); err != nil {
		t.Fatalf("check: %v\n%s", err, out)
	}
	q := serve(t, "serve", standby)
	if conn, err = q.dial(ctx); err != nil {
		t.Fatal(err)
	}
	if root, err = conn.Attach("glenda", "main"); err != nil {
		t.Fatal(err)
	}
	first, second := counted(t, root, "a"), counted(t, root, "b")
	if first < known || first > n || second != first && second != first-1 {
		t.Errorf("the standby has come to %d and %d; it had received %d, and the last was %d", first, second, known, n)
	}
	t.Logf("of %d counts %d are on the standby; %d were known to be", n, first, known)
}

// counter makes a file and opens it for writing.
func counter(t *testing.T, root *client.Fid, name string) *client.Fid {
	t.Helper()
	f, err := root.Walk()
	if err == nil {
		err = f.Create(name, 0644, ninep.OWRITE)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func counted(t *testing.T, root *client.Fid, name string) int {
	t.Helper()
	f, err := root.Walk(name)
	if err == nil {
		err = f.Open(ninep.OREAD)
	}
	buf := make([]byte, 9)
	if err == nil {
		_, err = f.ReadFull(buf, 0)
	}
	n, nerr := strconv.Atoi(string(buf))
	if err != nil || nerr != nil {
		t.Fatalf("%s: %q: %v", name, buf, err)
	}
	return n
}
