// Plots draws the figures that TestGrowth of package gefs leaves as one picture:
//
//	go run . GROWTH.json PICTURE.svg
//
// It is a module of its own so that what it needs to draw is no dependency of the server.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
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
}

var panels = [2][3]panel{
	{
		{"create", "creating files", "files there are", "files/s", true},
		{"random", "random 8 KiB writes, then fsync", "length of the sparse file, GiB", "writes/s", true},
		{"age", "reading a tree, caches cold", "rounds of changes to it", "MB/s", false},
	},
	{
		{"opening", "opening, and the first answer", "size of the disk, GiB", "ms", true},
		{"ranges", "opening, and the first answer", "free ranges on the disk", "ms", true},
		{"snapshots", "taking a snapshot, durable", "snapshots there are", "ms", true},
	},
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

// plot draws one panel. The axis of what is measured begins at zero.
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
	d.Y.Min, d.Y.Max = 0, d.Y.Max*1.1
	if p.log {
		d.X.Scale = plot.LogScale{}
		d.X.Tick.Marker = plot.TickerFunc(p.decades)
	}
	return d, nil
}

// decades marks powers of ten.
func (p panel) decades(min, max float64) (ticks []plot.Tick) {
	for v, n := 1.0, 0; v <= max*1.001; v, n = v*10, n+1 {
		if v < min*0.999 {
			continue
		}
		label := strconv.Itoa(int(v))
		if n > 4 {
			label = fmt.Sprintf("1e%d", n)
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}
