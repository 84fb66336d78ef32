package rules_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// usersText are the users of the tests, for the server; people says the same to the model.
const usersText = `-1:adm::glenda
0:none::
1:glenda:glenda:
2:owner:owner:
3:member:member:
4:chief:chief:
5:boss:boss:
6:other:other:
7:team:chief:member,chief,none
8:crew::owner,member
9:band:boss:owner
10:mallory:mallory:
9999:nogroup::mallory
`

// A person is a user as the model knows them: users(6).
type person struct {
	name   string
	in     []string // groups, beside the one of their own name
	leads  []string // groups
	none   bool     // gets only what others get
	barred bool     // does not even get that, but to walk
}

var people = []*person{
	{name: "owner", in: []string{"crew", "band"}, leads: []string{"owner", "crew"}},
	{name: "member", in: []string{"team", "crew"}, leads: []string{"member", "crew"}},
	{name: "chief", in: []string{"team"}, leads: []string{"chief", "team"}},
	{name: "boss", leads: []string{"boss", "band"}}, // leads what they are not in
	{name: "other", leads: []string{"other"}},
	{name: "team"},
	{name: "none", in: []string{"team"}, none: true}, // which is worth nothing
	{name: "adm"},
	{name: "glenda", in: []string{"adm"}, leads: []string{"glenda", "adm"}},
	{name: "mallory", in: []string{"nogroup"}, leads: []string{"mallory", "nogroup"}, barred: true},
}

func (p *person) member(g string) bool { return p.name == g || slices.Contains(p.in, g) }
func (p *person) leader(g string) bool { return slices.Contains(p.leads, g) }

// A node is a file.
type node struct {
	name           string
	up             *node // a root is its own
	kids           map[string]*node
	mode           uint32
	uid, gid, muid string
	data           string
	gone           bool
	opens          int  // fids that have it open
	sole           bool // it was for exclusive use when it was opened last
}

func (n *node) dir() bool { return n.mode&ninep.DMDIR != 0 }

// A fid is one of a client's.
type fid struct {
	who    *person
	permit bool // attached with %
	at, in *node
	open   int // mode, or -1
	rclose bool
}

// may says whether the fid's user may do all of want with n: one class has to grant all of it.
func (f *fid) may(n *node, want uint32) bool {
	grants := func(shift int) bool { return n.mode>>shift&want == want }
	switch {
	case f.permit:
		return true
	case f.who.none:
		return grants(0)
	case f.who.name == n.uid && grants(6), f.who.member(n.gid) && grants(3):
		return true
	case f.who.barred:
		return n.dir() && want == 1 && grants(0)
	}
	return grants(0)
}

// A model is what the server should be. Fids are of one connection.
type model struct {
	root *node
	fids map[uint32]*fid
}

func newModel() *model {
	root := &node{name: "/", kids: map[string]*node{}, mode: ninep.DMDIR | 0775, uid: "glenda", gid: "glenda", muid: "glenda"}
	root.up = root
	return &model{root, map[uint32]*fid{}}
}

// What a server says that refuses.
const (
	eunknown  = "unknown fid"
	efidinuse = "fid in use"
	eperm     = "permission denied"
	einuse    = "resource in use"
	enotfound = "directory entry not found"
	ephase    = "phase error -- use after remove"
	elocked   = "open/create -- file is locked"
	eexist    = "create/wstat -- file exists"
	ename     = "create/wstat -- bad character in file name"
	enotempty = "directory is not empty"
	eowner    = "wstat -- not owner or group leader"
	euid      = "wstat -- not owner"
	egroup    = "wstat -- not in group"
	edir      = "wstat -- attempt to change directory"
)

// An expectation is what the answer to a request has to be: one of the refusals if there are any, or
// else an answer that passes the check.
type expectation struct {
	refusals []string
	check    func(r *ninep.Fcall) error // nil for nothing more
}

