package snap

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// newBlocks makes n blocks that nothing points at.
func (w *world) newBlocks(t testing.TB, n int) []blkfmt.Bptr {
	t.Helper()
	w.g.Enter()
	defer w.g.Leave()
	var list []blkfmt.Bptr
	for range n {
		b, err := w.st.NewData(w.g, 1, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		w.st.Enqueue(b)
		list = append(list, b.Where())
		w.st.Drop(b)
	}
	return list
}

// addrs returns what stands on d, sorted, and the addresses of its blocks from head to tail.
func (w *world) addrs(t testing.TB, d *deadlist) (entries, chain []blkfmt.Addr) {
	t.Helper()
	w.g.Enter()
	defer w.g.Leave()
	err := d.each(w.g, w.st,
		func(bp blkfmt.Bptr) error { chain = append(chain, bp.Addr); return nil },
		func(a blkfmt.Addr) error { entries = append(entries, a); return nil })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(entries)
	return entries, chain
}

// Pitfalls 58, 60, 64, 69: a list grows by whole new blocks, and by a newest one in the place of the
// newest; blocks that are written never change; the tail is the last of the chain.
func TestDeadlistGrows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if *seedFlag != 0 {
		seed = *seedFlag
	}
	t.Logf("replay with -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w, err := newWorld(blkdev.NewMem(1 << 30))
	must(t, err)
	t.Cleanup(func() { w.stop() })
	must(t, w.do("main+ab main>A main+a"))
	s := w.f.snaps[w.f.labels[Main].val.Gen]
	var want []blkfmt.Addr
	d := newDeadlist(s.rec.Gen, 1)
	s.lists[1] = d
	old := make(map[blkfmt.Addr][]byte) // the chain as it was
	for _, n := range []int{1, 1, 5, logfmt.DeadMax - 8, 1, 1, logfmt.DeadMax, logfmt.DeadMax + 1, 3*logfmt.DeadMax - 1, r.IntN(3000), r.IntN(20), r.IntN(20)} {
		for _, bp := range w.newBlocks(t, n) {
			want = append(want, bp.Addr)
			bp.Gen = 1
			must(t, w.f.kill(w.g, s, bp))
		}
		slices.Sort(want)
		if got, _ := w.addrs(t, d); !slices.Equal(got, want) {
			t.Fatalf("%d entries before the Seal, want %d", len(got), len(want))
		}
		must(t, w.commitUnchecked())
		got, chain := w.addrs(t, d)
		if !slices.Equal(got, want) || len(d.fresh) != 0 {
			t.Fatalf("%d entries after the Seal, %d of them not on disk, want %d", len(got), len(d.fresh), len(want))
		}
		if most := 2*len(want)/logfmt.DeadMax + 2; len(chain) > most {
			t.Errorf("%d blocks for %d entries", len(chain), len(want))
		}
		if len(chain) > 0 && (d.disk.Hd.Addr != chain[0] || d.disk.Tl.Addr != chain[len(chain)-1]) {
			t.Fatalf("head %v and tail %v of the chain %v", d.disk.Hd, d.disk.Tl, chain)
		}
		now := make(map[blkfmt.Addr][]byte)
		for _, a := range chain {
			buf := make([]byte, blkfmt.BlkSize)
			if _, err := w.dev.ReadAt(buf, int64(a)); err != nil {
				t.Fatal(err)
			}
			if b, ok := old[a]; ok && !bytes.Equal(b, buf) {
				t.Fatalf("block %v of the list was changed in its place", a)
			}
			now[a] = buf
		}
		old = now
	}
	// As the disk has it.
	w.safe = w.now
	w.stop()
	must(t, w.start())
	lists, err := w.f.listsOf(w.g, w.f.snaps[s.rec.Gen])
	must(t, err)
	if got, _ := w.addrs(t, lists[1]); !slices.Equal(got, want) {
		t.Fatalf("%d entries after a restart, want %d", len(got), len(want))
	}
}

// chainBlock writes a deadlist block to where at is and returns the pointer.
func (w *world) chainBlock(t testing.TB, at blkfmt.Addr, chain blkfmt.Addr, entries ...blkfmt.Addr) blkfmt.Bptr {
	t.Helper()
	buf := make([]byte, blkfmt.BlkSize)
	p := buf[:blkfmt.LogHdSize]
	for _, a := range entries {
		p = logfmt.AppendDead(p, a)
	}
	h := blkfmt.LogHdr{Type: blkfmt.Deadlist, Size: 8 * len(entries), Chain: blkfmt.NoPtr}
	h.Chain.Addr = chain
	blkfmt.EncodeLogHdr(buf, h, w.st.Hasher())
	if _, err := w.dev.WriteAt(buf, int64(at)); err != nil {
		t.Fatal(err)
	}
	return blkfmt.Bptr{Addr: at, Gen: 0}
}

// free returns n addresses of free blocks.
func (w *world) free(n int) (list []blkfmt.Addr) {
	for a, size := range w.st.Arenas().Ranges(3) {
		for ; size > 0 && len(list) < n; a, size = a+blkfmt.BlkSize, size-blkfmt.BlkSize {
			list = append(list, a)
		}
	}
	return list
}

// Pitfall 64: a chain that runs in a circle is corruption, found in no more time than its length.
func TestDeadlistThatRunsInACircle(t *testing.T) {
	w := testWorld(t, "main+ab main>A main+a main>B main+ab commit")
	at := w.free(6)
	ring := func(at []blkfmt.Addr) kvfmt.Dlist {
		for i, a := range at {
			w.chainBlock(t, a, at[(i+1)%len(at)], a)
		}
		return kvfmt.Dlist{Hd: blkfmt.Bptr{Addr: at[0]}, Tl: blkfmt.Bptr{Addr: at[len(at)-1]}}
	}
	for n, disk := range []kvfmt.Dlist{ring(at[:1]), ring(at[1:3]), ring(at[3:6])} {
		d := &deadlist{gen: 4, bgen: 1, disk: disk}
		w.g.Enter()
		blocks := 0
		err := d.each(w.g, w.st, func(blkfmt.Bptr) error { blocks++; return nil }, nil)
		w.g.Leave()
		if err == nil || !strings.Contains(err.Error(), "circle") || blocks > 3 {
			t.Errorf("a ring of %d: %v after %d blocks", n+1, err, blocks)
		}
	}
	// Two rings are to be merged: neither ends.
	gen := func(label string) *snapshot { return w.f.snaps[w.f.labels[label].val.Gen] }
	for i, label := range []string{"B", Main} {
		s := gen(label)
		_, err := w.f.listsOf(w.g, s)
		must(t, err)
		s.lists[1] = &deadlist{gen: s.rec.Gen, bgen: 1, disk: ring(at[3*i : 3*i+3])}
	}
	before := len(w.f.snaps)
	err := w.unlabel("B")
	if err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("merging two rings: %v", err)
	}
	if len(w.f.snaps) != before {
		t.Error("half of a deletion was made")
	}
}

