package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// deviceChunk is how much W1's ceiling writes at a time if the server's requests are not larger.
const deviceChunk = 32 << 10

// device measures, without 9P, the bytes of the workload id in a file of Options.DeviceDir, which it
// removes again: for W1 all of them and one fsync, for W11 an fsync after each write.
func (b *run) device(ctx context.Context, id string) (res Result, err error) {
	f, err := os.CreateTemp(b.opts.DeviceDir, "gefs9p-bench-*")
	if err != nil {
		return Result{}, err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
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
