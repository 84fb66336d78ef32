package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// cutDepth is how many power cuts come one after the other.
const cutDepth = 3

// again goes on from what is found after the cut, cuts the power early in that, and so on.
func again(h *History, cut blkdev.Cut, r *rand.Rand) error {
	for depth := 1; ; depth++ {
		img, n, err := h.Verify(cut)
		if err != nil {
			return fmt.Errorf("cut %d, %v: %w", depth, cut, err)
		}
		if depth == cutDepth {
			return nil
		}
		oracle, sec := h.Oracle(n)
		disk := &Disk{Image: img, Oracle: oracle, Sec: sec, leaked: h.base.leaked}
		ops := (&Source{R: r, N: depth * 1000000}).Ops(oracle, 1+r.IntN(12))
		ops = append(ops, Op{Kind: Fsync})
		if h, err = Record(disk, ops, r.IntN(2) == 0); err != nil {
			return fmt.Errorf("after cut %d, %v: %w", depth, cut, err)
		}
		if cut = h.Trace.Random(r); r.IntN(2) == 0 {
			// The first commit begins with repairs: where there are any, that is where to look.
			cut = h.Trace.RandomAt(r, r.IntN(h.Trace.Len()/3+1))
		}
	}
}

// TestPowerCutsDuringRecovery cuts the power again while the server makes up for a power cut, and again: each time
// a state is found that may be found.
func TestPowerCutsDuringRecovery(t *testing.T) {
	row := flags.Row(t, 3, Size{Ordinary: 500, Short: 20})
	h := history(t, row, 2000)
	cuts := func(yield func(string) bool) {
		for i := 0; ; i++ {
			r := rand.New(rand.NewPCG(row.Seed(), uint64(i)))
			if !yield(fmt.Sprintf("%s; again=%d", h.Name(h.Trace.Random(r)), i)) {
				return
			}
		}
	}
	row.Each(cuts, func(name string) error {
		first, rest, _ := strings.Cut(name, "; again=")
		cut, err := h.cut(first)
		if err != nil {
			return err
		}
		var i uint64
		if _, err := fmt.Sscan(rest, &i); err != nil {
			return err
		}
		return again(h, cut, rand.New(rand.NewPCG(row.Seed(), i+1<<32)))
	})
}

// reams are what may be on a disk before it is reamed.
var reams = []struct {
	name string
	ops  int // 0 is an empty disk; -1 is none at all
}{{"nothing", -1}, {"an empty disk", 0}, {"a disk in use", 300}}

// TestPowerCutDuringReam finds what was there before, or the new disk, or that there is no disk; never
// one that can be opened and is not whole.
func TestPowerCutDuringReam(t *testing.T) {
	row := flags.Row(t, 3, Size{Ordinary: 200, Short: 60})
	fresh := &Disk{Oracle: gefstest.NewOracle()}
	histories := make(map[string]*History)
	var cases []string
	for _, ream := range reams {
		old := &Disk{Image: blkdev.NewMem(gefstest.SmallDisk), Oracle: gefstest.NewOracle()}
		if ream.ops >= 0 {
			var err error
			if old, err = NewDisk(0); err != nil {
				t.Fatal(err)
			}
			if old, err = old.After((&Source{R: row.Rand(3)}).Ops(old.Oracle, ream.ops)); err != nil {
				t.Fatal(err)
			}
		}
		disk := blkdev.NewCrash(old.Image)
		if err := gefs.Ream(disk, gefs.ReamOptions{User: gefstest.User}); err != nil {
			t.Fatal(err)
		}
		h := newHistory(old)
		h.after[old.Oracle.Digest()] = []int{0}
		h.after[fresh.Oracle.Digest()] = append(h.after[fresh.Oracle.Digest()], 1)
		h.Trace = disk.Trace()
		histories[ream.name] = h
		for cut := range WindowCuts(h.Trace, row.Seed()) {
			cases = append(cases, ream.name+": "+cut.String())
		}
		for cut := range h.Trace.Boundaries() {
			cases = append(cases, ream.name+": "+cut.String())
		}
	}
	t.Logf("%d cuts", len(cases))
	row.Each(Apart(cases), func(name string) error {
		ream, text, _ := strings.Cut(name, ": ")
		h := histories[ream]
		cut, err := blkdev.ParseCut(text)
		if err != nil || h == nil {
			return fmt.Errorf("bad case %q", name)
		}
		img, err := h.Trace.State(cut)
		if err != nil {
			return err
		}
		fs, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache})
		if errors.Is(err, blkfmt.ErrNotGefs) && cut.At < h.Trace.Len() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if err := fs.Close(); err != nil {
			return err
		}
		d, err := h.look(img, true)
		if err != nil {
			return err
		}
		if h.after[d] == nil {
			return errors.New("neither the old state nor the new one")
		}
		if last := h.after[d]; cut.At == h.Trace.Len() && cut.Full == cut.At && last[len(last)-1] != 1 {
			return errors.New("ream was over, and the old state is found")
		}
		return nil
	})
}

