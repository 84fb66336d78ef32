package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
)

// TestGoldenDisksGrow: the reference's disks, also those it left in a crash, grow as it grows them, hold what
// they held, and are sound.
func TestGoldenDisksGrow(t *testing.T) {
	quick(t)
	names := goldenNames()
	if testing.Short() {
		names = []string{"snaps", "crash-sb0"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			want := golden.Manifest(t, name)
			dev := gefstest.Golden(t, name)
			if err := dev.Enlarge(512 << 20); err != nil {
				t.Fatal(err)
			}
			fs := gefstest.Open(t, dev, gefs.Options{})
			done, err := fs.Grow(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if done.Arenas.Size != 0x5ffc000 || done.Arenas.Header(3) != 0x19ff0000 || done.First != 8 {
				t.Errorf("grown by %+v", done)
			}
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
			if rep := gefstest.Check(t, dev); !rep.Clean(false) || rep.ByKind[check.SuperBad]+rep.ByKind[check.SuperStale]+rep.ByKind[check.HeaderStale] != 0 {
				t.Error(gefstest.Text(rep))
			}
			fs = gefstest.Open(t, dev, gefs.Options{})
			if n := len(fs.Arenas()); n != 12 {
				t.Errorf("%d arenas", n)
			}
			srv := gefstest.Serve(t, fs, 0)
			sameLabels(t, fs, want)
			for _, label := range slices.Sorted(maps.Keys(want.Snapshots)) {
				files := skipped(want.Snapshots[label].Files, []string{atGiga})
				got := gefstest.Tree(t, srv.Attach(gefstest.User, "%"+label), atGiga)
				gefstest.SameTree(t, label, got, files)
			}
			srv.Stop()
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestGrowWhileClientsWriteOnAFullDisk: eight clients write until there is no room, and go on when the disk has
// grown, without a new connection, an open or a wait. What each of them wrote is there.
func TestGrowWhileClientsWriteOnAFullDisk(t *testing.T) {
	if raceEnabled && testing.Short() {
		t.Skip("a hundred megabytes: with the race detector not in a short run")
	}
	const clients, more = 8, 4 << 20
	w := newWorld(t)
	chunk := func(i, n int) string { return strings.Repeat(fmt.Sprintf("%d:%06d ", i, n), 65536/9)[:65536-65536%9] }
	var full sync.WaitGroup // those who have not met the full disk yet
	full.Add(clients)
	grown := make(chan struct{})
	errs := make(chan error, clients)
	written := make([]int, clients)
	for i := range clients {
		s := w.as("glenda", "")
		go func() {
			errs <- func() (err error) {
				f, err := s.createErr(fmt.Sprint("client", i), 0644, ninep.ORDWR)
				met := false
				defer func() {
					if !met {
						full.Done()
					}
				}()
				if err != nil {
					return err
				}
				left := more
				for n := 0; left > 0; {
					after := false // the disk has grown before this write
					select {
					case <-grown:
						after = true
					default:
					}
					text := chunk(i, n)
					err := f.writeErr(text, int64(n*len(text)))
					switch {
					case err == nil:
						if n++; met {
							left -= len(text)
						}
						written[i] = n
					case !strings.Contains(err.Error(), efull):
						return err
					case !met:
						met = true
						full.Done()
					case after:
						return fmt.Errorf("still full after the disk has grown: %w", err)
					default:
						time.Sleep(time.Millisecond)
					}
				}
				return nil
			}()
		}()
	}
	full.Wait()
	size, err := w.dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.fs.Grow(t.Context(), size+200<<20); err != nil {
		t.Fatal(err)
	}
	close(grown)
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w.restart()
	s := w.as("glenda", "")
	for i, n := range written {
		f := s.open(fmt.Sprint("client", i), ninep.OREAD)
		got, err := f.readErr()
		f.clunk()
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for k := range n {
			want.WriteString(chunk(i, k))
		}
		if got != want.String() {
			t.Errorf("client %d: %d bytes, want %d; they differ at %d", i, len(got), want.Len(), differAt(got, want.String()))
		}
	}
	w.end()
}

// A check and a scrub that read an older state while the disk grows find it sound.
func TestDiskGrowsWhileItIsChecked(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("f", 0644, strings.Repeat("text", 100000))
	began, grown := make(chan struct{}), make(chan struct{})
	checked := make(chan error, 1)
	go func() {
		checked <- w.fs.Examine(t.Context(), func(ctx context.Context, r io.ReaderAt, size int64) error {
			close(began)
			<-grown
			rep, err := check.Run(ctx, r, size, check.Options{})
			if err == nil && !rep.Clean(true) {
				err = errors.New(gefstest.Text(rep))
			}
			return err
		})
	}()
	<-began
	size, _ := w.dev.Size()
	if _, err := w.fs.Grow(t.Context(), size+70<<20); err != nil {
		t.Fatal(err)
	}
	s.put("g", 0644, strings.Repeat("more", 100000))
	w.sync()
	close(grown)
	if err := <-checked; err != nil {
		t.Error(err)
	}
	w.end()
}

// TestGrowOnADiskThatFails: a write that fails leaves the old disk, with all that was synced.
func TestGrowOnADiskThatFails(t *testing.T) {
	for nth := 1; ; nth++ {
		mem := gefstest.Ream(t)
		size, _ := mem.Size()
		if err := mem.Enlarge(size + 70<<20); err != nil {
			t.Fatal(err)
		}
		dev := blkdev.NewFault(mem)
		fs := gefstest.Open(t, dev, gefs.Options{CommitEvery: time.Hour})
		dev.Fail(blkdev.Rule{Op: blkdev.OpWrite | blkdev.OpSync, Nth: nth, Forever: true})
		_, err := fs.Grow(t.Context(), 0)
		if err == nil {
			if nth < 10 {
				t.Errorf("growing made only %d writes and flushes", nth)
			}
			return
		}
		if !errors.Is(err, blkstore.ErrIO) || fs.Err() == nil {
			t.Fatalf("failure %d: %v, the disk: %v", nth, err, fs.Err())
		}
		if _, err := fs.Grow(t.Context(), 0); err == nil {
			t.Fatalf("failure %d: a disk that takes no changes has grown", nth)
		}
		fs.Close()
		dev.Heal()
		gefstest.Check(t, mem)
		fs = gefstest.Open(t, mem, gefs.Options{})
		if n := len(fs.Arenas()); n != 8 && n != 12 {
			t.Fatalf("failure %d: %d arenas", nth, n)
		}
		if err := fs.Close(); err != nil {
			t.Fatal(err)
		}
		gefstest.CheckStrict(t, mem)
	}
}

// A closed file system does not grow, and a short device says how long it must be.
func TestGrowRefusals(t *testing.T) {
	dev := gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{})
	var short *blkfmt.GrowthError
	if _, err := fs.Grow(t.Context(), 0); !errors.As(err, &short) || short.Gained > 1<<20 {
		t.Errorf("a device that did not grow: %v", err)
	}
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Grow(t.Context(), 1<<30); err == nil {
		t.Error("a closed file system has grown")
	}
	if n, _ := dev.Size(); n != gefstest.SmallDisk {
		t.Errorf("the device has %d bytes", n)
	}
}
