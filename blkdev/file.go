package blkdev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// FileOptions says how OpenFile opens. The zero value is for a server: read, write, locked.
type FileOptions struct {
	ReadOnly bool // refuse writes; take the lock shared, so that readers do not exclude each other
	NoLock   bool // take no lock: for looking at a disk that is being served
}

// A LockedError is returned when somebody else has the disk open. errors.As finds it.
type LockedError struct {
	Path     string
	ReadOnly bool  // what was asked for
	Err      error // what the system said
}

// Error says what is the matter and what to do about it.
func (e *LockedError) Error() string {
	if e.ReadOnly {
		return fmt.Sprintf("%s: the disk is already served by another process, so it cannot be read safely: "+
			"halt that server first, or use its console", e.Path)
	}
	return fmt.Sprintf("%s: the disk is already served or checked by another process: "+
		"halt that one first; two servers on one disk destroy it", e.Path)
}

// Unwrap returns what the system said.
func (e *LockedError) Unwrap() error { return e.Err }

// A File is a disk image in a file, or a partition or whole disk. It is safe for concurrent use.
//
//   - While it is open it holds the lock asked for, on systems that have flock or something like it.
//   - Once failed is set, it is set for ever, and no Sync returns nil.
type File struct {
	f        *os.File
	path     string
	readOnly bool
	isDevice bool // block or raw device: size by seeking, discard by ioctl

	size      atomic.Int64            // as last seen
	failed    atomic.Pointer[OpError] // the first write or sync that failed
	noDiscard atomic.Bool             // the system said that it cannot
}

var _ Device = (*File)(nil)

// OpenFile opens an existing image, partition or disk and locks it. It does not wait for the lock:
// when another process, or another File of this one, holds it, the error is a *LockedError. On
// Linux a block device that is mounted or otherwise in use by the kernel is refused in the same way.
// Other errors are *OpError; fs.ErrNotExist and the like are found by errors.Is.
// Directories, pipes and terminals are refused.
func OpenFile(path string, opt FileOptions) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, opErr("open", path, 0, 0, err)
	}
	// Looked at before opening: opening a pipe would wait for its other end.
	isDevice := st.Mode()&fs.ModeDevice != 0
	if !isDevice && !st.Mode().IsRegular() {
		return nil, opErr("open", path, 0, 0, errors.New("neither a file nor a disk"))
	}
	flag := os.O_RDWR
	if opt.ReadOnly {
		flag = os.O_RDONLY
	}
	if isDevice && !opt.ReadOnly && !opt.NoLock {
		flag |= deviceOpenFlag
	}
	osf, err := os.OpenFile(path, flag, 0)
	if err != nil {
		if isDevice && isBusy(err) {
			return nil, &LockedError{Path: path, ReadOnly: opt.ReadOnly, Err: err}
		}
		return nil, opErr("open", path, 0, 0, err)
	}
	f := &File{f: osf, path: path, readOnly: opt.ReadOnly, isDevice: isDevice}
	if err := f.setup("open", opt); err != nil {
		osf.Close()
		return nil, err
	}
	return f, nil
}

// CreateFile makes a sparse image of size bytes that only its owner may read and write, locks it,
// and makes it and its name durable. A file that exists already is left alone and the error is
// fs.ErrExist. When anything fails after the file was made it is removed again.
func CreateFile(path string, size int64) (*File, error) {
	if size < 0 {
		return nil, opErr("create", path, 0, size, ErrRange)
	}
	osf, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, opErr("create", path, 0, 0, err)
	}
	f := &File{f: osf, path: path}
	err = osf.Truncate(size)
	if err == nil {
		err = osf.Sync()
	}
	if err == nil {
		// The name is as much a part of the disk as the bytes: without this a crash may leave no file.
		err = syncDir(filepath.Dir(path))
	}
	if err == nil {
		err = f.setup("create", FileOptions{})
	}
	if err != nil {
		osf.Close()
		os.Remove(path)
		var le *LockedError
		var oe *OpError
		if errors.As(err, &le) || errors.As(err, &oe) {
			return nil, err
		}
		return nil, opErr("create", path, 0, 0, err)
	}
	return f, nil
}

// setup locks and measures the open file.
func (f *File) setup(op string, opt FileOptions) error {
	if !opt.NoLock {
		if err := lockFile(f.f, opt.ReadOnly); err != nil {
			if isLocked(err) {
				return &LockedError{Path: f.path, ReadOnly: opt.ReadOnly, Err: err}
			}
			return opErr(op, f.path, 0, 0, fmt.Errorf("lock: %w", err))
		}
	}
	_, err := f.Size()
	return err
}

// Path returns the name the file was opened by.
func (f *File) Path() string { return f.path }

// Is reports whether name is this file still, and has not been removed or replaced.
func (f *File) Is(name string) bool {
	ours, err := f.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(name)
	return err == nil && os.SameFile(ours, there)
}

// ReadAt implements Device. Short and interrupted reads of the system are continued.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, opErr("read", f.path, off, int64(len(p)), ErrRange)
	}
	n, err := readFull(f.f.ReadAt, p, off)
	if err == nil || err == io.EOF {
		return n, err // io.EOF bare, as io.ReaderAt has it
	}
	return n, opErr("read", f.path, off+int64(n), int64(len(p)-n), err)
}

// WriteAt implements Device. Short and interrupted writes of the system are continued. Any failure
// but a refusal (ErrRange, ErrReadOnly, closed) makes all later Syncs fail.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.mayWrite("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := writeFull(f.f.WriteAt, p, off)
	if err != nil {
		return n, f.fail(opErr("write", f.path, off+int64(n), int64(len(p)-n), err))
	}
	return n, nil
}

