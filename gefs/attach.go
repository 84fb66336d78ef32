package gefs

import (
	"errors"
	"strings"

	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

var _ ninep.FS = (*FS)(nil)

// A Proof is a conversation in which a client proves who it is.
type Proof interface {
	ninep.AuthFile
	// User is the user the client has proved to be, "" before it has come to a good end.
	User() string
}

// A proof is the Proof of an auth fid, and what it was asked for.
type proof struct {
	Proof
	uname, aname string
}

// Auth begins a conversation with a client that has to prove who it is. The others are told that
// there is none, which is how they know: attach(5). So is none, who has nothing to prove it with.
//
// Nothing of it goes through the locks of a change, and it works on a disk that is only read.
func (fs *FS) Auth(c *ninep.Ctx, uname, aname string) (ninep.AuthFile, ninep.Qid, error) {
	none := ninep.Qid{}
	if !fs.mustProve(c, uname) {
		return nil, none, errAuth
	}
	if uname == "none" {
		return nil, none, errNoneAuth
	}
	if fs.opt.Auth == nil {
		return nil, none, errAuth
	}
	p, err := fs.opt.Auth(c, uname)
	if err != nil {
		return nil, none, err
	}
	return &proof{p, uname, aname}, ninep.Qid{Qtype: ninep.QTAUTH, Uid: fs.proofs.Add(1)}, nil
}

// mustProve reports whether the client has to prove that it is uname.
func (fs *FS) mustProve(c *ninep.Ctx, uname string) bool {
	return fs.opt.Trust != nil && !fs.opt.Trust(c, uname)
}

// mayAttach refuses clients that are not trusted and have not proved who they are. An auth fid that
// was given counts in any case, and only for the user and the tree it was asked for. none gets in
// beside somebody who has proved something.
//
// It is the first that Attach asks: who may not get in learns neither which users there are, nor which
// snapshots.
func (fs *FS) mayAttach(c *ninep.Ctx, a ninep.AttachArgs) error {
	if a.Afid != nil {
		p, ok := a.Afid.(*proof)
		if !ok || p.uname != a.Uname || p.aname != a.Aname || a.Uname == "" || p.User() != a.Uname {
			return errBadUser
		}
		return nil
	}
	if !fs.mustProve(c, a.Uname) || a.Uname == "none" && a.Authenticated {
		return nil
	}
	return errBadUser
}

// Attach gives the root of a snapshot. The attach name is a label, main if it is empty; with '%'
// before it, permissions are not checked. "dump" is the directory of all snapshots.
// Source: attach(5); fsattach.
func (fs *FS) Attach(c *ninep.Ctx, a ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	none := ninep.Qid{}
	if err := fs.mayAttach(c, a); err != nil {
		return nil, none, err
	}
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
	if m == nil {
		if uid == t.None() {
			return nil, none, errPerm
		}
		d := &dumpDir{fs: fs, uid: uid, dialect: a.Dialect, mode: notOpen}
		return d, d.qid(), nil
	}
	if permit && !fs.permit.Load() && !t.InGroup(uid, t.Adm()) {
		fs.log.Warn("attach without permission checks refused", "user", a.Uname, "snapshot", name, "conn", c.Conn)
		return fail(errPerm)
	}
	f, err := fs.root(c, m, uid)
	if err != nil {
		return fail(fs.wire(err, "attach "+name, nil))
	}
	if permit {
		fs.log.Info("attach without permission checks", "user", a.Uname, "snapshot", name, "conn", c.Conn)
	}
	f.permit, f.dialect = permit, a.Dialect
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
