package blkstore

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// filled makes a toy with n keys, committed, and returns it opened again with an empty cache.
func filled(t *testing.T, dev blkdev.Device, n int) *toy {
	t.Helper()
	y := newToy(t, dev, Options{})
	for k := range n {
		y.must(y.set(uint64(k), byte(k%250+1)))
	}
	y.must(y.commit())
	y.close()
	y, err := openToy(t, dev, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return y
}

func TestOneReaderFetchesWhileOthersWait(t *testing.T) {
	dev := blkdev.NewFault(blkdev.NewMem(diskSize))
	y := filled(t, dev, 1)
	reading, reads := make(chan struct{}), atomic.Int32{}
	dev.Hook(func(op blkdev.Op, off, n int64) error {
		if op == blkdev.OpRead && off == int64(y.data[0].Addr) {
			reads.Add(1)
			<-reading
		}
		return nil
	})
	const readers = 8
	blks := make([]*Blk, readers)
	var came, done sync.WaitGroup
	came.Add(readers)
	for i := range readers {
		done.Go(func() {
			g := y.st.Guard()
			defer y.st.FreeGuard(g)
			g.Enter()
			defer g.Leave()
			came.Done()
			var err error
			if blks[i], err = y.st.Get(g, y.data[0], blkfmt.Data); err != nil {
				t.Error(err)
			}
		})
	}
	came.Wait()
	for range 100 { // give all of them the time to get to the device, if they did
		runtime.Gosched()
		time.Sleep(100 * time.Microsecond)
	}
	close(reading)
	done.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d readers read the block %d times", readers, n)
	}
	for _, b := range blks {
		if b != blks[0] {
			t.Error("readers have different buffers of one block")
		}
		y.st.Drop(b)
	}
	dev.Hook(nil)
	y.quiet()
}

// Pitfall 56.
func TestHitOfAnotherGenerationIsRefused(t *testing.T) {
	y := filled(t, blkdev.NewMem(diskSize), 1)
	_, err := y.read(0)
	y.must(err)
	y.g.Enter()
	for name, tt := range map[string]struct {
		change func(*blkfmt.Bptr)
		typ    blkfmt.Type
	}{
		"generation": {func(p *blkfmt.Bptr) { p.Gen++ }, blkfmt.Data},
		"hash":       {func(p *blkfmt.Bptr) { p.Hash ^= 1 }, blkfmt.Data},
		"type":       {func(*blkfmt.Bptr) {}, blkfmt.Leaf},
	} {
		bp := y.data[0]
		tt.change(&bp)
		if b, err := y.st.get(y.g, bp, tt.typ); corrupt(err) == nil {
			t.Errorf("cached block, wrong %s: got %v, %v", name, b, err)
		}
	}
	y.g.Leave()
	if v, err := y.read(0); v != 1 || err != nil {
		t.Errorf("the right pointer after wrong ones: %d, %v", v, err)
	}
	y.quiet()
}

func TestAddressOutsideOfArenasIsCorruption(t *testing.T) {
	y := filled(t, blkdev.NewMem(diskSize), 1)
	y.g.Enter()
	for _, a := range []blkfmt.Addr{0, 1, blkfmt.NoAddr, -blkfmt.BlkSize, diskSize, 1 << 60, y.st.arenas.Stat()[1].Addr} {
		if _, err := y.st.Get(y.g, blkfmt.Bptr{Addr: a, Gen: blkfmt.NoGen}, blkfmt.Data); corrupt(err) == nil {
			t.Errorf("get at %v: %v", a, err)
		}
		if err := y.st.Free(blkfmt.Bptr{Addr: a}); err == nil {
			t.Errorf("free at %v was accepted", a)
		}
	}
	y.g.Leave()
	if err := y.st.Err(); err != nil {
		t.Errorf("the store was latched: %v", err)
	}
	y.quiet()
}

