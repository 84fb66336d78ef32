package gefs_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/blkdev"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// A linux is somebody's mount on a Linux machine.
type linux struct {
	*ninetest.Linux
	t    *testing.T
	root uint32
}

func (w *world) linux(uname, aname string) *linux {
	w.t.Helper()
	l := &linux{Linux: ninetest.NewLinux(w.t, w.srv.Pipe(), 64<<10), t: w.t}
	var err error
	if l.root, err = l.Attach(uname, aname, ninep.NOUID); err != nil {
		w.t.Fatalf("attach as %s: %v", uname, err)
	}
	return l
}

// is fails the test if err is not want.
func (l *linux) is(what string, err, want error) {
	l.t.Helper()
	if err != want {
		l.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (l *linux) must(what string, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

// at walks to a path.
func (l *linux) at(p string) uint32 {
	l.t.Helper()
	var names []string
	if p != "" {
		names = strings.Split(p, "/")
	}
	f := l.root
	for first := true; first || len(names) > 0; first = false {
		n := min(len(names), ninep.MaxWalk)
		next, err := l.Walk(f, names[:n]...)
		l.must("walk "+p, err)
		if !first {
			l.Clunk(f)
		}
		f, names = next, names[n:]
	}
	return f
}

func (l *linux) mkdir(p, name string) error {
	l.t.Helper()
	d := l.at(p)
	defer l.Clunk(d)
	_, err := l.RPC(ninep.Tmkdir, &ninep.LMkdir{Dfid: d, Name: name, Mode: 0755})
	return err
}

// create makes a file and leaves it open for reading and writing.
func (l *linux) create(p, name, text string) uint32 {
	l.t.Helper()
	f := l.at(p)
	_, err := l.RPC(ninep.Tlcreate, &ninep.LCreate{Fid: f, Name: name, Flags: ninep.ORDWR | ninep.OCreat | ninep.OExcl, Mode: 0644})
	l.must("create "+name, err)
	if text != "" {
		l.must("write "+name, l.Write(f, 0, text))
	}
	return f
}

func (l *linux) put(p, name, text string) {
	l.t.Helper()
	l.Clunk(l.create(p, name, text))
}

func (l *linux) rename(from, name, to, newname string) error {
	l.t.Helper()
	a, b := l.at(from), l.at(to)
	defer l.Clunk(a)
	defer l.Clunk(b)
	_, err := l.RPC(ninep.Trenameat, &ninep.LRenameat{Olddir: a, Oldname: name, Newdir: b, Newname: newname})
	return err
}

func (l *linux) unlink(p, name string, flags uint32) error {
	l.t.Helper()
	d := l.at(p)
	defer l.Clunk(d)
	_, err := l.RPC(ninep.Tunlinkat, &ninep.LUnlinkat{Dfid: d, Name: name, Flags: flags})
	return err
}

func (l *linux) attr(fid uint32) *ninep.LAttr {
	l.t.Helper()
	m, err := l.RPC(ninep.Tgetattr, &ninep.LGetattr{Fid: fid, Mask: 0x7ff})
	l.must("getattr", err)
	return m.(*ninep.LAttr)
}

func (l *linux) setattr(fid uint32, s ninep.LSetattr) error {
	l.t.Helper()
	s.Fid = fid
	_, err := l.RPC(ninep.Tsetattr, &s)
	return err
}

func (l *linux) dirents(fid uint32, off uint64, count uint32) []ninep.Dirent {
	l.t.Helper()
	m, err := l.RPC(ninep.Treaddir, &ninep.LReaddir{Fid: fid, Offset: off, Count: count})
	l.must("readdir", err)
	list, err := ninep.DecodeDirents(m.(*ninep.LEntries).Data)
	l.must("readdir", err)
	return list
}

// list returns all names in a directory in order, without the dots, asking for count bytes at a time.
func (l *linux) list(p string, count uint32) []string {
	l.t.Helper()
	d := l.at(p)
	defer l.Clunk(d)
	_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: d, Flags: ninep.ODirectory})
	l.must("open "+p, err)
	var names []string
	for off := uint64(0); ; {
		ents := l.dirents(d, off, count)
		if len(ents) == 0 {
			break
		}
		for _, e := range ents {
			names, off = append(names, e.Name), e.Next
		}
	}
	if len(names) < 2 || names[0] != "." || names[1] != ".." {
		l.t.Fatalf("%s lists %q", p, names)
	}
	slices.Sort(names[2:])
	return names[2:]
}

func (l *linux) same(what string, got, want []string) {
	l.t.Helper()
	if !slices.Equal(got, want) {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestLinuxMovesFilesAndDirectoriesBetweenDirectories(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	for _, p := range [][2]string{{"", "a"}, {"", "b"}, {"a", "sub"}, {"a/sub", "deep"}, {"b", "empty"}, {"b", "full"}, {"b/full", "x"}} {
		l.must("mkdir", l.mkdir(p[0], p[1]))
	}
	l.put("a", "f", "one")
	l.put("b", "g", "two")
	l.put("a/sub/deep", "leaf", "leaf")

	// Fids that were walked there before go along.
	moved, below := l.at("a/f"), l.at("a/sub/deep")
	var steps = []struct {
		from, name, to, newname string
		want                    error
	}{
		{"a", "f", "b", "h", nil},
		{"a", "f", "b", "h", ninep.ENOENT},
		{"b", "h", "b", "h", nil},
		{"b", "h", "b", "g", nil}, // replaces
		{"a", "sub", "a/sub", "x", ninep.EINVAL},
		{"a", "sub", "a/sub/deep", "x", ninep.EINVAL},
		{"", "a", "a/sub/deep", "x", ninep.EINVAL},
		{"a", "sub", "b", "g", ninep.ENOTDIR},
		{"b", "g", "b", "empty", ninep.EISDIR},
		{"a", "sub", "b", "full", ninep.ENOTEMPTY},
		{"a", "sub", "b", "empty", nil}, // replaces
		{"b", "g", "b/g", "x", ninep.ENOTDIR},
		{"b", "g", "a", "..", ninep.EINVAL},
		{"b", "g", "a", "x/y", ninep.EINVAL},
		{"b", "g", "a", strings.Repeat("n", 300), ninep.ENAMETOOLONG},
		{"b", ".", "a", "x", ninep.EINVAL},
	}
	for _, s := range steps {
		l.is(fmt.Sprintf("%s/%s to %s/%s", s.from, s.name, s.to, s.newname), l.rename(s.from, s.name, s.to, s.newname), s.want)
	}
	l.same("a", l.list("a", 4096), []string{})
	l.same("b", l.list("b", 4096), []string{"empty", "full", "g"})
	l.same("b/empty/deep", l.list("b/empty/deep", 4096), []string{"leaf"})

	// ".." of what was moved is where it is now.
	up, err := l.Walk(below, "..", "..")
	l.must("walk up", err)
	if got, want := l.attr(up).Qid.Uid, l.attr(l.at("b")).Qid.Uid; got != want {
		t.Errorf("two above the moved directory is %#x, want b, %#x", got, want)
	}
	// And to be removed by an old fid it must be looked for there.
	before := l.attr(l.at("b")).Qid.Vers
	if _, err := l.Common(&proto.TRemove{Fid: moved}); err != nil {
		t.Errorf("remove by a fid from before the move: %v", err)
	}
	if l.attr(l.at("b")).Qid.Vers == before {
		t.Error("the directory it was removed from has not changed")
	}
	l.same("b", l.list("b", 4096), []string{"empty", "full"})
	l.Close()
	w.end()
	w.start()
	l = w.linux("glenda", "")
	l.same("b/empty/deep after a restart", l.list("b/empty/deep", 4096), []string{"leaf"})
	// Trename, by the file.
	f, d := l.at("b/empty/deep/leaf"), l.at("")
	_, err = l.RPC(ninep.Trename, &ninep.LRename{Fid: f, Dfid: d, Name: "top"})
	l.must("Trename", err)
	if up, err = l.Walk(f, ".."); err != ninep.ENOENT { // a file is no directory
		t.Errorf("walk up from a file: %v", err)
	}
	_, err = l.RPC(ninep.Trename, &ninep.LRename{Fid: d, Dfid: d, Name: "root"})
	l.is("rename of the root", err, ninep.EBUSY)
	l.Close()
	w.end()
}

func TestMovesNeedPermissionInBothDirectories(t *testing.T) {
	w := newWorld(t)
	g := w.as("glenda", "")
	g.mkdir("open", ninep.DMDIR|0777)
	g.mkdir("closed", ninep.DMDIR|0755)
	g.put("open/f", 0666, "x")
	g.put("closed/f", 0666, "x")
	b := w.linux("bob", "")
	b.is("out of a closed one", b.rename("closed", "f", "open", "g"), ninep.EACCES)
	b.is("into a closed one", b.rename("open", "f", "closed", "g"), ninep.EACCES)
	b.is("onto a file in a closed one", b.rename("open", "f", "closed", "f"), ninep.EACCES)
	b.is("remove from a closed one", b.unlink("closed", "f", 0), ninep.EACCES)
	b.is("inside an open one", b.rename("open", "f", "open", "g"), nil)
	f := b.at("open/g")
	b.is("chmod", b.setattr(f, ninep.LSetattr{Valid: ninep.SetMode, Mode: 0777}), ninep.EPERM)
	b.is("chown", b.setattr(f, ninep.LSetattr{Valid: ninep.SetUid, Uid: 3}), ninep.EPERM)
	b.is("chown to who has it", b.setattr(f, ninep.LSetattr{Valid: ninep.SetUid, Uid: 1}), nil)
	b.is("a time", b.setattr(f, ninep.LSetattr{Valid: ninep.SetMtime | ninep.SetMtimeSet}), ninep.EPERM)
	b.is("now, for who can write", b.setattr(f, ninep.LSetattr{Valid: ninep.SetMtime | ninep.SetAtime}), nil)
	b.Close()
	g.hangUp()
	w.end()
}

func TestRemovedFilesThatAreOpenStay(t *testing.T) {
	for _, size := range []int{0, 10, 100 << 10, 3 << 20} {
		for _, how := range []string{"unlink", "rename", "remove"} {
			t.Run(fmt.Sprintf("%s of %d bytes", how, size), func(t *testing.T) {
				w := newWorld(t)
				l := w.linux("glenda", "")
				text := strings.Repeat("0123456789", size/10)
				f := l.at("")
				_, err := l.RPC(ninep.Tlcreate, &ninep.LCreate{Fid: f, Name: "f", Flags: ninep.ORDWR | ninep.OCreat, Mode: 0600})
				l.must("create", err)
				for off := 0; off < len(text); off += 60000 {
					l.must("write", l.Write(f, uint64(off), text[off:min(len(text), off+60000)]))
				}
				switch how {
				case "unlink":
					l.must(how, l.unlink("", "f", 0))
				case "rename":
					l.put("", "g", "another")
					l.must(how, l.rename("", "g", "", "f"))
				case "remove":
					_, err := l.Common(&proto.TRemove{Fid: l.at("f")})
					l.must(how, err)
				}
				// A new file of the same name is another file.
				if how != "rename" {
					l.put("", "f", "new")
				}
				w.snapshot("main", "between", false)
				if got, err := l.Read(f, uint64(len(text)/2), 1000); err != nil || got != text[len(text)/2:min(len(text), len(text)/2+1000)] {
					t.Errorf("read after it: %q, %v", got, err)
				}
				l.must("write", l.Write(f, uint64(len(text)), "more"))
				a := l.attr(f)
				if a.Size != uint64(len(text)+4) || a.Nlink != 0 {
					t.Errorf("size %d, links %d", a.Size, a.Nlink)
				}
				l.must("truncate", l.setattr(f, ninep.LSetattr{Valid: ninep.SetSize, Size: uint64(len(text) / 2)}))
				l.must("write", l.Write(f, uint64(len(text)), "end"))
				for off := len(text) / 2; off < len(text)+3; off += 50000 {
					got, err := l.Read(f, uint64(off), 50000)
					want := ""
					if off+50000 >= len(text)+3 {
						want = "end"
					}
					if err != nil || strings.Trim(got, "\x00") != want {
						t.Errorf("after truncation and a write: at %d %.100q, %v", off, got, err)
					}
				}
				other := l.at("f")
				if size := l.attr(other).Size; size != 3 && size != 7 {
					t.Errorf("the new file has %d bytes", size)
				}
				_, err = l.RPC(ninep.Tfsync, &ninep.LFsync{Fid: f})
				l.must("fsync", err)
				l.Clunk(f)
				l.Close()
				w.end()
			})
		}
	}
}

func TestACrashEndsRemovedFilesThatAreOpen(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	f := l.create("", "f", strings.Repeat("x", 60000))
	l.must("unlink", l.unlink("", "f", 0))
	l.must("write", l.Write(f, 60000, strings.Repeat("y", 50000)))
	w.sync()
	cut := w.dev.(*blkdev.Mem).Clone()
	gefstest.CheckStrict(t, cut)
	l.must("read", func() error { _, err := l.Read(f, 0, 10); return err }())
	l.Close()
	w.end()

	// What has the data is the record, and the next mount clears by it.
	w = newWorldOn(t, cut, gefs.Options{})
	l = w.linux("glenda", "")
	l.same("after the crash", l.list("", 4096), []string{})
	l.Close()
	w.end()
	if rep := gefstest.CheckStrict(t, cut); rep.ByKind[check.Clearing] != 0 {
		// The sweeper may have been stopped by the end; then the second mount must finish it.
		w = newWorldOn(t, cut, gefs.Options{})
		l = w.linux("glenda", "")
		for range 100 {
			l.list("", 4096)
		}
		w.sync()
		l.Close()
		w.end()
		if rep := gefstest.CheckStrict(t, cut); rep.ByKind[check.Clearing] != 0 {
			t.Errorf("not cleared: %s", gefstest.Text(rep))
		}
	}
}

var linuxSeed = flag.Uint64("linux.seed", 0, "seed of the random moves; 0 takes the time")

// TestRandomMovesAreThoseOfAModel moves, makes and removes files and directories at random, in this file
// system and in a map of paths, whose rules are a few lines. Every disk on the way must be sound.
func TestRandomMovesAreThoseOfAModel(t *testing.T) {
	seed := *linuxSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-linux.seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	l := w.linux("glenda", "")
	model := map[string]bool{"": true} // whether it is a directory
	pick := func(dir bool) string {
		var all []string
		for p, d := range model {
			if d || !dir {
				all = append(all, p)
			}
		}
		slices.Sort(all)
		return all[r.IntN(len(all))]
	}
	name := func() string { return string(rune('a' + r.IntN(5))) }
	join := func(d, n string) string { return strings.TrimPrefix(d+"/"+n, "/") }
	below := func(p string) (list []string) {
		for q := range model {
			if strings.HasPrefix(q, p+"/") {
				list = append(list, q)
			}
		}
		return list
	}
	for step := range 600 {
		d, n := pick(true), name()
		p := join(d, n)
		isDir, there := model[p]
		switch op := r.IntN(10); {
		case op < 2 && !there:
			l.must("mkdir", l.mkdir(d, n))
			model[p] = true
		case op < 4 && !there:
			l.put(d, n, p)
			model[p] = false
		case op == 4:
			flags, want := uint32(0), error(nil)
			if r.IntN(2) == 0 {
				flags = ninep.AtRemoveDir
			}
			switch {
			case !there:
				want = ninep.ENOENT
			case flags == 0 && isDir:
				want = ninep.EISDIR
			case flags != 0 && !isDir:
				want = ninep.ENOTDIR
			case len(below(p)) > 0:
				want = ninep.ENOTEMPTY
			default:
				delete(model, p)
			}
			if err := l.unlink(d, n, flags); err != want {
				t.Fatalf("step %d: unlink %s: %v, want %v", step, p, err, want)
			}
		default:
			to, newname := pick(true), name()
			q := join(to, newname)
			qDir, qThere := model[q]
			var want error
			switch {
			case !there:
				want = ninep.ENOENT
			case isDir && (to == p || strings.HasPrefix(to, p+"/")):
				want = ninep.EINVAL
			case p == q:
			case qThere && isDir && !qDir:
				want = ninep.ENOTDIR
			case qThere && !isDir && qDir:
				want = ninep.EISDIR
			case qThere && len(below(q)) > 0:
				want = ninep.ENOTEMPTY
			default:
				for _, x := range below(p) {
					model[q+x[len(p):]] = model[x]
					delete(model, x)
				}
				delete(model, p)
				model[q] = isDir
			}
			if err := l.rename(d, n, to, newname); err != want {
				t.Fatalf("step %d: rename %s to %s: %v, want %v", step, p, q, err, want)
			}
		}
		if step%100 == 99 {
			w.sync()
			gefstest.CheckStrict(t, w.dev.(*blkdev.Mem).Clone())
		}
		if step%300 == 299 {
			l.Close()
			w.restart()
			l = w.linux("glenda", "")
		}
	}
	for p, isDir := range model {
		if !isDir {
			continue
		}
		var want []string
		for q := range model {
			if q != "" && strings.TrimPrefix(path.Dir("/"+q), "/") == p {
				want = append(want, path.Base(q))
			}
		}
		slices.Sort(want)
		if got := l.list(p, 4096); !slices.Equal(got, want) {
			t.Errorf("%q lists %q, want %q", p, got, want)
		}
	}
	l.Close()
	w.end()
}

func TestLinuxDirectoriesGoOnFromEveryOffset(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	l.must("mkdir", l.mkdir("", "d"))
	var want []string
	for i := range 300 {
		n := fmt.Sprintf("entry%03d", i)
		l.put("d", n, "")
		want = append(want, n)
	}
	for _, count := range []uint32{40, 100, 1000, 60000} {
		l.same(fmt.Sprintf("%d bytes at a time", count), l.list("d", count), want)
	}
	d := l.at("d")
	_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: d})
	l.must("open", err)
	var all []ninep.Dirent
	for off := uint64(0); ; off = all[len(all)-1].Next {
		ents := l.dirents(d, off, 999)
		if len(ents) == 0 {
			break
		}
		all = append(all, ents...)
	}
	if len(all) != 302 || all[0].Type != ninep.DTDir || all[2].Type != ninep.DTReg {
		t.Fatalf("%d entries: %v", len(all), all[:3])
	}
	for _, i := range []int{301, 5, 0, 1, 150, 149, 33, 299, 100} {
		e := l.dirents(d, all[i].Next, 200)
		if i == 301 {
			if len(e) != 0 {
				t.Errorf("behind the end: %v", e)
			}
			continue
		}
		if len(e) == 0 || e[0] != all[i+1] {
			t.Errorf("behind entry %d: %v, want %v", i, e, all[i+1])
		}
	}
	_, err = l.RPC(ninep.Treaddir, &ninep.LReaddir{Fid: d, Count: 10})
	l.is("no room for an entry", err, ninep.EINVAL)
	// What was given is not needed any more to go on.
	for _, n := range want[:200] {
		l.must("unlink", l.unlink("d", n, 0))
	}
	if e := l.dirents(d, all[301].Next, 200); len(e) != 0 {
		t.Errorf("behind the end: %v", e)
	}
	l.same("the rest", l.list("d", 500), want[200:])
	l.Close()
	w.end()
}

func TestLinuxAttributes(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	f := l.create("", "f", "hello")
	ns := ninep.LTime{Sec: 1234567890, Nsec: 123456789}
	l.must("setattr", l.setattr(f, ninep.LSetattr{
		Valid: ninep.SetMode | ninep.SetAtime | ninep.SetAtimeSet | ninep.SetMtime | ninep.SetMtimeSet | ninep.SetGid,
		Mode:  0104751, Gid: 4, Atime: ninep.LTime{Sec: 5, Nsec: 7}, Mtime: ns,
	}))
	a := l.attr(f)
	if a.Mode != 0100751 || a.Uid != 1 || a.Gid != 4 || a.Mtime != ns || a.Ctime != ns || a.Atime != (ninep.LTime{Sec: 5, Nsec: 7}) ||
		a.Size != 5 || a.Blks != 32 || a.Nlink != 1 || a.Valid != 0x7ff {
		t.Errorf("%+v", a)
	}
	if a := l.attr(l.root); a.Mode&ninep.SIfmt != ninep.SIfdir || a.Qid.Qtype != ninep.QTDIR {
		t.Errorf("root: %+v", a)
	}
	l.is("a group of which one is no member", l.setattr(f, ninep.LSetattr{Valid: ninep.SetGid, Gid: 5}), ninep.EPERM)
	l.is("a group that nobody knows", l.setattr(f, ninep.LSetattr{Valid: ninep.SetGid, Gid: 77}), ninep.EPERM)
	l.is("an owner", l.setattr(f, ninep.LSetattr{Valid: ninep.SetUid, Uid: 2}), ninep.EPERM)
	l.is("a negative size", l.setattr(f, ninep.LSetattr{Valid: ninep.SetSize, Size: 1 << 63}), ninep.EFBIG)
	l.is("a directory's size", l.setattr(l.root, ninep.LSetattr{Valid: ninep.SetSize}), ninep.EISDIR)
	l.is("unknown bits", l.setattr(f, ninep.LSetattr{Valid: 1 << 20}), ninep.EINVAL)
	l.is("a time out of range", l.setattr(f, ninep.LSetattr{Valid: ninep.SetMtime | ninep.SetMtimeSet, Mtime: ninep.LTime{Sec: 1 << 62}}), ninep.EINVAL)
	l.is("half a second too much", l.setattr(f, ninep.LSetattr{Valid: ninep.SetMtime | ninep.SetMtimeSet, Mtime: ninep.LTime{Nsec: 1e9}}), ninep.EINVAL)

	// Without permission checks files can be given away.
	p := w.linux("glenda", "%main")
	g := p.at("f")
	p.must("chown", p.setattr(g, ninep.LSetattr{Valid: ninep.SetUid | ninep.SetGid, Uid: 2, Gid: 5}))
	if a := p.attr(g); a.Uid != 2 || a.Gid != 5 {
		t.Errorf("given away: %+v", a)
	}

	m, err := l.RPC(ninep.Tstatfs, &ninep.LFid{Fid: l.root})
	l.must("statfs", err)
	s := m.(*ninep.LStatfs)
	if s.Bsize != 16384 || s.Blocks == 0 || s.Bfree > s.Blocks || s.Bavail > s.Bfree || s.Bavail == 0 || s.Namelen != 244 || s.Type != ninep.StatfsMagic {
		t.Errorf("statfs: %+v", s)
	}
	p.Close()
	l.Close()
	w.end()
}

func TestLinuxOpensAndCreates(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	l.put("", "f", "hello")
	l.must("mkdir", l.mkdir("", "d"))
	create := func(name string, flags uint32) (uint32, error) {
		f := l.at("")
		_, err := l.RPC(ninep.Tlcreate, &ninep.LCreate{Fid: f, Name: name, Flags: flags | ninep.OCreat, Mode: 0646})
		return f, err
	}
	open := func(p string, flags uint32) (uint32, error) {
		f := l.at(p)
		_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: f, Flags: flags})
		return f, err
	}
	f, err := create("f", ninep.ORDWR)
	l.must("create what is there", err)
	if got, err := l.Read(f, 0, 100); got != "hello" || err != nil {
		t.Errorf("it holds %q, %v", got, err)
	}
	_, err = create("f", ninep.ORDWR|ninep.OExcl)
	l.is("alone", err, ninep.EEXIST)
	_, err = create("d", ninep.ORDWR)
	l.is("a directory", err, ninep.EISDIR)
	if f, err = create("f", ninep.OWRITE|ninep.OTrunc); err != nil || l.attr(f).Size != 0 {
		t.Errorf("create to be truncated: %v, %d bytes", err, l.attr(f).Size)
	}
	if f, err = create("new", ninep.OWRITE); err != nil || l.attr(f).Mode != 0100646 {
		t.Errorf("create: %v, mode %o", err, l.attr(f).Mode)
	}
	_, err = l.Read(f, 0, 10)
	l.is("read of what is open for writing", err, ninep.EBADF)
	_, err = create("x/y", ninep.OWRITE)
	l.is("a bad name", err, ninep.EINVAL)
	_, err = open("d", ninep.OWRITE)
	l.is("write a directory", err, ninep.EISDIR)
	_, err = open("f", ninep.ODirectory)
	l.is("a file for a directory", err, ninep.ENOTDIR)
	_, err = open("f", 3)
	l.is("no mode", err, ninep.EINVAL)
	_, err = l.Walk(l.root, "nothing")
	l.is("walk", err, ninep.ENOENT)
	f, err = open("f", ninep.ORDWR)
	l.must("open", err)
	g, err := l.Walk(f)
	l.must("a second fid of an open one", err)
	if l.attr(g).Qid != l.attr(f).Qid {
		t.Error("it is another file")
	}
	_, err = l.RPC(ninep.Tmknod, &ninep.LMknod{Dfid: l.root, Name: "node", Mode: ninep.SIfreg | 0600})
	l.must("mknod of a file", err)
	_, err = l.RPC(ninep.Tmknod, &ninep.LMknod{Dfid: l.root, Name: "fifo", Mode: 0010600})
	l.is("mknod of a fifo", err, ninep.EOPNOTSUPP)
	for typ, m := range map[uint8]ninep.LinuxMsg{
		ninep.Tsymlink:     &ninep.LSymlink{Fid: l.root, Name: "s", Target: "f"},
		ninep.Tlink:        &ninep.LLink{Dfid: l.root, Fid: g, Name: "l"},
		ninep.Treadlink:    &ninep.LFid{Fid: g},
		ninep.Txattrwalk:   &ninep.LXattrwalk{Fid: g, Newfid: l.Fid(), Name: "user.x"},
		ninep.Txattrcreate: &ninep.LXattrcreate{Fid: g, Name: "user.x", Size: 1},
	} {
		_, err := l.RPC(typ, m)
		l.is(fmt.Sprintf("message type %d", typ), err, ninep.EOPNOTSUPP)
	}
	_, err = l.Common(&proto.TStat{Fid: g})
	l.is("Tstat", err, ninep.EOPNOTSUPP)
	_, err = l.RPC(ninep.Tgetattr, &ninep.LGetattr{Fid: 9999})
	l.is("no fid", err, ninep.EBADF)

	// The dump directory, and snapshots, which do not change.
	w.snapshot("main", "old", false)
	dump := w.linux("glenda", "dump")
	names := dump.list("", 200)
	if !slices.Contains(names, "old") || !slices.Contains(names, "main") {
		t.Errorf("dump lists %q", names)
	}
	dump.is("mkdir in it", dump.mkdir("", "x"), ninep.EROFS)
	dump.is("mkdir in a snapshot", dump.mkdir("old", "x"), ninep.EROFS)
	dump.is("rename in a snapshot", dump.rename("old", "f", "old", "g"), ninep.EROFS)
	dump.is("rename to another snapshot", dump.rename("main", "f", "old", "g"), ninep.EXDEV)
	dump.is("unlink in a snapshot", dump.unlink("old", "f", 0), ninep.EROFS)
	dump.Close()
	l.Close()
	w.end()
}

