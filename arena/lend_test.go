package arena

import (
	"maps"
	"testing"

	"gefs9p/blkfmt"
)

// garbage is what a test finds where something was discarded that is read all the same.
var garbage = func() []byte {
	p := make([]byte, blk)
	for i := range p {
		p[i] = 0xdb
	}
	return p
}()

// lend borrows a range, checks that nothing that is committed, being committed, pinned, or known to anybody
// lies in it, and discards it.
func (r *rig) lend(p *pinned, stale bool) (Loan, bool) {
	r.t.Helper()
	from := blkfmt.Addr(r.rnd.Int64N(r.size)) &^ (blk - 1)
	least := 1 + r.rnd.Int64N(8)
	l, ok := r.set.Lend(from, least*blk, (least+r.rnd.Int64N(30))*blk, stale)
	if !ok {
		return l, false
	}
	if l.Addr < from || l.Len < least*blk || l.Len > (least+29)*blk {
		r.t.Fatalf("lent %d bytes at %v; %d blocks from %v on were asked for", l.Len, l.Addr, least, from)
	}
	needed := map[string]map[blkfmt.Addr]bool{
		"live": r.live, "committed": r.now.live, "sealed": r.next.live, "young": r.young, "later": r.later, "in limbo": r.limbo,
		"a log": r.logs(), "a committed log": r.load(r.disk, r.now).logSet(),
	}
	if r.sealed != nil {
		sealed := map[blkfmt.Addr]bool{}
		for _, w := range r.sealed.Log {
			sealed[w.Addr] = true
		}
		needed["a log being committed"] = sealed
	}
	if p != nil && !p.Broken() {
		needed["pinned"], needed["a pinned log"], needed["kept back"] = p.st.live, p.logs, r.set.held()
	}
	for b := l.Addr; b < l.Addr+blkfmt.Addr(l.Len); b += blk {
		for what, m := range needed {
			if m[b] {
				r.t.Fatalf("lent %d bytes at %v, where %v is %s", l.Len, l.Addr, b, what)
			}
		}
		r.disk[b] = garbage
	}
	return l, true
}

// TestWhatIsLentIsNeverNeeded lends ranges at any moment, also in the middle of commits and while a state is
// pinned, discards them, and crashes: every committed state, and the pinned one, can be loaded, what is lent is
// free in it, and nobody is handed a block of it before it is given back.
func TestWhatIsLentIsNeverNeeded(t *testing.T) {
	rnd := newRand(t)
	rounds := 12
	if raceOn {
		rounds = 3
	}
	for round := range rounds {
		r := reamed(t, 1+rnd.IntN(3), 400)
		r.rnd = rnd
		stale := round%2 == 0
		dead := map[blkfmt.Addr]bool{} // everything that was ever in use
		if stale {
			r.set.NoteStale()
		}
		var p *pinned
		var loan Loan
		lent, out := 0, false
		giveBack := func() {
			if out {
				r.set.Return(loan)
				out = false
			}
		}
		qgen := int64(0)
		for range 800 {
			switch n := rnd.IntN(100); {
			case n < 40:
				if len(r.live) < 250*r.set.Len() {
					b, err := r.alloc(rnd.Uint64N(8), rnd.IntN(2) == 0)
					if err != nil {
						t.Fatal(err)
					}
					if out && b >= loan.Addr && b < loan.Addr+blkfmt.Addr(loan.Len) {
						t.Fatalf("%v was handed out, which is lent", b)
					}
					dead[b] = true
				}
			case n < 75:
				if len(r.live) > 0 {
					r.dropAny(pick(rnd, r.live))
				}
				if len(r.young) > 0 && rnd.IntN(2) == 0 {
					r.give(pick(rnd, r.young))
				}
			case n < 82:
				maps.Copy(dead, r.logs())
				if r.sealed == nil {
					qgen++
					r.seal(qgen)
				} else {
					r.crashes(2)
					r.write()
					r.release()
				}
			case n < 84 && r.sealed == nil:
				if p == nil {
					p = r.pin()
				} else {
					p.Unpin()
					p = nil
				}
			case n < 94:
				giveBack()
				if loan, out = r.lend(p, stale); out {
					lent++
					for b := loan.Addr; stale && b < loan.Addr+blkfmt.Addr(loan.Len); b += blk {
						if !dead[b] {
							t.Fatalf("lent %v as stale, which was never in use", b)
						}
						delete(dead, b) // not again before it was in use again
					}
				}
				if r.set.Lent() != out {
					t.Fatalf("lent: %v, but the set says otherwise", out)
				}
			case n < 97:
				giveBack()
			default:
				r.checkLoad(r.disk, r.now)
				if p != nil && !p.Broken() {
					old := maps.Clone(r.disk)
					maps.Copy(old, p.head)
					r.checkLoad(old, p.st)
				}
			}
			all := []map[blkfmt.Addr]bool{r.live, r.young, r.later, r.limbo, r.set.held()}
			if out {
				m := map[blkfmt.Addr]bool{}
				for b := loan.Addr; b < loan.Addr+blkfmt.Addr(loan.Len); b += blk {
					m[b] = true
				}
				all = append(all, m)
			}
			checkFree(t, r.set, all...)
		}
		if lent < 10 {
			t.Errorf("round %d: lent only %d times", round, lent)
		}
		giveBack()
		if p != nil {
			p.Unpin()
		}
		r.check()
	}
}

// TestAllThatIsFreeIsLentOnce in ascending order, but for what is kept of each arena; with NoteStale, only what
// became free since, once.
func TestAllThatIsFreeIsLentOnce(t *testing.T) {
	r := reamed(t, 3, 2000)
	total := func(stale bool) (n int64) {
		at := blkfmt.Addr(0)
		for {
			l, ok := r.set.Lend(at, blk, 64*blk, stale)
			if !ok {
				return n
			}
			if l.Addr < at {
				t.Fatalf("lent %v behind %v", l.Addr, at)
			}
			if free := r.set.free(l.Addr, func(*arena) *blockSet { return nil }); free == nil {
				t.Fatalf("%v can be freed while it is lent", l.Addr)
			}
			r.set.Return(l)
			n += l.Len / blk
			at = l.Addr + blkfmt.Addr(l.Len)
		}
	}
	free := int64(0)
	for _, st := range r.set.Stat() {
		free += st.Free / blk
	}
	if n := total(false); n != free {
		t.Errorf("%d blocks were lent of %d", n, free)
	}
	var list []blkfmt.Addr
	for range 500 {
		list = append(list, r.mustAlloc())
	}
	r.commit(1)
	r.set.NoteStale()
	if n := total(true); n != 0 {
		t.Errorf("%d blocks are stale before any was freed", n)
	}
	for _, b := range list {
		r.drop(b)
	}
	if n := total(true); n != 0 {
		t.Errorf("%d blocks are stale before the commit that frees them", n)
	}
	r.seal(2)
	r.write()
	if n := total(true); n != 0 {
		t.Errorf("%d blocks are stale before they are released", n)
	}
	r.release()
	if n := total(true); n < 500 || n > 510 { // and blocks of logs
		t.Errorf("%d blocks are stale, want 500 and a few of logs", n)
	}
	if n := total(true); n != 0 {
		t.Errorf("%d blocks are lent a second time", n)
	}
	r.check()
}
