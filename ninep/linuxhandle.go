package ninep

import (
	"encoding/binary"
	"fmt"
)

// linux runs the handler of a message that only 9P2000.L has, and appends the reply. As in handle, that
// comes last.
func (r *request) linux() error {
	switch m := r.fc.Linux.(type) {
	case *LFid:
		if r.fc.Type == Tstatfs {
			return r.statfs(m)
		}
		return r.refuse(m.Fid)
	case *LOpen:
		return r.lopen(m)
	case *LCreate:
		return r.lcreate(m)
	case *LMkdir:
		return r.mkdir(m)
	case *LMknod:
		return r.mknod(m)
	case *LRename:
		return r.withTwo(m.Fid, m.Dfid, func(f LinuxFile, dir File) error { return f.Rename(&r.ctx, dir, m.Name) }, Rrename)
	case *LRenameat:
		return r.withTwo(m.Olddir, m.Newdir, func(f LinuxFile, dir File) error {
			return f.RenameAt(&r.ctx, m.Oldname, dir, m.Newname)
		}, Rrenameat)
	case *LUnlinkat:
		return r.with(m.Dfid, func(f LinuxFile) error { return f.UnlinkAt(&r.ctx, m.Name, m.Flags) }, Runlinkat)
	case *LSetattr:
		return r.with(m.Fid, func(f LinuxFile) error { return f.Setattr(&r.ctx, m) }, Rsetattr)
	case *LFsync:
		return r.with(m.Fid, func(f LinuxFile) error { return f.Fsync(&r.ctx) }, Rfsync)
	case *LGetattr:
		return r.getattr(m)
	case *LReaddir:
		return r.readdir(m)
	case *LLock:
		return r.lock(m)
	case *LGetlock:
		return r.getlock(m)
	case *LSymlink:
		return r.refuse(m.Fid)
	case *LLink:
		return r.refuse(m.Fid)
	case *LXattrwalk:
		return r.refuse(m.Fid)
	case *LXattrcreate:
		return r.refuse(m.Fid)
	}
	return fmt.Errorf("no handler for %s: %w", typeName(r.fc.Type), ErrInternal)
}

// refuse says no to what no file system served can do.
func (r *request) refuse(fid uint32) error {
	f, err := r.file(fid)
	if err != nil {
		return err
	}
	f.drop(&r.ctx)
	return EOPNOTSUPP
}

// linuxFile finds the fid n, which must be a LinuxFile. The caller drops it.
func (r *request) linuxFile(n uint32) (*fid, LinuxFile, error) {
	f, err := r.file(n)
	if err != nil {
		return nil, nil, err
	}
	lf, ok := f.file.(LinuxFile)
	if !ok {
		f.drop(&r.ctx)
		return nil, nil, EOPNOTSUPP
	}
	return f, lf, nil
}

// answer appends a reply, whose strings are known to be short enough.
func (r *request) answer(typ uint8, m LinuxMsg) {
	b := r.room(linuxReply)
	b.b, _ = AppendLinux(b.b, typ, r.fc.Tag, m)
}

// linuxReply bounds the size of every reply that has no data; Rgetattr is the longest.
const linuxReply = 256

// with does something with one fid and answers with an empty reply.
func (r *request) with(n uint32, do func(f LinuxFile) error, reply uint8) error {
	f, lf, err := r.linuxFile(n)
	if err != nil {
		return err
	}
	err = do(lf)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(reply, &LEmpty{})
	return nil
}

// withTwo does something with a fid and a directory.
func (r *request) withTwo(n, dir uint32, do func(f LinuxFile, dir File) error, reply uint8) error {
	d, err := r.file(dir)
	if err != nil {
		return err
	}
	f, lf, err := r.linuxFile(n)
	if err != nil {
		d.drop(&r.ctx)
		return err
	}
	err = do(lf, d.file)
	f.drop(&r.ctx)
	d.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(reply, &LEmpty{})
	return nil
}

func (r *request) lopen(m *LOpen) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	qid, iounit, err := lf.Lopen(&r.ctx, m.Flags)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rlopen, &LOpened{qid, r.iounit(iounit)})
	return nil
}