// Pitfall 23: checksums must be on, for every type of block.
func TestEveryTypeOfBlockIsVerified(t *testing.T) {
	mem := blkdev.NewMem(diskSize)
	y := newToy(t, mem, Options{})
	y.must(y.set(1, 1))
	dead, err := y.st.New(y.g, blkfmt.Deadlist, 0)
	y.must(err)
	p := logfmt.AppendDead(dead.Bytes()[:blkfmt.LogHdSize], y.root.Addr)
	blkfmt.EncodeLogHdr(dead.Bytes(), blkfmt.LogHdr{Type: blkfmt.Deadlist, Size: len(p) - blkfmt.LogHdSize, Chain: blkfmt.NoPtr}, y.st.Hasher())
	y.st.Enqueue(dead)
	deadPtr := dead.Ptr()
	y.st.Drop(dead)
	pivot, err := y.st.New(y.g, blkfmt.Pivot, 1)
	y.must(err)
	pivot.Node().InitPivot()
	pivot.Node().AddChild(key(1), y.root, 100)
	y.st.Enqueue(pivot)
	pivPtr := pivot.Ptr()
	y.st.Drop(pivot)
	y.must(y.commit())
	y.close()

	for _, tt := range []struct {
		typ blkfmt.Type
		bp  blkfmt.Bptr
		at  []int64
	}{
		{blkfmt.Data, y.data[1], []int64{0, 1, 8000, blkfmt.BlkSize - 1}},
		{blkfmt.Leaf, y.root, []int64{0, 1, 8000, blkfmt.BlkSize - 1}},
		{blkfmt.Pivot, pivPtr, []int64{0, 1, 8000, blkfmt.BlkSize - 1}},
		// The format's hash does not cover the chain pointer, nor what is behind the entries.
		{blkfmt.Deadlist, deadPtr, []int64{0, 1, 3, 4, 11, blkfmt.LogHdSize, blkfmt.LogHdSize + 7}},
	} {
		for _, at := range tt.at {
			dev := blkdev.NewFault(mem.Clone())
			st, err := Open(dev, Options{})
			y.must(err)
			g := st.Guard()
			g.Enter()
			get := func() error {
				b, err := st.get(g, tt.bp, tt.typ)
				st.Drop(b)
				return err
			}
			dev.Corrupt(int64(tt.bp.Addr)+at, 1, 0x40)
			if err := get(); corrupt(err) == nil || corrupt(err).Addr != tt.bp.Addr {
				t.Errorf("%v block with byte %d changed: %v", tt.typ, at, err)
			}
			dev.Heal()
			dev.Fail(blkdev.Rule{Op: blkdev.OpRead})
			if err := get(); !errors.Is(err, ErrIO) || !errors.Is(err, blkdev.ErrInjected) {
				t.Errorf("%v block, failing device: %v", tt.typ, err)
			}
			// Neither failure is remembered, and the buffers are back.
			if err := get(); err != nil {
				t.Errorf("%v block once the device is well: %v", tt.typ, err)
			}
			g.Leave()
			if st.Err() != nil {
				t.Errorf("a block that cannot be read made the store read-only: %v", st.Err())
			}
			buffers(t, st, 0)
			st.FreeGuard(g)
			st.Close()
		}
	}
}

