package client

import (
	"errors"
	"fmt"

	"gefs9p/ninep"
)

// Error is the text of an Rerror. Errors of this package that are no Error, and wrap none, were not
// said by the server.
type Error = ninep.Error

// ErrNotFound is wrapped by the error of a walk that the server took only part of the way, which it
// does without saying why.
const ErrNotFound = ninep.ErrNotFound

// ErrProtocol is wrapped by errors that say what a server did that 9P2000 does not allow. The
// connection is closed.
var ErrProtocol = errors.New("9P protocol violation")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProtocol, fmt.Errorf(format, args...))
}
