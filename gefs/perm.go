package gefs

import (
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/users"
)

// Permission bits of one class: what is wanted, or granted.
const (
	wantExec  = 1
	wantWrite = 2
	wantRead  = 4
)

const (
	dmDir    = 0x80000000
	dmAppend = 0x40000000
	dmExcl   = 0x20000000
	dmTmp    = 0x04000000
	dmPerm   = 0777
	dmKnown  = dmDir | dmAppend | dmExcl | dmTmp | dmPerm
)

// mayAccess says whether the user may do all that is wanted with the file d, which one class of
// users, owner, group or others, must be granted as a whole. The user none is nobody but others,
// and members of nogroup may not even be others, except to walk through directories.
// Source: fsaccess.
func mayAccess(t *users.Table, uid int32, d *kvfmt.Dir, want uint32) bool {
	if uid != t.None() {
		if uid == d.Uid && d.Mode>>6&want == want {
			return true
		}
		if t.InGroup(uid, d.Gid) && d.Mode>>3&want == want {
			return true
		}
	}
	if d.Mode&want != want {
		return false
	}
	return d.Mode&dmDir != 0 && want == wantExec || !t.InGroup(uid, t.Nogroup())
}

// wanted returns the permissions that opening with mode asks for.
func wanted(mode uint8) uint32 {
	var want uint32
	switch mode & 3 {
	case ninep.OREAD:
		want = wantRead
	case ninep.OWRITE:
		want = wantWrite
	case ninep.ORDWR:
		want = wantRead | wantWrite
	case ninep.OEXEC:
		want = wantRead | wantExec
	}
	if mode&ninep.OTRUNC != 0 {
		want |= wantWrite
	}
	return want
}

// access says whether f's user may do what is wanted with d.
func (f *File) access(d *kvfmt.Dir, want uint32) bool {
	return f.permit || mayAccess(f.fs.Users(), f.uid, d, want)
}

// checkName says whether a file may be called name.
func checkName(name string) error {
	switch {
	case len(name) > kvfmt.NameMax:
		return errLength
	case name == "" || name == "." || name == "..":
		return errName
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == '/' {
			return errName
		}
	}
	return nil
}
