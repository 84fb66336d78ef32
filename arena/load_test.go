package arena

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// census yields list.
func census(list ...blkfmt.Addr) iter.Seq2[blkfmt.Addr, error] {
	return func(yield func(blkfmt.Addr, error) bool) {
		for _, b := range list {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// A broken device fails to read some blocks.
type broken struct {
	image
	bad map[blkfmt.Addr]bool
}

var errBroken = errors.New("broken block")

func (d broken) ReadAt(p []byte, off int64) (int, error) {
	if d.bad[blkfmt.Addr(off)] {
		return 0, errBroken
	}
	return d.image.ReadAt(p, off)
}

// flip returns disk with one bit of the block at a changed.
func flip(disk image, a blkfmt.Addr, bit int) image {
	disk = maps.Clone(disk)
	p := bytes.Clone(disk[a])
	p[bit/8] ^= 1 << (bit % 8)
	disk[a] = p
	return disk
}

func TestLoadTakesTheCopyOfABadHeader(t *testing.T) {
	r := reamed(t, 3, 100)
	r.mustAlloc()
	r.commit(1)
	head := r.now.refs[1].Addr

	for name, disk := range map[string]io.ReaderAt{
		"a bit":      flip(r.disk, head, 77),
		"unreadable": broken{r.disk, map[blkfmt.Addr]bool{head: true}},
	} {
		s := r.checkLoad(disk, r.now)
		for i, st := range s.Stat() {
			if st.HeadBad != (i == 1) || st.FootBad {
				t.Errorf("%s: arena %d: HeadBad %v, FootBad %v", name, i, st.HeadBad, st.FootBad)
			}
		}
	}
	s := r.checkLoad(flip(r.disk, head+blk, 77), r.now)
	if st := s.Stat()[1]; st.HeadBad || !st.FootBad {
		t.Errorf("HeadBad %v, FootBad %v where the copy is bad", st.HeadBad, st.FootBad)
	}

	for name, disk := range map[string]io.ReaderAt{
		"bits":       flip(flip(r.disk, head, 1), head+blk, 2),
		"unreadable": broken{r.disk, map[blkfmt.Addr]bool{head: true, head + blk: true}},
	} {
		_, err := Load(disk, r.size, r.hash, r.now.refs, r.now.qgen)
		var c *blkfmt.CorruptError
		if !errors.As(err, &c) || c.Type != blkfmt.Arena {
			t.Errorf("%s: both copies bad: %v", name, err)
		}
	}
}

func TestLoadBelievesAnUnknownHash(t *testing.T) {
	r := reamed(t, 2, 100)
	r.mustAlloc()
	r.commit(1)
	st := r.now
	st.refs = slices.Clone(st.refs)
	st.refs[0].Hash = blkfmt.NoHash
	r.checkLoad(r.disk, st)
	// Not well-formed: the copy.
	s := r.checkLoad(flip(r.disk, st.refs[0].Addr, 14), st)
	if !s.Stat()[0].HeadBad {
		t.Error("a header of no type was taken")
	}
	// The next Seal knows the hash again.
	sealed, err := s.Seal(2)
	if err != nil {
		t.Fatal(err)
	}
	if h := sealed.Refs[0].Hash; h == blkfmt.NoHash || h != r.hash.Sum(sealed.Headers[0].Data) {
		t.Errorf("the superblock gets the hash %x", h)
	}
}

func TestLoadRefusesArenasThatDoNotFit(t *testing.T) {
	r := reamed(t, 3, 100)
	for _, c := range []struct {
		name   string
		length int64
		change func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef
	}{
		{"none", r.size, func([]blkfmt.ArenaRef) []blkfmt.ArenaRef { return nil }},
		{"too many", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { return slices.Repeat(refs, 86) }},
		{"not ascending", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { slices.Reverse(refs); return refs }},
		{"twice", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { return append(refs, refs[2]) }},
		{"in the superblock", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { refs[0].Addr = 0; return refs }},
		{"nowhere", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { refs[2].Addr = blkfmt.NoAddr; return refs }},
		{"beyond", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { refs[2].Addr = 1 << 60; return refs }},
		{"not a block", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { refs[1].Addr += 512; return refs }},
		{"one over the next", r.size, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { refs[1].Addr -= blk; return refs }},
		{"a short device", r.size - 2*blk, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { return refs }},
		{"no device", -1, func(refs []blkfmt.ArenaRef) []blkfmt.ArenaRef { return refs }},
	} {
		t.Run(c.name, func(t *testing.T) {
			refs := c.change(slices.Clone(r.now.refs))
			if s, err := Load(r.disk, c.length, r.hash, refs, 0); err == nil {
				t.Errorf("loaded %d arenas", s.Len())
			}
		})
	}
}

// A logEdit makes a log of its own for arena 0 and says why it must not be believed.
type logEdit struct {
	name string
	why  string // part of the reason; empty if the log is good
	make func(w *logWriter, a *arena)
}

// put appends e to w without looking at anything.
func put(w *logWriter, list ...logfmt.Entry) {
	for _, e := range list {
		w.append(e)
	}
}

var logEdits = []logEdit{
	{"good", "", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Sync, Qgen: 3}, logfmt.Entry{Op: logfmt.Sync, Qgen: 4})
	}},
	{"no barrier", "without the barrier 4", func(w *logWriter, a *arena) {}},
	{"only an older barrier", "without the barrier 4", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Sync, Qgen: 3})
	}},
	{"only a newer barrier", "barrier 5, not 4", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Sync, Qgen: 5})
	}},
	{"a newer barrier behind", "", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Sync, Qgen: 4}, logfmt.Entry{Op: logfmt.Free1, Addr: a.base}, logfmt.Entry{Op: logfmt.Sync, Qgen: 5})
	}},
	{"used differs", "its header says", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Alloc1, Addr: a.base + 9*blk}, logfmt.Entry{Op: logfmt.Sync, Qgen: 4})
	}},
	{"freed twice", "contradicts", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Free1, Addr: a.base + 9*blk}, logfmt.Entry{Op: logfmt.Sync, Qgen: 4})
	}},
	{"taken twice", "contradicts", func(w *logWriter, a *arena) {
		e := logfmt.Entry{Op: logfmt.Alloc1, Addr: a.base + 9*blk}
		put(w, e, e, logfmt.Entry{Op: logfmt.Sync, Qgen: 4})
	}},
	{"taken across ranges", "contradicts", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Alloc1, Addr: a.base + 9*blk}, logfmt.Entry{Op: logfmt.Alloc, Addr: a.base + 8*blk, Len: 3 * blk})
	}},
	{"freed before the arena", "contradicts", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Free1, Addr: a.base - blk})
	}},
	{"freed behind the arena", "contradicts", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Free1, Addr: a.end})
	}},
	{"freed over the end", "contradicts", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Free, Addr: a.end - blk, Len: 1 << 60})
	}},
	{"no such op", "unknown op", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: 9, Addr: a.base})
	}},
	{"frees itself", "is free in the log", func(w *logWriter, a *arena) {
		put(w, logfmt.Entry{Op: logfmt.Free1, Addr: a.base}, logfmt.Entry{Op: logfmt.Sync, Qgen: 4})
	}},
	{"circle", "circle", func(w *logWriter, a *arena) { w.cur().chain = a.base }},
	{"goes outside", "outside the arena", func(w *logWriter, a *arena) { w.cur().chain = a.end }},
	{"goes to a part of a block", "chain to", func(w *logWriter, a *arena) { w.cur().chain = a.base + 1 }},
	{"goes to the superblock", "chain to", func(w *logWriter, a *arena) { w.cur().chain = 0 }},
	{"goes to what is no log", "type is 0", func(w *logWriter, a *arena) { w.cur().chain = a.base + blk }},
}

