package gefs_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
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

func TestPitfall92ParentsAttributesAreCurrent(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0777)
	s.wstat("d", func(d *ninep.Dir) { d.Gid = "glenda" })
	s.put("d/f", 0644, "")
	if d := s.stat("d/f"); d.Gid != "glenda" || d.Uid != "glenda" {
		t.Errorf("a new file belongs to %s and the group %s", d.Uid, d.Gid)
	}
	old := bob.walk("d/f") // knows a directory that bob may write
	create := bob.walk("d")
	made := bob.create("d/bobs", 0644, ninep.OWRITE)
	s.chmod("d", ninep.DMDIR|0755)
	refused(t, "remove", old.Remove(), eperm)
	refused(t, "create", create.Create("g", 0644, ninep.OREAD), eperm)
	refused(t, "rename", made.wstatErr(func(d *ninep.Dir) { d.Name = "mine" }), eperm)
	s.chmod("d", ninep.DMDIR|0777)
	made.wstat(func(d *ninep.Dir) { d.Name = "mine" })
	if d := s.stat("d/mine"); d.Gid != "glenda" || d.Uid != "bob" {
		t.Errorf("bob's file belongs to %s and the group %s", d.Uid, d.Gid)
	}
	w.end()
}

func TestPitfall93LengthOfAppendOnlyFiles(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("log", ninep.DMAPPEND|0666, "")
	f := s.open("log", ninep.OWRITE)
	g := w.as("bob", "").open("log", ninep.OWRITE)
	want := ""
	for i, off := range []int64{0, 1000000, 3, math.MaxInt64} {
		text := fmt.Sprintf("line %d;", i)
		h := []*file{f, g}[i%2]
		h.write(text, off)
		want += text
		for _, h := range []*file{f, g} {
			if d := h.stat(); d.Length != uint64(len(want)) {
				t.Errorf("length %d after %d bytes", d.Length, len(want))
			}
		}
	}
	// To truncate it at open does nothing, to do it by wstat does.
	s.open("log", ninep.OREAD|ninep.OTRUNC).clunk()
	if got := s.get("log"); got != want {
		t.Errorf("it has %q", got)
	}
	s.truncate("log", 4)
	f.write("!", 0)
	if got := s.get("log"); got != "line!" {
		t.Errorf("it has %q", got)
	}
	w.end()
}

func TestPitfall94DirectoriesCountTheirChanges(t *testing.T) {
	clock := time.Unix(1000, 0)
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{Now: func() time.Time { return clock }})
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0777)
	for _, tt := range []struct {
		what string
		do   func()
	}{
		{"create", func() { bob.put("d/f", 0644, "") }},
		{"mkdir", func() { bob.mkdir("d/e", 0755) }},
		{"rename", func() { bob.wstat("d/f", func(d *ninep.Dir) { d.Name = "g" }) }},
		{"remove", func() { bob.remove("d/g") }},
		{"removal on close", func() { bob.create("d/h", 0644, ninep.OWRITE|ninep.ORCLOSE).clunk() }},
		{"rmdir", func() { bob.remove("d/e") }},
	} {
		clock = clock.Add(time.Minute)
		before := s.stat("d")
		tt.do()
		want := before
		want.Qid.Vers++
		if tt.what == "removal on close" {
			want.Qid.Vers++ // it was created before
		}
		want.Mtime, want.Muid = uint32(clock.Unix()), "bob"
		if got := s.stat("d"); got != want {
			t.Errorf("%s: the directory is %+v, want %+v", tt.what, got, want)
		}
		// What does not touch its entries leaves it alone.
		clock = clock.Add(time.Minute)
		s.put("d/x", 0644, "")
		before = s.stat("d")
		s.chmod("d/x", 0600)
		f := s.open("d/x", ninep.OWRITE|ninep.OTRUNC)
		f.write("x", 0)
		f.clunk()
		if got := s.stat("d"); got != before {
			t.Errorf("a write below changes the directory to %+v", got)
		}
		s.remove("d/x")
	}
	w.end()
}

func TestPitfall95WritesCountInTheVersion(t *testing.T) {
	clock := time.Unix(1000, 0)
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{Now: func() time.Time { return clock }})
	s := w.as("glenda", "")
	s.put("f", 0666, "")
	f := s.open("f", ninep.OWRITE)
	g := w.as("bob", "").open("f", ninep.OWRITE)
	for i := range 4 {
		clock = clock.Add(time.Hour)
		before := f.stat()
		text := "text"
		if i == 3 {
			text = "" // a write of nothing is one
		}
		g.write(text, 1)
		want := before
		want.Qid.Vers++
		want.Mtime, want.Muid = uint32(clock.Unix()), "bob"
		want.Length = 5
		for _, got := range []ninep.Dir{f.stat(), g.stat(), s.stat("f")} {
			if got != want {
				t.Errorf("after write %d the file is %+v, want %+v", i, got, want)
			}
		}
	}
	clock = clock.Add(time.Hour)
	before := f.stat()
	s.open("f", ninep.OREAD|ninep.OTRUNC).clunk()
	want := before
	want.Qid.Vers++
	want.Length, want.Mtime, want.Muid = 0, uint32(clock.Unix()), "glenda"
	if got := f.stat(); got != want {
		t.Errorf("after a truncation the file is %+v, want %+v", got, want)
	}
	w.restart()
	if got := w.as("glenda", "").stat("f"); got != want {
		t.Errorf("after a restart the file is %+v, want %+v", got, want)
	}
	w.end()
}

