package gefs_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// These tests have the numbers of the defects that gefs had, or has: docs/differences.md.

func TestPitfall77UnopenedFidsAreNotReadOrWritten(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.put("secret", 0600, "mine")
	for _, who := range []*session{s, bob} {
		f := who.walk("secret")
		_, err := f.readErr()
		refused(t, "read", err, einuse)
		refused(t, "write", f.writeErr("x", 0), einuse)
		f.clunk()
	}
	dir := s.walk("/")
	_, err := dir.ReadDir()
	refused(t, "read of a directory", err, einuse)

	// The mode counts afterwards as well.
	for _, tt := range []struct {
		mode        uint8
		read, write bool
	}{
		{ninep.OREAD, true, false},
		{ninep.OWRITE, false, true},
		{ninep.ORDWR, true, true},
		{ninep.OREAD | ninep.OCEXEC, true, false},
		{ninep.OWRITE | ninep.OCEXEC, false, true},
	} {
		f := s.open("secret", tt.mode)
		if _, err := f.readErr(); tt.read != (err == nil) {
			t.Errorf("read after opening with %#x: %v", tt.mode, err)
		}
		if err := f.writeErr("mine", 0); tt.write != (err == nil) {
			t.Errorf("write after opening with %#x: %v", tt.mode, err)
		}
		f.clunk()
	}
	s.chmod("secret", 0700)
	f := s.open("secret", ninep.OEXEC)
	if got := f.read(); got != "mine" {
		t.Errorf("read %q", got)
	}
	refused(t, "write after OEXEC", f.writeErr("x", 0), einuse)
	w.end()
}

func TestPitfall78RemovalOnCloseNeedsPermission(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0755)
	s.put("d/f", 0666, "text")
	_, err := bob.openErr("d/f", ninep.OREAD|ninep.ORCLOSE)
	refused(t, "open", err, eperm)
	s.chmod("d", ninep.DMDIR|0777)
	f := bob.open("d/f", ninep.OREAD|ninep.ORCLOSE)
	if got := f.read(); got != "text" {
		t.Errorf("read %q", got)
	}
	f.clunk()
	_, err = s.walkErr("d/f")
	refused(t, "walk", err, enotfound)
	w.end()
}

func TestPitfall81RootIsNeitherRemovedNorRenamed(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"", "%main", "%adm"} {
		s := w.as("glenda", name)
		refused(t, "remove", s.walk("/").Remove(), eperm)
		refused(t, "rename", s.wstatErr("/", func(d *ninep.Dir) { d.Name = "top" }), eperm)
		want := eperm
		if len(s.list("/")) > 0 {
			want = enotempty
		}
		f := s.walk("/")
		refused(t, "open to be removed", f.Open(ninep.OREAD|ninep.ORCLOSE), want)
		// Still there, and everything goes on.
		s.put("after", 0644, "")
		s.remove("after")
	}
	w.end()
}

func TestPitfall82OthersNeedAllThatIsWanted(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	for perm := range uint32(8) {
		p := fmt.Sprint("f", perm)
		s.put(p, 0700, "")
		s.chmod(p, perm)
		for _, mode := range []uint8{ninep.OREAD, ninep.OWRITE, ninep.ORDWR, ninep.OEXEC} {
			want := []uint32{4, 2, 6, 5}[mode]
			f, err := bob.openErr(p, mode)
			if perm&want == want {
				if err != nil {
					t.Errorf("mode %o opened by %d: %v", perm, mode, err)
					continue
				}
				f.clunk()
			} else {
				refused(t, fmt.Sprintf("mode %o opened by %d", perm, mode), err, eperm)
			}
		}
	}
	w.end()
}

