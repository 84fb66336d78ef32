package arena

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// A logBlk is a log block as read back.
type logBlk struct {
	addr    blkfmt.Addr
	hdr     blkfmt.LogHdr
	entries []logfmt.Entry
}

// readLog follows the chain from at through disk.
func readLog(t testing.TB, disk image, at blkfmt.Addr) []logBlk {
	t.Helper()
	var list []logBlk
	for at != blkfmt.NoAddr {
		p := disk[at]
		if p == nil {
			t.Fatalf("log block %v was never written", at)
		}
		h, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.Metro{}, at)
		if err != nil {
			t.Fatal(err)
		}
		b := logBlk{addr: at, hdr: h}
		for p := p[blkfmt.LogHdSize:][:h.Size]; len(p) > 0; {
			e, n, err := logfmt.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			b.entries = append(b.entries, e)
			p = p[n:]
		}
		list = append(list, b)
		at = h.Chain.Addr
	}
	return list
}

// TestLogIsExtendedAtEveryFill ends a block of the log at each number of bytes around full, with
// short and long entries on the edge, and goes on behind it.
func TestLogIsExtendedAtEveryFill(t *testing.T) {
	// Groups of three blocks: one of a group given back is a short entry, two are a long one.
	base := reamed(t, 1, 7000)
	var groups [][]blkfmt.Addr
	for range 2100 {
		groups = append(groups, []blkfmt.Addr{base.mustAlloc(), base.mustAlloc(), base.mustAlloc()})
	}
	slices.Reverse(groups) // ascending
	for _, g := range groups {
		slices.Sort(g)
	}
	base.commit(1)
	for total := blkfmt.LogFull/8*8 - 16; total <= blkfmt.LogFull+32; total += 8 {
		for _, long := range []int{0, 1, 2} {
			for _, first := range []bool{false, true} {
				if long == 0 && first {
					continue
				}
				t.Run(fmt.Sprintf("%d bytes, %d long, first %v", total, long, first), func(t *testing.T) {
					r := newRig(t, 1, 7000)
					r.disk, r.now = maps.Clone(base.disk), base.now
					r.set = r.load(r.disk, r.now)
					r.live = maps.Clone(base.live)
					r.commit(2)
					extendAt(t, r, groups, total, long, first)
				})
			}
		}
	}
}

// extendAt gives back as much of groups as makes total bytes of entries, long ones among them, and
// looks at the log.
func extendAt(t *testing.T, r *rig, groups [][]blkfmt.Addr, total, long int, first bool) {
	head := r.set.list()[0].first
	short := total/8 - 2*long
	for i, g := range groups[:short+long] {
		r.drop(g[0])
		if first && i < long || !first && i >= short {
			r.drop(g[1])
		}
	}
	tail := r.set.list()[0].tail
	r.seal(3)
	if r.set.list()[0].first != head {
		t.Fatal("the log was written anew")
	}
	r.write()
	r.checkLoad(r.disk, r.now)

	// The blocks hold the entries in order, none too many, and the barrier stands where the first
	// one is full or not.
	list := readLog(t, r.disk, tail)
	var got []logfmt.Entry
	sum := 0
	for i, b := range list {
		if i > 0 {
			// What leads to a block is the last entry of the one before.
			prev := got[len(got)-1]
			if prev.Op != logfmt.Alloc1 || prev.Addr != b.addr {
				t.Errorf("block %v follows %v of %v", b.addr, prev.Op, prev.Addr)
			}
			got = got[:len(got)-1]
			sum -= 8
		}
		if before := b.hdr.Size - last(b.entries).Size(); i < len(list)-1 && before >= blkfmt.LogFull+16 {
			t.Errorf("block of %d bytes", b.hdr.Size)
		}
		got = append(got, b.entries...)
		sum += b.hdr.Size
	}
	if sum != total+8 {
		t.Errorf("%d bytes of entries, want %d", sum, total+8)
	}
	if e := last(got); e.Op != logfmt.Sync || e.Qgen != 3 {
		t.Errorf("the log ends in %+v", e)
	}
	if !slices.IsSortedFunc(got[:len(got)-1], func(x, y logfmt.Entry) int { return int(number(x.Addr) - number(y.Addr)) }) {
		t.Error("the entries are not ascending")
	}
	want := 2 // with the empty tail
	if total >= blkfmt.LogFull {
		want = 3
	}
	if len(list) != want {
		t.Errorf("the log went over %d blocks, want %d", len(list), want)
	}
	r.release()
	r.check()
	r.drop(groups[2050][0])
	r.commit(4)
	r.checkLoad(r.disk, r.now)
	r.check()
}