// TestBadLogsMakeTheirArenaSuspect, say why, and are mended by Rebuild and the next commit.
func TestBadLogsMakeTheirArenaSuspect(t *testing.T) {
	for _, c := range logEdits {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 2, 100)
			r.commit(4)
			a := r.set.list()[0]
			clear(r.disk[a.base+blk]) // the tail

			w := &logWriter{a: a, bufs: new(buffers)}
			w.begin(a.base)
			put(w, logfmt.Entry{Op: logfmt.Free, Addr: a.base + blk, Len: int64(a.end-a.base) - blk})
			put(w, logfmt.Entry{Op: logfmt.Alloc, Addr: a.base + 30*blk, Len: 3 * blk})
			live := []blkfmt.Addr{a.base + 30*blk, a.base + 31*blk, a.base + 32*blk}
			for _, b := range live {
				r.live[b] = true
			}
			c.make(w, a)
			r.disk.apply(w.finish(r.hash))
			h := blkfmt.ArenaHdr{Log: blkfmt.Bptr{Addr: a.base}, Size: a.size, Used: (2 + 1 + 3) * blk}
			p := make([]byte, blk)
			h.Encode(p)
			r.disk[a.head], r.disk[a.head+blk] = p, p
			refs := slices.Clone(r.now.refs)
			refs[0].Hash = r.hash.Sum(p)

			s, err := Load(r.disk, r.size, r.hash, refs, 4)
			if err != nil {
				t.Fatal(err)
			}
			list := s.Suspects()
			if c.why == "" {
				if len(list) != 0 {
					t.Errorf("a good log is suspect: %+v", list)
				}
				return
			}
			if len(list) != 1 || list[0].Arena != 0 || !strings.Contains(list[0].Why, c.why) {
				t.Fatalf("suspects are %+v, want arena 0: %s", list, c.why)
			}
			if st := s.Stat()[0]; st.Suspect != list[0].Why {
				t.Errorf("Stat says %q", st.Suspect)
			}

			// Nothing happens there before Rebuild.
			if _, err := s.Seal(5); !errors.Is(err, ErrSuspect) {
				t.Errorf("Seal = %v", err)
			}
			if err := s.Free(a.base + 30*blk); !errors.Is(err, ErrSuspect) {
				t.Errorf("Free = %v", err)
			}
			for range 200 {
				if b, err := s.Alloc(Meta, false); err != nil {
					if !errors.Is(err, ErrSuspect) {
						t.Errorf("Alloc = %v", err)
					}
					break
				} else if i, _ := s.Index(b); i == 0 {
					t.Fatalf("Alloc handed out %v", b)
				}
			}

			// Afterwards all is as the census says, and the old log stays for another commit.
			if s, err = Load(r.disk, r.size, r.hash, refs, 4); err != nil {
				t.Fatal(err)
			}
			if err := s.Rebuild(census(live...)); err != nil {
				t.Fatal(err)
			}
			if len(s.Suspects()) != 0 {
				t.Errorf("suspects after Rebuild: %+v", s.Suspects())
			}
			checkFree(t, s, r.live)
			if !s.NeedsSeal() {
				t.Error("not NeedsSeal after Rebuild")
			}
			// A block that is none at all is not kept.
			if c.why != "chain to" && s.list()[0].free.holding(a.base) != nil {
				t.Error("the old log may be overwritten")
			}
			r.set = s
			r.seal(5)
			r.write()
			r.checkLoad(r.disk, r.now)
			r.release()
			r.check()
			if s.NeedsSeal() {
				t.Error("NeedsSeal after a commit")
			}
			if s.list()[0].free.holding(a.base) == nil && s.list()[0].first != a.base {
				t.Error("the old log was not given back")
			}
		})
	}
}

