package nbdtest

import (
	"math/rand/v2"
	"sync"

	"gefs9p/blkdev"
)

// A Volatile is a device that forgets: what Crash leaves of it is what was synced, and of each write since
// then chance decides. It is a disk behind a server with a cache. Only what a Device has is safe for
// concurrent use; nobody may use it during Crash.
type Volatile struct {
	*blkdev.Mem
	mu     sync.Mutex
	stable *blkdev.Mem
	since  []write
}

type write struct {
	off  int64
	data []byte
}

// NewVolatile returns a device of size zero bytes.
func NewVolatile(size int64) *Volatile {
	return &Volatile{Mem: blkdev.NewMem(size), stable: blkdev.NewMem(size)}
}

// WriteAt implements blkdev.Device.
func (v *Volatile) WriteAt(p []byte, off int64) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err := v.Mem.WriteAt(p, off)
	if err == nil {
		v.since = append(v.since, write{off, append([]byte(nil), p...)})
	}
	return n, err
}

// WriteVec implements blkdev.Device.
func (v *Volatile) WriteVec(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := v.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// Sync implements blkdev.Device.
func (v *Volatile) Sync() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stable, v.since = v.Mem.Clone(), nil
	return nil
}

// Crash returns what is left after a power cut: each write since the last Sync is done with a chance
// of keep, in an order of their own.
func (v *Volatile) Crash(r *rand.Rand, keep float64) *Volatile {
	v.mu.Lock()
	defer v.mu.Unlock()
	left := v.stable.Clone()
	for _, i := range r.Perm(len(v.since)) {
		if w := v.since[i]; r.Float64() < keep {
			left.WriteAt(w.data, w.off)
		}
	}
	return &Volatile{Mem: left, stable: left.Clone()}
}