func last(list []logfmt.Entry) logfmt.Entry {
	if len(list) == 0 {
		return logfmt.Entry{Op: logfmt.Sync}
	}
	return list[len(list)-1]
}

// TestLogAnewHoldsAnyNumberOfRanges writes logs from scratch around the numbers of ranges where a
// block is full.
func TestLogAnewHoldsAnyNumberOfRanges(t *testing.T) {
	counts := []int64{1, 2, 3, 1018, 1019, 1020, 1021, 1022, 1023, 1024, 2039, 2040, 2041, 2042, 2043, 3060, 3066, 100_000}
	for _, n := range counts {
		for _, room := range []bool{false, true} {
			if room && n == 100_000 {
				continue // takes long and shows nothing new
			}
			t.Run(fmt.Sprintf("%d ranges, room %v", n, room), func(t *testing.T) {
				anewWith(t, n, room)
			})
		}
	}
}

// anewWith writes a log for n free ranges of one block each. With room there is one long range more,
// that the log itself can lie in.
func anewWith(t *testing.T, n int64, room bool) {
	r := newRig(t, 1, 2*n+400)
	a := r.set.list()[0]
	var live []blkfmt.Addr
	at := a.base
	for range n {
		live = append(live, at)
		at += 2 * blk
	}
	live = append(live, at)
	if !room {
		for ; at < a.end; at += blk {
			live = append(live, at)
		}
	}
	if err := r.set.Rebuild(census(live...), 0); err != nil {
		t.Fatal(err)
	}
	if room {
		n++
	}
	if got := a.free.count(); got != n {
		t.Fatalf("%d free ranges, want %d", got, n)
	}
	for _, b := range live {
		r.live[b] = true
	}
	r.seal(5)
	r.write()
	s := r.checkLoad(r.disk, r.now)
	r.release()
	r.check()

	list := readLog(t, r.disk, a.first)
	k := int64(len(list))
	if a.tail != blkfmt.NoAddr {
		k--
	}
	// Without room for it, the log's blocks were ranges of their own, and some of those that were
	// taken may not have been needed in the end.
	taken := int64(0)
	if !room {
		taken = n/1020 + 1
	}
	if most, least := n/1020+1, (n-taken)/1020+1; k > most || k < least {
		t.Errorf("the log has %d blocks, want %d to %d", k, least, most)
	}
	for i, b := range list[:k-1] {
		if b.hdr.Size != 1020*16 {
			t.Errorf("block %d of the log holds %d bytes", i, b.hdr.Size)
		}
	}
	// What was loaded is the same, but that it does not know the tail.
	want := maps.Collect(r.set.Ranges(0))
	if a.tail != blkfmt.NoAddr {
		if !s.list()[0].free.remove(a.tail, blk) {
			t.Errorf("the tail %v is not free at the barrier", a.tail)
		}
	}
	if got := maps.Collect(s.Ranges(0)); !maps.Equal(got, want) {
		t.Errorf("%d ranges were read back, want %d", len(got), len(want))
	}
}

// TestLogBlocksAreWrittenOnce remembers every log block that a committed superblock reached, and
// looks that none of its bytes changes while one does.
func TestLogBlocksAreWrittenOnce(t *testing.T) {
	rnd := newRand(t)
	r := reamed(t, 2, 300)
	reached := func(refs []blkfmt.ArenaRef, qgen int64) map[blkfmt.Addr][]byte {
		m := map[blkfmt.Addr][]byte{}
		s := r.load(r.disk, state{refs: refs, qgen: qgen})
		for i := range s.Len() {
			for _, b := range s.Log(i) {
				m[b] = bytes.Clone(r.disk[b])
			}
		}
		return m
	}
	for q := range int64(150) {
		before := reached(r.now.refs, r.now.qgen)
		for range rnd.IntN(30) {
			r.alloc(rnd.Uint64N(5), rnd.IntN(2) == 0)
		}
		for range rnd.IntN(30) {
			if len(r.live) > 0 {
				r.drop(pick(rnd, r.live))
			}
		}
		r.seal(q + 1)
		r.disk.apply(r.sealed.Log)
		for b, p := range before {
			if !bytes.Equal(r.disk[b], p) {
				t.Fatalf("commit %d rewrites log block %v, which the last one reaches", q+1, b)
			}
		}
		r.write()
		r.release()
	}
}

