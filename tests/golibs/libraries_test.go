package golibs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What gefs says; libraries must hand it on.
const (
	saysNotFound = "directory entry not found"
	notFound     = "not found" // how libraries put it when the walk stopped on the way: 9P has no text for that
	saysExists   = "create/wstat -- file exists"
	saysPerm     = "permission denied"
	saysNotEmpty = "directory is not empty"
	saysBadSpec  = "attach -- bad specifier"
	saysNoUser   = "user does not exist"
)

func TestLibraries(t *testing.T) {
	seed := newRand(t).Uint64()
	for _, at := range serve(t) {
		for i, lib := range libraries {
			t.Run(at.network+" "+lib.name, func(t *testing.T) {
				tr, err := lib.attach(at.network, at.addr, "glenda", "")
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				w := &worker{t: t, tree: tr, dir: fmt.Sprintf("%s-%d", at.network, i), r: rand.New(rand.NewPCG(seed, uint64(i)))}
				w.must("mkdir", tr.Mkdir(w.dir, 0o777))
				w.life()
				w.big()
				w.wstats()
				w.deep()
				w.many()
				w.refusals()
				w.others(lib, at)
				w.parallel()
				w.must("remove", tr.Remove(w.dir))
				if _, err := tr.Stat(w.dir); err == nil {
					t.Error("the removed directory is still there")
				}
				if w.skipped > 0 {
					t.Logf("%d operations are %v", w.skipped, errSkip)
				}
			})
		}
	}
}

// A worker does one thing after the other in a directory of its own.
type worker struct {
	t       *testing.T
	tree    tree
	dir     string
	r       *rand.Rand
	skipped int
}

func (w *worker) path(name string) string { return w.dir + "/" + name }

// must says whether an operation was done: false is a library's that cannot do it.
func (w *worker) must(what string, err error) bool {
	w.t.Helper()
	if err == errSkip {
		w.skipped++
		return false
	}
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return true
}

// content compares a file with what should be in it.
func (w *worker) content(name string, want []byte) {
	w.t.Helper()
	got, err := w.tree.ReadAll(w.path(name))
	w.must("read "+name, err)
	if sha256.Sum256(got) != sha256.Sum256(want) {
		w.t.Fatalf("%s: %d bytes, want %d, or they differ", name, len(got), len(want))
	}
	st, err := w.tree.Stat(w.path(name))
	w.must("stat "+name, err)
	_, last := dirAndName(name)
	if st.Name != last || st.Dir || st.Size != uint64(len(want)) {
		w.t.Fatalf("stat %s: %+v", name, st)
	}
}

// life is the life of a small file.
func (w *worker) life() {
	w.must("create", w.tree.Create(w.path("a"), 0o644, []byte("hello, world\n")))
	w.content("a", []byte("hello, world\n"))
	st, err := w.tree.Stat(w.path("a"))
	w.must("stat", err)
	if st.Perm != 0o644 || st.Uid != "glenda" {
		w.t.Errorf("%+v", st)
	}
	w.must("overwrite", w.tree.WriteAt(w.path("a"), []byte("HE"), 0, false))
	w.must("append", w.tree.WriteAt(w.path("a"), []byte("more\n"), 13, false))
	w.content("a", []byte("HEllo, world\nmore\n"))
	now, err := w.tree.Stat(w.path("a"))
	w.must("stat", err)
	if now.QidPath != st.QidPath || now.QidVers == st.QidVers {
		w.t.Errorf("qid before and after writing: %+v, %+v", st, now)
	}
	w.must("write with OTRUNC", w.tree.WriteAt(w.path("a"), []byte("z"), 0, true))
	w.content("a", []byte("z"))
	w.must("write behind the end", w.tree.WriteAt(w.path("a"), []byte("x"), 40_000, false))
	w.content("a", append(append([]byte("z"), make([]byte, 39_999)...), 'x'))
	w.must("remove", w.tree.Remove(w.path("a")))
	w.must("create empty", w.tree.Create(w.path("empty"), 0o600, nil))
	w.content("empty", nil)
	w.must("remove", w.tree.Remove(w.path("empty")))
}

