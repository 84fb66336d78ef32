package ninep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"9fans.net/go/plan9"
	"github.com/google/go-cmp/cmp"
	"github.com/knusbaum/go9p/proto"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests, 0 for a new one")

// newRand makes a source that a failing test can be run with again.
func newRand(t testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 9))
}

func randString(r *rand.Rand) string {
	alphabet := []rune("abcxyz019._-äßπ語🦫 ")
	var b strings.Builder
	for range r.IntN(20) {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func randQid(r *rand.Rand) Qid {
	return Qid{Qtype: uint8(r.Uint32()), Vers: r.Uint32(), Uid: r.Uint64()}
}

func randDir(r *rand.Rand) Dir {
	return Dir{
		Type: uint16(r.Uint32()), Dev: r.Uint32(), Qid: randQid(r), Mode: r.Uint32(),
		Atime: r.Uint32(), Mtime: r.Uint32(), Length: r.Uint64(),
		Name: randString(r), Uid: randString(r), Gid: randString(r), Muid: randString(r),
	}
}

// randMessages makes one message of every type.
func randMessages(r *rand.Rand) []proto.FCall {
	h := func(t uint8) proto.Header { return proto.Header{Type: t, Tag: uint16(r.Uint32())} }
	names := make([]string, r.IntN(MaxWalk+1))
	for i := range names {
		names[i] = randString(r)
	}
	qids := make([]Qid, r.IntN(MaxWalk+1))
	for i := range qids {
		qids[i] = randQid(r)
	}
	data := make([]byte, r.IntN(300))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	n := uint32(len(data))
	return []proto.FCall{
		&proto.TRVersion{Header: h(Tversion), Msize: r.Uint32(), Version: randString(r)},
		&proto.TRVersion{Header: h(Rversion), Msize: r.Uint32(), Version: randString(r)},
		&proto.TAuth{Header: h(Tauth), Afid: r.Uint32(), Uname: randString(r), Aname: randString(r)},
		&proto.RAuth{Header: h(Rauth), Aqid: randQid(r)},
		&proto.TAttach{Header: h(Tattach), Fid: r.Uint32(), Afid: r.Uint32(), Uname: randString(r), Aname: randString(r)},
		&proto.RAttach{Header: h(Rattach), Qid: randQid(r)},
		&proto.RError{Header: h(Rerror), Ename: randString(r)},
		&proto.TFlush{Header: h(Tflush), Oldtag: uint16(r.Uint32())},
		&proto.RFlush{Header: h(Rflush)},
		&proto.TWalk{Header: h(Twalk), Fid: r.Uint32(), Newfid: r.Uint32(), Nwname: uint16(len(names)), Wname: names},
		&proto.RWalk{Header: h(Rwalk), Nwqid: uint16(len(qids)), Wqid: qids},
		&proto.TOpen{Header: h(Topen), Fid: r.Uint32(), Mode: proto.Mode(r.Uint32())},
		&proto.ROpen{Header: h(Ropen), Qid: randQid(r), Iounit: r.Uint32()},
		&proto.TCreate{Header: h(Tcreate), Fid: r.Uint32(), Name: randString(r), Perm: r.Uint32(), Mode: uint8(r.Uint32())},
		&proto.RCreate{Header: h(Rcreate), Qid: randQid(r), Iounit: r.Uint32()},
		&proto.TRead{Header: h(Tread), Fid: r.Uint32(), Offset: r.Uint64(), Count: r.Uint32()},
		&proto.RRead{Header: h(Rread), Count: n, Data: data},
		&proto.TWrite{Header: h(Twrite), Fid: r.Uint32(), Offset: r.Uint64(), Count: n, Data: data},
		&proto.RWrite{Header: h(Rwrite), Count: r.Uint32()},
		&proto.TClunk{Header: h(Tclunk), Fid: r.Uint32()},
		&proto.RClunk{Header: h(Rclunk)},
		&proto.TRemove{Header: h(Tremove), Fid: r.Uint32()},
		&proto.RRemove{Header: h(Rremove)},
		&proto.TStat{Header: h(Tstat), Fid: r.Uint32()},
		&proto.RStat{Header: h(Rstat), Stat: proto.Stat(randDir(r))},
		&proto.TWstat{Header: h(Twstat), Fid: r.Uint32(), Stat: proto.Stat(randDir(r))},
		&proto.RWstat{Header: h(Rwstat)},
	}
}

// plan9Fcall says m in the words of the other codec.
func plan9Fcall(m proto.FCall) *plan9.Fcall {
	q := func(q Qid) plan9.Qid { return plan9.Qid{Path: q.Uid, Vers: q.Vers, Type: q.Qtype} }
	dir := func(s proto.Stat) []byte {
		b, err := (&plan9.Dir{
			Type: s.Type, Dev: s.Dev, Qid: q(s.Qid), Mode: plan9.Perm(s.Mode), Atime: s.Atime, Mtime: s.Mtime,
			Length: s.Length, Name: s.Name, Uid: s.Uid, Gid: s.Gid, Muid: s.Muid,
		}).Bytes()
		if err != nil {
			panic(err)
		}
		return b
	}
	f := &plan9.Fcall{Tag: m.GetTag()}
	switch m := m.(type) {
	case *proto.TRVersion:
		f.Type, f.Msize, f.Version = m.Type, m.Msize, m.Version
	case *proto.TAuth:
		f.Type, f.Afid, f.Uname, f.Aname = plan9.Tauth, m.Afid, m.Uname, m.Aname
	case *proto.RAuth:
		f.Type, f.Aqid = plan9.Rauth, q(m.Aqid)
	case *proto.TAttach:
		f.Type, f.Fid, f.Afid, f.Uname, f.Aname = plan9.Tattach, m.Fid, m.Afid, m.Uname, m.Aname
	case *proto.RAttach:
		f.Type, f.Qid = plan9.Rattach, q(m.Qid)
	case *proto.RError:
		f.Type, f.Ename = plan9.Rerror, m.Ename
	case *proto.TFlush:
		f.Type, f.Oldtag = plan9.Tflush, m.Oldtag
	case *proto.RFlush:
		f.Type = plan9.Rflush
	case *proto.TWalk:
		f.Type, f.Fid, f.Newfid, f.Wname = plan9.Twalk, m.Fid, m.Newfid, m.Wname
	case *proto.RWalk:
		f.Type = plan9.Rwalk
		for _, w := range m.Wqid {
			f.Wqid = append(f.Wqid, q(w))
		}
	case *proto.TOpen:
		f.Type, f.Fid, f.Mode = plan9.Topen, m.Fid, uint8(m.Mode)
	case *proto.ROpen:
		f.Type, f.Qid, f.Iounit = plan9.Ropen, q(m.Qid), m.Iounit
	case *proto.TCreate:
		f.Type, f.Fid, f.Name, f.Perm, f.Mode = plan9.Tcreate, m.Fid, m.Name, plan9.Perm(m.Perm), m.Mode
	case *proto.RCreate:
		f.Type, f.Qid, f.Iounit = plan9.Rcreate, q(m.Qid), m.Iounit
	case *proto.TRead:
		f.Type, f.Fid, f.Offset, f.Count = plan9.Tread, m.Fid, m.Offset, m.Count
	case *proto.RRead:
		f.Type, f.Data = plan9.Rread, m.Data
	case *proto.TWrite:
		f.Type, f.Fid, f.Offset, f.Data = plan9.Twrite, m.Fid, m.Offset, m.Data
	case *proto.RWrite:
		f.Type, f.Count = plan9.Rwrite, m.Count
	case *proto.TClunk:
		f.Type, f.Fid = plan9.Tclunk, m.Fid
	case *proto.RClunk:
		f.Type = plan9.Rclunk
	case *proto.TRemove:
		f.Type, f.Fid = plan9.Tremove, m.Fid
	case *proto.RRemove:
		f.Type = plan9.Rremove
	case *proto.TStat:
		f.Type, f.Fid = plan9.Tstat, m.Fid
	case *proto.RStat:
		f.Type, f.Stat = plan9.Rstat, dir(m.Stat)
	case *proto.TWstat:
		f.Type, f.Fid, f.Stat = plan9.Twstat, m.Fid, dir(m.Stat)
	case *proto.RWstat:
		f.Type = plan9.Rwstat
	}
	return f
}

func TestEveryMessageRoundTripsAndAgreesWithTwoOtherEncoders(t *testing.T) {
	r := newRand(t)
	var f Fcall // one for all, so that leftovers would show
	for range 50 {
		for _, m := range randMessages(r) {
			b, err := Append(nil, m)
			if err != nil {
				t.Fatalf("%T: %v", m, err)
			}
			if theirs := m.Compose(); !bytes.Equal(b, theirs) {
				t.Fatalf("%s\nours %x\ngo9p %x", Format(m), b, theirs)
			}
			theirs, err := plan9Fcall(m).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, theirs) {
				t.Fatalf("%s\nours %x\n9fans %x", Format(m), b, theirs)
			}
			if err := f.Decode(b); err != nil {
				t.Fatalf("%s: %v", Format(m), err)
			}
			if diff := cmp.Diff(m, f.Msg(), emptyIsNil); diff != "" {
				t.Fatalf("decoded differs:\n%s", diff)
			}
			if f.Tag != m.GetTag() {
				t.Fatalf("tag %d, want %d", f.Tag, m.GetTag())
			}
			prefix := []byte("prefix")
			at, err := Append(prefix, f.Msg())
			if err != nil || !bytes.Equal(at, append(prefix, b...)) {
				t.Fatalf("%s: encoded again: %x, %v; was %x", Format(m), at, err, b)
			}
		}
	}
}

// emptyIsNil lets an empty list equal none.
var emptyIsNil = cmp.FilterValues(func(x, y any) bool {
	vx, vy := reflect.ValueOf(x), reflect.ValueOf(y)
	return vx.Kind() == reflect.Slice && vy.Kind() == reflect.Slice && vx.Len() == 0 && vy.Len() == 0
}, cmp.Comparer(func(x, y any) bool { return true }))

func TestEveryTruncatedOrPaddedFrameIsRefused(t *testing.T) {
	r := newRand(t)
	resize := func(b []byte) []byte {
		if len(b) >= 4 {
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
		}
		return b
	}
	for _, m := range randMessages(r) {
		whole, err := Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			var f Fcall
			err := f.Decode(resize(bytes.Clone(whole[:n])))
			var de *DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("%s cut to %d of %d bytes: error %v", Format(m), n, len(whole), err)
			}
			if !errors.Is(err, ErrShort) && !errors.Is(err, ErrCount) && !errors.Is(err, ErrFrameSize) {
				t.Fatalf("%s cut to %d: %v", Format(m), n, err)
			}
			if n >= HeaderSize && (de.Type != whole[4] || de.Tag != m.GetTag()) {
				t.Fatalf("cut to %d: error is about type %d tag %d", n, de.Type, de.Tag)
			}
			if de.Off > n {
				t.Fatalf("cut to %d: error at byte %d: %v", n, de.Off, err)
			}
		}
		for _, extra := range []int{1, 2, 100} {
			var f Fcall
			err := f.Decode(resize(append(bytes.Clone(whole), make([]byte, extra)...)))
			if !errors.Is(err, ErrTrailing) && !errors.Is(err, ErrCount) {
				t.Fatalf("%s with %d bytes more: error %v", Format(m), extra, err)
			}
		}
		var f Fcall
		if err := f.Decode(append(whole, 0)); !errors.Is(err, ErrFrameSize) {
			t.Fatalf("%s in a longer slice: error %v", Format(m), err)
		}
	}
}

