package gefs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// TestDirectoryReadsWithExactFit reads with counts of just as many bytes as some records take, and of
// one less and one more.
func TestDirectoryReadsWithExactFit(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	for i := range 40 {
		s.put(fmt.Sprintf("d/%s%02d", strings.Repeat("x", i*3%50), i), 0644, "")
	}
	var sizes []int
	d := s.open("d", ninep.OREAD)
	dirs, err := d.ReadDir()
	s.must("list", err)
	for i := range dirs {
		sizes = append(sizes, dirs[i].Size())
	}
	for k := 1; k <= len(sizes); k++ {
		sum := 0
		for _, n := range sizes[:k] {
			sum += n
		}
		for _, tt := range []struct{ count, want int }{{sum - 1, sum - sizes[k-1]}, {sum, sum}, {sum + 1, sum}} {
			f := s.open("d", ninep.OREAD)
			r, err := s.raw(rawRead(f, 0, uint32(tt.count)))
			if tt.want == 0 {
				refused(t, fmt.Sprintf("read of %d bytes", tt.count), err, ebotch)
			} else if err != nil || len(r.Rread.Data) != tt.want {
				t.Errorf("read of %d bytes: %d, %v; want %d", tt.count, len(r.Rread.Data), err, tt.want)
			} else {
				// The rest follows, each record once.
				got, off := tt.want, uint64(tt.want)
				for {
					r, err := s.raw(rawRead(f, off, 400))
					s.must("read", err)
					if len(r.Rread.Data) == 0 {
						break
					}
					got += len(r.Rread.Data)
					off += uint64(len(r.Rread.Data))
				}
				all := 0
				for _, n := range sizes {
					all += n
				}
				if got != all {
					t.Errorf("after a read of %d bytes %d come in all, want %d", tt.count, got, all)
				}
			}
			f.clunk()
		}
	}
	w.end()
}

// TestDirectoryReadsBeginAgainAtZero reads to the middle and again from the start, and from elsewhere.
func TestDirectoryReadsBeginAgainAtZero(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	for i := range 9 {
		s.put(fmt.Sprint("f", i), 0644, "")
	}
	f := s.open("/", ninep.OREAD)
	read := func(off uint64, count uint32) []byte {
		t.Helper()
		r, err := s.raw(rawRead(f, off, count))
		s.must("read", err)
		return slices.Clone(r.Rread.Data)
	}
	a := read(0, 200)
	b := read(uint64(len(a)), 200)
	for _, off := range []uint64{1, uint64(len(a)), uint64(len(a)+len(b)) + 1, 1 << 40, 1<<64 - 1} {
		_, err := s.raw(rawRead(f, off, 200))
		refused(t, fmt.Sprint("read at ", off), err, escan)
	}
	c := read(uint64(len(a)+len(b)), 200) // the refusals have not moved it
	if got := read(0, 200); !slices.Equal(got, a) {
		t.Error("read from the start again, it begins otherwise")
	}
	if got := read(uint64(len(a)), 200); !slices.Equal(got, b) {
		t.Error("read again, it goes on otherwise")
	}
	if got := read(uint64(len(a)+len(b)), 200); !slices.Equal(got, c) {
		t.Error("read again, it goes on otherwise the second time")
	}
	end := uint64(len(a) + len(b) + len(c))
	for {
		p := read(end, 200)
		if len(p) == 0 {
			break
		}
		end += uint64(len(p))
	}
	if p := read(end, 200); len(p) != 0 {
		t.Errorf("%d bytes behind the end", len(p))
	}
	w.end()
}

// TestDirectoryChangesDuringItsReading removes what was read, what was not, and makes new entries: what
// was there all the time is listed once.
func TestDirectoryChangesDuringItsReading(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	const n = 200
	for i := range n {
		s.put(fmt.Sprintf("d/k%03d", i), 0644, "")
	}
	f := s.open("d", ninep.OREAD)
	seen := make(map[string]int)
	for off, i := uint64(0), 0; ; i++ {
		r, err := s.raw(rawRead(f, off, 700))
		s.must("read", err)
		if len(r.Rread.Data) == 0 {
			break
		}
		off += uint64(len(r.Rread.Data))
		dirs, err := ninep.DecodeDirs(r.Rread.Data)
		s.must("decode", err)
		for _, d := range dirs {
			seen[d.Name]++
		}
		if i > 15 {
			continue // or there will always be more
		}
		last := dirs[len(dirs)-1].Name
		if i%2 == 0 {
			s.remove("d/" + last) // where the reading is
			seen[last] = 1 << 10
		}
		s.put(fmt.Sprintf("d/a%03d", i), 0644, "")
		s.put(fmt.Sprintf("d/z%03d", i), 0644, "")
	}
	for i := range n {
		if got := seen[fmt.Sprintf("k%03d", i)]; got != 1 && got != 1<<10 {
			t.Errorf("entry %d was listed %d times", i, got)
		}
	}
	for name, n := range seen {
		if n > 1 && n != 1<<10 {
			t.Errorf("%s was listed %d times", name, n)
		}
	}
	w.end()
}

