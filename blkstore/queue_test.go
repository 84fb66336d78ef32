package blkstore

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

// A plain is a store on which blocks are made and queued without anything that holds them.
type plain struct {
	*toy
	dev  *spy
	hint uint64
}

func newPlain(t *testing.T) *plain {
	dev := &spy{Device: blkdev.NewMem(diskSize)}
	p := &plain{toy: newToy(t, dev, Options{}), dev: dev}
	y := p.toy
	y.must(y.commit())
	dev.take()
	return p
}

// where returns the hint in use: seven lead to one arena each, the one for trees to the eighth.
func (p *plain) where() uint64 {
	if h := p.hint % 8; h < 7 {
		return h
	}
	return arena.Meta
}

// block queues a new block in the arena of number ar; there are 8.
func (p *plain) block(typ blkfmt.Type, ar int) *Blk {
	p.t.Helper()
	for ; ; p.hint++ { // the one that leads to this arena; now and then it changes
		b, err := p.st.NewData(p.g, 1, p.where(), true)
		p.must(err)
		i, err := p.st.arenas.Index(b.addr)
		p.must(err)
		if i != ar {
			p.st.Discard(b)
			continue
		}
		b.typ = typ
		if typ != blkfmt.Data {
			b.Node().InitLeaf()
		}
		p.st.Enqueue(b)
		return b
	}
}

// written returns the addresses of the blocks in the order in which they were written.
func written(calls []call) (list []blkfmt.Addr) {
	for _, c := range calls {
		off := c.off
		for _, n := range c.n {
			list = append(list, blkfmt.Addr(off))
			off += int64(n)
		}
	}
	return list
}

