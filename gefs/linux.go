package gefs

import (
	"errors"
	"math"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

var (
	_ ninep.LinuxFS   = (*FS)(nil)
	_ ninep.LinuxFile = (*File)(nil)
)

// An IDMap says which Linux users are which of ours. Its methods must be safe for concurrent use.
type IDMap interface {
	// Number returns the Linux uid, and gid, of one of our users, and whether it has one.
	Number(name string) (uint32, bool)
	// Name returns our user with the Linux uid, and whether there is one.
	Name(id uint32) (string, bool)
}

// nobodyID is what Linux users see as the owner who has no number there.
const nobodyID = 65534

// UserOf names the user with a Linux uid: the one who has it in Options.IDs, or else the one with this id
// in the users table; but 0 is Linux' superuser, and not none.
func (fs *FS) UserOf(uid uint32) (string, error) {
	if m := fs.opt.IDs; m != nil {
		if name, ok := m.Name(uid); ok {
			if _, ok := fs.Users().ID(name); ok {
				return name, nil
			}
		}
	}
	if uid > 0 && uid <= math.MaxInt32 {
		if name, ok := fs.Users().Name(int32(uid)); ok && !fs.renumbered(name) {
			return name, nil
		}
	}
	return "", errNoUser
}

// renumbered says that Options.IDs has another number for the user than the users table.
func (fs *FS) renumbered(name string) bool {
	if fs.opt.IDs == nil {
		return false
	}
	_, ok := fs.opt.IDs.Number(name)
	return ok
}

// linuxID is the number that Linux sees for one of our ids.
func (fs *FS) linuxID(id int32) uint32 {
	if fs.opt.IDs != nil {
		if name, ok := fs.Users().Name(id); ok {
			if n, ok := fs.opt.IDs.Number(name); ok {
				return n
			}
		}
	}
	if id <= 0 { // adm, and none, whose files are not those of Linux' superuser
		return nobodyID
	}
	return uint32(id)
}

// errnos are the numbers that Linux has for what we say. What is not here is EIO.
var errnos = []struct {
	err ninep.Error
	no  ninep.Errno
}{
	{errInUse, ninep.EBADF},
	{errScan, ninep.EINVAL},
	{errExists, ninep.EEXIST},
	{errMode, ninep.EINVAL},
	{errFull, ninep.ENOSPC},
	{errQuota, ninep.EDQUOT},
	{errLength, ninep.ENAMETOOLONG},
	{errPerm, ninep.EACCES},
	{errSpec, ninep.ENOENT},
	{errBadUser, ninep.EACCES},
	{errReadOnly, ninep.EROFS},
	{errLocked, ninep.EBUSY},
	{errPhase, ninep.ENOENT},
	{errNotEmpty, ninep.ENOTEMPTY},
	{errNoUser, ninep.EACCES},
	{errNoGroup, ninep.EPERM},
	{errFileSize, ninep.EFBIG},
	{errNoneAuth, ninep.EACCES},
	{errWstatBits, ninep.EINVAL},
	{errWstatDir, ninep.EINVAL},
	{errWstatPath, ninep.EINVAL},
	{errWstatVers, ninep.EINVAL},
	{errWstatGroup, ninep.EPERM},
	{errWstatLength, ninep.EINVAL},
	{errWstatOwner, ninep.EPERM},
	{errWstatUid, ninep.EPERM},
}

// Errno gives Linux's number for an error of the file system, 0 if it has none but EIO.
func (fs *FS) Errno(err error) ninep.Errno {
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.no
		}
	}
	return 0
}

// linuxMode is the open mode for Linux's flags. Those that are not looked at are the client's own
// business. So is OAppend, whose client knows where the end is and says so: Linux before 6.19 writes
// whole pages back through such a fid, which must not land at the end.
func linuxMode(flags uint32) (uint8, error) {
	mode := uint8(flags & 3)
	if mode > ninep.ORDWR {
		return 0, ninep.EINVAL
	}
	if flags&ninep.OTrunc != 0 {
		mode |= ninep.OTRUNC
	}
	return mode, nil
}

// Lopen opens the file by Linux's flags.
func (f *File) Lopen(c *ninep.Ctx, flags uint32) (ninep.Qid, uint32, error) {
	mode, err := linuxMode(flags)
	f.mu.RLock()
	isDir := f.dent.isDir()
	f.mu.RUnlock()
	switch {
	case err != nil:
		return ninep.Qid{}, 0, err
	case isDir && mode != ninep.OREAD:
		return ninep.Qid{}, 0, ninep.EISDIR
	case !isDir && flags&ninep.ODirectory != 0:
		return ninep.Qid{}, 0, ninep.ENOTDIR
	}
	return f.Open(c, mode)
}

