package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// liveCheck checks a disk that is being served, through a reader that f makes of the one it gets.
func liveCheck(fs *gefs.FS, f func(r io.ReaderAt) io.ReaderAt) (rep *check.Report, err error) {
	err = fs.Examine(context.Background(), func(ctx context.Context, r io.ReaderAt, size int64) (err error) {
		rep, err = check.Run(ctx, f(r), size, check.Options{CacheBlocks: 64})
		return err
	})
	return rep, err
}

// readerFunc is an io.ReaderAt.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// writers change files and sync until stop is closed: each creates, overwrites, truncates, removes, and
// makes and deletes snapshots. It returns when the first sync of each is done. wait ends them and returns
// the number of fsyncs and the longest.
func writers(w *world, n int) (wait func() (syncs int, longest time.Duration)) {
	var (
		wg, started sync.WaitGroup
		stop        = make(chan struct{})
		count, most atomic.Int64
	)
	started.Add(n)
	for k := range n {
		s := w.as("glenda", "")
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(k), 1))
			first := true
			defer func() {
				if first {
					started.Done()
				}
			}()
			for i := 0; ; i++ {
				p := fmt.Sprintf("w%d.%d", k, rnd.IntN(20))
				text := strings.Repeat(fmt.Sprint(i, " "), rnd.IntN(60000))
				f, err := s.openErr(p, ninep.OWRITE|ninep.OTRUNC)
				if err != nil {
					f, err = s.createErr(p, 0644, ninep.OWRITE)
				}
				if err == nil {
					err = errors.Join(f.writeErr(text, 0), f.Clunk())
				}
				if err == nil && i%5 == 4 {
					err = s.removeErr(p)
				}
				if err == nil && i%7 == 6 {
					err = labelled(w.fs, fmt.Sprint("snap", k), i%2 == 0)
				}
				began := time.Now()
				if err == nil {
					err = s.root.Fsync()
				}
				took := int64(time.Since(began))
				for old := most.Load(); took > old && !most.CompareAndSwap(old, took); {
					old = most.Load()
				}
				count.Add(1)
				if err != nil {
					w.t.Errorf("writer %d, round %d: %v", k, i, err)
					return
				}
				if first {
					first = false
					started.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	started.Wait()
	most.Store(0)
	return func() (int, time.Duration) {
		close(stop)
		wg.Wait()
		return int(count.Load()), time.Duration(most.Load())
	}
}

// labelled makes a snapshot of main, or deletes it.
func labelled(fs *gefs.FS, name string, make bool) error {
	c, end := fs.Background()
	defer end()
	if make {
		return fs.Label(c, "main", name, false)
	}
	return fs.DeleteLabel(c, name)
}

// TestACheckHoldsUpNobody stops a check before each of its passes until a dozen commits have come by.
// What it reads then is still the state it began with.
func TestACheckHoldsUpNobody(t *testing.T) {
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: time.Hour, Cache: 1024})
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	for i := range 300 {
		s.put(fmt.Sprint("d/", i), 0644, strings.Repeat(fmt.Sprint(i), 1000*(i%17)))
	}
	w.snapshot("main", "old", false)
	reads := 0
	rep, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt {
		return readerFunc(func(p []byte, off int64) (int, error) {
			if reads++; reads%60 == 1 {
				for i := range 12 {
					name := fmt.Sprint("d/", (reads+i)%300)
					s.remove(name)
					s.put(name, 0644, strings.Repeat("new", 1000*i))
					s.must("fsync", s.root.Fsync())
				}
				w.fs.CommitEnds()
			}
			return r.ReadAt(p, off)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Clean(true) || reads < 300 {
		t.Errorf("after %d reads:\n%s", reads, gefstest.Text(rep))
	}
	w.end()
}

// TestLiveCheckBesideWriters checks a disk with a hundred megabytes again and again while clients
// write and sync. No fsync waits for a check, and no check sees anything but a whole state.
func TestLiveCheckBesideWriters(t *testing.T) {
	size, checks := 100, 3
	if raceEnabled || testing.Short() {
		size, checks = 20, 2
	}
	dev := blkdev.NewMem(1 << 30)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, dev, gefs.Options{CommitEvery: 50 * time.Millisecond, Cache: 2048})
	s := w.as("glenda", "")
	for i := range size {
		s.put(fmt.Sprint("big", i), 0644, strings.Repeat(fmt.Sprintf("%8d", i), 1<<17))
	}
	at := dataOf(t, w, "main", "big7")
	wait := writers(w, 3)
	var shortest time.Duration
	for range checks {
		began, late := time.Now(), 0
		rep, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt {
			return readerFunc(func(p []byte, off int64) (int, error) {
				if late++; late%20 == 0 { // as a disk that does 300 MB/s
					time.Sleep(time.Millisecond)
				}
				return r.ReadAt(p, off)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if !rep.Clean(true) {
			t.Fatalf("the disk is not sound:\n%s", gefstest.Text(rep))
		}
		if took := time.Since(began); shortest == 0 || took < shortest {
			shortest = took
		}
	}
	// And damage is found.
	if _, err := dev.WriteAt([]byte("bad"), int64(at)+1000); err != nil {
		t.Fatal(err)
	}
	rep, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt { return r })
	n, longest := wait()
	t.Logf("%d checks of %d MB, the shortest took %v; %d fsyncs, the longest took %v", checks, size, shortest, n, longest)
	if err != nil {
		t.Fatal(err)
	}
	if !raceEnabled && longest > shortest {
		t.Errorf("an fsync took %v, a check %v", longest, shortest)
	}
	if rep.Found[check.Error] != 1 || rep.Problems[0].Kind != check.Corrupt || !slices.Contains(rep.Problems[0].Paths, "main/big7") {
		t.Errorf("a damaged block of big7 is reported as\n%s", gefstest.Text(rep))
	}
}

// TestACheckGivesWayToWriters checks a disk that is nearly full, while all of it is written anew. Nobody
// is told that the disk is full, and the check that it was given up.
func TestACheckGivesWayToWriters(t *testing.T) {
	quick(t)
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: time.Hour, Cache: 1024})
	s := w.as("glenda", "")
	text := strings.Repeat("half", 1<<18)
	const files = 75 // MB of 120
	for i := range files {
		s.put(fmt.Sprint("f", i), 0644, text)
	}
	written := false
	_, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt {
		return readerFunc(func(p []byte, off int64) (int, error) {
			if !written {
				written = true
				for i := range files {
					f := s.open(fmt.Sprint("f", i), ninep.OWRITE)
					f.write(text, 0)
					f.must("fsync", f.Fsync())
					f.clunk()
				}
			}
			return r.ReadAt(p, off)
		})
	})
	if !errors.Is(err, blkstore.ErrGaveWay) {
		t.Errorf("the check ended with %v", err)
	}
	// What it kept back is there again, and so is the next check.
	rep, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt { return r })
	if err != nil || !rep.Clean(true) {
		t.Errorf("the next check: %v", err)
	}
	w.end()
}

// dataOf returns the address of the first data block of a file that is on the disk.
func dataOf(t *testing.T, w *world, label, p string) blkfmt.Addr {
	t.Helper()
	w.sync()
	s := w.as("glenda", label)
	defer s.hangUp()
	at, err := w.fs.DataAddr(label, s.stat(p).Qid.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