// Pitfalls 38, 39: oldest generation first, then data before nodes, then by address.
func TestQueueWritesByGenerationKindAndAddress(t *testing.T) {
	p := newPlain(t)
	r := rand.New(rand.NewPCG(seed(t), 0))
	type entry struct {
		gen  int
		kind uint8
		a    blkfmt.Addr
	}
	var want []entry
	for gen := range 3 {
		for range 40 {
			typ, kind := blkfmt.Data, kindData
			if r.IntN(2) == 0 {
				typ, kind = blkfmt.Leaf, kindNode
			}
			b := p.block(typ, 1)
			want = append(want, entry{gen, kind, b.addr})
			p.st.Drop(b)
		}
		p.st.qgen.Add(1)
	}
	if n := len(p.dev.take()); n > 0 {
		t.Errorf("%d writes before anybody asked for any", n)
	}
	slices.SortFunc(want, func(a, b entry) int { // not qcmp, which is what is tested
		return cmp.Or(cmp.Compare(a.gen, b.gen), cmp.Compare(a.kind, b.kind), cmp.Compare(a.a, b.a))
	})
	p.must(p.st.allQueues()[1].drain(p.st.qgen.Load()))
	got := written(p.dev.take())
	for i, a := range got {
		if i >= len(want) || a != want[i].a {
			t.Fatalf("write %d of %d went to %v, want %v", i, len(got), a, want[min(i, len(want)-1)])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d blocks written, want %d", len(got), len(want))
	}
}

// A comparator that subtracts goes wrong beyond 2 GiB. Pitfall 37.
func TestQueueOrderOfFarAddresses(t *testing.T) {
	near, far := qent{addr: 1 << 14}, qent{addr: 1 << 45}
	if qcmp(near, far) >= 0 || qcmp(far, near) <= 0 {
		t.Error("addresses far apart are in the wrong order")
	}
	old, young := qent{qgen: 1, addr: 1 << 45}, qent{qgen: 1 << 40}
	if qcmp(old, young) >= 0 {
		t.Error("generations far apart are in the wrong order")
	}
}

func TestAdjacentBlocksAreWrittenInOneCall(t *testing.T) {
	p := newPlain(t)
	var blks []*Blk
	for range 40 {
		blks = append(blks, p.block(blkfmt.Data, 2))
	}
	slices.SortFunc(blks, func(a, b *Blk) int { return int((a.addr - b.addr) >> blkfmt.BlkShift) })
	runs := 1
	for i := 1; i < len(blks); i++ {
		if blks[i].addr != blks[i-1].addr+blkfmt.BlkSize {
			runs++
		}
	}
	if runs > 8 {
		t.Fatalf("the allocator made %d runs of 40 blocks; the test wants few", runs)
	}
	p.must(p.st.allQueues()[2].drain(p.st.qgen.Load()))
	calls := p.dev.take()
	if len(calls) != runs {
		t.Errorf("%d calls for %d runs of adjacent blocks: %v", len(calls), runs, calls)
	}
	if n := len(written(calls)); n != len(blks) {
		t.Errorf("%d blocks written, want %d", n, len(blks))
	}
	for _, b := range blks {
		p.st.Drop(b)
	}
}

func TestBlockThatDiesBeforeItIsWrittenIsNotWritten(t *testing.T) {
	p := newPlain(t)
	var live []blkfmt.Addr
	for i := range 60 {
		b := p.block(blkfmt.Leaf, 1)
		switch i % 3 {
		case 0:
			live = append(live, b.addr)
		case 1:
			p.must(p.st.Free(b.Where()))
		case 2:
			p.must(p.st.FreeOwn(b.Where()))
		}
		p.st.Drop(b)
	}
	p.must(p.st.allQueues()[1].drain(p.st.qgen.Load()))
	got := written(p.dev.take())
	slices.Sort(live)
	slices.Sort(got)
	// What FreeOwn gave back was used again by later blocks, so one address may stand for several.
	if !slices.Equal(got, live) {
		t.Errorf("%d blocks written, want the %d live ones:\n%v\n%v", len(got), len(live), got, live)
	}
	if n := p.st.Stats().Cancelled; n < 40 {
		t.Errorf("%d cancelled, want 40 and the toy's own", n)
	}
}

// gateFirst makes the device stop in the first write until the returned function is called, and
// returns a channel that is closed when it has stopped.
func gateFirst(dev *spy) (stopped chan struct{}, release func()) {
	stopped, gate := make(chan struct{}), make(chan struct{})
	first := true
	dev.onCall(func(c call) {
		if first && c.op == blkdev.OpWrite { // one queue writes: no race
			first = false
			close(stopped)
			<-gate
		}
	})
	return stopped, func() { dev.onCall(nil); close(gate) }
}

// Pitfall 29: the address of a block that dies while it is being written may be used again, and what
// comes to lie there is what stays.
func TestBlockThatDiesWhileItIsBeingWritten(t *testing.T) {
	for name, free := range map[string]func(*Store, blkfmt.Bptr) error{"Free": (*Store).Free, "FreeOwn": (*Store).FreeOwn} {
		t.Run(name, func(t *testing.T) {
			p := newPlain(t)
			stopped, release := gateFirst(p.dev)
			b := p.block(blkfmt.Data, 1)
			addr := b.addr
			for i := range b.buf {
				b.buf[i] = 1
			}
			q := p.st.allQueues()[1]
			q.ask(p.st.qgen.Load())
			<-stopped
			before := p.st.Stats().Cancelled
			p.must(free(p.st, b.Where()))
			p.st.Drop(b)
			drainLimbo(p.st)
			if p.st.Stats().Cancelled != before {
				t.Error("a write that was under way counts as cancelled")
			}
			var again *Blk
			for again == nil {
				n, err := p.st.NewData(p.g, 1, p.where(), false)
				p.must(err)
				if n.addr == addr {
					again = n
					break
				}
				p.st.Drop(n) // never queued: lost to this test
			}
			for i := range again.buf {
				again.buf[i] = 2
			}
			p.st.Enqueue(again)
			p.st.Drop(again)
			release()
			p.must(q.drain(p.st.qgen.Load()))
			buf := make([]byte, blkfmt.BlkSize)
			_, err := p.dev.ReadAt(buf, int64(addr))
			p.must(err)
			if buf[0] != 2 || buf[blkfmt.BlkSize-1] != 2 {
				t.Errorf("the device has %d, the dead block's bytes", buf[0])
			}
		})
	}
}

func TestDrainWaitsForItsGenerationsOnly(t *testing.T) {
	p := newPlain(t)
	old := p.block(blkfmt.Leaf, 1)
	gen := p.st.qgen.Add(1) - 1
	young := p.block(blkfmt.Leaf, 1)
	stopped, release := gateFirst(p.dev)
	q := p.st.allQueues()[1]
	done := make(chan error)
	go func() { done <- q.drain(gen) }()
	<-stopped
	go func() { done <- q.drain(gen) }() // who comes now finds nothing queued, and has to wait all the same
	select {
	case err := <-done:
		t.Fatalf("drain returned %v with its block still being written", err)
	case <-time.After(10 * time.Millisecond):
	}
	release()
	p.must(<-done)
	p.must(<-done)
	if got := written(p.dev.take()); !slices.Equal(got, []blkfmt.Addr{old.addr}) {
		t.Errorf("written: %v, want only %v", got, old.addr)
	}
	p.must(q.drain(gen)) // nothing is left of it
	p.must(q.drain(gen + 1))
	if got := written(p.dev.take()); !slices.Equal(got, []blkfmt.Addr{young.addr}) {
		t.Errorf("written: %v, want only %v", got, young.addr)
	}
	p.st.Drop(old)
	p.st.Drop(young)
}

// until waits for what a goroutine of the store is about to do.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func TestMuchFileDataIsWrittenWithoutACommit(t *testing.T) {
	p := newPlain(t)
	node := p.block(blkfmt.Leaf, 1)
	for i := range eagerBlocks {
		if n := len(p.dev.take()); n > 0 {
			t.Fatalf("%d writes with %d blocks queued", n, i)
		}
		p.st.Drop(p.block(blkfmt.Data, 1))
	}
	var got []blkfmt.Addr
	until(t, "all data is written", func() bool {
		got = append(got, written(p.dev.take())...)
		return len(got) == eagerBlocks
	})
	time.Sleep(5 * time.Millisecond)
	if more := written(p.dev.take()); len(more) > 0 || slices.Contains(got, node.addr) {
		t.Errorf("a node was written without need: %v", more)
	}
	// It does not go on for a single block.
	p.st.Drop(p.block(blkfmt.Data, 1))
	time.Sleep(5 * time.Millisecond)
	if n := len(p.dev.take()); n > 0 {
		t.Errorf("%d writes for one block", n)
	}
	p.st.Drop(node)
}

