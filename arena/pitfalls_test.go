package arena

import (
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// Bugs that gefs really had, by their numbers in the project's list. 47 and 48 are in
// pressure_test.go.

func TestPitfall24GrownDeviceLoadsAgain(t *testing.T) {
	r := reamed(t, 2, 100)
	r.mustAlloc()
	r.commit(1)
	// Grow: load, add, commit.
	r.set = r.checkLoad(r.disk, r.now)
	g := blkfmt.Geometry{First: blkfmt.Addr(r.size) - blk, Count: 3, Size: 200 * blk}
	if err := r.set.Extend(g); err != nil {
		t.Fatal(err)
	}
	r.size = int64(g.Header(3)) + blk
	clear(r.fresh)
	r.commit(2)
	for i, ref := range r.now.refs {
		if ref.Hash == blkfmt.NoHash || ref.Hash != r.hash.Sum(r.disk[ref.Addr]) {
			t.Errorf("arena %d: the superblock has the hash %x", i, ref.Hash)
		}
	}
	r.set = r.checkLoad(r.disk, r.now)
	if r.set.Len() != 5 {
		t.Errorf("%d arenas", r.set.Len())
	}
	r.fill(true)
	r.commit(3)
	r.checkLoad(r.disk, r.now)

	for _, g := range []blkfmt.Geometry{
		{First: blkfmt.Addr(r.size) - 2*blk, Count: 1, Size: 200 * blk}, // over the last arena
		{First: blkfmt.Addr(r.size), Count: 251, Size: 200 * blk},
	} {
		if err := r.set.Extend(g); err == nil {
			t.Errorf("Extend took %+v", g)
		}
	}
}

func TestPitfall26CutClearsTheChain(t *testing.T) {
	r := reamed(t, 1, 6000)
	var list []blkfmt.Addr
	for range 5000 {
		list = append(list, r.mustAlloc())
	}
	r.commit(1)
	for i := 0; i < len(list); i += 2 {
		r.drop(list[i])
	}
	r.seal(2)
	if n := len(r.sealed.Log); n < 3 {
		t.Fatalf("the log went over %d blocks only", n)
	}
	r.disk.apply(r.sealed.Log) // and the crash

	r.set = r.checkLoad(r.disk, r.now)
	for _, w := range r.sealed.Log {
		if slices.Contains(r.set.Log(0), w.Addr) {
			t.Errorf("log block %v was never part of a commit, and belongs to the log", w.Addr)
		}
	}
	r.live = maps.Clone(r.now.live)
	clear(r.later)
	clear(r.limbo)
	// The log written anew gives back the old chain, and nothing twice.
	r.commit(2)
	r.check()
	r.checkLoad(r.disk, r.now)
}

func TestPitfall27BarrierSurvivesTheCut(t *testing.T) {
	r := reamed(t, 2, 100) // ream leaves a barrier as well
	for q := range int64(5) {
		if list := readLog(t, r.disk, r.set.list()[0].first); !hasBarrier(list, q) {
			t.Fatalf("no barrier %d in the log of commit %d", q, q)
		}
		r.set = r.checkLoad(r.disk, r.now)
		r.live = maps.Clone(r.now.live)
		clear(r.fresh)
		r.mustAlloc()
		// Everything of the next commit is written, but for the superblock.
		r.seal(q + 1)
		r.disk.apply(r.sealed.Log)
		r.checkLoad(r.disk, r.now)
		r.write()
		r.release()
	}
}

func hasBarrier(list []logBlk, qgen int64) bool {
	for _, b := range list {
		if slices.ContainsFunc(b.entries, func(e logfmt.Entry) bool { return e.Op == logfmt.Sync && e.Qgen == qgen }) {
			return true
		}
	}
	return false
}

func TestPitfall28UncommittedFreesAreNotReplayed(t *testing.T) {
	r := reamed(t, 1, 100)
	b := r.mustAlloc()
	r.commit(1)
	r.drop(b)
	r.seal(2)
	r.disk.apply(r.sealed.Log)
	r.disk.apply(r.sealed.Headers)
	if s := r.checkLoad(r.disk, r.now); s.list()[0].free.holding(b) != nil {
		t.Errorf("block %v is free before the commit that gives it back", b)
	}
	if s := r.checkLoad(r.disk, r.next); s.list()[0].free.holding(b) == nil {
		t.Errorf("block %v is not free after the commit that gives it back", b)
	}
}

func TestPitfall33EveryBlockOfANewLogIsWritten(t *testing.T) {
	r := fragmented(t, 3000)
	list := readLog(t, r.disk, r.set.list()[0].first) // fails if one is missing
	if len(list) < 4 {
		t.Fatalf("the log has %d blocks only", len(list))
	}
	if got := len(r.set.Log(0)); got != len(list) {
		t.Errorf("the log has %d blocks on disk, %d in memory", len(list), got)
	}
	for i, b := range list[:len(list)-1] {
		if b.hdr.Size == 0 {
			t.Errorf("block %d of the log is empty", i)
		}
	}
}

// fragmented returns a rig of one arena with n free ranges of one block, after its first commit.
func fragmented(t *testing.T, n int64) *rig {
	r := newRig(t, 1, 2*n+100)
	at := r.set.list()[0].base
	var live []blkfmt.Addr
	for range n {
		live = append(live, at)
		at += 2 * blk
	}
	for _, b := range live {
		r.live[b] = true
	}
	if err := r.set.Rebuild(census(live...), 0); err != nil {
		t.Fatal(err)
	}
	r.commit(0)
	return r
}

func TestPitfall34LogBlocksAreTakenBeforeTheyAreUsed(t *testing.T) {
	r := fragmented(t, 3000)
	rnd := newRand(t)
	for q := range int64(40) {
		list := slices.Sorted(maps.Keys(r.live))
		changes := 200
		if q%8 == 3 {
			changes = 1300 // so many that the log goes on in another block before its barrier
		}
		for range changes {
			if b := list[rnd.IntN(len(list))]; r.live[b] {
				r.drop(b)
			}
			r.alloc(Meta, false)
		}
		r.commit(q + 1)
		// Read in order, each block of the log is in use before replay gets there: a log written
		// anew has never said that it was free, all others have their entry in front.
		a := r.set.list()[0]
		free := newRanges()
		for _, b := range readLog(t, r.disk, a.first) {
			if free.holding(b.addr) != nil {
				t.Fatalf("commit %d: log block %v is free when replay comes to it", q+1, b.addr)
			}
			for _, e := range b.entries {
				switch e.Op {
				case logfmt.Alloc, logfmt.Alloc1:
					if !free.remove(e.Addr, e.Len) {
						t.Fatalf("commit %d: %v is taken before it is free", q+1, e.Addr)
					}
				case logfmt.Free, logfmt.Free1:
					if !free.insert(e.Addr, e.Len) {
						t.Fatalf("commit %d: %v is freed twice", q+1, e.Addr)
					}
				}
			}
		}
	}
}

func TestPitfall35ANewLogGoesOnAtItsTail(t *testing.T) {
	r := fragmented(t, 4000)
	a := r.set.list()[0]
	list := readLog(t, r.disk, a.first)
	if len(list) < 4 {
		t.Fatalf("the log has %d blocks only", len(list))
	}
	h, err := blkfmt.DecodeArenaHdr(r.disk[a.head], a.head)
	if err != nil {
		t.Fatal(err)
	}
	if h.Log.Addr != list[0].addr {
		t.Errorf("the header points at %v, the log begins at %v", h.Log.Addr, list[0].addr)
	}
	tail := list[len(list)-1]
	if a.tail != tail.addr || tail.hdr.Size != 0 {
		t.Errorf("the tail is %v, the chain ends at %v with %d bytes", a.tail, tail.addr, tail.hdr.Size)
	}
	r.mustAlloc()
	r.commit(1)
	again := readLog(t, r.disk, a.first)
	if len(again) != len(list)+1 || again[len(list)-1].addr != tail.addr || !hasBarrier(again[len(list)-1:], 1) {
		t.Errorf("the log did not go on at its tail %v", tail.addr)
	}
	r.checkLoad(r.disk, r.now)
}

func TestPitfall37AddressesFarApartAreInOrder(t *testing.T) {
	r := newRanges()
	list := []blkfmt.Addr{blk, 1 << 30, 1 << 31, 1<<31 + 2*blk, 1 << 32, 1<<32 + 2*blk, 3 << 31, 5 << 32, 1 << 40, 1 << 62}
	for i := range list { // neither ascending nor descending
		r.insert(list[i*7%len(list)], blk)
	}
	var got []blkfmt.Addr
	for a := range r.all() {
		got = append(got, a)
	}
	if !slices.Equal(got, list) {
		t.Errorf("ranges are in the order %v", got)
	}
	for _, a := range list {
		if r.holding(a) == nil {
			t.Errorf("%v is not found", a)
		}
	}

	// The same in an arena of 8 TiB.
	g, err := blkfmt.ReamGeometry(64 << 40)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Format(g, blkfmt.Metro{})
	if err != nil {
		t.Fatal(err)
	}
	low, err := s.Alloc(3, true)
	if err != nil {
		t.Fatal(err)
	}
	s.count.Store(0)
	high, err := s.Alloc(3, false)
	if err != nil {
		t.Fatal(err)
	}
	if high-low < 1<<41 {
		t.Errorf("the lowest block is %v, the highest %v", low, high)
	}
	if err := s.Free(low); err != nil {
		t.Error(err)
	}
	if err := s.Free(high); err != nil {
		t.Error(err)
	}
}

func TestPitfall52StaleHeaderIsNoDamage(t *testing.T) {
	r := reamed(t, 4, 100)
	r.mustAlloc()
	r.seal(1)
	r.disk.apply(r.sealed.Log)
	r.disk.apply(r.sealed.Headers[:2]) // and the crash
	s := r.checkLoad(r.disk, r.now)
	for i, st := range s.Stat() {
		if st.HeadBad != (i < 2) || st.FootBad || st.Suspect != "" {
			t.Errorf("arena %d: %+v", i, st)
		}
	}
	// The disk is as good as any other.
	r.set, r.next = s, state{}
	clear(r.live)
	clear(r.fresh)
	r.mustAlloc()
	r.seal(1)
	if len(r.sealed.Heal) != 0 {
		t.Error("good copies of headers are written before the headers")
	}
	r.write()
	r.release()
	r.checkLoad(r.disk, r.now)
}
