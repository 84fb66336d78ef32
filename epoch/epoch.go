// Package epoch decides when something that readers may still be looking at can be taken away.
//
// Readers take no lock. Each worker has a Guard and says with Enter and Leave when it is inside,
// that is, when it may hold something it found by following a pointer. Whoever unlinks an object
// puts it in limbo. A cleaner moves the epoch on, and releases an object once everybody has left
// who was inside when it was unlinked.
//
// Epochs are counted from 0 and never go back.
//
// The hard rule: an object put in limbo in epoch g is released by the second advance after g, no
// earlier and no later, and the epoch advances only when every active guard is in it. The object
// must be unreachable for newcomers before it is put in limbo.
//
// Never call Tick, Wait or Drain inside an epoch, nor while holding a lock that somebody inside an
// epoch may wait for: they wait, or run the release function, for those who are inside. For the same
// reason do not sleep inside an epoch on anything that somebody else inside must provide.
//
// What an object is and what releasing one means is decided above. Source: limbo, epochstart,
// epochend, epochwait, epochclean of blk.c.
package epoch

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// active is the low bit of a guard's state; the epoch is above it.
const active = 1

// lineSize keeps what different processors write apart. Most have lines of 64 bytes, but fetch them
// in pairs.
const lineSize = 128

// A clock is what a Guard needs of its Domain, and has no type parameter, so that a Guard has none.
type clock struct {
	epoch atomic.Uint64 // written by the cleaner only
	_     [lineSize - 8]byte

	mu     sync.Mutex               // for guards that come and go
	guards atomic.Pointer[[]*Guard] // all ever registered, replaced as a whole; slot i at index i
}

// A Guard is one worker's slot. It belongs to one goroutine at a time; Active and Block of a nil
// Guard may be called and do nothing.
type Guard struct {
	// state is epoch<<1|active while inside, 0 outside. The owner writes it, cleaners read it.
	state atomic.Uint64

	clock *clock
	slot  int
	inUse bool // guarded by clock.mu

	// OnBlock, if not nil, is called by Block. Set it while outside.
	OnBlock func()

	_ [lineSize - 40]byte
}

// Enter says that the worker is inside from now on: what it reaches stays until Leave. It panics
// when the worker is inside already. Source: epochstart.
func (g *Guard) Enter() {
	if g.state.Load()&active != 0 {
		panic(fmt.Sprintf("epoch: slot %d enters twice", g.slot))
	}
	for {
		e := g.clock.epoch.Load()
		g.state.Store(e<<1 | active)
		// An epoch already past would be safe, but hold up the cleaner until Leave.
		if g.clock.epoch.Load() == e {
			return
		}
	}
}

// Leave says that the worker holds nothing any more. It panics when the worker is not inside.
// Source: epochend.
func (g *Guard) Leave() {
	if g.state.Load()&active == 0 {
		panic(fmt.Sprintf("epoch: slot %d leaves without being inside", g.slot))
	}
	g.state.Store(0)
}

// Active reports whether the worker is inside. Only the owner's answer still holds when it is used.
func (g *Guard) Active() bool { return g != nil && g.state.Load()&active != 0 }

// Slot returns the number of the guard, from 0, for messages. Numbers are used again after
// Unregister.
func (g *Guard) Slot() int { return g.slot }

// Block is called by whoever is about to sleep on the worker's behalf: before a read of the device,
// before waiting for a lock. It calls OnBlock and does not change whether the worker is inside.
func (g *Guard) Block() {
	if g != nil && g.OnBlock != nil {
		g.OnBlock()
	}
}

// A Domain holds objects of type T in limbo and releases them.
//
//   - cur holds what was put in limbo in the current epoch, prev what was in the one before.
//   - The epoch and the two lists change together, under mu.
type Domain[T any] struct {
	clock clock

	release func([]T)
	pending atomic.Int64 // in cur, in prev, or being released

	cleaner sync.Mutex // held by the one who may advance, also while releasing
	spare   []T        // guarded by cleaner: an empty list whose array is used again

	mu        sync.Mutex // innermost; nothing is called with it held
	cur, prev []T
}

// New returns a domain with room for that many workers; Register makes more as needed. release gets
// everything that leaves limbo in one advance, oldest first, in the goroutine that called Tick, Wait
// or Drain and with no lock held that Limbo, Enter or Leave need; it must not keep the slice, and
// must not call Wait or Drain. It is never called with nothing and never by two at a time.
func New[T any](workers int, release func([]T)) *Domain[T] {
	d := &Domain[T]{release: release}
	gs := make([]*Guard, max(workers, 0))
	for i := range gs {
		gs[i] = &Guard{clock: &d.clock, slot: i}
	}
	d.clock.guards.Store(&gs)
	return d
}

// Register returns a guard nobody else has, outside and with OnBlock nil. Safe for concurrent use.
func (d *Domain[T]) Register() *Guard {
	c := &d.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	gs := *c.guards.Load()
	for _, g := range gs {
		if !g.inUse {
			g.inUse = true
			return g
		}
	}
	// A cleaner that is going through the old list does not see this guard, and need not: it is
	// outside, and will enter the epoch that is current then.
	g := &Guard{clock: c, slot: len(gs), inUse: true}
	gs = append(slices.Clip(gs), g)
	c.guards.Store(&gs)
	return g
}

