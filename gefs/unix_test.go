package gefs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// What a session of 9P2000.u looks like message by message is in internal/rules/testdata/unix.txt.

// unix is a connection that speaks 9P2000.u, on which fid 0 is the root for uname.
func (w *world) unix(uname, aname string) *ninetest.Peer {
	w.t.Helper()
	p := ninetest.NewPeer(w.t, w.srv.Pipe())
	p.RPC(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 64 << 10, Version: ninep.VersionU})
	if p.Dialect != ninep.Unix {
		w.t.Fatalf("the server speaks %v", p.Dialect)
	}
	if f := p.RPC(&proto.TAttach{Fid: 0, Afid: ninep.NOFID, Uname: uname, Aname: aname}); f.Type != ninep.Rattach {
		w.t.Fatalf("attach: %s", f.Text(p.Dialect))
	}
	return p
}

// unixAttach attaches fid by number, and returns the number of the error.
func unixAttach(t *testing.T, p *ninetest.Peer, fid, uid uint32) ninep.Errno {
	t.Helper()
	b, err := ninep.AppendTattachL(nil, 0, fid, ninep.NOFID, "", "", uid)
	if err != nil {
		t.Fatal(err)
	}
	p.Write(b)
	f := p.Recv()
	if f.Type != ninep.Rerror {
		f.Errno = 0
	}
	return f.Errno
}

// unixWstat changes fid, and returns the number of the error.
func unixWstat(t *testing.T, p *ninetest.Peer, fid uint32, set func(*ninep.UnixDir)) ninep.Errno {
	t.Helper()
	d := ninep.NullUnixDir()
	set(&d)
	b, err := ninep.AppendTwstatU(nil, 0, fid, &d)
	if err != nil {
		t.Fatal(err)
	}
	p.Write(b)
	f := p.Recv()
	if f.Type == ninep.Rwstat {
		return 0
	}
	return f.Errno
}

func unixStat(t *testing.T, p *ninetest.Peer, fid uint32) ninep.UnixStat {
	t.Helper()
	f := p.RPC(&proto.TStat{Fid: fid})
	if f.Type != ninep.Rstat {
		t.Fatalf("stat: %s", f.Text(p.Dialect))
	}
	return f.UnixStat
}

// The numbers of 9P2000.u are those of 9P2000.L.
func TestUnixUsersHaveTheirNumbers(t *testing.T) {
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{IDs: ids{"glenda": 1000, "sys": 50, "daemon": 2}})
	p := w.unix("glenda", "")
	p.Walk(0, 1)
	if f := p.RPC(&proto.TCreate{Fid: 1, Name: "f", Perm: 0666, Mode: ninep.ORDWR}); f.Type != ninep.Rcreate {
		t.Fatalf("create: %s", f.Text(p.Dialect))
	}
	if s := unixStat(t, p, 1); s.Nuid != 1000 || s.Nmuid != 1000 {
		t.Errorf("glenda's file: %+v", s)
	}
	for _, x := range []struct {
		what string
		set  func(*ninep.UnixDir)
		want ninep.Errno
	}{
		{"a group", func(d *ninep.UnixDir) { d.Ngid = 50 }, 0},
		{"the group's number in our table", func(d *ninep.UnixDir) { d.Ngid = 4 }, ninep.EPERM},
		{"the owner", func(d *ninep.UnixDir) { d.Nuid = 1000 }, 0},
		{"the owner's number in our table", func(d *ninep.UnixDir) { d.Nuid = 1 }, ninep.EPERM},
		{"another owner", func(d *ninep.UnixDir) { d.Nuid = 3 }, ninep.EPERM},
		{"who changed it last", func(d *ninep.UnixDir) { d.Nmuid = 3 }, 0},
	} {
		if no := unixWstat(t, p, 1, x.set); no != x.want {
			t.Errorf("%s: errno %d, want %d", x.what, no, x.want)
		}
	}
	if s := unixStat(t, p, 1); s != (ninep.UnixStat{Nuid: 1000, Ngid: 50, Nmuid: 1000}) {
		t.Errorf("%+v", s)
	}
	for _, x := range []struct {
		id   uint32
		want ninep.Errno
	}{{1000, 0}, {2, 0}, {1, ninep.EACCES}, {4000000000, ninep.EACCES}, {12345, ninep.EACCES}} {
		if no := unixAttach(t, p, 100+x.id%1000, x.id); no != x.want {
			t.Errorf("attach as %d: errno %d, want %d", x.id, no, x.want)
		}
	}

	// Without permission checks files can be given away.
	q := w.unix("glenda", "%main")
	q.Walk(0, 1, "f")
	if no := unixWstat(t, q, 1, func(d *ninep.UnixDir) { d.Nuid, d.Ngid = 3, 5 }); no != 0 {
		t.Errorf("chown: errno %d", no)
	}
	if s := unixStat(t, q, 1); s.Nuid != 3 || s.Ngid != 5 {
		t.Errorf("given away: %+v", s)
	}
	if no := unixWstat(t, q, 1, func(d *ninep.UnixDir) { d.Nuid = 77 }); no != ninep.EPERM {
		t.Errorf("chown to nobody: errno %d", no)
	}
	p.Conn.Close()
	q.Conn.Close()
	w.end()
}