func TestDecodeErrorsSayWhatAndWhere(t *testing.T) {
	u16 := func(n int) string { return string([]byte{byte(n), byte(n >> 8)}) }
	u32 := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	str := func(s string) string { return u16(len(s)) + s }
	frame := func(typ uint8, body string) []byte {
		return []byte(u32(uint32(7+len(body))) + string(rune(typ)) + "\x05\x00" + body)
	}
	dir, err := (&Dir{Name: "n"}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	rec := string(dir)
	badRec := strings.Replace(rec, "n", "\xff", 1)
	nul := strings.Replace(rec, "n", "\x00", 1)
	tests := []struct {
		name  string
		frame []byte
		err   error
		field string
		off   int
	}{
		{"empty", nil, ErrFrameSize, "size", 0},
		{"four zero bytes", []byte{0, 0, 0, 0}, ErrFrameSize, "size", 0},
		{"size says less", []byte{7, 0, 0, 0, Rclunk, 5, 0, 0}, ErrFrameSize, "size", 0},
		{"size says more", []byte{9, 0, 0, 0, Rclunk, 5, 0, 0}, ErrFrameSize, "size", 0},
		{"type 106", frame(106, ""), ErrUnknownType, "type", 4},
		{"type 99", frame(99, ""), ErrUnknownType, "type", 4},
		{"type 126+2", []byte{7, 0, 0, 0, 128, 5, 0}, ErrUnknownType, "type", 4},
		{"version not UTF-8", frame(Tversion, u32(1)+str("\xff")), ErrBadString, "version", 11},
		{"version longer than frame", frame(Tversion, u32(1)+u16(9)+"9P2000"), ErrShort, "version", 13},
		{"uname with NUL", frame(Tattach, u32(1)+u32(2)+str("a\x00b")+str("")), ErrBadString, "uname", 15},
		{"surrogate half", frame(Tattach, u32(1)+u32(2)+str("\xed\xa0\x80")+str("")), ErrBadString, "uname", 15},
		{"17 names", frame(Twalk, u32(1)+u32(2)+u16(17)+strings.Repeat(str("a"), 17)), ErrTooManyElem, "nwname", 15},
		{"65535 names", frame(Twalk, u32(1)+u32(2)+u16(65535)), ErrTooManyElem, "nwname", 15},
		{"second name bad", frame(Twalk, u32(1)+u32(2)+u16(2)+str("a")+str("\x80")), ErrBadString, "wname[1]", 20},
		{"third name missing", frame(Twalk, u32(1)+u32(2)+u16(3)+str("a")+str("b")), ErrShort, "wname[2]", 23},
		{"17 qids", frame(Rwalk, u16(17)+strings.Repeat("q", 17*13)), ErrTooManyElem, "nwqid", 7},
		{"qid missing", frame(Rwalk, u16(2)+strings.Repeat("q", 13)), ErrShort, "qid", 22},
		{"write count too big", frame(Twrite, u32(1)+u32(0)+u32(0)+u32(4)+"abc"), ErrCount, "count", 19},
		{"write count too small", frame(Twrite, u32(1)+u32(0)+u32(0)+u32(2)+"abc"), ErrCount, "count", 19},
		{"write count 2^32-1", frame(Twrite, u32(1)+u32(0)+u32(0)+u32(1<<32-1)+"abc"), ErrCount, "count", 19},
		{"read count 2^32-1", frame(Rread, u32(1<<32-1)+"abc"), ErrCount, "count", 7},
		{"stat length too big", frame(Twstat, u32(1)+u16(len(rec)+1)+rec), ErrCount, "nstat", 11},
		{"stat length too small", frame(Twstat, u32(1)+u16(len(rec)-1)+rec), ErrCount, "nstat", 11},
		{"stat empty", frame(Twstat, u32(1)+u16(0)), ErrBadStat, "stat.size", 13},
		{"stat record's size", frame(Twstat, u32(1)+u16(len(rec))+u16(len(rec))+rec[2:]), ErrBadStat, "stat.size", 13},
		{"stat record cut", frame(Twstat, u32(1)+u16(len(rec)-2)+u16(len(rec)-4)+rec[2:len(rec)-2]), ErrBadStat, "stat.muid", 13 + len(rec) - 2},
		{"stat record padded", frame(Twstat, u32(1)+u16(len(rec)+1)+u16(len(rec)-1)+rec[2:]+"x"), ErrBadStat, "stat.end", 13 + len(rec)},
		{"stat name not UTF-8", frame(Twstat, u32(1)+u16(len(rec))+badRec), ErrBadString, "stat.name", 13 + 41},
		{"stat name with NUL", frame(Twstat, u32(1)+u16(len(rec))+nul), ErrBadString, "stat.name", 13 + 41},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f Fcall
			err := f.Decode(tt.frame)
			var de *DecodeError
			if !errors.As(err, &de) || !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if de.Field != tt.field || de.Off != tt.off {
				t.Errorf("error at %s, byte %d; want %s, byte %d", de.Field, de.Off, tt.field, tt.off)
			}
			if !strings.Contains(err.Error(), tt.field) {
				t.Errorf("text %q does not name the field %q", err, tt.field)
			}
		})
	}
}

