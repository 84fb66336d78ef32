package ninep

import (
	"errors"
	"fmt"
)

// An Errno is a Linux error number, as it stands on the wire in an Rlerror, and in an Rerror of
// 9P2000.u: the numbers that most architectures share. It is an error, for what is refused in the words of Linux.
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
	EDQUOT       = Errno(122)
)

// Error is what a client is told that wants a text.
func (e Errno) Error() string {
	if text := errnoTexts[e]; text != "" {
		return text
	}
	return fmt.Sprintf("errno %d", uint32(e))
}

// errnoTexts are the names of the numbers, in Linux's words.
var errnoTexts = map[Errno]string{
	EPERM:        "operation not permitted",
	ENOENT:       "no such file or directory",
	EINTR:        "interrupted system call",
	EIO:          "input/output error",
	EBADF:        "bad file descriptor",
	EACCES:       "permission denied",
	EBUSY:        "device or resource busy",
	EEXIST:       "file exists",
	EXDEV:        "invalid cross-device link",
	ENOTDIR:      "not a directory",
	EISDIR:       "is a directory",
	EINVAL:       "invalid argument",
	ENFILE:       "too many open files in system",
	EFBIG:        "file too large",
	ENOSPC:       "no space left on device",
	EROFS:        "read-only file system",
	ENAMETOOLONG: "file name too long",
	ENOTEMPTY:    "directory not empty",
	EPROTO:       "protocol error",
	EOVERFLOW:    "value too large for defined data type",
	EMSGSIZE:     "message too long",
	EOPNOTSUPP:   "operation not supported",
	EDQUOT:       "disk quota exceeded",
}

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
