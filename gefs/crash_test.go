package gefs_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A clock stands still during an operation, so that the oracle knows what time it was.
type clock struct{ ns atomic.Int64 }

func (cl *clock) now() time.Time { return time.Unix(0, cl.ns.Load()) }

// A tracer makes random operations on a file system and on an oracle.
type tracer struct {
	t      *testing.T
	r      *rand.Rand
	fs     *gefs.FS
	oracle *gefstest.Oracle
	clock  *clock
	sec    int64
	n      int  // names handed out
	bears  bool // an operation may fail, see try
}

func (tr *tracer) pick(list []string) string { return list[tr.r.IntN(len(list))] }

func (tr *tracer) name() string {
	tr.n++
	long := ""
	if tr.r.IntN(8) == 0 {
		long = string(make([]byte, 0, 1)) + fmt.Sprintf("-%0*d", 1+tr.r.IntN(200), 7)
	}
	return fmt.Sprintf("f%d%s", tr.n, long)
}

func (tr *tracer) data() []byte {
	n := tr.r.IntN(3000)
	switch tr.r.IntN(10) {
	case 0:
		n = tr.r.IntN(70000)
	case 1:
		n = 16384 * (1 + tr.r.IntN(3))
	}
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(tr.r.Uint32())
	}
	return p
}