func TestPitfall96LockedFilesAreNotRemoved(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	s.mkdir("d", 0777)
	s.put("d/lock", ninep.DMEXCL|0666, "")
	f := s.open("d/lock", ninep.ORDWR)
	refused(t, "remove", bob.removeErr("d/lock"), elocked)
	_, err := bob.openErr("d/lock", ninep.OREAD)
	refused(t, "open", err, elocked)
	// To walk there, and to look at it, is not to use it.
	other := bob.walk("d/lock")
	other.stat()
	f.write("x", 0)
	f.clunk()
	f = bob.open("d/lock", ninep.OREAD)
	refused(t, "open again", other.Open(ninep.OREAD), elocked)
	if got := f.read(); got != "x" {
		t.Errorf("read %q", got)
	}
	// The holder may remove it, and hanging up is to let go.
	f.must("remove", f.Remove())
	f = bob.create("d/lock", ninep.DMEXCL|0666, ninep.ORDWR)
	bob.hangUp()
	for try := 0; ; try++ {
		if f, err = s.openErr("d/lock", ninep.OREAD); err == nil {
			break
		}
		if try == 1000 {
			t.Fatalf("still locked after a hang-up: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	f.clunk()
	w.end()
}

func TestPitfall97NamesHaveALimit(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	for n := 240; n < 260; n++ {
		name := strings.Repeat("é", n/2) + strings.Repeat("n", n%2)
		f, err := s.createErr(name, 0644, ninep.OWRITE)
		if n > 244 {
			refused(t, fmt.Sprintf("create a name of %d bytes", n), err, elength)
			refused(t, fmt.Sprintf("rename to %d bytes", n), s.wstatErr("last", func(d *ninep.Dir) { d.Name = name }), elength)
			continue
		}
		s.must("create", err)
		f.write(name, 0)
		f.wstat(func(d *ninep.Dir) { d.Name = "last" })
		f.wstat(func(d *ninep.Dir) { d.Name = name })
		if d := s.stat(name); d.Name != name || d.Length != uint64(n) {
			t.Errorf("name of %d bytes: %+v", n, d)
		}
		f.clunk()
		if n < 244 {
			s.remove(name)
		} else {
			s.wstat(name, func(d *ninep.Dir) { d.Name = "last" })
		}
	}
	w.end()
}

func TestPitfall98TwoRenamesThroughOneFid(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	s.put("d/a", 0644, "text")
	f, g := s.walk("d/a"), s.walk("d/a")
	for i := range 5 {
		name := strings.Repeat(fmt.Sprint(i), 40*i+1)
		f.wstat(func(d *ninep.Dir) { d.Name = name })
		if a, b := f.stat(), g.stat(); a.Name != name || b != a {
			t.Errorf("after rename %d: %+v and %+v", i, a, b)
		}
		if got := s.list("d"); !slices.Equal(got, []string{name}) {
			t.Errorf("after rename %d the directory has %q", i, got)
		}
		if got := s.get("d/" + name); got != "text" {
			t.Errorf("after rename %d the file has %q", i, got)
		}
		f, g = g, f
	}
	w.end()
}

func TestPitfall100RecordsThatDoNotFitComeNext(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	var want []string
	for i := range 50 {
		name := strings.Repeat("n", 1+i*4) + fmt.Sprint(i)
		s.put("d/"+name, 0644, "")
		want = append(want, name)
	}
	slices.SortFunc(want, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	for _, count := range []uint32{300, 301, 317, 500, 1000, 8192} {
		f := s.open("d", ninep.OREAD)
		var got []string
		for off := uint64(0); ; {
			r, err := s.raw(&proto.TRead{Fid: f.Num(), Offset: off, Count: count})
			s.must("read", err)
			if len(r.Rread.Data) == 0 {
				break
			}
			dirs, err := ninep.DecodeDirs(r.Rread.Data)
			s.must("decode", err)
			for _, d := range dirs {
				got = append(got, d.Name)
			}
			off += uint64(len(r.Rread.Data))
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d bytes: %d names, want %d in the order of keys", count, len(got), len(want))
		}
		f.clunk()
	}
	// A record that can never fit is an error, and no end.
	f := s.open("d", ninep.OREAD)
	_, err := s.raw(&proto.TRead{Fid: f.Num(), Count: 20})
	refused(t, "read of 20 bytes", err, ebotch)
	r, err := s.raw(&proto.TRead{Fid: f.Num(), Count: 200})
	if err != nil || len(r.Rread.Data) == 0 {
		t.Errorf("after that, %d bytes, %v", len(r.Rread.Data), err)
	}
	w.end()
}

func TestPitfall101FsyncIsAnsweredEverywhere(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("f", 0444, "text")
	w.snapshot("main", "old", false)
	check := func(w *world) {
		t.Helper()
		for _, name := range []string{"", "old", "empty", "dump"} {
			s := w.as("glenda", name)
			for range 3 {
				s.must("fsync of "+name, s.root.Fsync())
			}
		}
	}
	check(w)
	// A record with nothing but ignored fields is not one of these, and changes nothing.
	before := s.stat("f")
	for _, change := range []func(*ninep.Dir){
		func(d *ninep.Dir) { d.Atime = 5 },
		func(d *ninep.Dir) { d.Muid = "bob" },
		func(d *ninep.Dir) { d.Type, d.Dev = 0, 0 },
	} {
		s.wstat("f", change)
	}
	if got := s.stat("f"); got != before {
		t.Errorf("the file is %+v, was %+v", got, before)
	}
	w.stop()
	w.opt.ReadOnly = true
	w.start()
	check(w)
	w.end()
}

func TestPitfall102DumpIsADirectoryOfDirectories(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "dump")
	w.snapshot("main", "snap", false)
	d, err := s.root.Stat()
	s.must("stat", err)
	if d.Mode != ninep.DMDIR|0555 || d.Qid.Qtype != ninep.QTDIR || d.Uid != "adm" || d.Name != "/" {
		t.Errorf("the dump directory is %+v", d)
	}
	if got := s.list("/"); !slices.Equal(got, []string{"adm", "empty", "main", "snap"}) {
		t.Errorf("it lists %q", got)
	}
	main := w.as("glenda", "")
	main.mkdir("a", 0755)
	main.mkdir("a/b", 0755)
	top := s.root.Qid()
	for _, tt := range []struct {
		path string
		want ninep.Qid
	}{
		{"main/..", top},
		{"main/../..", top},
		{"main/a/../..", top},
		{"main/a/b/../../..", top},
		{"main/a/b/..", main.walk("a").Qid()},
		{"main/a/b/../..", main.walk("/").Qid()},
		{"main/../empty/../main/a", main.walk("a").Qid()},
	} {
		if q := s.walk(tt.path).Qid(); q.Uid != tt.want.Uid || q.Qtype != tt.want.Qtype {
			t.Errorf("%s is %v, want %v", tt.path, q, tt.want)
		}
	}
	w.end()
}

func TestPitfall104RemoveOfWhatGoesOnClose(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	f := s.create("f", 0644, ninep.OWRITE|ninep.ORCLOSE)
	f.write("x", 0)
	f.must("remove", f.Remove())
	_, err := s.walkErr("f")
	refused(t, "walk", err, enotfound)
	// Two who both mean to, and one who did before.
	s.put("g", 0644, "")
	a, b := s.open("g", ninep.OREAD|ninep.ORCLOSE), s.open("g", ninep.OREAD|ninep.ORCLOSE)
	a.clunk()
	b.clunk()
	s.put("h", 0644, "")
	a = s.open("h", ninep.OREAD|ninep.ORCLOSE)
	s.remove("h")
	s.put("h", 0644, "another")
	a.clunk()
	if got := s.get("h"); got != "another" {
		t.Errorf("read %q", got)
	}
	w.end()
}

func TestPitfall105VersionClunksAllFids(t *testing.T) {
	w := newWorld(t)
	main := w.as("glenda", "")
	main.put("keep", 0644, "")
	steps := []proto.FCall{
		&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: ninep.Version},
		&proto.TAttach{Fid: 1, Afid: ninep.NOFID, Uname: "glenda"},
		&proto.TWalk{Fid: 1, Newfid: 2},
		&proto.TCreate{Fid: 2, Name: "gone", Perm: 0644, Mode: ninep.OWRITE | ninep.ORCLOSE},
		&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: ninep.Version},
		&proto.TStat{Fid: 1},
	}
	p := gefstest.Play(t, w.fs)
	var last ninep.Fcall
	for i, m := range steps {
		frame, err := ninep.Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		r := p.Send(&gefstest.Step{Case: 105, Step: i, Conn: 1, T: frame})
		if err := last.Decode(r); err != nil {
			t.Fatal(err)
		}
		if i < len(steps)-1 && last.Type == ninep.Rerror {
			t.Fatalf("step %d: %s", i, last.Rerror.Ename)
		}
	}
	if last.Type != ninep.Rerror || last.Rerror.Ename != efid {
		t.Errorf("stat after a second version: %s", ninep.Format(last.Msg()))
	}
	if got := main.list("/"); !slices.Equal(got, []string{"keep"}) {
		t.Errorf("there is %q", got)
	}
	p.Stop()
	w.end()
}