// Lcreate makes a file in this directory and opens it. The permissions are mode's, from which the client has
// taken its umask; the group is the directory's, whatever gid is. Without OExcl what is there is
// opened.
func (f *File) Lcreate(c *ninep.Ctx, name string, flags, mode, gid uint32) (ninep.Qid, uint32, error) {
	none := ninep.Qid{}
	open, err := linuxMode(flags)
	if err != nil {
		return none, 0, err
	}
	q, iounit, err := f.Create(c, name, mode&dmPerm, open&^ninep.OTRUNC)
	if !errors.Is(err, errExists) || flags&ninep.OExcl != 0 {
		return q, iounit, err
	}
	var qids [1]ninep.Qid
	nf, _, err := f.Walk(c, []string{name}, qids[:])
	if err != nil {
		return none, 0, err
	}
	there := nf.(*File)
	if q, iounit, err = there.Lopen(c, flags); err == nil {
		err = f.become(there)
	}
	there.Clunk(c)
	return q, iounit, err
}

// become makes f, a fid that is not open, what the open fid there is, which nobody else has; that one
// is left to be clunked as what f was.
func (f *File) become(there *File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != notOpen {
		return errInUse
	}
	there.mu.Lock()
	defer there.mu.Unlock()
	f.dent, there.dent = there.dent, f.dent
	f.dir, there.dir = there.dir, f.dir
	f.mode, there.mode = there.mode, notOpen
	return nil
}

// Mkdir makes a directory in this one, with mode's permissions and this one's group.
func (f *File) Mkdir(c *ninep.Ctx, name string, mode, gid uint32) (ninep.Qid, error) {
	nf, _, err := f.Walk(c, nil, nil)
	if err != nil {
		return ninep.Qid{}, err
	}
	defer nf.Clunk(c)
	q, _, err := nf.Create(c, name, ninep.DMDIR|mode&dmPerm, ninep.OREAD)
	return q, err
}

// Getattr says what Linux wants to know of the file. There is no time of the last change of the entry
// on disk, so the data's stands for it; and nobody counts the directories in a directory, which a link
// count of 1 says.
func (f *File) Getattr(c *ninep.Ctx, a *ninep.Attr) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.dent.mu.RLock()
	defer f.dent.mu.RUnlock()
	d := &f.dent.dir
	*a = ninep.Attr{
		Qid: f.wireQid(d.Qid), Mode: ninep.SIfreg | d.Mode&dmPerm,
		Uid: f.fs.linuxID(d.Uid), Gid: f.fs.linuxID(d.Gid), Nlink: 1,
		Size: d.Length, Blksize: blkfmt.BlkSize, Blocks: (d.Length + blkfmt.BlkSize - 1) / blkfmt.BlkSize * (blkfmt.BlkSize / 512),
		Atime: d.Atime, Mtime: d.Mtime, Ctime: d.Mtime,
	}
	if d.Mode&dmDir != 0 {
		a.Mode, a.Size, a.Blocks = ninep.SIfdir|d.Mode&dmPerm, 0, 0
	}
	if f.dent.gone {
		a.Nlink = 0
	}
	return nil
}

// Setattr changes what s asks for, all or nothing. Bits of the mode beside the permissions are dropped,
// as there is no place for them. The owner cannot be given away, except without permission checks; the group
// can be one that the user is in.
func (f *File) Setattr(c *ninep.Ctx, s *ninep.LSetattr) error {
	const known = ninep.SetMode | ninep.SetUid | ninep.SetGid | ninep.SetSize | ninep.SetAtime | ninep.SetMtime | ninep.SetCtime | ninep.SetAtimeSet | ninep.SetMtimeSet
	if s.Valid&^uint32(known) != 0 {
		return ninep.EINVAL
	}
	blocks := 1
	f.mu.RLock()
	if s.Valid&ninep.SetSize != 0 && s.Size <= f.dent.values().Length {
		blocks = 0 // gives space back, or would
	}
	f.mu.RUnlock()
	err := f.fs.settled(c, f, blocks, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.setattr(c, s)
	})
	return f.fs.wire(err, "setattr", f)
}