func TestPressureWritesEverything(t *testing.T) {
	p := newPlain(t)
	shrink(p.st, MinCache)
	n := p.st.pool.max/8 + 10
	for range n {
		p.st.Drop(p.block(blkfmt.Leaf, 1))
	}
	if n := len(p.dev.take()); n > 0 {
		t.Fatalf("%d writes without need", n)
	}
	p.st.setPressure(true)
	until(t, "pressure is over", func() bool { return !p.st.pressure.Load() })
	until(t, "all is written", func() bool { return p.st.pinned.Load() == 0 })
	p.st.setPressure(true)
	if p.st.pressure.Load() {
		t.Error("pressure although there is nothing to write")
	}
}

func TestVoidEntriesDoNotPileUp(t *testing.T) {
	p := newPlain(t)
	for range 20000 {
		b := p.block(blkfmt.Leaf, 1)
		p.must(p.st.FreeOwn(b.Where()))
		p.st.Drop(b)
	}
	q := p.st.allQueues()[1]
	q.mu.Lock()
	size, live := len(q.heap), q.live
	q.mu.Unlock()
	if size > 4*live+4097 {
		t.Errorf("%d entries in the heap, %d of them live", size, live)
	}
	p.quiet()
}

func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	mem := blkdev.NewMem(diskSize)
	fault := blkdev.NewFault(mem)
	dev := &spy{Device: fault}
	y := newToy(t, dev, Options{})
	y.must(y.set(1, 7))
	y.must(y.commit())
	for k := range uint64(5) {
		y.must(y.set(k, 9))
	}
	fault.Fail(blkdev.Rule{Op: blkdev.OpWrite})
	if err := y.commit(); !errors.Is(err, ErrIO) || !errors.Is(err, blkdev.ErrInjected) {
		t.Fatalf("commit: %v", err)
	}
	dev.take()
	failure := y.st.Err()
	if err := y.set(2, 2); !errors.Is(err, failure) {
		t.Errorf("a change after the failure: %v", err)
	}
	if _, err := y.st.Seal(Root{}); !errors.Is(err, failure) {
		t.Errorf("a commit after the failure: %v", err)
	}
	for i, q := range y.st.allQueues() {
		if err := q.drain(100); !errors.Is(err, failure) {
			t.Errorf("queue %d: drain: %v", i, err)
		}
	}
	y.st.setPressure(true)
	time.Sleep(5 * time.Millisecond)
	if calls := dev.take(); len(calls) > 0 {
		t.Errorf("after the failure: %v", calls)
	}
	// All that is in memory can still be read, and what is on the device too.
	for k := range uint64(5) {
		if v, err := y.read(k); v != 9 || err != nil {
			t.Errorf("key %d: %d, %v", k, v, err)
		}
	}
	y.close()
	if again, err := openToy(t, mem, Options{}); err != nil {
		t.Error(err)
	} else if v, err := again.read(1); v != 7 || err != nil {
		t.Errorf("the disk holds %d, %v", v, err)
	}
}

func TestDrainAfterCloseDoesNotHang(t *testing.T) {
	p := newPlain(t)
	b := p.block(blkfmt.Leaf, 1)
	p.st.Drop(b)
	p.st.Close()
	if err := p.st.allQueues()[1].drain(100); !errors.Is(err, ErrClosed) {
		t.Errorf("drain: %v", err)
	}
}

func TestHeapAgainstSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	entry := func() qent {
		return qent{qgen: r.Int64N(4), kind: uint8(r.IntN(2)), addr: blkfmt.Addr(r.IntN(1000)) << blkfmt.BlkShift}
	}
	for range 200 {
		var h qheap
		var want []qent
		for range r.IntN(300) {
			switch op := r.IntN(10); {
			case op < 7 || len(want) == 0:
				e := entry()
				h.push(e)
				want = append(want, e)
			case op < 9:
				h.pop()
				want = want[1:]
			default:
				keep := func(e qent) bool { return e.addr%(3<<blkfmt.BlkShift) != 0 }
				h.filter(keep)
				want = slices.DeleteFunc(want, func(e qent) bool { return !keep(e) })
			}
			slices.SortStableFunc(want, qcmp)
			if len(h) != len(want) || len(h) > 0 && qcmp(h[0], want[0]) != 0 {
				t.Fatalf("%d entries with %v on top, want %d with %v", len(h), h, len(want), want)
			}
		}
	}
}

func BenchmarkQueueCancel(b *testing.B) {
	y := newToy(b, blkdev.NewMem(diskSize), Options{})
	y.g.Enter()
	for b.Loop() {
		n, err := y.st.New(y.g, blkfmt.Leaf, 1)
		y.must(err)
		y.st.Enqueue(n)
		y.must(y.st.FreeOwn(n.Where()))
		y.st.Drop(n)
	}
	y.g.Leave()
}
