package snap

import (
	"fmt"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// Space returns the number of blocks that would be free if all the labels were deleted. Nothing is
// changed. What stands on deadlists is counted; a snapshot from which none was derived is walked as
// far as it shares nothing. Errors: as Delete, but a label may be open. The caller has the mutation
// lock and is inside an epoch.
func (f *Forest) Space(g *epoch.Guard, names []string) (int64, error) {
	p := plan{f: f, g: g, nodes: make(map[blkfmt.Gen]*planned)}
	for _, name := range names {
		f.mu.Lock()
		l := f.labels[name]
		if t := f.open[name]; t != nil {
			t.settle()
		}
		f.mu.Unlock()
		if l == nil {
			return 0, fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
		}
		n, err := p.node(f.snaps[l.val.Gen])
		if err != nil {
			return 0, err
		}
		n.nlbl--
		if err := p.prune(n); err != nil {
			return 0, err
		}
	}
	return p.freed, nil
}

// A plan goes through a deletion on paper.
type plan struct {
	f     *Forest
	g     *epoch.Guard
	nodes map[blkfmt.Gen]*planned
	freed int64
}

// A planned is a snapshot as it would be: pred, children and deadlists, of which only the lengths
// count.
type planned struct {
	s        *snapshot
	nlbl     int32
	pred     blkfmt.Gen
	children map[blkfmt.Gen]bool
	lists    map[blkfmt.Gen]int64 // entries by birth
	blocks   int64                // of the lists themselves
}

func (p *plan) node(s *snapshot) (*planned, error) {
	if n := p.nodes[s.rec.Gen]; n != nil {
		return n, nil
	}
	n := &planned{s: s, nlbl: s.rec.Nlbl, pred: s.rec.Pred, children: make(map[blkfmt.Gen]bool), lists: make(map[blkfmt.Gen]int64)}
	for gen := range s.children {
		n.children[gen] = true
	}
	lists, err := p.f.listsOf(p.g, s)
	if err != nil {
		return nil, err
	}
	for bgen, d := range lists {
		err := d.each(p.g, p.f.st,
			func(blkfmt.Bptr) error { n.blocks++; return nil },
			func(blkfmt.Addr) error { n.lists[bgen]++; return nil })
		if err != nil {
			return nil, err
		}
	}
	p.nodes[s.rec.Gen] = n
	return n, nil
}

// prune is Forest.prune on paper.
func (p *plan) prune(n *planned) error {
	for n.s.rec.Gen != 0 && n.nlbl == 0 && len(n.children) <= 1 {
		pred, err := p.node(p.f.snaps[n.pred])
		if err != nil {
			return err
		}
		if len(n.children) == 0 {
			p.freed += n.blocks
			err := p.f.ownBlocks(p.g, n.s, n.pred, func(blkfmt.Bptr) { p.freed++ })
			if err != nil {
				return err
			}
			delete(pred.children, n.s.rec.Gen)
			n = pred
			continue
		}
		for gen := range n.children {
			heir, err := p.node(p.f.snaps[gen])
			if err != nil {
				return err
			}
			fork := heir.s.rec.Base == n.s.rec.Gen
			if fork {
				list, err := p.f.missing(p.g, heir.s, n.s)
				if err != nil {
					return err
				}
				p.freed += int64(len(list))
			}
			for bgen, count := range heir.lists {
				if bgen > n.pred {
					if !fork {
						p.freed += count
					}
					delete(heir.lists, bgen)
				}
			}
			for bgen, count := range n.lists {
				if bgen > n.pred {
					p.freed += count
				} else {
					heir.lists[bgen] += count
				}
			}
			heir.pred = n.pred
			pred.children[gen] = true
		}
		delete(pred.children, n.s.rec.Gen)
		return nil
	}
	return nil
}

// ownBlocks calls fn for every block of s that is younger than pred.
func (f *Forest) ownBlocks(g *epoch.Guard, s *snapshot, pred blkfmt.Gen, fn func(blkfmt.Bptr)) error {
	owns := func(bp blkfmt.Bptr) bool { return f.younger(bp, pred) }
	note := func(bp blkfmt.Bptr) {
		if owns(bp) {
			fn(bp)
		}
	}
	t := betree.Open(f.nodes, ownFreer{f.st}, s.rec.Root, int(s.rec.Ht))
	defer t.Close()
	return t.Walk(g, betree.Visit{
		// A node that is pred's has nothing younger below it.
		Skip: func(bp blkfmt.Bptr, _ int) bool { return !owns(bp) },
		Node: func(bp blkfmt.Bptr, _ int) error { note(bp); return nil },
		Data: func(_ []byte, bp blkfmt.Bptr) error { note(bp); return nil },
	})
}
