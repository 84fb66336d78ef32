package damage_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/damage"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A blockSet is a set of addresses of blocks.
type blockSet map[blkfmt.Addr]bool

func setOf(addrs ...blkfmt.Addr) blockSet {
	s := make(blockSet)
	for _, a := range addrs {
		s[a] = true
	}
	return s
}

func (s blockSet) meets(other blockSet) bool {
	for a := range s {
		if other[a] {
			return true
		}
	}
	return false
}

// A watcher is a disk that notes which blocks are read, and keeps what each block held before.
type watcher struct {
	*blkdev.Mem
	mu     sync.Mutex
	read   blockSet
	before map[blkfmt.Addr][][]byte // oldest first; the present content is not among them
}

func watch(m *blkdev.Mem) *watcher {
	return &watcher{Mem: m, read: make(blockSet), before: make(map[blkfmt.Addr][][]byte)}
}

func (w *watcher) ReadAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	for a := off / blkfmt.BlkSize * blkfmt.BlkSize; a < off+int64(len(p)); a += blkfmt.BlkSize {
		w.read[blkfmt.Addr(a)] = true
	}
	w.mu.Unlock()
	return w.Mem.ReadAt(p, off)
}

func (w *watcher) WriteAt(p []byte, off int64) (int, error) {
	return len(p), w.WriteVec([][]byte{p}, off)
}

func (w *watcher) WriteVec(bufs [][]byte, off int64) error {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := off / blkfmt.BlkSize * blkfmt.BlkSize; a < off+int64(n); a += blkfmt.BlkSize {
		old := make([]byte, blkfmt.BlkSize)
		if _, err := w.Mem.ReadAt(old, a); err != nil {
			return err
		}
		w.before[blkfmt.Addr(a)] = append(w.before[blkfmt.Addr(a)], old)
	}
	return w.Mem.WriteVec(bufs, off)
}

// A thing is what a client may ask for: the root of a snapshot, a file of it with all its bytes, or a
// directory with the names in it.
type thing struct{ label, path string }

// An answer is what a client gets for a thing, as one comparable value.
type answer struct {
	mode, mtime uint32
	qid, length uint64
	sum         uint64
}

// A rig is a sound disk with a bit of everything, and what is known of it.
type rig struct {
	img    *blkdev.Mem
	qgen   int64 // the commit
	blocks []damage.Block
	byType map[blkfmt.Type][]damage.Block
	at     map[blkfmt.Addr]damage.Block
	before map[blkfmt.Addr][][]byte // what each block held before
	want   map[thing]answer
	needs  map[thing]blockSet // what is read to answer, by a server that has just been started
	start  blockSet           // what is read to start
	seed   maphash.Seed
}

var theRig = sync.OnceValues(makeRig)