// TestCrashAtEveryBlockOfASeal loses, keeps and tears each set of a Seal's writes: the old superblock
// finds the old state, exactly.
func TestCrashAtEveryBlockOfASeal(t *testing.T) {
	rnd := newRand(t)
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprintf("log anew %v", anew), func(t *testing.T) {
			r := reamed(t, 2, 6000)
			r.rnd = rnd
			var list []blkfmt.Addr
			for range 8000 {
				list = append(list, r.mustAlloc())
			}
			r.commit(1)
			for i := 0; i < len(list); i += 2 {
				r.drop(list[i])
			}
			if anew {
				// The first Seal after loading.
				s := r.checkLoad(r.disk, r.now)
				for i := 0; i < len(list); i += 2 {
					if err := s.FreeLater(list[i]); err != nil {
						t.Fatal(err)
					}
				}
				r.set = s
			}
			r.seal(2)
			writes := slices.Concat(r.sealed.Log, r.sealed.Headers)
			if len(writes) < 7 {
				t.Fatalf("only %d blocks to lose", len(writes))
			}
			for i := range len(writes) + 1 { // a prefix, in the order of the addresses
				disk := maps.Clone(r.disk)
				disk.apply(writes[:i])
				r.checkLoad(disk, r.now)
			}
			n := 1 << len(writes)
			step := max(1, n/30) // some 60 of the sets
			for set := 0; set < n; set += 1 + rnd.IntN(step) {
				disk := maps.Clone(r.disk)
				for i, w := range writes {
					if set>>i&1 != 0 {
						disk.apply([]Write{w})
					} else {
						tear(rnd, disk, w)
					}
				}
				r.checkLoad(disk, r.now)
			}
			r.write()
			r.checkLoad(r.disk, r.now)
		})
	}
}

// TestCopiesOfHeadersAreHealedFirst crashes in a commit that finds a copy of a header stale. The
// header's first place may be torn at any time: by then the copy must be good.
func TestCopiesOfHeadersAreHealedFirst(t *testing.T) {
	r := reamed(t, 2, 100)
	r.mustAlloc()
	r.seal(1)
	r.disk.apply(r.sealed.Log)
	r.disk.apply(r.sealed.Headers)
	r.now = r.next
	// The crash: footers are those of commit 0.
	r.set = r.checkLoad(r.disk, r.now)
	r.sealed = nil
	for i, st := range r.set.Stat() {
		if st.HeadBad || !st.FootBad {
			t.Errorf("arena %d: HeadBad %v, FootBad %v", i, st.HeadBad, st.FootBad)
		}
	}
	r.seal(2)
	if len(r.sealed.Heal) != 2 {
		t.Fatalf("%d copies to heal, want 2", len(r.sealed.Heal))
	}
	r.disk.apply(r.sealed.Heal)
	for _, w := range r.sealed.Headers {
		r.disk[w.Addr] = append(bytes.Clone(w.Data[:512]), r.disk[w.Addr][512:]...)
	}
	s := r.checkLoad(r.disk, r.now)
	for i, st := range s.Stat() {
		if !st.HeadBad || st.FootBad {
			t.Errorf("arena %d: HeadBad %v, FootBad %v after healing", i, st.HeadBad, st.FootBad)
		}
	}
	// This time it goes through, and nothing is left to heal.
	r.set = s
	r.seal(3)
	if len(r.sealed.Heal) != 0 {
		t.Errorf("%d copies to heal, want none", len(r.sealed.Heal))
	}
	r.write()
	r.release()
	s = r.checkLoad(r.disk, r.now)
	for i, st := range s.Stat() {
		if st.HeadBad || st.FootBad {
			t.Errorf("arena %d: HeadBad %v, FootBad %v after a commit", i, st.HeadBad, st.FootBad)
		}
	}
}