// setattr makes the change. The mutation lock and f.mu are held, nothing is being cleared.
func (f *File) setattr(c *ninep.Ctx, s *ninep.LSetattr) error {
	de, t := f.dent, f.fs.Users()
	de.mu.RLock()
	cur, gone := de.dir, de.gone && !de.kept()
	de.mu.RUnlock()
	if gone {
		return errPhase
	}
	set, mask := cur, uint8(0)
	has := func(bit uint32) bool { return s.Valid&bit != 0 }
	owner := f.permit || f.uid == cur.Uid || t.Leader(f.uid, cur.Gid)
	writer := f.access(&cur, wantWrite)
	opened := f.mode != notOpen && (f.mode&3 == ninep.OWRITE || f.mode&3 == ninep.ORDWR)

	if has(ninep.SetMode) {
		if !owner {
			return errWstatOwner
		}
		if set.Mode = cur.Mode&^dmPerm | s.Mode&dmPerm; set.Mode != cur.Mode {
			mask |= kvfmt.WMode
		}
	}
	if has(ninep.SetUid) && s.Uid != f.fs.linuxID(cur.Uid) {
		if !f.permit {
			return errWstatUid
		}
		id, err := f.fs.idOf(s.Uid)
		if err != nil {
			return err
		}
		set.Uid = id
		mask |= kvfmt.WUid
	}
	if has(ninep.SetGid) && s.Gid != f.fs.linuxID(cur.Gid) {
		id, err := f.fs.idOf(s.Gid)
		if err != nil {
			return err
		}
		mayGive := f.uid == cur.Uid && t.InGroup(f.uid, id) || t.Leader(f.uid, cur.Gid) && t.Leader(f.uid, id)
		if !f.permit && !mayGive {
			return errWstatGroup
		}
		set.Gid = id
		mask |= kvfmt.WGid
	}
	now := f.fs.now().UnixNano()
	if has(ninep.SetSize) {
		switch {
		case cur.Mode&dmDir != 0:
			return ninep.EISDIR
		case !writer && !opened:
			return errPerm
		case s.Size > maxOffset:
			return errFileSize
		}
		set.Length, set.Mtime = s.Size, now
		mask |= kvfmt.WMtime
		if s.Size != cur.Length {
			mask |= kvfmt.WLength
		}
	}
	for _, x := range []struct {
		bit, to uint32
		val     ninep.LTime
		time    *int64
		mask    uint8
	}{
		{ninep.SetAtime, ninep.SetAtimeSet, s.Atime, &set.Atime, kvfmt.WAtime},
		{ninep.SetMtime, ninep.SetMtimeSet, s.Mtime, &set.Mtime, kvfmt.WMtime},
	} {
		switch {
		case !has(x.bit):
			continue
		case !has(x.to):
			if !owner && !writer && !opened {
				return errPerm
			}
			*x.time = now
		case !owner:
			return errWstatOwner
		default:
			ns, ok := x.val.Nanos()
			if !ok {
				return ninep.EINVAL
			}
			*x.time = ns
		}
		mask |= x.mask
	}
	switch {
	case mask == 0:
		return nil
	case !f.mount.tree.Mutable():
		return errReadOnly
	}
	set.Muid = f.uid
	return f.fs.truncate(guard(c), f, set.Length, de, mask|kvfmt.WMuid, set)
}

// idOf returns our id for a Linux user or group.
func (fs *FS) idOf(n uint32) (int32, error) {
	name, err := fs.UserOf(n)
	if err != nil {
		return 0, errNoGroup
	}
	id, ok := fs.Users().ID(name)
	if !ok {
		return 0, errNoGroup
	}
	return id, nil
}

// Statfs gives true numbers of blocks; files are not counted and not limited. If the label has a quota that is
// smaller than the disk, it is what there is, and what it leaves is free.
func (f *File) Statfs(c *ninep.Ctx, s *ninep.Statfs) error {
	f.fs.statfs(s)
	if f.mount.tally.Load() == nil {
		return nil
	}
	f.fs.lockMut(c)
	defer f.fs.mutMu.Unlock()
	if t := f.mount.tally.Load(); t != nil {
		t.statfs(s)
	}
	return nil
}

func (fs *FS) statfs(s *ninep.Statfs) {
	*s = ninep.Statfs{Type: ninep.StatfsMagic, Bsize: blkfmt.BlkSize, Namelen: kvfmt.NameMax}
	for _, a := range fs.st.Arenas().Stat() {
		s.Blocks += uint64(a.Size) / blkfmt.BlkSize
		// What waits for a commit is as good as free: whoever needs it makes the commit.
		s.Bfree += uint64(a.Free+a.Waiting) / blkfmt.BlkSize
		s.Bavail += uint64(max(0, a.Free+a.Waiting-a.Reserve)) / blkfmt.BlkSize
	}
}

// Fsync commits everything.
func (f *File) Fsync(c *ninep.Ctx) error { return f.fs.syncFor(c) }

// Identity is the Dent: there is one for each file in use, and as long as f is not clunked it stays.
func (f *File) Identity() any {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.dent
}
