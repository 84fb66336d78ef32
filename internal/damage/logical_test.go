package damage_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/damage"
	"gefs9p/internal/faults"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// patience is how long one disk may take before it counts as a hang.
const patience = 3 * time.Minute

// TestDamageUnderGoodHashes makes disks on which something is wrong that no hash finds. To check them, open
// them, read all of them and change them ends, without a panic; and what check has nothing against can be
// read and changed and is then still without fault.
func TestDamageUnderGoodHashes(t *testing.T) {
	r := newRig(t)
	row := flags.Row(t, 11, faults.Size{Ordinary: 2000, Short: 60})
	under := newUnderWay(t)
	row.Each(func(yield func(string) bool) {
		rnd := row.Rand(0)
		for {
			script := make([]byte, damage.StepSize*(1+rnd.IntN(3)))
			for i := range script {
				script[i] = byte(rnd.Uint32())
			}
			if !yield(hex.EncodeToString(script)) {
				return
			}
		}
	}, func(name string) error {
		script, err := hex.DecodeString(name)
		if err != nil {
			return err
		}
		defer under.way(name)()
		return inTime(func() error { return r.tryScript(script) })
	})
}

// TestTheRigPassesUndamaged holds the tests of this package to a disk on which nothing is wrong.
func TestTheRigPassesUndamaged(t *testing.T) {
	r := newRig(t)
	if v, err := r.judge(r.img.Clone(), setOf(), true); err != nil || v != (verdict{}) {
		t.Errorf("%+v, %v", v, err)
	}
	img := r.img.Clone()
	for round := range 2 {
		if err := use(img, round == 0); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
}

// FuzzDamageUnderGoodHashes is the same for Go's fuzzer, which finds out what leads where.
func FuzzDamageUnderGoodHashes(f *testing.F) {
	f.Add([]byte{4, 0, 20, 0, 3, 1, 0, 9})
	f.Add([]byte{7, 1, 200, 0, 5, 9, 0, 0, 2, 0, 40, 0, 12, 1, 0, 0})
	f.Add([]byte("\xaf\xc5\x65\x49\xb1\x7b\x58\xb2\x6c\x5d\x55\x41\x0c\x04\x70\xd4\x0d\x76\xc7\x3f\x85\xf1\x97\xe4")) // a data block that overlaps another
	f.Add([]byte("\x2e\x0d\xce\x71\x03\x1c\x03\xd4\x91\x7c\x60\xda\x43\x62\xf6\xe5"))                                 // snap2 has another name
	f.Add([]byte("\x47\x84\xea\x08\xa3\xdd\x6b\xe2\xc0\x2a\x0c\x42\xd3\x37\x63\x9e"))                                 // and main
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRig(t)
		if err := inTime(func() error { return r.tryScript(script[:min(len(script), 8*damage.StepSize)]) }); err != nil {
			t.Error(err)
		}
	})
}

// underWay writes down which cases run, for when one of them takes the process with it.
type underWay struct {
	mu    sync.Mutex
	file  string
	cases map[string]bool
}

func newUnderWay(t *testing.T) *underWay {
	u := &underWay{file: filepath.Join(os.TempDir(), fmt.Sprintf("gefs9p-cases-%d", os.Getpid())), cases: make(map[string]bool)}
	t.Logf("should this end in a panic: the cases under way stand in %s", u.file)
	t.Cleanup(func() { os.Remove(u.file) })
	return u
}

// way enters a case; the function it returns takes it out again.
func (u *underWay) way(name string) func() {
	note := func(on bool) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.cases[name] = on; !on {
			delete(u.cases, name)
		}
		var b strings.Builder
		for c := range u.cases {
			fmt.Fprintln(&b, c)
		}
		os.WriteFile(u.file, []byte(b.String()), 0o666) // without it the case is harder to find, no more
	}
	note(true)
	return func() { note(false) }
}

// inTime calls fn. A panic and a hang are errors.
func inTime(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("PANIC: %v\n%s", p, debug.Stack())
			}
		}()
		done <- fn()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		return fmt.Errorf("HANG: not done after %v\n%s", patience, buf[:runtime.Stack(buf, true)])
	}
}

// tryScript tries one damaged disk.
func (r *rig) tryScript(script []byte) error {
	img := r.img.Clone()
	if err := damage.Play(img, r.blocks, script); err != nil {
		return fmt.Errorf("damage: %w", err)
	}
	rep, err := checkDisk(img)
	// A name that is not UTF-8 is no damage to the disk, but our client reads no directory that has one.
	sound := err == nil && rep.Clean(false) && rep.Complete && rep.ByKind[check.BadName] == 0
	if err == nil && rep.Clean(false) && !rep.Complete {
		return fmt.Errorf("clean, but not complete:\n%s", gefstest.Text(rep))
	}
	for round := range 2 {
		if err := use(img, round == 0); err != nil {
			if sound {
				return fmt.Errorf("check found nothing wrong, but, round %d: %w\n%s", round, err, gefstest.Text(rep))
			}
			return nil
		}
		after, err := checkDisk(img)
		if sound && (err != nil || !after.Clean(false)) {
			text := ""
			if err == nil {
				text = gefstest.Text(after)
			}
			return fmt.Errorf("check found nothing wrong before, but after round %d: %v\n%s\nbefore:\n%s", round, err, text, gefstest.Text(rep))
		}
	}
	return nil
}

