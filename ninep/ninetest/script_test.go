package ninetest

import (
	"bytes"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

func TestWhatFormatPrintsParseTReads(t *testing.T) {
	h := proto.Header{Tag: 7}
	d := ninep.Dir{Name: "it's (a) name", Uid: "", Gid: "0xab", Muid: "ä b", Mode: ninep.DMDIR | ninep.DMAPPEND | ninep.DMTMP | 0751,
		Qid: ninep.Qid{Qtype: ninep.QTDIR | ninep.QTAUTH, Vers: 3, Uid: 1 << 63}, Length: 1 << 60, Atime: 1, Mtime: 2, Type: 3, Dev: 4}
	for _, m := range []proto.FCall{
		&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 1, Version: "9P 2000"},
		&proto.TAuth{Header: h, Afid: 4, Uname: "[x]", Aname: ""},
		&proto.TAttach{Header: h, Fid: 1, Afid: ninep.NOFID, Uname: "glenda", Aname: "main/'x'"},
		&proto.TFlush{Header: h, Oldtag: 3},
		&proto.TWalk{Header: h, Fid: 1, Newfid: 2, Wname: []string{"a", "", "b c", ".."}},
		&proto.TWalk{Header: h, Fid: 1, Newfid: 2},
		&proto.TOpen{Header: h, Fid: 1, Mode: ninep.ORDWR | ninep.OTRUNC},
		&proto.TOpen{Header: h, Fid: 1, Mode: 0xff},
		&proto.TCreate{Header: h, Fid: 1, Name: "x", Perm: ninep.DMDIR | 0755, Mode: ninep.OEXEC},
		&proto.TCreate{Header: h, Fid: 1, Name: "x", Perm: 0x00123456, Mode: ninep.OEXEC | ninep.ORCLOSE},
		&proto.TRead{Header: h, Fid: 1, Offset: 1<<64 - 1, Count: 5},
		&proto.TWrite{Header: h, Fid: 1, Offset: 3, Data: []byte("plain text")},
		&proto.TWrite{Header: h, Fid: 1, Offset: 3, Data: []byte{0, 1, 255}},
		&proto.TWrite{Header: h, Fid: 1, Offset: 3, Data: []byte{}},
		&proto.TClunk{Header: h, Fid: 1},
		&proto.TRemove{Header: h, Fid: 1},
		&proto.TStat{Header: h, Fid: 1},
		&proto.TWstat{Header: h, Fid: 1, Stat: proto.Stat(d)},
		&proto.TWstat{Header: h, Fid: 1, Stat: proto.Stat(ninep.NullDir())},
	} {
		line := ninep.Format(m)
		got, err := ParseT(line)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		a, aerr := ninep.Append(nil, m)
		b, berr := ninep.Append(nil, got)
		if aerr != nil || berr != nil || !bytes.Equal(a, b) {
			t.Errorf("%s became %s", line, ninep.Format(got))
		}
	}
}

func TestParseTRefusesNonsense(t *testing.T) {
	for _, line := range []string{
		"Tfoo", "Rclunk", "Tclunk fid", "Tclunk fid x", "Tclunk fid 4294967296", "Tclunk fdi 1", "Tclunk tag 65536",
		"Twalk wname [a", "Twalk wname 'a", "Topen mode OFOO", "Tcreate perm d999", "Twstat stat (name x", "Twstat stat (nmae x)",
		"Twstat stat (qid 1.x)", "Tclunk ) 1", "Twrite data [a]",
	} {
		if m, err := ParseT(line); err == nil {
			t.Errorf("%s was read as %s", line, ninep.Format(m))
		}
	}
}

func TestMatchComparesOnlyWhatIsSaid(t *testing.T) {
	d := ninep.Dir{Name: "a", Uid: "u", Mode: 0644, Length: 3}
	rec, err := d.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	messages := map[string]proto.FCall{
		"error": &proto.RError{Header: proto.Header{Tag: 1}, Ename: "no such * thing"},
		"walk":  &proto.RWalk{Wqid: []ninep.Qid{{Uid: 1}, {Uid: 2, Vers: 3, Qtype: ninep.QTDIR}}},
		"stat":  &proto.RStat{Stat: proto.Stat(d)},
		"read":  &proto.RRead{Data: []byte("xxxxx")},
		"bin":   &proto.RRead{Data: []byte{0, 255}},
		"dir":   &proto.RRead{Data: append(bytes.Clone(rec), rec...)},
		"long":  &proto.RRead{Data: bytes.Repeat([]byte("ab"), 1000)},
	}
	for _, tt := range []struct {
		name, line string
		ok         bool
	}{
		{"error", "Rerror tag 1", true},
		{"error", "Rerror", false}, // tag 0
		{"error", "Rerror tag 1 ename 'no such * thing'", true},
		{"error", "Rerror tag 1 ename *", true},
		{"error", "Rerror tag 1 ename '*'", false},
		{"error", "Rerror tag 1 ename 'no such'", false},
		{"error", "Rwalk tag 1", false},
		{"error", "Rerror tag 1 count 3", false},
		{"walk", "Rwalk wqid [0x1.0 0x2.3.d]", true},
		{"walk", "Rwalk wqid [* 0x2.3.d]", true},
		{"walk", "Rwalk wqid [0x1.0]", false},
		{"walk", "Rwalk wqid [0x1.0 0x2.3]", false},
		{"walk", "Rwalk wqid []", false},
		{"stat", "Rstat stat (name a)", true},
		{"stat", "Rstat stat (mode 644 length 3)", true},
		{"stat", "Rstat stat (mode 645)", false},
		{"stat", "Rstat stat (size 3)", false},
		{"read", "Rread data xxxxx", true},
		{"read", "Rread data 5*x", true},
		{"read", "Rread data 4*x", false},
		{"read", "Rread count 5", true},
		{"read", "Rread count 0x5", true},
		{"read", "Rread count 6", false},
		{"bin", "Rread data 0x00ff", true},
		{"bin", "Rread data 0x00fe", false},
		{"dir", "Rread data [(name a) (name a uid u)]", true},
		{"dir", "Rread data [(name a)]", false},
		{"dir", "Rread data [(name a) (name b)]", false},
		{"read", "Rread data [(name a)]", false},
		{"long", "Rread data 1000*ab", true},
		{"long", "Rread data 1001*ab", false},
	} {
		b, err := ninep.Append(nil, messages[tt.name])
		if err != nil {
			t.Fatal(err)
		}
		var f ninep.Fcall
		if err := f.Decode(b); err != nil {
			t.Fatal(err)
		}
		p, err := parsePairs(tt.line)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.match(&f, ninep.Plan9); (err == nil) != tt.ok {
			t.Errorf("%s against %s: %v", tt.line, ninep.Format(f.Msg()), err)
		}
	}
}
