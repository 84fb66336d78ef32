package golibs

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/knusbaum/go9p/proto"
	"github.com/lionkov/go9p/p"

	"gefs9p/ninep"
)

// TestUnixCodecs has lionkov's codec and ours read what the other has written in 9P2000.u.
func TestUnixCodecs(t *testing.T) {
	r := newRand(t)
	var ours ninep.Fcall
	seen := 0
	for round := range 300 {
		for typ := uint8(p.Tversion); typ <= p.Rwstat; typ++ {
			if typ == p.Terror {
				continue
			}
			if round == 0 {
				seen++
			}
			want := p.NewFcall(1 << 16)
			if err := packLionkov(r, want, typ); err != nil {
				t.Fatalf("lionkov does not write type %d: %v", typ, err)
			}
			p.SetTag(want, uint16(r.Uint32()))
			theirs := bytes.Clone(want.Pkt)

			if err := ours.DecodeAs(theirs, ninep.Unix); err != nil {
				t.Fatalf("ours does not read %v, %x: %v", want, theirs, err)
			}
			b, err := ninep.AppendUnix(nil, ours.Msg(), &ours.UnixPart)
			if err != nil || !bytes.Equal(b, theirs) {
				t.Fatalf("%s\nours    %x, %v\nlionkov %x", ours.Text(ninep.Unix), b, err, theirs)
			}
			got, err, n := p.Unpack(b, true)
			if err != nil || n != len(b) {
				t.Fatalf("lionkov does not read %s, %x: %d bytes, %v", ours.Text(ninep.Unix), b, n, err)
			}
			if diff := cmp.Diff(unixOf(got), ours.UnixPart, onlyOf(typ)); diff != "" {
				t.Fatalf("%s: read differently:\n%s", ours.Text(ninep.Unix), diff)
			}
			if typ == p.Rstat || typ == p.Twstat {
				st := proto.Stat{Type: got.Dir.Type, Dev: got.Dir.Dev, Qid: proto.Qid{Qtype: got.Dir.Qid.Type, Vers: got.Dir.Qid.Version, Uid: got.Dir.Qid.Path},
					Mode: got.Dir.Mode, Atime: got.Dir.Atime, Mtime: got.Dir.Mtime, Length: got.Dir.Length,
					Name: got.Dir.Name, Uid: got.Dir.Uid, Gid: got.Dir.Gid, Muid: got.Dir.Muid}
				mine := ours.Rstat.Stat
				if typ == p.Twstat {
					mine = ours.Twstat.Stat
				}
				if diff := cmp.Diff(st, mine); diff != "" {
					t.Fatalf("%s: read differently:\n%s", ours.Text(ninep.Unix), diff)
				}
				unixRecord(t, got, &ninep.UnixDir{Dir: ninep.Dir(mine), UnixStat: ours.UnixStat})
			}
		}
	}
	if seen != 27 {
		t.Errorf("%d types of messages, 9P2000.u has 27", seen)
	}
}

// unixRecord compares the record as it stands in a directory.
func unixRecord(t *testing.T, got *p.Fcall, d *ninep.UnixDir) {
	t.Helper()
	b, err := d.Append(nil)
	if theirs := p.PackDir(&got.Dir, true); err != nil || !bytes.Equal(b, theirs) {
		t.Fatalf("record %v\nours    %x, %v\nlionkov %x", d, b, err, theirs)
	}
}

// unixOf is what lionkov has read of what 9P2000.u adds.
func unixOf(f *p.Fcall) ninep.UnixPart {
	u := ninep.UnixPart{NUname: f.Unamenum, Errno: ninep.Errno(f.Errornum)}
	u.Extension = f.Ext
	if f.Type == p.Rstat || f.Type == p.Twstat {
		u.UnixStat = ninep.UnixStat{Extension: f.Dir.Ext, Nuid: f.Dir.Uidnum, Ngid: f.Dir.Gidnum, Nmuid: f.Dir.Muidnum}
	}
	return u
}

// onlyOf compares what belongs to the type: the rest is left over from messages before.
func onlyOf(typ uint8) cmp.Option {
	ignore := func(names ...string) cmp.Option { return cmpopts.IgnoreFields(ninep.UnixPart{}, names...) }
	switch typ {
	case p.Tauth, p.Tattach:
		return ignore("Errno", "UnixStat")
	case p.Rerror:
		return ignore("NUname", "UnixStat")
	case p.Tcreate:
		return ignore("NUname", "Errno", "UnixStat.Nuid", "UnixStat.Ngid", "UnixStat.Nmuid")
	case p.Rstat, p.Twstat:
		return ignore("NUname", "Errno")
	}
	return ignore("NUname", "Errno", "UnixStat")
}

