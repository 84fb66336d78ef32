package ninep

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/knusbaum/go9p/proto"
)

// inUnix says which types look otherwise in 9P2000.u.
func inUnix(typ uint8) bool {
	switch typ {
	case Tauth, Tattach, Rerror, Tcreate, Rstat, Twstat:
		return true
	}
	return false
}

func randUnixPart(r *rand.Rand) *UnixPart {
	return &UnixPart{r.Uint32(), Errno(r.Uint32()), UnixStat{randString(r), r.Uint32(), r.Uint32(), r.Uint32()}}
}

// partOf is what of u belongs to a message of the type.
func partOf(typ uint8, u UnixPart) UnixPart {
	p := UnixPart{NUname: NOUID}
	switch typ {
	case Tauth, Tattach:
		p.NUname = u.NUname
	case Rerror:
		p.Errno = u.Errno
	case Tcreate:
		p.Extension = u.Extension
	case Rstat, Twstat:
		p.UnixStat = u.UnixStat
	}
	return p
}

func TestUnixMessagesDecodeToWhatWasEncoded(t *testing.T) {
	r := newRand(t)
	var f Fcall
	for range 30 {
		for _, m := range randMessages(r) {
			u := randUnixPart(r)
			b, err := AppendUnix([]byte("before"), m, u)
			if err != nil {
				t.Fatal(err)
			}
			b = b[len("before"):]
			typ := b[4]
			if err := f.DecodeAs(b, Unix); err != nil {
				t.Fatalf("%s: %v", FormatUnix(m, u), err)
			}
			if d := cmp.Diff(partOf(typ, *u), partOf(typ, f.UnixPart)); d != "" {
				t.Fatalf("%s:\n%s", FormatUnix(m, u), d)
			}
			if got, want := f.Text(Unix), FormatUnix(m, u); got != want {
				t.Fatalf("decoded %s\nencoded %s", got, want)
			}
			again, err := AppendUnix(nil, f.Msg(), &f.UnixPart)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s\nwas   %x\nagain %x, %v", f.Text(Unix), b, again, err)
			}
			plain, err := Append(nil, m)
			if err != nil || bytes.Equal(plain, b) == inUnix(typ) {
				t.Fatalf("%s: 9P2000 has %x, 9P2000.u %x, %v", FormatUnix(m, u), plain, b, err)
			}
			if inUnix(typ) {
				if err := f.Decode(b); err == nil {
					t.Fatalf("%s is one of 9P2000", FormatUnix(m, u))
				}
				if err := f.DecodeAs(plain, Unix); err == nil {
					t.Fatalf("%s of 9P2000 is one of 9P2000.u", Format(m))
				}
			}
			for n := range b {
				short := end(append(bytes.Clone(b[:n]), make([]byte, max(0, 4-n))...), 0)
				if err := f.DecodeAs(short, Unix); err == nil {
					t.Fatalf("%s: its first %d bytes of %d decode", FormatUnix(m, u), n, len(b))
				}
			}
			if err := f.DecodeAs(end(append(bytes.Clone(b), 0), 0), Unix); err == nil {
				t.Fatalf("%s: with one byte more decodes", FormatUnix(m, u))
			}
		}
	}
}

// The bytes are those that Linux sends and expects, from net/9p.
func TestUnixMessagesAreLinuxsBytes(t *testing.T) {
	h := proto.Header{Tag: 1}
	d := proto.Stat{Type: 1, Dev: 2, Qid: Qid{Qtype: 3, Vers: 4, Uid: 5}, Mode: 6, Atime: 7, Mtime: 8, Length: 9,
		Name: "n", Uid: "u", Gid: "g", Muid: "m"}
	stat := "4200" + // size
		"0100" + "02000000" + "03" + "04000000" + "0500000000000000" + "06000000" + "07000000" + "08000000" +
		"0900000000000000" + "01006e" + "010075" + "010067" + "01006d" + "010065" + "0a000000" + "0b000000" + "0c000000"
	u := &UnixPart{NUname: 1000, Errno: EEXIST, UnixStat: UnixStat{"e", 10, 11, 12}}
	for _, tt := range []struct {
		m    proto.FCall
		want string
	}{
		{&proto.TAuth{Header: h, Afid: 2, Uname: "u", Aname: "a"}, "15000000660100" + "02000000" + "010075" + "010061" + "e8030000"},
		{&proto.TAttach{Header: h, Fid: 2, Afid: NOFID, Uname: "u", Aname: "a"}, "19000000680100" + "02000000" + "ffffffff" + "010075" + "010061" + "e8030000"},
		{&proto.RError{Header: h, Ename: "no"}, "0f0000006b0100" + "02006e6f" + "11000000"},
		{&proto.TCreate{Header: h, Fid: 2, Name: "n", Perm: 0x1b6, Mode: 1}, "16000000720100" + "02000000" + "01006e" + "b6010000" + "01" + "010065"},
		{&proto.RStat{Header: h, Stat: d}, "4d0000007d0100" + "4400" + stat},
		{&proto.TWstat{Header: h, Fid: 2, Stat: d}, "510000007e0100" + "02000000" + "4400" + stat},
	} {
		b, err := AppendUnix(nil, tt.m, u)
		if got := fmt.Sprintf("%x", b); err != nil || got != tt.want {
			t.Errorf("%T: %s, %v\nwant %s", tt.m, got, err, tt.want)
		}
	}
}