// A change is what must happen as a whole or not at all.
var wholes = []struct {
	name   string
	script func(s *Source, d *Disk) []Op
}{
	{"rollback", func(s *Source, d *Disk) []Op {
		ops := []Op{{Kind: Label, Path: "here"}, {Kind: Fsync}}
		ops = append(ops, s.Ops(after(d, ops), 30)...)
		ops = append(ops, Op{Kind: Label, Path: "there"})
		for i := range 6 { // to and fro
			to := []string{"here", "there"}[i%2]
			ops = append(ops, Op{Kind: Rollback, Path: to, To: fmt.Sprint("kept", i)}, Op{Kind: Fsync})
			ops = append(ops, Op{Kind: Create, Path: fmt.Sprint("new", i), Mode: 0644})
		}
		return append(ops, Op{Kind: Fsync})
	}},
	{"log compression", func(s *Source, d *Disk) []Op {
		var ops []Op
		for i := range 80 { // each commit makes the log longer
			p := fmt.Sprint("new", i)
			ops = append(ops, Op{Kind: Create, Path: p, Mode: 0644},
				Op{Kind: Write, Path: p, Len: 1000, Seed: uint64(i)}, Op{Kind: Fsync})
		}
		return ops
	}},
	{"snapshot delete", func(s *Source, d *Disk) []Op {
		// Snapshots between which much changes, so that there is much to be freed; deleted in any order, with
		// operations and commits while that is going on.
		var ops []Op
		var labels []string
		for i := range 5 {
			part := (&Source{R: s.R, N: i * 1000}).Ops(after(d, ops), 40)
			ops = append(ops, part...)
			p := fmt.Sprint("big", i)
			ops = append(ops, Op{Kind: Create, Path: p, Mode: 0644}, Op{Kind: Write, Path: p, Len: 1 << 20, Seed: uint64(i)})
			if i > 0 {
				ops = append(ops, Op{Kind: Remove, Path: fmt.Sprint("big", i-1)})
			}
			name := fmt.Sprint("snap", i)
			labels = append(labels, name)
			ops = append(ops, Op{Kind: Label, Path: name})
		}
		ops = append(ops, Op{Kind: Fsync})
		s.R.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
		for i, name := range labels {
			p := fmt.Sprint("new", i)
			ops = append(ops, Op{Kind: Unlabel, Path: name}, Op{Kind: Create, Path: p, Mode: 0644}, Op{Kind: Fsync},
				Op{Kind: Write, Path: p, Len: 3000, Seed: uint64(i)}, Op{Kind: Fsync})
		}
		return ops
	}},
	{"growing", func(s *Source, d *Disk) []Op {
		// Several times, between operations that are synced and that are not, and enlarged by hand before
		// some of them. The disk is nearly full at first; what is written spreads over the new arenas.
		var ops []Op
		for i := range 4 {
			ops = append(ops, (&Source{R: s.R, N: i * 1000}).Ops(after(d, ops), 10)...)
			if i%2 == 1 {
				ops = append(ops, Op{Kind: Enlarge, Len: 1 + s.R.IntN(60)}, Op{Kind: Create, Path: fmt.Sprint("enlarged", i), Mode: 0644}, Op{Kind: Fsync})
			}
			p := fmt.Sprint("big", i)
			ops = append(ops, Op{Kind: Create, Path: p, Mode: 0644}, Op{Kind: Grow, Len: 65 + s.R.IntN(10)},
				Op{Kind: Write, Path: p, Len: 1 << 20, Seed: uint64(i)}, Op{Kind: Fsync}, Op{Kind: Remove, Path: p})
		}
		return append(ops, Op{Kind: Fsync})
	}},
	{"discarding", func(s *Source, d *Disk) []Op {
		// Whatever becomes free is discarded at once, everything free now and then, while files come and go and
		// snapshots hold them.
		d.Discard = true
		var ops []Op
		for i := range 6 {
			p, name := fmt.Sprint("big", i), fmt.Sprint("snap", i)
			ops = append(ops, Op{Kind: Create, Path: p, Mode: 0644}, Op{Kind: Write, Path: p, Len: 1 << 20, Seed: uint64(i)},
				Op{Kind: Label, Path: name}, Op{Kind: Fsync})
			ops = append(ops, (&Source{R: s.R, N: i * 1000}).Ops(after(d, ops), 10)...)
			ops = append(ops, Op{Kind: Remove, Path: p}, Op{Kind: Fsync})
			if i%3 == 1 {
				ops = append(ops, Op{Kind: Trim})
			}
			ops = append(ops, Op{Kind: Unlabel, Path: name}, Op{Kind: Fsync})
		}
		return append(ops, Op{Kind: Trim}, Op{Kind: Create, Path: "last", Mode: 0644}, Op{Kind: Fsync})
	}},
}