type ids map[string]uint32

func (m ids) Number(name string) (uint32, bool) { n, ok := m[name]; return n, ok }
func (m ids) Name(id uint32) (string, bool) {
	for name, n := range m {
		if n == id {
			return name, true
		}
	}
	return "", false
}

func TestLinuxUsersHaveTheirNumbers(t *testing.T) {
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{IDs: ids{"glenda": 1000, "sys": 50, "daemon": 2}})
	l := w.linux("glenda", "")
	l.put("", "f", "x")
	f := l.at("f")
	if a := l.attr(f); a.Uid != 1000 {
		t.Errorf("glenda's file belongs to %d", a.Uid)
	}
	l.must("chgrp", l.setattr(f, ninep.LSetattr{Valid: ninep.SetGid, Gid: 50}))
	if a := l.attr(f); a.Gid != 50 {
		t.Errorf("sys is %d", a.Gid)
	}
	// Number 0 is who attached by name, and none is not number 0.
	root, err := l.Attach("", "", 0)
	l.must("attach as 0", err)
	l.must("make a directory", func() error {
		_, err := l.RPC(ninep.Tmkdir, &ninep.LMkdir{Dfid: root, Name: "made by 0", Mode: 0755})
		return err
	}())
	if a := l.attr(l.at("made by 0")); a.Uid != 1000 {
		t.Errorf("what 0 made belongs to %d", a.Uid)
	}
	g := w.as("glenda", "")
	g.mkdir("open", ninep.DMDIR|0777)
	g.hangUp()
	n := w.linux("none", "")
	n.put("open", "f", "x")
	if a := n.attr(n.at("open/f")); a.Uid != 65534 {
		t.Errorf("the file of none belongs to %d", a.Uid)
	}
	if _, err := n.Attach("", "", 0); err != nil {
		t.Errorf("attach as 0 beside none: %v", err)
	}
	n.Close()
	for _, x := range []struct {
		id   uint32
		want error
	}{{1000, nil}, {2, nil}, {1, ninep.EACCES}, {4000000000, ninep.EACCES}, {12345, ninep.EACCES}} {
		_, err := l.Attach("", "", x.id)
		l.is(fmt.Sprintf("attach as %d", x.id), err, x.want)
	}
	l.Close()
	w.end()
}

