package gefs

import (
	"math"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

const userNameMax = 64 // bytes of a user's name in a Twstat

// Wstat changes the file's entry: all that the record asks for, or nothing. A record that asks for
// nothing is fsync. Source: stat(5); fswstat.
func (f *File) Wstat(c *ninep.Ctx, d *ninep.Dir) error {
	if d.IsNull() {
		return f.fs.syncFor(c)
	}
	return f.change(c, &wish{d, ninep.NOUID, ninep.NOUID})
}

// A wish is what a Twstat asks for: a record, and in 9P2000.u Linux's numbers of the users that have no name
// in it, NOUID for none.
type wish struct {
	*ninep.Dir
	nuid, ngid uint32
}

// change is Wstat and WstatUnix.
func (f *File) change(c *ninep.Ctx, d *wish) error {
	blocks := 1
	f.mu.RLock()
	switch length := f.dent.values().Length; {
	case d.Length < length:
		blocks = 0 // gives space back
	case d.Length == length:
		// Whoever cuts a file to what it is long is not told that the disk is full.
		rest := *d.Dir
		if rest.Length = math.MaxUint64; rest == ninep.NullDir() && !d.numbered() {
			blocks = 0
		}
	}
	f.mu.RUnlock()
	err := f.fs.settled(c, f, blocks, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.wstat(guard(c), d)
	})
	return f.fs.wire(err, "wstat", f)
}

// numbered reports whether the wish has numbers.
func (w *wish) numbered() bool { return w.nuid != ninep.NOUID || w.ngid != ninep.NOUID }

// A wstatPlan is what a Twstat will change, all checked.
type wstatPlan struct {
	mask   uint8
	set    kvfmt.Dir
	rename string // new name, empty to keep the old
	empty  bool   // nothing is asked for that a Twstat can change
}

// plan checks a Twstat in the order of its fields, then the permissions. It has no side effects.
func (f *File) plan(g *epoch.Guard, want *wish, cur *kvfmt.Dir) (*wstatPlan, error) {
	t := f.fs.Users()
	p := &wstatPlan{
		set: *cur,
		empty: want.Name == "" && want.Length == math.MaxUint64 && want.Mode == math.MaxUint32 &&
			want.Mtime == math.MaxUint32 && want.Uid == "" && want.Gid == "" && !want.numbered(),
	}
	switch {
	case want.Qid.Uid != math.MaxUint64 && want.Qid.Uid != f.wireQid(cur.Qid).Uid:
		return nil, errWstatPath
	case want.Qid.Vers != math.MaxUint32 && want.Qid.Vers != cur.Qid.Vers:
		return nil, errWstatVers
	}
	if want.Name != "" {
		switch {
		case len(want.Name) > kvfmt.NameMax:
			return nil, errLength
		case want.Name != f.dent.name:
			if err := checkName(want.Name); err != nil {
				return nil, err
			}
			if f.dent.isRoot() {
				return nil, errPerm
			}
			if _, err := f.mount.lookup(g, f.dent.pqid, want.Name); err == nil {
				return nil, errExists
			} else if err != errNotFound {
				return nil, err
			}
			p.rename = want.Name
		}
	}
	length := cur.Length
	if want.Length != math.MaxUint64 {
		switch {
		case want.Length > math.MaxInt64:
			return nil, errWstatLength
		case want.Length > maxOffset:
			return nil, errFileSize
		case cur.Mode&dmDir != 0:
			if want.Length != 0 {
				return nil, errPerm
			}
		case want.Length != length:
			p.set.Length = want.Length
			p.mask |= kvfmt.WLength
		}
	}
	if want.Mode != math.MaxUint32 {
		switch {
		case want.Mode&dmDir != cur.Mode&dmDir:
			return nil, errWstatDir
		case want.Mode&^uint32(dmKnown) != 0:
			return nil, errWstatBits
		}
		if want.Mode != cur.Mode {
			p.set.Mode = want.Mode
			p.mask |= kvfmt.WMode
		}
	}
	if want.Mtime != math.MaxUint32 {
		ns := int64(want.Mtime) * 1e9
		if want.Mtime != seconds(cur.Mtime) {
			p.set.Mtime = ns
			p.mask |= kvfmt.WMtime
		}
	}
	for _, x := range []struct {
		name   string
		number uint32
		bit    uint8
		id     *int32
		none   error
	}{{want.Uid, want.nuid, kvfmt.WUid, &p.set.Uid, errNoUser}, {want.Gid, want.ngid, kvfmt.WGid, &p.set.Gid, errNoGroup}} {
		if x.name == "" {
			if x.number == ninep.NOUID || x.number == f.fs.linuxID(*x.id) {
				continue
			}
			name, err := f.fs.UserOf(x.number)
			if err != nil {
				return nil, errNoNumber
			}
			x.name = name
		}
		if len(x.name) > userNameMax {
			return nil, errLength
		}
		id, ok := t.ID(x.name)
		if !ok {
			return nil, x.none
		}
		if id != *x.id {
			*x.id = id
			p.mask |= x.bit
		}
	}

	if f.permit {
		return p, nil
	}
	dir := f.dir.values()
	owner := f.uid == cur.Uid
	leader := t.Leader(f.uid, cur.Gid)
	switch {
	case p.rename != "" && !mayAccess(t, f.uid, &dir, wantWrite):
		return nil, errPerm
	case p.mask&kvfmt.WLength != 0 && !mayAccess(t, f.uid, cur, wantWrite):
		return nil, errPerm
	case p.mask&(kvfmt.WMode|kvfmt.WMtime) != 0 && !owner && !leader:
		return nil, errWstatOwner
	case p.mask&kvfmt.WUid != 0:
		return nil, errWstatUid
	case p.mask&kvfmt.WGid != 0 && !(owner && t.InGroup(f.uid, p.set.Gid)) && !(leader && t.Leader(f.uid, p.set.Gid)):
		return nil, errWstatGroup
	}
	return p, nil
}

