package gefs

import (
	"errors"
	"math"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// Remove removes the file. Source: remove(5); fsremove.
func (f *File) Remove(c *ninep.Ctx) error {
	g := guard(c)
	f.mu.Lock()
	f.rclose = false // this is the removal
	f.mu.Unlock()
	again := true
	var err error
	for again && err == nil {
		err = f.fs.retryWait(c, func() (waited bool, err error) {
			if again, err = f.waitOthers(c); again {
				return true, err
			}
			return false, f.remove(g)
		})
	}
	return f.fs.wire(err, "remove", f)
}

// waitOthers is waitOpen for a client whose removed files stay as long as they are open.
func (f *File) waitOthers(c *ninep.Ctx) (waited bool, err error) {
	if !f.forUnix() {
		return false, nil
	}
	return f.fs.waitOpen(c, f.theDent())
}

// removeOnClose removes a file that was opened with ORCLOSE, unless somebody else did.
func (f *File) removeOnClose(c *ninep.Ctx, g *epoch.Guard) error {
	err := f.fs.retry(c, func() error { return f.remove(g) })
	if errors.Is(err, errPhase) {
		return nil
	}
	return err
}

// remove makes the change. The mutation lock is held. If the file is still being cleared after a
// truncation, that job simply goes on: it covers what the removal leaves to it.
func (f *File) remove(g *epoch.Guard) error {
	if err := f.home(g); err != nil {
		return err
	}
	fs, m, de, dir := f.fs, f.mount, f.dent, f.dir
	de.mu.RLock()
	d, gone, opens := de.dir, de.gone, de.opens
	de.mu.RUnlock()
	f.mu.RLock()
	if f.mode != notOpen {
		opens--
	}
	f.mu.RUnlock()
	pd := dir.values()
	switch {
	case gone:
		return errPhase
	case de.isRoot():
		return errPerm
	case d.Mode&dmExcl != 0 && opens > 0:
		return errLocked
	}
	if d.Mode&dmDir != 0 {
		empty, err := m.isEmpty(g, de.qid)
		if err != nil {
			return err
		}
		if !empty {
			return errNotEmpty
		}
	}
	switch {
	case !f.access(&pd, wantWrite):
		return errPerm
	case !m.tree.Mutable():
		return errReadOnly
	}
	ch := fs.newChange(g, m)
	ch.add(kvfmt.Delete, de.key(nil), nil)
	start, err := ch.unlink(de, f.forUnix() && opens > 0)
	if err != nil {
		return err
	}
	ch.touch(dir, f.uid, fs.now().UnixNano())
	if err := ch.apply(); err != nil {
		return err
	}
	start()
	return nil
}

// UnlinkAt removes an entry of this directory. Who has the file open goes on reading and writing it.
// Source: unlinkat(2).
func (f *File) UnlinkAt(c *ninep.Ctx, name string, flags uint32) error {
	if flags&^uint32(ninep.AtRemoveDir) != 0 {
		return ninep.EINVAL
	}
	waited := true
	var err error
	for waited && err == nil {
		err = f.fs.retryWait(c, func() (bool, error) {
			waited, err = f.unlinkAt(c, name, flags&ninep.AtRemoveDir != 0)
			return waited, err
		})
	}
	return f.fs.wire(err, "remove "+name, f)
}

// unlinkAt makes the change. The mutation lock is held, or not any more, as in renameLocked.
func (f *File) unlinkAt(c *ninep.Ctx, name string, dir bool) (waited bool, err error) {
	fs, m, d, g := f.fs, f.mount, f.theDent(), guard(c)
	if err := f.mayChange(d); err != nil {
		return false, err
	}
	de, err := m.entry(g, d, name)
	if err != nil {
		return false, err
	}
	defer de.drop()
	isDir := de.isDir()
	switch {
	case dir && !isDir:
		return false, ninep.ENOTDIR
	case !dir && isDir:
		return false, ninep.EISDIR
	}
	if err := m.mayReplace(g, de, isDir); err != nil {
		return false, err
	}
	if !m.tree.Mutable() {
		return false, errReadOnly
	}
	if waited, err = fs.waitOpen(c, de); waited {
		return true, err
	}
	ch := fs.newChange(g, m)
	ch.add(kvfmt.Delete, de.key(nil), nil)
	start, err := ch.unlink(de, true)
	if err != nil {
		return false, err
	}
	ch.touch(d, f.uid, fs.now().UnixNano())
	if err := ch.apply(); err != nil {
		return false, err
	}
	start()
	return false, nil
}

// unlink adds to the batch what the end of a file, or of an empty directory, takes beside its entry. Its
// Dent is marked as gone. start is to be called when the batch is applied.
//
// With keep, a file that is open keeps its data until the last fid that has it open goes. The record that
// says what is to be cleared stands in the tree from now on, so that after a crash, when nobody has
// it open, the next mount clears it.
func (ch *change) unlink(de *Dent, keep bool) (start func(), err error) {
	de.mu.RLock()
	d, opens := de.dir, de.opens
	de.mu.RUnlock()
	isDir := d.Mode&dmDir != 0
	start = func() {}
	j := ch.fs.sweeper.job(ch.m, de.qid)
	kept := keep && !isDir && opens > 0 && j == nil
	ch.removes(&d, kept)
	switch {
	case isDir:
		ch.add(kvfmt.Clobber, kvfmt.AppendUpKey(nil, de.qid), nil)
	case kept:
		rec := orphanRecord(de)
		ch.add(kvfmt.Insert, rec.AppendKey(nil), rec.AppendValue(nil))
		ch.then(de, func(de *Dent) { de.gone, de.orphan = true, true })
		// Whoever had it open may have closed it meanwhile.
		return func() {
			de.mu.Lock()
			last := de.lastClose()
			de.mu.Unlock()
			if last {
				ch.fs.sweepOrphan(de)
			}
		}, nil
	case j != nil:
		start = ch.widen(j) // a truncation is still clearing what was beyond the end
	default:
		if start, err = ch.clear(de, 0); err != nil {
			return nil, err
		}
	}
	ch.then(de, func(de *Dent) { de.gone = true })
	return start, nil
}

// orphanRecord says that all of a removed file's data is to be cleared, whenever it was written: it may be
// written to until it is closed, and its qid is never used again.
func orphanRecord(de *Dent) kvfmt.Clear {
	return kvfmt.Clear{Qid: de.qid, Gen: math.MaxInt64, From: 0, To: math.MaxUint64}
}

// lastClose reports whether an orphan is closed by the last who had it open. It does so once. de.mu is
// held.
func (de *Dent) lastClose() bool {
	if !de.orphan || de.opens > 0 || de.swept {
		return false
	}
	de.swept = true
	return true
}

// kept reports whether de is a removed file that is still open, with its data. de.mu is held.
func (de *Dent) kept() bool { return de.orphan && !de.swept }

// sweepOrphan has an orphan cleared that nobody has open any more, unless a rollback came first: what the tree has
// of the file since then is another state's. The caller has the mutation lock and holds the mount.
func (fs *FS) sweepOrphan(de *Dent) {
	de.mu.Lock()
	d, orphan := de.dir, de.orphan
	de.orphan = false
	de.mu.Unlock()
	if !orphan {
		return
	}
	if t := de.mount.tally.Load(); t != nil {
		t.closed(&d)
	}
	de.mount.hold()
	fs.sweeper.add(de.mount, orphanRecord(de))
}

// waitOpen waits until nothing of a file is to be cleared, if it is open: the record of that and the one
// of an orphan have the same key. It works as waitClear does.
func (fs *FS) waitOpen(c *ninep.Ctx, de *Dent) (waited bool, err error) {
	de.mu.RLock()
	open := de.opens > 0
	de.mu.RUnlock()
	if !open {
		return false, nil
	}
	return fs.waitClear(c, de.mount, de.qid)
}
