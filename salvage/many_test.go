package salvage_test

import (
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/gefstest"
	"gefs9p/kvfmt"
	"gefs9p/salvage"
)

// largeDisk has some thousands of files and trees of three levels.
func largeDisk(t *testing.T) (*blkdev.Mem, truth) {
	files := 3000
	if raceEnabled {
		files = 300
	}
	r := newRig(t, random(t), 2*gefstest.SmallDisk)
	r.fill(files)
	return r.end(), r.all
}

// touched returns the files whose data stands in blocks of the list.
func touched(lost []block, by map[uint64]string) map[string]bool {
	hit := map[string]bool{}
	for _, b := range lost {
		if b.what == "data" {
			hit[by[b.qid]] = true
		}
	}
	return hit
}

// Of the files none of whose data is lost, at least 95 of 100 are saved with all their data when one
// block in a hundred is lost.
func TestOneLostBlockInAHundredLeaves95FilesInAHundred(t *testing.T) {
	dev, all := largeDisk(t)
	rnd := random(t)
	size, _ := dev.Size()
	_, m := run(t, dev, size, salvage.Options{})
	by, names, blocks := qids(m), filesOf(all), live(t, dev, false)
	var sum, got, whole, few int
	least := 1.0
	for range *turns {
		d := dev.Clone()
		var lost []block
		for _, b := range blocks {
			if rnd.IntN(100) == 0 {
				destroy(d, rnd, b.addr)
				lost = append(lost, b)
			}
		}
		r, m := run(t, d, size, salvage.Options{})
		honest(t, m, all)
		hit, ok := touched(lost, by), right(m, all)
		var n, g int
		for _, p := range names {
			if hit[p] {
				continue
			}
			n++
			if ok[p] {
				g++
			}
			if s := m.files[p]; s != nil && s.status == salvage.Whole {
				whole++
			}
		}
		kinds := map[string]int{}
		for _, b := range lost {
			kinds[b.what]++
		}
		part := float64(g) / float64(n)
		least = min(least, part)
		t.Logf("%d of %d blocks lost %v: %d of %d files saved, %.2f%%; holes %d", len(lost), len(blocks), kinds, g, n, 100*part, len(r.Labels[0].Holes))
		sum, got = sum+n, got+g
		if part < 0.95 {
			few++
		}
	}
	part := float64(got) / float64(sum)
	t.Logf("%d disks: %.2f%% of the files none of whose data is lost were saved, at least %.2f%% of a disk, below 95%% of %d; %.2f%% are known to be whole",
		*turns, 100*part, 100*least, few, 100*float64(whole)/float64(sum))
	// The small tree of a run with the race detector has a handful of leaves, one of which names a third of all
	// files: there only what is said of them is judged.
	if part < 0.95 && !raceEnabled {
		t.Errorf("%.2f%% of the files were saved", 100*part)
	}
}

// What is lost together when a disk's ends are overwritten costs no file, as long as the nodes are there.
func TestFilesAreFoundWithoutWhatLeadsToThem(t *testing.T) {
	dev, all := smallDisk(t, 200)
	rnd := random(t)
	size, _ := dev.Size()
	_, m := run(t, dev, size, salvage.Options{})
	by, names, blocks := qids(m), filesOf(all), live(t, dev, false)
	is := func(kinds ...string) func(block) bool {
		return func(b block) bool {
			for _, k := range kinds {
				if b.what == k || k == "root" && b.root && b.what != "snap" {
					return true
				}
			}
			return false
		}
	}
	for _, tt := range []struct {
		name   string
		lost   func(block) bool
		whole  bool // the files are
		proven bool // to be of the newest state
	}{
		{"superblocks", is("super"), true, false},
		{"superblocks and arena headers", is("super", "header"), true, false},
		{"superblocks, arena headers and logs", is("super", "header", "log"), true, false},
		{"arena headers and logs", is("header", "log"), true, true},
		{"logs", is("log"), true, true},
		{"the tree of snapshots", is("snap"), false, false},
		{"superblocks and the tree of snapshots", is("super", "snap"), false, false},
		{"the root", is("root"), false, true},
		{"superblocks, the tree of snapshots and the root", is("super", "snap", "root"), false, false},
		{"all pivots", is("pivot"), false, true},
		{"superblocks, the tree of snapshots and all pivots", is("super", "snap", "pivot"), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := dev.Clone()
			hurt := map[string]bool{}
			for _, b := range blocks {
				if !tt.lost(b) {
					continue
				}
				destroy(d, rnd, b.addr)
				for p := range concerned(b, by) {
					if b.what != "snap" {
						hurt[p] = true
					}
				}
			}
			r, m := run(t, d, size, salvage.Options{})
			honest(t, m, all)
			ok := right(m, all)
			missing := 0
			for _, p := range names {
				if !hurt[p] && !ok[p] {
					if missing++; missing < 5 {
						t.Errorf("%s is not saved: %+v", p, m.files[p])
					}
				}
			}
			l := r.Labels[0]
			if l.Name != "main" || l.Proven != tt.proven || (l.Unsure+l.Damaged == 0) != tt.whole {
				t.Errorf("label %+v", l)
			}
			t.Logf("%d files that stood in lost pivots, %d lost of the others; %s", len(hurt), missing, text(r)[:min(300, len(text(r)))])
		})
	}
}

