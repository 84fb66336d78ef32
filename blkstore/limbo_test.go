package blkstore

import (
	"testing"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// A reader is a worker of its own in the store's epochs.
func (y *toy) reader() *epoch.Guard {
	g := y.st.Guard()
	y.t.Cleanup(func() {
		if g.Active() {
			g.Leave()
		}
	})
	return g
}

// handedOut reports whether the block at a would be handed out now: it takes every block that there
// is to take, and gives them back.
func (y *toy) handedOut(a blkfmt.Addr) bool {
	y.t.Helper()
	var taken []blkfmt.Addr
	found := false
	as := y.st.arenas
	for hint := uint64(0); ; {
		b, err := as.Alloc(hint, len(taken)%2 == 0)
		if err == arena.ErrFull {
			break
		}
		y.must(err)
		taken = append(taken, b)
		found = found || b == a
		hint++
	}
	// The last blocks are kept for the logs; they count as free too.
	for i := range as.Len() {
		for r, n := range as.Ranges(i) {
			found = found || r <= a && a < r+blkfmt.Addr(n)
		}
	}
	for _, b := range taken {
		y.must(as.Free(b))
	}
	return found
}

// readable reads the block at bp as a reader does who found its pointer before it was freed.
func (y *toy) readable(g *epoch.Guard, bp blkfmt.Bptr, v byte) {
	y.t.Helper()
	b, err := y.st.Get(g, bp, blkfmt.Data)
	if err != nil {
		y.t.Errorf("a reader from before cannot read the block any more: %v", err)
		return
	}
	if b.Bytes()[0] != v {
		y.t.Errorf("a reader from before finds %d in the block, not %d", b.Bytes()[0], v)
	}
	y.st.Drop(b)
}

// A block that no commit has seen: its space comes back when its readers have left, and only then.
// Pitfall 40.
func TestFreshBlockStaysForReadersWhoAreInside(t *testing.T) {
	for _, written := range []bool{false, true} {
		y := newToy(t, blkdev.NewMem(diskSize), Options{})
		y.must(y.set(1, 5))
		bp := y.data[1]
		if written {
			i, _ := y.st.arenas.Index(bp.Addr)
			y.must(y.st.allQueues()[i].drain(y.st.qgen.Load()))
			y.st.uncache(bp.Addr) // evicted: a reader must read it from the device
		}
		g := y.reader()
		g.Enter()
		y.must(y.set(1, 6))
		for range 5 {
			y.st.Tick()
			y.readable(g, bp, 5)
			if y.handedOut(bp.Addr) {
				t.Fatal("the block can be handed out while a reader may read it")
			}
		}
		g.Leave()
		// Who enters now cannot have the pointer, and must not hold the block up.
		late := y.reader()
		y.st.Tick()
		late.Enter()
		y.st.Tick()
		late.Leave()
		y.st.Tick()
		if !y.handedOut(bp.Addr) {
			t.Error("the block's space did not come back")
		}
		y.st.FreeGuard(g)
		y.st.FreeGuard(late)
		y.quiet()
		y.close()
	}
}

// Pitfalls 29, 30, 32: what a committed state reaches stays until the commit after the next Seal is
// durable. Pitfall 31: and until the readers of that state have left.
func TestCommittedBlockStaysUntilTheCommitAfterAndItsReadersHaveLeft(t *testing.T) {
	dev := &spy{Device: blkdev.NewMem(diskSize)}
	y := newToy(t, dev, Options{})
	y.must(y.set(1, 5))
	y.must(y.commit())
	bp := y.data[1]

	y.must(y.set(1, 6))
	if y.st.Dying() == 0 {
		t.Error("nothing waits for the commit")
	}
	drainLimbo(y.st)
	if y.handedOut(bp.Addr) {
		t.Fatal("a block of the committed state can be handed out")
	}
	g := y.reader()
	g.Enter()
	com := y.seal()
	if y.handedOut(bp.Addr) {
		t.Fatal("a block of the committed state can be handed out after the Seal that forgets it")
	}
	superDurable := make(chan bool)
	ended := make(chan error)
	go func() {
		ended <- com.Run(func(err error) { superDurable <- err == nil })
	}()
	if !<-superDurable {
		t.Error("the commit failed")
	}
	if y.handedOut(bp.Addr) {
		t.Fatal("a block that a reader may read can be handed out")
	}
	y.readable(g, bp, 5)
	select {
	case err := <-ended:
		t.Fatalf("the commit ended with %v before the reader left", err)
	default:
	}
	g.Leave()
	y.must(<-ended)
	com.Done()
	if !y.handedOut(bp.Addr) {
		t.Error("the block's space did not come back with the commit")
	}
	if y.st.Dying() != 0 {
		t.Errorf("%d blocks still wait", y.st.Dying())
	}
	y.st.FreeGuard(g)
	y.quiet()
}

// A block of the state that is on its way to the device is part of it, and its write must go out
// even if it is freed meanwhile.
func TestBlockFreedWhileItsCommitIsUnderWay(t *testing.T) {
	mem := blkdev.NewMem(diskSize)
	crash := blkdev.NewCrash(mem)
	y := newToy(t, crash, Options{})
	y.must(y.commit())
	y.must(y.set(1, 5))
	bp := y.data[1]
	com := y.seal()
	y.must(y.set(1, 6))
	y.must(com.Run(nil))
	com.Done()
	drainLimbo(y.st)
	if y.handedOut(bp.Addr) {
		t.Error("a block of the committed state can be handed out")
	}
	y.close()
	img, err := crash.Trace().State(crash.Trace().None(crash.Len()))
	y.must(err)
	again, err := openToy(t, img, Options{})
	y.must(err)
	if v, err := again.read(1); v != 5 || err != nil {
		t.Errorf("the committed state has %d, %v; want 5", v, err)
	}
	y.must(again.audit())
}

func TestSpaceOfDiscardedBlockComesBackAtOnce(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	b, err := y.st.New(y.g, blkfmt.Leaf, 1)
	y.must(err)
	a := b.Addr()
	y.st.Discard(b)
	if !y.handedOut(a) {
		t.Error("the block's space did not come back")
	}
	b, err = y.st.New(y.g, blkfmt.Leaf, 1)
	y.must(err)
	b.Node().InitLeaf()
	y.st.Enqueue(b)
	a = b.Addr()
	y.must(y.st.FreeOwn(b.Where()))
	y.st.Drop(b)
	if !y.handedOut(a) {
		t.Error("the space of a block of our own did not come back")
	}
	y.quiet()
	y.must(y.set(1, 1))
	y.must(y.commit())
	bp := y.data[1]
	y.must(y.set(1, 2))
	if err := y.st.FreeOwn(bp); err == nil {
		t.Error("a block was freed twice")
	}
	y.quiet()
}

func TestFreeingWhatIsFreeIsRefused(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	y.must(y.set(1, 1))
	bp := y.data[1]
	y.must(y.set(1, 2))
	for name, free := range map[string]func(blkfmt.Bptr) error{"Free": y.st.Free, "FreeOwn": y.st.FreeOwn} {
		if err := free(bp); err == nil {
			t.Errorf("%s of a block in limbo", name)
		}
	}
	y.quiet()
	for name, free := range map[string]func(blkfmt.Bptr) error{"Free": y.st.Free, "FreeOwn": y.st.FreeOwn} {
		if err := free(bp); err == nil {
			t.Errorf("%s of a free block", name)
		}
	}
	y.quiet()
	y.close()
	again, err := openToy(t, y.st.dev, Options{})
	y.must(err)
	y.must(again.audit())
}
