package epoch

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An item is what readers find behind a pointer. It is alive until released; body is written without
// a lock when it is made and when it is released, so that the race detector sees a release that is
// not ordered after the last read, also when the reader was lucky.
type item struct {
	dead atomic.Bool
	body [4]int
}

func newItem(n int) *item { return &item{body: [4]int{n, n, n, n}} }

// look reads an item as a reader inside does and reports whether it was good all the time.
func (it *item) look() bool {
	n := it.body[0]
	for range 3 {
		for _, m := range it.body {
			if m != n {
				return false
			}
		}
		runtime.Gosched()
	}
	return !it.dead.Load()
}

func (it *item) kill() {
	it.dead.Store(true)
	for i := range it.body {
		it.body[i] = -1 - i
	}
}

// A reclaimer is what the harness needs of a Domain, so that it can be shown a bad one.
type reclaimer interface {
	Limbo(*item)
	Tick() bool
}

// eager releases at once, whoever is inside.
type eager struct{}

func (eager) Limbo(it *item) { it.dead.Store(true) }
func (eager) Tick() bool     { return true }

// The harness below is worth something only if it catches a reclaimer that does not wait.
func TestReaderSeesAnEarlyRelease(t *testing.T) {
	for name, bad := range map[string]bool{"epochs": false, "no epochs": true} {
		var r reclaimer = eager{}
		d := New(1, func(xs []*item) {
			for _, it := range xs {
				it.kill()
			}
		})
		if !bad {
			r = d
		}
		var root atomic.Pointer[item]
		root.Store(newItem(1))
		g := d.Register()
		g.Enter()
		it := root.Load()
		r.Limbo(root.Swap(newItem(2)))
		for range 4 {
			r.Tick()
		}
		if it.look() == bad {
			t.Errorf("%s: item good: %v", name, !bad)
		}
		g.Leave()
	}
}

// TestNothingIsReleasedUnderAReader runs readers, writers that replace what the readers look at,
// several cleaners, workers that come and go, a waiter, and a reader that stays long.
func TestNothingIsReleasedUnderAReader(t *testing.T) {
	const cells = 8
	var (
		cell      [cells]atomic.Pointer[item]
		unlinked  atomic.Int64
		released  atomic.Int64
		releasing atomic.Int32
		advances  atomic.Int64
		looks     atomic.Int64
	)
	d := New(2, func(xs []*item) {
		if releasing.Add(1) != 1 {
			t.Error("two releases at a time")
		}
		for _, it := range xs {
			if it.dead.Load() {
				t.Error("released twice")
			}
			it.kill()
		}
		released.Add(int64(len(xs)))
		releasing.Add(-1)
	})
	for i := range cell {
		cell[i].Store(newItem(i))
	}

	var wg sync.WaitGroup
	var stop atomic.Bool
	loop := func(fn func(i int)) {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				fn(i)
			}
		})
	}
	reader := func(g *Guard, i int) {
		g.Enter()
		for k := range 3 {
			if !cell[(i+k)%cells].Load().look() {
				t.Error("a reader inside saw a released item")
				stop.Store(true)
			}
		}
		g.Leave()
		looks.Add(1)
	}
	for range 2 { // readers
		g := d.Register()
		loop(func(i int) { reader(g, i) })
	}
	loop(func(i int) { // a worker for one request
		g := d.Register()
		reader(g, i)
		d.Unregister(g)
	})
	stalled := d.Register() // a reader that goes to sleep inside
	loop(func(i int) {
		stalled.Enter()
		it := cell[i%cells].Load()
		time.Sleep(2 * time.Millisecond)
		if !it.look() {
			t.Error("a reader that slept inside saw a released item")
			stop.Store(true)
		}
		stalled.Leave()
	})
	for w := range 2 { // writers, one inside while it unlinks and one outside
		g := d.Register()
		loop(func(i int) {
			if w == 0 {
				g.Enter()
			}
			d.Limbo(cell[i%cells].Swap(newItem(i)))
			unlinked.Add(1)
			if w == 0 {
				g.Leave()
			}
			for d.Pending() > 5000 && !stop.Load() {
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 2 { // cleaners
		var last uint64
		loop(func(int) {
			if d.Tick() {
				advances.Add(1)
			}
			if e := d.Epoch(); e < last {
				t.Errorf("the epoch went back from %d to %d", last, e)
			} else {
				last = e
			}
			runtime.Gosched()
		})
	}
	loop(func(int) { // a commit that releases something by itself
		it := cell[0].Swap(newItem(0))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := d.Wait(ctx); err != nil {
			t.Error(err)
			return
		}
		it.kill() // the race detector and look tell when somebody was still there
		time.Sleep(time.Millisecond)
	})

	time.Sleep(*stress)
	stop.Store(true)
	wg.Wait()
	d.Drain()
	if u, r := unlinked.Load(), released.Load(); u != r || d.Pending() != 0 {
		t.Errorf("%d unlinked, %d released, %d pending", u, r, d.Pending())
	}
	if advances.Load() < 3 || looks.Load() < 100 || released.Load() < 100 {
		t.Errorf("hardly anything happened: %d advances, %d looks, %d released", advances.Load(), looks.Load(), released.Load())
	}
	t.Logf("%d advances, %d looks, %d released", advances.Load(), looks.Load(), released.Load())
}

// TestLimboAndTickAgreeOnTheEpoch pushes while the epoch advances, and checks on release that two
// advances have passed since the push returned, or it was on the wrong list.
func TestLimboAndTickAgreeOnTheEpoch(t *testing.T) {
	type stamp struct{ before uint64 }
	var d *Domain[stamp]
	d = New(0, func(xs []stamp) {
		for _, x := range xs {
			// The epoch of the push was at least before; the release is the second advance after it.
			if now := d.Epoch(); now < x.before+2 {
				t.Errorf("pushed in epoch %d or later, released by the advance to %d", x.before, now)
			}
		}
	})
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 3 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				d.Limbo(stamp{d.Epoch()})
				if i%1000 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for begin := time.Now(); time.Since(begin) < *stress/4; {
		d.Tick()
	}
	stop.Store(true)
	wg.Wait()
	d.Drain()
}

func BenchmarkEnterLeave(b *testing.B) {
	d := New(1, func([]int) {})
	b.RunParallel(func(pb *testing.PB) {
		g := d.Register()
		for pb.Next() {
			g.Enter()
			g.Leave()
		}
		d.Unregister(g)
	})
}

func BenchmarkLimbo(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		d := New(1, func([]int) {})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			d.Limbo(i)
			if i%1000 == 0 {
				d.Tick()
			}
		}
	})
	b.Run("crowd", func(b *testing.B) {
		d := New(1, func([]int) {})
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				d.Limbo(i)
				if i%1000 == 0 {
					d.Tick()
				}
			}
		})
	})
}

func BenchmarkTick(b *testing.B) {
	d := New(64, func([]int) {})
	for range 64 {
		d.Register()
	}
	for b.Loop() {
		d.Tick()
	}
}