func TestEncoderRefusesWhatTheWireCannotSay(t *testing.T) {
	long := strings.Repeat("x", MaxString+1)
	keep := []byte("keep")
	tests := map[string]struct {
		m   proto.FCall
		err error
	}{
		"version": {&proto.TRVersion{Header: proto.Header{Type: Tversion}, Version: long}, ErrTooLong},
		"type":    {&proto.TRVersion{}, ErrUnknownType},
		"uname":   {&proto.TAttach{Uname: long}, ErrTooLong},
		"auth":    {&proto.TAuth{Aname: long}, ErrTooLong},
		"name":    {&proto.TCreate{Name: long}, ErrTooLong},
		"ename":   {&proto.RError{Ename: long}, ErrTooLong},
		"wname":   {&proto.TWalk{Wname: []string{"a", long}}, ErrTooLong},
		"names":   {&proto.TWalk{Wname: make([]string, 17)}, ErrTooManyElem},
		"qids":    {&proto.RWalk{Wqid: make([]Qid, 17)}, ErrTooManyElem},
		"stat":    {&proto.RStat{Stat: proto.Stat{Name: long[:40000], Uid: long[:40000]}}, ErrTooLong},
		"wstat":   {&proto.TWstat{Stat: proto.Stat{Name: long[:65535-DirSize+1]}}, ErrTooLong},
	}
	for name, tt := range tests {
		if b, err := Append(keep, tt.m); !errors.Is(err, tt.err) || string(b) != "keep" {
			t.Errorf("%s: %.10q, error %v; want %v", name, b, err, tt.err)
		}
	}
	if _, err := Append(nil, &proto.RStat{Stat: proto.Stat{Name: long[:65535-DirSize]}}); err != nil {
		t.Errorf("longest stat record: %v", err)
	}
}