// after returns what the oracle says after the operations.
func after(d *Disk, ops []Op) *gefstest.Oracle {
	o := d.Oracle.Clone()
	for _, op := range ops {
		if op.Fits(o) {
			op.Predict(o, d.Sec)
		}
	}
	return o
}

// TestPowerCutDuringLargeChanges cuts the power while what takes several steps is under way.
func TestPowerCutDuringLargeChanges(t *testing.T) {
	for i, whole := range wholes {
		t.Run(whole.name, func(t *testing.T) {
			row := flags.Row(t, 3, Size{Ordinary: 200, Short: 20})
			disk, err := NewDisk(1500)
			if err != nil {
				t.Fatal(err)
			}
			src := &Source{R: row.Rand(uint64(i))}
			if disk, err = disk.After(src.Ops(disk.Oracle, 200)); err != nil {
				t.Fatal(err)
			}
			src.N += 1000000
			h, err := RecordAlone(disk, whole.script(src, disk), row.Seed()%2 == 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations, %d events", len(h.Ops), h.Trace.Len())
			if whole.name == "discarding" && h.discards() < 20 {
				t.Errorf("only %d ranges were discarded", h.discards())
			}
			if whole.name == "log compression" && h.compressions() == 0 {
				t.Error("no log was written anew")
			}
			row.Each(h.names(WindowCuts(h.Trace, row.Seed())), h.Try)
		})
	}
}

// discards is how many ranges were discarded.
func (h *History) discards() (n int) {
	for i := range h.Trace.Len() {
		if h.Trace.Event(i).Kind == blkdev.EventDiscard {
			n++
		}
	}
	return n
}

// compressions is how often a log begins in another block than before.
func (h *History) compressions() (n int) {
	logs := make(map[int64]blkfmt.Addr)
	for i := range h.Trace.Len() {
		e := h.Trace.Event(i)
		if e.Kind != blkdev.EventWrite {
			continue
		}
		if hdr, err := blkfmt.DecodeArenaHdr(e.Data, blkfmt.Addr(e.Off)); err == nil {
			if old, ok := logs[e.Off]; ok && old != hdr.Log.Addr {
				n++
			}
			logs[e.Off] = hdr.Log.Addr
		}
	}
	return n
}
