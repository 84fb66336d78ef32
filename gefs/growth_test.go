package gefs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var (
	growthFlag = flag.String("growth", "", "directory for the disks and the figures of TestGrowth, which scripts/growth runs; empty: a small sample in a temporary one")
	growthDisk = flag.String("growth.disk", "", "what TestGrowth tells the process that it kills: the disk")
	growthMost = flag.Int("growth.files", 0, "and how many files to create there")
)

// A growth measures how costs grow, and collects the points of the curves.
type growth struct {
	t      *testing.T
	dir    string
	full   bool
	curves map[string][]point
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

func (g *growth) add(curve string, x, y float64) {
	g.curves[curve] = append(g.curves[curve], point{x, y})
	g.t.Logf("%s: %.6g: %.6g", curve, x, y)
}

// scaled is n, or a thousandth of it, but least, in the sample.
func (g *growth) scaled(n, least int) int {
	if g.full {
		return n
	}
	return max(n/1000, least)
}

// TestGrowth measures cost against size: creating files against how many there are, random writes against the
// length of the file, opening against the disk's size and the number of its free ranges, snapshots
// against how many there are, and reading a tree against the rounds of changes it has been through. The points
// go to growth.json in the directory; scripts/growth makes pictures of them.
func TestGrowth(t *testing.T) {
	if testing.Short() && *growthFlag == "" {
		t.Skip("with -short; the sample takes seconds")
	}
	g := &growth{t: t, dir: *growthFlag, full: *growthFlag != "", curves: make(map[string][]point)}
	if !g.full {
		g.dir = t.TempDir()
	}
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"create", g.create}, {"large", g.large}, {"random", g.random}, {"size", g.size},
		{"ranges", g.ranges}, {"snapshots", g.snapshots}, {"age", g.age},
	} {
		t.Run(step.name, func(sub *testing.T) {
			g.t = sub
			step.run()
		})
	}
	g.t = t
	text, err := json.MarshalIndent(g.curves, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "growth.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, points := range g.curves {
		for _, p := range points {
			if !(p.Y > 0) || math.IsInf(p.Y, 0) {
				t.Errorf("%s: %v", name, p)
			}
		}
	}
	if len(g.curves) != 8 {
		t.Errorf("%d curves", len(g.curves))
	}
}

// disk reams a sparse disk.
func (g *growth) disk(size int64) (path string) {
	path = filepath.Join(g.dir, "growth.img")
	os.Remove(path)
	dev, err := blkdev.CreateFile(path, size)
	if err == nil {
		err = gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User})
	}
	if err != nil {
		g.t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { os.Remove(path) })
	return path
}

// open opens a disk; done closes it.
func (g *growth) open(path string, cache int) (r *bare, done func()) {
	g.t.Helper()
	dev, err := blkdev.OpenFile(path, blkdev.FileOptions{})
	if err != nil {
		g.t.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{Cache: cache})
	if err != nil {
		g.t.Fatal(err)
	}
	r, end := bareOn(g.t, fs)
	return r, func() {
		end()
		if err := fs.Close(); err != nil {
			g.t.Error(err)
		}
		dev.Close()
	}
}

// drop has the system forget what it knows of the disk, so that reads come from the device.
func (g *growth) drop(path string) {
	if err := exec.Command("dd", "if=/dev/null", "of="+path, "conv=notrunc,fdatasync", "oflag=nocache", "count=0").Run(); err != nil {
		g.t.Logf("the system's cache keeps the disk: %v", err)
	}
}

// growthCache is the cache of all, in blocks.
const growthCache = 512 << 20 / blkfmt.BlkSize

// filesEach is how many files there are in a directory of create.
const filesEach = 1000

// create creates files in a process that is killed at the end, and opens the disk after that: W13.
func (g *growth) create() {
	path := g.disk(1 << 40)
	n := g.scaled(10_000_000, 10_000)
	cmd := exec.Command(os.Args[0], "-test.run=^TestGrowthCreates$", "-growth.disk="+path, fmt.Sprint("-growth.files=", n))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		g.t.Fatal(err)
	}
	ready := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var x, y float64
		if _, err := fmt.Sscanf(lines.Text(), "created %g %g", &x, &y); err == nil {
			g.add("create", x, y)
		}
		if ready = lines.Text() == "ready"; ready {
			break
		}
	}
	if !ready {
		cmd.Wait()
		g.t.Fatal("the process that creates files ended")
	}
	time.Sleep(100 * time.Millisecond) // it goes on
	cmd.Process.Kill()
	cmd.Wait()
	g.drop(path)
	g.add("crash", float64(n), g.opening(path, func(r *bare) {
		at := n / 2
		r.walk(dirOf(at), fileOf(at)).Clunk(r.c)
	}))
}

