package gefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
)

// ErrNoRepair says that a disk cannot be repaired without the risk of destroying something.
var ErrNoRepair = errors.New("not repaired")

// A Repaired says what Repair has done.
type Repaired struct {
	Freed   int64 `json:"freed"`   // blocks nobody owned, free now
	Copies  int   `json:"copies"`  // superblocks and arena headers that were made good from their other copy
	Rebuilt []int `json:"rebuilt"` // arenas whose free ranges were found again from all trees, and their logs written anew
	Counts  bool  `json:"counts"`  // labels and references of snapshots were counted anew
	Quotas  bool  `json:"quotas"`  // what was counted for quotas was wrong; who serves the disk next counts anew
}

// Any reports whether it has done anything.
func (r Repaired) Any() bool {
	return r.Freed > 0 || r.Copies > 0 || len(r.Rebuilt) > 0 || r.Counts || r.Quotas
}

// Repair does to the disk on dev what is safe, given what a check of it has just found: it opens it, which
// mends what it knows to mend, gives back the blocks that rep says nobody owns, and commits once. What
// trees or files have lost stays lost.
//
// It refuses with ErrNoRepair if the disk is not the one that was checked, or if who owns what contradicts
// itself: then to free a block may be to free somebody's. Nothing is written then. Other errors: those of
// Open and of the commit. opt is as for Open; nothing else happens on the disk meanwhile.
func Repair(ctx context.Context, dev blkdev.Device, opt Options, rep *check.Report) (done Repaired, err error) {
	if n := rep.Found[check.Fatal] - rep.ByKind[check.LogBad] - rep.ByKind[check.LogRange]; n > 0 {
		for _, p := range rep.Problems {
			if p.Severity == check.Fatal && p.Kind != check.LogBad && p.Kind != check.LogRange {
				return done, fmt.Errorf("%w: %s: %s; copy what can be read with salvage", ErrNoRepair, p.Kind, p.Text)
			}
		}
		return done, fmt.Errorf("%w: %d fatal problems; copy what can be read with salvage", ErrNoRepair, n)
	}
	opt.ReadOnly, opt.Schedule, opt.ScrubEvery, opt.CommitEvery = false, false, 0, 24*time.Hour
	opt.noCount = true
	opt.Permissive = true // a users file that is lost is no reason
	fs, err := Open(dev, opt)
	if err != nil {
		return done, err
	}
	defer func() {
		if cerr := fs.Close(); err == nil {
			err = cerr
		}
	}()
	if got := fs.st.Super().Qgen; got != rep.Qgen {
		return done, fmt.Errorf("%w: commit %d was checked, the disk is at %d", ErrNoRepair, rep.Qgen, got)
	}
	done.Rebuilt = fs.rebuilt
	done.Copies = len(fs.st.Rotten())
	fs.mutMu.Lock()
	done.Counts = fs.forest.Recounted()
	fs.mutMu.Unlock()
	if rep.Complete {
		if done.Freed, err = fs.freeLeaked(ctx, rep.Leaked); err != nil {
			return done, fmt.Errorf("give back what nobody owns: %w", err)
		}
	}
	if rep.ByKind[check.QuotaWrong] > 0 {
		if err := fs.distrustQuotas(); err != nil {
			return done, fmt.Errorf("forget what was counted for quotas: %w", err)
		}
		done.Quotas = true
	}
	return done, fs.Sync(ctx)
}

// leakBatch is the number of blocks that are given back under one hold of the mutation lock.
const leakBatch = 1024

// freeLeaked gives back the blocks in the list, but for those in arenas whose free ranges were found again:
// there they are free by that.
func (fs *FS) freeLeaked(ctx context.Context, list []check.Extent) (n int64, err error) {
	known := make(map[int]bool)
	for _, i := range fs.rebuilt {
		known[i] = true
	}
	list = slices.Clone(list)
	for len(list) > 0 {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		err := func() error {
			c, end := fs.Background()
			defer end()
			if err := fs.begin(c, 0); err != nil {
				return err
			}
			defer fs.end(c)
			for k := 0; k < leakBatch && len(list) > 0; k++ {
				e := &list[0]
				i, err := fs.st.Arenas().Index(e.Addr)
				if err != nil {
					return err
				}
				if !known[i] {
					if err := fs.st.Free(blkfmt.Bptr{Addr: e.Addr, Hash: blkfmt.NoHash, Gen: blkfmt.NoGen}); err != nil {
						return err
					}
					n++
				}
				e.Addr += blkfmt.BlkSize
				if e.Len -= blkfmt.BlkSize; e.Len <= 0 {
					list = list[1:]
				}
			}
			return nil
		}()
		if err != nil {
			fs.st.Latch(err) // half of it must not be committed
			return n, err
		}
	}
	return n, nil
}
