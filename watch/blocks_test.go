package watch

import (
	"testing"

	"gefs9p/arena"
	"gefs9p/blkfmt"
)

// TestEveryBlockIsInOneCell: for any number of arenas and any size, the cells share the blocks out, and ranges
// fall into the cells of their blocks.
func TestEveryBlockIsInOneCell(t *testing.T) {
	for _, n := range []int{1, 2, 8, 24, 25, 100, blkfmt.MaxArenas} {
		for _, blocks := range []int64{1, 2, 119, 120, 121, 719, 720, 721, 5000, 1<<20 + 7} {
			stats := make([]arena.Stat, n)
			for i := range stats {
				stats[i] = arena.Stat{Addr: blkfmt.Addr(i) * blkfmt.Addr(blocks+2) * blkfmt.BlkSize, Size: blocks * blkfmt.BlkSize}
			}
			g := newGrid(stats)
			s := g.arenas[n-1]
			if s.cells < 1 || g.columns < 1 || int64(s.cells) > blocks {
				t.Fatalf("%d arenas of %d blocks: %d cells in %d columns", n, blocks, s.cells, g.columns)
			}
			sum := int64(0)
			for c := range s.cells {
				k := s.first(c+1) - s.first(c)
				if k < 1 {
					t.Fatalf("%d blocks in %d cells: cell %d has %d", blocks, s.cells, c, k)
				}
				sum += k
			}
			if sum != blocks || s.first(0) != 0 {
				t.Fatalf("%d blocks in %d cells: they have %d", blocks, s.cells, sum)
			}
			cells := make([]int64, s.cells)
			s.add(cells, s.base, blocks/3*blkfmt.BlkSize)
			s.add(cells, s.base+blkfmt.Addr(blocks/3)*blkfmt.BlkSize, (blocks-blocks/3)*blkfmt.BlkSize)
			for c, k := range cells {
				if want := s.first(c+1) - s.first(c); k != want {
					t.Fatalf("%d blocks in %d cells: cell %d is given %d of its %d", blocks, s.cells, c, k, want)
				}
			}
			for _, b := range []int64{0, 1, blocks / 2, blocks - 1} {
				c := s.cell(s.base + blkfmt.Addr(min(b, blocks-1))*blkfmt.BlkSize)
				if b = min(b, blocks-1); b < s.first(c) || b >= s.first(c+1) {
					t.Fatalf("block %d of %d is in cell %d, which has %d to %d", b, blocks, c, s.first(c), s.first(c+1))
				}
			}
		}
	}
}
