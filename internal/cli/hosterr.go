//go:build !plan9

package cli

import (
	"errors"
	"syscall"
)

// isRefused reports whether nobody listens at the address that was dialled.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// isInUse reports whether somebody else listens at the address.
func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// isOfAll reports whether an error of the host says something about its disk or this process, not about one
// file.
func isOfAll(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