func (e *expectation) refuse(when bool, why string) {
	if when && !slices.Contains(e.refusals, why) {
		e.refusals = append(e.refusals, why)
	}
}

// met says whether r is as expected.
func (e *expectation) met(r *ninep.Fcall) error {
	switch {
	case r.Type == ninep.Rerror && len(e.refusals) == 0:
		return fmt.Errorf("refused with %q, nothing speaks against it", r.Rerror.Ename)
	case r.Type == ninep.Rerror && !slices.Contains(e.refusals, r.Rerror.Ename):
		return fmt.Errorf("refused with %q, want one of %q", r.Rerror.Ename, e.refusals)
	case r.Type != ninep.Rerror && len(e.refusals) > 0:
		return fmt.Errorf("done, want one of %q", e.refusals)
	case r.Type != ninep.Rerror && e.check != nil:
		return e.check(r)
	}
	return nil
}

// step makes a request of the model and says what a server has to answer.
func (m *model) step(req proto.FCall) expectation {
	var e expectation
	num := func(n uint32) *fid {
		f := m.fids[n]
		e.refuse(f == nil, eunknown)
		return f
	}
	switch q := req.(type) {
	case *proto.TAttach:
		e.refuse(m.fids[q.Fid] != nil, efidinuse)
		if len(e.refusals) == 0 {
			i := slices.IndexFunc(people, func(p *person) bool { return p.name == q.Uname })
			m.fids[q.Fid] = &fid{who: people[i], permit: q.Aname == "%", at: m.root, in: m.root, open: -1}
		}
	case *proto.TWalk:
		if f := num(q.Fid); f != nil {
			m.walk(&e, f, q)
		}
	case *proto.TOpen:
		if f := num(q.Fid); f != nil {
			m.open(&e, f, uint8(q.Mode))
		}
	case *proto.TCreate:
		if f := num(q.Fid); f != nil {
			m.create(&e, f, q)
		}
	case *proto.TRead:
		if f := num(q.Fid); f != nil {
			m.read(&e, f, q)
		}
	case *proto.TWrite:
		if f := num(q.Fid); f != nil {
			m.write(&e, f, q)
		}
	case *proto.TClunk:
		if f := num(q.Fid); f != nil {
			delete(m.fids, q.Fid)
			m.clunk(f)
		}
	case *proto.TRemove:
		if f := num(q.Fid); f != nil {
			delete(m.fids, q.Fid)
			f.rclose = false
			m.remove(&e, f)
			m.clunk(f)
		}
	case *proto.TStat:
		if f := num(q.Fid); f != nil {
			n := *f.at
			e.check = func(r *ninep.Fcall) error {
				d := r.Rstat.Stat
				got := node{name: d.Name, mode: d.Mode, uid: d.Uid, gid: d.Gid, muid: d.Muid}
				want := node{name: n.name, mode: n.mode, uid: n.uid, gid: n.gid, muid: n.muid}
				if n.name == "/" {
					got.name = "/"
				}
				if got.text() != want.text() || d.Length != uint64(len(n.data)) {
					return fmt.Errorf("stat says %s, %d bytes, want %s, %d bytes", got.text(), d.Length, want.text(), len(n.data))
				}
				return nil
			}
		}
	case *proto.TWstat:
		if f := num(q.Fid); f != nil {
			m.wstat(&e, f, (*ninep.Dir)(&q.Stat))
		}
	}
	return e
}

func (n *node) text() string {
	return fmt.Sprintf("%s %o %s %s %s", n.name, n.mode, n.uid, n.gid, n.muid)
}

