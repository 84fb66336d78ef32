package scale_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/scale"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random loads and of the simulation; 0 takes one from the clock")

// tolerance is how far a prediction may be off, as a share of what was measured.
const tolerance = 0.15

// slack is by how many blocks it may be off besides: commits are few, and the edges of the tree are counted in
// whole nodes.
const slack = 1.5

// mark begins every data block of the test, so that it is known from a node.
var mark = []byte("data")

// A counter is a disk that counts what is written to it, by type of block, and keeps no file data: nobody reads
// them again.
type counter struct {
	*blkdev.Mem
	mu     sync.Mutex
	blocks map[blkfmt.Type]float64
	syncs  int
}

func (c *counter) WriteAt(p []byte, off int64) (int, error) {
	if err := c.WriteVec([][]byte{p}, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *counter) WriteVec(bufs [][]byte, off int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range bufs {
		for p := b; len(p) > 0; p = p[blkfmt.BlkSize:] {
			if bytes.HasPrefix(p, mark) {
				c.blocks[blkfmt.Data]++
			} else {
				c.blocks[blkfmt.Type(binary.BigEndian.Uint16(p))]++
				if err := c.Mem.WriteVec([][]byte{p[:blkfmt.BlkSize]}, off); err != nil {
					return err
				}
			}
			off += blkfmt.BlkSize
		}
	}
	return nil
}

func (c *counter) Sync() error {
	c.mu.Lock()
	c.syncs++
	c.mu.Unlock()
	return c.Mem.Sync()
}

// A rig is a file system on a counter, with a commit when the test says so.
type rig struct {
	t   *testing.T
	dev *counter
	fs  *gefs.FS
	c   *ninep.Ctx
}

func newRig(t *testing.T) *rig {
	mem := blkdev.NewMem(16 << 30)
	if err := gefs.Ream(mem, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dev: &counter{Mem: mem, blocks: make(map[blkfmt.Type]float64)}}
	fs, err := gefs.Open(r.dev, gefs.Options{Cache: 8192, CommitEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	c, end := fs.Background()
	r.fs, r.c = fs, c
	t.Cleanup(func() {
		end()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// step is between two requests.
func (r *rig) step() {
	r.c.Worker.Leave()
	r.c.Worker.Enter()
}

// commit makes a commit and waits for its last step, which comes after it has answered.
func (r *rig) commit() {
	r.t.Helper()
	before := r.fs.Store().Stats().Commits
	r.c.Worker.Leave()
	defer r.c.Worker.Enter()
	r.must(r.fs.Sync(context.Background()))
	for began := time.Now(); r.fs.Store().Stats().Commits == before; time.Sleep(50 * time.Microsecond) {
		if time.Since(began) > 10*time.Second {
			r.t.Fatal("the commit does not end")
		}
	}
}

// walk returns the directory in which all files are, or the root.
func (r *rig) walk(names ...string) ninep.File {
	root, err := gefstest.Attach(r.fs, r.c, gefstest.User, "")
	r.must(err)
	defer root.Clunk(r.c)
	f, n, err := root.Walk(r.c, names, make([]ninep.Qid, len(names)))
	r.must(err)
	if n != len(names) {
		r.t.Fatalf("there is no %q", names)
	}
	return f
}

// directory makes it. Its entry comes before those of the files, as that of a directory made before them.
func (r *rig) directory() {
	f := r.walk()
	_, _, err := f.Create(r.c, dirName, ninep.DMDIR|0o755, ninep.OREAD)
	r.must(err)
	f.Clunk(r.c)
}

func (r *rig) create(name string) ninep.File {
	f := r.walk(dirName)
	_, _, err := f.Create(r.c, name, 0o644, ninep.ORDWR)
	r.must(err)
	return f
}

// taken returns how many blocks of each type, and flushes, there were since the last call.
func (r *rig) taken() (map[blkfmt.Type]float64, int) {
	r.dev.mu.Lock()
	defer r.dev.mu.Unlock()
	b, n := r.dev.blocks, r.dev.syncs
	r.dev.blocks, r.dev.syncs = make(map[blkfmt.Type]float64), 0
	return b, n
}

// nodes counts the nodes of main on the device, by level, leaves first. It uses the formats and nothing else.
func (r *rig) nodes() (levels []float64) {
	read := func(a blkfmt.Addr) kvfmt.Node {
		p := make([]byte, blkfmt.BlkSize)
		if _, err := r.dev.ReadAt(p, int64(a)); err != nil {
			r.t.Fatal(err)
		}
		return p
	}
	super, err := blkfmt.DecodeSuper(read(0), nil, 0)
	r.must(err)
	pairs := make(map[string][]byte)
	snaps := read(super.Snap.Addr)
	if !snaps.Leaf() {
		r.t.Fatal("the tree of snapshots is more than a leaf")
	}
	for i := range snaps.Nval() {
		k, v := snaps.Val(i)
		pairs[string(k)] = v
	}
	label, err := kvfmt.GetLabel(pairs[string(kvfmt.AppendLabelKey(nil, "main"))])
	r.must(err)
	tree, err := kvfmt.GetTree(pairs[string(kvfmt.AppendSnapKey(nil, label.Gen))])
	r.must(err)
	levels = make([]float64, tree.Ht)
	var walk func(a blkfmt.Addr, level int32)
	walk = func(a blkfmt.Addr, level int32) {
		levels[level-1]++
		if level == 1 {
			return
		}
		n := read(a)
		for i := range n.Nval() {
			if level == 2 {
				levels[0]++
				continue
			}
			child, _ := n.Child(i)
			walk(child.Addr, level-1)
		}
	}
	walk(tree.Root.Addr, tree.Ht)
	return levels
}

// A trial is a load that the test runs for real.
type trial struct {
	load      scale.Load
	ops       int // there are so many files, or blocks, at the end
	perCommit int
	// begin prepares the file system and returns what one operation is.
	begin func(r *rig, ops int, rng *rand.Rand) func(i int)
}

// measured is how many commits are measured, and settling how many of them come before.
const (
	measured = 12
	settling = 8
)

const nameLen = 12

var dirName = strings.Repeat("d", nameLen)

func creates(name func(i int, rng *rand.Rand) string, blocks int) func(r *rig, ops int, rng *rand.Rand) func(i int) {
	return func(r *rig, _ int, rng *rand.Rand) func(i int) {
		p := block()
		return func(i int) {
			f := r.create(name(i, rng))
			for range blocks {
				_, err := f.Write(r.c, p, 0)
				r.must(err)
			}
			f.Clunk(r.c)
		}
	}
}

func block() []byte { return append(bytes.Clone(mark), make([]byte, blkfmt.BlkSize-len(mark))...) }

func inOrder(i int, _ *rand.Rand) string    { return fmt.Sprintf("f%0*d", nameLen-1, i) }
func atRandom(i int, rng *rand.Rand) string { return fmt.Sprintf("%08x%04x", rng.Uint32(), i&0xffff) }

func trials() []trial {
	overwrite := func(r *rig, ops int, rng *rand.Rand) func(i int) {
		f := r.create(strings.Repeat("f", nameLen))
		p := block()
		for i := range ops {
			_, err := f.Write(r.c, p, uint64(i)*blkfmt.BlkSize)
			r.must(err)
			r.step()
			if i%5000 == 0 {
				r.commit()
			}
		}
		r.commit()
		return func(int) {
			_, err := f.Write(r.c, p, rng.Uint64N(uint64(ops))*blkfmt.BlkSize)
			r.must(err)
		}
	}
	return []trial{
		{scale.CreatesInOrder(nameLen), 40_000, 1000, creates(inOrder, 0)},
		{scale.CreatesInOrder(nameLen), 20_000, 100, creates(inOrder, 0)},
		{scale.Copies(nameLen), 20_000, 500, creates(inOrder, 1)},
		{scale.CreatesAtRandom(nameLen), 60_000, 2000, creates(atRandom, 0)},
		{scale.CreatesAtRandom(nameLen), 30_000, 100, creates(atRandom, 0)},
		{scale.Overwrites(nameLen), 40_000, 2000, overwrite},
		{scale.Overwrites(nameLen), 40_000, 100, overwrite},
	}
}

// run does a trial and returns what one commit wrote, and the nodes of each level.
func (tr trial) run(r *rig, rng *rand.Rand) (scale.Commit, []float64) {
	r.directory()
	op := tr.begin(r, tr.ops, rng)
	before := tr.ops - (settling+measured)*tr.perCommit
	if !tr.load.Replace {
		for i := range before {
			op(i)
			r.step()
			if i%5000 == 0 {
				r.commit()
			}
		}
		r.commit()
	}
	var sum scale.Commit
	for n := range settling + measured {
		if n == settling {
			r.taken()
		}
		for i := range tr.perCommit {
			op(before + n*tr.perCommit + i)
			r.step()
		}
		r.commit()
	}
	blocks, syncs := r.taken()
	sum = scale.Commit{
		Data:    blocks[blkfmt.Data] / measured,
		Nodes:   (blocks[blkfmt.Leaf]+blocks[blkfmt.Pivot])/measured - 1,
		Snap:    1, // counted among the leaves
		Log:     blocks[blkfmt.Log] / measured,
		Headers: blocks[blkfmt.Arena] / measured,
		Supers:  blocks[blkfmt.SuperBlk] / measured,
		Flushes: syncs / measured,
	}
	return sum, r.nodes()
}

// compare says where a prediction and what was measured differ by more than they may.
func compare(tree scale.Tree, c scale.Commit, levels []float64, got scale.Commit) error {
	var errs []error
	far := func(what string, want, got float64) {
		if math.Abs(want-got) > tolerance*got+slack {
			errs = append(errs, fmt.Errorf("%s: predicted %.1f, measured %.1f", what, want, got))
		}
	}
	if tree.Height() != len(levels) {
		errs = append(errs, fmt.Errorf("a tree of %d levels predicted, of %d measured", tree.Height(), len(levels)))
	}
	for i := range min(tree.Height(), len(levels)) {
		far(fmt.Sprint("nodes of level ", i+1), tree.Levels[i].Nodes, levels[i])
	}
	far("nodes a commit", c.Nodes, got.Nodes)
	far("log blocks a commit", c.Log, got.Log)
	far("all blocks a commit", c.Blocks(), got.Blocks())
	far("data blocks a commit", c.Data, got.Data) // one that is written twice between two commits may be written once
	if c.Headers != got.Headers || c.Supers != got.Supers || c.Flushes != got.Flushes {
		errs = append(errs, fmt.Errorf("predicted %+v, measured %+v", c, got))
	}
	return errors.Join(errs...)
}

// TestThePredictionsHold compares the simulation with the file system at sizes that can be measured: the height of
// the tree, the nodes of each level, and what a commit writes, by kind.
func TestThePredictionsHold(t *testing.T) {
	if raceOn {
		t.Skip("it is about sizes, and takes minutes with the race detector")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	all := trials()
	for i, tr := range all {
		t.Run(fmt.Sprintf("%s, %d a commit", tr.load.Name, tr.perCommit), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && i%4 != 0 { // one where keys ascend, one where they do not
				t.Skip("with -short")
			}
			got, levels := tr.run(newRig(t), rand.New(rand.NewPCG(seed, uint64(i))))
			at := float64(tr.ops)
			if !tr.load.Replace {
				at -= measured / 2 * float64(tr.perCommit)
			}
			predict := func(l scale.Load, perCommit float64) (scale.Tree, scale.Commit) {
				during := scale.Predict(l, at, perCommit, seed)
				end := scale.Predict(l, float64(tr.ops), perCommit, seed)
				return end, scale.PredictCommit(l, during, perCommit, 8)
			}
			tree, c := predict(tr.load, float64(tr.perCommit))
			t.Logf("levels: predicted %v, measured %v", nodes(tree), levels)
			t.Logf("a commit: predicted %+v", c)
			t.Logf("a commit: measured  %+v", got)
			if err := compare(tree, c, levels, got); err != nil {
				t.Error(err)
			}
			// What is compared must be able to differ.
			seen := map[string]bool{tr.load.Name: true}
			for _, other := range all {
				if seen[other.load.Name] {
					continue
				}
				seen[other.load.Name] = true
				tree, c := predict(other.load, float64(tr.perCommit))
				if compare(tree, c, levels, got) == nil {
					t.Errorf("the prediction for %q fits as well", other.load.Name)
				}
			}
			tree, c = predict(tr.load, 8*float64(tr.perCommit))
			if compare(tree, c, levels, got) == nil {
				t.Error("the prediction for an eighth of the commits fits as well")
			}
		})
	}
}

func nodes(t scale.Tree) (n []float64) {
	for _, l := range t.Levels {
		n = append(n, math.Round(l.Nodes*10)/10)
	}
	return n
}
