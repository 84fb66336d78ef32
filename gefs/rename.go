package gefs

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// Rename moves the file into dir. Source: rename(2).
func (f *File) Rename(c *ninep.Ctx, dir ninep.File, name string) error {
	return f.rename(c, dir, name, func(g *epoch.Guard) (*Dent, string, error) {
		if err := f.home(g); err != nil {
			return nil, "", err
		}
		f.dent.mu.RLock()
		defer f.dent.mu.RUnlock()
		switch {
		case f.dent.gone:
			return nil, "", errNotFound
		case f.dent.isRoot():
			return nil, "", ninep.EBUSY
		}
		return f.dir, f.dent.name, nil
	})
}

// RenameAt moves an entry of this directory into dir. Source: renameat(2).
func (f *File) RenameAt(c *ninep.Ctx, name string, dir ninep.File, newname string) error {
	return f.rename(c, dir, newname, func(*epoch.Guard) (*Dent, string, error) { return f.theDent(), name, nil })
}

// rename moves what from names into dir, in one batch: who reads the tree, and who opens the disk after a
// crash, finds it in one place or in the other. from is called with the mutation lock held.
func (f *File) rename(c *ninep.Ctx, dir ninep.File, newname string, from func(*epoch.Guard) (*Dent, string, error)) error {
	to, ok := dir.(*File)
	if !ok || to.fs != f.fs || to.mount != f.mount {
		return ninep.EXDEV
	}
	if err := checkName(newname); err != nil {
		return err
	}
	what := "rename to " + newname
	for {
		if err := f.fs.begin(c, 1); err != nil {
			return f.fs.wire(err, what, f)
		}
		g := guard(c)
		old, name, err := from(g)
		if err != nil {
			f.fs.end(c)
			return f.fs.wire(err, what, f)
		}
		waited, err := f.renameLocked(c, old, name, to.theDent(), newname)
		if waited {
			if err == nil {
				continue
			}
			return f.fs.wire(err, what, f)
		}
		f.fs.end(c)
		return f.fs.wire(err, what, f)
	}
}

// renameLocked makes the change. The mutation lock is held. It is not held any more if it had to wait until
// an open file that is replaced is cleared of what a truncation left; then, without an error, the caller
// begins again.
func (f *File) renameLocked(c *ninep.Ctx, old *Dent, name string, dir *Dent, newname string) (waited bool, err error) {
	fs, m, g := f.fs, f.mount, guard(c)
	for _, d := range []*Dent{old, dir} {
		if err := f.mayChange(d); err != nil {
			return false, err
		}
	}
	de, err := m.entry(g, old, name)
	if err != nil {
		return false, err
	}
	defer de.drop()
	there, err := m.entry(g, dir, newname)
	if err != nil && err != errNotFound {
		return false, err
	}
	if there != nil {
		defer there.drop()
	}
	d := de.values()
	isDir := d.Mode&dmDir != 0
	if isDir && old != dir {
		if err := m.mustNotBeBelow(g, dir, de); err != nil {
			return false, err
		}
	}
	if !m.tree.Mutable() {
		return false, errReadOnly
	}
	ch := fs.newChange(g, m)
	start := func() {}
	if there != nil {
		if there == de {
			return false, nil
		}
		if err := m.mayReplace(g, there, isDir); err != nil {
			return false, err
		}
		if waited, err = fs.waitOpen(c, there); waited {
			return true, err
		}
		if start, err = ch.unlink(there, true); err != nil {
			return false, ch.done(err)
		}
	}
	key := kvfmt.AppendEntKey(nil, dir.qid, newname)
	payload := kvfmt.AppendWstat(nil, kvfmt.WMuid, &kvfmt.Dir{Muid: f.uid})
	if err := kvfmt.ApplyWstat(&d, payload); err != nil {
		return false, ch.done(err)
	}
	ch.add(kvfmt.Clobber, de.key(nil), nil)
	ch.add(kvfmt.Insert, key, d.Append(nil))
	if isDir {
		ch.add(kvfmt.Insert, kvfmt.AppendUpKey(nil, de.qid), key)
	}
	now := fs.now().UnixNano()
	ch.touch(old, f.uid, now)
	if dir != old {
		ch.touch(dir, f.uid, now)
	}
	ch.then(de, func(de *Dent) { de.pqid, de.name, de.dir = dir.qid, newname, d })
	if err := ch.apply(); err != nil {
		return false, err
	}
	start()
	return false, nil
}

// mayChange says whether f's user may make and remove entries in the directory d.
func (f *File) mayChange(d *Dent) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case d.dir.Mode&dmDir == 0:
		return ninep.ENOTDIR
	case d.gone:
		return errNotFound
	case !f.access(&d.dir, wantWrite):
		return errPerm
	}
	return nil
}

// entry returns the Dent of an entry of the directory, with a reference. The mutation lock is held.
func (m *Mount) entry(g *epoch.Guard, dir *Dent, name string) (*Dent, error) {
	if len(name) > kvfmt.NameMax {
		return nil, errLength
	}
	if name == "" || name == "." || name == ".." {
		return nil, ninep.EINVAL
	}
	vers := m.tree.Version()
	d, err := m.lookup(g, dir.qid, name)
	if err != nil {
		return nil, err
	}
	return m.dent(g, dir.qid, name, d, vers)
}

// depthMost is how deep a directory can lie. Paths on the wire are walked name by name, so nothing else
// bounds it; a longer way up goes in circles.
const depthMost = 1 << 20

// mustNotBeBelow refuses to move the directory de to dir if that lies in it, or is it.
func (m *Mount) mustNotBeBelow(g *epoch.Guard, dir, de *Dent) error {
	qid, above := dir.qid, dir.pqid
	for range depthMost {
		if qid == de.qid {
			return ninep.EINVAL
		}
		if above == kvfmt.RootPqid {
			return nil
		}
		qid = above
		e, err := m.parentKey(g, qid)
		if err != nil {
			return err
		}
		above = e.Pqid
	}
	return fmt.Errorf("directory %d lies in itself: %w", dir.qid, &blkfmt.CorruptError{Addr: blkfmt.NoAddr, What: "directories in a circle"})
}

// mayReplace says whether a directory, or a file, may take the place of de.
func (m *Mount) mayReplace(g *epoch.Guard, de *Dent, isDir bool) error {
	de.mu.RLock()
	mode, opens := de.dir.Mode, de.opens
	de.mu.RUnlock()
	switch {
	case isDir && mode&dmDir == 0:
		return ninep.ENOTDIR
	case !isDir && mode&dmDir != 0:
		return ninep.EISDIR
	case mode&dmExcl != 0 && opens > 0:
		return errLocked
	case mode&dmDir == 0:
		return nil
	}
	empty, err := m.isEmpty(g, de.qid)
	if err == nil && !empty {
		err = errNotEmpty
	}
	return err
}
