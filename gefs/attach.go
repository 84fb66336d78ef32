package gefs

import (
	"errors"
	"strings"

	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

var _ ninep.FS = (*FS)(nil)

// Auth refuses: this file system has no authentication protocol to offer.
func (fs *FS) Auth(c *ninep.Ctx, uname, aname string) (ninep.AuthFile, ninep.Qid, error) {
	if uname == "none" && fs.mustProve(c) {
		return nil, ninep.Qid{}, errNoneAuth
	}
	return nil, ninep.Qid{}, errAuth
}

// mustProve reports whether the client has to prove who it is.
func (fs *FS) mustProve(c *ninep.Ctx) bool {
	return fs.opt.Trust != nil && !fs.opt.Trust(c.Conn)
}

// Attach gives the root of a snapshot. The attach name is a label, main if it is empty; with '%'
// before it, permissions are not checked. "dump" is the directory of all snapshots.
// Source: attach(5); fsattach.
func (fs *FS) Attach(c *ninep.Ctx, a ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	none := ninep.Qid{}
	name, permit := strings.CutPrefix(a.Aname, "%")
	if name == "" {
		name = snap.Main
	}
	t := fs.Users()
	uname := a.Uname
	if fs.permit.Load() && name == snap.Adm {
		uname = snap.Adm
	}

	var m *Mount
	if name != snap.Dump || permit {
		var err error
		if m, err = fs.mount(c, name); err != nil {
			if errors.Is(err, snap.ErrNoLabel) {
				err = errSpec
			}
			return nil, none, fs.wire(err, "attach "+name, nil)
		}
	}
	fail := func(err error) (ninep.File, ninep.Qid, error) {
		if m != nil {
			fs.unmount(c, m)
		}
		return nil, none, err
	}
	uid, ok := t.ID(uname)
	if !ok {
		return fail(errNoUser)
	}
	if fs.mustProve(c) && (uid != t.None() || !a.Authenticated) {
		return fail(errBadUser)
	}
	if m == nil {
		if uid == t.None() {
			return nil, none, errPerm
		}
		d := &dumpDir{fs: fs, uid: uid, mode: notOpen}
		return d, d.qid(), nil
	}
	if permit && !fs.permit.Load() && !t.InGroup(uid, t.Adm()) {
		return fail(errPerm)
	}
	if permit {
		fs.log.Info("attach without permission checks", "user", a.Uname, "snapshot", name)
	}
	f, err := fs.root(c, m, uid)
	if err != nil {
		return fail(fs.wire(err, "attach "+name, nil))
	}
	f.permit = permit
	return f, wireQid(f.dent.values().Qid), nil
}

// root returns a File for the root of m, whose reference it takes over.
func (fs *FS) root(c *ninep.Ctx, m *Mount, uid int32) (*File, error) {
	g := guard(c)
	vers := m.tree.Version()
	d, err := m.lookup(g, kvfmt.RootPqid, "")
	if err == errNotFound {
		err = errSpec
	}
	if err != nil {
		return nil, err
	}
	de, err := m.dent(g, kvfmt.RootPqid, "", d, vers)
	if err != nil {
		return nil, err
	}
	return &File{fs: fs, mount: m, uid: uid, dent: de, dir: de.hold(), mode: notOpen}, nil
}