func TestPitfall83MissingSearchPermissionEndsTheWalk(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("a", 0755)
	s.mkdir("a/b", 0744)
	s.put("a/b/c", 0644, "")
	r, err := bob.raw(&proto.TWalk{Fid: bob.root.Num(), Newfid: 900, Wname: []string{"a", "b", "c"}})
	if err != nil || len(r.Rwalk.Wqid) != 2 {
		t.Errorf("walk to a/b/c: %d qids, %v; want 2", len(r.Rwalk.Wqid), err)
	}
	// newfid was not set.
	_, err = bob.raw(&proto.TStat{Fid: 900})
	refused(t, "stat", err, efid)
	b := bob.walk("a/b")
	_, err = b.Walk("c")
	refused(t, "walk from a/b", err, enotfound)
	_, err = b.Walk("..")
	refused(t, "walk up from a/b", err, enotfound)
	w.end()
}

func TestPitfall84RemoveLooksAtWritePermission(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0777)
	s.put("d/f", 0600, "")
	s.chmod("d", ninep.DMDIR|0775) // others may read and search
	refused(t, "remove", bob.removeErr("d/f"), eperm)
	s.chmod("d", ninep.DMDIR|0773) // others may write and search
	bob.remove("d/f")
	w.end()
}

func TestPitfall85RefusedWstatChangesNothing(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.put("f", 0644, "0123456789")
	s.put("taken", 0644, "")
	before := s.stat("f")
	keep := s.open("f", ninep.ORDWR)
	for what, change := range map[string]func(*ninep.Dir){
		"length":         func(d *ninep.Dir) { d.Length = 2 },
		"extend":         func(d *ninep.Dir) { d.Length = 200 },
		"mode":           func(d *ninep.Dir) { d.Mode = 0666 },
		"mtime":          func(d *ninep.Dir) { d.Mtime = 1 },
		"name":           func(d *ninep.Dir) { d.Name = "g" },
		"name and more":  func(d *ninep.Dir) { d.Name = "g"; d.Length = 0; d.Mode = 0777 },
		"uid":            func(d *ninep.Dir) { d.Uid = "bob" },
		"gid":            func(d *ninep.Dir) { d.Gid = "bob" },
		"length, no gid": func(d *ninep.Dir) { d.Length = 0; d.Gid = "nobody" },
	} {
		if err := bob.wstatErr("f", change); err == nil {
			t.Errorf("bob may change %s", what)
		}
		if got := s.stat("f"); got != before {
			t.Errorf("%s: after the refusal the file is %+v, was %+v", what, got, before)
		}
		if got := keep.stat(); got != before {
			t.Errorf("%s: after the refusal the open file is %+v, was %+v", what, got, before)
		}
	}
	// Nor does what glenda may do half.
	for what, change := range map[string]func(*ninep.Dir){
		"length and a taken name": func(d *ninep.Dir) { d.Length = 2; d.Name = "taken" },
		"length and a bad name":   func(d *ninep.Dir) { d.Length = 2; d.Name = "a/b" },
		"length and a bad mode":   func(d *ninep.Dir) { d.Length = 2; d.Mode = ninep.DMDIR | 0777 },
		"length and an owner":     func(d *ninep.Dir) { d.Length = 2; d.Uid = "bob" },
		"mode and a bad length":   func(d *ninep.Dir) { d.Mode = 0600; d.Length = 1 << 63 },
		"mode and a bad qid":      func(d *ninep.Dir) { d.Mode = 0600; d.Qid.Uid = 77 },
	} {
		if err := s.wstatErr("f", change); err == nil {
			t.Errorf("%s is done", what)
		}
		if got := s.stat("f"); got != before {
			t.Errorf("%s: after the refusal the file is %+v, was %+v", what, got, before)
		}
	}
	// Nobody waits for a truncation that did not happen.
	keep.write("abc", 0)
	s.truncate("f", 5)
	if got := s.get("f"); got != "abc34" {
		t.Errorf("read %q", got)
	}
	w.end()
}

func TestPitfall85QidTypeFollowsTheMode(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("f", 0644, "")
	for _, mode := range []uint32{ninep.DMAPPEND, ninep.DMEXCL, ninep.DMTMP, ninep.DMAPPEND | ninep.DMEXCL | ninep.DMTMP, 0} {
		s.chmod("f", mode|0640)
		w.restart()
		s = w.as("glenda", "")
		if d := s.stat("f"); d.Mode != mode|0640 || d.Qid.Qtype != uint8(mode>>24) || s.walk("f").Qid() != d.Qid {
			t.Errorf("mode %#x: %+v", mode, d)
		}
	}
	w.end()
}

