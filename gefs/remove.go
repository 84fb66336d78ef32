package gefs

import (
	"errors"

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
	err := f.fs.retry(c, func() error { return f.remove(g) })
	return f.fs.wire(err, "remove", f)
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
	start := func() {}
	if d.Mode&dmDir != 0 {
		ch.add(kvfmt.Clobber, kvfmt.AppendUpKey(nil, de.qid), nil)
	} else if j := fs.sweeper.job(m, de.qid); j != nil {
		start = ch.widen(j) // a truncation is still clearing what was beyond the end
	} else {
		var err error
		if start, err = ch.clear(de, 0); err != nil {
			return err
		}
	}
	ch.touch(dir, f.uid, fs.now().UnixNano())
	ch.then(de, func(de *Dent) { de.gone = true })
	if err := ch.apply(); err != nil {
		return err
	}
	start()
	return nil
}