func TestLinuxLocks(t *testing.T) {
	w := newWorld(t)
	a, b := w.linux("glenda", ""), w.linux("glenda", "")
	a.put("", "f", "x")
	lock := func(l *linux, fid uint32, proc uint32, typ uint8, start, length uint64) uint8 {
		t.Helper()
		m, err := l.RPC(ninep.Tlock, &ninep.LLock{Fid: fid, Type: typ, Start: start, Length: length, Proc: proc, Client: "host"})
		l.must("lock", err)
		return m.(*ninep.LLocked).Status
	}
	fa, fa2, fb := a.at("f"), a.at("f"), b.at("f")
	for i, s := range []struct {
		l             *linux
		fid, proc     uint32
		typ           uint8
		start, length uint64
		want          uint8
	}{
		{a, fa, 1, ninep.LockWrite, 0, 10, ninep.LockSuccess},
		{a, fa, 1, ninep.LockWrite, 0, 10, ninep.LockSuccess},
		{a, fa2, 2, ninep.LockRead, 5, 1, ninep.LockBlocked},
		{b, fb, 1, ninep.LockRead, 5, 1, ninep.LockBlocked}, // another client's process 1
		{b, fb, 1, ninep.LockWrite, 10, 0, ninep.LockSuccess},
		{a, fa, 1, ninep.LockUnlock, 3, 4, ninep.LockSuccess},
		{b, fb, 1, ninep.LockRead, 3, 4, ninep.LockSuccess},
		{b, fb, 1, ninep.LockRead, 2, 1, ninep.LockBlocked},
		{a, fa2, 2, ninep.LockRead, 4, 2, ninep.LockSuccess}, // beside another reader
		{b, fb, 1, ninep.LockWrite, 4, 1, ninep.LockBlocked},
		{a, fa, 1, 9, 0, 0, ninep.LockError},
	} {
		if got := lock(s.l, s.fid, s.proc, s.typ, s.start, s.length); got != s.want {
			t.Errorf("lock %d: %d, want %d", i, got, s.want)
		}
	}
	m, err := b.RPC(ninep.Tgetlock, &ninep.LGetlock{Fid: fb, LRange: ninep.LRange{Type: ninep.LockWrite, Start: 0, Length: 2, Proc: 1, Client: "host"}})
	b.must("getlock", err)
	if r := m.(*ninep.LRange); *r != (ninep.LRange{Type: ninep.LockWrite, Length: 3, Proc: 1, Client: "host"}) {
		t.Errorf("in the way: %+v", r)
	}
	// Locks go with their fids.
	a.Clunk(fa)
	if got := lock(b, fb, 1, ninep.LockWrite, 0, 3); got != ninep.LockSuccess {
		t.Errorf("after the clunk: %d", got)
	}
	b.Close()
	deadline := time.Now().Add(10 * time.Second)
	for lock(a, fa2, 2, ninep.LockWrite, 0, 0) != ninep.LockSuccess {
		if time.Now().After(deadline) {
			t.Fatal("locks outlive their connection")
		}
		time.Sleep(time.Millisecond)
	}
	a.Close()
	w.end()
}

// TestEveryRefusalHasANumber reads the texts where they are. Only what is wrong with the disk is EIO.
func TestEveryRefusalHasANumber(t *testing.T) {
	b, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := regexp.MustCompile(`ninep\.Error\("(.*)"\)`).FindAllSubmatch(b, -1)
	if len(texts) < 20 {
		t.Fatalf("%d texts in errors.go: is it still where they are?", len(texts))
	}
	for _, m := range texts {
		text := ninep.Error(m[1])
		damage := text == "block contents corrupted" || text == "i/o error"
		if no := new(gefs.FS).Errno(text); (no == 0) != damage {
			t.Errorf("%q has the number %d", text, no)
		}
	}
}