// use opens the disk, reads all that is there, changes it if it may, reads it again, and closes it. It
// returns the first error, after it has done all the rest.
func use(img *blkdev.Mem, change bool) error {
	fs, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache, CommitEvery: time.Hour, Permissive: true})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	first := readAround(fs)
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	if change {
		for _, l := range fs.Forest().Labels() {
			if !l.Mutable {
				continue
			}
			note(alter(fs, l.Name, 0))
		}
		h := &hand{fs: fs}
		h.do("label", func() error {
			return h.with(func(c *ninep.Ctx) error { return fs.Label(c, "main", "another", false) })
		})
		for _, l := range []string{"snap1", "fork", "snap2"} {
			if !slices.ContainsFunc(fs.Forest().Labels(), func(have snap.LabelInfo) bool { return have.Name == l }) {
				continue // it has another name now, which is nothing that check could find
			}
			d := &hand{fs: fs}
			d.do("delete "+l, func() error { return d.with(func(c *ninep.Ctx) error { return fs.DeleteLabel(c, l) }) })
			note(d.err)
		}
		h.do("fsync", func() error { return fs.Sync(context.Background()) })
		note(h.err)
		note(alter(fs, "main", 1))
		note(readAround(fs))
	}
	if err := fs.Close(); err != nil {
		note(fmt.Errorf("close: %w", err))
	}
	return first
}

// anybody is a user who exists even if the users file is damaged.
const anybody = "adm"

// Bounds for those who read a disk on which directories may contain themselves.
const (
	deepest  = 12
	mostRead = 2000
)

// readAround reads every snapshot, in so far as it ends. It returns the first error.
func readAround(fs *gefs.FS) error {
	var first error
	for _, l := range fs.Forest().Labels() {
		h := &hand{fs: fs, user: anybody}
		h.on("read", "%"+l.Name, ".", func(c *ninep.Ctx, f ninep.File) error {
			left := mostRead
			return around(c, f, ".", deepest, &left)
		})
		if first == nil {
			first = h.err
		}
	}
	return first
}

// around reads the file f and, if it is a directory, what is below it.
func around(c *ninep.Ctx, f ninep.File, at string, depth int, left *int) error {
	if *left--; *left < 0 || depth == 0 {
		return fmt.Errorf("%s: directories without end", at)
	}
	var st ninep.Dir
	if err := f.Stat(c, &st); err != nil {
		return err
	}
	g, _, err := f.Walk(c, nil, nil)
	if err != nil {
		return err
	}
	defer g.Clunk(c)
	if _, _, err := g.Open(c, ninep.OREAD); err != nil {
		return err
	}
	p := make([]byte, 40000)
	var list []byte
	off := uint64(0)
	for range 64 {
		n, err := g.Read(c, p, off)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		off += uint64(n)
		list = append(list, p[:n]...)
	}
	if st.Mode&ninep.DMDIR == 0 {
		_, err := g.Read(c, p, st.Length-min(st.Length, 100)) // and the end, if that is far away
		return err
	}
	dirs, err := ninep.DecodeDirs(list)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	var first error
	for i := range dirs {
		sub, n, err := f.Walk(c, []string{dirs[i].Name}, make([]ninep.Qid, 1))
		if err == nil && n != 1 {
			err = ninep.ErrNotFound
		}
		if err == nil {
			err = around(c, sub, at+"/"+dirs[i].Name, depth-1, left)
			sub.Clunk(c)
		}
		if first == nil && err != nil {
			first = fmt.Errorf("%s in %s: %w", dirs[i].Name, at, err)
		}
	}
	return first
}

// alter changes one file after the other in the root of a snapshot: it writes, truncates, renames and
// removes them, and makes new ones. The turn makes the names different.
func alter(fs *gefs.FS, label string, turn int) error {
	c, end := fs.Background()
	defer end()
	root, err := gefstest.Attach(fs, c, anybody, "%"+label)
	if err != nil {
		return err
	}
	defer root.Clunk(c)
	dir := clone(c, root)
	list, err := gefstest.ReadAll(c, dir)
	dir.Clunk(c)
	if err != nil {
		return err
	}
	dirs, err := ninep.DecodeDirs(list)
	if err != nil {
		return err
	}
	var first error
	for i := range dirs {
		if i > 24 || dirs[i].Mode&ninep.DMDIR != 0 || dirs[i].Name == "users" {
			continue
		}
		f, n, err := root.Walk(c, []string{dirs[i].Name}, make([]ninep.Qid, 1))
		if err == nil && n == 1 {
			err = alterFile(c, f, i, turn)
		}
		if first == nil && err != nil {
			first = fmt.Errorf("change %s: %w", dirs[i].Name, err)
		}
	}
	for i := range 4 {
		f := clone(c, root)
		_, _, err := f.Create(c, fmt.Sprintf("made in %s %d.%d", label, turn, i), 0664, ninep.OWRITE)
		if err == nil {
			_, err = f.Write(c, make([]byte, 40000), 0)
		}
		f.Clunk(c)
		if first == nil && err != nil {
			first = fmt.Errorf("create: %w", err)
		}
	}
	return first
}

// clone returns another fid for the same file. Cloning a fid needs nothing that can fail.
func clone(c *ninep.Ctx, f ninep.File) ninep.File {
	g, _, err := f.Walk(c, nil, nil)
	if err != nil {
		panic(err)
	}
	return g
}

func alterFile(c *ninep.Ctx, f ninep.File, i, turn int) error {
	defer f.Clunk(c)
	st := ninep.NullDir()
	switch i % 5 {
	case 0:
		if _, _, err := f.Open(c, ninep.OWRITE); err != nil {
			return err
		}
		_, err := f.Write(c, make([]byte, 20000), uint64(1000*i))
		return err
	case 1:
		st.Length = uint64(i)
	case 2:
		st.Name = fmt.Sprintf("renamed %d.%d", turn, i)
	case 3:
		st.Mode = 0600
	case 4:
		return f.Remove(c)
	}
	return f.Wstat(c, &st)
}
