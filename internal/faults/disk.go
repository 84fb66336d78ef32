package faults

import (
	"context"
	"errors"
	"fmt"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// A Disk is where a script of operations begins, and what an oracle says of it.
//
// To get full without much to read for the checker, a disk may have blocks that are allocated and belong to
// nobody: leaks, which stay what they are. Any other leak is one that the faults have made.
type Disk struct {
	Image  *blkdev.Mem // to be cloned, not to be written to
	Oracle *gefstest.Oracle
	Sec    int64 // time of the last operation

	Discard bool // what becomes free is discarded in the background

	leaked int64 // blocks
}

// NewDisk reams a disk on which left blocks are left, or all of them if that is 0.
func NewDisk(left int) (*Disk, error) {
	d := &Disk{Image: blkdev.NewMem(gefstest.SmallDisk), Oracle: gefstest.NewOracle()}
	if err := gefs.Ream(d.Image, gefs.ReamOptions{User: gefstest.User}); err != nil {
		return nil, err
	}
	if left == 0 {
		return d, nil
	}
	return d, d.lose(left)
}

// lose allocates blocks for nobody until there are left.
func (d *Disk) lose(left int) error {
	r := d.Runner()
	if err := r.Open(d.Image, false); err != nil {
		return err
	}
	if _, err := Lose(r.FS, left); err != nil {
		return errors.Join(err, r.Close())
	}
	// Something has to change, or nothing is committed.
	for _, op := range []Op{{Kind: Create, Path: "first", Mode: 0644}, {Kind: Fsync}} {
		if err := r.Do(op); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", op, err), r.Close())
		}
	}
	return d.settle(r)
}

// Lose allocates blocks for nobody until there are not more than left, and returns how many.
func Lose(fs *gefs.FS, left int) (n int64, err error) {
	for arenas := fs.Store().Arenas(); arenas.Room() > int64(left); n++ {
		if _, err := arenas.Alloc(arena.Meta, false); err != nil {
			return n, err
		}
	}
	return n, nil
}

// settle ends the service of d.Image by r, and takes over what r knows of it.
func (d *Disk) settle(r *Runner) error {
	if err := r.Close(); err != nil {
		return err
	}
	d.Oracle, d.Sec = r.Oracle, r.Sec
	rep, err := report(new(check.Checker), d.Image)
	if err != nil {
		return err
	}
	if !rep.Clean(false) {
		return fmt.Errorf("the disk is not sound before any fault:\n%s", gefstest.Text(rep))
	}
	d.leaked = count(rep.Leaked)
	return nil
}

// Runner returns a runner that goes on from here; it is not open.
func (d *Disk) Runner() *Runner {
	return &Runner{Oracle: d.Oracle.Clone(), Sec: d.Sec, Discard: d.Discard}
}

// After returns the disk on which these operations have been done, those that still fit.
func (d *Disk) After(ops []Op) (*Disk, error) {
	e := &Disk{Image: d.Image.Clone(), leaked: d.leaked}
	r := d.Runner()
	if err := r.Open(e.Image, false); err != nil {
		return nil, err
	}
	for _, op := range ops {
		if !op.Fits(r.Oracle) {
			continue
		}
		if err := r.Do(op); err != nil && !IsFull(err) {
			return nil, errors.Join(fmt.Errorf("%v: %w", op, err), r.Close())
		}
	}
	return e, e.settle(r)
}

// Sound checks a disk that nobody serves any more: no defects, and no leaks but those that the disk was
// made with.
func (d *Disk) Sound(img *blkdev.Mem) error {
	_, err := d.sound(new(check.Checker), img)
	return err
}

// unfinished says what a server goes on with as soon as it has opened the disk.
type unfinished struct {
	deletions bool // of snapshots
	clearing  bool // of files that were truncated or removed
	counting  bool // of files for quotas
}

// sound is Sound, and also says what is unfinished.
func (d *Disk) sound(chk *check.Checker, img *blkdev.Mem) (left unfinished, err error) {
	rep, err := report(chk, img)
	if err != nil {
		return left, err
	}
	leaks := rep.Found[check.Leak] - rep.ByKind[check.Leaked]
	if !rep.Clean(false) || leaks != 0 || count(rep.Leaked) != d.leaked {
		return left, fmt.Errorf("check finds, where %d blocks belonged to nobody before:\n%s", d.leaked, gefstest.Text(rep))
	}
	left.deletions = rep.ByKind[check.SnapStale]+rep.ByKind[check.DeadWaiting] > 0
	left.clearing = rep.ByKind[check.Clearing] > 0
	left.counting = rep.ByKind[check.QuotaStale] > 0
	return left, nil
}

// count returns how many blocks the extents have.
func count(list []check.Extent) (blocks int64) {
	for _, e := range list {
		blocks += e.Len / blkfmt.BlkSize
	}
	return blocks
}

func report(chk *check.Checker, img *blkdev.Mem) (*check.Report, error) {
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	rep, err := chk.Run(context.Background(), img, size, check.Options{})
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return rep, nil
}
