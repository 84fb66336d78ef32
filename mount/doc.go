// Package mount makes the tree of a 9P2000 server a file system of this machine's kernel, by way of
// FUSE. It runs on Linux and macOS; elsewhere New says that it does not.
//
// What a program asks of the kernel becomes requests of package client, many at once on one connection.
// The server decides who may do what, and everything is done as the user who was attached: the
// kernel's own check of permissions is not asked for. The file system holds no data of its own:
// whatever a write, a truncation or a rename was told to have done, the server has done. The kernel keeps
// what it has read of a file until the file is opened anew or seen to have changed, and names and
// attributes as long as Options.Cache says.
//
// What 9P2000 cannot say is refused: symbolic and hard links, devices, extended attributes and the
// set-user-id bits with an error each, a rename into another directory with EXDEV, so that mv copies. A rename
// onto a name that exists, which 9P refuses, is made of three requests: the old file is put aside, the
// new one gets its name, the old one is removed. A crash in between leaves both, one of them under a name
// that begins with AsideName. A file that was removed is gone for those who have it open as well:
// their requests fail with ESTALE.
//
// When the connection ends, everything fails with EIO until the file system is unmounted: nothing is
// connected anew, since what was open would not be what it was.
//
// A directory is held by a fid as long as it is among the maxDirs last used; everything else is walked to
// from its directory. So what others rename on the server stays what it was, and the server's limit
// of fids is far away.
//
// Locks: dirs.mu is a leaf, not held during requests. Server.mu, of the table of users, is held while
// the system is asked for one.
//
// Sources: section 5 of the Plan 9 manual; the errors of the system calls are POSIX's.
package mount

import (
	"errors"
	"log/slog"
	"time"
)

// AsideName is how names begin that a file has for the moments in which another takes its place.
const AsideName = ".gefs9p-replaced-"

// ErrUnsupported is what New fails with on a system without FUSE.
var ErrUnsupported = errors.New("mounting is possible on Linux and macOS only; elsewhere use another 9P client (docs/clients.md)")

// Options says how a tree is mounted.
type Options struct {
	// Dir is where: a directory that exists.
	Dir string

	// Source is what the table of mounts shows, such as the server's address.
	Source string

	// User is whose files belong to whoever runs this; those of others are shown with the
	// numbers that the system has for their names, or as nobody's.
	User string

	// Cache is how long the kernel may believe names and attributes. 0 is not at all: then whatever
	// other clients change is seen at once.
	Cache time.Duration

	// AllowOther lets all users of this machine in, with the rights of User.
	AllowOther bool

	// ReadOnly has the kernel refuse every change.
	ReadOnly bool

	// Dump says that the root's directories are snapshots of one tree, in which one file has one qid:
	// then they are told apart by their names.
	Dump bool

	// Log is told what no program can be told. Not nil.
	Log *slog.Logger
}
