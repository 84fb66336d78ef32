package betree

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A rig is a tree on a real block store with the smallest cache, on a disk in memory.
type rig struct {
	t    *testing.T
	dev  *blkdev.Mem
	st   *blkstore.Store
	g    *epoch.Guard
	tree *Tree
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dev := blkdev.NewMem(blkfmt.MinDevice)
	st, err := blkstore.Format(dev, blkstore.Options{Cache: blkstore.MinCache}, false, false)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dev: dev, st: st, g: st.Guard()}
	r.inside(func() { r.tree, err = Create(r.g, On(st), st, 1) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) close() {
	r.tree.Close()
	r.st.FreeGuard(r.g)
	r.st.Close()
}

// inside calls f in an epoch, and then does what whoever makes mutations has to do.
func (r *rig) inside(f func()) {
	r.g.Enter()
	f()
	r.g.Leave()
	r.st.Tick()
	if r.st.Crowded() {
		if err := r.st.WaitRoom(context.Background()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) upsert(gen blkfmt.Gen, msgs []kvfmt.Msg) {
	r.t.Helper()
	var err error
	r.inside(func() { err = r.tree.Upsert(r.g, gen, msgs) })
	if err != nil {
		r.t.Fatal(err)
	}
}

// data makes a data block.
func (r *rig) data(gen blkfmt.Gen) blkfmt.Bptr {
	b, err := r.st.NewData(r.g, gen, 1, false)
	if err != nil {
		r.t.Fatal(err)
	}
	defer r.st.Drop(b)
	clear(b.Bytes())
	r.st.Enqueue(b)
	return b.Ptr()
}

// commit brings the tree to the device, as if it were the snapshot tree.
func (r *rig) commit() {
	r.t.Helper()
	root, ht := r.tree.Root()
	c, err := r.st.Seal(blkstore.Root{Snap: root, SnapHt: ht})
	if err == nil {
		err = c.Run(nil)
		c.Done()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// On the block store the tree is what the model says, also when its blocks have been written,
// evicted and read back, and after the disk was closed and opened.
func TestModelOnTheBlockStore(t *testing.T) {
	rng := newRand(t)
	r := newRig(t)
	m := newModel(rng, newStore(t), mixedKeys(rng, allKinds, 6000, 200, 244))
	m.bulky = true
	m.data = r.data
	verify := func() {
		t.Helper()
		var err error
		r.inside(func() {
			if err = Check(r.g, r.tree); err == nil {
				err = m.compare(r.tree)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		grow := 95
		if i > 1500 {
			grow = 15
		}
		m.gen = blkfmt.Gen(1 + i/100)
		var msgs []kvfmt.Msg
		r.inside(func() { msgs = m.batch(1+rng.IntN(8), grow) })
		r.upsert(m.gen, msgs)
		if i%500 == 499 {
			r.commit()
			verify()
		}
	}
	st := r.st.Stats()
	t.Logf("%d keys, %d levels; %+v", len(m.there), r.tree.Height(), st)
	r.commit()
	root, ht := r.tree.Root()
	r.close()
	var err error
	if r.st, err = blkstore.Open(r.dev, blkstore.Options{Cache: blkstore.MinCache}); err != nil {
		t.Fatal(err)
	}
	r.g = r.st.Guard()
	super := r.st.Super()
	if super.Snap.Addr != root.Addr || super.SnapHt != ht {
		t.Fatalf("root is %v of %d levels, want %v of %d", super.Snap, super.SnapHt, root, ht)
	}
	r.tree = Open(On(r.st), r.st, super.Snap, super.SnapHt)
	defer r.close()
	verify()
	// Nothing but the tree is in use.
	used := 0
	r.inside(func() {
		count := func() error { used++; return nil }
		err = r.tree.Walk(r.g, Visit{
			Node: func(blkfmt.Bptr, int) error { return count() },
			Data: func([]byte, blkfmt.Bptr) error { return count() },
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.st.Arenas().Stat() {
		used -= int((a.Used-blkfmt.ArenaUnused)/blkfmt.BlkSize) - a.Log
	}
	if used != 0 {
		t.Errorf("%d more blocks are reached than are in use", used)
	}
}

// Readers see each batch whole or not at all, and never an older state after a newer one, while
// the tree grows, splits, shrinks and is joined under them.
func TestReadersSeeWholeBatches(t *testing.T) {
	const marks, readers = 6, 3
	rounds := 2000
	if raced {
		rounds = 1000
	}
	rng := newRand(t)
	r := newRig(t)
	defer r.close()
	mark := func(i int) []byte { return conf(i*1500, 100) }
	write := func(n uint64) []kvfmt.Msg {
		var msgs []kvfmt.Msg
		for i := range marks {
			msgs = append(msgs, insert(mark(i), binary.BigEndian.AppendUint64(nil, n)))
		}
		return msgs
	}
	r.upsert(1, write(0))

	var wg sync.WaitGroup
	var stop atomic.Bool
	var seen atomic.Int64
	for id := range readers {
		wg.Go(func() {
			if err := r.read(id, mark, marks, &stop, &seen); err != nil {
				t.Error(err)
				stop.Store(true)
			}
		})
	}
	there := make(map[int]bool)
	for n := uint64(1); int(n) < rounds && !stop.Load(); n++ {
		msgs := write(n)
		for range rng.IntN(6) {
			i := rng.IntN(9000)
			if i%1500 == 0 {
				continue
			}
			add := rng.IntN(10) < 7 == (n%400 < 300) // grows and shrinks
			if add {
				msgs = append(msgs, insert(conf(i, 100), value("filler", rng.IntN(400))))
				there[i] = true
			} else if there[i] {
				msgs = append(msgs, remove(conf(i, 100)))
				delete(there, i)
			}
		}
		r.upsert(blkfmt.Gen(n), msgs)
		if n%300 == 0 {
			r.commit()
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d reads", seen.Load())
	if seen.Load() < 10 {
		t.Error("hardly anything was read")
	}
	r.inside(func() {
		if err := Check(r.g, r.tree); err != nil {
			t.Error(err)
		}
	})
}

// read is one reader: by scan all marks must be equal, by lookup none may go back.
func (r *rig) read(id int, mark func(int) []byte, marks int, stop *atomic.Bool, seen *atomic.Int64) error {
	g := r.st.Guard()
	defer r.st.FreeGuard(g)
	rng := rand.New(rand.NewPCG(uint64(id), 0))
	last := uint64(0)
	var dst []byte
	for !stop.Load() {
		g.Enter()
		var all []uint64
		err := r.tree.Scan(g, []byte{kvfmt.Kconf}, nil, func(k, v []byte) bool {
			if len(all) < marks && bytes.Equal(k, mark(len(all))) {
				all = append(all, binary.BigEndian.Uint64(v))
			}
			return len(all) < marks
		})
		g.Leave()
		if err != nil {
			return err
		}
		for _, n := range all {
			if n != all[0] || n < last {
				return fmt.Errorf("reader %d: marks %d after %d", id, all, last)
			}
		}
		if len(all) != marks {
			return fmt.Errorf("reader %d: %d marks", id, len(all))
		}
		last = all[0]
		for range 20 {
			g.Enter()
			dst, err = r.tree.Lookup(g, mark(rng.IntN(marks)), dst)
			g.Leave()
			if err != nil {
				return err
			}
			n := binary.BigEndian.Uint64(dst)
			if n < last {
				return fmt.Errorf("reader %d: mark %d after %d", id, n, last)
			}
			last = n
		}
		seen.Add(1)
	}
	return nil
}
