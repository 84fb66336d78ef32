package golibs

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"9fans.net/go/plan9"
	"github.com/google/go-cmp/cmp"
	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// TestCodecs has three codecs read what the others have written: ours, go9p's and 9fans'. All must find
// the same in the same bytes, and write the same bytes again.
func TestCodecs(t *testing.T) {
	r := newRand(t)
	var ours ninep.Fcall // one for all, so that leftovers would show
	var seen [256]int
	for range 500 {
		for typ := uint8(plan9.Tversion); typ <= plan9.Rwstat; typ++ {
			if typ == plan9.Terror {
				continue
			}
			seen[typ]++
			want := randFcall(r, typ)
			theirs, err := want.Bytes()
			if err != nil {
				t.Fatalf("9fans does not write %v: %v", want, err)
			}

			if err := ours.Decode(theirs); err != nil {
				t.Fatalf("ours does not read %v, %x: %v", want, theirs, err)
			}
			b, err := ninep.Append(nil, ours.Msg())
			if err != nil || !bytes.Equal(b, theirs) {
				t.Fatalf("%v\nours  %x, %v\n9fans %x", want, b, err, theirs)
			}
			got, err := plan9.UnmarshalFcall(b)
			if err != nil {
				t.Fatalf("9fans does not read %x: %v", b, err)
			}
			if diff := cmp.Diff(want, got, emptyIsNil, uncounted(typ)); diff != "" {
				t.Fatalf("9fans reads something else than was written:\n%s", diff)
			}

			m, err := proto.ParseCall(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("go9p does not read %v, %x: %v", want, b, err)
			}
			if diff := cmp.Diff(ours.Msg(), m, emptyIsNil); diff != "" {
				t.Fatalf("%v: ours and go9p read differently:\n%s", want, diff)
			}
			again := m.Compose()
			if !bytes.Equal(again, b) {
				t.Fatalf("%v\nours %x\ngo9p %x", want, b, again)
			}
			if err := ours.Decode(again); err != nil {
				t.Fatalf("ours does not read what go9p wrote, %x: %v", again, err)
			}
		}
	}
	n := 0
	for _, k := range seen {
		if k > 0 {
			n++
		}
	}
	if n != 27 {
		t.Errorf("%d types of messages, 9P2000 has 27", n)
	}
}

// emptyIsNil lets an empty list equal none.
var emptyIsNil = cmp.FilterValues(func(x, y any) bool {
	vx, vy := reflect.ValueOf(x), reflect.ValueOf(y)
	return vx.Kind() == reflect.Slice && vy.Kind() == reflect.Slice && vx.Len() == 0 && vy.Len() == 0
}, cmp.Comparer(func(x, y any) bool { return true }))

// uncounted leaves out the count of messages with data: 9fans' reader sets it, its writer does not look at it.
func uncounted(typ uint8) cmp.Option {
	return cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Count" && (typ == plan9.Twrite || typ == plan9.Rread)
	}, cmp.Ignore())
}

// randFcall makes a message with random content in every field that its type has.
func randFcall(r *rand.Rand, typ uint8) *plan9.Fcall {
	f := &plan9.Fcall{Type: typ, Tag: uint16(r.Uint32())}
	fid := func(p *uint32) { *p = edge(r) }
	switch typ {
	case plan9.Tversion, plan9.Rversion:
		f.Msize, f.Version = edge(r), randString(r)
	case plan9.Tauth:
		fid(&f.Afid)
		f.Uname, f.Aname = randString(r), randString(r)
	case plan9.Rauth:
		f.Aqid = randQid(r)
	case plan9.Tattach:
		fid(&f.Fid)
		fid(&f.Afid)
		f.Uname, f.Aname = randString(r), randString(r)
	case plan9.Rattach:
		f.Qid = randQid(r)
	case plan9.Rerror:
		f.Ename = randString(r)
	case plan9.Tflush:
		f.Oldtag = uint16(edge(r))
	case plan9.Twalk:
		fid(&f.Fid)
		fid(&f.Newfid)
		for range r.IntN(17) {
			f.Wname = append(f.Wname, randString(r))
		}
	case plan9.Rwalk:
		for range r.IntN(17) {
			f.Wqid = append(f.Wqid, randQid(r))
		}
	case plan9.Topen:
		fid(&f.Fid)
		f.Mode = uint8(r.Uint32())
	case plan9.Ropen, plan9.Rcreate:
		f.Qid, f.Iounit = randQid(r), edge(r)
	case plan9.Tcreate:
		fid(&f.Fid)
		f.Name, f.Perm, f.Mode = randString(r), plan9.Perm(edge(r)), uint8(r.Uint32())
	case plan9.Tread:
		fid(&f.Fid)
		f.Offset, f.Count = edge64(r), edge(r)
	case plan9.Twrite:
		fid(&f.Fid)
		f.Offset, f.Data = edge64(r), randBytes(r)
	case plan9.Rread:
		f.Data = randBytes(r)
	case plan9.Rwrite:
		f.Count = edge(r)
	case plan9.Tclunk, plan9.Tremove, plan9.Tstat:
		fid(&f.Fid)
	case plan9.Rstat:
		f.Stat = randStat(r)
	case plan9.Twstat:
		fid(&f.Fid)
		f.Stat = randStat(r)
	}
	return f
}

// edge returns a number that is often the smallest or the largest.
func edge(r *rand.Rand) uint32 {
	return [...]uint32{0, 1, 1<<31 - 1, 1 << 31, ^uint32(0), r.Uint32(), r.Uint32(), r.Uint32()}[r.IntN(8)]
}

func edge64(r *rand.Rand) uint64 {
	return [...]uint64{0, 1, 1<<63 - 1, 1 << 63, ^uint64(0), r.Uint64(), r.Uint64(), r.Uint64()}[r.IntN(8)]
}

func randQid(r *rand.Rand) plan9.Qid {
	return plan9.Qid{Path: edge64(r), Vers: edge(r), Type: uint8(r.Uint32())}
}

func randBytes(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// randString returns UTF-8 without NUL, sometimes none.
func randString(r *rand.Rand) string {
	runes := []rune("abc/.-_ äß文件\U0001F600\u0001")
	s := make([]rune, r.IntN(20)*r.IntN(2))
	for i := range s {
		s[i] = runes[r.IntN(len(runes))]
	}
	return string(s)
}

func randStat(r *rand.Rand) []byte {
	d := plan9.Dir{
		Type: uint16(r.Uint32()), Dev: edge(r), Qid: randQid(r), Mode: plan9.Perm(edge(r)),
		Atime: edge(r), Mtime: edge(r), Length: edge64(r),
		Name: randString(r), Uid: randString(r), Gid: randString(r), Muid: randString(r),
	}
	b, err := d.Bytes()
	if err != nil {
		panic(err) // strings this short fit
	}
	return b
}
