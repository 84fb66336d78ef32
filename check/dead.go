package check

import (
	"errors"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A deadlist (s, b) has the blocks born in b that s's predecessor has and s has not. So it can be
// computed: a block is new in s exactly if it was born after the predecessor's generation, as a
// snapshot never gets an older block but from the one it derives from. What the predecessor has and
// s does not keep is dead in s, and nothing else may be in s's lists.
//
// All that is dead must be there if it is younger than s's fork point. What is not, belongs to the
// line that s forked from: the reference leaves it to that line, other writers may list it, and then
// a block that two forks have dropped is in the lists of both.

// checkDeadlists follows every deadlist and compares it with the trees.
func (x *run) checkDeadlists() {
	if d := x.super.SnapDead; d[0].Addr != blkfmt.NoAddr {
		x.followDead("the snapshot tree's own deadlist", kvfmt.Dlist{Hd: d[0], Tl: d[1]}, func(blkfmt.Addr) {})
	}
	lists := map[blkfmt.Gen][]deadlist{}
	for _, d := range x.forest.dead {
		lists[d.gen] = append(lists[d.gen], d)
		if d.gen == 0 {
			continue
		}
		if d.birth < 0 || d.birth >= d.gen || d.gen >= x.super.NextGen {
			x.say(DeadGen, Error, "%s: impossible generations; the next to be handed out is %d", d, x.super.NextGen)
		}
	}
	for _, s := range x.forest.snaps {
		if x.stop != nil {
			return
		}
		if s.gen != 0 {
			x.checkDead(s, lists[s.gen])
		}
		delete(lists, s.gen)
	}
	x.checkWaiting()
	for _, d := range x.forest.dead {
		if _, ok := lists[d.gen]; !ok {
			continue
		}
		n := 0
		x.followDead(d.String(), d.Dlist, func(blkfmt.Addr) { n++ })
		x.say(DeadOrphan, Leak, "%s: there is no such snapshot; the list has %d blocks", d, n)
	}
}

// checkWaiting follows the lists of the first snapshot. As it has no predecessor, nothing can be dead in
// it: our server keeps there what it has yet to free of snapshots that are gone. Nobody else may have it.
func (x *run) checkWaiting() {
	n := 0
	for _, d := range x.forest.dead {
		if d.gen != 0 {
			continue
		}
		x.followDead(d.String(), d.Dlist, func(a blkfmt.Addr) {
			n++
			if x.use(a) != ownNone {
				x.sayAt(DeadLive, Error, a, blkfmt.Data, "%s has a block that is in use as a %v", d, x.use(a))
			}
			ar, i := x.find(a)
			if o := ar.owner(i); *o&ownWaits != 0 {
				x.sayAt(DeadTwice, Fatal, a, blkfmt.Data, "%s has it, and so has another entry of what is to be freed", d)
			} else {
				*o |= ownWaits
			}
		})
	}
	if n > 0 {
		x.say(DeadWaiting, Note, "%d blocks of snapshots that were removed are yet to be freed", n)
	}
}

func (d deadlist) String() string {
	return fmt.Sprintf("deadlist of snapshot %d, birth %d", d.gen, d.birth)
}

// checkDead compares the lists of s with what is dead in it.
func (x *run) checkDead(s *snapshot, lists []deadlist) {
	pred := x.forest.byGen[s.rec.Pred]
	known := pred != nil && pred != s && s.readable && pred.readable && !s.ruin()
	var dead map[blkfmt.Addr]blkfmt.Gen
	// Nothing in pred is younger than its root. Without lists and without candidates there is
	// nothing to compare; this saves walking every first snapshot of a line.
	if known && (len(lists) > 0 || pred.root.Gen > s.rec.Base) {
		dead = x.deadIn(s, pred)
	}
	seen := map[blkfmt.Addr]bool{}
	for _, d := range lists {
		x.followDead(d.String(), d.Dlist, func(a blkfmt.Addr) {
			s.listed++
			if seen[a] {
				x.sayAt(DeadTwice, Fatal, a, blkfmt.Data, "%s has it, and so has another entry of this snapshot's lists", d)
				return
			}
			seen[a] = true
			if !known {
				return
			}
			birth, ok := dead[a]
			delete(dead, a)
			switch {
			case ok && birth != d.birth:
				x.sayAt(DeadGen, Error, a, blkfmt.Data, "%s has a block born in %d", d, birth)
			case ok:
			case x.use(a) != ownNone:
				x.sayAt(DeadLive, Error, a, blkfmt.Data, "%s has a block that did not die there: it is in use as a %v", d, x.use(a))
			default:
				x.sayAt(DeadStray, Leak, a, blkfmt.Data, "%s has a block that is in no snapshot", d)
			}
		})
	}
	missing := 0
	first := blkfmt.NoAddr
	for a, birth := range dead {
		if birth > s.rec.Base {
			missing++
			if first == blkfmt.NoAddr || a < first {
				first = a
			}
		}
	}
	if missing > 0 {
		x.say(DeadMissing, Leak, "%s: %d blocks of its predecessor %d that died in it are in no deadlist; the first is %v",
			s.title(), missing, pred.gen, first)
	}
}

// followDead makes the blocks of a deadlist owned, and calls f with every entry that is possible.
func (x *run) followDead(name string, d kvfmt.Dlist, f func(blkfmt.Addr)) {
	if d.Hd.Addr == blkfmt.NoAddr {
		if d.Tl.Addr != blkfmt.NoAddr {
			x.say(DeadBad, Error, "%s: it has no head, and the tail %v", name, d.Tl.Addr)
		}
		return
	}
	var addrs []blkfmt.Addr
	for at := d.Hd.Addr; ; {
		if x.claim(at, ownDeadlist, 0, blkfmt.Deadlist, name, nil) != claimFirst {
			x.rep.Complete = false
			return // a block that was there already ends circles too
		}
		x.rep.Counts.Deadlist++
		err := x.read(x.buf, at)
		var h blkfmt.LogHdr
		if err == nil {
			h, err = blkfmt.DecodeLogHdr(x.buf, blkfmt.Deadlist, x.hash, at)
		}
		if err == nil {
			addrs, err = logfmt.Dead(addrs[:0], x.buf[blkfmt.LogHdSize:blkfmt.LogHdSize+h.Size])
		}
		if err != nil {
			x.rep.Complete = false
			var ce *blkfmt.CorruptError
			if errors.As(err, &ce) && ce.What != "" {
				err = errors.New(ce.What)
			}
			x.sayErr(err, at, blkfmt.Deadlist, name)
			return
		}
		for _, a := range addrs {
			if x.listDead(a, name) {
				f(a)
			}
		}
		if h.Chain.Addr == blkfmt.NoAddr {
			if at != d.Tl.Addr {
				x.sayAt(DeadBad, Error, at, blkfmt.Deadlist, "%s: the chain ends here, not at its tail %v", name, d.Tl.Addr)
			}
			return
		}
		at = h.Chain.Addr
	}
}

// deadIn returns the blocks of pred that s, which derives from it, has not, with their births.
// Both must be readable.
func (x *run) deadIn(s, pred *snapshot) map[blkfmt.Addr]blkfmt.Gen {
	kept := map[blkfmt.Addr]bool{} // what s has of pred's where it meets new nodes; more is below
	x.walk(s.root, s.ht-1, map[blkfmt.Addr]bool{}, func(p blkfmt.Bptr) bool {
		if p.Gen > pred.gen {
			return true
		}
		kept[p.Addr] = true
		return false
	})
	dead := map[blkfmt.Addr]blkfmt.Gen{}
	x.walk(pred.root, pred.ht-1, map[blkfmt.Addr]bool{}, func(p blkfmt.Bptr) bool {
		if kept[p.Addr] {
			return false
		}
		dead[p.Addr] = p.Gen
		return true
	})
	return dead
}

// walk calls f with every pointer of the tree at p, to nodes and to data blocks alike, those in
// buffered messages included. It goes below a node only if f says so, and only once.
func (x *run) walk(p blkfmt.Bptr, level int, seen map[blkfmt.Addr]bool, f func(blkfmt.Bptr) bool) {
	if !f(p) || seen[p.Addr] {
		return
	}
	seen[p.Addr] = true
	n, err := x.nodeAt(p, level)
	if err != nil {
		return
	}
	data := func(k, v []byte) {
		if k[0] == kvfmt.Kdat {
			if bp, err := kvfmt.GetDatVal(v); err == nil {
				f(bp)
			}
		}
	}
	if n.Leaf() {
		for i := range n.Nval() {
			data(n.Val(i))
		}
		return
	}
	for i := range n.Nbuf() {
		if m := n.Msg(i); m.Op == kvfmt.Insert {
			data(m.Key, m.Val)
		}
	}
	for i := range n.Nval() {
		child, _ := n.Child(i)
		x.walk(child, level-1, seen, f)
	}
}
