package check

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
)

// scanned is what scanning d to its end in pieces of about n blocks finds.
func scanned(t testing.TB, d *disk, super blkfmt.Super, n int64) (bad map[blkfmt.Addr]Problem, pieces int, blocks int64) {
	t.Helper()
	bad = map[blkfmt.Addr]Problem{}
	var c Checker
	var m Mark
	for {
		rep, err := c.Scan(context.Background(), d, d.size, ScanOptions{Super: super, Stop: func(k int64) bool { return k >= n }}, m)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, p := range rep.Problems {
			if p.Severity >= Error {
				bad[p.Addr] = p
				found++
			}
		}
		if found != rep.Bad {
			t.Errorf("%d problems, Bad is %d", found, rep.Bad)
		}
		pieces++
		blocks += rep.Blocks
		if rep.Done {
			return bad, pieces, blocks
		}
		if pieces > 100_000 {
			t.Fatalf("no end; at %v", rep.Next)
		}
		if m, err = ParseMark(rep.Next.String()); err != nil {
			t.Fatal(err)
		}
	}
}

func superOf(t testing.TB, d *disk) blkfmt.Super {
	t.Helper()
	s, err := blkfmt.DecodeSuper(d.blocks[0], nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// usedBlocks are the addresses of all blocks in use, those outside of the arenas' bodies included.
func usedBlocks(t testing.TB, d *disk) (list []blkfmt.Addr) {
	t.Helper()
	x := &run{c: new(Checker), ctx: context.Background(), r: d, size: d.size, opt: Options{CacheBlocks: 64},
		rep: &Report{ByKind: map[Kind]int{}}}
	if err := x.loadSuper(); err != nil {
		t.Fatal(err)
	}
	list = append(list, 0, d.backup())
	for _, a := range x.arenas {
		list = append(list, a.ref.Addr, a.ref.Addr+blk)
		for i := range a.nblk {
			if !a.free.has(i) {
				list = append(list, a.addr(i))
			}
		}
	}
	return list
}

// TestAScanInPiecesMeetsEveryLiveBlock damages each block in use, one after the other, and scans in
// pieces of many sizes.
func TestAScanInPiecesMeetsEveryLiveBlock(t *testing.T) {
	disks := map[string]func(testing.TB) *disk{
		"sample": func(testing.TB) *disk { return sample() },
		"snaps":  func(t testing.TB) *disk { return fromGolden(t, "snaps") },
	}
	for name, make := range disks {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			super := superOf(t, d)
			rep := d.check(t)
			leaked := func(a blkfmt.Addr) bool {
				return slices.ContainsFunc(rep.Leaked, func(e Extent) bool { return a >= e.Addr && a < e.Addr+blkfmt.Addr(e.Len) })
			}
			_, _, whole := scanned(t, d, super, 1<<60)
			for _, n := range []int64{1, 2, 3, 10} {
				bad, pieces, blocks := scanned(t, d, super, n)
				if len(bad) > 0 {
					t.Errorf("pieces of %d: a good disk has %v", n, bad)
				}
				t.Logf("pieces of %d blocks: %d, %d blocks read; in one piece %d", n, pieces, blocks, whole)
			}
			used, met := usedBlocks(t, d), 0
			step := 1 + len(used)/60
			for i, a := range used {
				if i%step != 0 && i > 20 {
					continue
				}
				e := d.clone()
				e.flip(a, 9) // what is covered by a hash of their own, in blocks that have one
				n := []int64{1, 2, 5, 30}[i%4]
				bad, _, _ := scanned(t, e, super, n)
				_, ok := bad[a]
				// A log's last block is behind the barrier, and of no use yet.
				if p := bad[a]; ok && p.Text == "" || len(bad) > 1 {
					t.Errorf("%v damaged, found %v", a, bad)
				}
				if ok {
					met++
				} else if !leaked(a) {
					t.Errorf("%v is in use, damaged, and not found in pieces of %d", a, n)
				}
			}
			t.Logf("%d of %d blocks are live", met, len(used))
		})
	}
}

// TestAScanNamesTheFile of a bad block, in what people work on first.
func TestAScanNamesTheFile(t *testing.T) {
	d := sample()
	rep := d.check(t)
	super := superOf(t, d)
	for _, s := range rep.Snaps {
		if len(s.Labels) == 0 || s.Files == 0 {
			continue
		}
		t.Logf("%v: %d files", s.Labels, s.Files)
	}
	seen := 0
	for _, a := range usedBlocks(t, d)[2:] {
		e := d.clone()
		e.flip(a, 700)
		want := e.check(t)
		bad, _, _ := scanned(t, e, super, 3)
		for _, p := range want.Problems {
			q, ok := bad[p.Addr]
			if !ok || p.Addr != a || len(p.Paths) == 0 || p.Severity < Error {
				continue
			}
			seen++
			for _, path := range q.Paths {
				if !slices.Contains(p.Paths, path) && p.MorePaths == 0 {
					t.Errorf("block %v: a check finds %q, a scan %q", a, p.Paths, q.Paths)
				}
			}
			if len(q.Paths) == 0 {
				t.Errorf("block %v: a check finds %q, a scan nothing; %s", a, p.Paths, q.Text)
			}
		}
	}
	if seen < 3 {
		t.Errorf("%d blocks of files", seen)
	}
}

// TestAScanFindsALostWrite: what is in the place of a block is good, but older.
func TestAScanFindsALostWrite(t *testing.T) {
	d := sample()
	super := superOf(t, d)
	old, at := blkfmt.NoAddr, blkfmt.NoAddr
	for _, a := range usedBlocks(t, d) {
		if len(d.blocks[a]) > 0 && blkfmt.Type(binary.BigEndian.Uint16(d.blocks[a])) == blkfmt.Leaf {
			if old == blkfmt.NoAddr {
				old = a
			} else {
				at = a
			}
		}
	}
	e := d.clone()
	copy(e.block(at), d.blocks[old])
	if bad, _, _ := scanned(t, e, super, 4); bad[at].Kind != Corrupt {
		t.Errorf("found %v", bad)
	}
}

func TestMarksAreText(t *testing.T) {
	for _, m := range []Mark{{}, {Part: PartSnaps}, {PartFiles, 77, []byte("\x00\xffkey")}} {
		got, err := ParseMark(m.String())
		if err != nil || got.String() != m.String() {
			t.Errorf("%v becomes %v, %v", m, got, err)
		}
	}
	long := Mark{PartFiles, 1, []byte(strings.Repeat("k", 200))}
	if got, err := ParseMark(long.String()); err != nil || string(got.Key) != strings.Repeat("k", markKey) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "1", "3.0.", "1.-1.", "0.0.zz", "0.0.0", "00.0.", "0.0.00 ", fmt.Sprint(Mark{}, "x")} {
		if m, err := ParseMark(s); err == nil {
			t.Errorf("%q is taken as %v", s, m)
		}
	}
}