func TestUnixEncoderRefusesWhatTheWireCannotSay(t *testing.T) {
	long := strings.Repeat("x", MaxString+1)
	full := Dir{Name: strings.Repeat("x", MaxString-DirSize)}
	for _, tt := range []struct {
		name string
		m    proto.FCall
		ext  string
	}{
		{"extension of a Tcreate", &proto.TCreate{}, long},
		{"name of a Tcreate", &proto.TCreate{Name: long}, ""},
		{"text of an Rerror", &proto.RError{Ename: long}, ""},
		{"a record that is full without the numbers", &proto.RStat{Stat: proto.Stat(full)}, ""},
		{"extension of a Twstat", &proto.TWstat{}, long},
	} {
		b := []byte("before")
		c, err := AppendUnix(b, tt.m, &UnixPart{UnixStat: UnixStat{Extension: tt.ext}})
		if !errors.Is(err, ErrTooLong) || string(c) != "before" {
			t.Errorf("%s: %d bytes, %v", tt.name, len(c), err)
		}
	}
	if _, err := full.Append(nil); err != nil {
		t.Errorf("the full record in 9P2000: %v", err)
	}
	b := AppendRerrorU(nil, 1, strings.Repeat("ä", 100), EIO)
	var f Fcall
	if err := f.DecodeAs(b, Unix); err != nil || f.Errno != EIO || f.Rerror.Ename != strings.Repeat("ä", MaxError/2) {
		t.Errorf("long text: %q, %d, %v", f.Rerror.Ename, f.Errno, err)
	}
}

func TestUnixDirectoryRecordsFollowEachOther(t *testing.T) {
	r := newRand(t)
	var b []byte
	var want []UnixDir
	for range 20 {
		d := UnixDir{randDir(r), randUnixPart(r).UnixStat}
		at := len(b)
		var err error
		if b, err = d.Append(b); err != nil {
			t.Fatal(err)
		}
		if len(b)-at != d.Size() {
			t.Errorf("%v has %d bytes, Size says %d", &d, len(b)-at, d.Size())
		}
		named, err := d.AppendNamed(nil, []byte(d.Name))
		if err != nil || !bytes.Equal(named, b[at:]) {
			t.Errorf("AppendNamed: %x, %v\nAppend: %x", named, err, b[at:])
		}
		want = append(want, d)
	}
	got, err := DecodeUnixDirs(b)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if _, err := DecodeDirs(b); err == nil {
		t.Error("records of 9P2000.u are some of 9P2000")
	}
	var de *DecodeError
	if got, err = DecodeUnixDirs(b[:len(b)-1]); len(got) != len(want)-1 || !errors.As(err, &de) || de.Off > len(b) {
		t.Errorf("without the last byte: %d records, %v", len(got), err)
	}
}

func TestNullUnixDirIsTheOnlyNull(t *testing.T) {
	d := NullUnixDir()
	if !d.IsNull() {
		t.Error("the null record is not null")
	}
	for what, set := range map[string]func(*UnixDir){
		"name": func(d *UnixDir) { d.Name = "x" }, "mtime": func(d *UnixDir) { d.Mtime = 0 },
		"extension": func(d *UnixDir) { d.Extension = "x" }, "n_uid": func(d *UnixDir) { d.Nuid = 0 },
		"n_gid": func(d *UnixDir) { d.Ngid = 0 }, "n_muid": func(d *UnixDir) { d.Nmuid = 0 },
	} {
		d := NullUnixDir()
		if set(&d); d.IsNull() {
			t.Errorf("null in spite of %s", what)
		}
	}
}

func TestDecodingUnixDoesNotAllocate(t *testing.T) {
	d := UnixDir{Dir{Name: "a name", Uid: "glenda", Gid: "sys", Muid: "glenda"}, UnixStat{"ext", 1, 2, 3}}
	var frames [][]byte
	add := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b)
	}
	add(AppendRstatU(nil, 1, &d))
	add(AppendTwstatU(nil, 1, 2, &d))
	add(AppendTcreateU(nil, 1, 2, "a name", 0644, OREAD, "ext"))
	add(AppendTattachL(nil, 1, 2, NOFID, "glenda", "main", 1000))
	add(AppendRerrorU(nil, 1, "permission denied", EACCES), nil)
	var f Fcall
	if n := testing.AllocsPerRun(100, func() {
		for _, b := range frames {
			if err := f.DecodeAs(b, Unix); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

// FuzzDecodeUnix: no bytes make DecodeAs panic, and what it accepts encodes to the same bytes.
func FuzzDecodeUnix(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2 {
		for _, m := range randMessages(r) {
			b, err := AppendUnix(nil, m, randUnixPart(r))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		var fc Fcall
		err := fc.DecodeAs(b, Unix)
		if !bytes.Equal(in, b) {
			t.Fatal("DecodeAs changed the frame")
		}
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Off > len(b) || de.Err == nil {
				t.Fatalf("error %#v for %d bytes", err, len(b))
			}
			return
		}
		again, err := AppendUnix(nil, fc.Msg(), &fc.UnixPart)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%s\nwas   %x\nagain %x, %v", fc.Text(Unix), b, again, err)
		}
	})
}

// FuzzDecodeUnixDirs: the same for the records of a directory.
func FuzzDecodeUnixDirs(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var b []byte
	for range 3 {
		d := UnixDir{randDir(r), randUnixPart(r).UnixStat}
		b, _ = d.Append(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dirs, err := DecodeUnixDirs(b)
		var again []byte
		for i := range dirs {
			a, aerr := dirs[i].Append(again)
			if errors.Is(aerr, ErrTooLong) && dirs[i].Size() > 0xffff {
				return // can stand in a directory, not in an Rstat
			}
			if aerr != nil {
				t.Fatal(aerr)
			}
			again = a
		}
		if !bytes.HasPrefix(b, again) || err == nil && len(again) != len(b) {
			t.Fatalf("was   %x\nagain %x, %v", b, again, err)
		}
	})
}
