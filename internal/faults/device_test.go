package faults

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// A course is one run of a script while something is wrong: the states that the oracle went through,
// and the first of them that may be found on the disk afterwards.
type course struct {
	*Runner
	states  []gefstest.Digest
	synced  int
	refused int
	first   error // that was refused
}

// begin serves dev, which has what the disk has.
func (d *Disk) begin(dev blkdev.Device) (*course, error) {
	co := &course{Runner: d.Runner(), states: []gefstest.Digest{d.Oracle.Digest()}}
	return co, co.Open(dev, false)
}

// run does the operations; between them it reads files. Every error is judged by refused, whose first word is what was
// done; every fsync is told to acked. An error from them ends it.
func (co *course) run(ops []Op, looks *rand.Rand, refused func(what string, err error) error, acked func(before bool) error, fired func() bool) error {
	refuse := func(what string, err error) error {
		err = fmt.Errorf("%s: %w", what, err)
		if co.refused++; co.refused == 1 {
			co.first = err
		}
		return refused(what, err)
	}
	for i, op := range ops {
		if i%4 == 0 {
			if what, err := co.look(looks); err != nil {
				if what == "" {
					return err
				}
				if err := refuse(what, err); err != nil {
					return err
				}
			}
		}
		if !op.Fits(co.Oracle) {
			continue
		}
		before := fired()
		if err := co.Do(op); err != nil {
			if err := refuse(op.String(), err); err != nil {
				return err
			}
			continue
		}
		co.states = append(co.states, co.Oracle.Digest())
		if op.Kind == Fsync {
			if err := acked(before); err != nil {
				return err
			}
			co.synced = len(co.states) - 1
		}
	}
	return nil
}

// look reads one of the files, which must be as the oracle says. If it cannot be read, what says what that was.
func (co *course) look(r *rand.Rand) (what string, err error) {
	files := co.Oracle.Paths(false)
	if len(files) == 0 {
		return "", nil
	}
	p := pick(r, files)
	c, end := co.FS.Background()
	defer end()
	root, err := gefstest.Attach(co.FS, c, gefstest.User, "")
	if err != nil {
		return "attach", err
	}
	defer root.Clunk(c)
	f, err := gefstest.Walk(c, root, p)
	if err != nil {
		return "walk " + p, err
	}
	defer f.Clunk(c)
	data, err := gefstest.ReadAll(c, f)
	if err != nil {
		return "read " + p, err
	}
	if !bytes.Equal(data, co.Oracle.Nodes[p].Data) {
		return "", fmt.Errorf("%s reads as %d bytes that are not what was written", p, len(data))
	}
	return "", nil
}

// reading reports whether it is something that only reads.
func reading(what string) bool {
	word, _, _ := strings.Cut(what, " ")
	return word == "read" || word == "walk" || word == "attach"
}

// served says whether the file system, still served, is as the oracle has it.
func (co *course) served() error {
	d, err := gefstest.DiskDigest(co.FS, gefstest.User)
	if err != nil {
		return fmt.Errorf("read while it is served: %w", err)
	}
	if d != co.Oracle.Digest() {
		return fmt.Errorf("what is refused has left a trace; the first was %v", co.first)
	}
	return nil
}

// judge says whether the disk, which nobody serves any more, is sound and in a state that is allowed.
func (co *course) judge(d *Disk, img *blkdev.Mem) error {
	if err := d.Sound(img); err != nil {
		return err
	}
	fs, err := gefs.Open(img, gefs.Options{})
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	got, err := gefstest.DiskDigest(fs, gefstest.User)
	if err = errors.Join(err, fs.Close()); err != nil {
		return fmt.Errorf("read again: %w", err)
	}
	for _, s := range co.states[co.synced:] {
		if s == got {
			return nil
		}
	}
	return fmt.Errorf("found again, it is in none of the states %d to %d", co.synced, len(co.states)-1)
}

// deviceOps is how many operations are in the trace in which the device fails.
const deviceOps = 500

var faultOps = []blkdev.Op{blkdev.OpRead, blkdev.OpWrite, blkdev.OpSync}