// packLionkov makes a message of the type with random content.
func packLionkov(r *rand.Rand, f *p.Fcall, typ uint8) error {
	fid, s := func() uint32 { return edge(r) }, func() string { return randString(r) }
	qid := func() p.Qid { q := randQid(r); return p.Qid{Type: q.Type, Version: q.Vers, Path: q.Path} }
	dir := func() *p.Dir {
		return &p.Dir{Type: uint16(r.Uint32()), Dev: edge(r), Qid: qid(), Mode: edge(r), Atime: edge(r), Mtime: edge(r), Length: edge64(r),
			Name: s(), Uid: s(), Gid: s(), Muid: s(), Ext: s(), Uidnum: edge(r), Gidnum: edge(r), Muidnum: edge(r)}
	}
	q := qid()
	switch typ {
	case p.Tversion:
		return p.PackTversion(f, edge(r), s())
	case p.Rversion:
		return p.PackRversion(f, edge(r), s())
	case p.Tauth:
		return p.PackTauth(f, fid(), s(), s(), edge(r), true)
	case p.Rauth:
		return p.PackRauth(f, &q)
	case p.Tattach:
		return p.PackTattach(f, fid(), fid(), s(), s(), edge(r), true)
	case p.Rattach:
		return p.PackRattach(f, &q)
	case p.Rerror:
		return p.PackRerror(f, s(), edge(r), true)
	case p.Tflush:
		return p.PackTflush(f, uint16(edge(r)))
	case p.Rflush:
		return p.PackRflush(f)
	case p.Twalk:
		names := make([]string, r.IntN(17))
		for i := range names {
			names[i] = s()
		}
		return p.PackTwalk(f, fid(), fid(), names)
	case p.Rwalk:
		qids := make([]p.Qid, r.IntN(17))
		for i := range qids {
			qids[i] = qid()
		}
		return p.PackRwalk(f, qids)
	case p.Topen:
		return p.PackTopen(f, fid(), uint8(r.Uint32()))
	case p.Ropen:
		return p.PackRopen(f, &q, edge(r))
	case p.Tcreate:
		return p.PackTcreate(f, fid(), s(), edge(r), uint8(r.Uint32()), s(), true)
	case p.Rcreate:
		return p.PackRcreate(f, &q, edge(r))
	case p.Tread:
		return p.PackTread(f, fid(), edge64(r), edge(r))
	case p.Rread:
		return p.PackRread(f, randBytes(r))
	case p.Twrite:
		data := randBytes(r)
		return p.PackTwrite(f, fid(), edge64(r), uint32(len(data)), data)
	case p.Rwrite:
		return p.PackRwrite(f, edge(r))
	case p.Tclunk:
		return p.PackTclunk(f, fid())
	case p.Rclunk:
		return p.PackRclunk(f)
	case p.Tremove:
		return p.PackTremove(f, fid())
	case p.Rremove:
		return p.PackRremove(f)
	case p.Tstat:
		return p.PackTstat(f, fid())
	case p.Rstat:
		return p.PackRstat(f, dir(), true)
	case p.Twstat:
		return p.PackTwstat(f, fid(), dir(), true)
	}
	return p.PackRwstat(f)
}

// TestUnixsOwn is what 9P2000.u has and 9P2000 has not, as a client says it that we have not written.
func TestUnixsOwn(t *testing.T) {
	at := serve(t)[0]
	tr, err := attachLionkovU(at.network, at.addr, "glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	c := tr.(lionkov).c
	if !c.Dotu {
		t.Fatal("the server does not speak 9P2000.u")
	}
	if err := tr.Create("f", 0o640, []byte("x")); err != nil {
		t.Fatal(err)
	}
	d, err := c.FStat("f")
	if err != nil || d.Uidnum != 1 || d.Muidnum != 1 || d.Uid != "glenda" || d.Ext != "" {
		t.Errorf("%+v, %v", d, err)
	}
	number := func(what string, err error, want uint32) {
		t.Helper()
		if e, ok := err.(*p.Error); !ok || e.Errornum != want {
			t.Errorf("%s: %v, want number %d", what, err, want)
		}
	}
	_, err = c.FStat("nothing")
	number("stat of nothing", err, p.ENOENT)
	_, err = c.FCreate("f", 0o600, p.OREAD)
	number("create of what is there", err, 17)
	for what, perm := range map[string]uint32{"symbolic link": p.DMSYMLINK, "hard link": p.DMLINK, "device": p.DMDEVICE,
		"pipe": p.DMNAMEDPIPE, "socket": p.DMSOCKET} {
		fid := c.FidAlloc()
		if _, err := c.Walk(c.Root, fid, nil); err != nil {
			t.Fatal(err)
		}
		number(what, c.Create(fid, "special", perm|0o666, p.OREAD, "f"), 95)
		c.Clunk(fid)
	}
	fid, err := c.FWalk("f")
	if err != nil {
		t.Fatal(err)
	}
	w := p.NewWstatDir()
	w.Uidnum = 1
	if err := c.Wstat(fid, w); err != nil {
		t.Errorf("chown to whose it is: %v", err)
	}
	w.Uidnum = 2
	number("chown to another", c.Wstat(fid, w), 1)
	if err := c.Wstat(fid, p.NewWstatDir()); err != nil {
		t.Errorf("fsync: %v", err)
	}
	if err := c.Remove(fid); err != nil {
		t.Error(err)
	}
}