func TestPitfall86TruncationInsideABlockLeavesZeros(t *testing.T) {
	sizes := []int{100, blk - 1, blk, blk + 1, 3*blk + 77, 200*blk + 5}
	if raceEnabled {
		sizes = sizes[3:5]
	}
	for _, size := range sizes {
		for _, cut := range []int{0, 1, 10, blk - 1, blk, blk + 1, 2*blk + 3, 150*blk + 9} {
			if cut >= size {
				continue
			}
			t.Run(fmt.Sprintf("%d to %d", size, cut), func(t *testing.T) {
				w := newWorld(t)
				s := w.as("glenda", "")
				old := strings.Repeat("x", size)
				s.put("wstat", 0644, old)
				s.put("write", 0644, old)
				for _, p := range []string{"wstat", "write"} {
					s.truncate(p, uint64(cut))
					if got := s.get(p); got != old[:cut] {
						t.Fatalf("%s: %d bytes after the truncation, want %d x", p, len(got), cut)
					}
					for w.fs.ToClear() > 0 { // in the background
						time.Sleep(time.Millisecond)
					}
					n, err := w.fs.DataBlocks("main", s.stat(p).Qid.Uid)
					if want := (cut + blk - 1) / blk; err != nil || n != want {
						t.Fatalf("%s: %d blocks after the truncation, want %d: %v", p, n, want, err)
					}
				}
				// Two ways to get longer again.
				s.truncate("wstat", uint64(size))
				f := s.open("write", ninep.OWRITE)
				f.write("!", int64(size)-1)
				f.clunk()
				want := old[:cut] + strings.Repeat("\x00", size-cut)
				if got := s.get("wstat"); got != want {
					t.Errorf("extended by a wstat: old bytes at %d", strings.IndexByte(got[cut:], 'x')+cut)
				}
				if got := s.get("write"); got != want[:size-1]+"!" {
					t.Errorf("extended by a write: old bytes at %d", strings.IndexByte(got[cut:], 'x')+cut)
				}
				w.end() // no block behind the end is left
			})
		}
	}
}

func TestPitfall87WhatWasNotWrittenIsZero(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	// Buffers that were in use, so that recycled memory is not zero by chance.
	s.put("noise", 0644, strings.Repeat("noise", 40000))
	s.remove("noise")
	f := s.create("f", 0644, ninep.ORDWR)
	want := make([]byte, 0)
	for _, at := range []int{5, 3*blk + 100, 2*blk - 1, blk + 7, 9 * blk} {
		f.write("ab", int64(at))
		want = append(want, make([]byte, max(0, at+2-len(want)))...)
		copy(want[at:], "ab")
		if got := f.read(); got != string(want) {
			t.Fatalf("after the write at %d: wrong at %d", at, differAt(got, string(want)))
		}
	}
	f.clunk()
	w.restart()
	if got := w.as("glenda", "").get("f"); got != string(want) {
		t.Errorf("after a restart: wrong at %d", differAt(got, string(want)))
	}
	w.end()
}