// step makes one operation and returns what it was. synced says that it was an fsync.
func (tr *tracer) step() (what string, synced bool) {
	tr.sec++
	tr.clock.ns.Store(tr.sec * 1e9)
	o, now := tr.oracle, tr.sec
	c, end := tr.fs.Background()
	defer end()
	root, err := gefstest.Attach(tr.fs, c, "glenda", "")
	tr.must("attach", err)
	defer root.Clunk(c)
	walk := func(p string) ninep.File {
		f, err := gefstest.Walk(c, root, p)
		tr.must("walk "+p, err)
		return f
	}
	files, dirs := o.Paths(false), o.Paths(true)
	switch op := tr.r.IntN(100); {
	case op < 22 && len(files) < 60:
		p := path.Join(tr.pick(dirs), tr.name())
		f := walk(path.Dir(p))
		defer f.Clunk(c)
		_, _, err := f.Create(c, path.Base(p), 0644, ninep.OWRITE)
		tr.must("create "+p, err)
		o.Create(p, false, 0644, now)
		return "create " + p, false
	case op < 27 && len(dirs) < 12:
		p := path.Join(tr.pick(dirs), tr.name())
		f := walk(path.Dir(p))
		defer f.Clunk(c)
		_, _, err := f.Create(c, path.Base(p), ninep.DMDIR|0755, ninep.OREAD)
		tr.must("mkdir "+p, err)
		o.Create(p, true, 0755, now)
		return "mkdir " + p, false
	case op < 60 && len(files) > 0:
		p := tr.pick(files)
		data := tr.data()
		off := 0
		if n := len(o.Nodes[p].Data); n > 0 && n < 100000 {
			off = tr.r.IntN(n + n/4 + 1)
		}
		f := walk(p)
		defer f.Clunk(c)
		_, _, err := f.Open(c, ninep.OWRITE)
		tr.must("open "+p, err)
		_, err = f.Write(c, data, uint64(off))
		tr.must("write "+p, err)
		o.Write(p, off, data, now)
		return fmt.Sprintf("write %s %d+%d", p, off, len(data)), false
	case op == 60 && len(files) > 0: // large, so that its removal is made in the background
		p := tr.pick(files)
		data := make([]byte, 1<<20+40000)
		for i := range data {
			data[i] = byte(i >> 8)
		}
		f := walk(p)
		defer f.Clunk(c)
		_, _, err := f.Open(c, ninep.OWRITE)
		tr.must("open "+p, err)
		const first = 1 << 20
		_, err = f.Write(c, data[:first], 0)
		tr.must("write "+p, err)
		o.Write(p, 0, data[:first], now)
		tr.note(fmt.Sprintf("write %s 0+1M", p)) // each write is an operation of its own
		_, err = f.Write(c, data[first:], first)
		tr.must("write "+p, err)
		o.Write(p, first, data[first:], now)
		return fmt.Sprintf("write %s 1M+", p), false
	case op < 70 && len(files) > 0:
		p := tr.pick(files)
		n := tr.r.IntN(len(o.Nodes[p].Data) + 20000)
		st := ninep.NullDir()
		st.Length = uint64(n)
		f := walk(p)
		defer f.Clunk(c)
		tr.must("truncate "+p, f.Wstat(c, &st))
		o.Truncate(p, n)
		return fmt.Sprintf("truncate %s %d", p, n), false
	case op < 80 && len(files) > 0:
		p := tr.pick(files)
		for _, big := range files { // large ones do not stay for long: reading them back takes time
			if len(o.Nodes[big].Data) > 500000 && tr.r.IntN(2) == 0 {
				p = big
			}
		}
		f := walk(p)
		defer f.Clunk(c)
		tr.must("remove "+p, f.Remove(c))
		o.Remove(p, now)
		return "remove " + p, false
	case op < 82:
		p := tr.pick(dirs)
		if p == "." || !o.Empty(p) {
			break
		}
		f := walk(p)
		defer f.Clunk(c)
		tr.must("rmdir "+p, f.Remove(c))
		o.Remove(p, now)
		return "rmdir " + p, false
	case op < 88 && len(files) > 0:
		p := tr.pick(files)
		if tr.r.IntN(4) == 0 {
			p = tr.pick(dirs)
		}
		if p == "." {
			break
		}
		name := tr.name()
		st := ninep.NullDir()
		st.Name = name
		f := walk(p)
		defer f.Clunk(c)
		tr.must("rename "+p, f.Wstat(c, &st))
		o.Rename(p, name, now)
		return "rename " + p + " " + name, false
	case op < 92 && len(files) > 0:
		p := tr.pick(files)
		mode := uint32(tr.r.IntN(0400)) | 0600
		st := ninep.NullDir()
		st.Mode = mode
		f := walk(p)
		defer f.Clunk(c)
		tr.must("chmod "+p, f.Wstat(c, &st))
		o.Chmod(p, mode)
		return fmt.Sprintf("chmod %s %o", p, mode), false
	case op < 94 && len(o.Labels) < 3:
		name := fmt.Sprintf("label%d", tr.sec)
		tr.must("label", tr.fs.Label(c, "main", name, false))
		o.Label(name)
		return "label " + name, false
	case op < 96 && len(o.Labels) > 0:
		var names []string
		for _, l := range tr.fs.Forest().Labels() {
			if _, ok := o.Labels[l.Name]; ok {
				names = append(names, l.Name)
			}
		}
		name := tr.pick(names)
		tr.must("unlabel", tr.fs.DeleteLabel(c, name))
		o.Unlabel(name)
		return "unlabel " + name, false
	case op < 99:
		null := ninep.NullDir()
		tr.must("fsync", root.Wstat(c, &null))
		return "fsync", true
	}
	return "nothing", false
}

// note is set by the test to record an operation inside a step.
func (tr *tracer) note(what string) { noteStep(tr, what) }

var noteStep = func(*tracer, string) {}

// A refusal is what must panics with if operations may fail.
type refusal struct {
	what string
	err  error
}

// try is step, with the error of an operation that failed. The oracle has not changed then, but for
// what was noted.
func (tr *tracer) try() (what string, synced bool, err error) {
	tr.bears = true
	defer func() {
		switch r := recover().(type) {
		case nil:
		case refusal:
			what, err = r.what, r.err
		default:
			panic(r)
		}
	}()
	what, synced = tr.step()
	return what, synced, nil
}

func (tr *tracer) must(what string, err error) {
	if err != nil {
		if tr.bears {
			panic(refusal{what, err})
		}
		tr.t.Helper()
		tr.t.Fatalf("%s: %v", what, err)
	}
}
