//go:build !linux

package bench

import "os"

// fdatasync puts f on stable storage.
func fdatasync(f *os.File) error { return f.Sync() }
