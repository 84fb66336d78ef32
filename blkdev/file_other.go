//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package blkdev

import "os"

const deviceOpenFlag = 0

func isInterrupt(error) bool { return false } // package os continues interrupted calls
func isBusy(error) bool      { return false }
func isLocked(error) bool    { return false }

// lockFile does nothing: these systems have no lock that belongs to the open file. On Plan 9 the
// exclusive-use bit of the image (chmod +l) does the same.
func lockFile(*os.File, bool) error { return nil }
