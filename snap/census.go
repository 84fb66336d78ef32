package snap

import (
	"fmt"
	"iter"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
)

// Blocks is a set of block addresses.
type Blocks struct {
	words map[int64]*[censusWords]uint64
	n     int
}

const censusWords = 64 // of 64 blocks each: 64 MiB of disk

func newBlocks() *Blocks { return &Blocks{words: make(map[int64]*[censusWords]uint64)} }

func (b *Blocks) at(a blkfmt.Addr) (w *uint64, bit uint64) {
	n := int64(a) >> blkfmt.BlkShift
	page := b.words[n/(64*censusWords)]
	if page == nil {
		page = new([censusWords]uint64)
		b.words[n/(64*censusWords)] = page
	}
	return &page[n/64%censusWords], 1 << (n % 64)
}

// add enters a and reports whether it was not there before.
func (b *Blocks) add(a blkfmt.Addr) bool {
	w, bit := b.at(a)
	if *w&bit != 0 {
		return false
	}
	*w |= bit
	b.n++
	return true
}

// has reports whether a is there.
func (b *Blocks) has(a blkfmt.Addr) bool {
	n := int64(a) >> blkfmt.BlkShift
	page := b.words[n/(64*censusWords)]
	return page != nil && page[n/64%censusWords]&(1<<(n%64)) != 0
}

// Len returns the number of addresses.
func (b *Blocks) Len() int { return b.n }

// All yields the addresses in no order. The error is always nil.
func (b *Blocks) All() iter.Seq2[blkfmt.Addr, error] {
	return func(yield func(blkfmt.Addr, error) bool) {
		for k, page := range b.words {
			for i, w := range page {
				for j := range 64 {
					if w>>j&1 != 0 && !yield(blkfmt.Addr(k*(64*censusWords)+int64(i)*64+int64(j))<<blkfmt.BlkShift, nil) {
						return
					}
				}
			}
		}
	}
}

// Census finds every block that the forest reaches: the snapshot tree, every snapshot with its
// data, the deadlists and what stands on them. Log blocks are not the forest's. It reads all tree
// nodes and no data. The caller is inside an epoch, and nothing has changed since Load.
func (f *Forest) Census(g *epoch.Guard) (*Blocks, error) {
	live := newBlocks()
	visit := betree.Visit{
		// What hangs below a block that was met before was met then.
		Skip: func(bp blkfmt.Bptr, _ int) bool { return !live.add(bp.Addr) },
		Data: func(_ []byte, bp blkfmt.Bptr) error { live.add(bp.Addr); return nil },
	}
	if err := f.tree.Walk(g, visit); err != nil {
		return nil, fmt.Errorf("snapshot tree: %w", err)
	}
	for _, gen := range sortedGens(f.snaps) {
		s := f.snaps[gen]
		t := betree.Open(f.nodes, ownFreer{f.st}, s.rec.Root, int(s.rec.Ht))
		err := t.Walk(g, visit)
		t.Close()
		if err != nil {
			return nil, fmt.Errorf("snapshot %d: %w", gen, err)
		}
		lists, err := f.listsOf(g, s)
		if err != nil {
			return nil, err
		}
		for _, bgen := range sortedGens(lists) {
			err := lists[bgen].each(g, f.st,
				func(bp blkfmt.Bptr) error { live.add(bp.Addr); return nil },
				func(a blkfmt.Addr) error { live.add(a); return nil })
			if err != nil {
				return nil, fmt.Errorf("deadlist %d of snapshot %d: %w", bgen, gen, err)
			}
		}
	}
	return live, nil
}
