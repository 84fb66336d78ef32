//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package blkdev

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const deviceOpenFlag = 0

func isInterrupt(err error) bool { return errors.Is(err, unix.EINTR) }
func isBusy(err error) bool      { return errors.Is(err, unix.EBUSY) }
func isLocked(err error) bool    { return errors.Is(err, unix.EWOULDBLOCK) }

func lockFile(f *os.File, shared bool) error { return flock(f, shared) }
