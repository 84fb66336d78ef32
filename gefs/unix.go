package gefs

import (
	"fmt"

	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

var (
	_ ninep.UnixFile = (*File)(nil)
	_ ninep.UnixFile = (*dumpDir)(nil)
)

// errNoNumber is for a number that no user has. It has the text of a name that nobody has, and Linux's number for
// an owner that cannot be given.
var errNoNumber = fmt.Errorf("%w: %w", errNoUser, ninep.EPERM)

// forUnix reports that the client is a Unix: it has taken its umask when it asks for the permissions of a
// new file, and goes on with files that are removed while it has them open.
func (f *File) forUnix() bool { return f.dialect != ninep.Plan9 }

// StatUnix fills d from the file's entry, numbers included.
func (f *File) StatUnix(c *ninep.Ctx, d *ninep.UnixDir) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.dent.mu.RLock()
	defer f.dent.mu.RUnlock()
	f.fs.fillDir(&d.Dir, f.dent.name, &f.dent.dir)
	d.Qid = f.wireQid(f.dent.dir.Qid)
	d.UnixStat = f.fs.numbers(&f.dent.dir)
	return nil
}

// numbers are those of an entry's users, as 9P2000.L has them too.
func (fs *FS) numbers(e *kvfmt.Dir) ninep.UnixStat {
	return ninep.UnixStat{Nuid: fs.linuxID(e.Uid), Ngid: fs.linuxID(e.Gid), Nmuid: fs.linuxID(e.Muid)}
}

// WstatUnix is Wstat with numbers for users and groups that have no name in the record. A number that is
// what Linux sees already asks for nothing, whether or not a user has it.
func (f *File) WstatUnix(c *ninep.Ctx, d *ninep.UnixDir) error {
	if d.IsNull() {
		return f.fs.syncFor(c)
	}
	return f.change(c, &wish{&d.Dir, d.Nuid, d.Ngid})
}

// StatUnix describes the directory itself, which is nobody's.
func (d *dumpDir) StatUnix(c *ninep.Ctx, r *ninep.UnixDir) error {
	d.fillUnix(r, "/", dumpQid)
	return nil
}

// fillUnix makes a record of a synthetic directory.
func (d *dumpDir) fillUnix(r *ninep.UnixDir, name string, path uint64) {
	d.fill(&r.Dir, name, path)
	r.UnixStat = ninep.UnixStat{Nuid: nobodyID, Ngid: nobodyID, Nmuid: nobodyID}
}

// WstatUnix is refused, but for the record that asks for a sync.
func (d *dumpDir) WstatUnix(c *ninep.Ctx, r *ninep.UnixDir) error {
	if r.IsNull() {
		return d.fs.syncFor(c)
	}
	return errReadOnly
}
