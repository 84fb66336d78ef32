package epoch

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of random tests; 0 takes one from the clock")
	stress = flag.Duration("stress", time.Second, "how long the stress test runs")
)

func newRand(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// collect returns a domain that appends what it releases to the slice it returns too.
func collect(workers int) (*Domain[int], *[]int) {
	var released []int
	return New(workers, func(xs []int) { released = append(released, xs...) }), &released
}

func mustPanic(t *testing.T, what string, fn func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	fn()
}

func TestReleasedByTheSecondAdvance(t *testing.T) {
	d, released := collect(1)
	for x := range 20 {
		d.Limbo(2 * x)
		d.Limbo(2*x + 1)
		if !d.Tick() {
			t.Fatal("Tick with nobody inside did not advance")
		}
		// In epoch x+1 all that was put in before epoch x is released, and nothing else.
		want := make([]int, 0, 2*x)
		for i := range 2 * x {
			want = append(want, i)
		}
		if !slices.Equal(*released, want) {
			t.Fatalf("epoch %d: released %v, want %v", d.Epoch(), *released, want)
		}
		if got := d.Pending(); got != 2 {
			t.Fatalf("epoch %d: %d pending, want 2", d.Epoch(), got)
		}
	}
}

// Neither may leak: the objects of the epoch that ends must not be released with those of the one
// before, nor be forgotten when an advance had nothing to release.
func TestEmptyEpochsLoseNothing(t *testing.T) {
	d, released := collect(0)
	want := 0
	for i := range 64 {
		if i>>1&1 == 0 || i%5 == 0 {
			d.Limbo(i)
			want++
		}
		d.Tick()
	}
	d.Tick()
	if len(*released) != want || d.Pending() != 0 {
		t.Errorf("%d released, %d pending; want %d and 0", len(*released), d.Pending(), want)
	}
}

func TestReleaseGetsTheWholeListAtOnce(t *testing.T) {
	calls := 0
	d := New(0, func(xs []int) {
		if calls++; len(xs) != 100 || xs[0] != 0 || xs[99] != 99 {
			t.Errorf("released %v", xs)
		}
	})
	for i := range 100 {
		d.Limbo(i)
	}
	for range 5 {
		d.Tick()
	}
	if calls != 1 {
		t.Errorf("release was called %d times", calls)
	}
}

// TestEveryWorkerHoldsTheEpoch asks the first, the last and the late one, alone.
func TestEveryWorkerHoldsTheEpoch(t *testing.T) {
	const workers, late = 3, 3
	d, released := collect(workers)
	var gs []*Guard
	for range workers + late {
		gs = append(gs, d.Register())
	}
	for i, g := range gs {
		if g.Slot() != i {
			t.Errorf("guard %d has slot %d", i, g.Slot())
		}
		*released = nil
		g.Enter()
		d.Limbo(i)
		if !d.Tick() {
			t.Errorf("guard %d in the current epoch stops the first advance", i)
		}
		for range 5 {
			if d.Tick() {
				t.Fatalf("guard %d in an old epoch did not stop the advance", i)
			}
		}
		if len(*released) != 0 {
			t.Fatalf("%v released under guard %d", *released, i)
		}
		g.Leave()
		if !d.Tick() || !slices.Equal(*released, []int{i}) {
			t.Errorf("after guard %d left: released %v", i, *released)
		}
	}
}

// TestModel runs random operations and checks after each what is released against the two rules, kept
// in the plainest way: two advances, and nobody left who was inside when the object was put in.
func TestModel(t *testing.T) {
	r := newRand(t)
	type object struct {
		epoch   int
		holders []*Guard // inside when it was unlinked, and since
	}
	for range 50 {
		released := map[int]bool{}
		d := New(r.IntN(3), func(xs []int) {
			for _, x := range xs {
				if released[x] {
					t.Fatalf("object %d released twice", x)
				}
				released[x] = true
			}
		})
		var (
			gs      []*Guard
			entered = map[*Guard]int{} // epoch, of those inside
			objects []object
			epoch   int
		)
		for range 400 {
			switch op := r.IntN(10); {
			case op == 0 && len(gs) < 8:
				gs = append(gs, d.Register())
			case op == 1 && len(gs) > 0:
				i := r.IntN(len(gs))
				if !gs[i].Active() {
					d.Unregister(gs[i])
					gs = slices.Delete(gs, i, i+1)
				}
			case op <= 4 && len(gs) > 0:
				g := gs[r.IntN(len(gs))]
				if g.Active() {
					g.Leave()
					delete(entered, g)
					for i := range objects {
						objects[i].holders = slices.DeleteFunc(objects[i].holders, func(h *Guard) bool { return h == g })
					}
				} else {
					g.Enter()
					entered[g] = epoch
				}
			case op <= 6:
				o := object{epoch: epoch}
				for g := range entered {
					o.holders = append(o.holders, g)
				}
				d.Limbo(len(objects))
				objects = append(objects, o)
			default:
				free := true
				for _, e := range entered {
					free = free && e == epoch
				}
				if got := d.Tick(); got != free {
					t.Fatalf("Tick = %v, guards in %v, epoch %d", got, entered, epoch)
				}
				if free {
					epoch++
				}
			}
			pending := 0
			for x, o := range objects {
				if want := epoch >= o.epoch+2; released[x] != want {
					t.Fatalf("epoch %d: object %d of epoch %d released: %v", epoch, x, o.epoch, released[x])
				}
				if released[x] && len(o.holders) > 0 {
					t.Fatalf("epoch %d: object %d released under %d readers", epoch, x, len(o.holders))
				}
				if !released[x] {
					pending++
				}
			}
			if d.Pending() != pending {
				t.Fatalf("Pending() = %d, want %d", d.Pending(), pending)
			}
		}
	}
}

func TestOneCleanerAtATime(t *testing.T) {
	inside, done := make(chan bool), make(chan bool)
	var calls atomic.Int32
	d := New(0, func([]int) {
		if calls.Add(1) == 1 {
			inside <- true
			<-done
		}
	})
	d.Limbo(1)
	d.Tick()
	var wg sync.WaitGroup
	wg.Go(func() { d.Tick() })
	<-inside // the other one is releasing, in epoch 2
	d.Limbo(2)
	for range 10 {
		if d.Tick() {
			t.Error("a second cleaner advanced")
		}
	}
	if d.Epoch() != 2 || d.Pending() != 2 {
		t.Errorf("epoch %d with %d pending; want 2 and 2", d.Epoch(), d.Pending())
	}
	done <- true
	wg.Wait()
	d.Drain()
	if d.Pending() != 0 {
		t.Errorf("%d pending after Drain", d.Pending())
	}
}

// The release function queues frees, which may come back to the domain, and takes locks that others
// hold while they put things in limbo.
func TestReleaseMayUseTheDomain(t *testing.T) {
	var d *Domain[int]
	var mu sync.Mutex
	d = New(1, func(xs []int) {
		mu.Lock()
		defer mu.Unlock()
		for _, x := range xs {
			if x > 0 {
				d.Limbo(x - 1)
			}
		}
		if d.Tick() {
			t.Error("Tick inside a release advanced")
		}
		g := d.Register()
		g.Enter()
		g.Leave()
		d.Unregister(g)
	})
	mu.Lock()
	d.Limbo(5)
	mu.Unlock()
	d.Drain()
	if e := d.Epoch(); e < 12 || d.Pending() != 0 {
		t.Errorf("epoch %d, %d pending after six generations", e, d.Pending())
	}
}

func TestMisuseOfAGuardPanics(t *testing.T) {
	d, _ := collect(1)
	g := d.Register()
	mustPanic(t, "Leave outside", g.Leave)
	g.Enter()
	mustPanic(t, "Enter inside", g.Enter)
	mustPanic(t, "Unregister inside", func() { d.Unregister(g) })
	if !g.Active() {
		t.Error("misuse changed the state")
	}
	g.Leave()
	other, _ := collect(1)
	mustPanic(t, "Unregister at another domain", func() { other.Unregister(g) })
	d.Unregister(g)
	mustPanic(t, "second Unregister", func() { d.Unregister(g) })
}

func TestSlotsAreUsedAgain(t *testing.T) {
	d, _ := collect(2)
	a, b, c := d.Register(), d.Register(), d.Register()
	if a == b || b == c || a == c {
		t.Fatal("two workers have one guard")
	}
	b.OnBlock = func() { t.Error("OnBlock of the last owner was called") }
	d.Unregister(b)
	if again := d.Register(); again != b {
		t.Errorf("slot %d, want %d again", again.Slot(), b.Slot())
	}
	b.Block()
}

func TestBlockCallsOnBlock(t *testing.T) {
	var none *Guard
	none.Block()
	if none.Active() {
		t.Error("nil guard is inside")
	}
	d, _ := collect(1)
	g := d.Register()
	g.Block()
	n := 0
	g.OnBlock = func() { n++ }
	g.Enter()
	g.Block()
	if n != 1 || !g.Active() {
		t.Errorf("OnBlock called %d times, active %v", n, g.Active())
	}
	g.Leave()
}

func TestGuardsDoNotShareCacheLines(t *testing.T) {
	if n := unsafe.Sizeof(Guard{}); n < lineSize {
		t.Errorf("a guard has %d bytes, less than a pair of cache lines", n)
	}
	d, _ := collect(64)
	var at []uintptr
	for range 100 {
		at = append(at, uintptr(unsafe.Pointer(&d.Register().state)))
	}
	slices.Sort(at)
	for i := range at[1:] {
		if at[i+1]-at[i] < lineSize {
			t.Fatalf("two guards are %d bytes apart", at[i+1]-at[i])
		}
	}
	var c clock
	if unsafe.Offsetof(c.mu)-unsafe.Offsetof(c.epoch) < lineSize {
		t.Error("the epoch shares its line with a lock")
	}
}

// returns reports whether fn returns within the time. The goroutine is waited for by the caller, who
// must make fn return.
func returns(wg *sync.WaitGroup, within time.Duration, fn func()) (done chan struct{}, soon bool) {
	done = make(chan struct{})
	wg.Go(func() {
		fn()
		close(done)
	})
	select {
	case <-done:
		return done, true
	case <-time.After(within):
		return done, false
	}
}

func TestWaitIsForEverybodyInsideWhenItBegan(t *testing.T) {
	for _, c := range []struct {
		name  string
		ticks int // between Enter and Wait
	}{{"reader in the current epoch", 0}, {"reader in an older epoch", 1}} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := collect(2)
			old, late := d.Register(), d.Register()
			old.Enter()
			for range c.ticks {
				d.Tick()
			}
			var wg sync.WaitGroup
			var err error
			done, soon := returns(&wg, 20*time.Millisecond, func() { err = d.Wait(context.Background()) })
			if soon {
				t.Fatal("Wait returned while a reader was inside")
			}
			if c.ticks == 0 {
				for d.Epoch() == 0 {
					runtime.Gosched()
				}
				late.Enter() // after Wait moved the epoch on: not waited for
			}
			old.Leave()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Error("Wait goes on after the reader left")
			}
			if late.Active() {
				late.Leave()
			}
			wg.Wait()
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Readers that overlap all the time leave no moment at which nobody is inside.
func TestWaitIsNotStarvedByNewReaders(t *testing.T) {
	d, _ := collect(2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var entered [2]atomic.Int64
	turn := [2]chan bool{make(chan bool, 1), make(chan bool, 1)}
	for i := range 2 {
		g := d.Register()
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-turn[i]:
				}
				g.Enter()
				entered[i].Add(1)
				turn[1-i] <- true // the other is inside before we leave
				for n := entered[1-i].Load(); entered[1-i].Load() == n; {
					select {
					case <-stop:
						g.Leave()
						return
					default:
						runtime.Gosched()
					}
				}
				g.Leave()
			}
		})
	}
	turn[0] <- true
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for range 5 {
		if err := d.Wait(ctx); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestWaitNamesTheWorkerThatStalls(t *testing.T) {
	d, _ := collect(3)
	d.Register()
	g := d.Register()
	d.Tick()
	g.Enter()
	d.Tick()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	err := d.Wait(ctx)
	var stall *StallError
	if !errors.As(err, &stall) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait: %v", err)
	}
	if stall.Slot != 1 || stall.Epoch != 1 || stall.Now != 2 || !strings.Contains(err.Error(), "worker 1 is still in epoch 1") {
		t.Errorf("%+v: %v", stall, err)
	}
	g.Leave()
	if err := d.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestDrainEmptiesLimboAndWaitsForReaders(t *testing.T) {
	d, released := collect(1)
	g := d.Register()
	g.Enter()
	for i := range 10 {
		d.Limbo(i)
	}
	var wg sync.WaitGroup
	if _, soon := returns(&wg, 20*time.Millisecond, d.Drain); soon {
		t.Error("Drain returned under a reader")
	}
	g.Leave()
	wg.Wait()
	if len(*released) != 10 || d.Pending() != 0 {
		t.Errorf("released %v, %d pending", *released, d.Pending())
	}
}

// Freeing must not need memory, once the lists have their size.
func TestSteadyStateTakesNoMemory(t *testing.T) {
	d := New(1, func([]*int) {})
	g := d.Register()
	x := new(int)
	round := func() {
		g.Enter()
		for range 100 {
			d.Limbo(x)
		}
		g.Leave()
		d.Tick()
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

func TestReleasedObjectsAreLeftToTheCollector(t *testing.T) {
	d := New(0, func([]*[1 << 16]byte) {})
	collected := make(chan bool, 1)
	func() {
		x := new([1 << 16]byte)
		runtime.AddCleanup(x, func(int) { collected <- true }, 0)
		d.Limbo(x)
	}()
	d.Drain()
	for range 100 {
		runtime.GC()
		select {
		case <-collected:
			runtime.KeepAlive(d)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
	runtime.KeepAlive(d)
	t.Error("the domain keeps what it released")
}