// TestDotDot goes up from everywhere, also from where a directory was called otherwise before.
func TestDotDot(t *testing.T) {
	w := newWorld(t)
	s, bob := w.as("glenda", ""), w.as("bob", "")
	for _, p := range []string{"a", "a/b", "a/b/c", "other"} {
		s.mkdir(p, 0755)
	}
	s.put("a/b/c/f", 0755, "")
	old := bob.walk("a/b/c")
	qid := func(p string) uint64 { return s.walk(p).Qid().Uid }
	for _, tt := range []struct{ path, want string }{
		{"..", "/"}, {"../..", "/"}, {"a/..", "/"}, {"a/b/..", "a"}, {"a/b/c/..", "a/b"},
		{"a/b/c/../../..", "/"}, {"a/b/../../other", "other"}, {"a/b/c/../../../../a/b", "a/b"},
	} {
		if got, want := qid(tt.path), qid(tt.want); got != want {
			t.Errorf("%s has qid %d, want that of %s, %d", tt.path, got, tt.want, want)
		}
	}
	_, err := s.walkErr("a/b/c/f/..")
	refused(t, "up from a file", err, enotfound)

	s.wstat("a", func(d *ninep.Dir) { d.Name = "A" })
	s.wstat("A/b", func(d *ninep.Dir) { d.Name = strings.Repeat("B", 100) })
	for range 2 {
		up, err := old.Walk("..")
		s.must("up", err)
		if want := qid("A/" + strings.Repeat("B", 100)); up.Qid().Uid != want {
			t.Errorf("up from c is %d, want %d", up.Qid().Uid, want)
		}
		top, err := up.Walk("..", "..", "A")
		s.must("up", err)
		if want := qid("A"); top.Qid().Uid != want {
			t.Errorf("up from c, and down again, is %d, want %d", top.Qid().Uid, want)
		}
		if d, _ := top.Stat(); d.Name != "A" {
			t.Errorf("it is called %q", d.Name)
		}
		w.restart()
		s, bob = w.as("glenda", ""), w.as("bob", "")
		old = bob.walk("A/" + strings.Repeat("B", 100) + "/c")
	}
	// From a directory that is gone the way up still leads somewhere, or ends.
	s.mkdir("A/gone", 0755)
	gone := bob.walk("A/gone")
	s.remove("A/gone")
	if up, err := gone.Walk(".."); err == nil && up.Qid().Uid != qid("A") {
		t.Errorf("up from what was removed is %d", up.Qid().Uid)
	}
	_, err = gone.Walk("x")
	refused(t, "walk in what was removed", err, enotfound)
	refused(t, "create in what was removed", gone.Create("x", 0644, ninep.OREAD), ephase)
	w.end()
}