func TestUnreadableLogMakesItsArenaSuspect(t *testing.T) {
	r := reamed(t, 2, 100)
	first := r.set.list()[1].first
	for name, disk := range map[string]io.ReaderAt{
		"broken block": broken{r.disk, map[blkfmt.Addr]bool{first: true}},
		"hash is":      flip(r.disk, first, 8*40),
	} {
		s, err := Load(disk, r.size, r.hash, r.now.refs, 0)
		if err != nil {
			t.Fatal(err)
		}
		if list := s.Suspects(); len(list) != 1 || list[0].Arena != 1 || !strings.Contains(list[0].Why, name) {
			t.Errorf("%s: suspects are %+v", name, list)
		}
	}
}

func TestRebuildStopsWhereTheCensusFails(t *testing.T) {
	r := reamed(t, 2, 100)
	b := r.mustAlloc()
	r.commit(1)
	before := r.set.Stat()
	boom := errors.New("boom")
	fails := func(yield func(blkfmt.Addr, error) bool) {
		if yield(b, nil) {
			yield(blkfmt.NoAddr, boom)
		}
	}
	if err := r.set.Rebuild(fails, 0, 1); !errors.Is(err, boom) {
		t.Errorf("Rebuild = %v", err)
	}
	var ae *AddrError
	for _, b := range foreignBlocks(r) {
		if err := r.set.Rebuild(census(b), 0); !errors.As(err, &ae) || ae.Addr != b {
			t.Errorf("Rebuild with %v = %v", b, err)
		}
	}
	if err := r.set.Rebuild(census(b), 2); err == nil {
		t.Error("Rebuild of an arena that is not there")
	}
	if after := r.set.Stat(); !slices.Equal(before, after) {
		t.Errorf("Rebuild failed and changed\n%+v to\n%+v", before, after)
	}
	if err := r.set.Rebuild(fails); err != nil {
		t.Errorf("Rebuild without suspects = %v", err)
	}
}

