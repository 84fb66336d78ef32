package blkdev

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vecMax is IOV_MAX.
const vecMax = 1024

const canDiscard = true

// deviceOpenFlag on a block device makes the kernel refuse one that is mounted.
const deviceOpenFlag = unix.O_EXCL

func isInterrupt(err error) bool { return errors.Is(err, unix.EINTR) }
func isBusy(err error) bool      { return errors.Is(err, unix.EBUSY) }
func isLocked(err error) bool    { return errors.Is(err, unix.EWOULDBLOCK) }

// isUnsupported holds for what file systems, block devices and old kernels say to a discard.
func isUnsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY)
}

func lockFile(f *os.File, shared bool) error { return flock(f, shared) }

func (f *File) writev(bufs [][]byte, off int64) (n int, err error) {
	err = f.control(func(fd uintptr) (err error) {
		n, err = unix.Pwritev(int(fd), bufs, off)
		return err
	})
	return n, err
}

func (f *File) datasync() error {
	return f.control(func(fd uintptr) error {
		for {
			// An interrupted call has reported nothing yet, so asking again loses no error.
			if err := unix.Fdatasync(int(fd)); err != unix.EINTR {
				return err
			}
		}
	})
}

func (f *File) discard(off, n int64) error {
	return f.control(func(fd uintptr) error {
		for {
			var err error
			if f.isDevice {
				err = blkdiscard(fd, off, n)
			} else {
				err = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
			}
			if err != unix.EINTR {
				return err
			}
		}
	})
}

// blkdiscard is the ioctl of that name; its argument is offset and length.
func blkdiscard(fd uintptr, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKDISCARD, uintptr(unsafe.Pointer(&r)))
	if e != 0 {
		return e
	}
	return nil
}
