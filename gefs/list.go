package gefs

import (
	"bytes"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// readDir gives the entries after the last one given, as many as fit. f.mu is held.
func (f *File) readDir(g *epoch.Guard, p []byte, off uint64) (int, error) {
	switch {
	case off == 0:
		f.scanOff, f.scanAfter = 0, nil
	case off != f.scanOff:
		return 0, errScan
	}
	n, after, err := f.readEntries(g, p, f.scanAfter)
	if err != nil {
		return 0, err
	}
	f.scanAfter = after
	f.scanOff += uint64(n)
	return n, nil
}

// A lister makes stat records of many entries, one after the other. It looks up the names of an
// entry's users only if they are others than those of the entry before.
type lister struct {
	f              *File         // the directory
	unix           bool          // the records are those of 9P2000.u
	d              ninep.UnixDir // of the entry before, but its name
	uid, gid, muid int32
	named          bool // there was one
}

// append adds to b the record of the entry with the key k and the value v, if there is room for it.
// It reports whether there was.
func (l *lister) append(b, k, v []byte) ([]byte, bool, error) {
	name, err := kvfmt.EntName(k)
	if err != nil {
		return b, false, err
	}
	e, err := kvfmt.GetDir(v)
	if err != nil {
		return b, false, err
	}
	fillValues(&l.d.Dir, &e)
	if !l.named || e.Uid != l.uid {
		l.uid, l.d.Uid, l.d.Nuid = e.Uid, l.f.fs.userName(e.Uid, "none"), l.f.fs.linuxID(e.Uid)
	}
	if !l.named || e.Gid != l.gid {
		l.gid, l.d.Gid, l.d.Ngid = e.Gid, l.f.fs.userName(e.Gid, "nogroup"), l.f.fs.linuxID(e.Gid)
	}
	if !l.named || e.Muid != l.muid {
		l.muid, l.d.Muid, l.d.Nmuid = e.Muid, l.f.fs.userName(e.Muid, "none"), l.f.fs.linuxID(e.Muid)
	}
	l.named = true
	size := l.d.Dir.Size()
	if l.unix {
		l.d.Qid = l.f.wireQid(e.Qid)
		size = l.d.Size()
	}
	if size+len(name) > cap(b)-len(b) {
		return b, false, nil
	}
	if l.unix {
		b, err = l.d.AppendNamed(b, name)
	} else {
		b, err = l.d.Dir.AppendNamed(b, name)
	}
	return b, err == nil, err
}

// readEntries fills p with the records of the entries behind the key after, and returns the key of
// the last one.
func (f *File) readEntries(g *epoch.Guard, p, after []byte) (int, []byte, error) {
	l := lister{f: f, unix: f.dialect == ninep.Unix}
	out := p[:0:len(p)]
	var last [kvfmt.KeyMax]byte
	lastKey := last[:copy(last[:], after)]
	var bad error
	err := f.mount.tree.Scan(g, kvfmt.AppendEntPrefix(nil, f.dent.qid), after, func(k, v []byte) bool {
		var ok bool
		if out, ok, bad = l.append(out, k, v); !ok {
			if bad == nil && len(out) == 0 {
				bad = errBotch
			}
			return false
		}
		lastKey = append(lastKey[:0], k...)
		return true
	})
	if err == nil {
		err = bad
	}
	return len(out), bytes.Clone(lastKey), err
}
