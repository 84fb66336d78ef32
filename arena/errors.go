package arena

import (
	"errors"
	"fmt"

	"gefs9p/blkfmt"
)

var (
	// ErrFull says that no arena has a block to spare. Nothing was changed.
	ErrFull = errors.New("file system full")

	// ErrSuspect says that the log of some arena is not to be believed, and that its free ranges
	// have not been rebuilt. Nothing was changed.
	ErrSuspect = errors.New("free ranges are not known: an allocation log is damaged")
)

// An AddrError says that something was asked about a block which makes no sense: it is free already,
// or no arena has it. Somebody holds a wrong pointer, so it unwraps to a *blkfmt.CorruptError.
type AddrError struct {
	Op   string // what was asked
	Addr blkfmt.Addr
	What string // what is wrong
}

func (e *AddrError) Error() string { return fmt.Sprintf("%s of block %v: %s", e.Op, e.Addr, e.What) }

// Unwrap returns e as a *blkfmt.CorruptError, for those who only ask whether the disk is damaged.
func (e *AddrError) Unwrap() error {
	return &blkfmt.CorruptError{Addr: e.Addr, Type: blkfmt.Data, What: e.What}
}
