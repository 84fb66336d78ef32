//go:build !linux

package blkdev

import "errors"

// vecMax is 1: there is no pwritev to fill.
const vecMax = 1

const canDiscard = false

// errNoDiscard is what discard says on systems where nobody has needed it yet.
var errNoDiscard = errors.New("discard is not supported")

func isUnsupported(err error) bool { return err == errNoDiscard }

func (f *File) writev(bufs [][]byte, off int64) (int, error) { return f.f.WriteAt(bufs[0], off) }
func (f *File) datasync() error                              { return f.f.Sync() }
func (f *File) discard(off, n int64) error                   { return errNoDiscard }
