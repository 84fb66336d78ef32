//go:build linux || darwin

package mount

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"gefs9p/ninep"
)

// nobody is the number of users and groups that this system does not know.
const nobody = 65534

// identity returns what the kernel tells files apart by. One file has one qid in all snapshots: so where
// there are several, snapshot says which, and label that it is the snapshot's root.
func identity(q ninep.Qid, snapshot uint64, label bool) fs.StableAttr {
	ino := q.Uid + snapshot
	if label {
		ino = ^snapshot // not that of any file in it: those are small
	}
	if ino < 2 || ino == ^uint64(0) { // what go-fuse has other uses for
		ino += 1 << 62
	}
	mode := uint32(syscall.S_IFREG)
	if q.Qtype&ninep.QTDIR != 0 {
		mode = syscall.S_IFDIR
	}
	return fs.StableAttr{Mode: mode, Ino: ino}
}

// attr says in the kernel's words what d says.
func (s *Server) attr(d *ninep.Dir, a *fuse.Attr) {
	a.Mode = d.Mode & 0o777
	if d.Mode&ninep.DMDIR != 0 {
		a.Mode |= syscall.S_IFDIR
	} else {
		a.Mode |= syscall.S_IFREG
		a.Size = d.Length
		a.Blocks = (d.Length + 511) / 512
	}
	a.Nlink = 1
	mtime := time.Unix(int64(d.Mtime), 0)
	atime := time.Unix(int64(d.Atime), 0)
	a.SetTimes(&atime, &mtime, &mtime)
	a.Uid, a.Gid = s.ids(d.Uid, d.Gid)
}

// ids returns the numbers of a file's owner and group. Those of the user who is attached are the numbers of
// whoever runs this.
func (s *Server) ids(owner, group string) (uid, gid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid, ok := s.uids[owner]
	if !ok {
		uid = nobody
		if u, err := user.Lookup(owner); err == nil {
			uid = number(u.Uid)
		}
		s.uids[owner] = uid
	}
	gid, ok = s.gids[group]
	if !ok {
		gid = nobody
		if g, err := user.LookupGroup(group); err == nil {
			gid = number(g.Gid)
		}
		s.gids[group] = gid
	}
	return uid, gid
}

// number reads an id of package user.
func number(id string) uint32 {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return nobody
	}
	return uint32(n)
}

// setOwner adds to want what a chown asks for. The numbers that are shown change nothing; an owner
// cannot be given away in 9P2000, a group is changed by name.
func (s *Server) setOwner(in *fuse.SetAttrIn, d func() (*ninep.Dir, error), want *ninep.Dir) error {
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if !setUID && !setGID {
		return nil
	}
	now, err := d()
	if err != nil {
		return err
	}
	isUID, isGID := s.ids(now.Uid, now.Gid)
	if setUID && uid != isUID {
		return syscall.EPERM
	}
	if setGID && gid != isGID {
		g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
		if err != nil {
			return syscall.EPERM
		}
		want.Gid = g.Name
	}
	return nil
}

// change says as a record for Twstat what the kernel wants changed. d returns the file's record, if that is
// needed.
func (s *Server) change(in *fuse.SetAttrIn, d func() (*ninep.Dir, error)) (ninep.Dir, error) {
	want := ninep.NullDir()
	if mode, ok := in.GetMode(); ok {
		if mode&0o7000 != 0 {
			return want, syscall.EOPNOTSUPP
		}
		now, err := d()
		if err != nil {
			return want, err
		}
		if now.Mode&0o777 != mode {
			want.Mode = now.Mode&^0o777 | mode
		}
	}
	if size, ok := in.GetSize(); ok {
		want.Length = size
	}
	if t, ok := in.GetMTime(); ok {
		if sec := t.Unix(); sec < 0 || sec >= 1<<32-1 {
			return want, syscall.EINVAL
		}
		want.Mtime = uint32(t.Unix())
	}
	return want, s.setOwner(in, d, &want)
}

// myself returns the tables of numbers as they are before anybody is looked up.
func myself(name string) (uids, gids map[string]uint32) {
	return map[string]uint32{name: uint32(os.Getuid())}, map[string]uint32{name: uint32(os.Getgid())}
}
