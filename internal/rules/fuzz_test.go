package rules_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// FuzzRequests makes of the bytes requests to a served disk, four bytes each, from three connections that speak
// a dialect each: 9P2000, 9P2000.u and 9P2000.L. Fids, names and users are few, so that a fid of one comes upon
// what another has removed, moved, cut, locked or made something else. Whatever is asked, there is an answer of a
// type that belongs to it, and none that says that something is wrong with the disk or with the server.
// Afterwards each entry that is listed is there, once, as it is listed, and the disk is sound.
func FuzzRequests(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	disk := fuzzDisk(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		dev := disk.Clone()
		fs := gefstest.Open(t, dev, gefs.Options{})
		srv := gefstest.Serve(t, fs, 16<<10)
		talks := []*talk{
			newTalk(t, srv.Pipe(), ninep.Plan9, "owner", ""),
			newTalk(t, srv.Pipe(), ninep.Unix, "member", ""),
			newTalk(t, srv.Pipe(), ninep.Linux, "glenda", ""),
		}
		for n := 0; n < 100 && len(in) >= 4; n++ {
			k := talks[in[0]%3]
			k.ask(k.request(choice(in[0]/3), choice(in[1]), choice(in[2]), choice(in[3])))
			in = in[4:]
		}
		last := newTalk(t, srv.Pipe(), ninep.Linux, "glenda", "%")
		last.look(0, 1, "")
		srv.Stop()
		if err := fs.Close(); err != nil {
			t.Fatal(err)
		}
		gefstest.CheckStrict(t, dev)
	})
}

// fuzzDisk makes a disk with the users of the model, in whose root everybody may write.
func fuzzDisk(f *testing.F) *blkdev.Mem {
	dev := gefstest.Ream(f)
	fs := gefstest.Open(f, dev, gefs.Options{})
	c, end := fs.Background()
	err := fs.EditUsers(c, func([]byte) ([]byte, error) { return []byte(usersText), nil })
	end()
	if err != nil {
		f.Fatal(err)
	}
	srv := gefstest.Serve(f, fs, 0)
	p := ninetest.NewPeer(f, srv.Pipe())
	p.Version(8192)
	p.Attach(0, "glenda")
	d := ninep.NullDir()
	d.Mode = ninep.DMDIR | 0777
	if r := p.RPC(&proto.TWstat{Fid: 0, Stat: proto.Stat(d)}); r.Type != ninep.Rwstat {
		f.Fatal(ninep.Format(r.Msg()))
	}
	srv.Stop()
	if err := fs.Close(); err != nil {
		f.Fatal(err)
	}
	return dev
}

// A talk is a connection that asks and waits for the answer.
type talk struct {
	t    *testing.T
	conn net.Conn
	d    ninep.Dialect
	buf  []byte
}

// newTalk agrees on the dialect and attaches fid 0.
func newTalk(t *testing.T, conn net.Conn, d ninep.Dialect, uname, aname string) *talk {
	k := &talk{t: t, conn: conn, d: d}
	b, err := ninep.AppendTversion(nil, 0, 16<<10, d.String())
	k.d = ninep.Plan9
	if r := k.ask(b, err); r.Version.Version != d.String() {
		t.Fatalf("asked for %v: %s", d, ninep.Format(r.Msg()))
	}
	k.d = d
	if r := k.ask(k.attach(0, uname, aname)); r.Type != ninep.Rattach {
		t.Fatalf("attach as %s: %s", uname, r.Text(d))
	}
	return k
}

