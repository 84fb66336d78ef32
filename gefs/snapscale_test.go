package gefs_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var (
	snapsFlag = flag.Int("snaps", 300, "snapshots that TestManySnapshots takes")
	largeFlag = flag.Int64("large", 64, "MiB that TestDeletingALargeSnapshot gives the snapshot")
	dirFlag   = flag.String("disk", "", "directory for the disks of these two; empty: a temporary one")
)

// fileWorld reams a disk of size bytes in a file.
func fileWorld(t *testing.T, size int64, opt gefs.Options) *world {
	t.Helper()
	dir := *dirFlag
	if dir == "" {
		dir = t.TempDir()
	}
	path := filepath.Join(dir, fmt.Sprintf("gefs-%d.img", time.Now().UnixNano()))
	dev, err := blkdev.CreateFile(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dev.Close()
		os.Remove(path) // 20 GiB and more
	})
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, dev, opt)
}

func (w *world) deleteLabel(name string) {
	w.t.Helper()
	c, end := w.fs.Background()
	defer end()
	if err := w.fs.DeleteLabel(c, name); err != nil {
		w.t.Fatal(err)
	}
}

// rate is the median, the 99th percentile and the longest of some times.
func rates(list []time.Duration) string {
	slices.Sort(list)
	at := func(share float64) time.Duration { return list[int(share*float64(len(list)-1))] }
	return fmt.Sprintf("median %v, p99 %v, longest %v of %d", at(0.5).Round(time.Microsecond),
		at(0.99).Round(time.Microsecond), at(1).Round(time.Microsecond), len(list))
}

// TestManySnapshots takes snapshots of a tree that people work in, mounts, lists and deletes some. What it
// costs is logged: nothing depends on how many there are. -snaps 10000 is the figure in
// docs/performance.md.
func TestManySnapshots(t *testing.T) {
	w := fileWorld(t, 8<<30, gefs.Options{})
	s := w.as("glenda", "%main")
	const files = 500
	for i := range files {
		s.put(fmt.Sprintf("f%03d", i), 0644, "before")
	}
	n := *snapsFlag
	if testing.Short() {
		n = min(n, 110)
	}
	name := func(i int) string { return fmt.Sprintf("main@%06d", i) }
	write := func(i int) {
		for k := range 5 {
			f := s.open(fmt.Sprintf("f%03d", (i*5+k)%files), ninep.OWRITE)
			f.write(fmt.Sprint("of ", i), 0)
			f.clunk()
		}
	}
	timed := func(list *[]time.Duration, fn func()) {
		from := time.Now()
		fn()
		*list = append(*list, time.Since(from))
	}
	var take, mount, list, remove [2][]time.Duration // with few snapshots and with all
	phase := func(p, i int) {
		timed(&take[p], func() {
			w.snapshot("main", name(i), false)
			w.sync()
		})
		write(i)
		w.sync()
		old := rand.IntN(i + 1)
		timed(&mount[p], func() {
			o := w.as("glenda", name(old))
			if got := o.get(fmt.Sprintf("f%03d", old*5%files)); got == fmt.Sprint("of ", old) {
				t.Errorf("%s has what was written after it", name(old))
			}
			o.hangUp()
		})
		timed(&list[p], func() {
			if got := len(w.fs.Labels()); got != i+4 {
				t.Fatalf("%d labels, want %d", got, i+4)
			}
		})
	}
	for i := range n {
		switch {
		case i < 50:
			phase(0, i)
		case i >= n-50:
			phase(1, i)
		default:
			w.snapshot("main", name(i), false)
			write(i)
		}
	}
	drop := func(p int, names []string) {
		for _, name := range names {
			timed(&remove[p], func() { w.deleteLabel(name) })
			timed(&remove[p], func() {
				w.fs.Reclaimed()
				w.sync()
			})
		}
	}
	var some []string
	for i := range 20 {
		some = append(some, name(n/2+i))
	}
	drop(1, some)
	t.Logf("with up to 50: taking one, durable: %s", rates(take[0]))
	t.Logf("with %d: taking one, durable: %s", n, rates(take[1]))
	t.Logf("with up to 50: mounting one and reading a file: %s", rates(mount[0]))
	t.Logf("with %d: mounting one and reading a file: %s", n, rates(mount[1]))
	t.Logf("with up to 50: listing: %s", rates(list[0]))
	t.Logf("with %d: listing: %s", n, rates(list[1]))
	var answers, gone []time.Duration
	for i, d := range remove[1] {
		if i%2 == 0 {
			answers = append(answers, d)
		} else {
			gone = append(gone, d)
		}
	}
	t.Logf("with %d: a deletion is answered: %s", n, rates(answers))
	t.Logf("with %d: its space is back, durable: %s", n, rates(gone))
	s.hangUp()
	from := time.Now()
	w.restart()
	t.Logf("with %d: stopping and opening again: %v", n, time.Since(from).Round(time.Millisecond))
	s = w.as("glenda", "%main")
	write(0)
	s.hangUp()
	w.end()
}

