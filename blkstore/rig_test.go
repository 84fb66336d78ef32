package blkstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")

// seed returns the seed for this run and says how to get the run again.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -seed %d", s)
	return s
}

const diskSize = blkfmt.MinDevice

// A call is one call of a device that a test wants to know of.
type call struct {
	op  blkdev.Op
	off int64
	n   []int // sizes of the buffers of a write
}

// A spy passes calls on and notes writes and syncs. If gate is not nil it is called before each.
type spy struct {
	blkdev.Device
	mu    sync.Mutex
	calls []call
	gate  func(c call)
}

func (p *spy) note(c call) {
	p.mu.Lock()
	p.calls = append(p.calls, c)
	gate := p.gate
	p.mu.Unlock()
	if gate != nil {
		gate(c)
	}
}

func (p *spy) WriteVec(bufs [][]byte, off int64) error {
	c := call{op: blkdev.OpWrite, off: off}
	for _, b := range bufs {
		c.n = append(c.n, len(b))
	}
	p.note(c)
	return p.Device.WriteVec(bufs, off)
}

func (p *spy) Sync() error {
	p.note(call{op: blkdev.OpSync})
	return p.Device.Sync()
}

// onCall sets the gate.
func (p *spy) onCall(f func(call)) {
	p.mu.Lock()
	p.gate = f
	p.mu.Unlock()
}

// take returns the calls so far and forgets them.
func (p *spy) take() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls
	p.calls = nil
	return c
}

// A toy is the smallest file system there is on a store: one leaf that points at data blocks, each
// filled with one byte. NextQid counts its changes, so that a disk tells which state it is in.
type toy struct {
	t    testing.TB
	st   *Store
	g    *epoch.Guard
	root blkfmt.Bptr
	data map[uint64]blkfmt.Bptr
	n    uint64            // changes made
	hist []map[uint64]byte // hist[n] is what the toy holds after n changes
}

// newToy formats dev and makes a toy on it, uncommitted.
func newToy(t testing.TB, dev blkdev.Device, opt Options) *toy {
	t.Helper()
	st, err := Format(dev, opt, false, false)
	if err != nil {
		t.Fatal(err)
	}
	y := &toy{t: t, st: st, data: make(map[uint64]blkfmt.Bptr), root: blkfmt.NoPtr, hist: []map[uint64]byte{{}}}
	y.begin()
	y.must(y.plant())
	return y
}

// openToy opens the disk and reads the toy on it. It trusts nothing.
func openToy(t testing.TB, dev blkdev.Device, opt Options) (*toy, error) {
	st, err := Open(dev, opt)
	if err != nil {
		return nil, err
	}
	y := &toy{t: t, st: st, data: make(map[uint64]blkfmt.Bptr), root: st.Super().Snap, n: st.Super().NextQid}
	y.begin()
	if err := y.load(); err != nil {
		y.close()
		return nil, err
	}
	return y, nil
}

func (y *toy) begin() {
	y.g = y.st.Guard()
	y.t.Cleanup(y.close)
}

func (y *toy) close() {
	if y.g != nil {
		y.st.FreeGuard(y.g)
		y.g = nil
		y.st.Close()
	}
}

func (y *toy) must(err error) {
	if err != nil {
		y.t.Helper()
		y.t.Fatal(err)
	}
}

func key(k uint64) []byte { return kvfmt.AppendDatKey(nil, 1, k*blkfmt.BlkSize) }

// load finds the data blocks through the root.
func (y *toy) load() error {
	y.g.Enter()
	defer y.g.Leave()
	b, err := y.st.GetNode(y.g, y.root)
	if err != nil {
		return err
	}
	defer y.st.Drop(b)
	for i := range b.Node().Nval() {
		k, v := b.Node().Val(i)
		bp, err := kvfmt.GetDatVal(v)
		if err != nil {
			return err
		}
		y.data[binary.BigEndian.Uint64(k[9:])/blkfmt.BlkSize] = bp
	}
	return nil
}

// plant writes a new root for y.data and frees the old one.
func (y *toy) plant() error {
	b, err := y.st.New(y.g, blkfmt.Leaf, 1)
	if err != nil {
		return err
	}
	n := b.Node()
	n.InitLeaf()
	for _, k := range slices.Sorted(maps.Keys(y.data)) {
		n.AddVal(key(k), y.data[k].Append(nil))
	}
	y.st.Enqueue(b)
	old := y.root
	y.root = b.Ptr()
	y.st.Drop(b)
	if old.Addr == blkfmt.NoAddr {
		return nil
	}
	return y.st.Free(old)
}

// set gives key k a new block full of v, or removes it if v is 0.
func (y *toy) set(k uint64, v byte) error {
	y.g.Enter()
	defer y.g.Leave()
	old, had := y.data[k]
	if v == 0 {
		delete(y.data, k)
	} else {
		b, err := y.st.NewData(y.g, 1, 1, k%2 == 0)
		if err != nil {
			return err
		}
		for i := range b.Bytes() {
			b.Bytes()[i] = v
		}
		y.st.Enqueue(b)
		y.data[k] = b.Ptr()
		y.st.Drop(b)
	}
	if err := y.plant(); err != nil {
		return err
	}
	y.n++
	if len(y.hist) > 0 {
		h := maps.Clone(y.hist[len(y.hist)-1])
		if h[k] = v; v == 0 {
			delete(h, k)
		}
		y.hist = append(y.hist, h)
	}
	if had {
		return y.st.Free(old)
	}
	return nil
}