// WriteVec implements Device: one pwritev for up to vecMax buffers where the system has it, else
// a write for each buffer. Failures are as for WriteAt.
func (f *File) WriteVec(bufs [][]byte, off int64) error {
	n := vecLen(bufs)
	if err := f.mayWrite("write", off, n); err != nil {
		return err
	}
	done, err := writeVecFull(f.writev, bufs, off, vecMax)
	if err != nil {
		return f.fail(opErr("write", f.path, off+done, n-done, err))
	}
	return nil
}

// Sync implements Device: fdatasync on Linux, what os.File.Sync does elsewhere. After a failed
// write or Sync it returns that first error for ever, without asking the system again: Linux reports a
// lost page once and then calls it clean.
func (f *File) Sync() error {
	if e := f.failed.Load(); e != nil {
		return e
	}
	if f.readOnly {
		if err := f.alive(); err != nil {
			return opErr("sync", f.path, 0, 0, err)
		}
		return nil
	}
	if err := f.datasync(); err != nil {
		return f.fail(opErr("sync", f.path, 0, 0, err))
	}
	// A write that failed while we were in the system may be one that this Sync was to cover.
	if e := f.failed.Load(); e != nil {
		return e
	}
	return nil
}

// Discard implements Device: it punches a hole in a file and discards the range of a block device,
// on Linux. Elsewhere, and where the file system or disk cannot, it does nothing.
func (f *File) Discard(off, n int64) error {
	if err := f.mayWrite("discard", off, n); err != nil {
		return err
	}
	if n == 0 || f.noDiscard.Load() {
		return nil
	}
	err := f.discard(off, n)
	if isUnsupported(err) {
		f.noDiscard.Store(true)
		return nil
	}
	if err != nil {
		return opErr("discard", f.path, off, n, err)
	}
	return nil
}

// Discards reports whether Discard has an effect, as far as is known: that a file system or a disk cannot is
// found out by the first one.
func (f *File) Discards() bool { return canDiscard && !f.noDiscard.Load() }

// Size implements Device. It asks the system each time.
func (f *File) Size() (int64, error) {
	var n int64
	if f.isDevice {
		end, err := f.f.Seek(0, io.SeekEnd) // reads and writes carry their own offset
		if err != nil {
			return 0, opErr("size", f.path, 0, 0, err)
		}
		if n = end; n == 0 {
			return 0, opErr("size", f.path, 0, 0, errors.New("cannot tell the size of this device"))
		}
	} else {
		st, err := f.f.Stat()
		if err != nil {
			return 0, opErr("size", f.path, 0, 0, err)
		}
		n = st.Size()
	}
	f.size.Store(n)
	return n, nil
}

// Enlarge makes a file size bytes long, without taking room for what it gains, and returns when that is
// durable. A device, which is as large as its owner has made it, and a size below the file's are refused;
// nothing has changed then. After a failed sync the file may have either length.
func (f *File) Enlarge(size int64) error {
	now, err := f.Size()
	switch {
	case err != nil:
		return err
	case f.readOnly:
		return opErr("enlarge", f.path, 0, 0, ErrReadOnly)
	case f.isDevice:
		return opErr("enlarge", f.path, 0, 0, errors.New("a device cannot be made larger from here, only a file"))
	case size < now:
		return opErr("enlarge", f.path, 0, 0, fmt.Errorf("%w: to %d bytes, it has %d", ErrRange, size, now))
	}
	if err := f.f.Truncate(size); err != nil {
		return opErr("enlarge", f.path, 0, 0, err)
	}
	if err := f.f.Sync(); err != nil { // the length too, which fdatasync may leave out
		return f.fail(opErr("enlarge", f.path, 0, 0, err))
	}
	f.size.Store(size)
	return nil
}

// Close implements Device and drops the lock.
func (f *File) Close() error {
	if err := f.f.Close(); err != nil {
		return opErr("close", f.path, 0, 0, err)
	}
	return nil
}

// mayWrite refuses what must not reach the system. A range past the size last seen is looked at
// again: the file may have grown.
func (f *File) mayWrite(op string, off, n int64) error {
	if f.readOnly {
		return opErr(op, f.path, off, n, ErrReadOnly)
	}
	if inside(off, n, f.size.Load()) {
		if n > 0 {
			return nil // a closed file is noticed by the system call
		}
		if err := f.alive(); err != nil {
			return opErr(op, f.path, off, n, err)
		}
		return nil
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	if !inside(off, n, size) {
		return opErr(op, f.path, off, n, fmt.Errorf("%w of %d bytes", ErrRange, size))
	}
	return nil
}

// alive returns os.ErrClosed after Close.
func (f *File) alive() error {
	return f.control(func(uintptr) error { return nil })
}

// fail records the first failure for Sync and returns its argument.
func (f *File) fail(e *OpError) error {
	if !errors.Is(e, os.ErrClosed) { // refused: nothing was lost
		f.failed.CompareAndSwap(nil, e)
	}
	return e
}

// control calls fn with the file's descriptor, which cannot be closed and given to another file
// meanwhile.
func (f *File) control(fn func(fd uintptr) error) error {
	rc, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if rc.Control(func(fd uintptr) { ferr = fn(fd) }) != nil {
		return os.ErrClosed // nothing else makes it fail, and its own error is not os.ErrClosed
	}
	return ferr
}
