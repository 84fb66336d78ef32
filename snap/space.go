package snap

import (
	"context"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A Survey finds out how much space a deletion of labels would give back. What there would be to free is
// decided under the mutation lock, and counted without it: what stands on deadlists, and what the trees of
// snapshots from which none is derived share with nobody. The snapshots that it concerns are pinned until
// Done.
type Survey struct {
	f      *Forest
	pinned []*snapshot
	trees  []claim
	lists  []claimed
	heads  []blkfmt.Bptr // of the lists
	found  int64
}

// A claim is what s has and other has not, of what is younger than pred; all of that, if there is no other.
type claim struct {
	s, other kvfmt.Tree
	alone    bool
	pred     blkfmt.Gen
}

// A claimed is a deadlist, of which counts what is younger than pred.
type claimed struct {
	birth, pred blkfmt.Gen
}

// count returns how many of the addresses count.
func (f *Forest) count(l claimed, list []blkfmt.Addr) (n int64) {
	if l.birth > l.pred {
		return int64(len(list))
	}
	for _, a := range list {
		if f.younger(blkfmt.Bptr{Addr: a, Gen: l.birth}, l.pred) {
			n++
		}
	}
	return n
}

// Survey begins a survey of what would be free if all the labels were deleted; what waits for Reclaim
// anyway does not count. Nothing is changed. Errors: as Delete, but a label may be open. The caller has
// the mutation lock and is inside an epoch; it calls Count in the same epoch, without the lock, and then
// Done.
func (f *Forest) Survey(g *epoch.Guard, names []string) (*Survey, error) {
	v := &Survey{f: f}
	if err := v.plan(g, names); err != nil {
		v.Done()
		return nil, err
	}
	return v, nil
}

func (v *Survey) plan(g *epoch.Guard, names []string) error {
	f := v.f
	p := plan{f: f, g: g, nodes: make(map[blkfmt.Gen]*planned), count: new(Survey)}
	for _, gen := range sortedGens(f.condemned) {
		n, err := p.node(f.condemned[gen])
		if err == nil {
			err = p.prune(n)
		}
		if err != nil {
			return err
		}
	}
	p.count = v
	for _, name := range names {
		f.mu.Lock()
		l := f.labels[name]
		f.mu.Unlock()
		if l == nil {
			return fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
		}
		n, err := p.node(f.snaps[l.val.Gen])
		if err != nil {
			return err
		}
		n.nlbl--
		if err := p.prune(n); err != nil {
			return err
		}
	}
	for _, n := range p.nodes {
		n.s.pins++
		v.pinned = append(v.pinned, n.s)
	}
	return nil
}

// Count returns the number of blocks. The caller is inside the epoch in which the survey was begun; Count
// may leave it and enter another. Errors: ctx's, what cannot be read.
func (v *Survey) Count(ctx context.Context, g *epoch.Guard) (int64, error) {
	return v.count(g, breather(ctx, g))
}

func (v *Survey) count(g *epoch.Guard, pause func() error) (int64, error) {
	n := v.found
	err := v.f.follow(g, v.heads, pause, func(i int, list []blkfmt.Addr, _ bool) bool {
		n += v.f.count(v.lists[i], list)
		return true
	})
	if err != nil {
		return 0, err
	}
	for _, c := range v.trees {
		if c.alone {
			err = v.f.own(g, c.s, c.pred, pause, func(blkfmt.Bptr) { n++ })
		} else {
			var list []blkfmt.Addr
			list, err = v.f.only(g, c.s, c.other, c.pred, pause)
			n += int64(len(list))
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Done ends the survey. The caller has the mutation lock.
func (v *Survey) Done() {
	for _, s := range v.pinned {
		s.pins--
	}
	v.pinned = nil
}

// A plan goes through deletions on paper.
type plan struct {
	f     *Forest
	g     *epoch.Guard
	nodes map[blkfmt.Gen]*planned
	count *Survey // where it notes what is free
}

// A planned is a snapshot as it would be: pred, children and deadlists.
type planned struct {
	s        *snapshot
	nlbl     int32
	pred     blkfmt.Gen
	children map[blkfmt.Gen]bool
	lists    map[blkfmt.Gen][]*deadlist // by birth
	doubtful bool
	gone     bool
}

func (p *plan) node(s *snapshot) (*planned, error) {
	if n := p.nodes[s.rec.Gen]; n != nil {
		return n, nil
	}
	lists, err := p.f.listsOf(p.g, s)
	if err != nil {
		return nil, err
	}
	n := &planned{
		s: s, nlbl: s.rec.Nlbl, pred: s.rec.Pred, doubtful: s.doubtful,
		children: make(map[blkfmt.Gen]bool), lists: make(map[blkfmt.Gen][]*deadlist),
	}
	for c := range s.children {
		n.children[c] = true
	}
	for bgen, d := range lists {
		n.lists[bgen] = []*deadlist{d}
	}
	p.nodes[s.rec.Gen] = n
	p.f.settle(s)
	return n, nil
}

// prune notes what becomes of a snapshot that has a label less, as judge and Reclaim would do it.
func (p *plan) prune(n *planned) error {
	for n.s.rec.Gen != 0 && n.nlbl == 0 && len(n.children) <= 1 && !n.gone && p.f.snaps[n.pred] != nil {
		n.gone = true
		pred, err := p.node(p.f.snaps[n.pred])
		if err != nil {
			return err
		}
		delete(pred.children, n.s.rec.Gen)
		if len(n.children) == 0 {
			p.count.trees = append(p.count.trees, claim{s: n.s.rec, alone: true, pred: n.pred})
			n = pred
			continue
		}
		for gen := range n.children {
			heir, err := p.node(p.f.snaps[gen])
			if err != nil {
				return err
			}
			p.inherit(heir, n)
			pred.children[gen] = true
		}
		return nil
	}
	return nil
}

// inherit is merge.inherit on paper.
func (p *plan) inherit(c, s *planned) {
	if c.doubtful {
		p.count.trees = append(p.count.trees, claim{s: s.s.rec, other: c.s.rec, pred: s.pred})
	}
	for bgen, lists := range c.lists {
		if bgen <= s.pred && s.pred != 0 {
			continue
		}
		for _, d := range lists {
			if !c.doubtful {
				l := claimed{bgen, s.pred}
				p.count.found += p.f.count(l, d.fresh)
				p.count.lists = append(p.count.lists, l)
				p.count.heads = append(p.count.heads, d.disk.Hd)
			}
		}
		delete(c.lists, bgen)
	}
	for bgen, lists := range s.lists {
		if bgen <= s.pred && s.pred != 0 {
			c.lists[bgen] = append(c.lists[bgen], lists...)
		}
	}
	c.pred = s.pred
	c.doubtful = s.pred != 0 && (c.doubtful || s.doubtful)
}
