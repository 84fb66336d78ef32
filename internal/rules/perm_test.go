package rules_test

import (
	"testing"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// modes are the permissions that are tried: all, with -short those of which one class differs from two
// alike.
func modes() []uint32 {
	var list []uint32
	for m := range uint32(0o1000) {
		u, g, o := m>>6, m>>3&7, m&7
		even := func(a, b uint32) bool { return a == b && (a == 0 || a == 7) }
		if !testing.Short() || even(u, g) || even(g, o) || even(u, o) {
			list = append(list, m)
		}
	}
	return list
}

// fids of these tests.
const (
	fD    = 1 // top's, on the directory
	fF    = 2 // top's, on the file
	fUse  = 3 // somebody's
	fTmp  = 4
	fOpen = 10 // somebody's, open: one each
)

// put makes d/f as the tests begin with it, owner's in the group, with a top fid each. What there was is
// removed; d must not hold anything else.
func (r *rig) put(group string) {
	r.t.Helper()
	if r.m.fids[fF] != nil {
		r.must(clunk(fF))
	}
	d := r.m.root.kids["d"]
	if d == nil {
		r.must(walk(topRoot, fD))
		r.must(create(fD, "d", ninep.DMDIR|0777, ninep.OREAD))
		r.must(clunk(fD))
		r.must(walk(topRoot, fD, "d"))
		d = r.m.root.kids["d"]
	}
	for name := range d.kids {
		r.must(walk(fD, fTmp, name))
		r.must(remove(fTmp))
	}
	r.must(walk(fD, fF))
	r.must(create(fF, "f", 0666, ninep.OWRITE))
	r.must(write(fF, 0, "12345"))
	r.must(clunk(fF))
	r.must(walk(fD, fF, "f"))
	for _, f := range []uint32{fD, fF} {
		r.must(wstat(f, func(d *ninep.Dir) { d.Uid, d.Gid = "owner", group }))
	}
}

// TestWhatTheModeOfAFileAllows tries, for files of every mode, what everybody may do to them: open them
// in every way, and change every field of their records, before and after they have opened them.
func TestWhatTheModeOfAFileAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{})
	r.put("team")
	mtime := uint32(0)
	changes := []func(*ninep.Dir){
		func(d *ninep.Dir) { d.Length = 3 },
		func(d *ninep.Dir) { d.Length = 5 },
		func(d *ninep.Dir) { mtime++; d.Mtime = mtime }, // another one each time
		func(d *ninep.Dir) { d.Mode = 0123 },
		func(d *ninep.Dir) { d.Uid = "other" },
		func(d *ninep.Dir) { d.Uid = "owner" },
	}
	for _, mode := range modes() {
		for i := range people {
			r.mark()
			r.must(chmod(fF, mode))
			// The manual's modes, each with and without truncation.
			for _, how := range []uint8{ninep.OREAD, ninep.OWRITE, ninep.ORDWR, ninep.OEXEC} {
				for _, more := range []uint8{0, ninep.OTRUNC, ninep.OCEXEC} {
					if more == ninep.OCEXEC && how != ninep.OREAD {
						continue
					}
					r.must(walk(rootOf(i), fUse, "d", "f"))
					r.do(open(fUse, how|more))
					r.do(read(fUse))
					r.must(clunk(fUse))
				}
			}
			// What one has open stays open; all else is as if it were not.
			r.must(chmod(fF, 0777))
			r.must(walk(rootOf(i), fUse, "d", "f"))
			if mode%2 == 0 {
				r.do(open(fUse, ninep.ORDWR))
			}
			r.must(chmod(fF, mode))
			r.do(read(fUse))
			r.do(write(fUse, 0, "12345"))
			r.do(open(fUse, ninep.OREAD))
			r.do(create(fUse, "g", 0666, ninep.OREAD))
			for _, change := range changes {
				if r.do(wstat(fUse, change)) {
					r.must(wstat(fF, func(d *ninep.Dir) { d.Mode, d.Length, d.Uid = mode, 5, "owner" }))
				}
			}
			r.must(stat(fUse))
			r.must(clunk(fUse))
		}
	}
	t.Logf("%d requests compared, %d modes", r.n, len(modes()))
}

