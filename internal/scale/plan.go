package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"math"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A Point is one measurement of TestGrowth in package gefs.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Growth holds the measured curves, by name, as scripts/growth leaves them in docs/growth.json:
//
//	create     files there are         files created a second
//	random     GiB of a sparse file    writes of 8 KiB a second
//	opening    GiB of a disk           milliseconds until the first answer
//	ranges     free ranges             the same
//	snapshots  snapshots there are     milliseconds until one more is durable
type Growth map[string][]Point

// ReadGrowth reads curves. It refuses what is not JSON of that form, and values that are not positive.
func ReadGrowth(r io.Reader) (Growth, error) {
	var g Growth
	if err := json.NewDecoder(r).Decode(&g); err != nil {
		return nil, fmt.Errorf("measured curves: %w", err)
	}
	for name, points := range g {
		for _, p := range points {
			if !(p.X >= 0 && p.Y > 0) || math.IsInf(p.X+p.Y, 0) {
				return nil, fmt.Errorf("measured curves: %s has the point %v, %v", name, p.X, p.Y)
			}
		}
	}
	return g, nil
}

// Last returns the measurement at the largest size; false if there is none.
func (g Growth) Last(name string) (p Point, ok bool) {
	for _, q := range g[name] {
		if !ok || q.X > p.X {
			p, ok = q, true
		}
	}
	return p, ok
}

// Slope returns the increase of y with x, by least squares over the curve, and y at 0, for costs that grow
// with size; false with less than two different sizes.
func (g Growth) Slope(name string) (slope, at0 float64, ok bool) {
	var n, sx, sy, sxx, sxy float64
	for _, p := range g[name] {
		n, sx, sy, sxx, sxy = n+1, sx+p.X, sy+p.Y, sxx+p.X*p.X, sxy+p.X*p.Y
	}
	d := n*sxx - sx*sx
	if d <= 0 {
		return 0, 0, false
	}
	slope = (n*sxy - sx*sy) / d
	return slope, (sy - slope*sx) / n, true
}

// A Plan is what is to be kept, and how.
type Plan struct {
	Files   float64 `json:"files"`
	Bytes   float64 `json:"bytes"`   // in all files together
	Servers float64 `json:"servers"` // each with a disk of its own, and the same share
	Name    int     `json:"name"`    // bytes of a file's name
	Full    float64 `json:"full"`    // share of a disk that may be in use
	Memory  float64 `json:"memory"`  // bytes of cache of each server
	Every   float64 `json:"every"`   // seconds between commits
	Rate    float64 `json:"rate"`    // operations a second of each server, for the cost of commits
	Holes   float64 `json:"holes"`   // free ranges, for each block in use
	Seed    uint64  `json:"seed"`
}

// An Estimate is what a plan comes to for each server.
type Estimate struct {
	Plan     Plan    `json:"plan"`
	Files    float64 `json:"files"`
	Blocks   float64 `json:"blocks"` // of files
	Device   float64 `json:"device"` // bytes
	Arenas   int     `json:"arenas"`
	Tree     Tree    `json:"tree"`     // as after copying files in order
	Shuffled Tree    `json:"shuffled"` // of the entries alone, as after creating them at random
	Upper    float64 `json:"upper"`    // bytes of all pivots: with a cache as large a lookup reads one block
	Cold     float64 `json:"cold"`     // blocks that a lookup of any file reads with the plan's cache

	Commit   Commit  `json:"commit"`   // of copying in order, at the plan's rate
	InOrder  float64 `json:"inOrder"`  // blocks written for a file of one block that is copied in order
	AtRandom float64 `json:"atRandom"` // blocks written for an empty file that is created at random
	Rewrite  float64 `json:"rewrite"`  // blocks written for a block that is overwritten at random

	Fill   float64 `json:"fill,omitempty"` // days to create all files at the measured rate
	Ranges float64 `json:"ranges"`         // free ranges
	Open   float64 `json:"open,omitempty"` // seconds, by the measured cost of a range
	Census float64 `json:"census"`         // bytes of nodes: what opening reads where a log is not believed
	Memory Memory  `json:"memory"`         // that the size asks for, besides the cache
	Scrub  float64 `json:"scrub"`          // days, at ScrubRate
	Qids   float64 `json:"qids"`           // share of all qid paths
	Gens   float64 `json:"gens"`           // years of commits until the barriers' numbers end
	Addr   float64 `json:"addr"`           // share of the addresses there are
}

// ScrubRate is how fast a scrub reads if nobody says otherwise, in bytes a second.
const ScrubRate = 20 << 20

// A Memory is how many bytes programs need for what grows with the disk and is not bounded by a flag.
type Memory struct {
	Ranges  float64 `json:"ranges"`  // of a server: its free ranges
	Check   float64 `json:"check"`   // of a check: who owns each block
	Salvage float64 `json:"salvage"` // of salvaging: each node of the disk
}

// What these are made of, in bytes.
const (
	rangeBytes   = 48       // a free range: TestFreeRangesTakeLittleMemory of package arena measures it
	ownerBytes   = 4        // a block in use: package check, owner
	salvageBytes = 150 + 24 // a node, and the pointer to it: docs/disaster.md
)

