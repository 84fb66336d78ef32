//go:build linux || darwin

package mount

import (
	"errors"
	"syscall"

	"gefs9p/ninep"
)

// errnos says which error number stands for which text of a server: gefs' own, and the words that other
// servers of Plan 9 have for the same. docs/clients.md shows the table.
var errnos = map[ninep.Error]syscall.Errno{
	"auth -- user 'none' requires no authentication":  syscall.EACCES,
	"authentication failed":                           syscall.EACCES,
	"attach -- bad specifier":                         syscall.ENOENT,
	"attach -- unknown user or failed authentication": syscall.EACCES,
	"block contents corrupted":                        syscall.EIO,
	"create/wstat -- bad character in file name":      syscall.EINVAL,
	"create/wstat -- file exists":                     syscall.EEXIST,
	"directory entry not found":                       syscall.ENOENT,
	"disk quota exceeded":                             syscall.EDQUOT,
	"directory is not empty":                          syscall.ENOTEMPTY,
	"file system full":                                syscall.ENOSPC,
	"file system read only":                           syscall.EROFS,
	"file too big":                                    syscall.EFBIG,
	"group does not exist":                            syscall.EINVAL,
	"i/o error":                                       syscall.EIO,
	"interrupted":                                     syscall.EINTR,
	"invalid dir scan offset":                         syscall.EINVAL,
	"invalid directory":                               syscall.EINVAL,
	"invalid fid type":                                syscall.EINVAL,
	"name too long":                                   syscall.ENAMETOOLONG,
	"open/create -- file is locked":                   syscall.EBUSY,
	"open/create -- unknown mode":                     syscall.EINVAL,
	"permission denied":                               syscall.EACCES,
	"phase error -- use after remove":                 syscall.ESTALE,
	"resource in use":                                 syscall.EBUSY,
	"too many fids":                                   syscall.ENFILE,
	"user does not exist":                             syscall.EINVAL,
	"wstat -- attempt to change directory":            syscall.EINVAL,
	"wstat -- attempt to change qid.path":             syscall.EINVAL,
	"wstat -- attempt to change qid.vers":             syscall.EINVAL,
	"wstat -- attempt to make length negative":        syscall.EINVAL,
	"wstat -- not in group":                           syscall.EPERM,
	"wstat -- not owner":                              syscall.EPERM,
	"wstat -- not owner or group leader":              syscall.EPERM,
	"wstat -- unknown bits in qid.type/mode":          syscall.EINVAL,

	// Of Plan 9's kernel, lib9p and u9fs.
	"bad offset in directory read": syscall.EINVAL,
	"duplicate fid":                syscall.EIO,
	"file already exists":          syscall.EEXIST,
	"file does not exist":          syscall.ENOENT,
	"file in use":                  syscall.EBUSY,
	"file not found":               syscall.ENOENT,
	"file or directory not found":  syscall.ENOENT,
	"is a directory":               syscall.EISDIR,
	"not a directory":              syscall.ENOTDIR,
	"read-only file system":        syscall.EROFS,
	"wstat prohibited":             syscall.EPERM,
}

// errnoOf returns the number for an error of a request: the error itself if it is one, what the table
// has for the server's text, and EIO for everything else, the connection's end included.
func errnoOf(err error) syscall.Errno {
	if n, ok := err.(syscall.Errno); ok {
		return n // ours; what is wrapped is of the connection
	}
	var said ninep.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &said):
		if n, ok := errnos[said]; ok {
			return n
		}
	case errors.Is(err, ninep.ErrTooLong):
		return syscall.ENAMETOOLONG
	}
	return syscall.EIO
}
