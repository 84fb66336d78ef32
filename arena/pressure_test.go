package arena

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gefs9p/blkfmt"
)

// fill takes blocks until there are none and returns how many.
func (r *rig) fill(seq bool) (n int) {
	r.t.Helper()
	for {
		if _, err := r.alloc(Meta, seq); err != nil {
			return n
		}
		n++
	}
}

// TestSealFindsRoomOnFullFragmentedArena keeps an arena at its log floor, changes blocks in the ways
// that make the longest logs, and goes 6000 blocks further each time after LogPressure asked for
// the commit.
func TestSealFindsRoomOnFullFragmentedArena(t *testing.T) {
	asked := 0
	sizes, rounds := []int64{2000, 45000}, int64(4)
	if *longFlag {
		sizes, rounds = []int64{2000, 17000, 33000, 45000, 150_000}, 24
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) { asked += pressArena(t, size, rounds) })
	}
	if asked == 0 {
		t.Error("LogPressure never asked for a commit")
	}
}

// pressArena is TestSealFindsRoomOnFullFragmentedArena on an arena of size blocks. It returns how
// often LogPressure asked for a commit.
func pressArena(t *testing.T, size, rounds int64) (asked int) {
	rnd := newRand(t)
	r := reamed(t, 1, size)
	a := r.set.list()[0]
	least, most := a.free.blocks(), int64(0)
	for round := range rounds {
		r.fill(round%2 == 0)
		list := slices.Sorted(maps.Keys(r.live))
		change := func(b blkfmt.Addr) { r.drop(b) }
		var order []blkfmt.Addr
		switch round % 4 {
		case 0: // every second block: no two changes touch
			for i := rnd.IntN(2); i < len(list); i += 2 {
				order = append(order, list[i])
			}
		case 1: // any
			order = list
			rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		case 2: // give one back, take one
			order = list
			rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			change = func(b blkfmt.Addr) { r.drop(b); r.alloc(Meta, rnd.IntN(2) == 0) }
		case 3: // nothing beside what was filled
		}
		more := -1
		for _, b := range order {
			if more < 0 && r.set.LogPressure() {
				more = 6000
				asked++
			}
			if more == 0 {
				break
			}
			more = max(more-1, -1)
			change(b)
		}
		r.seal(round + 1)
		least, most = min(least, a.free.blocks()), max(most, a.chain.n)
		r.write()
		if round%5 == 2 {
			r.checkLoad(r.disk, r.now)
		}
		r.release()
		// Nothing has changed since: no reason to ask.
		if r.set.LogPressure() {
			t.Fatalf("round %d: LogPressure right after the commit", round)
		}
	}
	r.check()
	t.Logf("floor %d blocks; LogPressure asked %d times; at least %d blocks were free after a Seal; longest log %d blocks",
		a.floor, asked, least, most)
	return asked
}

// TestIdleCommitsOnFullArenaGoOnForEver: the log of a full arena lives on the floor.
func TestIdleCommitsOnFullArenaGoOnForEver(t *testing.T) {
	r := reamed(t, 1, 100)
	r.fill(false)
	for q := range int64(200) {
		r.commit(q + 1)
	}
	r.checkLoad(r.disk, r.now)
	r.check()
}

func TestPitfall47FullDiskCanFree(t *testing.T) {
	r := reamed(t, 3, 200)
	if want := int64(3 * (200 - 2 - 2 - minReserve/blk)); r.set.Room() != want {
		t.Errorf("Room of a new set is %d, want %d", r.set.Room(), want)
	}
	n := r.fill(false)
	if want := 3 * (200 - 2 - 2 - minReserve/blk/2); n != want {
		t.Errorf("took %d blocks, want %d", n, want)
	}
	if r.set.Room() != 0 {
		t.Errorf("Room of a full set is %d", r.set.Room())
	}
	if _, err := r.set.Alloc(7, true); !errors.Is(err, ErrFull) {
		t.Errorf("Alloc on a full set: %v", err)
	}
	r.commit(1)
	for b := range maps.Clone(r.live) {
		r.drop(b)
	}
	r.commit(2)
	r.check()
	if got := r.fill(false); got < n-10 {
		t.Errorf("took %d blocks after all were given back, %d before", got, n)
	}
}

func TestPitfall48RetryLeavesTheFullArena(t *testing.T) {
	r := reamed(t, 4, 100)
	// Every request has the same first choice.
	seen := map[int]int{}
	for {
		r.set.count.Store(0)
		b, err := r.alloc(Meta, false)
		if err != nil {
			break
		}
		i, err := r.set.Index(b)
		if err != nil {
			t.Fatal(err)
		}
		seen[i]++
	}
	for i := range 4 {
		if want := 100 - 2 - 2 - minReserve/blk/2; seen[i] != want {
			t.Errorf("arena %d gave %d blocks, want %d", i, seen[i], want)
		}
	}
}

// TestSealWithoutRoomChangesNothing: an arena that somebody else has filled to the last block cannot
// have a log. Seal says so, again and again, and all stays as it is.
func TestSealWithoutRoomChangesNothing(t *testing.T) {
	r := reamed(t, 2, 50)
	a := r.set.list()[1]
	var all []blkfmt.Addr
	for b := a.base; b < a.end; b += blk {
		all = append(all, b)
	}
	if err := r.set.Rebuild(census(all...), 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		before := r.set.Stat()
		if _, err := r.set.Seal(1); !errors.Is(err, ErrFull) {
			t.Fatalf("Seal = %v", err)
		}
		if after := r.set.Stat(); !slices.Equal(before, after) {
			t.Fatalf("Seal failed and changed\n%+v to\n%+v", before, after)
		}
	}
}

func TestSequentialFilesStayTogether(t *testing.T) {
	r := reamed(t, 1, 20000)
	rnd := rand.New(rand.NewPCG(1, 2))
	// Holes first: files of one block in between, two of three removed.
	for i := range 3000 {
		b, err := r.alloc(uint64(1000+i), true)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 {
			r.drop(b)
		}
	}
	const files, length = 6, 1500
	last := [files]blkfmt.Addr{}
	pieces := 0
	for range files * length {
		f := rnd.IntN(files)
		b, err := r.alloc(uint64(f), true)
		if err != nil {
			t.Fatal(err)
		}
		if b != last[f]+blk {
			pieces++
		}
		last[f] = b
		if rnd.IntN(100) == 0 {
			r.alloc(Meta, false)
		}
	}
	t.Logf("%d files of about %d blocks written at once: %d pieces", files, length, pieces)
	if pieces > files*length/50 {
		t.Errorf("%d pieces for %d blocks", pieces, files*length)
	}
}
