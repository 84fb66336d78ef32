package ninep

import (
	"errors"
	"syscall"
)

// isTemporary says whether accepting may work again later. Errors are texts there, and few have a name.
func isTemporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.EINTR)
}
