package gefs

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"gefs9p/betree"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// A Mount is a label that somebody is attached to.
type Mount struct {
	fs   *FS
	name string
	tree *snap.Tree
	salt uint64 // see apart.go
	refs int    // guarded by FS.mountMu

	tally atomic.Pointer[tally] // what is used, if the label has quotas; changes under the mutation lock

	dentMu sync.Mutex
	dents  map[uint64]*Dent // by qid path
}

// mount returns the Mount of the label with a reference. The caller has no lock and may sleep;
// it is outside of its epoch meanwhile. Errors wrap snap.ErrNoLabel.
func (fs *FS) mount(c *ninep.Ctx, name string) (*Mount, error) {
	if isReceiving(name) {
		return nil, fmt.Errorf("snap: open '%s': it %w: %w", name, ErrReceiving, snap.ErrNoLabel)
	}
	fs.mountMu.Lock()
	if m := fs.mounts[name]; m != nil {
		m.refs++
		fs.mountMu.Unlock()
		return m, nil
	}
	fs.mountMu.Unlock()

	fs.lockMut(c)
	defer fs.mutMu.Unlock()
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	if m := fs.mounts[name]; m != nil {
		m.refs++
		return m, nil
	}
	t, err := fs.forest.Open(name)
	if err != nil {
		return nil, err
	}
	m := &Mount{fs: fs, name: name, tree: t, salt: salt(name), refs: 1, dents: make(map[uint64]*Dent)}
	fs.mounts[name] = m
	if t.Mutable() {
		m.tally.Store(fs.quotas.tallies[name])
	}
	if t.Mutable() && fs.st.CanWrite() {
		fs.sweeper.resume(m)
	}
	return m, nil
}

// mutable reports whether anything in the snapshot can be changed.
func (m *Mount) mutable() bool { return m.tree.Mutable() && m.fs.st.CanWrite() }

// hold takes one more reference on m; the caller has one.
func (m *Mount) hold() {
	m.fs.mountMu.Lock()
	m.refs++
	m.fs.mountMu.Unlock()
}

// unmount gives a reference back. The caller has neither the mutation lock nor any below it.
func (fs *FS) unmount(c *ninep.Ctx, m *Mount) {
	fs.mountMu.Lock()
	if m.refs > 1 {
		m.refs--
		fs.mountMu.Unlock()
		return
	}
	fs.mountMu.Unlock()
	fs.lockMut(c)
	defer fs.mutMu.Unlock()
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	if m.refs--; m.refs == 0 {
		delete(fs.mounts, m.name)
		m.tree.Close()
	}
}

// A Dent is a file in use.
//
//   - There is one for each file and Mount, in Mount.dents, while refs is not zero.
//   - Its values are those of the tree. They change together with it, under the mutation lock and mu.
type Dent struct {
	mount *Mount
	qid   uint64
	refs  int // guarded by mount.dentMu

	mu   sync.RWMutex
	pqid uint64 // key: the directory and the name
	name string
	dir  kvfmt.Dir
	gone bool // removed
	// A file that was removed while somebody had it open, for a client that expects to keep it: the
	// data stays until nobody has it open any more, which swept says.
	orphan, swept bool
	void          bool // was never the file's Dent: who looked it up found it moved
	clean         bool // no data block lies beyond the end, and none holds bytes beyond it but zeros

	opens int  // fids that have it open
	excl  bool // one of them is the only one there may be
}

// dent returns the Dent of the file under the key, with a reference. pqid and name are the key
// that was looked up, v what was found there when the tree's version was vers.
func (m *Mount) dent(g *epoch.Guard, pqid uint64, name string, d kvfmt.Dir, vers uint64) (*Dent, error) {
	m.dentMu.Lock()
	for {
		de := m.dents[d.Qid.Path]
		if de == nil {
			break
		}
		de.refs++
		m.dentMu.Unlock()
		if de.usable() {
			return de, nil
		}
		m.dentMu.Lock()
		m.put(de)
	}
	de := &Dent{mount: m, qid: d.Qid.Path, refs: 1, pqid: pqid, name: name, dir: d}
	de.mu.Lock()
	m.dents[de.qid] = de
	m.dentMu.Unlock()
	defer de.mu.Unlock()
	if m.tree.Version() == vers {
		return de, nil
	}
	// Something was changed since the lookup. Nobody had this file in use just now, and whoever has
	// it from here on needs our lock to change it: what is there now stays until we are done.
	var err error
	if de.dir, err = m.lookup(g, pqid, name); err == nil && de.dir.Qid.Path != de.qid {
		err = errNotFound
	}
	if err != nil {
		// The file may live on under another name, by which somebody has found us meanwhile.
		de.void = true
		m.dentMu.Lock()
		delete(m.dents, de.qid)
		m.put(de)
		m.dentMu.Unlock()
		return nil, err
	}
	return de, nil
}