func (m *model) walk(e *expectation, f *fid, q *proto.TWalk) {
	if e.refuse(f.open >= 0, einuse); f.open >= 0 {
		return
	}
	to := &fid{who: f.who, permit: f.permit, at: f.at, in: f.in, open: -1}
	n := 0
	for _, name := range q.Wname {
		if !to.at.dir() || !f.may(to.at, 1) {
			break
		}
		next := to.at.kids[name]
		if name == ".." {
			next = to.at.up
		}
		if next == nil {
			break
		}
		to.at, to.in = next, next.up
		n++
	}
	switch {
	case n == 0 && len(q.Wname) > 0:
		e.refuse(true, enotfound)
		return
	case n == len(q.Wname) && q.Newfid != q.Fid && m.fids[q.Newfid] != nil:
		e.refuse(true, efidinuse)
		return
	case n == len(q.Wname):
		m.fids[q.Newfid] = to
	}
	e.check = func(r *ninep.Fcall) error {
		if len(r.Rwalk.Wqid) != n {
			return fmt.Errorf("walked %d names, want %d", len(r.Rwalk.Wqid), n)
		}
		return nil
	}
}

func (m *model) open(e *expectation, f *fid, mode uint8) {
	n := f.at
	others := n.opens
	if f.open >= 0 {
		others--
	}
	want := []uint32{ninep.OREAD: 4, ninep.OWRITE: 2, ninep.ORDWR: 6, ninep.OEXEC: 5}[mode&3]
	if mode&ninep.OTRUNC != 0 {
		want |= 2
	}
	rclose := mode&ninep.ORCLOSE != 0
	e.refuse(f.open >= 0, einuse)
	e.refuse(n.gone, enotfound)
	e.refuse(others > 0 && (n.sole || n.mode&ninep.DMEXCL != 0), elocked)
	e.refuse(n.dir() && mode&^ninep.OCEXEC != ninep.OREAD, eperm)
	e.refuse(n.dir() && rclose && len(n.kids) > 0, enotempty)
	e.refuse(!f.may(n, want), eperm)
	e.refuse(rclose && (n == m.root || !f.may(f.in, 2)), eperm)
	if len(e.refusals) > 0 {
		return
	}
	f.opened(mode)
	if mode&ninep.OTRUNC != 0 && n.mode&ninep.DMAPPEND == 0 {
		n.data, n.muid = "", f.who.name
	}
}

func (f *fid) opened(mode uint8) {
	f.open, f.rclose = int(mode), mode&ninep.ORCLOSE != 0
	f.at.opens++
	f.at.sole = f.at.mode&ninep.DMEXCL != 0
}

func (m *model) create(e *expectation, f *fid, q *proto.TCreate) {
	d := f.at
	e.refuse(f.open >= 0, einuse)
	e.refuse(d.gone, ephase)
	e.refuse(!d.dir(), eperm)
	e.refuse(!f.may(d, 2), eperm)
	e.refuse(d.kids[q.Name] != nil, eexist)
	e.refuse(q.Name == "" || q.Name == "." || q.Name == ".." || strings.ContainsAny(q.Name, "/\x01\n"), ename)
	e.refuse(q.Perm&ninep.DMDIR != 0 && q.Mode&^ninep.OCEXEC != ninep.OREAD, eperm)
	if len(e.refusals) > 0 {
		return
	}
	mask := uint32(0666)
	if q.Perm&ninep.DMDIR != 0 {
		mask = 0777
	}
	n := &node{name: q.Name, up: d, mode: q.Perm & (^mask | d.mode&mask), uid: f.who.name, gid: d.gid, muid: f.who.name}
	if n.dir() {
		n.kids = map[string]*node{}
	}
	d.kids[q.Name] = n
	d.muid = f.who.name
	f.at, f.in = n, d
	f.opened(q.Mode)
}

func (m *model) read(e *expectation, f *fid, q *proto.TRead) {
	e.refuse(f.open < 0 || f.open&3 == ninep.OWRITE, einuse)
	n := f.at
	if n.gone || len(e.refusals) > 0 {
		return // what is left of a removed file is nobody's business
	}
	if n.dir() {
		want := slices.Sorted(maps.Keys(n.kids))
		e.check = func(r *ninep.Fcall) error {
			dirs, err := ninep.DecodeDirs(r.Rread.Data)
			var got []string
			for i := range dirs {
				got = append(got, dirs[i].Name)
			}
			if slices.Sort(got); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("the names are %q, %v, want %q", got, err, want)
			}
			return nil
		}
		return
	}
	want := n.data[min(q.Offset, uint64(len(n.data))):]
	want = want[:min(len(want), int(q.Count))]
	e.check = func(r *ninep.Fcall) error {
		if got := string(r.Rread.Data); got != want {
			return fmt.Errorf("read %q, want %q", got, want)
		}
		return nil
	}
}

