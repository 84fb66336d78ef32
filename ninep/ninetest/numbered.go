package ninetest

import (
	"errors"

	"gefs9p/ninep"
)

// Numbered is an FS that can be spoken to in 9P2000.u as well; in 9P2000.L it can, but its files are none of
// Linux. Glenda has the number Glenda, everybody else is Nobody.
type Numbered struct{ *FS }

// The numbers of users.
const (
	Glenda = 1000
	Nobody = 65534
)

// UserOf implements ninep.LinuxFS.
func (Numbered) UserOf(uid uint32) (string, error) {
	if uid == Glenda {
		return "glenda", nil
	}
	return "", ErrPerm
}

// Errno implements ninep.LinuxFS.
func (Numbered) Errno(err error) ninep.Errno {
	for _, e := range []struct {
		err error
		no  ninep.Errno
	}{
		{ErrPerm, ninep.EACCES}, {ErrExist, ninep.EEXIST}, {ErrEmpty, ninep.ENOTEMPTY}, {ErrGone, ninep.ENOENT},
	} {
		if errors.Is(err, e.err) {
			return e.no
		}
	}
	return 0
}

// numberOf is the number of a user.
func numberOf(name string) uint32 {
	if name == "glenda" {
		return Glenda
	}
	return Nobody
}

// unixDir is a file's record in 9P2000.u.
func unixDir(d *ninep.Dir) ninep.UnixDir {
	return ninep.UnixDir{Dir: *d, UnixStat: ninep.UnixStat{Nuid: numberOf(d.Uid), Ngid: numberOf(d.Gid), Nmuid: numberOf(d.Muid)}}
}

// StatUnix implements ninep.UnixFile.
func (f *file) StatUnix(c *ninep.Ctx, d *ninep.UnixDir) error {
	if err := f.Stat(c, &d.Dir); err != nil {
		return err
	}
	*d = unixDir(&d.Dir)
	return nil
}

// WstatUnix implements ninep.UnixFile: beside what Wstat changes, the owner, by number.
func (f *file) WstatUnix(c *ninep.Ctx, d *ninep.UnixDir) error {
	uname := ""
	if d.Nuid != ninep.NOUID {
		var err error
		if uname, err = (Numbered{}).UserOf(d.Nuid); err != nil {
			return err
		}
	}
	if err := f.Wstat(c, &d.Dir); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if uname != "" {
		f.n.dir.Uid = uname
	}
	return nil
}
