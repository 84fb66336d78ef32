package ninep

import (
	"errors"
	"fmt"
)

// An Errno is a Linux error number, as it stands on the wire in an Rlerror: the numbers that most
// architectures share. It is an error, for what a LinuxFile refuses in the words of Linux.
type Errno uint32

// The numbers that are used.
const (
	EPERM        = Errno(1)
	ENOENT       = Errno(2)
	EINTR        = Errno(4)
	EIO          = Errno(5)
	EBADF        = Errno(9)
	EACCES       = Errno(13)
	EBUSY        = Errno(16)
	EEXIST       = Errno(17)
	EXDEV        = Errno(18)
	ENOTDIR      = Errno(20)
	EISDIR       = Errno(21)
	EINVAL       = Errno(22)
	ENFILE       = Errno(23)
	EFBIG        = Errno(27)
	ENOSPC       = Errno(28)
	EROFS        = Errno(30)
	ENAMETOOLONG = Errno(36)
	ENOTEMPTY    = Errno(39)
	EPROTO       = Errno(71)
	EOVERFLOW    = Errno(75)
	EMSGSIZE     = Errno(90)
	EOPNOTSUPP   = Errno(95)
)

func (e Errno) Error() string { return fmt.Sprintf("errno %d", uint32(e)) }

// ownErrnos are the numbers of this package's errors.
var ownErrnos = []struct {
	err Error
	no  Errno
}{
	{ErrUnknownFid, EBADF},
	{ErrFidInUse, EBADF},
	{ErrFidType, EBADF},
	{ErrBotch, EPROTO},
	{ErrNoAuth, EACCES},
	{ErrNotFound, ENOENT},
	{ErrBadDir, EINVAL},
	{ErrBadName, EINVAL},
	{ErrMsize, EMSGSIZE},
	{ErrTooManyFids, ENFILE},
	{ErrTooManyConn, ENFILE},
	{ErrInternal, EIO},
	{ErrStatSize, EOVERFLOW},
	{ErrInterrupted, EINTR},
}

// errno is the number for err: its own if there is an Errno in its chain, that of this package's errors,
// what the file system says, and else EIO.
func (s *Server) errno(err error) Errno {
	var no Errno
	if errors.As(err, &no) && no != 0 {
		return no
	}
	for _, e := range ownErrnos {
		if errors.Is(err, e.err) {
			return e.no
		}
	}
	if l, ok := s.FS.(LinuxFS); ok {
		if no = l.Errno(err); no != 0 {
			return no
		}
	}
	return EIO
}