// TestDeadlistLedAstray flips each bit of a pointer that chains one deadlist, so that it leads to another
// list or nowhere: nothing is freed then.
func TestDeadlistLedAstray(t *testing.T) {
	w := testWorld(t, "main+ab main>A main+a main>B main+ab commit")
	at := w.free(500)
	at, heads := at[:400], at[400:]
	// Every block within a bit of the chain's second one belongs to another list, and leads to its end.
	end, mine := at[0], at[1]
	w.chainBlock(t, end, blkfmt.NoAddr, at[2])
	w.chainBlock(t, mine, blkfmt.NoAddr, at[3])
	strangers := 0
	for bit := range 64 {
		b := blkfmt.Addr(uint64(mine) ^ 1<<bit)
		head := heads[bit]
		w.chainBlock(t, head, b, at[4])
		if slices.Contains(at[5:], b) {
			w.chainBlock(t, b, end, at[2])
			strangers++
		}
		d := &deadlist{gen: 4, bgen: 1, disk: kvfmt.Dlist{Hd: blkfmt.Bptr{Addr: head}, Tl: blkfmt.Bptr{Addr: mine}}}
		w.g.Enter()
		err := d.each(w.g, w.st, nil, nil)
		r := merge{f: w.f, g: w.g}
		disposed := r.dispose(d, func(blkfmt.Bptr) bool { return true })
		w.g.Leave()
		var ce *blkfmt.CorruptError
		if !errors.As(err, &ce) || !errors.As(disposed, &ce) {
			t.Errorf("bit %d, to %v: %v; %v", bit, b, err, disposed)
		}
		if len(r.then) != 0 {
			t.Errorf("bit %d: the list counts as disposed of", bit)
		}
	}
	if strangers == 0 {
		t.Fatal("no bit leads to another list; the test is not")
	}
}

// Disks of the reference count labels and children too high.
func TestInflatedCountsAreFoundAndPutRight(t *testing.T) {
	w := testWorld(t, "main+abc main>A main+a main>>F F+b main>B main+c commit")
	for _, label := range []string{"A", "B", "F", Main} {
		s := w.f.snaps[w.f.labels[label].val.Gen]
		s.rec.Nlbl += 2
		s.rec.Nref += 3
		w.f.mark(s)
	}
	w.f.touch()
	must(t, w.commitUnchecked())
	size, _ := w.dev.Size()
	rep, err := check.Run(context.Background(), w.dev, size, check.Options{})
	must(t, err)
	if rep.ByKind[check.CountHigh] == 0 {
		t.Fatal("the counts on the disk are right; the test is not")
	}
	w.safe = w.now
	must(t, w.crash()) // also compares counts in memory
	if w.f.Changed() {
		t.Error("a commit is wanted only for the counts")
	}
	must(t, w.do("main+b commit")) // is clean
	for _, label := range []string{"A", "F", "B"} {
		must(t, w.do("-"+label+" commit"))
		must(t, w.verifyAll())
	}
}

func TestGoldenDisksCensus(t *testing.T) {
	for _, name := range golden.Names() {
		img := golden.Image(t, name)
		dev := blkdev.NewMem(img.Size())
		must(t, img.CopyTo(dev))
		rep, err := check.Run(context.Background(), dev, img.Size(), check.Options{})
		must(t, err)
		st, err := blkstore.Open(dev, blkstore.Options{Cache: blkstore.MinCache})
		must(t, err)
		g := st.Guard()
		g.Enter()
		f, err := Load(g, st)
		must(t, err)
		live, err := f.Census(g)
		must(t, err)
		g.Leave()
		st.FreeGuard(g)
		st.Close()
		c := rep.Counts
		if want := c.SnapNodes + c.Pivots + c.Leaves + c.Data + c.Deadlist + c.Dead; int64(live.Len()) != want {
			t.Errorf("%s: the census has %d blocks, check %d: %+v", name, live.Len(), want, c)
		}
	}
}