// A failed fill must reach all who wait for it, and leave nothing behind.
func TestFailedFillIsToldToAllAndForgotten(t *testing.T) {
	dev := blkdev.NewFault(blkdev.NewMem(diskSize))
	y := filled(t, dev, 1)
	shrink(y.st, 8)
	for range 20 { // more often than there are buffers
		dev.Corrupt(int64(y.data[0].Addr), 1, 1)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				g := y.st.Guard()
				defer y.st.FreeGuard(g)
				g.Enter()
				defer g.Leave()
				if _, err := y.st.Get(g, y.data[0], blkfmt.Data); corrupt(err) == nil {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		buffers(t, y.st, 0)
		dev.Heal()
	}
	if v, err := y.read(0); v != 1 || err != nil {
		t.Errorf("after the medium healed: %d, %v", v, err)
	}
}

func TestEvictionTakesWhatWasNotUsedSinceTheHandCameBy(t *testing.T) {
	y := filled(t, blkdev.NewMem(diskSize), 120)
	// One shard only, so that there is one hand: keys whose blocks are in it.
	var keys []uint64
	sh := y.st.shard(y.data[0].Addr)
	for k := range uint64(120) {
		if y.st.shard(y.data[k].Addr) == sh {
			keys = append(keys, k)
		}
	}
	if len(keys) < 3 {
		t.Fatalf("only keys %v are in one shard", keys)
	}
	for _, k := range keys {
		_, err := y.read(k)
		y.must(err)
	}
	used := keys[0]
	_, err := y.read(used) // a hit
	y.must(err)
	y.g.Enter()
	held, err := y.st.Get(y.g, y.data[keys[1]], blkfmt.Data)
	y.must(err)
	var order []blkfmt.Addr
	for b := sh.evict(); b != nil; b = sh.evict() {
		order = append(order, b.addr)
		y.st.pool.put(b)
	}
	y.g.Leave()
	pos := func(k uint64) int {
		for i, a := range order {
			if a == y.data[k].Addr {
				return i
			}
		}
		return -1
	}
	if pos(keys[1]) >= 0 {
		t.Errorf("a held block was evicted")
	}
	if n := pos(used); n != len(order)-1 {
		t.Errorf("the block used again went as number %d of %d", n+1, len(order))
	}
	y.st.Drop(held)
	y.quiet()
}

func TestHitsAreCounted(t *testing.T) {
	y := filled(t, blkdev.NewMem(diskSize), 3)
	before := y.st.Stats()
	for range 4 {
		for k := range uint64(3) {
			_, err := y.read(k)
			y.must(err)
		}
	}
	s := y.st.Stats()
	if s.Misses-before.Misses != 3 || s.Hits-before.Hits != 9 {
		t.Errorf("%d misses and %d hits, want 3 and 9", s.Misses-before.Misses, s.Hits-before.Hits)
	}
	y.quiet()
}

// Everything in a small pool is unwritten or held: whoever needs a buffer waits, and goes on.
func TestFullPoolWaitsForTheWriter(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	shrink(y.st, 64)
	y.g.Enter()
	var bps []blkfmt.Bptr
	for i := range 1000 {
		b, err := y.st.NewData(y.g, 1, uint64(i), true)
		y.must(err)
		b.Bytes()[0] = byte(i)
		y.st.Enqueue(b)
		bps = append(bps, b.Ptr())
		y.st.Drop(b)
	}
	for _, bp := range bps {
		y.must(y.st.Free(bp))
	}
	y.g.Leave()
	y.quiet()
	if s := y.st.Stats(); s.Cache > 64 {
		t.Errorf("%d buffers were made, at most 64 may be", s.Cache)
	}
}

// Blocks that wait in limbo for the very worker that needs a buffer must not be all there is.
func TestFullPoolOfTheDead(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	shrink(y.st, 64)
	y.g.Enter()
	for i := range 1000 {
		// Dead as soon as it is born; older ones are written by now, for want of buffers.
		b, err := y.st.New(y.g, blkfmt.Leaf, 1)
		y.must(err)
		b.Node().InitLeaf()
		y.st.Enqueue(b)
		bp := b.Where()
		y.st.Drop(b)
		if i%3 != 0 {
			y.must(y.st.FreeOwn(bp))
		} else {
			defer func() { y.must(y.st.Free(bp)) }()
		}
	}
	y.g.Leave()
}

func TestWaitRoomWaitsUntilBlocksAreWritten(t *testing.T) {
	dev := &spy{Device: blkdev.NewMem(diskSize)}
	y := newToy(t, dev, Options{})
	shrink(y.st, 64)
	gate := make(chan struct{})
	dev.onCall(func(call) { <-gate })
	y.g.Enter()
	for !y.st.Crowded() {
		b, err := y.st.NewData(y.g, 1, 1, true)
		y.must(err)
		y.st.Enqueue(b)
		y.st.Drop(b)
	}
	y.g.Leave()
	done := make(chan error)
	go func() { done <- y.st.WaitRoom(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("WaitRoom returned %v while nothing could be written", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	if err := <-done; err != nil || y.st.Crowded() {
		t.Errorf("WaitRoom: %v; crowded: %v", err, y.st.Crowded())
	}
}

// A pointer into free space, as on a corrupt disk, must not be able to panic or to have a live block
// overwritten. Pitfall 42.
func TestPointerIntoFreeSpaceIsNoticedWhenTheBlockIsHandedOut(t *testing.T) {
	y := filled(t, blkdev.NewMem(diskSize), 1)
	// A block is written, freed, and its space back; somebody still has a pointer.
	old := y.data[0]
	y.must(y.set(0, 9))
	y.must(y.commit())
	drainLimbo(y.st)
	y.g.Enter()
	b, err := y.st.Get(y.g, old, blkfmt.Data)
	y.must(err)
	y.st.Drop(b)
	for i := 0; y.st.Err() == nil; i++ {
		b, err := y.st.NewData(y.g, 1, uint64(i), i%2 == 0)
		if err != nil {
			t.Fatalf("the disk is full, and block %v was not handed out: %v", old, err)
		}
		y.st.Enqueue(b)
		y.st.Drop(b)
	}
	y.g.Leave()
	if c := corrupt(y.st.Err()); c == nil || c.Addr != old.Addr || !strings.Contains(c.Error(), "free") {
		t.Errorf("latched by %v", y.st.Err())
	}
}

// Many readers in a cache that is much too small, while everything is written anew.
func TestReadersAndWriterInASmallCache(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	shrink(y.st, 48)
	const keys = 60
	var mu sync.RWMutex // what is written, against what is expected
	want := make([]byte, keys)
	for k := range uint64(keys) {
		y.must(y.set(k, 1))
		want[k] = 1
	}
	s := seed(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s, uint64(i)))
			g := y.st.Guard()
			defer y.st.FreeGuard(g)
			for {
				select {
				case <-stop:
					return
				default:
				}
				k := r.Uint64N(keys)
				g.Enter()
				mu.RLock()
				bp, v := y.data[k], want[k]
				mu.RUnlock()
				b, err := y.st.Get(g, bp, blkfmt.Data)
				if err != nil {
					t.Errorf("key %d: %v", k, err)
				} else {
					if b.Bytes()[0] != v || b.Bytes()[blkfmt.BlkSize-1] != v {
						t.Errorf("key %d: %d, want %d", k, b.Bytes()[0], v)
					}
					y.st.Drop(b)
				}
				g.Leave()
			}
		})
	}
	r := rand.New(rand.NewPCG(s, 99))
	steps := 3000
	if testing.Short() {
		steps = 500
	}
	for i := range steps {
		k, v := r.Uint64N(keys), byte(r.IntN(250)+1)
		y.must(y.st.WaitRoom(t.Context()))
		mu.Lock()
		err := y.set(k, v)
		want[k] = v
		mu.Unlock()
		y.must(err)
		y.st.Tick()
		if i%50 == 0 {
			mu.Lock()
			c := y.seal()
			mu.Unlock()
			y.must(c.Run(nil))
			c.Done()
		}
		y.hist = nil
	}
	close(stop)
	wg.Wait()
	y.quiet()
}