// foreignBlocks returns addresses that r's arenas do not contain.
func foreignBlocks(r *rig) []blkfmt.Addr {
	list := []blkfmt.Addr{blkfmt.NoAddr, 0, 1, -blk, 1 << 62, 1<<63 - blk, blkfmt.Addr(r.size), r.set.list()[0].base + 1}
	for _, a := range r.set.list() {
		list = append(list, a.head, a.head+blk, a.end, a.end+blk)
	}
	return list
}

func TestForeignBlocksAreErrors(t *testing.T) {
	r := reamed(t, 3, 100)
	for _, b := range foreignBlocks(r) {
		if r.set.Contains(b) {
			t.Errorf("Contains(%v)", b)
		}
		if r.set.Fresh(b) {
			t.Errorf("Fresh(%v)", b)
		}
		for name, err := range map[string]error{
			"Index":     func() error { _, err := r.set.Index(b); return err }(),
			"Free":      r.set.Free(b),
			"FreeLater": r.set.FreeLater(b),
			"Retire":    r.set.Retire(b),
			"Give":      r.set.Give(b),
		} {
			var ae *AddrError
			var c *blkfmt.CorruptError
			if !errors.As(err, &ae) || ae.Addr != b || !errors.As(err, &c) || c.Addr != b {
				t.Errorf("%s(%v) = %v", name, b, err)
			}
		}
	}
	for i, a := range r.set.list() {
		for _, b := range []blkfmt.Addr{a.base, a.end - blk} {
			if got, err := r.set.Index(b); got != i || err != nil {
				t.Errorf("Index(%v) = %d, %v, want %d", b, got, err, i)
			}
		}
	}
	r.check()
}

func TestBlocksAreGivenBackOnce(t *testing.T) {
	r := reamed(t, 1, 100)
	old, dead, never := r.mustAlloc(), r.mustAlloc(), r.set.list()[0].base+40*blk
	r.commit(1)
	fresh, gone := r.mustAlloc(), r.mustAlloc()
	r.drop(gone)
	r.drop(dead)
	refused := func(when string, list ...blkfmt.Addr) {
		t.Helper()
		for _, b := range list {
			for _, err := range []error{r.set.Free(b), r.set.FreeLater(b), r.set.Retire(b), r.set.Give(b)} {
				var ae *AddrError
				if !errors.As(err, &ae) || ae.Addr != b {
					t.Errorf("%s: free of %v: %v", when, b, err)
				}
			}
		}
		r.check()
	}
	log := r.set.Log(0)
	refused("before Seal", append(log, gone, dead, never)...)

	// FreeLater goes on behind what it refuses.
	err := r.set.FreeLater(gone, old, never)
	var ae *AddrError
	if !errors.As(err, &ae) || ae.Addr != gone || !strings.Contains(err.Error(), "1 more") {
		t.Errorf("FreeLater = %v", err)
	}
	delete(r.live, old)
	r.later[old] = true
	refused("after FreeLater", old)
	r.seal(2)
	refused("before Release", old, dead)
	r.write()
	r.release()
	refused("after Release", old, dead)
	r.drop(fresh)
	r.check()
}

// TestFreeOfACommittedBlockWaits: whatever the caller thinks, what the last commit reaches is not
// handed out before the next one.
func TestFreeOfACommittedBlockWaits(t *testing.T) {
	r := reamed(t, 1, 100)
	b := r.mustAlloc()
	r.commit(1)
	if err := r.set.Free(b); err != nil {
		t.Fatal(err)
	}
	delete(r.live, b)
	r.later[b] = true
	r.check()
	r.fill(false) // would take b if it could
	r.commit(2)
	r.check()
}

