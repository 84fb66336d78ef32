package arena

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"gefs9p/blkfmt"
)

var longFlag = flag.Bool("long", false, "run the random tests for minutes")

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 takes a new one")

// newRand returns random numbers that -seed makes again.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

const blk = blkfmt.BlkSize

// A image is a sparse device of whole blocks.
type image map[blkfmt.Addr][]byte

func (m image) ReadAt(p []byte, off int64) (int, error) {
	if len(p) != blk || off%blk != 0 {
		return 0, fmt.Errorf("image: read of %d bytes at %#x", len(p), off)
	}
	if b := m[blkfmt.Addr(off)]; b != nil {
		return copy(p, b), nil
	}
	clear(p)
	return len(p), nil
}

// apply writes list to m.
func (m image) apply(list []Write) {
	for _, w := range list {
		m[w.Addr] = bytes.Clone(w.Data) // which Release takes back
	}
}

// A state is what a superblock says, with what the trees under it point at.
type state struct {
	refs []blkfmt.ArenaRef
	qgen int64
	live map[blkfmt.Addr]bool
}

// A rig is a Set on a device with a model of what is in use.
type rig struct {
	t    testing.TB
	rnd  *rand.Rand
	set  *Set
	disk image
	size int64 // of the device
	hash blkfmt.Hasher

	live   map[blkfmt.Addr]bool // what the state being prepared points at
	fresh  map[blkfmt.Addr]bool // of these, born since the last Seal
	young  map[blkfmt.Addr]bool // retired while fresh
	later  map[blkfmt.Addr]bool
	limbo  map[blkfmt.Addr]bool
	now    state // what is on stable storage
	sealed *Sealed
	next   state // what sealed makes
}

// newRig formats n arenas with bodies of size blocks.
func newRig(t testing.TB, n int, size int64) *rig {
	t.Helper()
	g := blkfmt.Geometry{First: blk, Count: n, Size: size * blk}
	r := &rig{t: t, disk: image{}, size: int64(g.Header(n)) + blk, hash: blkfmt.Metro{}}
	var err error
	if r.set, err = Format(g, r.hash); err != nil {
		t.Fatal(err)
	}
	r.live, r.fresh = map[blkfmt.Addr]bool{}, map[blkfmt.Addr]bool{}
	r.young, r.later, r.limbo = map[blkfmt.Addr]bool{}, map[blkfmt.Addr]bool{}, map[blkfmt.Addr]bool{}
	return r
}

// reamed is newRig after its first commit.
func reamed(t testing.TB, n int, size int64) *rig {
	t.Helper()
	r := newRig(t, n, size)
	r.commit(0)
	return r
}

func (r *rig) alloc(hint uint64, seq bool) (blkfmt.Addr, error) {
	r.t.Helper()
	b, err := r.set.Alloc(hint, seq)
	if err != nil {
		if !errors.Is(err, ErrFull) {
			r.t.Fatal(err)
		}
		return b, err
	}
	if !r.set.Contains(b) {
		r.t.Fatalf("Alloc handed out %v, which Contains denies", b)
	}
	if r.live[b] || r.now.live[b] || r.next.live[b] || r.young[b] || r.later[b] || r.limbo[b] {
		r.t.Fatalf("Alloc handed out %v, which is in use: live %v, committed %v, sealed %v, young %v, later %v, limbo %v",
			b, r.live[b], r.now.live[b], r.next.live[b], r.young[b], r.later[b], r.limbo[b])
	}
	r.live[b], r.fresh[b] = true, true
	return b, nil
}

