package snap

import (
	"fmt"
	"maps"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
)

// many makes a world with n snapshots of main, each with a file of its own rewritten, and commits
// now and then. It does not check the disk.
func many(t testing.TB, n int) *world {
	t.Helper()
	w, err := newWorld(blkdev.NewMem(1 << 30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	for i := range n {
		if err := w.snapshot(i); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 {
			if err := w.commitUnchecked(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.commitUnchecked(); err != nil {
		t.Fatal(err)
	}
	return w
}

// snapshot labels main and writes to it.
func (w *world) snapshot(i int) error {
	if err := w.f.Label(Main, fmt.Sprintf("s%06d", i), false); err != nil {
		return err
	}
	w.now[fmt.Sprintf("s%06d", i)] = labelled{w.now[Main].content, false}
	return w.write(Main, map[string]bool{fmt.Sprintf("f%d", i%20): false})
}

func (w *world) commitUnchecked() error {
	w.g.Enter()
	root, err := w.f.Seal(w.g)
	var com *blkstore.Commit
	if err == nil {
		com, err = w.st.Seal(root)
	}
	w.g.Leave()
	if err != nil {
		return err
	}
	if err := com.Run(nil); err != nil {
		return err
	}
	com.Done()
	w.st.Tick()
	return nil
}

// A commit costs what changed, not what there is.
func TestCommitWritesNoMoreWithManySnapshots(t *testing.T) {
	n := 10000
	if testing.Short() || raceEnabled {
		n = 1000
	}
	w := many(t, 10)
	cost := func(i int) uint64 {
		before := w.st.Stats().Written
		must(t, w.snapshot(i))
		must(t, w.commitUnchecked())
		return w.st.Stats().Written - before
	}
	few := cost(10)
	w = many(t, n)
	if many := cost(n); many > few+6 { // a few levels of the snapshot tree more
		t.Errorf("taking a snapshot writes %d blocks when there are %d, %d when there are 10", many, n, few)
	} else {
		t.Logf("taking a snapshot writes %d blocks when there are %d, %d when there are 10", many, n, few)
	}
	w.safe = maps.Clone(w.now)
	must(t, w.crash())
	// From the middle out: each has a neighbour on both sides.
	for i := range 50 {
		must(t, w.unlabel(fmt.Sprintf("s%06d", n/2+i)))
	}
	must(t, w.commit(nil))
	must(t, w.verifyForest())
	for _, name := range []string{Main, "s000000", fmt.Sprintf("s%06d", n/2-1), fmt.Sprintf("s%06d", n/2+50), fmt.Sprintf("s%06d", n-1)} {
		must(t, w.verify(name))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := many(b, n)
			i := n
			for b.Loop() {
				if err := w.snapshot(i); err != nil {
					b.Fatal(err)
				}
				if err := w.commitUnchecked(); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := many(b, n)
			for b.Loop() {
				w.stop()
				if err := w.start(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDelete(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := many(b, n)
			i := n
			for b.Loop() {
				b.StopTimer()
				if err := w.snapshot(i); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := w.unlabel(fmt.Sprintf("s%06d", i-n/2)); err != nil {
					b.Fatal(err)
				}
				if err := w.commitUnchecked(); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