// TestDeletingALargeSnapshot deletes a snapshot that holds much alone while clients work. The deletion is
// answered at once, and the space comes back while they go on; how long they wait for answers is logged.
// -large 10240 is the figure in docs/performance.md.
func TestDeletingALargeSnapshot(t *testing.T) {
	if testing.Short() {
		*largeFlag = min(*largeFlag, 16)
	}
	for _, kind := range []string{"snapshot", "snapshot after a restart", "fork"} {
		t.Run(kind, func(t *testing.T) { deleteLarge(t, kind) })
	}
}

func deleteLarge(t *testing.T, kind string) {
	size := *largeFlag << 20
	w := fileWorld(t, 3*size+1<<30, gefs.Options{Cache: 32 << 10})
	s := w.as("glenda", "%main")
	const chunk = 1 << 20
	fill := func(s *session, round byte) {
		p := make([]byte, chunk)
		for i := range p {
			p[i] = round + byte(i)
		}
		var wg sync.WaitGroup
		f := s.open("large", ninep.OWRITE)
		var next atomic.Int64
		for range 4 {
			wg.Go(func() {
				for off := next.Add(chunk) - chunk; off < size; off = next.Add(chunk) - chunk {
					if _, err := f.WriteAt(p, off); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		f.clunk()
	}
	s.put("large", 0644, "")
	for i := range 200 {
		s.put(fmt.Sprintf("f%03d", i), 0644, "small")
	}
	fill(s, 1)
	w.snapshot("main", "large", kind == "fork")
	if kind == "fork" {
		f := w.as("glenda", "%large")
		fill(f, 2)
		f.hangUp()
	} else {
		fill(s, 2)
	}
	w.sync()
	if kind == "snapshot after a restart" {
		s.hangUp()
		w.restart()
		s = w.as("glenda", "%main")
	}

	// work is what the clients do until stop is closed; it returns how long each answer took.
	work := func(stop <-chan struct{}) []time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		for c := range 2 {
			wg.Go(func() {
				var took []time.Duration
				s := w.as("glenda", "%main")
				defer s.hangUp()
				r := rand.New(rand.NewPCG(1, uint64(c)))
				large := s.open("large", ninep.OREAD)
				for i := 0; ; i++ {
					select {
					case <-stop:
						mu.Lock()
						all = append(all, took...)
						mu.Unlock()
						return
					case <-time.After(time.Millisecond):
					}
					from := time.Now()
					var err error
					switch i % 3 {
					case 0:
						_, err = large.ReadAt(make([]byte, 8192), r.Int64N(size-8192))
					case 1:
						var f *file
						if f, err = s.openErr(fmt.Sprintf("f%03d", r.IntN(200)), ninep.ORDWR); err == nil {
							err = f.writeErr("changed", int64(r.IntN(9000)))
							f.Clunk()
						}
					case 2:
						var f *file
						if f, err = s.walkErr(fmt.Sprintf("f%03d", r.IntN(200))); err == nil {
							_, err = f.Stat()
							f.Clunk()
						}
					}
					took = append(took, time.Since(from))
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return all
	}
	idle := make(chan struct{})
	pause := min(10*time.Second, time.Duration(*largeFlag)*10*time.Millisecond)
	time.AfterFunc(pause, func() { close(idle) })
	before := work(idle)

	free := w.free()
	busy := make(chan struct{})
	var during []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { during = work(busy) })
	from := time.Now()
	w.deleteLabel("large")
	answered := time.Since(from)
	w.sync()
	durable := time.Since(from)
	w.fs.Reclaimed()
	gone := time.Since(from)
	close(busy)
	wg.Wait()
	w.sync()
	if got := w.free() - free; got < size*9/10 {
		t.Errorf("%d bytes came back, want %d", got, size)
	}
	t.Logf("a snapshot with %d MiB of its own: deletion answered in %v, durable in %v, space back in %v",
		*largeFlag, answered.Round(time.Microsecond), durable.Round(time.Microsecond), gone.Round(time.Millisecond))
	t.Logf("answers to clients before: %s", rates(before))
	t.Logf("answers to clients during: %s", rates(during))
	s.hangUp()
	if *largeFlag <= 256 {
		w.end()
	}
}

// free returns the bytes that are free on the disk.
func (w *world) free() (n int64) {
	for _, a := range w.fs.Arenas() {
		n += a.Free
	}
	return n
}