// TestGrowthCreates is the process that TestGrowth kills.
func TestGrowthCreates(t *testing.T) {
	if *growthDisk == "" {
		t.Skip("is run by TestGrowth")
	}
	g := &growth{t: t}
	r, _ := g.open(*growthDisk, growthCache)
	from, next := 0, 1000
	began := time.Now()
	for i := 0; ; i++ {
		r.creates(i)
		if done := i + 1; done == next || done == *growthMost {
			fmt.Printf("created %d %g\n", done, float64(done-from)/time.Since(began).Seconds())
			if done == *growthMost {
				r.must("sync", r.sync())
				fmt.Println("ready")
			}
			from, next, began = done, next*10, time.Now()
			if s := from * 3; s < next {
				next = s
			}
		}
	}
}

func dirOf(i int) string  { return fmt.Sprintf("d%06d", i/filesEach) }
func fileOf(i int) string { return fmt.Sprintf("f%08d", i) }

// creates creates the i-th file.
func (r *bare) creates(i int) {
	if i%filesEach == 0 {
		d := r.walk()
		_, _, err := d.Create(r.c, dirOf(i), ninep.DMDIR|0755, ninep.OREAD)
		r.must("create", err)
		d.Clunk(r.c)
		r.step()
	}
	f := r.walk(dirOf(i))
	_, _, err := f.Create(r.c, fileOf(i), 0644, ninep.OWRITE)
	r.must("create", err)
	f.Clunk(r.c)
	r.step()
}

// opening returns how many milliseconds it takes to open the disk and to answer.
func (g *growth) opening(path string, answer func(r *bare)) float64 {
	began := time.Now()
	r, done := g.open(path, growthCache)
	defer done()
	answer(r)
	return time.Since(began).Seconds() * 1e3
}

// large removes a file of 100 GiB with a block in each MiB.
func (g *growth) large() {
	r, done := g.open(g.disk(1<<40), growthCache)
	defer done()
	f := r.walk()
	_, _, err := f.Create(r.c, "large", 0644, ninep.OWRITE)
	r.must("create", err)
	n := g.scaled(100<<10, 1000)
	for i := range n {
		_, err := f.Write(r.c, []byte("block"), uint64(i)<<20)
		r.must("write", err)
		r.step()
	}
	r.must("sync", r.sync())
	began := time.Now()
	r.must("remove", f.Remove(r.c))
	g.add("remove", float64(n)/1024, time.Since(began).Seconds()*1e3)
}

// random writes blocks of 8 KiB here and there in a sparse file.
func (g *growth) random() {
	writes := g.scaled(20_000, 500)
	rng := rand.New(rand.NewPCG(1, 2))
	p := bytes.Repeat([]byte("random"), 8<<10)[:8<<10]
	for gib := int64(1); gib <= 64; gib *= 2 {
		r, done := g.open(g.disk(128<<30), growthCache)
		f := r.walk()
		_, _, err := f.Create(r.c, "sparse", 0644, ninep.ORDWR)
		r.must("create", err)
		_, err = f.Write(r.c, p, uint64(gib)<<30-uint64(len(p)))
		r.must("write", err)
		began := time.Now()
		for range writes {
			_, err := f.Write(r.c, p, uint64(rng.Int64N(gib<<30/int64(len(p))))*uint64(len(p)))
			r.must("write", err)
			r.step()
		}
		r.must("sync", r.sync())
		g.add("random", float64(gib), float64(writes)/time.Since(began).Seconds())
		f.Clunk(r.c)
		done()
	}
}

// size opens disks of many sizes.
func (g *growth) size() {
	for gib := int64(1); gib <= 4096; gib *= 4 {
		path := g.disk(gib << 30)
		r, done := g.open(path, growthCache)
		for i := range filesEach {
			r.creates(i)
		}
		done()
		g.drop(path)
		g.add("opening", float64(gib), g.opening(path, func(r *bare) { r.walk(dirOf(0), fileOf(1)).Clunk(r.c) }))
	}
}