func newRig(t *testing.T) *rig {
	t.Helper()
	r, err := theRig()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// makeRig makes a rig with a past. Which blocks are used again depends on when readers leave, so it may take
// more than one disk.
func makeRig() (r *rig, err error) {
	for range 20 {
		if r, err = makeAnyRig(); err != nil || !slices.ContainsFunc(kinds, func(k blkfmt.Type) bool { return k != blkfmt.Data && r.usedAgain(k) == 0 }) {
			return r, err
		}
	}
	return r, nil // TestRigHasHistory says what it lacks
}

// usedAgain returns how many blocks of the kind held something else before.
func (r *rig) usedAgain(k blkfmt.Type) (n int) {
	for _, b := range r.byType[k] {
		if len(r.before[b.Addr]) > 0 && !bytes.Equal(r.older(b.Addr, 0), make([]byte, blkfmt.BlkSize)) {
			n++
		}
	}
	return n
}

func makeAnyRig() (*rig, error) {
	img := blkdev.NewMem(gefstest.SmallDisk)
	disk := watch(img)
	if err := gefs.Ream(disk, gefs.ReamOptions{User: gefstest.User}); err != nil {
		return nil, err
	}
	if err := furnish(disk); err != nil {
		return nil, fmt.Errorf("furnish: %w", err)
	}
	r := &rig{
		img: img, before: disk.before, at: make(map[blkfmt.Addr]damage.Block), byType: make(map[blkfmt.Type][]damage.Block),
		want: make(map[thing]answer), needs: make(map[thing]blockSet), seed: maphash.MakeSeed(),
	}
	var err error
	if r.blocks, err = damage.Survey(img); err != nil {
		return nil, fmt.Errorf("survey: %w", err)
	}
	for _, b := range r.blocks {
		r.byType[b.Type] = append(r.byType[b.Type], b)
		r.at[b.Addr] = b
	}
	super, err := blkfmt.DecodeSuper(block(img, 0), nil, 0)
	if err != nil {
		return nil, err
	}
	r.qgen = super.Qgen
	return r, r.learn()
}

// furnish fills the disk in several commits: files of all lengths in directories, enough of them for
// trees of two levels, three snapshots with what died between them on deadlists, and a fork.
func furnish(dev blkdev.Device) error {
	var sec atomic.Int64
	now := func() time.Time { return time.Unix(1e9+sec.Add(1), 0) } // the same disk each time
	fs, err := gefs.Open(dev, gefs.Options{Cache: blkstore.MinCache, CommitEvery: time.Hour, Now: now})
	if err != nil {
		return err
	}
	defer fs.Close()
	h := &hand{fs: fs}
	rnd := rand.New(rand.NewPCG(4, 4))
	commit := func() { h.do("fsync", func() error { return fs.Sync(context.Background()) }) }
	h.mkdir("main", "dir")
	h.mkdir("main", "dir/sub")
	for i := range 70 {
		dir := []string{".", "dir", "dir/sub"}[i%3]
		p := path.Join(dir, fmt.Sprintf("file%02d-%s", i, strings.Repeat("x", 200)))
		h.create("main", p)
		if i%4 == 0 {
			h.write("main", p, 0, noise(rnd, []int{100, 5000, 16384, 40000}[i/4%4]))
		}
		if i%30 == 0 {
			commit()
		}
	}
	commit()
	list := h.paths("main")
	for n, label := range []string{"snap0", "snap1", "snap2"} {
		h.do("label", func() error { return h.with(func(c *ninep.Ctx) error { return fs.Label(c, "main", label, false) }) })
		for i, p := range list {
			switch {
			case i%9 == n:
				h.write("main", p, uint64(100*i), noise(rnd, 20000))
			case i%25 == 20+n:
				h.remove("main", p)
			}
			if i%5 == 0 {
				commit()
			}
		}
		list = h.paths("main")
	}
	h.do("fork", func() error { return h.with(func(c *ninep.Ctx) error { return fs.Label(c, "snap1", "fork", true) }) })
	h.write("fork", h.paths("fork")[3], 0, noise(rnd, 50000))
	h.create("fork", "only here")
	commit()
	if h.err != nil {
		return h.err
	}
	return fs.Close()
}

func noise(rnd *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// learn notes what a client sees on the sound disk, and what is read for it.
func (r *rig) learn() error {
	rep, err := checkDisk(r.img)
	if err != nil {
		return err
	}
	if !rep.Clean(true) {
		return fmt.Errorf("the rig's disk is not clean:\n%s", gefstest.Text(rep))
	}
	var things []thing
	open := func(fn func(h *hand, w *watcher) error) error {
		w := watch(r.img.Clone())
		fs, err := gefs.Open(w, gefs.Options{Cache: blkstore.MinCache, ReadOnly: true})
		if err != nil {
			return err
		}
		defer fs.Close()
		return fn(&hand{fs: fs}, w)
	}
	err = open(func(h *hand, w *watcher) error {
		r.start = maps.Clone(w.read)
		for _, l := range h.fs.Forest().Labels() {
			things = append(things, thing{l.Name, "."})
			for _, p := range h.all(l.Name) {
				things = append(things, thing{l.Name, p})
			}
		}
		return h.err
	})
	if err != nil {
		return err
	}
	for _, th := range things {
		err := open(func(h *hand, w *watcher) error {
			w.mu.Lock()
			clear(w.read)
			w.mu.Unlock()
			a, err := r.ask(h.fs, th)
			r.want[th], r.needs[th] = a, maps.Clone(w.read)
			return err
		})
		if err != nil {
			return fmt.Errorf("%v: %w", th, err)
		}
	}
	return nil
}

// ask gets the answer to a thing.
func (r *rig) ask(fs *gefs.FS, th thing) (answer, error) {
	c, end := fs.Background()
	defer end()
	root, err := gefstest.Attach(fs, c, gefstest.User, th.label)
	if err != nil {
		return answer{}, err
	}
	defer root.Clunk(c)
	f, err := gefstest.Walk(c, root, th.path)
	if err != nil {
		return answer{}, err
	}
	defer f.Clunk(c)
	return r.answerOf(c, f)
}

func (r *rig) answerOf(c *ninep.Ctx, f ninep.File) (answer, error) {
	var st ninep.Dir
	if err := f.Stat(c, &st); err != nil {
		return answer{}, err
	}
	if _, _, err := f.Open(c, ninep.OREAD); err != nil {
		return answer{}, err
	}
	var sum maphash.Hash
	sum.SetSeed(r.seed)
	buf := buffers.Get().(*[40000]byte)
	defer buffers.Put(buf)
	for off := uint64(0); ; {
		n, err := f.Read(c, buf[:], off)
		if err != nil {
			return answer{}, err
		}
		if n == 0 {
			return answer{st.Mode, st.Mtime, st.Qid.Uid, st.Length, sum.Sum64()}, nil
		}
		sum.Write(buf[:n])
		off += uint64(n)
	}
}

var buffers = sync.Pool{New: func() any { return new([40000]byte) }}

// A hand works on a file system. After the first failure it does nothing more.
type hand struct {
	fs   *gefs.FS
	user string // who; gefstest.User if empty
	err  error
}

func (h *hand) do(what string, fn func() error) {
	if h.err == nil {
		if err := fn(); err != nil {
			h.err = fmt.Errorf("%s: %w", what, err)
		}
	}
}

func (h *hand) with(fn func(c *ninep.Ctx) error) error {
	c, end := h.fs.Background()
	defer end()
	return fn(c)
}

// on calls fn with the file at p.
func (h *hand) on(what, label, p string, fn func(c *ninep.Ctx, f ninep.File) error) {
	h.do(what+" "+label+"/"+p, func() error {
		return h.with(func(c *ninep.Ctx) error {
			root, err := gefstest.Attach(h.fs, c, cmp.Or(h.user, gefstest.User), label)
			if err != nil {
				return err
			}
			defer root.Clunk(c)
			f, err := gefstest.Walk(c, root, p)
			if err != nil {
				return err
			}
			defer f.Clunk(c)
			return fn(c, f)
		})
	})
}

func (h *hand) make(label, p string, perm uint32, mode uint8) {
	h.on("create "+path.Base(p)+" in", label, path.Dir(p), func(c *ninep.Ctx, f ninep.File) error {
		_, _, err := f.Create(c, path.Base(p), perm, mode)
		return err
	})
}

func (h *hand) mkdir(label, p string)  { h.make(label, p, ninep.DMDIR|0775, ninep.OREAD) }
func (h *hand) create(label, p string) { h.make(label, p, 0664, ninep.OWRITE) }

func (h *hand) write(label, p string, off uint64, data []byte) {
	h.on("write", label, p, func(c *ninep.Ctx, f ninep.File) error {
		if _, _, err := f.Open(c, ninep.OWRITE); err != nil {
			return err
		}
		_, err := f.Write(c, data, off)
		return err
	})
}

func (h *hand) remove(label, p string) {
	h.on("remove", label, p, func(c *ninep.Ctx, f ninep.File) error { return f.Remove(c) })
}

// paths returns the plain files of a snapshot.
func (h *hand) paths(label string) []string { return h.visit(label, false) }

// all returns everything below the root of a snapshot.
func (h *hand) all(label string) []string { return h.visit(label, true) }

func (h *hand) visit(label string, dirs bool) []string {
	var list []string
	h.on("list", label, ".", func(c *ninep.Ctx, f ninep.File) error {
		return gefstest.Visit(c, f, func(p string, st *ninep.Dir, _ []byte) {
			if dirs || st.Mode&ninep.DMDIR == 0 {
				list = append(list, p)
			}
		})
	})
	slices.Sort(list)
	return list
}

func checkDisk(img *blkdev.Mem) (*check.Report, error) {
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return check.Run(ctx, img, size, check.Options{})
}

// corrupt says whether err is what a client or an operator is told of a damaged block.
func corrupt(err error) bool {
	var ce *blkfmt.CorruptError
	return errors.As(err, &ce) && ce.Error() != ""
}

// block returns what is in the block at a.
func block(img *blkdev.Mem, a blkfmt.Addr) []byte {
	p := make([]byte, blkfmt.BlkSize)
	if _, err := img.ReadAt(p, int64(a)); err != nil {
		panic(err) // of a disk in memory
	}
	return p
}

func setBlock(img *blkdev.Mem, a blkfmt.Addr, p []byte) {
	if _, err := img.WriteAt(p, int64(a)); err != nil {
		panic(err)
	}
}

func same(img, other *blkdev.Mem, a blkfmt.Addr) bool {
	return bytes.Equal(block(img, a), block(other, a))
}
