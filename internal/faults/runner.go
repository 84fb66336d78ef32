package faults

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A Runner does operations on a file system and tells an oracle. Operations are a second apart, on a
// clock that stands still meanwhile. A Runner is for one goroutine.
type Runner struct {
	FS     *gefs.FS
	Oracle *gefstest.Oracle
	Sec    int64 // the time of the last operation

	clock atomic.Int64
	held  ninep.File // keeps main mounted
	dev   blkdev.Device

	Discard bool // what becomes free is discarded in the background
}

// Open serves the disk. It is committed only when somebody asks, but for what a full disk asks. With hold the
// tree main stays mounted between operations.
func (r *Runner) Open(dev blkdev.Device, hold bool) error {
	r.held = nil
	r.clock.Store(r.Sec * 1e9)
	fs, err := gefs.Open(dev, gefs.Options{
		Cache: blkstore.MinCache, CommitEvery: time.Hour, Discard: r.Discard,
		Now: func() time.Time { return time.Unix(0, r.clock.Load()) },
	})
	if err != nil {
		return err
	}
	r.FS, r.dev = fs, dev
	if hold {
		c, end := fs.Background()
		defer end()
		if r.held, err = gefstest.Attach(fs, c, gefstest.User, ""); err != nil {
			err = errors.Join(err, fs.Close())
			r.FS = nil
		}
	}
	return err
}

// Close ends the service.
func (r *Runner) Close() error {
	if r.FS == nil {
		return nil
	}
	if r.held != nil {
		c, end := r.FS.Background()
		r.held.Clunk(c)
		end()
	}
	err := r.FS.Close()
	r.FS, r.held = nil, nil
	return err
}

// Do does an operation that fits. When it fails the oracle has not changed, and the file system should
// not have. A rollback waits for large files that are still being cleared.
func (r *Runner) Do(op Op) error {
	r.Sec++
	r.clock.Store(r.Sec * 1e9)
	c, end := r.FS.Background()
	defer end()
	if err := r.perform(c, op); err != nil {
		return err
	}
	op.Predict(r.Oracle, r.Sec)
	return nil
}

func (r *Runner) perform(c *ninep.Ctx, op Op) error {
	switch op.Kind {
	case Label:
		return r.FS.Label(c, "main", op.Path, false)
	case Unlabel:
		return r.FS.DeleteLabel(c, op.Path)
	case Rollback:
		for try := 0; ; try++ {
			err := r.FS.Rollback(c, "main", op.Path, op.To, false)
			if try > 1000 || err == nil || !strings.Contains(err.Error(), "still being cleared") {
				return err
			}
			c.Sleep(func() { time.Sleep(time.Millisecond) })
		}
	case Trim:
		var err error
		c.Sleep(func() { _, err = r.FS.Trim(context.Background()) })
		return err
	case Enlarge, Grow:
		var err error
		c.Sleep(func() { err = r.enlarge(int64(op.Len)<<20, op.Kind == Grow) })
		return err
	case Fill, Drain:
		return r.leave(c, op.Kind == Fill, op.Len)
	}
	root, err := gefstest.Attach(r.FS, c, gefstest.User, "")
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer root.Clunk(c)
	at := op.Path
	switch op.Kind {
	case Create, Mkdir, Move:
		at = path.Dir(op.Path)
	case Fsync:
		at = "."
	}
	f, err := gefstest.Walk(c, root, at)
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	st := ninep.NullDir()
	switch op.Kind {
	case Remove:
		return f.Remove(c) // it takes the fid
	case Create:
		_, _, err = f.Create(c, path.Base(op.Path), op.Mode, ninep.OWRITE)
	case Mkdir:
		_, _, err = f.Create(c, path.Base(op.Path), ninep.DMDIR|op.Mode, ninep.OREAD)
	case Write:
		if _, _, err = f.Open(c, ninep.OWRITE); err == nil {
			_, err = f.Write(c, op.Data(), uint64(op.Off))
		}
	case Truncate:
		st.Length = uint64(op.Len)
		err = f.Wstat(c, &st)
	case Rename:
		st.Name = op.To
		err = f.Wstat(c, &st)
	case Move:
		err = move(c, root, f, op)
	case Chmod:
		st.Mode = op.Mode
		err = f.Wstat(c, &st)
	case Fsync:
		err = f.Wstat(c, &st)
	default:
		err = fmt.Errorf("no operation %q", op.Kind)
	}
	f.Clunk(c)
	return err
}

// enlarge makes the device longer by so many bytes, and the disk with it if grow says so.
func (r *Runner) enlarge(by int64, grow bool) error {
	size, err := r.dev.Size()
	if err != nil {
		return err
	}
	if grow {
		_, err = r.FS.Grow(context.Background(), size+by)
		return err
	}
	dev, ok := r.dev.(interface{ Enlarge(size int64) error })
	if !ok {
		return errors.New("the device cannot be made longer")
	}
	return dev.Enlarge(size + by)
}

// move is a renameat of 9P2000.L out of the directory from.
func move(c *ninep.Ctx, root, from ninep.File, op Op) error {
	to, err := gefstest.Walk(c, root, path.Dir(op.To))
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	defer to.Clunk(c)
	return from.(ninep.LinuxFile).RenameAt(c, path.Base(op.Path), to, path.Base(op.To))
}

// IsFull reports whether the error is what a client is told when the disk is full.
func IsFull(err error) bool {
	return err != nil && strings.Contains(err.Error(), "file system full")
}

// filler is the file in the tree adm that takes room away.
const filler = "filler"

// leave makes the filler longer until there are not more than left blocks, or shorter until there are
// at least as many.
func (r *Runner) leave(c *ninep.Ctx, fill bool, left int) error {
	root, err := gefstest.Attach(r.FS, c, gefstest.User, "adm")
	if err != nil {
		return err
	}
	defer root.Clunk(c)
	f, err := gefstest.Walk(c, root, filler)
	if err != nil {
		if f, err = gefstest.Walk(c, root, "."); err != nil {
			return err
		}
		if _, _, err = f.Create(c, filler, 0644, ninep.OWRITE); err != nil {
			f.Clunk(c)
			if IsFull(err) {
				return nil
			}
			return err
		}
	} else if _, _, err = f.Open(c, ninep.OWRITE); err != nil {
		f.Clunk(c)
		return err
	}
	defer f.Clunk(c)
	var st ninep.Dir
	if err := f.Stat(c, &st); err != nil {
		return err
	}
	const block, most = 16384, 64
	if !fill {
		n := uint64(max(0, left-int(r.FS.Store().Arenas().Room()))) * block
		short := ninep.NullDir()
		short.Length = st.Length - min(n, st.Length)
		return f.Wstat(c, &short)
	}
	p := make([]byte, most*block)
	for off := st.Length; ; {
		n := int(r.FS.Store().Arenas().Room()) - left
		if n <= 0 {
			return nil
		}
		// A write takes some blocks more than its data, and gives back others later.
		n = min(max(n/2, 1), most) * block
		if _, err := f.Write(c, p[:n], off); err != nil {
			if IsFull(err) {
				return nil
			}
			return err
		}
		off += uint64(n)
	}
}
