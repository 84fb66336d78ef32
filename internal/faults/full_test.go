package faults

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"gefs9p/internal/gefstest"
)

// numbered yields cases with numbers from 0 on.
func numbered(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 0; yield(fmt.Sprintf("%s %d", name, i)); i++ {
		}
	}
}

// fullEvery is how many blocks may be left when the script of a full disk begins: beyond that none of
// it is refused.
const fullEvery = 1000

// TestDiskFullAtEveryAllocation does a script on a disk on which n blocks are left, for every n. What needs space
// is told so and has no effect; what gives space back, and what only reads, is done.
func TestDiskFullAtEveryAllocation(t *testing.T) {
	row := flags.Row(t, 8, Size{Ordinary: fullEvery, Short: 20})
	disk, err := NewDisk(fullEvery + 500)
	if err != nil {
		t.Fatal(err)
	}
	src := &Source{R: row.Rand(1)}
	if disk, err = disk.After(src.Ops(disk.Oracle, 200)); err != nil {
		t.Fatal(err)
	}
	var cases []string
	for i := range fullEvery {
		cases = append(cases, fmt.Sprintf("left %d", i))
	}
	rounds := func(yield func(string) bool) {
		for round := 0; ; round++ { // another script each time
			for name := range Apart(cases) {
				if !yield(fmt.Sprintf("%s script %d", name, round)) {
					return
				}
			}
		}
	}
	row.Each(rounds, func(name string) error {
		var left, round int
		if _, err := fmt.Sscanf(name, "left %d script %d", &left, &round); err != nil {
			return fmt.Errorf("bad case %q: %w", name, err)
		}
		// The names of the script must not be those of what there is.
		src := &Source{R: row.Rand(uint64(100 + round)), N: 1000000}
		return disk.full(left, src.Ops(disk.Oracle, 60), row)
	})
}

// full does the operations with so many blocks left.
func (d *Disk) full(left int, ops []Op, row *Row) error {
	img := d.Image.Clone()
	co, err := d.begin(img)
	if err != nil {
		return err
	}
	defer co.Close()
	lost, err := Lose(co.FS, left)
	if err != nil {
		return err
	}
	refused := func(what string, err error) error {
		switch {
		case !IsFull(err):
			return err
		case reading(what) || what == "must":
			return fmt.Errorf("it needs no space: %w", err)
		}
		return nil
	}
	acked := func(bool) error { return nil }
	fired := func() bool { return true }
	for i, op := range ops {
		if err := co.run(ops[i:i+1], row.Rand(3), func(what string, err error) error {
			if givesBack(co.Oracle, op) {
				return fmt.Errorf("it gives space back: %w", err)
			}
			return refused(what, err)
		}, acked, fired); err != nil {
			return err
		}
	}
	if err := co.FS.Err(); err != nil {
		return fmt.Errorf("the full disk takes no changes: %w", err)
	}
	if err := co.served(); err != nil {
		return err
	}
	// Everything can be taken away from a full disk.
	if err := co.run(clearing(co.Oracle), row.Rand(4), func(what string, err error) error { return err }, acked, fired); err != nil {
		return fmt.Errorf("clearing the disk: %w", err)
	}
	if err := co.served(); err != nil {
		return err
	}
	if err := co.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	co.synced = len(co.states) - 1
	return co.judge(&Disk{leaked: d.leaked + lost}, img)
}

// givesBack reports whether the operation must be done on a full disk.
func givesBack(o *gefstest.Oracle, op Op) bool {
	switch op.Kind {
	case Remove, Unlabel, Fsync:
		return true
	case Truncate:
		return op.Len <= len(o.Nodes[op.Path].Data)
	}
	return false
}

