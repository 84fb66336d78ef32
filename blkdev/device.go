// Package blkdev is the disk: a file or partition, memory, and two devices for tests, one that
// records every write so that it can show the disk after a power cut and one that fails on demand.
//
// Offsets and lengths are bytes from the start of the device. The package knows nothing of blocks:
// any offset and length inside the device is allowed.
//
// The hard rule: a write that returned is not on the disk. It is there once a Sync that began after
// the write returned has itself returned nil. Until then a power cut may keep it, lose it, keep
// some of its sectors, and order it in any way among the other writes since the last Sync. After a
// failed write or Sync nobody knows what the disk holds: File.Sync then fails for ever, and whoever
// holds any other device must not sync again and trust it either.
//
// All devices here are safe for concurrent use. Reads and writes of overlapping ranges at the same
// time are not ordered. No device calls back into its user, so any lock may be held around a call.
//
// Which goes where on the disk is decided above; the order of writes is decided in blkstore.
package blkdev

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// SectorSize is the unit in bytes that a disk is trusted to write whole or not at all.
const SectorSize = 512

// A Device is an array of bytes that outlives the process.
//
// The size is fixed as far as reading and writing go: neither reaches past it. All methods are safe
// for concurrent use. After Close every other method returns an error that is os.ErrClosed.
type Device interface {
	// ReadAt fills p from off on. It keeps the contract of io.ReaderAt: n < len(p) only with an
	// error, which is io.EOF when the device ends before p is full.
	ReadAt(p []byte, off int64) (n int, err error)

	// WriteAt writes all of p at off. A range that is not wholly inside the device is refused with
	// ErrRange and nothing is written. p is not kept. After any other error what is in the range
	// is unknown, for the n bytes reported as written too.
	WriteAt(p []byte, off int64) (n int, err error)

	// WriteVec writes the buffers one after the other from off on, in as few calls to the system as
	// it takes; it is WriteAt of their concatenation. It is not atomic. Neither bufs nor what it
	// holds is changed or kept.
	WriteVec(bufs [][]byte, off int64) error

	// Sync returns nil when everything whose write had returned before Sync was called is on stable
	// storage.
	Sync() error

	// Discard says that the n bytes at off are no longer needed. It is a hint: where it is not
	// supported it does nothing and returns nil. What a discarded range reads as until it is
	// written again is not defined. Like a write it needs a Sync.
	Discard(off, n int64) error

	// Size returns the size now, in bytes. A file may grow while it is open.
	Size() (int64, error)

	// Close gives the device back. It does not Sync. A second Close returns an error.
	Close() error
}

// Errors of all devices, always wrapped in an OpError.
var (
	// ErrRange is the error of a write or discard that does not lie inside the device, and of any
	// operation with a negative offset or length.
	ErrRange = errors.New("outside the device")

	// ErrReadOnly is the error of a write or discard on a device opened for reading.
	ErrReadOnly = errors.New("device is open read-only")
)

// An OpError says which operation failed where. Len is zero for operations on the whole device.
type OpError struct {
	Op   string // "read", "write", "sync", "discard", "enlarge", "open", "create", "size", "close"
	Path string // what was opened; "memory", "crash" for devices without a file
	Off  int64  // bytes; where the failure was met, which may be after Off of the call
	Len  int64  // bytes not done
	Err  error
}

// Error returns operation, path, range and cause in one line.
func (e *OpError) Error() string {
	switch e.Op {
	case "read", "write", "discard":
		return fmt.Sprintf("%s %s: %d bytes at %d: %v", e.Op, e.Path, e.Len, e.Off, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the cause: a system error such as syscall.EIO, ErrRange, ErrReadOnly, io.EOF.
func (e *OpError) Unwrap() error { return e.Err }

// opErr wraps err, without saying twice what os says already.
func opErr(op, path string, off, n int64, err error) *OpError {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &OpError{Op: op, Path: path, Off: off, Len: n, Err: err}
}

// inside reports whether [off, off+n) lies in a device of the given size, for any values.
func inside(off, n, size int64) bool {
	return off >= 0 && n >= 0 && off <= size && n <= size-off
}

// vecLen returns the number of bytes in bufs.
func vecLen(bufs [][]byte) int64 {
	var n int64
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n
}

// readFull fills p at off by as many calls of readAt as it takes, with the buffer and the offset
// advanced together. It returns how much was read; a short count has an error, io.EOF at the end.
func readFull(readAt func([]byte, int64) (int, error), p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		m, err := readAt(p[n:], off+int64(n))
		n += max(m, 0)
		switch {
		case n == len(p):
			return n, nil // an error that came with the last byte has nothing to say
		case isInterrupt(err):
			continue
		case err != nil:
			return n, err
		case m <= 0:
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// writeFull writes p at off by as many calls of writeAt as it takes.
func writeFull(writeAt func([]byte, int64) (int, error), p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		m, err := writeAt(p[n:], off+int64(n))
		n += max(m, 0)
		switch {
		case isInterrupt(err):
			continue
		case err != nil:
			return n, err
		case m <= 0:
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}

// writeVecFull writes bufs at off by as many calls of writev as it takes, at most limit buffers in
// each. It returns how many bytes were written; bufs is left as it was.
func writeVecFull(writev func([][]byte, int64) (int, error), bufs [][]byte, off int64, limit int) (int64, error) {
	var done int64
	batch := make([][]byte, 0, min(limit, len(bufs)))
	for len(bufs) > 0 || len(batch) > 0 {
		for len(batch) < limit && len(bufs) > 0 {
			if len(bufs[0]) > 0 {
				batch = append(batch, bufs[0])
			}
			bufs = bufs[1:]
		}
		if len(batch) == 0 {
			break
		}
		m, err := writev(batch, off+done)
		m = max(m, 0)
		done += int64(m)
		batch = advance(batch, m)
		switch {
		case isInterrupt(err):
			continue
		case err != nil:
			return done, err
		case m == 0:
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}

// advance drops the first n bytes from batch, keeping its array.
func advance(batch [][]byte, n int) [][]byte {
	i := 0
	for i < len(batch) && n >= len(batch[i]) {
		n -= len(batch[i])
		i++
	}
	batch = batch[:copy(batch, batch[i:])]
	if n > 0 && len(batch) > 0 {
		batch[0] = batch[0][n:]
	}
	return batch
}