func (r *rig) mustAlloc() blkfmt.Addr {
	r.t.Helper()
	b, err := r.alloc(Meta, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// drop gives b back in the way its age asks for.
func (r *rig) drop(b blkfmt.Addr) {
	r.t.Helper()
	if got := r.set.Fresh(b); got != r.fresh[b] {
		r.t.Fatalf("Fresh(%v) = %v", b, got)
	}
	var err error
	if r.fresh[b] {
		err = r.set.Free(b)
		delete(r.fresh, b)
	} else {
		err = r.set.FreeLater(b)
		r.later[b] = true
	}
	if err != nil {
		r.t.Fatal(err)
	}
	delete(r.live, b)
}

// dropAny gives b back in any of the ways there are.
func (r *rig) dropAny(b blkfmt.Addr) {
	r.t.Helper()
	var err error
	to := r.later
	switch r.rnd.IntN(4) {
	case 0:
		r.drop(b)
		return
	case 1:
		err = r.set.Free(b)
		if r.fresh[b] {
			to = nil
		}
	case 2:
		err = r.set.FreeLater(b)
	case 3:
		err = r.set.Retire(b)
		if r.fresh[b] {
			to = r.young
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if to != nil {
		to[b] = true
	}
	delete(r.fresh, b)
	delete(r.live, b)
}

// give lets a block be handed out whose readers have left.
func (r *rig) give(b blkfmt.Addr) {
	r.t.Helper()
	if err := r.set.Give(b); err != nil {
		r.t.Fatal(err)
	}
	delete(r.young, b)
}

// seal prepares a commit without writing it.
func (r *rig) seal(qgen int64) {
	r.t.Helper()
	old := r.logs()
	s, err := r.set.Seal(qgen)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sealed = s
	r.next = state{refs: s.Refs, qgen: qgen, live: maps.Clone(r.live)}
	r.limbo, r.later = r.later, map[blkfmt.Addr]bool{}
	clear(r.fresh)
	for b := range r.logs() {
		delete(old, b)
	}
	maps.Copy(r.limbo, old) // logs that were written anew
}

// logs returns the blocks of all logs.
func (r *rig) logs() map[blkfmt.Addr]bool {
	m := map[blkfmt.Addr]bool{}
	for i := range r.set.Len() {
		for _, b := range r.set.Log(i) {
			m[b] = true
		}
	}
	return m
}

// write carries the commit out to the end.
func (r *rig) write() {
	r.t.Helper()
	for _, w := range r.sealed.Log { // memory that is used again leaves nothing on the disk
		h, err := blkfmt.DecodeLogHdr(w.Data, blkfmt.Log, r.hash, w.Addr)
		if err != nil {
			r.t.Fatal(err)
		}
		if rest := w.Data[blkfmt.LogHdSize+h.Size:]; bytes.Count(rest, []byte{0}) != len(rest) {
			r.t.Fatalf("log block %v holds something behind its %d bytes of entries", w.Addr, h.Size)
		}
	}
	r.disk.apply(r.sealed.Heal)
	r.disk.apply(r.sealed.Log)
	r.disk.apply(r.sealed.Headers)
	r.disk.apply(r.sealed.Footers)
	r.now, r.next = r.next, state{}
}

func (r *rig) release() {
	r.t.Helper()
	if err := r.set.Release(r.sealed); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range r.set.bufs.spare { // what is used again is no longer what it was
		for i := range p {
			p[i] = 0xa5
		}
	}
	clear(r.limbo)
	r.sealed = nil
}

func (r *rig) commit(qgen int64) {
	r.t.Helper()
	r.seal(qgen)
	r.write()
	r.release()
}

// load returns what disk holds under the superblock of st, which must not be suspect.
func (r *rig) load(disk io.ReaderAt, st state) *Set {
	r.t.Helper()
	s, err := Load(disk, r.size, r.hash, st.refs, st.qgen)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, x := range s.Suspects() {
		r.t.Fatalf("arena %d is suspect: %s", x.Arena, x.Why)
	}
	return s
}

// checkLoad verifies that replaying disk under the superblock of st gives exactly its state: in use
// is what is live, the log, and nothing else.
func (r *rig) checkLoad(disk io.ReaderAt, st state) *Set {
	r.t.Helper()
	s := r.load(disk, st)
	checkFree(r.t, s, st.live)
	return s
}

// checkFree verifies that all but live and the logs is free in s.
func checkFree(t testing.TB, s *Set, live ...map[blkfmt.Addr]bool) {
	t.Helper()
	for i, a := range s.list() {
		used := map[blkfmt.Addr]bool{}
		for _, b := range s.Log(i) {
			used[b] = true
		}
		logs := len(used)
		for _, m := range live {
			for b := range m {
				if b >= a.base && b < a.end {
					if used[b] {
						t.Fatalf("block %v is in use twice", b)
					}
					used[b] = true
				}
			}
		}
		if st := s.Stat()[i]; st.Log != logs || st.Used != int64(len(used)+2)*blk || st.Used+st.Free != st.Size {
			t.Fatalf("arena %d: %+v with %d blocks of log and %d in use", i, st, logs, len(used))
		}
		// The free ranges are the gaps, and never touch.
		at, last := a.base, blkfmt.NoAddr
		for b, n := range s.Ranges(i) {
			if b == last || n <= 0 {
				t.Fatalf("arena %d: range of %d bytes at %v behind one that ends at %v", i, n, b, last)
			}
			for ; at < b; at += blk {
				if !used[at] {
					t.Fatalf("arena %d: block %v is neither free nor in use", i, at)
				}
			}
			for ; at < b+blkfmt.Addr(n); at += blk {
				if used[at] {
					t.Fatalf("arena %d: block %v is free and in use", i, at)
				}
			}
			last = at
		}
		for ; at < a.end; at += blk {
			if !used[at] {
				t.Fatalf("arena %d: block %v is neither free nor in use", i, at)
			}
		}
	}
}

func (r *rig) check() {
	r.t.Helper()
	checkFree(r.t, r.set, r.live, r.young, r.later, r.limbo)
}

// pick returns a random block of m, whatever the order of the map.
func pick(rnd *rand.Rand, m map[blkfmt.Addr]bool) blkfmt.Addr {
	return slices.Sorted(maps.Keys(m))[rnd.IntN(len(m))]
}

func TestModelOfRandomHistories(t *testing.T) {
	rnd := newRand(t)
	rounds, steps := 6, 700
	if *longFlag {
		rounds, steps = 100, 2000
	}
	for round := range rounds {
		r := reamed(t, 1+rnd.IntN(3), 28+rnd.Int64N(60))
		r.rnd = rnd
		qgen := int64(0)
		most, full, anew, crashes := 0, 0, 0, 0
		grow := true
		for step := range steps {
			if step%150 == 0 {
				grow = rnd.IntN(2) == 0
			}
			allocs := 30
			if grow {
				allocs = 65
			}
			switch n := rnd.IntN(100); {
			case n < allocs:
				if _, err := r.alloc(rnd.Uint64N(8), rnd.IntN(2) == 0); err != nil {
					full++
				}
			case n < 85:
				for range 1 + rnd.IntN(2) {
					if len(r.live) > 0 {
						r.dropAny(pick(rnd, r.live))
					}
					if len(r.young) > 0 && rnd.IntN(2) == 0 {
						r.give(pick(rnd, r.young))
					}
				}
			case n < 93:
				if r.sealed == nil {
					qgen += 1 + rnd.Int64N(5)
					head := r.set.list()[0].first
					r.seal(qgen)
					if r.set.list()[0].first != head {
						anew++
					}
				} else {
					r.crashes(3)
					r.write()
					r.release()
				}
			case n < 98:
				r.checkLoad(r.disk, r.now)
			default:
				r.crash()
				crashes++
			}
			most = max(most, len(r.live))
			r.check()
		}
		t.Logf("round %d: %d arenas, barrier %d, at most %d blocks live, full %d times, log of the first anew %d times, %d crashes",
			round, r.set.Len(), qgen, most, full, anew, crashes)
	}
}

// crashes tries n crashes in the middle of writing sealed: any of its log blocks are written, lost or
// torn, and the old superblock finds the old state.
func (r *rig) crashes(n int) {
	r.t.Helper()
	for range n {
		disk := maps.Clone(r.disk)
		disk.apply(r.sealed.Heal)
		for _, w := range r.sealed.Log {
			tear(r.rnd, disk, w)
		}
		for _, w := range r.sealed.Headers {
			tear(r.rnd, disk, w)
		}
		r.checkLoad(disk, r.now)

		// All is there but for the footers: the new superblock counts.
		disk.apply(r.sealed.Log)
		disk.apply(r.sealed.Headers)
		for _, w := range r.sealed.Footers {
			tear(r.rnd, disk, w)
		}
		r.checkLoad(disk, r.next)
	}
}

// tear writes w, loses it, or mixes it with what is there, sector by sector.
func tear(rnd *rand.Rand, disk image, w Write) {
	switch rnd.IntN(3) {
	case 0:
		disk[w.Addr] = bytes.Clone(w.Data)
	case 1:
		p := make([]byte, blk)
		copy(p, disk[w.Addr])
		for i := 0; i < blk; i += 512 {
			if rnd.IntN(2) == 0 {
				copy(p[i:i+512], w.Data[i:])
			}
		}
		disk[w.Addr] = p
	}
}

// crash goes on from what is on the device: everything since the last commit is gone, an unfinished
// commit may have left traces.
func (r *rig) crash() {
	r.t.Helper()
	if r.sealed != nil && r.rnd != nil {
		for _, w := range r.sealed.Log {
			tear(r.rnd, r.disk, w)
		}
	}
	r.set = r.checkLoad(r.disk, r.now)
	r.sealed, r.next = nil, state{}
	r.live = maps.Clone(r.now.live)
	clear(r.fresh)
	clear(r.young)
	clear(r.later)
	clear(r.limbo)
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
