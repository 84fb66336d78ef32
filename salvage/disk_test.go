package salvage_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
	"gefs9p/ninep"
	"gefs9p/salvage"
	"gefs9p/users"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")
	turns = flag.Int("turns", 10, "disks with lost blocks that are salvaged")
	long  = flag.Bool("long", false, "lose every block in turn, not a sample of those with data")
)

// random returns a source of randomness whose seed is printed if the test fails.
func random(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

// A saved file is what a memory has of one.
type saved struct {
	dir    kvfmt.Dir
	uid    string
	data   []byte
	status salvage.Status
	why    string
	lost   []salvage.Range
	done   bool
}

// A memory is a Sink that keeps everything: label, slash, path.
type memory struct {
	label string
	files map[string]*saved
	table *users.Table
}

func newMemory() *memory { return &memory{files: map[string]*saved{}} }

func (m *memory) name(f *salvage.File) string {
	return path.Join(append([]string{m.label}, f.Path...)...)
}

func (m *memory) Label(l salvage.LabelReport, table *users.Table) error {
	m.label, m.table = l.Name, table
	return nil
}

func (m *memory) Mkdir(f *salvage.File) error {
	m.files[m.name(f)] = &saved{dir: f.Dir, uid: f.Uid, status: f.Status}
	return nil
}

func (m *memory) Done(f *salvage.File) error {
	s := m.files[m.name(f)]
	s.done, s.status, s.why = true, f.Status, f.Why
	return nil
}

func (m *memory) Create(f *salvage.File) (salvage.Writer, error) {
	s := &saved{dir: f.Dir, uid: f.Uid, status: salvage.Damaged}
	m.files[m.name(f)] = s
	return s, nil
}

func (s *saved) WriteAt(p []byte, off int64) (int, error) {
	if int64(len(s.data)) > off {
		return 0, fmt.Errorf("data at %d comes after %d bytes", off, len(s.data))
	}
	if off < 64<<20 {
		s.data = append(s.data, make([]byte, int(off)-len(s.data))...)
		s.data = append(s.data, p...)
	}
	return len(p), nil
}

func (s *saved) Finish(f *salvage.File) error {
	if f.Dir.Length < 64<<20 && uint64(len(s.data)) < f.Dir.Length {
		s.data = append(s.data, make([]byte, int(f.Dir.Length)-len(s.data))...)
	}
	s.status, s.why, s.lost, s.done = f.Status, f.Why, slices.Clone(f.Lost), true
	return nil
}

// run salvages dev.
func run(t testing.TB, dev io.ReaderAt, size int64, opt salvage.Options) (*salvage.Report, *memory) {
	t.Helper()
	m := newMemory()
	opt.Sink = m
	r, err := salvage.Run(context.Background(), dev, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func text(r *salvage.Report) string {
	var b strings.Builder
	r.WriteText(&b) // a builder takes everything
	if b.Len() > 4000 {
		return b.String()[:4000] + "..."
	}
	return b.String()
}

// A truth is what is on a disk, by label/path.
type truth map[string]*gefstest.Node

// A rig makes a disk, and knows what it has written.
type rig struct {
	t    testing.TB
	rnd  *rand.Rand
	dev  *blkdev.Mem
	fs   *gefs.FS
	root *client.Fid
	main truth
	all  truth
	ever map[string][][]byte // all that main's files ever held after a step
}

func newRig(t testing.TB, rnd *rand.Rand, size int64) *rig {
	r := &rig{t: t, rnd: rnd, dev: blkdev.NewMem(size), main: truth{}, all: truth{}, ever: map[string][][]byte{}}
	if err := gefs.Ream(r.dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	r.fs = gefstest.Open(t, r.dev, gefs.Options{Permissive: true})
	r.root = gefstest.Serve(t, r.fs, 0).Attach(gefstest.User, "%main")
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mkdir(p string) {
	r.t.Helper()
	f, err := r.root.WalkPath(path.Dir(p))
	r.must(err)
	r.must(f.Create(path.Base(p), ninep.DMDIR|0755, ninep.OREAD))
	r.must(f.Clunk())
	r.main[p] = &gefstest.Node{Dir: true}
}

// put makes a file, or writes it anew.
func (r *rig) put(p string, data []byte) {
	r.t.Helper()
	if r.main[p] != nil {
		f, err := r.root.WalkPath(p)
		r.must(err)
		r.must(f.Open(ninep.OWRITE | ninep.OTRUNC))
		_, err = f.WriteAt(data, 0)
		r.must(err)
		r.must(f.Clunk())
	} else {
		f, err := r.root.WalkPath(path.Dir(p))
		r.must(err)
		r.must(f.Create(path.Base(p), 0640, ninep.OWRITE))
		if len(data) > 0 {
			_, err = f.WriteAt(data, 0)
			r.must(err)
		}
		r.must(f.Clunk())
	}
	r.main[p] = &gefstest.Node{Data: data}
	r.ever[p] = append(r.ever[p], data)
}

func (r *rig) remove(p string) {
	r.t.Helper()
	f, err := r.root.WalkPath(p)
	r.must(err)
	r.must(f.Remove())
	delete(r.main, p)
}

func (r *rig) bytes(n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := r.rnd.Uint64()
		for j := i; j < min(i+8, n); j++ {
			p[j] = byte(v >> (8 * (j - i)))
		}
	}
	return p
}

// some returns the content of a new file: mostly short, never empty.
func (r *rig) some() []byte {
	switch r.rnd.IntN(20) {
	case 0:
		return r.bytes(1 + r.rnd.IntN(6*blkfmt.BlkSize))
	case 1:
		return r.bytes(blkfmt.BlkSize * (1 + r.rnd.IntN(3)))
	}
	return r.bytes(1 + r.rnd.IntN(2000))
}

func (r *rig) sync() { r.must(r.fs.Sync(context.Background())) }

func (r *rig) label(name string) {
	r.t.Helper()
	r.sync()
	c, end := r.fs.Background()
	err := r.fs.Label(c, "main", name, false)
	end()
	r.must(err)
	r.keep(name)
}

func (r *rig) keep(label string) {
	for p, n := range r.main {
		r.all[path.Join(label, p)] = n
	}
}

// fill makes n files in some directories, and changes and removes some of them, with commits between.
func (r *rig) fill(n int) {
	var dirs, names []string
	for i := range max(n/40, 3) {
		d := fmt.Sprintf("dir%d", i)
		if i%3 == 2 {
			d = path.Join(dirs[r.rnd.IntN(len(dirs))], d)
		}
		r.mkdir(d)
		dirs = append(dirs, d)
	}
	for i := range n {
		p := path.Join(dirs[r.rnd.IntN(len(dirs))], fmt.Sprintf("file%d", i))
		r.put(p, r.some())
		names = append(names, p)
		if i%97 == 96 {
			r.sync()
		}
		if i%7 == 6 {
			j := r.rnd.IntN(len(names))
			if r.rnd.IntN(4) == 0 {
				r.remove(names[j])
				names = slices.Delete(names, j, j+1)
			} else {
				r.put(names[j], r.some())
			}
		}
	}
	r.sync()
}

// end closes the disk and returns it.
func (r *rig) end() *blkdev.Mem {
	r.t.Helper()
	r.root.Clunk()
	r.must(r.fs.Close())
	r.keep("main")
	return r.dev.Clone()
}

// A block is one in use, with what stands in it that nothing else says.
type block struct {
	addr blkfmt.Addr
	what string // super, header, log, snap, pivot, leaf, data
	keys [][]byte
	root bool
	qid  uint64 // of data
	off  uint64
}

// live returns the blocks in use of a sound disk, for which it trusts every pointer. Of data and nodes only
// those of main's newest state, if others is not set.
func live(t testing.TB, dev *blkdev.Mem, others bool) []block {
	t.Helper()
	size, _ := dev.Size()
	get := func(a blkfmt.Addr) []byte {
		p := make([]byte, blkfmt.BlkSize)
		if _, err := dev.ReadAt(p, int64(a)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	s, err := blkfmt.DecodeSuper(get(0), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	list := []block{{addr: 0, what: "super"}, {addr: blkfmt.BackupAddr(size), what: "super"}}
	for _, ref := range s.Arenas {
		h, err := blkfmt.DecodeArenaHdr(get(ref.Addr), ref.Addr)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, block{addr: ref.Addr, what: "header"}, block{addr: ref.Addr + blkfmt.BlkSize, what: "header"})
	log:
		for a := h.Log.Addr; a != blkfmt.NoAddr; {
			p := get(a)
			lh, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.Metro{}, a)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, block{addr: a, what: "log"})
			for q := p[blkfmt.LogHdSize : blkfmt.LogHdSize+lh.Size]; len(q) > 0; {
				e, n, err := logfmt.Next(q)
				if err != nil {
					t.Fatal(err)
				}
				if e.Op == logfmt.Sync && e.Qgen >= s.Qgen {
					break log
				}
				q = q[n:]
			}
			a = lh.Chain.Addr
		}
	}
	seen := map[blkfmt.Addr]bool{}
	var walk func(p blkfmt.Bptr, what string, root bool)
	walk = func(p blkfmt.Bptr, what string, root bool) {
		if seen[p.Addr] {
			return
		}
		seen[p.Addr] = true
		n := kvfmt.Node(get(p.Addr))
		if err := kvfmt.CheckNode(n); err != nil {
			t.Fatal(err)
		}
		b := block{addr: p.Addr, what: what, root: root}
		if what == "" {
			if b.what = "pivot"; n.Leaf() {
				b.what = "leaf"
			}
		}
		var data []block
		look := func(k, v []byte) {
			b.keys = append(b.keys, k)
			if len(v) == blkfmt.PtrSize && k[0] == kvfmt.Kdat {
				d, _ := kvfmt.GetDatVal(v)
				qid, off, _ := kvfmt.GetDat(k)
				if !seen[d.Addr] {
					seen[d.Addr] = true
					data = append(data, block{addr: d.Addr, what: "data", qid: qid, off: off})
				}
			}
		}
		for i := range n.Nbuf() {
			look(n.Msg(i).Key, n.Msg(i).Val)
		}
		if n.Leaf() {
			for i := range n.Nval() {
				look(n.Val(i))
			}
		}
		list = append(list, b)
		list = append(list, data...)
		if !n.Leaf() {
			for i := range n.Nval() {
				c, _ := n.Child(i)
				walk(c, what, false)
			}
		}
	}
	walk(s.Snap, "snap", true)
	snapLeaf := kvfmt.Node(get(s.Snap.Addr))
	if !snapLeaf.Leaf() {
		t.Fatal("the tree of snapshots has become too large for this test")
	}
	for i := range snapLeaf.Nval() {
		k, v := snapLeaf.Val(i)
		main, _ := snapLeaf.Search(kvfmt.AppendLabelKey(nil, "main"))
		_, lv := snapLeaf.Val(main)
		l, _ := kvfmt.GetLabel(lv)
		if tr, err := kvfmt.GetTree(v); k[0] == kvfmt.Ksnap && err == nil && (others || tr.Gen == l.Gen) {
			walk(tr.Root, "", true)
		}
	}
	return list
}

// destroy writes nonsense over a block.
func destroy(dev *blkdev.Mem, rnd *rand.Rand, a blkfmt.Addr) {
	p := make([]byte, blkfmt.BlkSize)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	dev.WriteAt(p, int64(a))
}

// honest fails the test if a file is said to be whole and is not what is on the disk.
func honest(t testing.TB, m *memory, all truth) {
	t.Helper()
	for p, s := range m.files {
		label, rest, _ := strings.Cut(p, "/")
		if rest == "" || label == "adm" || label == "empty" || s.dir.Mode&ninep.DMDIR != 0 || s.status != salvage.Whole {
			continue
		}
		n := all[p]
		if n == nil || !bytes.Equal(n.Data, s.data) || s.dir.Length != uint64(len(n.Data)) {
			t.Errorf("%s is said to be whole, and is not what was written", p)
		}
	}
}

// right returns which files of label main were saved as they are, whatever is said of them.
func right(m *memory, all truth) map[string]bool {
	ok := map[string]bool{}
	for p, n := range all {
		if s := m.files[p]; strings.HasPrefix(p, "main/") && s != nil && !n.Dir && bytes.Equal(s.data, n.Data) {
			ok[p] = true
		}
	}
	return ok
}

func filesOf(all truth) []string {
	var list []string
	for p, n := range all {
		if strings.HasPrefix(p, "main/") && !n.Dir {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// qids returns the paths of main by qid, from a run on the sound disk.
func qids(m *memory) map[uint64]string {
	by := map[uint64]string{}
	for p, s := range m.files {
		if strings.HasPrefix(p, "main/") || p == "main" {
			by[s.dir.Qid.Path] = p
		}
	}
	return by
}

// concerned returns the paths that a block says something about.
func concerned(b block, by map[uint64]string) map[string]bool {
	c := map[string]bool{}
	if b.what == "data" {
		c[by[b.qid]] = true
	}
	for _, k := range b.keys {
		if q, _, err := kvfmt.GetDat(k); err == nil {
			c[by[q]] = true
		}
		if e, err := kvfmt.GetEnt(k); err == nil {
			c[path.Join(by[e.Pqid], e.Name)] = true
		}
	}
	return c
}
