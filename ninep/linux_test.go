package ninep

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// linuxTypes are all message types of 9P2000.L that 9P2000 does not have.
func linuxTypes() []uint8 {
	var types []uint8
	for t := range 256 {
		if NewLinuxMsg(uint8(t)) != nil {
			types = append(types, uint8(t))
		}
	}
	return types
}

// A randomizer fills in the fields of a message.
type randomizer struct{ r *rand.Rand }

func (z randomizer) num8(_ string, v *uint8)   { *v = uint8(z.r.Uint32()) }
func (z randomizer) num32(_ string, v *uint32) { *v = z.r.Uint32() }
func (z randomizer) num64(_ string, v *uint64) { *v = z.r.Uint64() }
func (z randomizer) text(_ string, v *string)  { *v = randString(z.r) }
func (z randomizer) qidOf(_ string, v *Qid)    { *v = randQid(z.r) }
func (z randomizer) rest(_ string, v *[]byte)  { *v = []byte(randString(z.r)) }

func TestLinuxMessagesDecodeToWhatWasEncoded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var f Fcall
	types := linuxTypes()
	if len(types) != 39 {
		t.Fatalf("%d types", len(types))
	}
	for range 20 {
		for _, typ := range types {
			m := NewLinuxMsg(typ)
			m.fields(randomizer{r})
			tag := uint16(r.Uint32())
			b, err := AppendLinux([]byte("before"), typ, tag, m)
			if err != nil {
				t.Fatal(err)
			}
			b = b[len("before"):]
			if err := f.DecodeLinux(b); err != nil || f.Type != typ || f.Tag != tag {
				t.Fatalf("%s: type %d tag %d: %v", FormatLinux(typ, tag, m), f.Type, f.Tag, err)
			}
			if !reflect.DeepEqual(f.Linux, m) && !(typ == Rreaddir && bytes.Equal(f.Linux.(*LEntries).Data, m.(*LEntries).Data)) {
				t.Errorf("%s: decoded as %s", FormatLinux(typ, tag, m), FormatLinux(f.Type, f.Tag, f.Linux))
			}
			if err := f.Decode(b); !errors.Is(err, ErrUnknownType) {
				t.Errorf("%s as 9P2000: %v", typeName(typ), err)
			}
			for n := range len(b) {
				if n == HeaderSize+4 && typ == Tfsync {
					continue // as it was before datasync
				}
				short := bytes.Clone(b[:n])
				if n >= 4 {
					short[0], short[1], short[2], short[3] = byte(n), byte(n>>8), 0, 0
				}
				if err := f.DecodeLinux(short); err == nil {
					t.Fatalf("%s: its first %d bytes of %d decode", typeName(typ), n, len(b))
				}
			}
			long := end(append(bytes.Clone(b), 0), 0)
			if err := f.DecodeLinux(long); err == nil {
				t.Errorf("%s: with one byte more decodes", typeName(typ))
			}
		}
	}
}

// The bytes are those that Linux sends and expects, from fs/9p and net/9p.
func TestLinuxMessagesAreLinuxsBytes(t *testing.T) {
	for _, tt := range []struct {
		typ  uint8
		m    LinuxMsg
		want string
	}{
		{Tlopen, &LOpen{2, 0x8000}, "0f0000000c0100" + "02000000" + "00800000"},
		{Rlerror, &LError{ENOENT}, "0b000000070100" + "02000000"},
		{Tunlinkat, &LUnlinkat{1, "a", AtRemoveDir}, "120000004c0100" + "01000000" + "010061" + "00020000"},
		{Tlock, &LLock{1, LockWrite, 1, 2, 3, 4, "h"}, "270000003401000100000001010000000200000000000000030000000000000004000000010068"},
	} {
		b, err := AppendLinux(nil, tt.typ, 1, tt.m)
		if got := fmt.Sprintf("%x", b); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", typeName(tt.typ), got, err, tt.want)
		}
	}
	b, err := AppendLinux(nil, Rgetattr, 1, &LAttr{})
	if err != nil || len(b) != 160 {
		t.Errorf("Rgetattr has %d bytes, want 160", len(b))
	}
	b, _ = AppendLinux(nil, Rstatfs, 1, &LStatfs{})
	if len(b) != 67 {
		t.Errorf("Rstatfs has %d bytes, want 67", len(b))
	}
	if _, err := AppendLinux(nil, Treadlink+1, 1, &LReadlink{strings.Repeat("x", 1<<16)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("a string of 64 KiB: %v", err)
	}
}

