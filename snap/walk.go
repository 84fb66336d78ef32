package snap

import (
	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A visitor says what a walk through a tree does. enter is asked before a node's content is looked at,
// and says whether it is to be; data is told of every pointer to file data in the nodes entered, that
// of messages which have not arrived included.
type visitor struct {
	enter func(blkfmt.Bptr) (bool, error)
	data  func(blkfmt.Bptr) error
}

// walk goes through the tree of a snapshot. The pointers of nodes may lack their hash. Nobody may free
// what the tree reaches meanwhile, unless the caller stays inside its epoch.
func (f *Forest) walk(g *epoch.Guard, rec kvfmt.Tree, v visitor) error {
	t := betree.Open(f.nodes, ownFreer{f.st}, rec.Root, int(rec.Ht))
	defer t.Close()
	var stop error
	err := t.Walk(g, betree.Visit{
		Skip: func(bp blkfmt.Bptr, _ int) bool {
			if stop != nil {
				return true
			}
			var enter bool
			enter, stop = v.enter(bp)
			return !enter || stop != nil
		},
		Data: func(_ []byte, bp blkfmt.Bptr) error {
			if stop != nil {
				return stop
			}
			return v.data(bp)
		},
	})
	if stop != nil {
		return stop
	}
	return err
}

// own calls fn for every block of s that is younger than pred. It calls pause for each node.
func (f *Forest) own(g *epoch.Guard, s kvfmt.Tree, pred blkfmt.Gen, pause func() error, fn func(blkfmt.Bptr)) error {
	return f.walk(g, s, visitor{
		enter: func(bp blkfmt.Bptr) (bool, error) {
			if !f.younger(bp, pred) { // nor is anything that is below it
				return false, nil
			}
			fn(bp)
			return true, pause()
		},
		data: func(bp blkfmt.Bptr) error {
			if f.younger(bp, pred) {
				fn(bp)
			}
			return nil
		},
	})
}

// only returns the blocks of s, younger than pred, that c does not reach, which was derived from s. It
// reads what either has and the other has not, and calls pause for each node. Neither tree changes
// meanwhile.
func (f *Forest) only(g *epoch.Guard, s, c kvfmt.Tree, pred blkfmt.Gen, pause func() error) ([]blkfmt.Addr, error) {
	shared := newBlocks()
	var list []blkfmt.Addr
	visit := func(t kvfmt.Tree, own func(blkfmt.Bptr) bool) error {
		return f.walk(g, t, visitor{
			enter: func(bp blkfmt.Bptr) (bool, error) {
				if !own(bp) { // nor is anything below it
					return false, nil
				}
				return true, pause()
			},
			data: func(bp blkfmt.Bptr) error { own(bp); return nil },
		})
	}
	// c was made of s: what of c is not younger than s is s's too, with all that hangs below.
	err := visit(c, func(bp blkfmt.Bptr) bool {
		if bp.Gen > s.Gen {
			return true
		}
		if f.younger(bp, pred) {
			shared.add(bp.Addr)
		}
		return false
	})
	if err == nil {
		err = visit(s, func(bp blkfmt.Bptr) bool {
			if !f.younger(bp, pred) || shared.has(bp.Addr) {
				return false
			}
			list = append(list, bp.Addr)
			return true
		})
	}
	return list, err
}