// Unregister gives a guard back. It panics when the guard is inside, not registered, or another
// domain's.
func (d *Domain[T]) Unregister(g *Guard) {
	c := &d.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case g.clock != c:
		panic("epoch: guard of another domain")
	case !g.inUse:
		panic(fmt.Sprintf("epoch: slot %d is not registered", g.slot))
	case g.Active():
		panic(fmt.Sprintf("epoch: slot %d unregisters inside an epoch", g.slot))
	}
	g.OnBlock = nil
	g.inUse = false
}

// Limbo puts x on the list of the current epoch. The caller has made x unreachable for whoever
// enters from now on. It may be called inside or outside, and by the release function. It takes no
// memory once the lists have grown to what is usual. Source: limbo.
func (d *Domain[T]) Limbo(x T) {
	d.pending.Add(1)
	// The lock, and not only an atomic push, so that the list is that of the epoch: a push that read
	// the epoch before an advance and landed after it would be on the wrong list.
	d.mu.Lock()
	d.cur = append(d.cur, x)
	d.mu.Unlock()
}

// Pending returns how many objects are in limbo or being released just now. Writers that must wait
// while there are too many look at this.
func (d *Domain[T]) Pending() int { return int(d.pending.Load()) }

// Epoch returns the current epoch, for messages and tests.
func (d *Domain[T]) Epoch() uint64 { return d.clock.epoch.Load() }

// Tick advances the epoch and releases what was put in limbo in the epoch before the one that ends.
// It does nothing and returns false when a worker is still inside an older epoch, or when another
// goroutine is at it. It waits for nobody; only the release function takes time.
// See the package comment for where not to call it. Source: epochclean.
func (d *Domain[T]) Tick() bool {
	// Two cleaners could both find everybody in epoch e and advance twice on one look.
	if !d.cleaner.TryLock() {
		return false
	}
	defer d.cleaner.Unlock()

	e := d.clock.epoch.Load()
	if slot, _ := d.clock.oldest(e); slot >= 0 {
		return false
	}
	// Who enters from here on is in e or later and finds nothing that was unlinked before e.
	d.mu.Lock()
	old := d.prev
	d.prev, d.cur = d.cur, d.spare
	d.clock.epoch.Store(e + 1)
	d.mu.Unlock()
	d.spare = nil

	if len(old) > 0 {
		d.release(old)
		d.pending.Add(-int64(len(old)))
		clear(old) // or the array would keep what was released from the collector
	}
	d.spare = old[:0]
	return true
}

// oldest returns slot and epoch of the guard that is inside the oldest epoch before the given one,
// or slot -1 when there is none.
func (c *clock) oldest(before uint64) (slot int, epoch uint64) {
	slot, epoch = -1, before
	for i, g := range *c.guards.Load() {
		s := g.state.Load()
		if s&active != 0 && s>>1 < epoch {
			slot, epoch = i, s>>1
		}
	}
	return slot, epoch
}

// A StallError says that Wait gave up, and because of whom.
type StallError struct {
	Epoch uint64 // the worker's
	Now   uint64 // current
	Slot  int    // the worker's guard; -1 when the cause was a release function that took too long
	Err   error  // of the context
}

// Error names the worker.
func (e *StallError) Error() string {
	if e.Slot < 0 {
		return fmt.Sprintf("epoch %d stalled: waiting for what is being released: %v", e.Now, e.Err)
	}
	return fmt.Sprintf("epoch %d stalled: worker %d is still in epoch %d: %v", e.Now, e.Slot, e.Epoch, e.Err)
}

// Unwrap returns the error of the context.
func (e *StallError) Unwrap() error { return e.Err }

// Wait returns nil once everybody who was inside when it was called has left. It moves the epoch on
// for that, so it may run the release function. When ctx ends first it returns a *StallError that
// wraps the context's error; nothing has been done then that would have to be undone.
//
// This is stronger than the rule of the reference, which waits only for those in an epoch before the
// current one: a worker that entered the current epoch before the call may hold the same things.
// Source: epochwait.
func (d *Domain[T]) Wait(ctx context.Context) error {
	end := d.clock.epoch.Load() + 1
	var b backoff
	for {
		now := d.clock.epoch.Load()
		if now < end {
			d.Tick() // fails while somebody is in an epoch before this; once past end-1 we only look
			now = d.clock.epoch.Load()
		}
		if now >= end {
			if slot, _ := d.clock.oldest(end); slot < 0 {
				return nil
			}
		}
		if err := b.sleep(ctx); err != nil {
			slot, e := d.clock.oldest(end)
			return &StallError{Epoch: e, Now: now, Slot: slot, Err: err}
		}
	}
}

// Drain advances until nothing is in limbo, waiting for those who are inside. Nobody may go on
// putting things there, or it may not return. Used before the last commit, which must find
// everything freed.
func (d *Domain[T]) Drain() {
	var b backoff
	for d.Pending() > 0 {
		if !d.Tick() {
			b.sleep(context.Background())
		}
	}
}

// A backoff sleeps longer each time: first it only yields, at the end it sleeps 10 ms.
type backoff struct{ n int }

const (
	backoffYields = 16
	backoffMin    = 10 * time.Microsecond
	backoffMax    = 10 * time.Millisecond
)

// sleep returns the context's error once that has ended.
func (b *backoff) sleep(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.n++
	if b.n <= backoffYields {
		runtime.Gosched()
		return nil
	}
	t := time.NewTimer(min(backoffMin<<min(b.n-backoffYields, 16), backoffMax))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
