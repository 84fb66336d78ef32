package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// deviceChunk is how much W1's ceiling writes at a time if the server's requests are not larger.
const deviceChunk = 32 << 10

// device measures, without 9P, the bytes of the workload id in a file of Options.DeviceDir, which it
// removes again: for W1 all of them and one fsync, for W10 and W11 an fsync after each
// write. For a cold W6 it reads.
func (b *run) device(ctx context.Context, id string) (res Result, err error) {
	f, err := os.CreateTemp(b.opts.DeviceDir, "gefs9p-bench-*")
	if err != nil {
		return Result{}, err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	if id == "W6" {
		return b.deviceReads(ctx, f)
	}
	var lat hist
	write := func(p []byte, off int64, sync bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := time.Now()
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		if sync {
			if err := fdatasync(f); err != nil {
				return fmt.Errorf("fsync: %w", err)
			}
		}
		res.Ops++
		res.Bytes += int64(len(p))
		lat.add(time.Since(t))
		return nil
	}
	size := &b.opts.Sizes
	began := time.Now()
	if id == "W1" {
		for off := int64(0); off < size.FileSize; off += deviceChunk {
			n := int(min(deviceChunk, size.FileSize-off))
			if err := write(b.pat.at(original, off, n), off, false); err != nil {
				return res, err
			}
		}
		if err := fdatasync(f); err != nil {
			return res, fmt.Errorf("fsync: %w", err)
		}
	} else {
		for i := range size.Syncs {
			off := int64(i%syncTurn) * syncSize
			if err := write(b.pat.at(original, off, syncSize), off, true); err != nil {
				return res, err
			}
		}
	}
	res.Elapsed = time.Since(began)
	res.setLatency(&lat)
	if id == "W1" {
		res.setRate(res.Bytes, true)
	} else {
		res.setRate(res.Ops, false)
	}
	return res, nil
}

// deviceReads measures random reads of blocks in a file as large as W6's, which is written to f first and
// dropped from the system's cache: as many at a time as W6 has under way.
func (b *run) deviceReads(ctx context.Context, f *os.File) (res Result, err error) {
	size := b.opts.Sizes.FileSize
	for off := int64(0); off < size; off += deviceChunk {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if _, err := f.WriteAt(b.pat.at(original, off, int(min(deviceChunk, size-off))), off); err != nil {
			return res, err
		}
	}
	if err := fdatasync(f); err != nil {
		return res, fmt.Errorf("fsync: %w", err)
	}
	if err := dropCache(f); err != nil {
		return res, fmt.Errorf("drop the file from the cache: %w", err)
	}
	w := b.ours.readRandom()
	readers := cmp.Or(b.opts.Conns, w.conns) * cmp.Or(b.opts.Depth, w.depth)
	lats := make([]hist, readers)
	errs := make([]error, readers)
	var left atomic.Int64
	left.Store(int64(b.opts.Sizes.Reads))
	var wg sync.WaitGroup
	began := time.Now()
	for i := range readers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(b.opts.Seed, uint64(i)))
			p := make([]byte, blockSize)
			for left.Add(-1) >= 0 && errs[i] == nil && ctx.Err() == nil {
				t := time.Now()
				_, errs[i] = f.ReadAt(p, rng.Int64N(size/blockSize)*blockSize)
				lats[i].add(time.Since(t))
			}
		})
	}
	wg.Wait()
	res.Elapsed = time.Since(began)
	var lat hist
	for i := range lats {
		lat.merge(&lats[i])
	}
	res.Ops, res.Bytes = int64(lat.n), int64(lat.n)*blockSize
	res.setLatency(&lat)
	res.setRate(res.Ops, false)
	return res, errors.Join(append(errs, ctx.Err())...)
}