func TestDirentsDecodeToWhatWasEncoded(t *testing.T) {
	var b []byte
	want := []Dirent{{Qid{Qtype: QTDIR, Vers: 1, Uid: 2}, 3, DTDir, "."}, {Qid{Uid: 9}, 1 << 60, DTReg, "naïve"}}
	for _, e := range want {
		b = AppendDirent(b, e.Qid, e.Next, e.Type, e.Name)
	}
	if got, err := DecodeDirents(b); err != nil || !reflect.DeepEqual(got, want) || len(b) != 2*DirentSize+1+6 {
		t.Errorf("%v, %v", got, err)
	}
	for n := range len(b) {
		if got, err := DecodeDirents(b[:n]); err == nil && n != 0 && n != DirentSize+1 {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
}

// FuzzDecodeLinux: no bytes make DecodeLinux panic, and what it accepts encodes to the same bytes.
func FuzzDecodeLinux(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, typ := range linuxTypes() {
		m := NewLinuxMsg(typ)
		m.fields(randomizer{r})
		b, err := AppendLinux(nil, typ, 7, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _ := AppendTattachL(nil, 1, 2, NOFID, "glenda", "", 1000)
	f.Add(b)
	b, _ = AppendTauthL(nil, 1, 2, "glenda", "", 1000)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		var fc Fcall
		err := fc.DecodeLinux(b)
		if !bytes.Equal(in, b) {
			t.Fatal("DecodeLinux changed the frame")
		}
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Off > len(b) || de.Err == nil {
				t.Fatalf("error %#v for %d bytes", err, len(b))
			}
			return
		}
		var again []byte
		switch {
		case fc.Linux != nil:
			FormatLinux(fc.Type, fc.Tag, fc.Linux)
			again, err = AppendLinux(nil, fc.Type, fc.Tag, fc.Linux)
			if fc.Type == Tfsync && len(b) == HeaderSize+4 {
				again = end(again[:HeaderSize+4], 0)
			}
		case fc.Type == Tattach:
			m := &fc.Tattach
			again, err = AppendTattachL(nil, fc.Tag, m.Fid, m.Afid, m.Uname, m.Aname, fc.NUname)
		case fc.Type == Tauth:
			m := &fc.Tauth
			again, err = AppendTauthL(nil, fc.Tag, m.Afid, m.Uname, m.Aname, fc.NUname)
		default:
			again, err = Append(nil, fc.Msg())
		}
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("was   %x\nagain %x, %v", b, again, err)
		}
	})
}

func TestARefusalByNumberIsNothingToLog(t *testing.T) {
	if _, plain, known := wireText(EOPNOTSUPP); !plain || !known {
		t.Errorf("EOPNOTSUPP: plain %t, known %t", plain, known)
	}
	if _, plain, known := wireText(errors.New("disk on fire")); plain || known {
		t.Errorf("a failure: plain %t, known %t", plain, known)
	}
}

func TestTimesAreSecondsAndNanoseconds(t *testing.T) {
	for _, ns := range []int64{0, 1, -1, 999999999, -1e9, 1e9, -1500000000, 1234567890123456789} {
		l := linuxTime(ns)
		if got, ok := l.Nanos(); !ok || got != ns || l.Nsec >= 1e9 {
			t.Errorf("%d: %+v, back %d %t", ns, l, got, ok)
		}
	}
}

// TestLocksAreThoseOfAModel compares the table with an array of bytes.
func TestLocksAreThoseOfAModel(t *testing.T) {
	const size, procs = 12, 3
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var tab lockTable
		c := new(Conn)
		fids := [procs]*fid{}
		var model [procs][size]int // 0 none, 1 read, 2 write
		for p := range fids {
			fids[p] = new(fid)
		}
		for step := range 60 {
			p := r.IntN(procs)
			if r.IntN(15) == 0 {
				tab.release(fids[p])
				fids[p], model[p] = new(fid), [size]int{}
				continue
			}
			start := r.IntN(size)
			length := 1 + r.IntN(size-start)
			typ := uint8(r.IntN(3))
			want := uint8(LockSuccess)
			for q := range procs {
				for i := start; i < start+length; i++ {
					if typ != LockUnlock && q != p && (model[q][i] == 2 || model[q][i] == 1 && typ == LockWrite) {
						want = LockBlocked
					}
				}
			}
			l := lockRange{typ: typ, start: uint64(start), end: lockEnd(uint64(start), uint64(length)), owner: lockOwner{c, uint32(p), ""}}
			if got := tab.set(fids[p], "file", l); got != want {
				t.Fatalf("seed %d step %d: %d, want %d", seed, step, got, want)
			}
			if want == LockSuccess {
				for i := start; i < start+length; i++ {
					model[p][i] = [3]int{1, 2, 0}[typ]
				}
			}
		}
		if n := tab.held[c]; n != len(tab.files["file"]) || n > procs*size {
			t.Fatalf("seed %d: %d ranges are counted, %d held", seed, n, len(tab.files["file"]))
		}
		for p := range procs {
			tab.release(fids[p])
		}
		if len(tab.files)+len(tab.held) > 0 {
			t.Fatalf("seed %d: not all is released", seed)
		}
	}
	// A connection can have so many, whoever's they are.
	tab, c := lockTable{files: map[any][]lockRange{}}, new(Conn)
	for _, x := range []struct {
		held int
		want uint8
	}{{0, LockSuccess}, {maxLocks - 2, LockSuccess}, {maxLocks - 1, LockError}} {
		tab.held = map[*Conn]int{c: x.held} // as if they were in other files
		l := lockRange{typ: LockRead, end: 1, owner: lockOwner{conn: c}}
		if got := tab.set(new(fid), x.held, l); got != x.want {
			t.Errorf("with %d locks: %d, want %d", x.held, got, x.want)
		}
	}
}
