package blkdev

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const deviceOpenFlag = 0

func isInterrupt(error) bool  { return false }
func isBusy(err error) bool   { return errors.Is(err, windows.ERROR_SHARING_VIOLATION) }
func isLocked(err error) bool { return errors.Is(err, windows.ERROR_LOCK_VIOLATION) }

// lockFile locks one byte that no disk reaches: locks are mandatory here, and one on the bytes
// themselves would stop a reader that asked for no lock.
func lockFile(f *os.File, shared bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) {
		ol := windows.Overlapped{Offset: 0xfffffffe, OffsetHigh: 0x7fffffff}
		ferr = windows.LockFileEx(windows.Handle(fd), flags, 0, 1, 0, &ol)
	}); err != nil {
		return err
	}
	return ferr
}

// syncDir does nothing: a directory cannot be flushed here, the file system logs new names itself.
func syncDir(string) error { return nil }
