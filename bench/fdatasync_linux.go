package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync puts f's data, and what is needed to find it, on stable storage.
func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