// TestWhatTheModeOfADirectoryAllows tries, in directories of every mode, what everybody may do there: walk
// on, list, create, rename, remove, open to be removed.
func TestWhatTheModeOfADirectoryAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{})
	r.put("team")
	for _, mode := range modes() {
		for i := range people {
			r.mark()
			r.must(chmod(fD, ninep.DMDIR|0777))
			r.must(walk(rootOf(i), fUse, "d", "f"))
			r.must(walk(rootOf(i), fOpen, "d", "f"))
			r.do(open(fOpen, ninep.OREAD))
			r.must(chmod(fD, ninep.DMDIR|mode))
			r.do(walk(rootOf(i), fTmp, "d", "f"))
			r.do(clunk(fTmp))
			r.must(walk(rootOf(i), fTmp, "d"))
			r.do(open(fTmp, ninep.OREAD))
			r.do(read(fTmp))
			r.must(clunk(fTmp))
			for _, how := range []uint8{ninep.OWRITE, ninep.OEXEC, ninep.OREAD | ninep.OTRUNC, ninep.OREAD | ninep.ORCLOSE} {
				r.must(walk(rootOf(i), fTmp, "d"))
				r.do(open(fTmp, how))
				r.must(clunk(fTmp))
			}
			r.must(walk(rootOf(i), fTmp, "d"))
			r.do(create(fTmp, "f", 0666, ninep.OREAD))
			r.do(create(fTmp, "new", 0666, ninep.OREAD|ninep.ORCLOSE))
			r.must(clunk(fTmp))
			r.must(walk(rootOf(i), fTmp, "d"))
			if r.do(create(fTmp, "sub", ninep.DMDIR|0777, ninep.OREAD)) {
				r.must(stat(fTmp))
				r.must(walk(fD, 5, "sub"))
				r.must(remove(5))
			}
			r.must(clunk(fTmp))
			// Through a fid that is open, and one that is not.
			for _, f := range []uint32{fUse, fOpen} {
				if r.do(wstat(f, func(d *ninep.Dir) { d.Name = "g" })) {
					r.must(wstat(fF, func(d *ninep.Dir) { d.Name = "f" }))
				}
			}
			r.do(open(fUse, ninep.OREAD|ninep.ORCLOSE))
			r.must(clunk(fUse))
			r.do(remove(fOpen))
			if r.m.root.kids["d"].kids["f"] == nil {
				r.must(chmod(fD, ninep.DMDIR|0777))
				r.put("team")
			}
		}
	}
	t.Logf("%d requests compared, %d modes", r.n, len(modes()))
}

// TestWhoMayChangeOwnersAndGroups goes through files of every group, for every leader and member.
func TestWhoMayChangeOwnersAndGroups(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{})
	owners := []string{"owner", "chief", "boss", "none", "adm"}
	if testing.Short() {
		owners = owners[:2]
	}
	for _, owner := range owners {
		for _, group := range []string{"team", "crew", "band", "owner", "adm", "none", "nogroup"} {
			r.put(group)
			for _, mode := range []uint32{0, 0660, 0666, 0777} {
				restore := func(d *ninep.Dir) { d.Uid, d.Gid, d.Mode, d.Length = owner, group, mode, 5 }
				r.must(wstat(fF, restore))
				for i := range people {
					r.mark()
					r.must(walk(rootOf(i), fUse, "d", "f"))
					try := func(change func(d *ninep.Dir)) {
						if r.do(wstat(fUse, change)) {
							r.must(wstat(fF, restore))
						}
					}
					for _, g := range []string{"team", "crew", "band", "owner", "member", "boss", "adm", "nogroup"} {
						try(func(d *ninep.Dir) { d.Gid = g })
						// All of it or nothing.
						try(func(d *ninep.Dir) { d.Gid, d.Mode = g, 0321 })
						try(func(d *ninep.Dir) { d.Gid, d.Name = g, "f" })
					}
					for _, p := range people {
						try(func(d *ninep.Dir) { d.Uid = p.name })
					}
					try(func(d *ninep.Dir) { d.Mode = 0321 })
					try(func(d *ninep.Dir) { d.Mode = mode | ninep.DMAPPEND })
					try(func(d *ninep.Dir) { d.Mode = ninep.DMDIR | 0777 })
					try(func(d *ninep.Dir) { d.Length, d.Mode = 2, 0444 })
					try(func(d *ninep.Dir) { d.Atime = 5 }) // asks for nothing
					r.must(stat(fUse))
					r.must(clunk(fUse))
				}
			}
		}
	}
	t.Logf("%d requests compared", r.n)
}

// TestModeBitsBesidePermissions has everybody open append-only and exclusive-use files, of which somebody
// else has one open or nobody.
func TestModeBitsBesidePermissions(t *testing.T) {
	r := newRig(t, gefs.Options{})
	r.put("team")
	for _, bits := range []uint32{0, ninep.DMAPPEND, ninep.DMEXCL, ninep.DMAPPEND | ninep.DMEXCL, ninep.DMTMP} {
		for _, perm := range []uint32{0, 0700, 0640, 0666, 0777} {
			for i := range people {
				for _, held := range []bool{false, true} {
					r.mark()
					r.must(chmod(fF, bits|perm))
					if held {
						r.must(walk(topRoot, fTmp, "d", "f"))
						r.must(open(fTmp, ninep.OREAD))
					}
					for _, how := range []uint8{ninep.OREAD, ninep.OWRITE, ninep.ORDWR | ninep.OTRUNC, ninep.OEXEC} {
						r.must(walk(rootOf(i), fUse, "d", "f"))
						r.do(open(fUse, how))
						r.do(write(fUse, 1, "xy"))
						r.do(read(fUse))
						r.must(stat(fUse))
						r.must(clunk(fUse))
						r.must(wstat(fF, func(d *ninep.Dir) { d.Length = 5 }))
					}
					// The bit comes or goes while somebody has it open.
					r.must(chmod(fF, (bits|perm)^ninep.DMEXCL))
					r.must(walk(rootOf(i), fUse, "d", "f"))
					r.do(open(fUse, ninep.OREAD))
					r.do(remove(fUse))
					if held {
						r.must(clunk(fTmp))
					}
					if r.m.root.kids["d"].kids["f"] == nil {
						r.put("team")
					}
				}
			}
		}
	}
	t.Logf("%d requests compared", r.n)
}
