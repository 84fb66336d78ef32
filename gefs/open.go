package gefs

import (
	"errors"

	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

const modeBits = 3 | ninep.OTRUNC | ninep.OCEXEC | ninep.ORCLOSE

// Open opens the file. Source: open(5); fsopen.
func (f *File) Open(c *ninep.Ctx, mode uint8) (ninep.Qid, uint32, error) {
	f.mu.Lock()
	if d := f.dent.values(); mode&ninep.OTRUNC == 0 || d.Mode&(dmAppend|dmDir) != 0 {
		q, err := f.openLocked(c, mode, false)
		f.mu.Unlock()
		if err == errExclusive {
			q, err = f.openExclusive(c, mode)
		}
		return q, 0, err
	}
	f.mu.Unlock()
	// Truncating is a change of the tree.
	var q ninep.Qid
	err := f.fs.settled(c, f, 0, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		var err error
		if q, err = f.openLocked(c, mode, true); err != nil {
			return err
		}
		err = f.fs.truncate(guard(c), f, 0, f.dent, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid,
			kvfmt.Dir{Mtime: f.fs.now().UnixNano(), Muid: f.uid})
		if err != nil {
			f.closeLocked()
			f.rclose = false
		}
		return err
	})
	return q, 0, f.fs.wire(err, "open to be truncated", f)
}

// errExclusive says that openLocked needs the mutation lock.
var errExclusive = errors.New("an exclusive file")

// openExclusive opens a file that only one may have open, or find unopened when he removes it.
func (f *File) openExclusive(c *ninep.Ctx, mode uint8) (ninep.Qid, error) {
	f.fs.lockMut(c)
	defer f.fs.mutMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openLocked(c, mode, true)
}

// openLocked does what opening does to the fid, checking in the order of the reference. f.mu is held,
// and with mut the mutation lock, without which an exclusive file is errExclusive. After an error
// nothing has changed.
func (f *File) openLocked(c *ninep.Ctx, mode uint8, mut bool) (ninep.Qid, error) {
	none := ninep.Qid{}
	rclose := mode&ninep.ORCLOSE != 0
	empty := true
	if rclose && f.dent.isDir() {
		var err error
		if empty, err = f.mount.isEmpty(guard(c), f.dent.qid); err != nil {
			return none, f.fs.wire(err, "open", f)
		}
	}
	if rclose {
		if err := f.homeLocked(guard(c)); err != nil {
			return none, f.fs.wire(err, "open", f)
		}
	}
	dir := f.dir.values()
	de := f.dent
	de.mu.Lock()
	defer de.mu.Unlock()
	d := &de.dir
	others := de.opens
	if f.mode != notOpen {
		others--
	}
	switch {
	case de.gone:
		return none, errNotFound
	case others > 0 && (d.Mode&dmExcl != 0 || de.excl):
		return none, errLocked
	case !empty:
		return none, errNotEmpty
	case mode&^modeBits != 0:
		return none, errMode
	case d.Mode&dmDir != 0 && mode&^ninep.OCEXEC != ninep.OREAD:
		return none, errPerm
	case !f.access(d, wanted(mode)):
		return none, errPerm
	case rclose && (de.isRoot() || !f.access(&dir, wantWrite)):
		return none, errPerm
	case f.mode != notOpen:
		return none, errInUse
	}
	// What is opened for writing in a snapshot that does not change learns so from its first write.
	// To be truncated, or to be removed in the end, is refused at once.
	truncate := mode&ninep.OTRUNC != 0 && d.Mode&dmAppend == 0
	if (rclose || truncate) && !f.mount.mutable() {
		return none, errReadOnly
	}
	if d.Mode&dmExcl != 0 && !mut {
		return none, errExclusive
	}
	f.opened(mode)
	return f.wireQid(d.Qid), nil
}

// opened marks the fid as open. f.mu and f.dent.mu are held.
func (f *File) opened(mode uint8) {
	f.dent.opened()
	f.openedFor(mode)
}

// opened counts one more fid that has the file open. de.mu is held.
func (de *Dent) opened() {
	de.opens++
	de.excl = de.dir.Mode&dmExcl != 0
}

// openedFor marks the fid alone. f.mu is held.
func (f *File) openedFor(mode uint8) {
	f.mode = int(mode)
	f.rclose = mode&ninep.ORCLOSE != 0
	f.scanOff, f.scanAfter = 0, nil
	f.scan = dirScan{}
}

// Create makes a file in this directory and opens it. The mode is masked by the directory's, as
// open(5) says. Source: create(5); fscreate.
func (f *File) Create(c *ninep.Ctx, name string, perm uint32, mode uint8) (ninep.Qid, uint32, error) {
	none := ninep.Qid{}
	switch err := checkName(name); {
	case err != nil:
		return none, 0, err
	case perm&(ninep.DMMOUNT|ninep.DMAUTH) != 0:
		return none, 0, errBotch
	case perm&^uint32(dmKnown) != 0:
		return none, 0, errWstatBits
	case mode&^modeBits != 0:
		return none, 0, errMode
	case perm&dmDir != 0 && mode&^ninep.OCEXEC != ninep.OREAD:
		return none, 0, errPerm
	}
	if err := f.fs.begin(c, 1); err != nil {
		return none, 0, err
	}
	defer f.fs.end(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	q, err := f.create(c, name, perm, mode)
	return q, 0, f.fs.wire(err, "create "+name, f)
}

func (f *File) create(c *ninep.Ctx, name string, perm uint32, mode uint8) (ninep.Qid, error) {
	none := ninep.Qid{}
	fs, m, dir, g := f.fs, f.mount, f.dent, guard(c)
	if f.mode != notOpen {
		return none, errInUse
	}
	dir.mu.RLock()
	pd, gone := dir.dir, dir.gone
	dir.mu.RUnlock()
	switch {
	case pd.Mode&dmDir == 0:
		return none, errPerm
	case gone:
		return none, errPhase
	}
	if _, err := m.lookup(g, dir.qid, name); err == nil {
		return none, errExists
	} else if err != errNotFound {
		return none, err
	}
	switch {
	case !f.access(&pd, wantWrite):
		return none, errPerm
	case !m.tree.Mutable():
		return none, errReadOnly
	}

	now := fs.now().UnixNano()
	d := kvfmt.Dir{
		Qid:   kvfmt.Qid{Path: fs.forest.NextQid(), Type: uint8(perm >> 24)},
		Atime: now, Mtime: now,
		Uid: f.uid, Gid: pd.Gid, Muid: f.uid,
	}
	if f.forUnix() {
		d.Mode = perm // the client has taken its umask
	} else if perm&dmDir != 0 {
		d.Mode = perm & (^uint32(0777) | pd.Mode&0777)
	} else {
		d.Mode = perm & (^uint32(0666) | pd.Mode&0666)
	}
	ch := fs.newChange(g, m)
	key := kvfmt.AppendEntKey(nil, dir.qid, name)
	ch.add(kvfmt.Insert, key, d.Append(nil))
	if perm&dmDir != 0 {
		ch.add(kvfmt.Insert, kvfmt.AppendUpKey(nil, d.Qid.Path), key)
	}
	ch.touch(dir, f.uid, now)
	ch.enters(&d)
	// Whoever finds the new file finds it open.
	de := m.newDent(dir.qid, name, d)
	if err := ch.apply(); err != nil {
		de.drop()
		return none, err
	}
	f.dir.drop()
	f.dir, f.dent = dir, de
	f.openedFor(mode)
	return f.wireQid(d.Qid), nil
}
