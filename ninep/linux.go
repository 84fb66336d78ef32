package ninep

// A LinuxFS is an FS that knows Linux's numbers, and can be spoken to in the dialects that Linux's client has
// beside 9P2000. Files that it returns on connections that speak 9P2000.L should be LinuxFiles, and UnixFiles
// on those that speak 9P2000.u. A client asks for a dialect in its Tversion; the same server speaks
// 9P2000 to all others.
type LinuxFS interface {
	FS

	// UserOf names the user whose number a client gave instead of a name (n_uname). The error is
	// what the client is told; but number 0, if it is nobody's, is the user who attached first by name on
	// the connection.
	UserOf(uid uint32) (string, error)

	// Errno gives the number for an error that the FS or a File has returned, 0 if it knows none
	// better than EIO. It must not look at texts.
	Errno(err error) Errno
}

// A LinuxFile is a File that understands 9P2000.L. Nothing has been checked of names, flags and modes.
// Methods that get another File may be called with one of another LinuxFS' tree on the same server, but
// never with an auth fid.
//
// What the server answers by itself: symbolic and hard links, devices and extended attributes are refused
// with EOPNOTSUPP; a regular file is made by Tmknod as by Lcreate; Topen, Tcreate, Tstat and Twstat are
// not part of the dialect. Locks are the server's business too, see Identity.
//
// Sources: the description of the protocol in diod's protocol.md, and fs/9p of Linux.
type LinuxFile interface {
	File

	// Lopen opens the file by Linux's flags, O…. The iounit is as in Open.
	Lopen(c *Ctx, flags uint32) (q Qid, iounit uint32, err error)

	// Lcreate makes name in this directory, or without OExcl opens what is there, and this File
	// becomes that file, open by flags. gid is the group that Linux would give it.
	Lcreate(c *Ctx, name string, flags, mode, gid uint32) (q Qid, iounit uint32, err error)

	// Mkdir makes a directory in this one.
	Mkdir(c *Ctx, name string, mode, gid uint32) (Qid, error)

	// Getattr fills a, which holds zeros.
	Getattr(c *Ctx, a *Attr) error

	// Setattr sets what s.Valid says, all or nothing.
	Setattr(c *Ctx, s *LSetattr) error

	// Readdir puts entries into p with AppendDirent, those that follow the one whose offset off is,
	// from the beginning if it is 0. "." and ".." are entries. None is the end.
	Readdir(c *Ctx, p []byte, off uint64) (n int, err error)

	// Statfs fills s, which holds zeros.
	Statfs(c *Ctx, s *Statfs) error

	// Fsync returns when all that was written is on stable storage.
	Fsync(c *Ctx) error

	// Rename moves this file into dir, under another name or the same, and replaces what is there
	// as rename(2) does.
	Rename(c *Ctx, dir File, name string) error

	// RenameAt does the same to an entry of this directory.
	RenameAt(c *Ctx, name string, dir File, newname string) error

	// UnlinkAt removes an entry of this directory, with AtRemoveDir in flags a directory and else a
	// file. Fids that have the file open go on working.
	UnlinkAt(c *Ctx, name string, flags uint32) error

	// Identity is the same, by ==, for all Files that stand for the same file at the same time. The
	// server asks for it to find the locks of others.
	Identity() any
}

// NOUID is the n_uname of a client that gives a name.
const NOUID = ^uint32(0)

// Flags of Lopen and Lcreate that mean something to a server; the low two bits are OREAD, OWRITE or
// ORDWR. The numbers are those of most architectures.
const (
	OCreat     = 0o100
	OExcl      = 0o200
	OTrunc     = 0o1000
	OAppend    = 0o2000
	ODirectory = 0o200000
)

// AtRemoveDir is the flag of UnlinkAt.
const AtRemoveDir = 0x200

// File types in Linux's modes.
const (
	SIfmt  = 0o170000
	SIfdir = 0o040000
	SIfreg = 0o100000
)

// Types of entries in a directory.
const (
	DTDir      = 4
	DTReg      = 8
	DirentSize = QidSize + 8 + 1 + 2 // bytes of an entry beside its name
)

// Bits of LSetattr.Valid. A time is set to now, unless the bit with Set says to what.
const (
	SetMode = 1 << iota
	SetUid
	SetGid
	SetSize
	SetAtime
	SetMtime
	SetCtime
	SetAtimeSet
	SetMtimeSet
)

// attrBasic says that an Rgetattr has all that stat(2) gives.
const attrBasic = 0x7ff

// An Attr is what Linux's stat(2) says of a file.
type Attr struct {
	Qid                 Qid
	Mode                uint32 // with the file type
	Uid, Gid            uint32
	Nlink               uint64
	Size                uint64
	Blksize             uint64
	Blocks              uint64 // of 512 bytes
	Atime, Mtime, Ctime int64  // ns since 1970
}

// A Statfs is what Linux's statfs(2) says of a file system. Blocks are of Bsize bytes. Files and Ffree
// are 0 where nobody counts.
type Statfs struct {
	Type, Bsize           uint32
	Blocks, Bfree, Bavail uint64
	Files, Ffree, Fsid    uint64
	Namelen               uint32
}

// StatfsMagic is the Type of a Statfs: V9FS_MAGIC of Linux.
const StatfsMagic = 0x01021997

func linuxTime(ns int64) LTime {
	sec := ns / 1e9
	if ns%1e9 < 0 {
		sec--
	}
	return LTime{uint64(sec), uint64(ns - sec*1e9)}
}

// maxTime is the last second that nanoseconds since 1970 can say.
const maxTime = 1<<63/1000000000 - 1

// Nanos is the time in ns since 1970, or false if that is out of range.
func (t LTime) Nanos() (int64, bool) {
	sec := int64(t.Sec)
	if t.Nsec >= 1e9 || sec < -maxTime || sec > maxTime {
		return 0, false
	}
	return sec*1e9 + int64(t.Nsec), true
}
