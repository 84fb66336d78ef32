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
