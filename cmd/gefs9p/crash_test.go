package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

var seed = flag.Uint64("seed", 0, "of the random times in TestKillLosesNothingSynced; 0 chooses one")

// goSource is the Go toolchain's source: a real tree that is there wherever these tests run.
func goSource(t testing.TB, sub ...string) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{strings.TrimSpace(string(out)), "src"}, sub...)...)
}

// TestGoSourceSurvivesKill copies the source of Go, more than ten thousand files, to a new disk through
// several connections at once, has it synced, kills the server, starts another and finds every byte, mode,
// time and name again, on a disk that the strict check finds sound before and after.
func TestGoSourceSurvivesKill(t *testing.T) {
	if testing.Short() {
		t.Skip("copies more than 100 MB; not with -short")
	}
	tr := scan(t, goSource(t))
	disk := filepath.Join(t.TempDir(), "disk")
	mustRun(t, "ream", "-u", "glenda", "--size", "1G", disk)

	p := serve(t, "serve", "-m", "64M", disk)
	began := time.Now()
	if err := p.copyIn(tr, "src"); err != nil {
		t.Fatalf("copy: %v", err)
	}
	t.Logf("copied %d files, %d folders, %d MiB in %v", len(tr.files), len(tr.dirs), tr.bytes>>20, time.Since(began))
	p.checkMemory(64)
	p.kill()
	checkClean(t, disk)

	p = serve(t, "serve", "-m", "64M", disk)
	began = time.Now()
	if err := p.compare(tr, "src"); err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	t.Logf("compared in %v", time.Since(began))
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM\n%s", code, p.stderr())
	}
	checkClean(t, disk)
}

// checkMemory sees whether the server with a cache of so many MiB has kept to about that.
func (p *process) checkMemory(cache int) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil || raceFlags != nil {
		return // another system, or one where memory means something else
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		p.t.Fatalf("no VmHWM in %q", status)
	}
	p.t.Logf("the server took %d MiB", kib>>10)
	const beside = 192 // code, connections, garbage
	if kib>>10 > cache+beside {
		p.t.Errorf("the server took %d MiB of memory, its cache being %d", kib>>10, cache)
	}
}

// TestKillLosesNothingSynced kills the server again and again in the middle of a copy. What was synced
// before has to be there to the last byte; of the copy under way, each file that is there begins as it
// should; and the strict check finds the disk sound.
func TestKillLosesNothingSynced(t *testing.T) {
	for *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	rnd := rand.New(rand.NewPCG(*seed, 0))
	tr := scan(t, goSource(t, "encoding"))
	disk := filepath.Join(t.TempDir(), "disk")
	mustRun(t, "ream", "-u", "glenda", "--size", "256M", disk)
	const rounds = 4
	for i := range rounds {
		p := serve(t, "serve", "-m", "64M", disk)
		for j := range i {
			if err := p.compare(tr, fmt.Sprint("synced", j)); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			if err := p.compareBegun(tr, fmt.Sprint("begun", j)); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		if err := p.copyIn(tr, fmt.Sprint("synced", i)); err != nil {
			t.Fatal(err)
		}
		copied := make(chan error, 1)
		go func() { copied <- p.copyIn(tr, fmt.Sprint("begun", i)) }()
		synced := make(chan error, 1)
		go func() { synced <- p.syncForever() }() // so that the kill meets commits
		time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
		p.kill()
		<-synced
		if err := <-copied; err != nil {
			var text client.Error
			if errors.As(err, &text) {
				t.Errorf("the server refused a part of the copy: %v", err)
			}
		}
		checkClean(t, disk)
	}
}

// syncForever asks for commits until the server is gone.
func (p *process) syncForever() error {
	return p.inParallel(1, []node{{}}, func(root *client.Fid, _ node) error {
		for {
			if err := root.Fsync(); err != nil {
				return err
			}
		}
	})
}

// compareBegun looks at a copy of the tree to dest that was cut short: names and bytes in it have to be
// those of the tree, as far as they are there.
func (p *process) compareBegun(tr *tree, dest string) error {
	return p.inParallel(conns, append(tr.dirs[:len(tr.dirs):len(tr.dirs)], tr.files...), func(root *client.Fid, n node) error {
		f, err := root.WalkPath(path.Join(dest, n.path))
		if errors.Is(err, client.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Clunk()
		if err := f.Open(ninep.OREAD); err != nil {
			return err
		}
		if n.info.IsDir() {
			entries, err := f.ReadDir()
			for _, e := range entries {
				if !slices.Contains(tr.names[n.path], e.Name) {
					return fmt.Errorf("holds %q, which nobody made", e.Name)
				}
			}
			return err
		}
		want, err := os.ReadFile(filepath.Join(tr.root, n.path))
		if err != nil {
			return err
		}
		got := make([]byte, len(want)+1)
		k, err := f.ReadFull(got, 0)
		if err != io.EOF {
			return err
		}
		if !bytes.HasPrefix(want, got[:k]) {
			return fmt.Errorf("content differs at byte %d", difference(got[:k], want))
		}
		return nil
	})
}
