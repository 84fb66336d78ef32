package watch

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"gefs9p/arena"
	"gefs9p/blkfmt"
)

// The map is rows of cells, of which each arena has as many as fit. Each cell stands for a stretch of the
// arena, and shows which share of it is what.
const (
	mapColumns = 120
	mapRows    = 24
	arenaRows  = 6 // of one arena at most

	cellWidth, cellHeight = 7, 12 // with the gap
	cellW, cellH          = 6, 10 // without
	arenaGap              = 6     // below the rows of an arena
)

// A grid says which blocks a cell stands for.
type grid struct {
	arenas  []stretch
	rows    int // of an arena
	columns int // of an arena
	across  int // arenas beside each other
}

// A stretch is an arena in the grid.
type stretch struct {
	base   blkfmt.Addr // of the body
	blocks int64
	cells  int
}

// newGrid lays out the arenas.
func newGrid(list []arena.Stat) *grid {
	n := max(len(list), 1)
	g := &grid{across: (n + mapRows - 1) / mapRows, rows: 1, columns: mapColumns}
	if g.across > 1 {
		g.columns = mapColumns/g.across - 1
	} else {
		g.rows = min(mapRows/n, arenaRows)
	}
	for _, a := range list {
		blocks := max(a.Size/blkfmt.BlkSize, 1)
		g.arenas = append(g.arenas, stretch{
			base: a.Addr + blkfmt.ArenaOverhead, blocks: blocks, cells: int(min(int64(g.rows*g.columns), blocks)),
		})
	}
	return g
}

// zero returns a number for each cell.
func (g *grid) zero() [][]int64 {
	c := make([][]int64, len(g.arenas))
	for i, s := range g.arenas {
		c[i] = make([]int64, s.cells)
	}
	return c
}

// cell is the cell that has the block at a, which is in the arena.
func (s stretch) cell(a blkfmt.Addr) int {
	n := min(max(int64(a-s.base)>>blkfmt.BlkShift, 0), s.blocks-1)
	return int(n * int64(s.cells) / s.blocks)
}

// first is the number of the first block of a cell.
func (s stretch) first(cell int) int64 {
	return (int64(cell)*s.blocks + int64(s.cells) - 1) / int64(s.cells)
}

// add adds the blocks of a range to the cells that have them.
func (s stretch) add(cells []int64, a blkfmt.Addr, bytes int64) {
	from := int64(a-s.base) >> blkfmt.BlkShift
	end := min(from+bytes>>blkfmt.BlkShift, s.blocks)
	for from >= 0 && from < end {
		c := int(from * int64(s.cells) / s.blocks)
		to := min(s.first(c+1), end)
		cells[c] += to - from
		from = to
	}
}

// A blockMap remembers the last map for a moment, so that many who look cost no more than one.
type blockMap struct {
	mu   sync.Mutex
	at   time.Time
	keep time.Duration
	last *mapView
}

// A map is kept for mapKept, or for so many times as long as it took: on a disk in a million pieces the arenas are
// locked for longer while their free ranges are copied.
const (
	mapKept  = 2 * time.Second
	mapShare = 50
)

// A mapView is the map as the page shows it.
type mapView struct {
	Width, Height int
	Free          string // paths
	Live          string
	Held          string
	Waiting       string
	Labels        []mapLabel
	CellBytes     int64
	Across        bool // several arenas are beside each other

	Total, FreeBytes, LiveBytes, HeldBytes, WaitingBytes int64
	HeldKnown, HeldCut                                   bool
	Arenas                                               []arena.Stat
}

type mapLabel struct {
	X, Y int
	Text string
	Note string // numbers, for who points at it
}

const mapLeft = 26 // room for the labels

// blockMap returns the map, not older than a moment.
func (w *Watcher) blockMap() *mapView {
	b := &w.blocks
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil || time.Since(b.at) > b.keep {
		began := time.Now()
		b.last, b.at = w.drawMap(), time.Now()
		b.keep = max(mapKept, mapShare*b.at.Sub(began))
	}
	return b.last
}

func (w *Watcher) drawMap() *mapView {
	stats := w.FS.Arenas()
	set := w.FS.Store().Arenas()
	g := newGrid(stats)
	w.survey.mu.Lock()
	held := w.survey.held
	w.survey.mu.Unlock()
	v := &mapView{Across: g.across > 1, Arenas: stats, HeldKnown: !held.at.IsZero(), HeldCut: held.cut}
	var free, live, kept, waiting strings.Builder
	for i, s := range g.arenas {
		nfree, nwait := make([]int64, s.cells), make([]int64, s.cells)
		for a, n := range set.Ranges(i) {
			s.add(nfree, a, n)
		}
		for a, n := range set.Waiting(i) {
			s.add(nwait, a, n)
		}
		x0, y0 := mapLeft, i*(g.rows*cellHeight+arenaGap)
		if g.across > 1 {
			x0, y0 = mapLeft+i%g.across*(g.columns+1)*cellWidth, i/g.across*(cellHeight+2)
		}
		var sum [4]int64
		for c := range s.cells {
			total := max(s.first(c+1)-s.first(c), 1)
			// The parts are of slightly different moments, and must not be more than the whole.
			f := min(nfree[c], total)
			wt := min(nwait[c], total-f)
			h := int64(0)
			if i < len(held.cells) && s.cells == len(held.cells[i]) {
				h = min(held.cells[i][c], total-f-wt)
			}
			l := total - f - wt - h
			for k, n := range [...]int64{f, l, h, wt} {
				sum[k] += n
			}
			x, y := x0+c%g.columns*cellWidth, y0+c/g.columns*cellHeight
			fmt.Fprintf(&free, "M%d %dh%dv%dh-%dz", x, y, cellW, cellH, cellW)
			at := 0.0
			for _, part := range [...]struct {
				b *strings.Builder
				n int64
			}{{&live, l}, {&kept, h}, {&waiting, wt}} {
				if part.n == 0 {
					continue
				}
				tall := float64(part.n) / float64(total) * cellH
				at += tall
				fmt.Fprintf(part.b, "M%d %.4gh%dv%.3gh-%dz", x, float64(y+cellH)-at, cellW, tall, cellW)
			}
		}
		for _, n := range sum {
			v.Total += n * blkfmt.BlkSize
		}
		v.FreeBytes += sum[0] * blkfmt.BlkSize
		v.LiveBytes += sum[1] * blkfmt.BlkSize
		v.HeldBytes += sum[2] * blkfmt.BlkSize
		v.WaitingBytes += sum[3] * blkfmt.BlkSize
		if g.across == 1 || i%g.across == 0 {
			v.Labels = append(v.Labels, mapLabel{X: mapLeft - 8, Y: y0 + cellH - 1, Text: fmt.Sprint(i),
				Note: fmt.Sprintf("arena %d: %s, %s free", i, size(stats[i].Size), size(stats[i].Free))})
		}
		v.CellBytes = max(v.CellBytes, s.blocks*blkfmt.BlkSize/int64(s.cells))
		v.Height = max(v.Height, y0+(s.cells+g.columns-1)/g.columns*cellHeight)
	}
	v.Width = mapLeft + mapColumns*cellWidth
	v.Free, v.Live, v.Held, v.Waiting = free.String(), live.String(), kept.String(), waiting.String()
	return v
}
