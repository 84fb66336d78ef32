package gefs_test

import (
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// lists returns the entries of an open directory by name.
func (l *linux) lists(dir uint32) map[string]ninep.Qid {
	l.t.Helper()
	qids := make(map[string]ninep.Qid)
	for _, e := range l.dirents(dir, 0, 8192) {
		qids[e.Name] = e.Qid
	}
	return qids
}

// TestLinuxFindsSnapshotsApartInTheDump: a file that is the same in two snapshots is two files there, with one
// number each, whichever way it is asked for; and who attaches to a snapshot sees the disk's number.
func TestLinuxFindsSnapshotsApartInTheDump(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	l.must("mkdir", l.mkdir("", "d"))
	l.put("d", "file", "text")
	onDisk := map[string]ninep.Qid{"": l.attr(l.at("")).Qid, "d": l.attr(l.at("d")).Qid, "d/file": l.attr(l.at("d/file")).Qid}
	w.snapshot("main", "first", false)
	w.snapshot("main", "second", false)
	w.snapshot("adm", "users", false)

	dump := w.linux("glenda", "dump")
	seen := make(map[uint64]string)
	for _, snapshot := range []string{"main", "first", "second", "users", "adm"} {
		files := []string{"", "d", "d/file"}
		if snapshot == "adm" || snapshot == "users" {
			files = []string{"", "users"}
		}
		for _, file := range files {
			p := snapshot
			if file != "" {
				p += "/" + file
			}
			q := dump.attr(dump.at(p)).Qid
			if other, ok := seen[q.Uid]; ok {
				t.Errorf("%s and %s are both %v", other, p, q)
			}
			seen[q.Uid] = p
			if d, ok := onDisk[file]; ok && files[1] == "d" && (d.Qtype != q.Qtype || d.Vers != q.Vers) {
				t.Errorf("%s is %v, on the disk %v", p, q, d)
			}
		}
	}
	// In directories, in walks up and down, and where files are opened and made, it is the same number.
	is := func(what, p string, q ninep.Qid) {
		t.Helper()
		if seen[q.Uid] != p {
			t.Errorf("%s is %v, which is %q", what, q, seen[q.Uid])
		}
	}
	open := func(p string) uint32 {
		t.Helper()
		f := dump.at(p)
		m, err := dump.RPC(ninep.Tlopen, &ninep.LOpen{Fid: f})
		dump.must("open "+p, err)
		if p != "" {
			is("open "+p, p, m.(*ninep.LOpened).Qid)
		}
		return f
	}
	top := dump.lists(open(""))
	for _, snapshot := range []string{"main", "first", "second", "users", "adm"} {
		is("the entry of "+snapshot, snapshot, top[snapshot])
	}
	open("first/d/file")
	dir := open("second/d")
	ents := dump.lists(dir)
	is("the entry", "second/d/file", ents["file"])
	is("dot", "second/d", ents["."])
	is("dot-dot", "second", ents[".."])
	r, err := dump.Common(&proto.TWalk{Fid: dump.at("second/d"), Newfid: dump.Fid(), Nwname: 5, Wname: []string{"..", "..", "first", "d", "file"}})
	dump.must("walk", err)
	qids := r.Rwalk.Wqid
	is("the directory above", "second", qids[0])
	is("another snapshot", "first", qids[2])
	is("its directory", "first/d", qids[3])
	is("its file", "first/d/file", qids[4])
	f := dump.at("main/d")
	m, err := dump.RPC(ninep.Tlcreate, &ninep.LCreate{Fid: f, Name: "new", Flags: ninep.ORDWR | ninep.OCreat, Mode: 0644})
	dump.must("create", err)
	if q := dump.attr(f).Qid; m.(*ninep.LOpened).Qid.Uid != q.Uid {
		t.Errorf("made as %v, it is %v", m.(*ninep.LOpened).Qid, q)
	}

	first := w.linux("glenda", "first")
	for file, q := range onDisk {
		if got := first.attr(first.at(file)).Qid; got != q {
			t.Errorf("attached to the snapshot, %q is %v, want %v", file, got, q)
		}
	}
	first.Close()
	dump.Close()
	l.Close()
	w.end()
}
