package salvage_test

import (
	"fmt"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/internal/gefstest"
	"gefs9p/salvage"
)

// smallDisk has a few hundred files, a snapshot from the middle of their making, and trees of two levels.
func smallDisk(t *testing.T, files int) (*blkdev.Mem, truth) {
	r := newRig(t, random(t), gefstest.SmallDisk)
	r.fill(files / 2)
	r.label("half")
	for p := range r.main {
		if n := r.main[p]; !n.Dir && r.rnd.IntN(5) == 0 {
			r.put(p, r.some())
		}
	}
	r.mkdir("later")
	for i := range files / 2 {
		r.put(fmt.Sprintf("later/file%d", i), r.some())
	}
	return r.end(), r.all
}

// Whichever block is destroyed, the files that it says nothing about are saved, and no file is said to
// be whole that is not.
func TestOneLostBlockCostsOnlyWhatStoodInIt(t *testing.T) {
	files := 300
	if raceEnabled {
		files = 60
	}
	dev, all := smallDisk(t, files)
	rnd := random(t)
	size, _ := dev.Size()
	r, m := run(t, dev, size, salvage.Options{All: true})
	if !r.Whole() {
		t.Fatalf("the sound disk:\n%s", text(r))
	}
	honest(t, m, all)
	by, names := qids(m), filesOf(all)
	if n := len(right(m, all)); n != len(names) {
		t.Fatalf("%d of %d files of the sound disk", n, len(names))
	}
	blocks := live(t, dev, true)
	kinds := map[string][3]int{} // blocks, files not concerned, of these saved
	var data int
	for _, b := range blocks {
		if b.what == "data" {
			if data++; data%12 != 0 && !*long {
				continue
			}
		}
		d := dev.Clone()
		destroy(d, rnd, b.addr)
		r, m := run(t, d, size, salvage.Options{All: true})
		honest(t, m, all)
		hurt, ok := concerned(b, by), right(m, all)
		k := kinds[b.what]
		k[0]++
		for _, p := range names {
			if hurt[p] {
				continue
			}
			k[1]++
			if ok[p] {
				k[2]++
			} else if k[1]-k[2] < 5 {
				t.Logf("%s block at %v: %s is not saved: %+v\n%s", b.what, b.addr, p, m.files[p], text(r))
			}
			if s := m.files[p]; s != nil && s.status != salvage.Whole && (b.what != "pivot" && b.what != "leaf" && b.what != "snap") {
				t.Errorf("%s block at %v: %s is %v", b.what, b.addr, p, s.status)
			}
		}
		kinds[b.what] = k
		// Data may be on its way out, and then nobody misses it.
		if sound := b.what == "super" || b.what == "header" || b.what == "log"; sound != r.Whole() && b.what != "data" {
			t.Errorf("%s block at %v: whole is %v:\n%s", b.what, b.addr, r.Whole(), text(r))
		}
		if t.Failed() {
			return
		}
	}
	for what, k := range kinds {
		t.Logf("%-6s %4d blocks lost in turn, %7d times a file not in them, %7d times saved", what, k[0], k[1], k[2])
		if k[1] != k[2] {
			t.Errorf("%s: %d files lost that the block says nothing about", what, k[1]-k[2])
		}
	}
}