func TestUnixDirectoriesAreReadInPieces(t *testing.T) {
	w := newWorld(t)
	p := w.unix("glenda", "")
	const files = 60
	for i := range files {
		p.Walk(0, 1)
		p.RPC(&proto.TCreate{Fid: 1, Name: fmt.Sprintf("file%02d", i), Perm: 0644, Mode: ninep.OREAD})
		p.RPC(&proto.TClunk{Fid: 1})
	}
	for _, count := range []uint32{88, 89, 200, 1000, 60000} {
		p.Walk(0, 1)
		p.Open(1, ninep.OREAD)
		n := 0
		for off := uint64(0); ; {
			f := p.RPC(&proto.TRead{Fid: 1, Offset: off, Count: count})
			if f.Type != ninep.Rread {
				t.Fatalf("%d bytes at a time: %s", count, f.Text(p.Dialect))
			}
			if len(f.Rread.Data) == 0 {
				break
			}
			off += uint64(len(f.Rread.Data))
			dirs, err := ninep.DecodeUnixDirs(f.Rread.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range dirs {
				want := ninep.UnixStat{Nuid: 1, Ngid: 65534, Nmuid: 1}
				if d.Name != fmt.Sprintf("file%02d", n) || d.UnixStat != want {
					t.Fatalf("entry %d: %v", n, &d)
				}
				n++
			}
		}
		if n != files {
			t.Errorf("%d bytes at a time: %d files", count, n)
		}
		p.RPC(&proto.TClunk{Fid: 1})
	}
	p.Conn.Close()
	w.end()
}

// A file that a client of 9P2000 removes is gone for all, as before; one that a Unix removes stays for whoever
// has it open.
func TestUnixGoesOnWithRemovedFiles(t *testing.T) {
	w := newWorld(t)
	p := w.unix("glenda", "")
	plain := ninetest.NewPeer(t, w.srv.Pipe())
	plain.Version(8192)
	plain.Attach(0, "glenda")
	for _, by := range []*ninetest.Peer{p, plain} {
		p.Walk(0, 1)
		p.RPC(&proto.TCreate{Fid: 1, Name: "f", Perm: 0600, Mode: ninep.ORDWR})
		p.RPC(&proto.TWrite{Fid: 1, Count: 5, Data: []byte("hello")})
		by.Walk(0, 2, "f")
		if f := by.RPC(&proto.TRemove{Fid: 2}); f.Type != ninep.Rremove {
			t.Fatalf("remove: %s", f.Text(by.Dialect))
		}
		f := p.RPC(&proto.TWrite{Fid: 1, Offset: 5, Count: 1, Data: []byte("!")})
		size := unixWstat(t, p, 1, func(d *ninep.UnixDir) { d.Length = 3 })
		name := unixWstat(t, p, 1, func(d *ninep.UnixDir) { d.Name = "g" })
		if by == p {
			if f.Type != ninep.Rwrite || size != 0 || name != ninep.ENOENT {
				t.Errorf("removed by a Unix: %s, cut: errno %d, renamed: errno %d", f.Text(p.Dialect), size, name)
			}
			if f := p.RPC(&proto.TRead{Fid: 1, Count: 10}); string(f.Rread.Data) != "hel" {
				t.Errorf("then it holds %s", f.Text(p.Dialect))
			}
		} else if f.Type != ninep.Rerror || size != ninep.ENOENT || name != ninep.ENOENT {
			t.Errorf("removed by 9P2000: %s, cut: errno %d, renamed: errno %d", f.Text(p.Dialect), size, name)
		}
		p.RPC(&proto.TClunk{Fid: 1})
	}
	p.Conn.Close()
	plain.Conn.Close()
	w.end()
}

// The record that touches nothing is fsync in 9P2000.u as well, with a number that touches nothing it is not.
func TestUnixFsyncSurvivesAPowerCut(t *testing.T) {
	crash := blkdev.NewCrash(gefstest.Ream(t))
	w := newWorldOn(t, crash, gefs.Options{CommitEvery: time.Hour})
	p := w.unix("glenda", "")
	p.Walk(0, 1)
	p.RPC(&proto.TCreate{Fid: 1, Name: "f", Perm: 0600, Mode: ninep.ORDWR})
	survives := func() bool {
		trace := crash.Trace()
		disk, err := trace.State(trace.None(trace.Len()))
		if err != nil {
			t.Fatal(err)
		}
		w2 := &world{t: t, dev: disk}
		w2.start()
		defer w2.end()
		_, err = w2.as("glenda", "").openErr("f", ninep.OREAD)
		return err == nil
	}
	if no := unixWstat(t, p, 1, func(d *ninep.UnixDir) { d.Nuid = 1 }); no != 0 || survives() {
		t.Errorf("a record with the owner's number: errno %d, and it is on the disk: %t", no, survives())
	}
	if no := unixWstat(t, p, 1, func(*ninep.UnixDir) {}); no != 0 || !survives() {
		t.Errorf("fsync: errno %d, and it is on the disk: %t", no, survives())
	}
	p.Conn.Close()
	w.end()
}

// In the dump directory a file is one file, whichever way it is asked for, and another in another snapshot.
func TestUnixFindsSnapshotsApartInTheDump(t *testing.T) {
	w := newWorld(t)
	p := w.unix("glenda", "")
	p.Walk(0, 1)
	made := p.RPC(&proto.TCreate{Fid: 1, Name: "f", Perm: 0600, Mode: ninep.ORDWR}).Rcreate.Qid.Uid
	w.snapshot("main", "old", false)
	dump := w.unix("glenda", "dump")
	seen := map[uint64]string{made: "the disk's"}
	for i, label := range []string{"main", "old"} {
		fid := uint32(1 + 10*i)
		qids := dump.RPC(&proto.TWalk{Fid: 0, Newfid: fid, Wname: []string{label, "f"}}).Rwalk.Wqid
		if len(qids) != 2 {
			t.Fatalf("walk: %v", qids)
		}
		if other, ok := seen[qids[1].Uid]; ok {
			t.Errorf("%s/f is %s", label, other)
		}
		seen[qids[1].Uid] = label
		r := dump.RPC(&proto.TStat{Fid: fid}).Rstat.Stat
		dump.Walk(0, fid+1, label)
		dump.Open(fid+1, ninep.OREAD)
		dirs, err := ninep.DecodeUnixDirs(dump.RPC(&proto.TRead{Fid: fid + 1, Count: 1000}).Rread.Data)
		if err != nil || len(dirs) != 1 || dirs[0].Qid != qids[1] || r.Qid != qids[1] {
			t.Errorf("%s/f: walked to %v, stat says %v, the directory %v, %v", label, qids[1], r.Qid, dirs, err)
		}
		dump.Walk(0, fid+2)
		dump.Open(fid+2, ninep.OREAD)
		dirs, err = ninep.DecodeUnixDirs(dump.RPC(&proto.TRead{Fid: fid + 2, Count: 1000}).Rread.Data)
		found := false
		for _, d := range dirs {
			found = found || d.Name == label && d.Qid.Uid == qids[0].Uid
		}
		if err != nil || !found {
			t.Errorf("%s: walked to %v, in the directory of all %v, %v", label, qids[0], dirs, err)
		}
		if label == "main" {
			// What the client was told it may say again.
			no := unixWstat(t, dump, fid, func(d *ninep.UnixDir) { d.Qid, d.Mtime = r.Qid, 5 })
			if wrong := unixWstat(t, dump, fid, func(d *ninep.UnixDir) { d.Qid, d.Qid.Uid = r.Qid, made }); no != 0 || wrong == 0 {
				t.Errorf("wstat with its qid: errno %d, with the disk's %d", no, wrong)
			}
		}
	}
	p.Conn.Close()
	dump.Conn.Close()
	w.end()
}