// big is a file of many messages, whose length is a multiple of nothing.
func (w *worker) big() {
	data := make([]byte, 5<<20+12345)
	for i := range data {
		data[i] = byte(w.r.Uint32())
	}
	w.must("create big", w.tree.Create(w.path("big"), 0o644, data))
	w.content("big", data)
	for range 20 {
		off := w.r.IntN(len(data) - 100_000)
		piece := data[off : off+1+w.r.IntN(100_000)]
		for i := range piece {
			piece[i] ^= 0x5a
		}
		w.must("write into big", w.tree.WriteAt(w.path("big"), piece, int64(off), false))
	}
	w.content("big", data)
	for _, n := range []int{3_000_001, 16384, 16383, 100} {
		if !w.must("truncate", w.tree.Truncate(w.path("big"), uint64(n))) {
			break
		}
		data = data[:n]
		w.content("big", data)
	}
	if w.must("extend", w.tree.Truncate(w.path("big"), 70_000)) {
		w.content("big", append(slices.Clone(data), make([]byte, 70_000-len(data))...))
	}
	w.must("remove big", w.tree.Remove(w.path("big")))
}

// wstats renames and changes modes.
func (w *worker) wstats() {
	w.must("create", w.tree.Create(w.path("old"), 0o644, []byte("x")))
	w.must("create", w.tree.Create(w.path("taken"), 0o644, nil))
	if w.must("chmod", w.tree.Chmod(w.path("old"), 0o640)) {
		st, err := w.tree.Stat(w.path("old"))
		w.must("stat", err)
		if st.Perm != 0o640 {
			w.t.Errorf("mode %o", st.Perm)
		}
	}
	w.says("rename onto a file", w.tree.Rename(w.path("old"), "taken"), saysExists)
	name := "old"
	if w.must("rename", w.tree.Rename(w.path("old"), "new")) {
		_, err := w.tree.Stat(w.path("old"))
		w.says("the old name", err, notFound)
		name = "new"
	}
	w.content(name, []byte("x"))
	w.must("remove", w.tree.Remove(w.path(name)))
	w.must("remove", w.tree.Remove(w.path("taken")))
}

// deep walks as many names as fit into one message.
func (w *worker) deep() {
	var dirs []string
	for d := range 14 {
		dirs = append(dirs, strings.Repeat("d/", d)+"d")
		w.must("mkdir", w.tree.Mkdir(w.path(dirs[d]), 0o755))
	}
	file := dirs[len(dirs)-1] + "/f"
	w.must("create", w.tree.Create(w.path(file), 0o644, []byte("deep")))
	w.content(file, []byte("deep"))
	w.must("remove", w.tree.Remove(w.path(file)))
	for _, d := range slices.Backward(dirs) {
		w.must("remove", w.tree.Remove(w.path(d)))
	}
}

