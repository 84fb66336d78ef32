package rules_test

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// rawNames makes a Twalk or a Tcreate (with a name) as bytes, so that names can be what an encoder refuses.
func rawNames(typ uint8, fid uint32, names ...string) []byte {
	b := []byte{0, 0, 0, 0, typ, 1, 0}
	b = binary.LittleEndian.AppendUint32(b, fid)
	if typ == ninep.Twalk {
		b = binary.LittleEndian.AppendUint32(b, 50)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(names)))
	}
	for _, n := range names {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(n)))
		b = append(b, n...)
	}
	if typ == ninep.Tcreate {
		b = binary.LittleEndian.AppendUint32(b, 0666)
		b = append(b, ninep.OREAD)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

// TestNoNameLeavesTheTree walks to names, and creates files and renames to names, that lead elsewhere on
// other servers. What is outside main is another tree, of which there must be nothing to see.
func TestNoNameLeavesTheTree(t *testing.T) {
	r := newRig(t, gefs.Options{})
	r.put("team")
	p := ninetest.NewPeer(t, r.srv.Pipe())
	p.Version(8192)
	p.Attach(0, "owner")
	p.Walk(0, 1, "d")
	root := p.RPC(&proto.TStat{Fid: 0}).Rstat.Stat.Qid
	bad := []string{
		"", ".", "/", "//", "../", "/..", "a/../..", "../../..", "d/f", "/d", "./f", "..\\", "~",
		"dump", "adm", "main", "%adm", "snap", "users", "d/", "...",
		"\x00", "f\x00", "\xff", "\xc0\xae\xc0\xae", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x80", "f\xff",
		"．．", "‥", strings.Repeat("x", 245), strings.Repeat("../", 80),
	}
	for _, name := range bad {
		p.Write(rawNames(ninep.Twalk, 0, name))
		if f := p.Recv(); f.Type != ninep.Rerror {
			t.Errorf("walk to %q: %s", name, ninep.Format(f.Msg()))
		}
		// What is not even a string is refused with all that is in the message.
		whole := utf8.ValidString(name) && !strings.Contains(name, "\x00")
		p.Write(rawNames(ninep.Twalk, 1, "..", name))
		if f := p.Recv(); (f.Type == ninep.Rwalk) != whole || whole && len(f.Rwalk.Wqid) != 1 {
			t.Errorf("walk to .. and %q: %s", name, ninep.Format(f.Msg()))
		}
	}
	// However far one goes up, the root is the root.
	for n := 1; n <= ninep.MaxWalk; n++ {
		up := make([]string, n)
		for i := range up {
			up[i] = ".."
		}
		for from := range uint32(2) {
			f := p.RPC(&proto.TWalk{Fid: from, Newfid: 60, Nwname: uint16(n), Wname: up})
			if f.Type != ninep.Rwalk || f.Rwalk.Wqid[n-1].Uid != root.Uid {
				t.Fatalf("%d times ..: %s", n, ninep.Format(f.Msg()))
			}
			if f := p.RPC(&proto.TWalk{Fid: 60, Newfid: 61, Nwname: 1, Wname: []string{"users"}}); f.Type != ninep.Rerror {
				t.Errorf("above the root there is %s", ninep.Format(f.Msg()))
			}
			p.RPC(&proto.TClunk{Fid: 60})
		}
	}
	// No file gets a name that could lead anywhere, from Tcreate or from Twstat. (Those of the list
	// that are only the names of other trees are names like any other.)
	fine := map[string]bool{"..\\": true, "~": true, "dump": true, "adm": true, "main": true, "%adm": true, "snap": true, "users": true, "...": true, "．．": true, "‥": true}
	for _, name := range bad {
		p.Walk(1, 2)
		p.Write(rawNames(ninep.Tcreate, 2, name))
		if f := p.Recv(); (f.Type == ninep.Rcreate) != fine[name] {
			t.Errorf("create %q: %s", name, ninep.Format(f.Msg()))
		} else if fine[name] {
			p.RPC(&proto.TRemove{Fid: 2})
			continue
		}
		p.RPC(&proto.TClunk{Fid: 2})
		if name == "" || !utf8.ValidString(name) || strings.Contains(name, "\x00") {
			continue // means "leave it", or cannot be encoded
		}
		p.Walk(1, 2, "f")
		d := ninep.NullDir()
		d.Name = name
		if f := p.RPC(&proto.TWstat{Fid: 2, Stat: proto.Stat(d)}); f.Type != ninep.Rerror {
			t.Errorf("rename to %q: %s", name, ninep.Format(f.Msg()))
		}
		p.RPC(&proto.TClunk{Fid: 2})
	}
	r.must(walk(fD, fTmp))
	r.must(open(fTmp, ninep.OREAD))
	r.must(read(fTmp)) // there is what there was
}

// TestTheDumpGivesNoMoreThanItsSnapshots goes through the dump directory into every tree: permissions hold
// there, % does not come along, and nothing can be made or removed in the directory itself.
func TestTheDumpGivesNoMoreThanItsSnapshots(t *testing.T) {
	r := newRig(t, gefs.Options{})
	r.put("team")
	r.must(chmod(fF, 0600))
	for _, who := range []string{"other", "member", "mallory", "glenda", "adm"} {
		p := ninetest.NewPeer(t, r.srv.Pipe())
		p.Version(8192)
		if f := p.RPC(&proto.TAttach{Fid: 0, Afid: ninep.NOFID, Uname: who, Aname: "dump"}); f.Type != ninep.Rattach {
			t.Fatalf("%s: %s", who, ninep.Format(f.Msg()))
		}
		p.Walk(0, 1, "main", "d", "f")
		if f := p.RPC(&proto.TOpen{Fid: 1, Mode: ninep.OREAD}); f.Type != ninep.Rerror {
			t.Errorf("%s reads owner's file through the dump", who)
		}
		for _, q := range []proto.FCall{
			&proto.TCreate{Fid: 0, Name: "x", Perm: 0777 | ninep.DMDIR},
			&proto.TWalk{Fid: 0, Newfid: 2, Nwname: 1, Wname: []string{"dump"}},
			&proto.TWalk{Fid: 0, Newfid: 2, Nwname: 1, Wname: []string{"%adm"}},
			&proto.TWalk{Fid: 0, Newfid: 2, Nwname: 1, Wname: []string{"main/d"}},
			&proto.TWalk{Fid: 0, Newfid: 2, Nwname: 1, Wname: []string{""}},
			&proto.TOpen{Fid: 0, Mode: ninep.OWRITE},
			&proto.TOpen{Fid: 0, Mode: ninep.ORCLOSE},
		} {
			if f := p.RPC(q); f.Type != ninep.Rerror {
				t.Errorf("%s: %s: %s", who, ninep.Format(q), ninep.Format(f.Msg()))
			}
		}
		// Up and down again, the same rules.
		f := p.RPC(&proto.TWalk{Fid: 0, Newfid: 3, Nwname: 6, Wname: []string{"main", "..", "..", "..", "main", "d"}})
		if f.Type != ninep.Rwalk || len(f.Rwalk.Wqid) != 6 {
			t.Fatalf("%s: %s", who, ninep.Format(f.Msg()))
		}
		if f := p.RPC(&proto.TWalk{Fid: 3, Newfid: 4, Nwname: 1, Wname: []string{"f"}}); f.Type != ninep.Rwalk {
			t.Errorf("%s: %s", who, ninep.Format(f.Msg()))
		}
		if f := p.RPC(&proto.TOpen{Fid: 4, Mode: ninep.OREAD}); f.Type != ninep.Rerror {
			t.Errorf("%s reads owner's file through the dump, on the second way", who)
		}
	}
}

// TestAttachesWithoutPermissionChecksAreLogged has everybody attach with %: only members of adm may, and
// who did, or would have liked to, where and from which connection is in the log.
func TestAttachesWithoutPermissionChecksAreLogged(t *testing.T) {
	for _, permissive := range []bool{false, true} {
		var log bytes.Buffer
		h := slog.NewTextHandler(&log, nil)
		r := newRig(t, gefs.Options{Logger: slog.New(h), Permissive: permissive})
		for _, p := range people {
			for _, aname := range []string{"%", "%main", "%adm", "%dump", "", "adm"} {
				log.Reset()
				c := ninetest.NewPeer(t, r.srv.Pipe())
				c.Version(8192)
				f := c.RPC(&proto.TAttach{Fid: 0, Afid: ninep.NOFID, Uname: p.name, Aname: aname})
				line := log.String()
				tree := strings.TrimPrefix(aname, "%")
				if tree == "" {
					tree = "main"
				}
				allowed := tree != "dump" && (permissive || aname[:min(1, len(aname))] != "%" || p.member("adm"))
				if (f.Type == ninep.Rattach) != allowed {
					t.Errorf("%s attaches to %q, permissive %t: %s", p.name, aname, permissive, ninep.Format(f.Msg()))
				}
				want := "attach without permission checks"
				if !allowed {
					want += " refused"
				}
				switch {
				case aname == "%dump": // there is no such tree
				case strings.HasPrefix(aname, "%"):
					for _, s := range []string{`msg="` + want + `"`, "user=" + p.name, "snapshot=" + tree, "conn="} {
						if !strings.Contains(line, s) {
							t.Errorf("the log has no %s: %s", s, line)
						}
					}
				case line != "":
					t.Errorf("%s attaches to %q, and the log says %s", p.name, aname, line)
				}
				c.Conn.Close()
			}
		}
	}
}
