// Plots draws curves as one picture:
//
//	go run . GROWTH.json PICTURE.svg
//
// The file holds those that TestGrowth of package gefs leaves, or those that internal/scale/plan writes
// with --curves.
//
// It is a module of its own so that what it needs to draw is no dependency of the server.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A panel is one curve of the picture.
type panel struct {
	curve       string
	title, x, y string
	log         bool // of x
	logY        bool
}

// A picture is what can be drawn from a file that has all of its curves.
type picture [2][3]panel

var pictures = []picture{growth, scale}

var growth = picture{
	{
		{"create", "creating files", "files there are", "files/s", true, false},
		{"random", "random 8 KiB writes, then fsync", "length of the sparse file, GiB", "writes/s", true, false},
		{"age", "reading a tree, caches cold", "rounds of changes to it", "MB/s", false, false},
	},
	{
		{"opening", "opening, and the first answer", "size of the disk, GiB", "ms", true, false},
		{"ranges", "opening, and the first answer", "free ranges on the disk", "ms", true, false},
		{"snapshots", "taking a snapshot, durable", "snapshots there are", "ms", true, false},
	},
}

var scale = picture{
	{
		{"inOrder", "nodes written: file copied in order", "files", "blocks", true, false},
		{"atRandom", "file created at random", "files", "blocks", true, false},
		{"overwrite", "block overwritten at random", "blocks of the file", "blocks", true, false},
	},
	{
		{"levels", "levels of the tree", "files", "levels", true, false},
		{"pivots", "nodes above the leaves", "files", "GiB", true, true},
		{"commit", "the least that a commit writes", "arenas", "MiB", true, false},
	},
}

// choose returns the picture for which there are most curves.
func choose(curves map[string]plotter.XYs) (best picture) {
	most := -1
	for _, p := range pictures {
		n := 0
		for _, row := range p {
			for _, panel := range row {
				if len(curves[panel.curve]) > 0 {
					n++
				}
			}
		}
		if n > most {
			best, most = p, n
		}
	}
	return best
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: plots GROWTH.json PICTURE.svg")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	curves := make(map[string]plotter.XYs)
	if err := json.Unmarshal(text, &curves); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	panels := choose(curves)
	c := vgsvg.New(30*vg.Centimeter, 17*vg.Centimeter)
	tiles := draw.Tiles{
		Rows: len(panels), Cols: len(panels[0]), PadX: 8 * vg.Millimeter, PadY: 8 * vg.Millimeter,
		PadTop: 3 * vg.Millimeter, PadBottom: 3 * vg.Millimeter, PadLeft: 3 * vg.Millimeter, PadRight: 5 * vg.Millimeter,
	}
	var plots [][]*plot.Plot
	for _, line := range panels {
		var row []*plot.Plot
		for _, p := range line {
			drawn, err := p.plot(curves[p.curve])
			if err != nil {
				return fmt.Errorf("%s: %s: %w", args[0], p.curve, err)
			}
			row = append(row, drawn)
		}
		plots = append(plots, row)
	}
	for i, row := range plot.Align(plots, tiles, draw.New(c)) {
		for j, at := range row {
			plots[i][j].Draw(at)
		}
	}
	out, err := os.Create(args[1])
	if err != nil {
		return err
	}
	_, err = c.WriteTo(out)
	return errors.Join(err, out.Close())
}

// plot draws one panel. The axis of what is measured begins at zero, if it is not logarithmic.
func (p panel) plot(points plotter.XYs) (*plot.Plot, error) {
	if len(points) == 0 {
		return nil, errors.New("no points")
	}
	d := plot.New()
	d.Title.Text, d.X.Label.Text, d.Y.Label.Text = p.title, p.x, p.y
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	blue := color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	line.Color, line.Width = blue, vg.Points(1.5)
	dots.Color, dots.Shape, dots.Radius = blue, draw.CircleGlyph{}, vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 0xe0}, color.Gray{Y: 0xe0}
	d.Add(grid, line, dots)
	if p.logY {
		d.Y.Scale = plot.LogScale{}
		d.Y.Tick.Marker = plot.TickerFunc(p.decades)
	} else {
		d.Y.Min, d.Y.Max = 0, d.Y.Max*1.1
	}
	if p.log {
		d.X.Scale = plot.LogScale{}
		d.X.Tick.Marker = plot.TickerFunc(p.decades)
	}
	return d, nil
}

// decades marks powers of ten, and names each second one where they are many.
func (p panel) decades(min, max float64) (ticks []plot.Tick) {
	for n := int(math.Ceil(math.Log10(min * 0.999))); ; n++ {
		v := math.Pow10(n)
		if v > max*1.001 {
			break
		}
		label := strconv.FormatFloat(v, 'f', -1, 64)
		if n > 4 || n < -2 {
			label = fmt.Sprintf("1e%d", n)
		}
		if math.Log10(max/min) > 5 && n%2 != 0 {
			label = ""
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}
