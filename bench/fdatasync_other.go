//go:build !linux

package bench

import (
	"errors"
	"os"
)

// fdatasync puts f on stable storage.
func fdatasync(f *os.File) error { return f.Sync() }

// dropCache would make the next reads of f come from the device; here it cannot.
func dropCache(*os.File) error { return errors.ErrUnsupported }