// seal seals the present state.
func (y *toy) seal() *Commit {
	y.t.Helper()
	c, err := y.st.Seal(Root{Snap: y.root, SnapHt: 1, NextQid: y.n, NextGen: 2})
	y.must(err)
	return c
}

// commit brings the present state to the device.
func (y *toy) commit() error {
	c, err := y.st.Seal(Root{Snap: y.root, SnapHt: 1, NextQid: y.n, NextGen: 2})
	if err != nil {
		return err
	}
	err = c.Run(nil)
	c.Done()
	return err
}

// read returns the byte with which the block of k is filled.
func (y *toy) read(k uint64) (byte, error) {
	y.g.Enter()
	defer y.g.Leave()
	b, err := y.st.Get(y.g, y.data[k], blkfmt.Data)
	if err != nil {
		return 0, err
	}
	defer y.st.Drop(b)
	v := b.Bytes()[0]
	if !bytes.Equal(b.Bytes(), bytes.Repeat([]byte{v}, blkfmt.BlkSize)) {
		return 0, fmt.Errorf("block of key %d is not full of %d", k, v)
	}
	return v, nil
}

// content reads everything.
func (y *toy) content() (map[uint64]byte, error) {
	m := make(map[uint64]byte)
	for k := range y.data {
		v, err := y.read(k)
		if err != nil {
			return nil, err
		}
		m[k] = v
	}
	return m, nil
}

// audit compares what the arenas say is in use with what the toy reaches: nothing is lost, and
// nothing is in use and free at once. Nothing may have been freed since it was opened.
func (y *toy) audit() error {
	used := map[blkfmt.Addr]string{y.root.Addr: "root"}
	for k, bp := range y.data {
		if what, ok := used[bp.Addr]; ok {
			return fmt.Errorf("block %v is that of %d and of %s", bp.Addr, k, what)
		}
		used[bp.Addr] = fmt.Sprint("key ", k)
	}
	as := y.st.Arenas()
	for i, stat := range as.Stat() {
		if stat.Suspect != "" {
			return fmt.Errorf("arena %d: %s", i, stat.Suspect)
		}
		for _, a := range as.Log(i) {
			if what, ok := used[a]; ok {
				return fmt.Errorf("block %v of a log is that of %s", a, what)
			}
			used[a] = "log"
		}
		free := map[blkfmt.Addr]bool{}
		for a, n := range as.Ranges(i) {
			for end := a + blkfmt.Addr(n); a < end; a += blkfmt.BlkSize {
				free[a] = true
				if used[a] != "" {
					return fmt.Errorf("block %v of %s is free", a, used[a])
				}
			}
		}
		base := stat.Addr + blkfmt.ArenaOverhead
		for a := base; a < base+blkfmt.Addr(stat.Size)-blkfmt.ArenaUnused; a += blkfmt.BlkSize {
			if !free[a] && used[a] == "" {
				return fmt.Errorf("block %v is lost", a)
			}
		}
	}
	return nil
}

// drainLimbo empties limbo; nobody is inside an epoch.
func drainLimbo(s *Store) {
	for s.epochs.Pending() > 0 {
		s.epochs.Tick()
	}
}

// buffers checks that every buffer is unused, cached, or held by somebody else, as many as held.
func buffers(t testing.TB, s *Store, held int) {
	t.Helper()
	where := map[*Blk]string{}
	put := func(b *Blk, what string) {
		if where[b] != "" {
			t.Errorf("buffer %v is %s and %s", b.Where(), where[b], what)
		}
		where[b] = what
	}
	s.pool.mu.Lock()
	for _, b := range s.pool.free {
		put(b, "unused")
		if n := b.ref.Load(); n != 0 {
			t.Errorf("unused buffer has %d references", n)
		}
	}
	made := s.pool.made
	s.pool.mu.Unlock()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		if len(sh.ring) != len(sh.blks) {
			t.Errorf("shard %d: %d blocks in its ring, %d in its table", i, len(sh.ring), len(sh.blks))
		}
		for j, b := range sh.ring {
			put(b, "cached")
			if sh.blks[b.addr] != b || b.slot != j {
				t.Errorf("shard %d: block %v is not where it says", i, b.Where())
			}
			if n := b.ref.Load(); held == 0 && n != 1 {
				t.Errorf("block %v has %d references when nobody uses it", b.Where(), n)
			}
		}
		sh.mu.Unlock()
	}
	if n := made - len(where); n > held {
		t.Errorf("%d buffers are lost: of %d made %d are unused or cached, %d held", n-held, made, len(where), held)
	}
}

// quiet commits, empties limbo and checks that no buffer is lost and nothing pinned.
func (y *toy) quiet() {
	y.t.Helper()
	y.must(y.commit())
	drainLimbo(y.st)
	buffers(y.t, y.st, 0)
	if n := y.st.pinned.Load(); n != 0 {
		y.t.Errorf("%d blocks are pinned when nothing is under way", n)
	}
}

// shrink bounds the cache to n blocks, fewer than Options allow.
func shrink(s *Store, n int) { s.pool.max = n }

// corrupt is what errors.As wants.
func corrupt(err error) *blkfmt.CorruptError {
	var c *blkfmt.CorruptError
	errors.As(err, &c)
	return c
}

// headers returns where the arena headers and their copies are.
func headers(st []arena.Stat) (first, second []blkfmt.Addr) {
	for _, a := range st {
		first = append(first, a.Addr)
		second = append(second, a.Addr+blkfmt.BlkSize)
	}
	return first, second
}