// TestFreeLaterOfAFreshBlockWaitsForReaders: it costs no log, but is not handed out before Release.
func TestFreeLaterOfAFreshBlockWaitsForReaders(t *testing.T) {
	r := reamed(t, 1, 100)
	b := r.mustAlloc()
	if err := r.set.FreeLater(b); err != nil {
		t.Fatal(err)
	}
	delete(r.live, b)
	delete(r.fresh, b)
	r.later[b] = true
	if r.set.Fresh(b) {
		t.Error("a block that was given back is fresh")
	}
	if got := r.set.Stat()[0].Waiting; got != blk {
		t.Errorf("%d bytes wait", got)
	}
	r.check()
	tail := r.set.list()[0].tail
	r.commit(1)
	r.check()
	if e := readLog(t, r.disk, tail)[0].entries[0]; e.Op != logfmt.Sync {
		t.Errorf("the log has %+v", e)
	}
	r.checkLoad(r.disk, r.now)
}

// TestRetiredBlockIsFreeInEveryLog: a fresh block that readers may still look for is not handed out
// before Give, however many commits go by, and each of them says that it is free.
func TestRetiredBlockIsFreeInEveryLog(t *testing.T) {
	r := reamed(t, 1, 100)
	b, c := r.mustAlloc(), r.mustAlloc()
	for _, b := range []blkfmt.Addr{b, c} {
		if err := r.set.Retire(b); err != nil {
			t.Fatal(err)
		}
		delete(r.live, b)
		delete(r.fresh, b)
		r.young[b] = true
	}
	if r.set.Fresh(b) {
		t.Error("a retired block is fresh")
	}
	for q := range int64(40) { // the log is written anew meanwhile
		r.commit(q + 1)
		r.check()
		r.checkLoad(r.disk, r.now)
	}
	r.fill(false) // would take b if it could
	r.give(b)
	r.check()
	if err := r.set.Give(b); err == nil {
		t.Error("Give took a block twice")
	}
	if err := r.set.Retire(c); err == nil {
		t.Error("Retire took a block twice")
	}
	r.commit(50)
	r.checkLoad(r.disk, r.now)
}

// TestRetireOfACommittedBlockWaitsForTheCommit, and Give has no say in it.
func TestRetireOfACommittedBlockWaitsForTheCommit(t *testing.T) {
	r := reamed(t, 1, 100)
	b := r.mustAlloc()
	r.commit(1)
	if err := r.set.Retire(b); err != nil {
		t.Fatal(err)
	}
	delete(r.live, b)
	r.later[b] = true
	var ae *AddrError
	if err := r.set.Give(b); !errors.As(err, &ae) {
		t.Errorf("Give = %v", err)
	}
	r.check()
	r.commit(2)
	r.check()
}

func TestNeedsSealAfterBadHeaders(t *testing.T) {
	r := reamed(t, 2, 100)
	if r.load(r.disk, r.now).NeedsSeal() {
		t.Error("NeedsSeal on a good disk")
	}
	for i := range blkfmt.Addr(2) {
		r.set = r.load(flip(r.disk, r.now.refs[1].Addr+i*blk, 99), r.now)
		if !r.set.NeedsSeal() {
			t.Errorf("not NeedsSeal where copy %d of a header is bad", i)
		}
		r.commit(r.now.qgen + 1)
		if r.set.NeedsSeal() {
			t.Error("NeedsSeal after a commit")
		}
	}
}

func TestFirstLogBeginsInTheLowestBlock(t *testing.T) {
	r := newRig(t, 3, 100)
	lowest := r.set.list()[1].base + blk
	if b, err := r.alloc(0, true); err != nil || b != lowest {
		t.Errorf("the first block of a file is %v, %v; want %v", b, err, lowest)
	}
	if b := r.mustAlloc(); b != r.set.list()[0].end-blk {
		t.Errorf("the first block of a tree is %v, want %v", b, r.set.list()[0].end-blk)
	}
	r.commit(0)
	for i, a := range r.set.list() {
		if a.first != a.base {
			t.Errorf("the log of arena %d begins at %v, want %v", i, a.first, a.base)
		}
	}
	r.check()
	r.checkLoad(r.disk, r.now)
}

