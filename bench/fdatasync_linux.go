package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync puts f's data, and what is needed to find it, on stable storage.
func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// dropCache makes the next reads of f, which has been synced, come from the device.
func dropCache(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