// TestLogsStayShort: what replay has to read is bounded, however many commits there are.
func TestLogsStayShort(t *testing.T) {
	r := reamed(t, 1, 3000)
	for q := range int64(100) {
		r.mustAlloc()
		r.commit(q + 1)
		if n := r.set.Stat()[0].Log; n > logGrowth*1+logSlack {
			t.Fatalf("commit %d leaves a log of %d blocks", q+1, n)
		}
	}
	r.checkLoad(r.disk, r.now)
	r.check()
}

func TestShortLivedBlocksCostNoLog(t *testing.T) {
	r := reamed(t, 1, 3000)
	r.mustAlloc()
	r.commit(1)
	tail := r.set.list()[0].tail
	for range 10 {
		var list []blkfmt.Addr
		for range 1000 {
			list = append(list, r.mustAlloc())
		}
		for _, b := range list {
			r.drop(b)
		}
	}
	r.commit(2)
	b := readLog(t, r.disk, tail)[0]
	if len(b.entries) != 2 || b.entries[0].Op != logfmt.Sync || b.entries[1].Op != logfmt.Alloc1 {
		t.Errorf("the log of a commit without changes has %+v", b.entries)
	}
}

func TestRunsOfBlocksAreOneEntry(t *testing.T) {
	r := reamed(t, 1, 3000)
	for range 500 {
		r.alloc(3, true)
	}
	tail := r.set.list()[0].tail
	r.commit(1)
	if b := readLog(t, r.disk, tail)[0]; len(b.entries) > 10 {
		t.Errorf("%d entries for a file of 500 blocks", len(b.entries))
	}
	r.checkLoad(r.disk, r.now)
}

// TestLogAndItsTailAreAdjacent holds, so that they go out in one write.
func TestLogAndItsTailAreAdjacent(t *testing.T) {
	r := reamed(t, 1, 3000)
	for q := range int64(10) {
		for range 50 {
			r.alloc(uint64(q), true)
		}
		r.seal(q + 1)
		for i, w := range r.sealed.Log {
			if i > 0 && w.Addr != r.sealed.Log[i-1].Addr+blk {
				t.Errorf("commit %d writes its log in pieces: at %v and %v", q+1, r.sealed.Log[i-1].Addr, w.Addr)
			}
		}
		r.write()
		r.release()
	}
}

func TestSealAndReleaseAreOneAfterTheOther(t *testing.T) {
	r := reamed(t, 1, 100)
	if _, err := r.set.Seal(0); err == nil {
		t.Error("Seal took a barrier that is not newer")
	}
	if _, err := r.set.Seal(1 << 55); err == nil {
		t.Error("Seal took a barrier that does not fit")
	}
	r.seal(1)
	if _, err := r.set.Seal(2); err == nil {
		t.Error("Seal did not wait for Release")
	}
	if err := r.set.Release(&Sealed{Qgen: 1}); err == nil {
		t.Error("Release took what Seal did not return")
	}
	if err := r.set.Release(nil); err == nil {
		t.Error("Release took nil")
	}
	s := r.sealed
	r.release()
	if err := r.set.Release(s); err == nil {
		t.Error("Release took the same twice")
	}
	if r.set.Qgen() != 1 {
		t.Errorf("Qgen is %d", r.set.Qgen())
	}
}

func TestHeaderUsedIsWhatReplayLeaves(t *testing.T) {
	r := reamed(t, 1, 200)
	var list []blkfmt.Addr
	for range 20 {
		list = append(list, r.mustAlloc())
	}
	r.commit(1)
	for _, b := range list[:5] {
		r.drop(b)
	}
	r.seal(2)
	h, err := blkfmt.DecodeArenaHdr(r.sealed.Headers[0].Data, r.sealed.Headers[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	// 15 live blocks, 2 that are never handed out, 3 of the log; the tail is not part of it.
	if want := int64(15+2+3) * blk; h.Used != want {
		t.Errorf("used is %d blocks, want %d", h.Used/blk, want/blk)
	}
	if !bytes.Equal(r.sealed.Headers[0].Data, r.sealed.Footers[0].Data) {
		t.Error("header and copy differ")
	}
}
