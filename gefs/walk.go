package gefs

import (
	"errors"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// A place is where a walk has come to: a file in a mount, or the dump directory if mount is nil.
// It holds references on what it names.
type place struct {
	mount *Mount
	dent  *Dent
	dir   *Dent
}

func (p *place) release(fs *FS, c *ninep.Ctx) {
	if p.mount == nil {
		return
	}
	p.dent.drop()
	p.dir.drop()
	fs.unmount(c, p.mount)
}

// A walker follows names for one user.
type walker struct {
	fs       *FS
	c        *ninep.Ctx
	g        *epoch.Guard
	uid      int32
	permit   bool
	fromDump bool
	dialect  ninep.Dialect
	at       place
}

// errStop ends a walk where it is.
var errStop = errors.New("walk ends here")

// Walk follows names. Source: walk(5).
func (f *File) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	if err := f.home(guard(c)); err != nil {
		return nil, 0, f.fs.wire(err, "walk", f)
	}
	f.mu.RLock()
	if f.mode != notOpen && f.dialect != ninep.Linux { // Linux walks from open fids as well
		f.mu.RUnlock()
		return nil, 0, errInUse
	}
	w := walker{fs: f.fs, c: c, g: guard(c), uid: f.uid, permit: f.permit, fromDump: f.fromDump, dialect: f.dialect}
	f.mount.hold()
	w.at = place{f.mount, f.dent.hold(), f.dir.hold()}
	f.mu.RUnlock()
	return w.walk(names, qids)
}

// walk follows names from w.at, whose references it gives to the result or back.
func (w *walker) walk(names []string, qids []ninep.Qid) (ninep.File, int, error) {
	for i, name := range names {
		q, err := w.step(name)
		if err != nil {
			return nil, i, w.stop(i, name, err)
		}
		qids[i] = q
	}
	if w.at.mount == nil {
		return &dumpDir{fs: w.fs, uid: w.uid, dialect: w.dialect, mode: notOpen}, len(names), nil
	}
	return &File{
		fs: w.fs, mount: w.at.mount, uid: w.uid, permit: w.permit, fromDump: w.fromDump, dialect: w.dialect,
		dent: w.at.dent, dir: w.at.dir, mode: notOpen,
	}, len(names), nil
}

// stop ends a walk that came no further than to names[i], and says what the client is told. If the name is not
// there, or not for this user, the client sees how far it came. It takes that for the absence of the name, so
// a name that cannot be looked up, for what is wrong with the disk, is an error wherever it stands.
func (w *walker) stop(i int, name string, err error) error {
	defer w.at.release(w.fs, w.c)
	var said ninep.Error
	switch {
	case err == errStop, err == errNotFound:
		err = errNotFound
	case !errors.As(err, &said):
		return w.fs.wire(err, "walk", ahead{w, name})
	}
	if i > 0 {
		return nil
	}
	return err
}

// ahead is where a walk does not come to: a name in the place it came to.
type ahead struct {
	*walker
	name string
}

func (a ahead) path() string {
	if a.at.mount == nil {
		return a.name
	}
	return a.at.mount.pathOf(a.g, a.at.dent.qid, a.name)
}

// step follows one name and returns the qid of where it leads. On error w.at is as before.
func (w *walker) step(name string) (ninep.Qid, error) {
	if len(name) > kvfmt.NameMax {
		return ninep.Qid{}, errLength
	}
	if w.at.mount == nil {
		return w.intoDump(name)
	}
	de := w.at.dent
	d := de.values()
	if d.Mode&dmDir == 0 || !w.permit && !mayAccess(w.fs.Users(), w.uid, &d, wantExec) {
		return ninep.Qid{}, errStop
	}
	switch name {
	case "..":
		return w.up()
	case "":
		return ninep.Qid{}, errNotFound
	}
	m := w.at.mount
	vers := m.tree.Version()
	next, err := m.lookup(w.g, de.qid, name)
	if err != nil {
		return ninep.Qid{}, err
	}
	nd, err := m.dent(w.g, de.qid, name, next, vers)
	if err != nil {
		return ninep.Qid{}, err
	}
	w.at.dir.drop()
	w.at.dir, w.at.dent = de, nd
	return w.wireQid(m, nd.values().Qid), nil
}

// up goes to the directory that w.at lies in. The root of a tree lies in itself, or, if the client
// came from there, in the dump directory.
func (w *walker) up() (ninep.Qid, error) {
	m, de, dir := w.at.mount, w.at.dent, w.at.dir
	if de.isRoot() {
		if w.fromDump {
			w.at.release(w.fs, w.c)
			w.at = place{}
			return (&dumpDir{fs: w.fs}).qid(), nil
		}
		return w.wireQid(m, de.values().Qid), nil
	}
	q := w.wireQid(m, dir.values().Qid)
	above, err := m.parent(w.g, dir)
	if err != nil {
		return ninep.Qid{}, err
	}
	w.at.dent, w.at.dir = dir, above
	de.drop()
	return q, nil
}

// parent returns the Dent of the directory that dir lies in, with a reference.
func (m *Mount) parent(g *epoch.Guard, dir *Dent) (*Dent, error) {
	dir.mu.RLock()
	pqid := dir.pqid
	dir.mu.RUnlock()
	if pqid == kvfmt.RootPqid {
		return dir.hold(), nil
	}
	m.dentMu.Lock()
	if p := m.dents[pqid]; p != nil {
		p.refs++
		m.dentMu.Unlock()
		if p.usable() {
			return p, nil
		}
		p.drop()
	} else {
		m.dentMu.Unlock()
	}
	vers := m.tree.Version()
	e, err := m.parentKey(g, pqid)
	if err != nil {
		return nil, err
	}
	d, err := m.lookup(g, e.Pqid, e.Name)
	if err != nil {
		return nil, err
	}
	return m.dent(g, e.Pqid, e.Name, d, vers)
}

// intoDump goes from the dump directory to the root of a snapshot.
func (w *walker) intoDump(name string) (ninep.Qid, error) {
	if name == ".." {
		return (&dumpDir{fs: w.fs}).qid(), nil
	}
	m, err := w.fs.mount(w.c, name)
	if err != nil {
		if errors.Is(err, snap.ErrNoLabel) {
			err = errSpec
		}
		return ninep.Qid{}, err
	}
	f, err := w.fs.root(w.c, m, w.uid)
	if err != nil {
		w.fs.unmount(w.c, m)
		return ninep.Qid{}, err
	}
	w.at = place{m, f.dent, f.dir}
	w.fromDump = true
	return w.wireQid(m, f.dent.values().Qid), nil
}