func (m *model) write(e *expectation, f *fid, q *proto.TWrite) {
	e.refuse(f.open < 0 || f.open&3 == ninep.OREAD || f.open&3 == ninep.OEXEC, einuse)
	e.refuse(f.at.gone, ephase)
	if len(e.refusals) > 0 {
		return
	}
	n, off := f.at, int(q.Offset)
	if n.mode&ninep.DMAPPEND != 0 {
		off = len(n.data)
	}
	b := []byte(n.data)
	if end := off + len(q.Data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[off:], q.Data)
	n.data, n.muid = string(b), f.who.name
}

// clunk ends a fid that is no longer in the table.
func (m *model) clunk(f *fid) {
	if f.open >= 0 {
		f.open = -1
		if f.at.opens--; f.at.opens == 0 {
			f.at.sole = false
		}
	}
	if f.rclose {
		m.remove(new(expectation), f)
	}
}

func (m *model) remove(e *expectation, f *fid) {
	n := f.at
	others := n.opens
	if f.open >= 0 {
		others--
	}
	e.refuse(n.gone, ephase)
	e.refuse(n == m.root, eperm)
	e.refuse(n.mode&ninep.DMEXCL != 0 && others > 0, elocked)
	e.refuse(len(n.kids) > 0, enotempty)
	e.refuse(!f.may(f.in, 2), eperm)
	if len(e.refusals) == 0 {
		delete(f.in.kids, n.name)
		n.gone, f.in.muid = true, f.who.name
	}
}

func (m *model) wstat(e *expectation, f *fid, d *ninep.Dir) {
	if d.IsNull() {
		return
	}
	n := f.at
	named := d.Name != "" && d.Name != n.name
	cut := d.Length != math.MaxUint64 && d.Length != uint64(len(n.data))
	chmod := d.Mode != math.MaxUint32 && d.Mode != n.mode
	chown := d.Uid != "" && d.Uid != n.uid
	chgrp := d.Gid != "" && d.Gid != n.gid
	owner, leader := f.who.name == n.uid, f.who.leader(n.gid)
	e.refuse(n.gone, ephase)
	e.refuse(named && n == m.root, eperm)
	e.refuse(named && f.in.kids[d.Name] != nil, eexist)
	e.refuse(named && (d.Name == "." || d.Name == ".." || strings.ContainsAny(d.Name, "/\x01\n")), ename)
	e.refuse(named && !f.may(f.in, 2), eperm)
	e.refuse(cut && (n.dir() || !f.may(n, 2)), eperm)
	e.refuse(chmod && (d.Mode^n.mode)&ninep.DMDIR != 0, edir)
	if !f.permit {
		e.refuse((chmod || d.Mtime != math.MaxUint32) && !owner && !leader, eowner)
		e.refuse(chown, euid)
		e.refuse(chgrp && !(owner && f.who.member(d.Gid)) && !(leader && f.who.leader(d.Gid)), egroup)
	}
	if len(e.refusals) > 0 {
		return
	}
	n.muid = f.who.name
	if named {
		delete(f.in.kids, n.name)
		n.name = d.Name
		f.in.kids[n.name] = n
		f.in.muid = f.who.name
	}
	if cut {
		b := make([]byte, d.Length)
		copy(b, n.data)
		n.data = string(b)
	}
	if chmod {
		n.mode = d.Mode
	}
	if chown {
		n.uid = d.Uid
	}
	if chgrp {
		n.gid = d.Gid
	}
}