// many is a directory that takes many messages to read.
func (w *worker) many() {
	w.must("mkdir", w.tree.Mkdir(w.path("many"), 0o755))
	var want []string
	for i := range 1500 {
		name := fmt.Sprintf("a-name-that-is-rather-long-%04d", i)
		want = append(want, name)
		w.must("create", w.tree.Create(w.path("many/"+name), 0o644, nil))
	}
	all, err := w.tree.List(w.path("many"))
	w.must("list", err)
	var got []string
	for _, in := range all {
		got = append(got, in.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("%d names listed, want %d", len(got), len(want))
	}
	w.says("remove a full directory", w.tree.Remove(w.path("many")), saysNotEmpty)
	for _, name := range want {
		w.must("remove", w.tree.Remove(w.path("many/"+name)))
	}
	all, err = w.tree.List(w.path("many"))
	if w.must("list", err); len(all) != 0 {
		w.t.Errorf("%d names are left", len(all))
	}
	w.must("remove", w.tree.Remove(w.path("many")))
}

// says wants an error with the server's text.
func (w *worker) says(what string, err error, text string) {
	w.t.Helper()
	if err == errSkip {
		w.skipped++
		return
	}
	if err == nil || !strings.Contains(err.Error(), text) {
		w.t.Errorf("%s: %v, want %q", what, err, text)
	}
}

// refusals are what the server has to refuse; the connection goes on.
func (w *worker) refusals() {
	w.must("create", w.tree.Create(w.path("f"), 0o444, []byte("x")))
	_, err := w.tree.Stat(w.path("none"))
	w.says("stat of nothing", err, notFound)
	_, err = w.tree.ReadAll(w.path("none"))
	w.says("open of nothing", err, notFound)
	_, err = w.tree.Stat("none-in-the-root")
	w.says("stat of nothing in the root", err, saysNotFound)
	if _, err = w.tree.ReadAll(w.path("none/none/none")); err == nil {
		w.t.Error("open below nothing works")
	}
	w.says("create of what is there", w.tree.Mkdir(w.path("f"), 0o755), saysExists)
	w.says("write to what is read-only", w.tree.WriteAt(w.path("f"), []byte("y"), 0, false), saysPerm)
	if err := w.tree.Create(w.path("f/below"), 0o644, nil); err == nil {
		w.t.Error("create below a file works")
	}
	if err := w.tree.Create(w.path("bad\x01name"), 0o644, nil); err == nil {
		w.t.Error("a control character in a name is taken")
	}
	w.content("f", []byte("x"))
	w.must("remove", w.tree.Remove(w.path("f")))
}

// others are attaches that are refused, and a user who may not change anything.
func (w *worker) others(lib library, at endpoint) {
	for _, c := range []struct{ uname, aname, says string }{
		{"nobody-at-all", "", saysNoUser},
		{"glenda", "no such snapshot", saysBadSpec},
	} {
		tr, err := lib.attach(at.network, at.addr, c.uname, c.aname)
		if err == nil {
			tr.Close()
		}
		w.says(fmt.Sprintf("attach as %s to %q", c.uname, c.aname), err, c.says)
	}
	none, err := lib.attach(at.network, at.addr, "none", "")
	w.must("attach as none", err)
	defer none.Close()
	w.must("create", w.tree.Create(w.path("mine"), 0o640, []byte("secret")))
	_, err = none.ReadAll(w.path("mine"))
	w.says("read what is not mine", err, saysPerm)
	w.says("write what is not mine", none.WriteAt(w.path("mine"), []byte("x"), 0, false), saysPerm)
	if err := none.Chmod(w.path("mine"), 0o777); err == nil {
		w.t.Error("chmod of what is not mine works")
	}
	w.content("mine", []byte("secret"))
	w.must("remove", w.tree.Remove(w.path("mine")))
}

// parallel has eight goroutines on the one connection.
func (w *worker) parallel() {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			if err := w.user(g); err != nil {
				w.t.Errorf("goroutine %d: %v", g, err)
			}
		})
	}
	wg.Wait()
}

// user is one of them. It is not the test's goroutine.
func (w *worker) user(g int) error {
	dir := w.path(fmt.Sprint("user", g))
	if err := w.tree.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("mkdir: %w", err)
	}
	for i := range 40 {
		data := bytes.Repeat([]byte(fmt.Sprintf("%d of %d\n", i, g)), 5000)
		path := fmt.Sprintf("%s/f%d", dir, i%3)
		if err := w.tree.Create(path, 0o644, data); err != nil {
			return fmt.Errorf("create: %w", err)
		}
		got, err := w.tree.ReadAll(path)
		if err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("read: %d bytes, want %d, or they differ: %w", len(got), len(data), err)
		}
		if all, err := w.tree.List(dir); err != nil || len(all) != 1 {
			return fmt.Errorf("list: %v, %w", all, err)
		}
		if err := w.tree.Remove(path); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
	}
	return w.tree.Remove(dir)
}

// TestMalformedTwstat: docker/go-p9p leaves out one of the two counts of a Twstat. The server refuses that and
// changes nothing, and who uses another connection notices nothing.
func TestMalformedTwstat(t *testing.T) {
	for _, at := range serve(t) {
		other, err := attachNineFans(at.network, at.addr, "glenda", "")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		name := "file-" + at.network
		if err := other.Create(name, 0o644, []byte("x")); err != nil {
			t.Fatal(err)
		}
		tr, err := attachDocker(at.network, at.addr, "glenda", "")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- tr.(docker).malformedWstat(name) }()
		if err := <-done; err == nil {
			t.Error("it is taken")
		} else {
			t.Logf("%s: %v", at.network, dockerErr(err))
		}
		tr.Close()
		if got, err := other.ReadAll(name); err != nil || string(got) != "x" {
			t.Errorf("another connection reads %q, %v", got, err)
		}
		if _, err := other.Stat("other"); err == nil || errors.Is(err, errSkip) {
			t.Errorf("it was renamed: %v", err)
		}
	}
}