// ask sends a frame, which was encoded with the error err, and returns the answer.
func (k *talk) ask(frame []byte, err error) *ninep.Fcall {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
	var q ninep.Fcall
	if err := q.DecodeAs(frame, k.d); err != nil {
		k.t.Fatalf("%x: %v", frame, err)
	}
	asked := fmt.Sprintf("%v: %s", k.d, q.Text(k.d))
	k.conn.SetDeadline(time.Now().Add(ninetest.Patience))
	if _, err := k.conn.Write(frame); err != nil {
		k.t.Fatalf("%s: %v", asked, err)
	}
	if k.buf, err = ninep.ReadFrame(k.conn, k.buf, 1<<20); err != nil {
		k.t.Fatalf("%s: %v", asked, err)
	}
	r := new(ninep.Fcall)
	if err := r.DecodeAs(k.buf, k.d); err != nil {
		k.t.Fatalf("%s: the answer is %x: %v", asked, k.buf, err)
	}
	said := r.Text(k.d)
	bad := r.Tag != q.Tag
	switch {
	case r.Type == ninep.Rerror:
		for _, damage := range []string{"i/o error", "block contents corrupted", string(ninep.ErrInternal)} {
			bad = bad || strings.Contains(r.Rerror.Ename, damage)
		}
		bad = bad || k.d == ninep.Linux || k.d == ninep.Unix && (r.Errno == 0 || r.Errno == ninep.EIO)
	case r.Type == ninep.Rlerror:
		no := r.Linux.(*ninep.LError).Errno
		bad = bad || no == 0 || no == ninep.EIO
	default:
		bad = bad || r.Type != q.Type+1
	}
	if bad {
		k.t.Fatalf("%s\n%s", asked, said)
	}
	return r
}

func (k *talk) attach(fid uint32, uname, aname string) ([]byte, error) {
	if k.d == ninep.Plan9 {
		return ninep.Append(nil, &proto.TAttach{Fid: fid, Afid: ninep.NOFID, Uname: uname, Aname: aname})
	}
	return ninep.AppendTattachL(nil, 0, fid, ninep.NOFID, uname, aname, ninep.NOUID)
}

// A choice is a byte that stands for one of several things.
type choice uint8

func of[T any](c choice, list ...T) T { return list[int(c)%len(list)] }

func (c choice) fid() uint32      { return uint32(c % 6) }
func (c choice) otherFid() uint32 { return uint32(c / 6 % 6) }
func (c choice) user() string     { return people[int(c)%len(people)].name }
func (c choice) name() string {
	return of(c, "a", "b", "a", "b", "d", "e", "..", ".", "x/y", "", strings.Repeat("n", 245))
}
func (c choice) otherName() string { return (c / 11).name() }
func (c choice) size() uint64 {
	return of[uint64](c, 0, 1, 5, 100, 16383, 16384, 16385, 50000, 1<<20, 1<<40, 1<<63-16385, 1<<63, ^uint64(0))
}
func (c choice) perm() uint32 {
	return of[uint32](c, 0, 0600, 0666, 0777, ninep.DMDIR|0777, ninep.DMDIR|0700, ninep.DMEXCL|0666, ninep.DMAPPEND|0666, ninep.DMTMP|0666, ^uint32(0))
}
func (c choice) mode() uint8 {
	return of[uint8](c, ninep.OREAD, ninep.ORDWR, ninep.OWRITE, ninep.OEXEC, ninep.OWRITE|ninep.OTRUNC, ninep.ORCLOSE, ninep.ORDWR|ninep.ORCLOSE, 0x84)
}
func (c choice) flags() uint32 {
	return of[uint32](c, ninep.ORDWR, ninep.OREAD, ninep.OWRITE, ninep.ORDWR|ninep.OTrunc, ninep.OREAD|ninep.ODirectory, ninep.ORDWR|ninep.OExcl|ninep.OCreat, ninep.OWRITE|ninep.OAppend, 3)
}

// request makes one of what the choices say.
func (k *talk) request(op, x, y, z choice) ([]byte, error) {
	fid, other := x.fid(), x.otherFid()
	var m proto.FCall
	u := ninep.NullUnixPart()
	switch op % 24 {
	case 0:
		return k.attach(fid, y.user(), of(z, "", "", "%", "dump", "main", "nothing"))
	case 1, 2, 3:
		names := []string{y.name(), y.otherName()}[:of(z, 1, 1, 2, 0)]
		m = &proto.TWalk{Fid: fid, Newfid: other, Nwname: uint16(len(names)), Wname: names}
	case 4:
		m = &proto.TRead{Fid: fid, Offset: y.size(), Count: uint32(z.size())}
	case 5, 6:
		data := make([]byte, of(z, 1, 5, 100, 8000, 0))
		m = &proto.TWrite{Fid: fid, Offset: y.size(), Count: uint32(len(data)), Data: data}
	case 7:
		m = &proto.TClunk{Fid: fid}
	case 8:
		m = &proto.TRemove{Fid: fid}
	case 9:
		m = &proto.TFlush{Oldtag: uint16(y)}
	default:
		if k.d == ninep.Linux {
			typ, l := k.linuxRequest(op, x, y, z)
			return ninep.AppendLinux(nil, typ, 0, l)
		}
		m = k.plan9Request(op, fid, y, z, &u)
	}
	if k.d == ninep.Unix {
		return ninep.AppendUnix(nil, m, &u)
	}
	return ninep.Append(nil, m)
}