// TestRenameRules looks at what a rename may not do, and at what it must not forget.
func TestRenameRules(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	s.mkdir("d/sub", 0755)
	s.put("d/sub/f", 0644, "f")
	s.put("d/a", 0644, "a")
	s.put("d/b", 0644, "b")
	for name, want := range map[string]string{
		"b": eexist, "sub": eexist, ".": ename, "..": ename, "a/b": ename, "/": ename,
		"new\nline": ename, "\x01": ename, "tab\t": ename, strings.Repeat("n", 245): elength,
	} {
		refused(t, fmt.Sprintf("rename to %q", name), s.wstatErr("d/a", func(d *ninep.Dir) { d.Name = name }), want)
		if want != eexist {
			refused(t, fmt.Sprintf("create %q", name), s.walk("d").Create(name, 0644, ninep.OREAD), want)
		}
	}
	if got := s.list("d"); !slices.Equal(got, []string{"a", "b", "sub"}) {
		t.Errorf("there is %q", got)
	}
	// Everything that is asked for together happens together.
	f := s.walk("d/a")
	f.wstat(func(d *ninep.Dir) { d.Name, d.Mode, d.Mtime, d.Length = "A", 0600, 5, 0 })
	if d := s.stat("d/A"); d.Mode != 0600 || d.Mtime != 5 || d.Length != 0 {
		t.Errorf("the file is %+v", d)
	}
	// A directory takes along what is in it, and who is in it.
	inside := s.walk("d/sub")
	s.wstat("d/sub", func(d *ninep.Dir) { d.Name = "under" })
	if got := s.get("d/under/f"); got != "f" {
		t.Errorf("read %q", got)
	}
	_, err := s.walkErr("d/sub")
	refused(t, "walk", err, enotfound)
	s.must("create", inside.Create("new", 0644, ninep.OWRITE))
	inside.write("new", 0)
	if got := s.get("d/under/new"); got != "new" {
		t.Errorf("read %q", got)
	}
	// The old name is free.
	s.put("d/a", 0644, "another")
	s.wstat("d/b", func(d *ninep.Dir) { d.Name = "sub" })
	w.restart()
	s = w.as("glenda", "")
	if got := s.list("d"); !slices.Equal(got, []string{"A", "a", "sub", "under"}) {
		t.Errorf("there is %q", got)
	}
	if d := s.stat("d/A"); d.Mode != 0600 || d.Mtime != 5 || d.Length != 0 {
		t.Errorf("the file is %+v", d)
	}
	if got := s.get("d/sub") + s.get("d/a") + s.get("d/under/f"); got != "banotherf" {
		t.Errorf("the files have %q", got)
	}
	w.end()
}

// TestPitfall76WalkedSnapshotsCanBeDeleted deletes a snapshot that somebody was in, by way of the dump directory and
// by other ways, once they have left.
func TestPitfall76WalkedSnapshotsCanBeDeleted(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	s.put("d/f", 0644, "then")
	w.snapshot("main", "snap", false)
	remove := func() error {
		c, end := w.fs.Background()
		defer end()
		return w.fs.DeleteLabel(c, "snap")
	}
	dump := w.as("glenda", "dump")
	f := dump.walk("snap")
	g := dump.walk("snap/d")
	h, err := g.Walk("..", "..") // in the dump again
	s.must("walk", err)
	if err := remove(); err == nil {
		t.Fatal("a snapshot in use was deleted")
	}
	f.clunk()
	if err := remove(); err == nil {
		t.Fatal("a snapshot in use was deleted")
	}
	g.clunk()
	// Walks that do not arrive, that come back, and that end elsewhere leave nothing behind.
	for _, p := range []string{"snap/nothing", "snap/d/nothing", "snap/d/f/nothing", "snap/..", "snap/d/../../empty", "snap/../nothing"} {
		if f, err := dump.walkErr(p); err == nil {
			f.clunk()
		}
	}
	k := dump.walk("snap/d/f")
	s.must("open", k.Open(ninep.OREAD))
	if got := k.read(); got != "then" {
		t.Errorf("read %q", got)
	}
	k.clunk()
	if err := remove(); err != nil {
		t.Fatalf("delete the snapshot: %v", err)
	}
	_, err = dump.walkErr("snap")
	refused(t, "walk", err, espec)
	if _, err := h.Stat(); err != nil {
		t.Errorf("the fid that went up again: %v", err)
	}
	if got := s.get("d/f"); got != "then" {
		t.Errorf("main has %q", got)
	}
	w.end()
}