// A file's data is lost: it is damaged, by just this range, and all else is whole.
func TestLostDataIsListedByItsRange(t *testing.T) {
	r := newRig(t, random(t), gefstest.SmallDisk)
	r.put("big", r.bytes(5*blkfmt.BlkSize+100))
	r.put("small", r.bytes(100))
	dev := r.end()
	size, _ := dev.Size()
	for _, b := range live(t, dev, false) {
		if b.what != "data" {
			continue
		}
		d := dev.Clone()
		destroy(d, r.rnd, b.addr)
		rep, m := run(t, d, size, salvage.Options{})
		if len(rep.Files) != 1 || len(rep.Files[0].Lost) != 1 || rep.Whole() {
			t.Fatalf("%s", text(rep))
		}
		f := rep.Files[0]
		n := r.all["main"+f.Path]
		want := salvage.Range{Off: b.off, Len: min(blkfmt.BlkSize, uint64(len(n.Data))-b.off)}
		if f.Lost[0] != want || f.Status != salvage.Damaged || f.Qid != b.qid || f.Length != uint64(len(n.Data)) {
			t.Errorf("%+v, lost is %+v of qid %d", f, want, b.qid)
		}
		s := m.files["main"+f.Path]
		for i := range s.data {
			if out := uint64(i) < want.Off || uint64(i) >= want.Off+want.Len; out && s.data[i] != n.Data[i] || !out && s.data[i] != 0 {
				t.Fatalf("%s differs at %d", f.Path, i)
			}
		}
	}
}

// A directory whose entry is lost is found by its own record, with all that is in it.
func TestDirectoriesWithoutAnEntryKeepTheirPlace(t *testing.T) {
	dev, all := largeDisk(t)
	size, _ := dev.Size()
	_, m := run(t, dev, size, salvage.Options{})
	by, rnd := qids(m), random(t)
	tried := 0
	for _, b := range live(t, dev, false) {
		dirs, lost := 0, concerned(b, by)
		for p := range lost {
			if n := all[p]; n != nil && n.Dir {
				dirs++
			}
		}
		ups := 0
		for _, k := range b.keys {
			if k[0] == kvfmt.Kup {
				ups++
			}
		}
		if b.what != "leaf" || dirs == 0 || ups > 0 || tried == 4 && !*long {
			continue
		}
		tried++
		d := dev.Clone()
		destroy(d, rnd, b.addr)
		// What is free is gone as well: no earlier version of the leaf may help.
		wipe(t, d, live(t, dev, true))
		r, m := run(t, d, size, salvage.Options{})
		honest(t, m, all)
		for p, n := range all {
			if s := m.files[p]; strings.HasPrefix(p, "main/") && !lost[p] && (s == nil || string(s.data) != string(n.Data)) {
				t.Errorf("%s is not saved: %+v\n%s", p, s, text(r))
				return
			}
		}
	}
	if tried == 0 {
		t.Fatal("there is no leaf to try it with")
	}
}

// wipe makes all blocks that are not in the list zeros.
func wipe(t *testing.T, dev *blkdev.Mem, keep []block) {
	used := map[blkfmt.Addr]bool{}
	for _, b := range keep {
		used[b.addr] = true
	}
	size, _ := dev.Size()
	for a := blkfmt.Addr(0); int64(a)+blkfmt.BlkSize <= size; a += blkfmt.BlkSize {
		if !used[a] {
			if err := dev.Discard(int64(a), blkfmt.BlkSize); err != nil {
				t.Fatal(err)
			}
		}
	}
}