// usable reports whether de is its file's Dent, once that is known. The caller has a reference.
func (de *Dent) usable() bool {
	de.mu.RLock()
	defer de.mu.RUnlock()
	return !de.void
}

// newDent returns the Dent of a file that is being created, open once, with a reference.
func (m *Mount) newDent(pqid uint64, name string, d kvfmt.Dir) *Dent {
	de := &Dent{mount: m, qid: d.Qid.Path, refs: 1, pqid: pqid, name: name, dir: d, clean: true}
	de.opened()
	m.dentMu.Lock()
	m.dents[de.qid] = de
	m.dentMu.Unlock()
	return de
}

// put drops a reference; dentMu is held.
func (m *Mount) put(de *Dent) {
	if de.refs--; de.refs == 0 && m.dents[de.qid] == de {
		delete(m.dents, de.qid)
	}
}

func (de *Dent) hold() *Dent {
	de.mount.dentMu.Lock()
	de.refs++
	de.mount.dentMu.Unlock()
	return de
}

func (de *Dent) drop() {
	de.mount.dentMu.Lock()
	de.mount.put(de)
	de.mount.dentMu.Unlock()
}

// values returns a copy of the entry.
func (de *Dent) values() kvfmt.Dir {
	de.mu.RLock()
	defer de.mu.RUnlock()
	return de.dir
}

// key appends the file's key.
func (de *Dent) key(p []byte) []byte { return kvfmt.AppendEntKey(p, de.pqid, de.name) }

// isRoot reports whether this is the root directory of its tree.
func (de *Dent) isRoot() bool { return de.pqid == kvfmt.RootPqid }

// lookup returns the entry name of directory pqid. Errors: errNotFound, those of the tree.
func (m *Mount) lookup(g *epoch.Guard, pqid uint64, name string) (kvfmt.Dir, error) {
	var kbuf [kvfmt.KeyMax + 16]byte
	var vbuf [kvfmt.ValMax]byte
	v, err := m.tree.Lookup(g, kvfmt.AppendEntKey(kbuf[:0], pqid, name), vbuf[:0])
	if err == betree.ErrNotFound {
		return kvfmt.Dir{}, errNotFound
	}
	if err != nil {
		return kvfmt.Dir{}, err
	}
	return kvfmt.GetDir(v)
}

// parentKey returns the key of directory qid: where it lies and what it is called.
func (m *Mount) parentKey(g *epoch.Guard, qid uint64) (kvfmt.Ent, error) {
	var kbuf [kvfmt.UpKeySize]byte
	var vbuf [kvfmt.ValMax]byte
	v, err := m.tree.Lookup(g, kvfmt.AppendUpKey(kbuf[:0], qid), vbuf[:0])
	if err == betree.ErrNotFound {
		return kvfmt.Ent{}, errNotFound
	}
	if err != nil {
		return kvfmt.Ent{}, err
	}
	return kvfmt.GetEnt(v)
}

// isEmpty reports whether directory qid has no entries.
func (m *Mount) isEmpty(g *epoch.Guard, qid uint64) (bool, error) {
	empty := true
	prefix := kvfmt.AppendEntPrefix(nil, qid)
	err := m.tree.Scan(g, prefix, nil, func(k, _ []byte) bool {
		empty = !bytes.HasPrefix(k, prefix)
		return false
	})
	return empty, err
}

// pathOf returns the path of a file below its root, for people to read: as much of it as can be
// found.
func (m *Mount) pathOf(g *epoch.Guard, pqid uint64, name string) string {
	path := name
	for range 1000 {
		if pqid == kvfmt.RootPqid {
			break
		}
		e, err := m.parentKey(g, pqid)
		if err != nil {
			path = fmt.Sprintf("(directory %d)/%s", pqid, path)
			break
		}
		if e.Pqid == kvfmt.RootPqid {
			break
		}
		path = e.Name + "/" + path
		pqid = e.Pqid
	}
	return m.name + "/" + path
}
