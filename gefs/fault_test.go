package gefs_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var (
	faultSeed = flag.Uint64("fault.seed", 0, "seed of the fault ring's trace and of the order of its faults; 0 takes one from the clock")
	faultTime = flag.Duration("fault.time", 0, "how long the fault ring goes on; 0 is 8 s for each of its two tests, 2 s with -short")
	faultOnly = flag.String("fault.only", "", "only faults whose names begin so; one, as a failure printed it, wants -fault.seed")
)

// ringOps is the length of the fault ring's trace.
const ringOps = 300

// A ring is a disk with something on it, and a trace of operations that goes on from there, always the
// same. Each run of the trace is disturbed in another place.
type ring struct {
	t      *testing.T
	seed   uint64
	image  *blkdev.Mem
	oracle *gefstest.Oracle
	sec    int64
	names  int

	hit, refused int // runs in which something was refused, and what was
}

func newRing(t *testing.T) *ring {
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -fault.seed=%d", seed)
	r := &ring{t: t, seed: seed, image: blkdev.NewMem(gefstest.SmallDisk), oracle: gefstest.NewOracle()}
	if err := gefs.Ream(r.image, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	tr := r.tracer(0)
	r.open(tr, r.image)
	for range 600 {
		tr.step()
	}
	if err := tr.fs.Close(); err != nil {
		t.Fatal(err)
	}
	r.oracle, r.sec, r.names = tr.oracle, tr.sec, tr.n
	return r
}

// tracer returns what makes the trace, on a copy of the oracle.
func (r *ring) tracer(stream uint64) *tracer {
	return &tracer{
		t: r.t, r: rand.New(rand.NewPCG(r.seed, stream)), clock: &clock{},
		oracle: r.oracle.Clone(), sec: r.sec, n: r.names,
	}
}

func (r *ring) open(tr *tracer, dev blkdev.Device) error {
	fs, err := gefs.Open(dev, gefs.Options{Cache: blkstore.MinCache, Now: tr.clock.now, CommitEvery: 10 * time.Millisecond})
	tr.fs = fs
	return err
}

// A course is one run of the trace: the states that the oracle went through, and which of them are
// surely on the disk.
type course struct {
	states []gefstest.Digest
	synced int // the first state that may be found after a crash
}

// allows reports whether the disk may be found in that state.
func (co *course) allows(d gefstest.Digest) bool {
	for _, s := range co.states[co.synced:] {
		if s == d {
			return true
		}
	}
	return false
}

// run makes the operations of the trace. Every failure is judged by refused, every fsync that is
// acknowledged by acked; an error from them ends it.
func (r *ring) run(tr *tracer, refused func(what string, err error) error, before func(), acked func() error) (*course, error) {
	co := &course{states: []gefstest.Digest{tr.oracle.Digest()}}
	noteStep = func(*tracer, string) { co.states = append(co.states, tr.oracle.Digest()) }
	defer func() { noteStep = func(*tracer, string) {} }()
	looks := rand.New(rand.NewPCG(r.seed, 3))
	for range ringOps {
		if err := r.look(tr, looks, refused); err != nil {
			return co, err
		}
		before()
		what, synced, err := tr.try()
		if err != nil {
			if err := refused(what, err); err != nil {
				return co, err
			}
			continue
		}
		co.states = append(co.states, tr.oracle.Digest())
		if synced {
			if err := acked(); err != nil {
				return co, err
			}
			co.synced = len(co.states) - 1
		}
	}
	return co, nil
}

// count keeps the statistics of a run.
func (r *ring) count(refused int) {
	if r.refused += refused; refused > 0 {
		r.hit++
	}
}

// look reads one of the files, which must be as the oracle says, or refused.
func (r *ring) look(tr *tracer, rng *rand.Rand, refused func(what string, err error) error) error {
	files := tr.oracle.Paths(false)
	if len(files) == 0 {
		return nil
	}
	p := files[rng.IntN(len(files))]
	c, end := tr.fs.Background()
	defer end()
	root, err := gefstest.Attach(tr.fs, c, gefstest.User, "")
	if err != nil {
		return refused("attach", err)
	}
	defer root.Clunk(c)
	f, err := gefstest.Walk(c, root, p)
	if err != nil {
		return refused("walk to "+p, err)
	}
	defer f.Clunk(c)
	data, err := gefstest.ReadAll(c, f)
	if err != nil {
		return refused("read "+p, err)
	}
	if !bytes.Equal(data, tr.oracle.Nodes[p].Data) {
		return fmt.Errorf("%s reads as %d bytes that are not what was written", p, len(data))
	}
	return nil
}

// judge says whether the disk, which nobody serves any more, is sound and in a state that is allowed.
func (r *ring) judge(co *course, img *blkdev.Mem) error {
	rep := gefstest.Check(r.t, img)
	if !rep.Clean(true) {
		return errors.New("the disk is not sound, or has leaks:\n" + gefstest.Text(rep))
	}
	fs, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache})
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	defer fs.Close()
	d, err := gefstest.DiskDigest(fs, gefstest.User)
	if err != nil {
		return fmt.Errorf("read again: %w", err)
	}
	if !co.allows(d) {
		return fmt.Errorf("found again, it is in none of the states %d to %d", co.synced, len(co.states)-1)
	}
	return nil
}