// Bounds of the format.
const (
	maxQgen     = 1 << 55 // see arena.Set.Seal
	maxAddr     = math.MaxInt64
	day         = 24 * 3600.0
	daysOfAYear = 365.25
)

// blocksOf returns how many blocks a file of a mean size takes, if sizes are distributed exponentially:
// many small ones, few large.
func blocksOf(mean float64) float64 { return 1 / (1 - math.Exp(-blkfmt.BlkSize/mean)) }

// check refuses a plan that makes no sense.
func (p Plan) check() error {
	for _, x := range []struct {
		what string
		v    float64
	}{{"files", p.Files}, {"bytes", p.Bytes}, {"servers", p.Servers}, {"bytes of memory", p.Memory}, {"seconds between commits", p.Every}, {"operations a second", p.Rate}} {
		if !(x.v > 0) || math.IsInf(x.v, 0) {
			return fmt.Errorf("plan: %v %s: there must be some", x.v, x.what)
		}
	}
	switch {
	case p.Name < 1 || p.Name > kvfmt.NameMax:
		return fmt.Errorf("plan: names of %d bytes: they have 1 to %d", p.Name, kvfmt.NameMax)
	case !(p.Full > 0 && p.Full <= 1):
		return fmt.Errorf("plan: %v of the disk in use: more than none, at most 1", p.Full)
	case !(p.Holes >= 0 && p.Holes <= 1):
		return fmt.Errorf("plan: %v free ranges for each block: 0 to 1", p.Holes)
	case p.Files < p.Servers:
		return fmt.Errorf("plan: %v files on %v servers", p.Files, p.Servers)
	}
	return nil
}

// Estimate says what the plan comes to. Where g lacks a curve, what would follow from it is 0. It refuses a
// plan whose disks are larger or smaller than the format allows.
func (p Plan) Estimate(g Growth) (*Estimate, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	e := &Estimate{Plan: p, Files: p.Files / p.Servers}
	e.Blocks = e.Files * blocksOf(p.Bytes/p.Files)
	perCommit := p.Rate * p.Every

	copies, random, over := Copies(p.Name), CreatesAtRandom(p.Name), Overwrites(p.Name)
	e.Tree = Predict(copies, e.Files, perCommit, p.Seed)
	// Files of more than a block have more pointers than the load says.
	more := Predict(Load{Streams: []Stream{Data()}}, max(e.Blocks-e.Files, 1), perCommit, p.Seed)
	e.Shuffled = Predict(random, e.Files, perCommit, p.Seed)
	nodes := e.Tree.Leaves() + e.Tree.Pivots() + more.Leaves() + more.Pivots()
	e.Upper = (e.Tree.Pivots() + more.Pivots()) * blkfmt.BlkSize
	e.Census = nodes * blkfmt.BlkSize
	e.Cold = cold(e.Tree, p.Memory/blkfmt.BlkSize)

	e.Device = (e.Blocks + nodes) * blkfmt.BlkSize / p.Full
	if e.Device > maxAddr {
		return nil, fmt.Errorf("plan: disks of %.3g bytes: addresses end at %d; take more servers", e.Device, int64(maxAddr))
	}
	geometry, err := blkfmt.ReamGeometry(int64(max(e.Device, blkfmt.MinDevice)))
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	e.Arenas = geometry.Count

	e.Commit = PredictCommit(copies, e.Tree, perCommit, e.Arenas)
	e.InOrder = e.Commit.Blocks() / perCommit
	e.AtRandom = PredictCommit(random, e.Shuffled, perCommit, e.Arenas).Blocks() / perCommit
	e.Rewrite = PredictCommit(over, Predict(over, e.Blocks, perCommit, p.Seed), perCommit, e.Arenas).Blocks() / perCommit

	if at, ok := g.Last("create"); ok {
		e.Fill = e.Files / at.Y / day
	}
	e.Ranges = e.Blocks * p.Holes
	e.Memory = Memory{
		Ranges:  e.Ranges * rangeBytes,
		Check:   (e.Blocks + nodes) * ownerBytes,
		Salvage: nodes * (salvageBytes + 2*float64(Ents(p.Name).Key)),
	}
	if slope, at0, ok := g.Slope("ranges"); ok {
		e.Open = (slope*e.Ranges + max(at0, 0)) / 1e3
	}
	e.Scrub = e.Device * p.Full / ScrubRate / day
	e.Qids = e.Files / math.MaxUint64
	e.Gens = maxQgen * p.Every / day / daysOfAYear
	e.Addr = e.Device / maxAddr
	return e, nil
}

// cold returns how many blocks a lookup of any entry reads from the disk, if so many blocks are cached, those
// of the upper levels first.
func cold(t Tree, cache float64) float64 {
	reads := 0.0
	for i := len(t.Levels) - 1; i >= 0; i-- {
		n := t.Levels[i].Nodes
		in := min(cache, n)
		reads += 1 - in/n
		cache -= in
	}
	return reads
}
