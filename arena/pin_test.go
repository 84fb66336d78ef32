package arena

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
)

// A pinned is a Pin with what it promises.
type pinned struct {
	*Pin
	st   state
	logs map[blkfmt.Addr]bool
	head image // the headers, which commits write in place
}

func (r *rig) pin() *pinned {
	r.t.Helper()
	p, err := r.set.Pin()
	if err != nil {
		r.t.Fatal(err)
	}
	out := &pinned{Pin: p, st: r.now, logs: r.load(r.disk, r.now).logSet(), head: image{}}
	for _, ref := range r.now.refs {
		for _, a := range []blkfmt.Addr{ref.Addr, ref.Addr + blk} {
			out.head[a] = r.disk[a]
		}
	}
	return out
}

func (s *Set) logSet() map[blkfmt.Addr]bool {
	m := map[blkfmt.Addr]bool{}
	for i := range s.Len() {
		for _, b := range s.Log(i) {
			m[b] = true
		}
	}
	return m
}

// held returns what is kept back.
func (s *Set) held() map[blkfmt.Addr]bool {
	m := map[blkfmt.Addr]bool{}
	for _, a := range s.list() {
		for b := range blocks(a.held.all()) {
			m[b] = true
		}
	}
	return m
}

// TestAPinKeepsACommittedState takes and gives back blocks through many commits, in any way, while a
// state is pinned: none of its blocks is handed out, it can be loaded from the device to the end, and
// what is loaded of the newer states knows nothing of the pin.
func TestAPinKeepsACommittedState(t *testing.T) {
	rnd := newRand(t)
	rounds := 20
	if raceOn {
		rounds = 5
	}
	for round := range rounds {
		r := reamed(t, 1+rnd.IntN(3), 500)
		r.rnd = rnd
		churn := func(n int) {
			for range n {
				if live := len(r.live); live == 0 || live < 250 && rnd.IntN(2) == 0 {
					r.mustAlloc()
				} else if len(r.young) > 0 && rnd.IntN(4) == 0 {
					r.give(pick(rnd, r.young))
				} else {
					r.dropAny(pick(rnd, r.live))
				}
			}
		}
		qgen := int64(0)
		for range 1 + rnd.IntN(4) {
			churn(rnd.IntN(200))
			qgen++
			r.commit(qgen)
		}
		churn(rnd.IntN(60)) // the pin is of what is committed, not of what comes after
		p := r.pin()
		for range 25 { // the log is written anew at least once
			for range rnd.IntN(40) {
				before := maps.Clone(r.live)
				churn(1)
				for b := range r.live {
					if !before[b] && (p.st.live[b] || p.logs[b]) && !p.Broken() {
						t.Fatalf("round %d: block %v of the pinned state was handed out", round, b)
					}
				}
			}
			checkFree(t, r.set, r.live, r.young, r.later, r.limbo, r.set.held())
			qgen++
			r.commit(qgen)
			r.checkLoad(r.disk, r.now)
		}
		if p.Broken() {
			t.Fatalf("round %d: the pin gave way, with %d blocks of room", round, r.set.Room())
		}
		old := maps.Clone(r.disk)
		maps.Copy(old, p.head)
		r.checkLoad(old, p.st)
		p.Unpin()
		p.Unpin()
		if n := len(r.set.held()); n > 0 {
			t.Fatalf("round %d: %d blocks are kept back without a pin", round, n)
		}
		r.check()
		for range 2 {
			qgen++
			r.commit(qgen)
		}
		r.check()
		if !p.Broken() {
			t.Error("a pin that has ended says that it holds")
		}
	}
}

// TestAPinGivesWayToAFullDisk writes everything anew while a state is pinned. Whoever takes blocks must
// not find the disk full before it would have been without the pin, and whoever reads must be told.
func TestAPinGivesWayToAFullDisk(t *testing.T) {
	r := reamed(t, 2, 400)
	room := r.set.Room()
	for range room / 2 {
		r.mustAlloc()
	}
	r.commit(1)
	p := r.pin()
	kept := maps.Clone(r.live)
	for b := range kept {
		r.drop(b)
	}
	r.commit(2)
	r.commit(3)
	if got := int64(len(r.set.held())); got < room/2 || p.Broken() {
		t.Fatalf("%d blocks are kept back of %d, broken %v", got, room/2, p.Broken())
	}
	for i := range room {
		b := r.mustAlloc()
		if kept[b] && !p.Broken() {
			t.Fatalf("block %d, %v, of the pinned state was handed out under a pin that holds", i, b)
		}
	}
	if !p.Broken() {
		t.Error("the pin holds, and all room is taken")
	}
	if r.set.GiveWay() {
		t.Error("a pin gives way twice")
	}
	p.Unpin()
	r.commit(4)
	r.check()
	r.checkLoad(r.disk, r.now)
}

// TestAPinGivesWayToTheLog empties a full arena under a pin, so that what was given back is kept back
// and the long logs of it live on the floor alone, until they cannot.
func TestAPinGivesWayToTheLog(t *testing.T) {
	r := reamed(t, 1, 45000)
	r.fill(false)
	r.commit(1)
	p := r.pin()
	qgen := int64(1)
	for parts := range 2 { // no two changes touch
		for _, b := range slices.Sorted(maps.Keys(r.live)) {
			if parts == 0 && number(b)%2 == 0 {
				continue
			}
			r.drop(b)
			if r.set.LogPressure() {
				qgen++
				r.commit(qgen)
				if r.set.LogPressure() {
					t.Fatalf("commit %d: LogPressure right after it, pin broken %v", qgen, p.Broken())
				}
			}
		}
	}
	for range 50 {
		qgen++
		r.commit(qgen)
	}
	if !p.Broken() {
		t.Errorf("%d logs were written and the pin holds; %d blocks are kept back, %d free", qgen, len(r.set.held()), r.set.list()[0].free.blocks())
	}
	p.Unpin()
	r.commit(qgen + 1)
	r.check()
	r.checkLoad(r.disk, r.now)
}

func TestThereIsOnePinAtATime(t *testing.T) {
	r := reamed(t, 2, 100)
	p := r.pin()
	if _, err := r.set.Pin(); !errors.Is(err, ErrPinned) {
		t.Errorf("a second pin: %v", err)
	}
	if r.set.GiveWay() || p.Broken() {
		t.Error("a pin that keeps nothing back gives way")
	}
	p.Unpin()
	r.pin().Unpin()
	r.seal(1)
	if _, err := r.set.Pin(); err == nil {
		t.Error("pinned while a commit is under way")
	}
	r.write()
	r.release()
	r.pin().Unpin()
}