// TestImmutableSnapshots refuses every change of one, and shows what was, whatever happens in main.
func TestImmutableSnapshots(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0777)
	s.put("d/f", 0666, strings.Repeat("then", 20000))
	s.put("d/app", ninep.DMAPPEND|0666, "then")
	w.snapshot("main", "snap", false)
	w.snapshot("main", "fork", true)
	then := gefstest.Tree(t, s.root)
	same := func(label string) {
		t.Helper()
		gefstest.SameTree(t, label, gefstest.Tree(t, w.as("glenda", "%"+label).root), then)
	}
	same("snap")
	for _, name := range []string{"snap", "%snap"} {
		old := w.as("glenda", name)
		_, err := old.createErr("d/new", 0644, ninep.OREAD)
		refused(t, "create", err, erdonly)
		refused(t, "remove", old.removeErr("d/f"), erdonly)
		refused(t, "wstat", old.wstatErr("d/f", func(d *ninep.Dir) { d.Mtime = 1 }), erdonly)
		refused(t, "rename", old.wstatErr("d/f", func(d *ninep.Dir) { d.Name = "g" }), erdonly)
		_, err = old.openErr("d/f", ninep.OREAD|ninep.OTRUNC)
		refused(t, "open to be truncated", err, erdonly)
		_, err = old.openErr("d/f", ninep.OREAD|ninep.ORCLOSE)
		refused(t, "open to be removed", err, erdonly)
		for _, p := range []string{"d/f", "d/app"} {
			f := old.open(p, ninep.ORDWR)
			refused(t, "write", f.writeErr("now", 0), erdonly)
			f.clunk()
		}
	}
	// Change everything in main and in the fork, each for itself.
	for i, label := range []string{"main", "fork"} {
		u := w.as("glenda", "%"+label)
		f := u.open("d/f", ninep.OWRITE)
		f.write(fmt.Sprint(label, " now"), int64(i)*30000)
		f.clunk()
		u.put("d/new", 0644, label)
		u.open("d/app", ninep.OWRITE).write(label, 0)
	}
	same("snap")
	w.restart()
	same("snap")
	for i, label := range []string{"main", "fork"} {
		u := w.as("glenda", "%"+label)
		want := []byte(strings.Repeat("then", 20000))
		copy(want[i*30000:], label+" now")
		if got := u.get("d/f"); got != string(want) {
			t.Errorf("%s: the file is wrong at %d", label, differAt(got, string(want)))
		}
		if got := u.get("d/new") + u.get("d/app"); got != label+"then"+label {
			t.Errorf("%s: the files have %q", label, got)
		}
	}
	w.end()
}

// TestReadOnlyServer changes nothing, whatever is asked.
func TestReadOnlyServer(t *testing.T) {
	dev := gefstest.Ream(t)
	w := newWorldOn(t, dev, gefs.Options{})
	s := w.as("glenda", "")
	s.put("f", 0666, "text")
	w.stop()
	before := dev.Clone()
	w.opt.ReadOnly = true
	w.start()
	s = w.as("glenda", "%")
	if got := s.get("f"); got != "text" {
		t.Errorf("read %q", got)
	}
	_, err := s.createErr("g", 0644, ninep.OREAD)
	refused(t, "create", err, erdonly)
	f := s.open("f", ninep.ORDWR)
	refused(t, "write", f.writeErr("x", 0), erdonly)
	_, err = s.openErr("f", ninep.OREAD|ninep.OTRUNC)
	refused(t, "open to be truncated", err, erdonly)
	_, err = s.openErr("f", ninep.OREAD|ninep.ORCLOSE)
	refused(t, "open to be removed", err, erdonly)
	refused(t, "wstat", s.wstatErr("f", func(d *ninep.Dir) { d.Mode = 0600 }), erdonly)
	g := s.walk("f")
	refused(t, "remove", g.Remove(), erdonly)
	_, err = g.Stat()
	refused(t, "stat of the fid of a refused remove", err, efid)
	s.must("fsync", s.root.Fsync())
	w.stop()
	if same, off := dev.Equal(before); !same {
		t.Errorf("the disk has changed at %#x", off)
	}
}

// TestListingsNameTheUsersOfEveryEntry lists files that belong to different users in turns, one of whom
// is removed from the table meanwhile, and compares each record with that of a stat.
func TestListingsNameTheUsersOfEveryEntry(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.mkdir("d", 0777)
	for i, uname := range []string{"glenda", "alice", "alice", "bob", "glenda", "bob", "bob", "alice"} {
		u := w.as(uname, "")
		u.put(fmt.Sprintf("d/f%d", i), 0666, "")
		if i%3 == 0 {
			u = w.as("glenda", "") // the last to have written it
			f := u.open(fmt.Sprintf("d/f%d", i), ninep.OWRITE)
			f.write("x", 0)
			f.clunk()
		}
	}
	for _, text := range []string{usersText, strings.Replace(strings.ReplaceAll(usersText, ",bob", ""), "3:bob:bob:\n", "", 1)} {
		w.setUsers(text)
		d := s.open("d", ninep.OREAD)
		dirs, err := d.ReadDir()
		s.must("list", err)
		d.clunk()
		if len(dirs) != 8 {
			t.Fatalf("%d entries, want 8", len(dirs))
		}
		uids := make(map[string]bool)
		for i := range dirs {
			uids[dirs[i].Uid] = true
			if want := s.stat("d/" + dirs[i].Name); dirs[i] != want {
				t.Errorf("listed as %+v, stat says %+v", dirs[i], want)
			}
		}
		if len(uids) != 3 {
			t.Errorf("the files belong to %v, want three users", uids)
		}
	}
	w.end()
}
