package gefs

import "gefs9p/ninep"

var _ ninep.LinuxFile = (*dumpDir)(nil)

// Lopen opens the directory for reading.
func (d *dumpDir) Lopen(c *ninep.Ctx, flags uint32) (ninep.Qid, uint32, error) {
	mode, err := linuxMode(flags)
	if err != nil {
		return ninep.Qid{}, 0, err
	}
	return d.Open(c, mode)
}

// Getattr describes the directory itself, which is as old as the disk.
func (d *dumpDir) Getattr(c *ninep.Ctx, a *ninep.Attr) error {
	*a = ninep.Attr{Qid: d.qid(), Mode: ninep.SIfdir | 0555, Uid: nobodyID, Gid: nobodyID, Nlink: 1}
	return nil
}

// Readdir gives an entry for each label. Offsets count them.
func (d *dumpDir) Readdir(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mode == notOpen {
		return 0, errInUse
	}
	type entry struct {
		name string
		path uint64
	}
	all := []entry{{".", dumpQid}, {"..", dumpQid}}
	for _, l := range d.fs.forest.Labels() {
		all = append(all, entry{l.Name, salt(l.Name)})
	}
	out := p[:0]
	for i := off; i < uint64(len(all)); i++ {
		e := all[i]
		if len(out)+ninep.DirentSize+len(e.name) > len(p) {
			if len(out) == 0 {
				return 0, ninep.EINVAL
			}
			break
		}
		q := ninep.Qid{Qtype: ninep.QTDIR, Vers: uint32(d.fs.forest.NextGen()), Uid: e.path}
		out = ninep.AppendDirent(out, q, i+1, ninep.DTDir, e.name)
	}
	return len(out), nil
}

// Statfs speaks of the disk.
func (d *dumpDir) Statfs(c *ninep.Ctx, s *ninep.Statfs) error {
	d.fs.statfs(s)
	return nil
}

// Fsync commits everything.
func (d *dumpDir) Fsync(c *ninep.Ctx) error { return d.fs.syncFor(c) }

// Identity is the fid: nobody locks the directory against others.
func (d *dumpDir) Identity() any { return d }

// Lcreate is refused, and so is all else that would change the directory, which is made up.
func (d *dumpDir) Lcreate(c *ninep.Ctx, name string, flags, mode, gid uint32) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, 0, errReadOnly
}

// Mkdir is refused.
func (d *dumpDir) Mkdir(c *ninep.Ctx, name string, mode, gid uint32) (ninep.Qid, error) {
	return ninep.Qid{}, errReadOnly
}

// Setattr is refused.
func (d *dumpDir) Setattr(c *ninep.Ctx, s *ninep.LSetattr) error { return errReadOnly }

// Rename is refused.
func (d *dumpDir) Rename(c *ninep.Ctx, dir ninep.File, name string) error { return errReadOnly }

// RenameAt is refused: snapshots get other names on the console.
func (d *dumpDir) RenameAt(c *ninep.Ctx, name string, dir ninep.File, newname string) error {
	return errReadOnly
}

// UnlinkAt is refused: snapshots are deleted on the console.
func (d *dumpDir) UnlinkAt(c *ninep.Ctx, name string, flags uint32) error { return errReadOnly }