// ranges opens disks with many free ranges, and so with long logs.
func (g *growth) ranges() {
	for _, n := range []int{1000, 10_000, 100_000, 300_000} {
		n = g.scaled(n, n/100)
		path := g.disk(64 << 30)
		r, done := g.open(path, growthCache)
		// Every second block of a long file is written again, and what it was becomes a hole.
		f := r.file(2 * n * blkfmt.BlkSize)
		for i := range n {
			_, err := f.Write(r.c, []byte("block"), uint64(2*i)*blkfmt.BlkSize)
			r.must("write", err)
			r.step()
		}
		f.Clunk(r.c)
		done()
		ranges := 0
		r, done = g.open(path, growthCache)
		for i := range r.fs.Arenas() {
			for range r.fs.Store().Arenas().Ranges(i) {
				ranges++
			}
		}
		done()
		g.drop(path)
		g.add("ranges", float64(ranges), g.opening(path, func(r *bare) { r.walk().Clunk(r.c) }))
	}
}

// snapshots takes snapshots of a tree that changes.
func (g *growth) snapshots() {
	r, done := g.open(g.disk(16<<30), growthCache)
	defer done()
	n := g.scaled(10_000, 100)
	var took []time.Duration
	next := 10
	for i := range n {
		r.creates(i)
		began := time.Now()
		r.must("snapshot", r.fs.Label(r.c, "main", fmt.Sprint("s", i), false))
		r.must("sync", r.sync())
		if took = append(took, time.Since(began)); len(took) > 100 {
			took = took[1:]
		}
		if i+1 == next || i+1 == n {
			last := slices.Sorted(slices.Values(took))
			g.add("snapshots", float64(i+1), last[len(last)/2].Seconds()*1e3)
			next *= 3
		}
	}
}

// age rewrites a part of a tree of files again and again, with snapshots that come and go, and measures how fast
// the tree is read with cold caches.
func (g *growth) age() {
	path := g.disk(32 << 30)
	rounds, files := g.scaled(400, 20), g.scaled(4000, 100)
	rng := rand.New(rand.NewPCG(3, 4))
	r, done := g.open(path, growthCache)
	sizes := make([]int, files)
	text := []byte(strings.Repeat("a line of a source file\n", 4<<10))
	write := func(i int) {
		sizes[i] = 1 + int(math.Exp(rng.Float64()*math.Log(64<<10))) // many small ones
		f := r.walk(dirOf(i))
		_, _, err := f.Create(r.c, fileOf(i), 0644, ninep.OWRITE)
		r.must("create", err)
		_, err = f.Write(r.c, text[:sizes[i]], 0)
		r.must("write", err)
		f.Clunk(r.c)
		r.step()
	}
	for i := range files {
		if i%filesEach == 0 {
			d := r.walk()
			_, _, err := d.Create(r.c, dirOf(i), ninep.DMDIR|0755, ninep.OREAD)
			r.must("create", err)
			d.Clunk(r.c)
		}
		write(i)
	}
	p := make([]byte, 128<<10)
	read := func() (mbs float64) {
		done()
		g.drop(path)
		r, done = g.open(path, growthCache)
		began, total := time.Now(), 0
		for i, size := range sizes {
			f := r.walk(dirOf(i), fileOf(i))
			_, _, err := f.Open(r.c, ninep.OREAD)
			r.must("open", err)
			n, err := f.Read(r.c, p, 0)
			if r.must("read", err); n != size {
				g.t.Fatalf("%s has %d bytes, want %d", fileOf(i), n, size)
			}
			total += n
			f.Clunk(r.c)
			r.step()
		}
		return float64(total) / time.Since(began).Seconds() / 1e6
	}
	for round := range rounds + 1 {
		if round%max(rounds/10, 1) == 0 {
			g.add("age", float64(round), read())
		}
		for range files / 20 { // the way git and editors write: another file, and the old one goes
			i := rng.IntN(files)
			r.must("remove", r.walk(dirOf(i), fileOf(i)).Remove(r.c))
			write(i)
		}
		if round%5 == 0 {
			r.must("snapshot", r.fs.Label(r.c, "main", fmt.Sprint("round", round), false))
			if old := round - 50; old >= 0 {
				r.must("delete", r.fs.DeleteLabel(r.c, fmt.Sprint("round", old)))
			}
			r.must("sync", r.sync())
		}
	}
	done()
}
