package check

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

func TestRunRefusesWhatIsNoDisk(t *testing.T) {
	zero := newDisk(blkfmt.MinDevice)
	old := newDisk(blkfmt.MinDevice)
	copy(old.block(0), "gefs0001")
	unread := sample()
	unread.fail[0], unread.fail[unread.backup()] = true, true
	key := &[blkfmt.KeySize]byte{1}
	for _, tt := range []struct {
		name string
		d    *disk
		key  *[blkfmt.KeySize]byte
		want error
	}{
		{"zeros", zero, nil, blkfmt.ErrNotGefs},
		{"nothing", newDisk(0), nil, blkfmt.ErrNotGefs},
		{"one block", newDisk(blk + 5), nil, blkfmt.ErrNotGefs},
		{"the format of 2022", old, nil, &blkfmt.VersionError{Version: "gefs0001"}},
		{"superblocks unreadable", unread, nil, io.ErrClosedPipe},
		{"a key for a disk without", sample(), key, blkfmt.ErrForeignKey},
		{"no key for a disk that has one", keyed(key, false), nil, blkfmt.ErrNoKey},
	} {
		r, err := Run(background, tt.d, tt.d.size, Options{Key: tt.key})
		var ve *blkfmt.VersionError
		if !errors.Is(err, tt.want) && !(errors.As(err, &ve) && reflect.DeepEqual(err, tt.want)) || r != nil {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

// keyed returns the sample hashed under a secret key.
func keyed(key *[blkfmt.KeySize]byte, inside bool) *disk {
	d := sample()
	s := d.super(nil)
	s.Sip, s.Key = true, key
	d.hash = s.Hasher()
	s.Flag = blkfmt.FlagKeyInside // as repair knows no key files
	if err := s.Encode(d.block(0)); err != nil {
		panic(err)
	}
	d.repair(true)
	if !inside {
		s = d.super(nil)
		s.Flag = 0
		if err := s.Encode(d.block(0)); err != nil {
			panic(err)
		}
		copy(d.block(d.backup()), d.block(0))
	}
	return d
}

func TestKeyedDiskIsCheckedUnderItsKey(t *testing.T) {
	key := &[blkfmt.KeySize]byte{1, 2, 3}
	for _, inside := range []bool{true, false} {
		d := keyed(key, inside)
		opt := Options{}
		if !inside {
			opt.Key = key
		}
		r, err := Run(background, d, d.size, opt)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Clean(true) || len(r.Problems) > 0 || r.Version != blkfmt.VersionSip {
			t.Errorf("key inside %v:\n%s", inside, text(t, r))
		}
		// A block that only looks right to who does not know the key.
		d.flip(sample().datAddr(1, datKey(qUsers, 0)), 0) // it is at the same place
		if r, err = Run(background, d, d.size, opt); err != nil || r.ByKind[Corrupt] != 1 {
			t.Errorf("key inside %v, changed block: %v, %v", inside, r, err)
		}
	}
	// With another key there is no telling a wrong key from a forged disk.
	d := keyed(key, false)
	r, err := Run(background, d, d.size, Options{Key: &[blkfmt.KeySize]byte{9}})
	if err != nil || r.Clean(false) || r.ByKind[SuperBad] != 1 {
		t.Errorf("wrong key: %v, %v", r, err)
	}
}

func TestRunStopsWhenCancelled(t *testing.T) {
	d := sample()
	total := 0
	for n := range 40 {
		ctx, cancel := context.WithCancel(background)
		d.reads = 0
		r, err := Run(ctx, cancelAfter{d, n, cancel}, d.size, Options{})
		cancel()
		if err == nil {
			total = n
			break
		}
		if !errors.Is(err, context.Canceled) || r != nil {
			t.Fatalf("cancelled after %d reads: %v, %v", n, r, err)
		}
		if d.reads > n+1 {
			t.Errorf("%d reads, cancelled after %d", d.reads, n)
		}
	}
	if total != 0 {
		t.Errorf("%d reads were enough", total)
	}
}

type cancelAfter struct {
	*disk
	n      int
	cancel func()
}

func (c cancelAfter) ReadAt(p []byte, off int64) (int, error) {
	if c.reads >= c.n {
		c.cancel()
	}
	return c.disk.ReadAt(p, off)
}

func TestShortReadsAreReadFailures(t *testing.T) {
	d := sample()
	r, err := Run(background, shortReads{d, d.leafOf(1, nil)}, d.size, Options{})
	if err != nil || r.ByKind[ReadFailed] != 1 || !strings.Contains(text(t, r), "unexpected EOF") {
		t.Errorf("%v:\n%s", err, text(t, r))
	}
}

type shortReads struct {
	*disk
	at blkfmt.Addr
}

func (s shortReads) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.disk.ReadAt(p, off)
	if off == int64(s.at) {
		return n - 1, err
	}
	return n, err
}

func TestProgressNamesThePassesInOrder(t *testing.T) {
	d := sample()
	var passes []string
	var last Progress
	_, err := Run(background, d, d.size, Options{Progress: func(p Progress) {
		if p.Pass != last.Pass {
			passes = append(passes, p.Pass)
		}
		if p.Read < last.Read {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	}})
	if want := []string{"arenas", "trees", "files", "deadlists", "leaks", "paths"}; err != nil || !slices.Equal(passes, want) {
		t.Errorf("%v, %v; want %v", passes, err, want)
	}
	if last.Used != 34 || last.Read == 0 {
		t.Errorf("%+v", last)
	}
}

func TestNoDataReadsNoData(t *testing.T) {
	d := sample()
	data := map[blkfmt.Addr]bool{d.datAddr(1, datKey(qUsers, 0)): true, d.datAddr(5, datKey(qG, 0)): true}
	for a := range data {
		d.fail[a] = true
	}
	r, err := Run(background, d, d.size, Options{NoData: true})
	if err != nil || !r.Clean(true) || r.Counts.Data != 8 {
		t.Errorf("%v:\n%s", err, text(t, r))
	}
	if r := d.check(t); r.ByKind[ReadFailed] != len(data) {
		t.Errorf("with data:\n%s", text(t, r))
	}
}

func TestCheckerForgetsTheRunBefore(t *testing.T) {
	var c Checker
	good, bad := sample(), sample()
	bad.flip(bad.leafOf(5, datKey(qF, 0)), 5000)
	for i := range 6 {
		d := good
		if i%2 == 1 {
			d = bad
		}
		r, err := c.Run(background, d, d.size, Options{})
		if err != nil || r.Clean(true) != (d == good) {
			t.Fatalf("run %d: %v:\n%s", i, err, text(t, r))
		}
	}
}

func TestReportGoesThroughJSON(t *testing.T) {
	d := sample()
	d.flip(d.datAddr(1, datKey(qUsers, 0)), 7)
	d.alloc()
	d.repair(true)
	d.flip(d.leafOf(0, nil), 100)
	r := d.check(t)
	p, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(p, &back); err != nil {
		t.Fatal(err)
	}
	for i := range r.Problems {
		r.Problems[i].refs = nil
	}
	if !reflect.DeepEqual(r, &back) {
		t.Errorf("%+v\nbecomes\n%+v", r, back)
	}
	for _, want := range []string{`"kind":"corrupt"`, `"severity":"error"`, `"block":"leaf"`, `"complete":false`} {
		if !strings.Contains(string(p), want) {
			t.Errorf("no %s in %s", want, p)
		}
	}
}

func TestReportHoldsOnlySoManyOfAKind(t *testing.T) {
	d := sample()
	d.edit(d.leafOf(1, nil), func(e *nodeEdit) {
		for i := range MaxPerKind + 20 {
			e.set(entKey(qAdm, string(rune('a'+i%26))+"\x01"+string(rune('a'+i/26))), fileVal(50, 0))
		}
	})
	d.repair(true)
	r := d.check(t)
	n := 0
	for _, p := range r.Problems {
		if p.Kind == BadName {
			n++
		}
	}
	if n != MaxPerKind || r.ByKind[BadName] != MaxPerKind+20 || !strings.Contains(text(t, r), "bad-name: 20 more") {
		t.Errorf("%d listed, %d in all:\n%s", n, r.ByKind[BadName], text(t, r))
	}
	if strings.ContainsRune(text(t, r), 1) {
		t.Error("the text holds control characters of file names")
	}
	if r.Problems[0].Kind != QidTwice {
		t.Errorf("the worst is not first: %+v", r.Problems[0])
	}
}

func TestOldPairsOfSuperblockAndHeadersAreFine(t *testing.T) {
	// The states of a commit that is cut short: new headers under the old superblock, the new
	// superblock before its copy, the copies of the headers last.
	before := sample()
	after := before.clone()
	after.super(func(s *blkfmt.Super) { s.Qgen = 12 })
	for i := range after.super(nil).Arenas {
		after.header(i, func(h *blkfmt.ArenaHdr) { h.Log.Hash++ })
		after.log(i, func(es []logfmt.Entry) []logfmt.Entry {
			// What follows the barrier of commit 7 must not count there.
			a := es[0].Addr + 700*blk
			return append(es, logfmt.Entry{Op: logfmt.Alloc1, Addr: a, Len: blk},
				logfmt.Entry{Op: logfmt.Free1, Addr: a, Len: blk}, logfmt.Entry{Op: logfmt.Sync, Qgen: 12})
		})
	}
	after.repair(true)
	refs := before.super(nil).Arenas
	d := before.clone()
	step := func(name string, a blkfmt.Addr, notes ...Kind) {
		copy(d.block(a), after.blocks[a])
		r := d.check(t)
		if !r.Clean(true) || !r.Complete {
			t.Errorf("%s:\n%s", name, text(t, r))
		}
		for k := range r.ByKind {
			if !slices.Contains(notes, k) {
				t.Errorf("%s: %s found", name, k)
			}
		}
		for i, a := range r.Arenas {
			if !a.Barrier {
				t.Errorf("%s: arena %d has no barrier", name, i)
			}
		}
	}
	for i := range refs {
		step("log", d.header(i, nil).Log.Addr)
	}
	for _, r := range refs {
		step("header", r.Addr, HeaderStale)
	}
	step("superblock", 0, HeaderStale, SuperStale)
	step("backup", d.backup(), HeaderStale)
	for _, r := range refs {
		step("header copy", r.Addr+blk, HeaderStale)
	}
}

func TestLogOfSeveralBlocksEndsAtTheCut(t *testing.T) {
	d := sample()
	// Arena 4: the chain goes on behind the barrier, to a block that was never written.
	at := d.header(4, nil).Log.Addr
	next := at + 9*blk
	free := logfmt.Entry{Op: logfmt.Free, Addr: at, Len: d.header(4, nil).Size - blkfmt.ArenaUnused}
	self := logfmt.Entry{Op: logfmt.Alloc1, Addr: at, Len: blk}
	link := logfmt.Entry{Op: logfmt.Alloc1, Addr: next, Len: blk}
	bar := logfmt.Entry{Op: logfmt.Sync, Qgen: 7}
	d.putLog(at, []logfmt.Entry{free, self, bar, link}, blkfmt.Bptr{Addr: next})
	d.repairBut(next)
	if r := d.check(t); !r.Clean(true) || len(r.Problems) > 0 || r.Arenas[4].LogBlocks != 1 {
		t.Errorf("cut before the chain:\n%s", text(t, r))
	}
	// The barrier stands in the second block, which is in use then.
	d.putLog(at, []logfmt.Entry{free, self, link}, blkfmt.Bptr{Addr: next})
	d.putLog(next, []logfmt.Entry{bar}, blkfmt.NoPtr)
	d.header(4, func(h *blkfmt.ArenaHdr) { h.Used += blk })
	d.repair(true)
	if r := d.check(t); !r.Clean(true) || len(r.Problems) > 0 || r.Arenas[4].LogBlocks != 2 || r.Counts.Log != 9 {
		t.Errorf("cut in the second block:\n%s", text(t, r))
	}
	// The first block forgot to allocate it.
	d.putLog(at, []logfmt.Entry{free, self}, blkfmt.Bptr{Addr: next})
	d.repair(true)
	if r := d.check(t); r.ByKind[UsedFree] != 1 || r.Clean(false) {
		t.Errorf("log block free:\n%s", text(t, r))
	}
}

// repairBut repairs, and leaves one block as it was never written.
func (d *disk) repairBut(a blkfmt.Addr) {
	d.repair(true)
	delete(d.blocks, a)
	delete(d.own, a)
}

// A fork may list what it has dropped of the line it came from, though the reference does not.
func TestForksMayListWhatTheyDropped(t *testing.T) {
	d := sample()
	a := d.alloc()
	d.putDead(a, blkfmt.NoPtr, d.rootOf(3), d.leafOf(3, entKey(qRoot, "g"))) // the first is on main's list too
	p := blkfmt.Bptr{Addr: a}
	d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 7, 3), kvfmt.Dlist{Hd: p, Tl: p}.Append(nil))
	d.repair(true)
	if r := d.check(t); !r.Clean(true) || len(r.Problems) > 0 {
		t.Errorf("problems:\n%s", text(t, r))
	}
}

func TestLeakedBlocksAreListedInRuns(t *testing.T) {
	d := sample()
	a := d.alloc()
	d.alloc()
	d.alloc()
	d.log(6, before(logfmt.Entry{Op: logfmt.Alloc1, Addr: d.super(nil).Arenas[6].Addr + 9*blk, Len: blk}))
	d.repair(true)
	r := d.check(t)
	want := []Extent{{a, 3 * blk}, {d.super(nil).Arenas[6].Addr + 9*blk, blk}}
	if !slices.Equal(r.Leaked, want) || r.Counts.Leaked != 4 || !r.Clean(false) || r.Clean(true) {
		t.Errorf("%v, want %v:\n%s", r.Leaked, want, text(t, r))
	}
	// Nobody may take them as leaked when an owner may not have been heard.
	d.flip(d.rootOf(0), 100)
	if r := d.check(t); r.Complete || len(r.Leaked) > 0 || r.Counts.Leaked != 4 {
		t.Errorf("incomplete: %v:\n%s", r.Leaked, text(t, r))
	}
}

func BenchmarkSample(b *testing.B) {
	d := sample()
	var c Checker
	for b.Loop() {
		if _, err := c.Run(background, d, d.size, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGoldenTree(b *testing.B) {
	d := fromGolden(b, "tree")
	var c Checker
	for b.Loop() {
		if _, err := c.Run(background, d, d.size, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