func (r *request) lcreate(m *LCreate) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	qid, iounit, err := lf.Lcreate(&r.ctx, m.Name, m.Flags, m.Mode, m.Gid)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rlcreate, &LOpened{qid, r.iounit(iounit)})
	return nil
}

func (r *request) mkdir(m *LMkdir) error {
	f, lf, err := r.linuxFile(m.Dfid)
	if err != nil {
		return err
	}
	qid, err := lf.Mkdir(&r.ctx, m.Name, m.Mode, m.Gid)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rmkdir, &LQid{qid})
	return nil
}

// mknod makes a regular file, with a fid of its own that nobody sees. There is nothing else it could make.
func (r *request) mknod(m *LMknod) error {
	f, lf, err := r.linuxFile(m.Dfid)
	if err != nil {
		return err
	}
	qid, err := r.mkfile(lf, m)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rmknod, &LQid{qid})
	return nil
}

func (r *request) mkfile(dir LinuxFile, m *LMknod) (Qid, error) {
	if t := m.Mode & SIfmt; t != SIfreg && t != 0 {
		return Qid{}, EOPNOTSUPP
	}
	nf, _, err := dir.Walk(&r.ctx, nil, nil)
	if err != nil {
		return Qid{}, err
	}
	defer nf.Clunk(&r.ctx)
	lf, ok := nf.(LinuxFile)
	if !ok {
		return Qid{}, EOPNOTSUPP
	}
	qid, _, err := lf.Lcreate(&r.ctx, m.Name, OREAD|OCreat|OExcl, m.Mode&^SIfmt, m.Gid)
	return qid, err
}

func (r *request) statfs(m *LFid) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	var s LStatfs
	err = lf.Statfs(&r.ctx, &s.Statfs)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rstatfs, &s)
	return nil
}

func (r *request) getattr(m *LGetattr) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	var a Attr
	err = lf.Getattr(&r.ctx, &a)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	r.answer(Rgetattr, &LAttr{
		Valid: attrBasic, Qid: a.Qid, Mode: a.Mode, Uid: a.Uid, Gid: a.Gid, Nlink: a.Nlink,
		Size: a.Size, Blksize: a.Blksize, Blks: a.Blocks,
		Atime: linuxTime(a.Atime), Mtime: linuxTime(a.Mtime), Ctime: linuxTime(a.Ctime),
	})
	return nil
}

// readdir builds its reply in place, as read does: the two headers are alike.
func (r *request) readdir(m *LReaddir) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	count := r.readCount()
	b := r.room(max(rreadHeader+count, errorReply))
	r.at = len(b.b)
	data := r.at + rreadHeader
	n, err := lf.Readdir(&r.ctx, b.b[data:data+count:data+count], m.Offset)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	if n < 0 || n > count {
		return fmt.Errorf("Readdir of %d bytes returned %d: %w", count, n, ErrInternal)
	}
	b.b = begin(b.b, Rreaddir, r.fc.Tag)
	b.b = binary.LittleEndian.AppendUint32(b.b, uint32(n))
	b.b = end(b.b[:data+n], r.at)
	return nil
}

func (r *request) lock(m *LLock) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	status := r.c.s.locks.set(f, lf.Identity(), lockRange{
		typ: m.Type, start: m.Start, end: lockEnd(m.Start, m.Length),
		owner: lockOwner{r.c, m.Proc, m.Client},
	})
	f.drop(&r.ctx)
	r.answer(Rlock, &LLocked{status})
	return nil
}

func (r *request) getlock(m *LGetlock) error {
	f, lf, err := r.linuxFile(m.Fid)
	if err != nil {
		return err
	}
	if len(m.Client) > maxClient {
		f.drop(&r.ctx)
		return EINVAL
	}
	a := m.LRange
	l, found := r.c.s.locks.conflict(lf.Identity(), lockRange{
		typ: m.Type, start: m.Start, end: lockEnd(m.Start, m.Length),
		owner: lockOwner{r.c, m.Proc, m.Client},
	})
	f.drop(&r.ctx)
	a.Type = LockUnlock
	if found {
		a = LRange{Type: l.typ, Start: l.start, Proc: l.owner.proc, Client: l.owner.client}
		if l.end != lockForever {
			a.Length = l.end - l.start
		}
	}
	r.answer(Rgetlock, &a)
	return nil
}