func differAt(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestPitfall88SizesAndTimesHave64Bits(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	f := s.create("f", 0644, ninep.ORDWR)
	const far = 5<<32 + 77
	f.write("far", far)
	if d := f.stat(); d.Length != far+3 {
		t.Errorf("length %d", d.Length)
	}
	if got := f.at(far-2, 10); got != "\x00\x00far" {
		t.Errorf("read %q", got)
	}
	if got := f.at(far-1<<32, 3); got != "\x00\x00\x00" {
		t.Errorf("4 GiB before it, read %q", got)
	}
	f.wstat(func(d *ninep.Dir) { d.Mtime = math.MaxUint32 - 1 })
	if d := f.stat(); d.Mtime != math.MaxUint32-1 {
		t.Errorf("mtime %d", d.Mtime)
	}
	w.end()
}

func TestPitfall89NothingAClientSendsIsTooLarge(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("f", 0644, strings.Repeat("x", 3<<20))
	f := s.open("f", ninep.OREAD)
	r, err := s.raw(&proto.TRead{Fid: f.Num(), Count: math.MaxUint32})
	if want := int(s.conn.Msize()) - ninep.IOHDRSZ; err != nil || len(r.Rread.Data) != want {
		t.Errorf("a read of 4 GiB: %d bytes, %v; want %d", len(r.Rread.Data), err, want)
	}
	for n := 243; n < 300; n++ {
		_, err := s.walkErr(strings.Repeat("n", n))
		want := enotfound
		if n > 244 {
			want = elength
		}
		refused(t, fmt.Sprintf("walk to a name of %d bytes", n), err, want)
	}
	_, err = s.walkErr(strings.Repeat("n", 60000))
	refused(t, "walk to a name of 60000 bytes", err, elength)
	w.end()
}

func TestPitfall90ModesAreChecked(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("f", 0644, "")
	s.mkdir("d", 0755)
	const ebits = "wstat -- unknown bits in qid.type/mode"
	for _, bit := range []uint32{01000, 0x1000, 1 << 25, 1 << 24, 0x02000000, 0x01000000} {
		_, err := s.createErr("new", bit|0644, ninep.OREAD)
		refused(t, fmt.Sprintf("create with bit %#x", bit), err, ebits)
		refused(t, fmt.Sprintf("wstat with bit %#x", bit), s.wstatErr("f", func(d *ninep.Dir) { d.Mode = bit | 0644 }), ebits)
	}
	for _, bit := range []uint32{ninep.DMMOUNT, ninep.DMAUTH} {
		_, err := s.createErr("new", bit|0644, ninep.OREAD)
		refused(t, fmt.Sprintf("create with bit %#x", bit), err, ebotch)
	}
	for _, mode := range []uint8{4, 8, 128, 4 | ninep.ORDWR, 128 | ninep.OTRUNC} {
		_, err := s.openErr("f", mode)
		refused(t, fmt.Sprintf("open by %#x", mode), err, emode)
		_, err = s.createErr("new", 0644, mode)
		refused(t, fmt.Sprintf("create by %#x", mode), err, emode)
	}
	for _, mode := range []uint8{ninep.OWRITE, ninep.ORDWR, ninep.OEXEC, ninep.OTRUNC, ninep.ORCLOSE, ninep.OWRITE | ninep.OTRUNC} {
		_, err := s.openErr("d", mode)
		refused(t, fmt.Sprintf("open a directory by %#x", mode), err, eperm)
		_, err = s.createErr("new", ninep.DMDIR|0755, mode)
		refused(t, fmt.Sprintf("create a directory by %#x", mode), err, eperm)
	}
	s.open("d", ninep.OREAD|ninep.OCEXEC).clunk()
	_, err := s.createErr("f/below", 0644, ninep.OREAD)
	refused(t, "create below a file", err, eperm)
	if got := s.list("/"); !slices.Equal(got, []string{"d", "f"}) {
		t.Errorf("there is %q", got)
	}
	w.end()
}

func TestPitfall91WstatOfFilesWithModeBits(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	for _, bits := range []uint32{ninep.DMAPPEND, ninep.DMEXCL, ninep.DMTMP} {
		p := fmt.Sprintf("f%x", bits)
		s.put(p, bits|0644, "text")
		s.wstat(p, func(d *ninep.Dir) { d.Mode = bits | 0600; d.Mtime = 1000; d.Name = p + "x" })
		if d := s.stat(p + "x"); d.Mode != bits|0600 || d.Mtime != 1000 {
			t.Errorf("%s: %+v", p, d)
		}
		s.truncate(p+"x", 2)
		if d := s.stat(p + "x"); d.Length != 2 {
			t.Errorf("%s: length %d", p, d.Length)
		}
	}
	w.end()
}
