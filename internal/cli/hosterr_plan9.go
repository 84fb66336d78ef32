package cli

import (
	"errors"
	"strings"
	"syscall"
)

// says reports whether the text of the error has one of the words: there are no numbers.
func says(err error, words ...string) bool {
	for _, w := range words {
		if err != nil && strings.Contains(err.Error(), w) {
			return true
		}
	}
	return false
}

// isRefused reports whether nobody listens at the address that was dialled.
func isRefused(err error) bool { return says(err, "connection refused") }

// isInUse reports whether somebody else listens at the address.
func isInUse(err error) bool { return says(err, "address in use") }

// isOfAll reports whether an error of the host says something about its disk or this process, not about one
// file.
func isOfAll(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EMFILE) || says(err, "file system full", "read only")
}