func TestRerrorTextIsCutBetweenCharacters(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{"short", "short"},
		{strings.Repeat("a", 127), strings.Repeat("a", 127)},
		{strings.Repeat("a", 128), strings.Repeat("a", 127)},
		{strings.Repeat("a", 126) + "ä", strings.Repeat("a", 126)},
		{strings.Repeat("a", 124) + "🦫x", strings.Repeat("a", 124)},
		{strings.Repeat("\x80", 200), ""},
	} {
		var f Fcall
		if err := f.Decode(AppendRerror(nil, 1, tt.in)); err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if f.Rerror.Ename != tt.out {
			t.Errorf("%q became %q, want %q", tt.in, f.Rerror.Ename, tt.out)
		}
	}
}

func TestDirectoryRecordsFollowEachOther(t *testing.T) {
	r := newRand(t)
	var want []Dir
	var b []byte
	for range 20 {
		d := randDir(r)
		n := len(b)
		var err error
		if b, err = d.Append(b); err != nil {
			t.Fatal(err)
		}
		unnamed := d
		unnamed.Name = "another"
		if p, err := unnamed.AppendNamed(nil, []byte(d.Name)); err != nil || !bytes.Equal(p, b[n:]) {
			t.Fatalf("with the name as bytes: %x, %v", p, err)
		}
		if len(b)-n != d.Size() {
			t.Fatalf("%d bytes, Size says %d", len(b)-n, d.Size())
		}
		theirs := proto.Stat(d)
		if !bytes.Equal(b[n:], theirs.Compose()) {
			t.Fatal("go9p encodes it differently")
		}
		if _, err := plan9.UnmarshalDir(b[n:]); err != nil {
			t.Fatalf("9fans: %v", err)
		}
		want = append(want, d)
	}
	got, err := DecodeDirs(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	for n := range len(b) {
		got, err := DecodeDirs(b[:n])
		size := 0
		for i := range got {
			size += got[i].Size()
		}
		if (err == nil) != (size == n) {
			t.Fatalf("first %d bytes: %d records of %d bytes, error %v", n, len(got), size, err)
		}
	}
}

func TestNullDirIsTheOnlyNull(t *testing.T) {
	d := NullDir()
	if !d.IsNull() {
		t.Fatal("NullDir is not null")
	}
	theirs := new(plan9.Dir)
	theirs.Null()
	b, err := d.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := theirs.Bytes()
	if err != nil || !bytes.Equal(b, tb) {
		t.Fatalf("ours %x, 9fans %x, %v", b, tb, err)
	}
	for _, change := range []func(*Dir){
		func(d *Dir) { d.Name = "x" }, func(d *Dir) { d.Mode = 0 }, func(d *Dir) { d.Qid.Vers = 0 },
		func(d *Dir) { d.Muid = "x" }, func(d *Dir) { d.Length = 0 }, func(d *Dir) { d.Dev = 0 },
	} {
		d := NullDir()
		if change(&d); d.IsNull() {
			t.Errorf("%v is null", &d)
		}
	}
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	r := newRand(t)
	var f Fcall
	for _, m := range randMessages(r) {
		b, err := Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := f.Decode(b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", Format(m), n)
		}
		out := make([]byte, 0, 2*len(b))
		if n := testing.AllocsPerRun(20, func() {
			if _, err := Append(out, f.Msg()); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations to encode", Format(m), n)
		}
	}
}

func TestDataIsPartOfTheFrame(t *testing.T) {
	b := AppendTwrite(nil, 1, 2, 3, []byte("data"))
	b = append(b, "next"...)
	var f Fcall
	if err := f.Decode(b[:len(b)-4]); err != nil {
		t.Fatal(err)
	}
	b[len(b)-5] = 'A'
	if string(f.Twrite.Data) != "datA" {
		t.Errorf("data %q is a copy", f.Twrite.Data)
	}
	if cap(f.Twrite.Data) != 4 {
		t.Errorf("data can grow by %d bytes into the next frame", cap(f.Twrite.Data)-4)
	}
}

func TestReadFrameTrustsNoSize(t *testing.T) {
	const msize = 1 << 20
	one := AppendRclunk(nil, 1)
	big := AppendRread(nil, 2, make([]byte, 300<<10))
	stream := append(append(bytes.Clone(one), big...), one...)
	r := bytes.NewReader(stream)
	var buf []byte
	var err error
	for i, want := range [][]byte{one, big, one} {
		if buf, err = ReadFrame(iotestOneByte{r}, buf, msize); err != nil || !bytes.Equal(buf, want) {
			t.Fatalf("frame %d: %d bytes, error %v", i, len(buf), err)
		}
	}
	if _, err = ReadFrame(r, buf, msize); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for n := 1; n < len(one); n++ {
		if _, err := ReadFrame(bytes.NewReader(one[:n]), nil, msize); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes of a frame: %v", n, err)
		}
	}
	for _, size := range []uint32{0, 1, 6, msize + 1, 1 << 31, 1<<32 - 1} {
		b := binary.LittleEndian.AppendUint32(nil, size)
		var de *DecodeError
		if _, err := ReadFrame(bytes.NewReader(b), nil, msize); !errors.As(err, &de) || !errors.Is(err, ErrFrameSize) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	// A size of nearly 2^32 that is allowed still costs no more than what came.
	b := binary.LittleEndian.AppendUint32(nil, 1<<32-1)
	got := testing.AllocsPerRun(1, func() {
		if _, err := ReadFrame(bytes.NewReader(b), nil, 1<<32-1); err != io.ErrUnexpectedEOF {
			t.Errorf("claimed 4 GiB: %v", err)
		}
	})
	if got > 10 {
		t.Errorf("%v allocations for a claim", got)
	}
}

type iotestOneByte struct{ io.Reader }

func (r iotestOneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

func TestFormatNamesEveryField(t *testing.T) {
	d := Dir{Name: "it's", Uid: "glenda", Qid: Qid{Qtype: QTDIR | QTTMP, Vers: 2, Uid: 31}, Mode: DMDIR | DMTMP | 0750, Length: 5}
	for want, m := range map[string]proto.FCall{
		"Tversion tag NOTAG msize 8192 version 9P2000":                     &proto.TRVersion{Header: proto.Header{Type: Tversion, Tag: NOTAG}, Msize: 8192, Version: "9P2000"},
		"Tattach tag 1 fid 0 afid NOFID uname 'a b' aname ''":              &proto.TAttach{Header: proto.Header{Tag: 1}, Afid: NOFID, Uname: "a b"},
		"Twalk tag 1 fid 0 newfid 2 wname [usr '0x']":                      &proto.TWalk{Header: proto.Header{Tag: 1}, Newfid: 2, Wname: []string{"usr", "0x"}},
		"Rwalk tag 1 wqid [0x1.2.d 0x3.0 0x0.0.0x2]":                       &proto.RWalk{Header: proto.Header{Tag: 1}, Wqid: []Qid{{Qtype: QTDIR, Vers: 2, Uid: 1}, {Uid: 3}, {Qtype: 2}}},
		"Topen tag 1 fid 7 mode ORDWR|OTRUNC|ORCLOSE":                      &proto.TOpen{Header: proto.Header{Tag: 1}, Fid: 7, Mode: ORDWR | OTRUNC | ORCLOSE},
		"Tcreate tag 1 fid 7 name x perm d755 mode 0x80":                   &proto.TCreate{Header: proto.Header{Tag: 1}, Fid: 7, Name: "x", Perm: DMDIR | 0755, Mode: 0x80},
		"Twrite tag 1 fid 7 offset 3 count 4 data 'it''s'":                 &proto.TWrite{Header: proto.Header{Tag: 1}, Fid: 7, Offset: 3, Data: []byte("it's")},
		"Rread tag 1 count 2 data 0x00ff":                                  &proto.RRead{Header: proto.Header{Tag: 1}, Data: []byte{0, 255}},
		"Rread tag 1 count 300 data '" + strings.Repeat("a", 256) + "'...": &proto.RRead{Header: proto.Header{Tag: 1}, Data: []byte(strings.Repeat("a", 300))},
		"Rstat tag 1 stat (name 'it''s' uid glenda gid '' muid '' qid 0x1f.2.dt mode dt750 atime 0 mtime 0 length 5 type 0 dev 0)": &proto.RStat{Header: proto.Header{Tag: 1}, Stat: proto.Stat(d)},
	} {
		if got := Format(m); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	seen := map[string]bool{}
	for _, m := range randMessages(newRand(t)) {
		word, _, _ := strings.Cut(Format(m), " ")
		if seen[word] || strings.HasPrefix(word, "message") || strings.HasPrefix(word, "unknown") {
			t.Errorf("%T is called %q", m, word)
		}
		seen[word] = true
	}
}

func TestFirstErrorInTheChainIsSent(t *testing.T) {
	plain := Error("file system full")
	wrapped := fmt.Errorf("block 0x4000: %w", plain)
	for _, tt := range []struct {
		err          error
		text         string
		plain, known bool
	}{
		{plain, "file system full", true, true},
		{wrapped, "file system full", false, true},
		{fmt.Errorf("outer: %w", errors.Join(io.EOF, wrapped)), "file system full", false, true},
		{io.EOF, "EOF", false, false},
	} {
		text, plain, known := wireText(tt.err)
		if text != tt.text || plain != tt.plain || known != tt.known {
			t.Errorf("%v: %q %v %v", tt.err, text, plain, known)
		}
	}
}