// deviceFault is the rule of that name, such as "all write 17": from the 17th write on.
func deviceFault(name string) (r blkdev.Rule, err error) {
	var kind, op string
	if _, err := fmt.Sscan(name, &kind, &op, &r.Nth); err != nil {
		return r, fmt.Errorf("bad case %q: %w", name, err)
	}
	for _, o := range faultOps {
		if o.String() == op {
			r.Op = o
		}
	}
	switch kind {
	case "one":
		r.Err = syscall.EIO
	case "all":
		r.Err, r.Forever = syscall.EIO, true
	case "short":
		r.Short = 1 + r.Nth*4099%40000
	case "interrupted":
		r.Err = syscall.EINTR
	default:
		r.Op = 0
	}
	if r.Op == 0 {
		return r, fmt.Errorf("bad case %q", name)
	}
	return r, nil
}

// TestDeviceFailsAnywhere fails one operation of the device, or all from one on, at every place of a trace. What
// is refused has no effect, no fsync is acknowledged for what may not be on the disk, everything can be read,
// and the disk is found in a state that it may have.
func TestDeviceFailsAnywhere(t *testing.T) {
	row := flags.Row(t, 7, Size{Ordinary: 1300, Short: 40})
	disk, err := NewDisk(0)
	if err != nil {
		t.Fatal(err)
	}
	src := &Source{R: row.Rand(1)}
	if disk, err = disk.After(src.Ops(disk.Oracle, 200)); err != nil {
		t.Fatal(err)
	}
	n := deviceOps
	switch {
	case row.Want() == math.MaxInt:
		n *= 20
	case testing.Short():
		n /= 5
	}
	ops := src.Ops(disk.Oracle, n)

	// What there is to fail, when nothing fails.
	dev := blkdev.NewFault(disk.Image.Clone())
	co, err := disk.begin(dev)
	if err != nil {
		t.Fatal(err)
	}
	err = co.run(ops, row.Rand(3), func(_ string, err error) error { return err },
		func(bool) error { return nil }, func() bool { return false })
	if err = errors.Join(err, co.Close()); err != nil {
		t.Fatal(err)
	}
	var often, seldom []string
	for _, op := range faultOps {
		n := dev.Count(op)
		t.Logf("%d of kind %v", n, op)
		for i := range n {
			first, second := "one", "all"
			if (uint64(i)+row.Seed())%2 == 0 {
				first, second = second, first
			}
			often = append(often, fmt.Sprintf("%s %v %d", first, op, i+1))
			seldom = append(seldom, fmt.Sprintf("%s %v %d", second, op, i+1))
			if op != blkdev.OpSync {
				seldom = append(seldom, fmt.Sprintf("short %v %d", op, i+1))
			}
			seldom = append(seldom, fmt.Sprintf("interrupted %v %d", op, i+1))
		}
	}
	row.Each(func(yield func(string) bool) {
		for _, list := range [][]string{often, seldom} {
			for name := range Apart(list) {
				if !yield(name) {
					return
				}
			}
		}
	}, func(name string) error { return disk.failing(name, ops, row.Rand(3)) })
}

// failing does the operations while the device fails in the way of that name.
func (d *Disk) failing(name string, ops []Op, looks *rand.Rand) error {
	rule, err := deviceFault(name)
	if err != nil {
		return err
	}
	img := d.Image.Clone()
	dev := blkdev.NewFault(img)
	dev.Fail(rule)
	fired := func() bool { return dev.Count(rule.Op) >= rule.Nth }
	changes := rule.Op != blkdev.OpRead
	co, err := d.begin(dev)
	if err != nil {
		if !fired() {
			return fmt.Errorf("open: %w", err)
		}
		return co.judge(d, img)
	}
	defer co.Close()
	err = co.run(ops, looks, func(what string, err error) error {
		switch {
		case !fired():
			return err
		case changes && reading(what):
			return fmt.Errorf("another kind of fault, and %w", err)
		case !changes && !rule.Forever && co.refused > 1 && co.FS.Store().Err() == nil:
			return fmt.Errorf("one read has failed, and so does %w", err)
		}
		return nil
	}, func(before bool) error {
		if before && changes {
			return errors.New("an fsync after the fault is acknowledged")
		}
		return nil
	}, fired)
	if err != nil {
		return err
	}
	if !changes {
		dev.Heal()
	}
	if err := co.served(); err != nil {
		return err
	}
	broken := co.FS.Store().Err()
	if broken == nil && co.refused > 0 && changes {
		return fmt.Errorf("the file system takes changes after %w", co.first)
	}
	err = co.Close()
	switch {
	case err == nil && broken != nil:
		return errors.New("it closes as if nothing had happened")
	case err != nil && !fired():
		return fmt.Errorf("close: %w", err)
	case err == nil:
		co.synced = len(co.states) - 1
	}
	return co.judge(d, img)
}