// plan9Request makes one of those that 9P2000.L has not.
func (k *talk) plan9Request(op choice, fid uint32, y, z choice, u *ninep.UnixPart) proto.FCall {
	switch op % 24 {
	case 10, 11, 12:
		return &proto.TOpen{Fid: fid, Mode: proto.Mode(z.mode())}
	case 13, 14, 15:
		return &proto.TCreate{Fid: fid, Name: y.name(), Perm: z.perm(), Mode: (z / 10).mode()}
	case 16:
		return &proto.TStat{Fid: fid}
	}
	d := ninep.NullDir()
	set := func(bit choice, do func()) {
		if z&bit != 0 {
			do()
		}
	}
	set(1, func() { d.Name = y.name() })
	set(2, func() { d.Length = y.size() })
	set(4, func() { d.Mode = y.perm() })
	set(8, func() { d.Mtime = uint32(y) })
	set(16, func() { d.Gid = of(y, "team", "crew", "band", "owner", "nobody") })
	set(32, func() { d.Uid = y.user() })
	set(64, func() { u.Nuid = uint32(y % 12) })
	set(128, func() { u.Ngid = uint32(y % 12) })
	return &proto.TWstat{Fid: fid, Stat: proto.Stat(d)}
}

// linuxRequest makes one of those that only 9P2000.L has.
func (k *talk) linuxRequest(op, x, y, z choice) (uint8, ninep.LinuxMsg) {
	fid, other := x.fid(), x.otherFid()
	name := y.name()
	switch op % 24 {
	case 10, 11:
		return ninep.Tlopen, &ninep.LOpen{Fid: fid, Flags: z.flags()}
	case 12, 13:
		return ninep.Tlcreate, &ninep.LCreate{Fid: fid, Name: name, Flags: z.flags(), Mode: (z / 8).perm() &^ ninep.DMDIR}
	case 14:
		return ninep.Tmkdir, &ninep.LMkdir{Dfid: fid, Name: name, Mode: 0700 | uint32(z&077)}
	case 15:
		return ninep.Tgetattr, &ninep.LGetattr{Fid: fid, Mask: uint64(y) << 4}
	case 16, 17:
		return ninep.Tsetattr, &ninep.LSetattr{
			Fid: fid, Valid: uint32(z) | uint32(y&1)<<8, Mode: y.perm(), Uid: uint32(y % 12), Gid: uint32(y % 12), Size: y.size(),
			Atime: ninep.LTime{Sec: uint64(y), Nsec: uint64(z) << 24}, Mtime: ninep.LTime{Sec: y.size(), Nsec: uint64(y)},
		}
	case 18:
		return ninep.Treaddir, &ninep.LReaddir{Fid: fid, Offset: uint64(y), Count: uint32(z) * 50}
	case 19:
		return ninep.Trenameat, &ninep.LRenameat{Olddir: fid, Oldname: name, Newdir: other, Newname: z.name()}
	case 20:
		return ninep.Trename, &ninep.LRename{Fid: fid, Dfid: other, Name: name}
	case 21:
		return ninep.Tunlinkat, &ninep.LUnlinkat{Dfid: fid, Name: name, Flags: of[uint32](z, 0, ninep.AtRemoveDir, 1)}
	case 22:
		at := ninep.LRange{Type: uint8(z % 4), Start: y.size(), Length: (y / 13).size(), Proc: uint32(z / 4 % 2), Client: "c"}
		if z >= 128 {
			return ninep.Tgetlock, &ninep.LGetlock{Fid: fid, LRange: at}
		}
		return ninep.Tlock, &ninep.LLock{Fid: fid, Type: at.Type, Flags: uint32(z / 8 % 4), Start: at.Start, Length: at.Length, Proc: at.Proc, Client: at.Client}
	}
	switch z % 8 {
	case 0, 1:
		return ninep.Tfsync, &ninep.LFsync{Fid: fid, Datasync: uint32(y % 2)}
	case 2:
		return ninep.Tstatfs, &ninep.LFid{Fid: fid}
	case 3:
		return ninep.Tsymlink, &ninep.LSymlink{Fid: fid, Name: name, Target: "a"}
	case 4:
		return ninep.Tlink, &ninep.LLink{Dfid: fid, Fid: other, Name: name}
	case 5:
		return ninep.Tmknod, &ninep.LMknod{Dfid: fid, Name: name, Mode: uint32(y) << 8, Major: 1, Minor: 3}
	case 6:
		return ninep.Treadlink, &ninep.LFid{Fid: fid}
	}
	if y%2 == 0 {
		return ninep.Txattrwalk, &ninep.LXattrwalk{Fid: fid, Newfid: other, Name: name}
	}
	return ninep.Txattrcreate, &ninep.LXattrcreate{Fid: fid, Name: name, Size: y.size(), Flags: uint32(z)}
}