// around calls fn with one fault after the other, in any order, as long as there is time.
func (r *ring) around(faults []string, fn func(name string) error) {
	limit := *faultTime
	switch {
	case limit > 0:
	case testing.Short():
		limit = 2 * time.Second
	default:
		limit = 8 * time.Second
	}
	rand.New(rand.NewPCG(r.seed, 7)).Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	faults = slices.DeleteFunc(faults, func(name string) bool { return !strings.HasPrefix(name, *faultOnly) })
	end := time.Now().Add(limit)
	done := 0
	for _, name := range faults {
		if time.Now().After(end) {
			break
		}
		if err := fn(name); err != nil {
			r.t.Errorf("%s: %v\nagain: -fault.seed=%d -fault.only=%q", name, err, r.seed, name)
			if r.t.Failed() && done > 0 {
				return
			}
		}
		done++
	}
	r.t.Logf("%d of %d faults; in %d runs something was refused, %d operations in all", done, len(faults), r.hit, r.refused)
	if r.hit == 0 && done > 20 {
		r.t.Error("nothing was ever refused")
	}
}

// TestFaultRing fails one operation of the device, or all from one on, at every place of a trace.
// Whatever it is: what is refused has no effect, nothing that may not be on the disk is acknowledged by
// an fsync, everything can be read, and the disk is found in a state that it may have.
func TestFaultRing(t *testing.T) {
	r := newRing(t)
	tr := r.tracer(1)
	dev := blkdev.NewFault(r.image.Clone())
	if err := r.open(tr, dev); err != nil {
		t.Fatal(err)
	}
	never := func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
	if _, err := r.run(tr, never, func() {}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := tr.fs.Close(); err != nil {
		t.Fatal(err)
	}
	var faults []string
	for op, kinds := range map[blkdev.Op][]string{
		blkdev.OpRead: {"one", "all"}, blkdev.OpWrite: {"one", "short", "all"}, blkdev.OpSync: {"one", "all"},
	} {
		n := dev.Count(op)
		t.Logf("%d of kind %v", n, op)
		for i := range n {
			for _, k := range kinds {
				faults = append(faults, fmt.Sprintf("%s %v %d", k, op, i+1))
			}
		}
	}
	r.around(faults, r.fault)
}

// fault runs the trace with the fault that the name describes.
func (r *ring) fault(name string) error {
	var kind, opName string
	var nth int
	if _, err := fmt.Sscan(name, &kind, &opName, &nth); err != nil {
		return err
	}
	op := map[string]blkdev.Op{"read": blkdev.OpRead, "write": blkdev.OpWrite, "sync": blkdev.OpSync}[opName]
	rule := blkdev.Rule{Op: op, Nth: nth}
	switch kind {
	case "short":
		rule.Short = 1 + nth*4099%40000
	case "all":
		rule.Forever = true
	}
	img := r.image.Clone()
	dev := blkdev.NewFault(img)
	dev.Fail(rule)
	fired := func() bool { return dev.Count(op) >= nth }
	tr := r.tracer(1)
	if err := r.open(tr, dev); err != nil {
		if !fired() {
			return fmt.Errorf("open: %w", err)
		}
		return r.judge(&course{states: []gefstest.Digest{tr.oracle.Digest()}}, img)
	}
	closed := false
	defer func() {
		if !closed {
			tr.fs.Close()
		}
	}()
	refused := 0
	var first string
	wasFired := false
	co, err := r.run(tr,
		func(what string, err error) error {
			if refused++; refused == 1 {
				first = fmt.Sprintf("%s: %v", what, err)
			}
			switch {
			case !fired():
				return fmt.Errorf("%s: %w", what, err)
			case op != blkdev.OpRead && (strings.HasPrefix(what, "read ") || strings.HasPrefix(what, "walk ")):
				return fmt.Errorf("a fault of another kind, and %s: %w", what, err)
			case op == blkdev.OpRead && !rule.Forever && refused > 1 && tr.fs.Store().Err() == nil:
				return fmt.Errorf("one read has failed, and so does %s: %w", what, err)
			}
			return nil
		},
		func() { wasFired = fired() },
		func() error {
			if wasFired && op != blkdev.OpRead {
				return errors.New("an fsync after the fault is acknowledged")
			}
			return nil
		})
	if err != nil {
		return err
	}
	r.count(refused)
	if op == blkdev.OpRead {
		dev.Heal()
	}
	d, err := gefstest.DiskDigest(tr.fs, gefstest.User)
	if err != nil {
		return fmt.Errorf("read while it is served: %w", err)
	}
	if d != co.states[len(co.states)-1] {
		return fmt.Errorf("what is refused has left a trace; the first was %s", first)
	}
	broken := tr.fs.Store().Err()
	if broken == nil && refused > 0 && op != blkdev.OpRead {
		return fmt.Errorf("the file system takes changes after %s", first)
	}
	err = tr.fs.Close()
	closed = true
	switch {
	case err == nil && broken != nil:
		return errors.New("it closes as if nothing had happened")
	case err != nil && !fired():
		return fmt.Errorf("close: %w", err)
	case err == nil:
		co.synced = len(co.states) - 1
	}
	return r.judge(co, img)
}

// TestDeletionThatCannotReadChangesNothing fails each of the reads that the deletion of a label needs.
// The label stays, and the file system goes on.
func TestDeletionThatCannotReadChangesNothing(t *testing.T) {
	mem := gefstest.Ream(t)
	w := newWorldOn(t, mem, gefs.Options{})
	s := w.as("glenda", "")
	for round := range 4 { // deadlists of several births
		for i := range 40 {
			name := fmt.Sprint("f", i)
			if round > 0 {
				s.remove(name)
			}
			s.put(name, 0644, strings.Repeat(fmt.Sprint(round), 20000))
		}
		w.snapshot("main", fmt.Sprint("label", round), false)
		w.sync()
	}
	w.snapshot("main", "fork", true)
	fork := w.as("glenda", "fork")
	for i := range 40 {
		fork.remove(fmt.Sprint("f", i))
		fork.put(fmt.Sprint("g", i), 0644, strings.Repeat("fork", 20000))
	}
	w.stop()
	for _, label := range []string{"label1", "fork"} {
		reads := 0
		for deletionFails(t, mem.Clone(), label, reads+1) {
			reads++
		}
		t.Logf("the deletion of %s reads %d blocks", label, reads)
		if reads == 0 {
			t.Errorf("the deletion of %s reads nothing", label)
		}
	}
}

// deletionFails deletes the label, but for one read that fails, and reports whether that was so.
func deletionFails(t *testing.T, img *blkdev.Mem, label string, nth int) bool {
	dev := blkdev.NewFault(img)
	w := &world{t: t, dev: dev, opt: gefs.Options{Cache: blkstore.MinCache}}
	w.start()
	s := w.as("glenda", "")
	labels := len(w.fs.Forest().Labels())
	c, end := w.fs.Background()
	dev.Fail(blkdev.Rule{Op: blkdev.OpRead, Nth: nth})
	err := w.fs.DeleteLabel(c, label)
	dev.Heal()
	if err != nil {
		if got := len(w.fs.Forest().Labels()); got != labels {
			t.Fatalf("%s, read %d: after %v there are %d labels, there were %d", label, nth, err, got, labels)
		}
		if err := w.fs.DeleteLabel(c, label); err != nil {
			t.Fatalf("%s, read %d: once more: %v", label, nth, err)
		}
	}
	end()
	s.put("new", 0644, "new")
	w.stop()
	gefstest.CheckStrict(t, img)
	return err != nil
}

// TestFullRing runs the trace on a disk on which there are n blocks left, for many n. What needs space
// is refused with no effect; what gives space back is done; all else goes on.
func TestFullRing(t *testing.T) {
	r := newRing(t)
	tr := r.tracer(0)
	if err := r.open(tr, r.image); err != nil {
		t.Fatal(err)
	}
	if err := r.leave(tr, 1600); err != nil {
		t.Fatal(err)
	}
	if err := tr.fs.Close(); err != nil {
		t.Fatal(err)
	}
	var faults []string
	for n := range 400 {
		faults = append(faults, fmt.Sprintf("left %d", n))
	}
	r.around(faults, r.full)
}

func (r *ring) full(name string) error {
	var left int
	if _, err := fmt.Sscanf(name, "left %d", &left); err != nil {
		return err
	}
	img := r.image.Clone()
	tr := r.tracer(1)
	if err := r.open(tr, img); err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			tr.fs.Close()
		}
	}()
	if err := r.leave(tr, left); err != nil {
		return err
	}
	refused := 0
	co, err := r.run(tr,
		func(what string, err error) error {
			refused++
			if !errors.Is(err, arena.ErrFull) && !strings.Contains(err.Error(), "file system full") {
				return fmt.Errorf("%s: %w", what, err)
			}
			for _, gives := range []string{"remove", "rmdir", "unlabel", "fsync", "open", "read", "walk"} {
				if strings.HasPrefix(what, gives) {
					return fmt.Errorf("%s, which gives space back: %w", what, err)
				}
			}
			return nil
		}, func() {}, func() error { return nil })
	if err != nil {
		return err
	}
	r.count(refused)
	if err := tr.fs.Store().Err(); err != nil {
		return fmt.Errorf("the full disk has become read-only: %w", err)
	}
	d, err := gefstest.DiskDigest(tr.fs, gefstest.User)
	if err != nil {
		return err
	}
	if d != co.states[len(co.states)-1] {
		return errors.New("what is refused has left a trace")
	}
	err = tr.fs.Close()
	closed = true
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	co.synced = len(co.states) - 1
	return r.judge(co, img)
}

// leave takes room away until there are that many blocks left, in the tree adm, where the oracle does
// not look.
func (r *ring) leave(tr *tracer, left int) error {
	c, end := tr.fs.Background()
	defer end()
	root, err := gefstest.Attach(tr.fs, c, gefstest.User, "adm")
	if err != nil {
		return err
	}
	defer root.Clunk(c)
	f, err := openAt(c, root, "filler", ninep.OWRITE)
	if err != nil {
		if f, err = createAt(c, root, "filler", 0644, ninep.OWRITE); err != nil {
			return err
		}
	}
	defer f.Clunk(c)
	var st ninep.Dir
	if err := f.Stat(c, &st); err != nil {
		return err
	}
	const most = 64
	p := make([]byte, most*16384)
	for off := st.Length; ; {
		n := int(tr.fs.Store().Arenas().Room()) - left
		if n <= 0 {
			return nil
		}
		// A write takes some blocks more than its data, and gives back others later.
		n = min(max(n/2, 1), most) * 16384
		switch _, err := f.Write(c, p[:n], off); {
		case errors.Is(err, ninep.Error("file system full")):
			return nil
		case err != nil:
			return err
		}
		off += uint64(n)
	}
}