// wstat makes the change. The mutation lock and f.mu are held, nothing is being cleared.
func (f *File) wstat(g *epoch.Guard, want *wish) error {
	de := f.dent
	de.mu.RLock()
	cur, gone, kept := de.dir, de.gone, de.kept()
	de.mu.RUnlock()
	if gone && (!kept || !f.forUnix() || want.Name != "") {
		return errPhase
	}
	if err := f.homeLocked(g); err != nil {
		return err
	}
	p, err := f.plan(g, want, &cur)
	if err != nil || p.empty {
		return err
	}
	if !f.mount.tree.Mutable() {
		return errReadOnly
	}
	p.set.Muid = f.uid
	p.mask |= kvfmt.WMuid
	if p.rename == "" {
		return f.fs.truncate(g, f, p.set.Length, de, p.mask, p.set)
	}

	ch := f.fs.newChange(g, f.mount)
	start, err := ch.resize(de, &cur, p.set.Length)
	if err != nil {
		return ch.done(err)
	}
	payload := kvfmt.AppendWstat(nil, p.mask, &p.set)
	d := cur
	if err := kvfmt.ApplyWstat(&d, payload); err != nil {
		return ch.done(err)
	}
	key := kvfmt.AppendEntKey(nil, de.pqid, p.rename)
	ch.add(kvfmt.Clobber, de.key(nil), nil)
	ch.add(kvfmt.Insert, key, d.Append(nil))
	if d.Mode&dmDir != 0 {
		ch.add(kvfmt.Insert, kvfmt.AppendUpKey(nil, de.qid), key)
	}
	ch.touch(f.dir, f.uid, f.fs.now().UnixNano())
	ch.replaces(&cur, &d, false)
	ch.then(de, func(de *Dent) { de.name, de.dir = p.rename, d })
	if err := ch.apply(); err != nil {
		return err
	}
	start()
	return nil
}

// truncate changes the fields of mask to those of set, the length to length, and the data so that
// it fits. The mutation lock is held.
func (fs *FS) truncate(g *epoch.Guard, f *File, length uint64, de *Dent, mask uint8, set kvfmt.Dir) error {
	cur := de.values()
	ch := fs.newChange(g, f.mount)
	start, err := ch.resize(de, &cur, length)
	if err != nil {
		return ch.done(err)
	}
	set.Length = length
	ch.wstat(de, kvfmt.AppendWstat(nil, mask, &set))
	if err := ch.apply(); err != nil {
		return err
	}
	start()
	return nil
}

// resize adds what makes the file's data fit a new length: nothing but zeros may come to light when
// it grows, now or later. The returned function is to be called when the batch is applied.
func (ch *change) resize(de *Dent, cur *kvfmt.Dir, length uint64) (start func(), err error) {
	start = func() {}
	switch {
	case cur.Mode&dmDir != 0 || length == cur.Length:
	case length > cur.Length:
		err = ch.extend(de, cur.Length, math.MaxUint64)
	default:
		if err = ch.zeroTail(de.qid, length); err == nil {
			start, err = ch.clear(de, roundUp(length))
		}
	}
	return start, err
}