// linux asks in 9P2000.L for what has to be done.
func (k *talk) linux(typ uint8, m ninep.LinuxMsg) ninep.LinuxMsg {
	k.t.Helper()
	r := k.ask(ninep.AppendLinux(nil, typ, 0, m))
	if r.Type != typ+1 {
		k.t.Fatalf("%s: %s", ninep.FormatLinux(typ, 0, m), r.Text(k.d))
	}
	return r.Linux
}

// look compares what is listed in the directory of a fid, and below it, with what can be walked to. Fids from
// free on are not used.
func (k *talk) look(dir, free uint32, path string) {
	k.t.Helper()
	list := free
	k.ask(ninep.Append(nil, &proto.TWalk{Fid: dir, Newfid: list}))
	k.linux(ninep.Tlopen, &ninep.LOpen{Fid: list, Flags: ninep.ODirectory})
	var all []ninep.Dirent
	for off := uint64(0); ; {
		m := k.linux(ninep.Treaddir, &ninep.LReaddir{Fid: list, Offset: off, Count: 4000}).(*ninep.LEntries)
		ents, err := ninep.DecodeDirents(m.Data)
		if err != nil {
			k.t.Fatalf("%s: %v", path, err)
		}
		if len(ents) == 0 {
			break
		}
		all, off = append(all, ents...), ents[len(ents)-1].Next
	}
	seen := map[string]bool{}
	for _, e := range all {
		if seen[e.Name] {
			k.t.Errorf("%s/%s is listed twice", path, e.Name)
		}
		seen[e.Name] = true
		if e.Name == "." || e.Name == ".." {
			continue
		}
		r := k.ask(ninep.Append(nil, &proto.TWalk{Fid: dir, Newfid: free + 1, Nwname: 1, Wname: []string{e.Name}}))
		if r.Type != ninep.Rwalk || len(r.Rwalk.Wqid) != 1 || r.Rwalk.Wqid[0] != e.Qid {
			k.t.Fatalf("%s/%s is listed with %v; the walk there: %s", path, e.Name, e.Qid, r.Text(k.d))
		}
		a := k.linux(ninep.Tgetattr, &ninep.LGetattr{Fid: free + 1, Mask: 0x7ff}).(*ninep.LAttr)
		isDir := a.Mode&ninep.SIfmt == ninep.SIfdir
		if a.Qid != e.Qid || isDir != (e.Type == ninep.DTDir) || isDir != (e.Qid.Qtype&ninep.QTDIR != 0) || a.Nlink == 0 {
			k.t.Errorf("%s/%s is listed as %+v, and is %+v", path, e.Name, e, *a)
		}
		if isDir {
			k.look(free+1, free+2, path+"/"+e.Name)
		}
		k.ask(ninep.Append(nil, &proto.TClunk{Fid: free + 1}))
	}
	if !seen["."] || !seen[".."] {
		k.t.Errorf("%s has no dots", path)
	}
	k.ask(ninep.Append(nil, &proto.TClunk{Fid: list}))
}
