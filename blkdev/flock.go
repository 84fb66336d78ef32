//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package blkdev

import (
	"os"

	"golang.org/x/sys/unix"
)

// flock locks the open file without waiting. The lock belongs to the open file, not to the process:
// a second open in this process is refused as well, and closing one does not drop the other's.
func flock(f *os.File, shared bool) error {
	how := unix.LOCK_EX | unix.LOCK_NB
	if shared {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) {
		for {
			if ferr = unix.Flock(int(fd), how); ferr != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	return ferr
}