func TestFormatRefusesOtherGeometries(t *testing.T) {
	for _, g := range []blkfmt.Geometry{
		{},
		{First: blk, Count: 0, Size: 100 * blk},
		{First: blk, Count: -1, Size: 100 * blk},
		{First: blk, Count: 256, Size: 100 * blk},
		{First: 0, Count: 1, Size: 100 * blk},
		{First: blk + 1, Count: 1, Size: 100 * blk},
		{First: blk, Count: 1, Size: 3 * blk},
		{First: blk, Count: 1, Size: 100*blk + 1},
		{First: blk, Count: 1, Size: -100 * blk},
		{First: blk, Count: 8, Size: 1 << 62},
		{First: 1 << 62, Count: 1, Size: 100 * blk},
	} {
		if s, err := Format(g, blkfmt.Metro{}); err == nil {
			t.Errorf("%+v made %d arenas", g, s.Len())
		}
	}
	for _, length := range []int64{blkfmt.MinDevice, 256 << 20, 1 << 40, 100 << 40} {
		g, err := blkfmt.ReamGeometry(length)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Format(g, blkfmt.Metro{})
		if err != nil {
			t.Errorf("device of %d bytes: %v", length, err)
			continue
		}
		last := s.Stat()[s.Len()-1]
		if end := last.Addr + blkfmt.Addr(last.Size) + blkfmt.ArenaOverhead; end > g.Backup {
			t.Errorf("device of %d bytes: the arenas end at %v, the copy of the superblock is at %v", length, end, g.Backup)
		}
		for _, st := range s.Stat() {
			if want := min(max(st.Size/1024, 512<<10), 8<<20); st.Reserve != want || st.Free != st.Size-3*blk || st.Used != 3*blk || st.Log != 1 {
				t.Errorf("device of %d bytes: %+v", length, st)
			}
		}
	}
}

// FuzzLoad loads an arena from two blocks of log made of anything, with good hashes, and looks that
// what comes out is usable or suspect.
func FuzzLoad(f *testing.F) {
	for _, c := range logEdits {
		a := newArena(0, blk, 50*blk, &sums{})
		w := &logWriter{a: a, bufs: new(buffers)}
		w.begin(a.base)
		put(w, logfmt.Entry{Op: logfmt.Free, Addr: a.base + blk, Len: 40 * blk})
		c.make(w, a)
		f.Add(w.cur().data[blkfmt.LogHdSize:], []byte{}, int64(w.cur().chain), int64(blkfmt.NoAddr), int64(10*blk), int64(4))
	}
	f.Fuzz(func(t *testing.T, p0, p1 []byte, chain0, chain1, used, qgen int64) {
		disk := image{}
		a := newArena(0, blk, 50*blk, &sums{})
		w := &logWriter{a: a, bufs: new(buffers)}
		for i, p := range [][]byte{p0, p1} {
			w.begin(a.base + blkfmt.Addr(i)*2*blk)
			w.cur().chain = blkfmt.Addr([]int64{chain0, chain1}[i])
			w.cur().data = append(w.cur().data, p[:min(len(p), blkfmt.LogSpc)]...)
		}
		disk.apply(w.finish(blkfmt.Metro{}))
		h := blkfmt.ArenaHdr{Log: blkfmt.Bptr{Addr: a.base}, Size: a.size, Used: used}
		p := make([]byte, blk)
		h.Encode(p)
		disk[blk], disk[2*blk] = p, p
		refs := []blkfmt.ArenaRef{{Addr: blk, Hash: blkfmt.Metro{}.Sum(p)}}
		s, err := Load(disk, 54*blk, blkfmt.Metro{}, refs, qgen)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Suspects()) == 0 {
			if s.Stat()[0].Used != used {
				t.Fatalf("used is %d, not %d, and that is not suspect", s.Stat()[0].Used, used)
			}
		} else if err := s.Rebuild(census()); err != nil {
			t.Fatal(err)
		} else {
			checkFree(t, s)
		}
		if qgen < 0 || qgen >= 1<<55-1 {
			return
		}
		sealed, err := s.Seal(qgen + 1)
		if err != nil {
			if errors.Is(err, ErrFull) {
				return
			}
			t.Fatal(err)
		}
		disk.apply(sealed.Log)
		disk.apply(sealed.Headers)
		again, err := Load(disk, 54*blk, blkfmt.Metro{}, sealed.Refs, qgen+1)
		if err != nil {
			t.Fatal(err)
		}
		if list := again.Suspects(); len(list) != 0 {
			t.Fatal(fmt.Sprint(list))
		}
	})
}