// clearing is a script that cuts all files short, deletes all snapshots, and removes all files.
func clearing(o *gefstest.Oracle) (ops []Op) {
	files := o.Paths(false)
	for _, p := range files {
		ops = append(ops, Op{Kind: Truncate, Path: p, Len: len(o.Nodes[p].Data) / 3})
	}
	ops = append(ops, Op{Kind: Fsync})
	for _, name := range slices.Sorted(maps.Keys(o.Labels)) {
		ops = append(ops, Op{Kind: Unlabel, Path: name})
	}
	for _, p := range files {
		ops = append(ops, Op{Kind: Remove, Path: p})
	}
	return append(ops, Op{Kind: Fsync})
}

// TestDiskFilledAndClearedAgain fills a disk, with snapshots, until nothing fits, and takes everything away
// again, cycle after cycle: none leaks a block, and as much fits into the last as into the first.
func TestDiskFilledAndClearedAgain(t *testing.T) {
	if raceEnabled && testing.Short() {
		t.Skip("one client and no parallelism, and minutes with the race detector")
	}
	row := flags.Row(t, 9, Size{Ordinary: 3, Short: 1})
	row.Workers = 1
	disk, err := NewDisk(0)
	if err != nil {
		t.Fatal(err)
	}
	first, done := 0, -1
	row.Each(numbered("cycle"), func(name string) error {
		var last int
		if _, err := fmt.Sscanf(name, "cycle %d", &last); err != nil {
			return fmt.Errorf("bad case %q: %w", name, err)
		}
		for done < last { // a cycle that is tried again needs those before it
			done++
			n, err := disk.fillAndClear(row, done)
			if err != nil {
				return fmt.Errorf("cycle %d: %w", done, err)
			}
			if done == 0 {
				first = n
			}
			if n < first-2 {
				return fmt.Errorf("cycle %d: the disk is full after %d files, it was after %d", done, n, first)
			}
		}
		return nil
	})
}

// fillAndClear is one cycle; it returns how many files of a megabyte fitted on the empty disk.
func (d *Disk) fillAndClear(row *Row, cycle int) (n int, err error) {
	r := d.Runner()
	if err := r.Open(d.Image, cycle%2 == 0); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rng := row.Rand(uint64(100 + cycle))
	names := 0
	fill := func() (files int, err error) {
		for ; ; files++ {
			p := fmt.Sprintf("big%d", names)
			names++
			for _, op := range []Op{{Kind: Create, Path: p, Mode: 0644}, {Kind: Write, Path: p, Len: 1 << 20, Seed: uint64(names)}} {
				if err := r.Do(op); IsFull(err) {
					return files, nil
				} else if err != nil {
					return files, fmt.Errorf("%v: %w", op, err)
				}
			}
		}
	}
	do := func(ops ...Op) error {
		for _, op := range ops {
			if err := r.Do(op); err != nil {
				return fmt.Errorf("%v: %w", op, err)
			}
		}
		return nil
	}
	if n, err = fill(); err != nil {
		return n, err
	}
	// A third at a time goes, stays in a snapshot, and is written again until the disk is full of snapshots.
	for round := range 3 {
		files := r.Oracle.Paths(false)
		rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		third := files[:(len(files)+2)/3]
		for i, p := range third {
			op := Op{Kind: Remove, Path: p}
			if i%4 == 3 {
				op = Op{Kind: Truncate, Path: p, Len: len(r.Oracle.Nodes[p].Data) / 2}
			}
			if err := do(op); err != nil {
				return n, err
			}
		}
		if err := do(Op{Kind: Fsync}, Op{Kind: Label, Path: fmt.Sprint("round", round)}); err != nil {
			return n, err
		}
		if _, err := fill(); err != nil {
			return n, err
		}
	}
	ops := clearing(r.Oracle)
	if rng.IntN(2) == 0 { // snapshots first, or last
		slices.SortStableFunc(ops, func(a, b Op) int {
			return b2i(a.Kind == Unlabel) - b2i(b.Kind == Unlabel)
		})
	}
	if err := do(ops...); err != nil {
		return n, err
	}
	// The disk is checked as it is, and gone on with.
	return n, d.settle(r)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
