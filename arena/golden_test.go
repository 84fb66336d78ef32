package arena

import (
	"io"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/logfmt"
)

// goldenSuper returns the superblock by which the golden disk d is opened.
func goldenSuper(t *testing.T, d *golden.Disk) *blkfmt.Super {
	t.Helper()
	s, err := blkfmt.DecodeSuper(d.Block(t, 0), nil, 0)
	if err != nil {
		back := blkfmt.BackupAddr(d.Size())
		if s, err = blkfmt.DecodeSuper(d.Block(t, int64(back)), nil, back); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// An overlay is a device with some blocks changed.
type overlay struct {
	under io.ReaderAt
	image
}

func (o overlay) ReadAt(p []byte, off int64) (int, error) {
	if b := o.image[blkfmt.Addr(off)]; b != nil {
		return copy(p, b), nil
	}
	return o.under.ReadAt(p, off)
}

// TestGoldenDisksLoad replays the logs that the reference wrote. Where it was killed in a commit,
// some headers are bad; replay stops at the right barrier everywhere, and finds as much in use as
// the header says. Then a commit, and crashes in it.
func TestGoldenDisksLoad(t *testing.T) {
	rnd := newRand(t)
	for _, c := range []struct {
		disk             string
		suspect          bool
		headBad, footBad int
	}{
		{"fresh", true, 0, 0}, // ream of the reference writes no barrier
		{"tree", false, 0, 0},
		{"snaps", false, 0, 0},
		{"crash", false, 0, 0},
		{"crash-h0", false, 4, 0},
		{"crash-sb0", false, 0, 8},
		{"crash-sb1", false, 0, 8},
		{"crash-h1", false, 0, 2},
	} {
		t.Run(c.disk, func(t *testing.T) {
			if raceOn && !*longFlag && c.disk != "fresh" && c.disk != "crash-h1" {
				t.Skip("unpacking all disks takes a minute under the race detector; -long does")
			}
			d := golden.Image(t, c.disk)
			sup := goldenSuper(t, d)
			load := func(dev io.ReaderAt, refs []blkfmt.ArenaRef, qgen int64) *Set {
				t.Helper()
				s, err := Load(dev, d.Size(), sup.Hasher(), refs, qgen)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := load(d, sup.Arenas, sup.Qgen)
			if c.suspect {
				checkReam(t, d, sup)
				if n := len(s.Suspects()); n != s.Len() {
					t.Errorf("%d arenas are suspect, want all", n)
				}
				// What ream puts on a disk.
				a0, a1 := s.list()[0], s.list()[1]
				err := s.Rebuild(census(a0.end-blk, a0.end-2*blk, a0.end-3*blk, a1.base+blk))
				if err != nil {
					t.Fatal(err)
				}
			} else if list := s.Suspects(); len(list) != 0 {
				t.Errorf("suspects: %+v", list)
			}
			headBad, footBad := 0, 0
			for _, st := range s.Stat() {
				if st.HeadBad {
					headBad++
				}
				if st.FootBad {
					footBad++
				}
			}
			if headBad != c.headBad || footBad != c.footBad {
				t.Errorf("%d bad headers, %d bad copies; want %d and %d", headBad, footBad, c.headBad, c.footBad)
			}

			before := s.Stat()
			free := make([]map[blkfmt.Addr]int64, s.Len())
			theirs := map[blkfmt.Addr]bool{}
			for i := range s.Len() {
				free[i] = maps.Collect(s.Ranges(i))
				for _, b := range s.Log(i) {
					theirs[b] = true
				}
			}
			if _, err := s.Alloc(5, true); err != nil {
				t.Fatal(err)
			}
			sealed, err := s.Seal(sup.Qgen + 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed.Heal) != c.footBad {
				t.Errorf("%d copies of headers to heal", len(sealed.Heal))
			}
			for _, w := range sealed.Log {
				if theirs[w.Addr] {
					t.Fatalf("log block %v of the reference is rewritten", w.Addr)
				}
			}

			// Crashes before the superblock: what was there before, exactly.
			for range 20 {
				o := overlay{d, image{}}
				o.apply(sealed.Heal)
				tearAll(t, rnd, d, o.image, sealed.Log)
				tearAll(t, rnd, d, o.image, sealed.Headers)
				again := load(o, sup.Arenas, sup.Qgen)
				for i := range again.Len() {
					if c.suspect {
						continue // compared by its census only
					}
					if got := maps.Collect(again.Ranges(i)); !maps.Equal(got, free[i]) {
						t.Fatalf("arena %d after a crash: free ranges %v, want %v", i, got, free[i])
					}
				}
				if len(again.Suspects()) > 0 != c.suspect {
					t.Fatalf("suspects after a crash: %+v", again.Suspects())
				}
			}
			o := overlay{d, image{}}
			o.apply(sealed.Log)
			o.apply(sealed.Headers)
			again := load(o, sealed.Refs, sealed.Qgen)
			if list := again.Suspects(); len(list) != 0 {
				t.Fatalf("suspects after a commit: %+v", list)
			}
			used := int64(0)
			for i, st := range again.Stat() {
				// The old log is free, the new one has one block at these sizes.
				used += st.Used - before[i].Used + int64(before[i].Log-st.Log)*blk
			}
			if used != blk {
				t.Errorf("%d bytes more are in use after a commit with one block more", used)
			}
		})
	}
}

// tearAll is tear for each block of list, on disk over d.
func tearAll(t *testing.T, rnd *rand.Rand, d *golden.Disk, disk image, list []Write) {
	for _, w := range list {
		if disk[w.Addr] == nil {
			disk[w.Addr] = d.Block(t, int64(w.Addr))
		}
		tear(rnd, disk, w)
	}
}

// checkReam verifies that the logs of d say what ream did, to the entry.
func checkReam(t *testing.T, d *golden.Disk, sup *blkfmt.Super) {
	t.Helper()
	for i, ref := range sup.Arenas {
		h, err := blkfmt.DecodeArenaHdr(d.Block(t, int64(ref.Addr)), ref.Addr)
		if err != nil {
			t.Fatal(err)
		}
		base := ref.Addr + 2*blk
		end := base + blkfmt.Addr(h.Size) - 2*blk
		want := []logfmt.Entry{
			{Op: logfmt.Free, Addr: base, Len: int64(end - base)},
			{Op: logfmt.Alloc, Addr: base, Len: blk},
		}
		switch i {
		case 0:
			for n := range blkfmt.Addr(3) {
				want = append(want, logfmt.Entry{Op: logfmt.Alloc1, Addr: end - (n+1)*blk, Len: blk})
			}
		case 1:
			want = append(want, logfmt.Entry{Op: logfmt.Alloc1, Addr: base + blk, Len: blk})
		}
		list := readLog(t, image{h.Log.Addr: d.Block(t, int64(h.Log.Addr))}, h.Log.Addr)
		if len(list) != 1 || list[0].addr != base {
			t.Fatalf("arena %d: the log has %d blocks, the first at %v", i, len(list), list[0].addr)
		}
		if diff := cmp.Diff(want, list[0].entries); diff != "" {
			t.Errorf("arena %d: %s", i, diff)
		}
		if used := h.Size - int64(end-base) + int64(len(want)-1)*blk; h.Used != used {
			t.Errorf("arena %d: used is %d, want %d", i, h.Used, used)
		}
	}
}
