package gefs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/client"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A hand works in a directory that nobody else touches, and knows all that is in it.
type hand struct {
	r      *parRig
	c      *parClient
	name   string
	rng    *rand.Rand
	gen    int // of the connection that the fids are on
	root   *client.Fid
	model  *gefstest.Model
	open   []*openFid
	n      int
	recent []string // what it did last
}

// An openFid is open for reading and writing. When its file is removed path is empty.
type openFid struct {
	fid  *client.Fid
	path string
}

func newHand(r *parRig, c *parClient, i int) *hand {
	h := &hand{r: r, c: c, name: fmt.Sprintf("%s.%d", c.user(), i), rng: r.rand(1000 + uint64(i)), gen: -1}
	root, err := c.conn.Attach(c.user(), "")
	r.must(err, "attach")
	defer root.Clunk()
	r.create(r.walk(root, "alone"), h.name, ninep.DMDIR|0777)
	h.reach()
	d, err := h.root.Stat()
	r.must(err, "stat %s", h.name)
	h.model = gefstest.NewModel(gefstest.ModelFile{
		Qid: d.Qid.Uid, Vers: d.Qid.Vers, Mode: d.Mode, Uid: d.Uid, Gid: d.Gid, Muid: d.Muid,
		Mtime: [2]uint32{d.Mtime, d.Mtime},
	})
	// All of these together are several times what the cache holds.
	f := h.walk(".")
	from := now()
	h.must(f.Create("bulk", 0644, ninep.OREAD), "create bulk")
	h.model.Create("bulk", f.Qid().Uid, 0644, h.c.user(), since(from))
	h.clunk(f)
	h.fill("bulk", 1<<20)
	return h
}

func (r *parRig) startAlone() {
	for _, h := range r.hands {
		r.worker("alone", h.run)
	}
}

func (h *hand) run() {
	for h.r.step("alone") {
		h.one()
	}
}

// one makes one step; nobody takes a label of everything in the middle of it.
func (h *hand) one() {
	h.r.quiet.RLock()
	defer h.r.quiet.RUnlock()
	h.reach()
	h.step()
}

// reach walks to the hand's directory if the connection is a new one, where nothing is open.
func (h *hand) reach() {
	if h.gen == h.c.gen {
		return
	}
	root, err := h.c.conn.Attach(h.c.user(), "")
	h.r.must(err, "attach")
	h.root = h.r.walk(root, "alone", h.name)
	h.r.must(root.Clunk(), "clunk")
	h.open, h.gen = nil, h.c.gen
}

// must fails with what the hand did last.
func (h *hand) must(err error, format string, args ...any) {
	if err != nil {
		h.r.fatalf("%s: %s: %v\nbefore it did:\n\t%s", h.name, fmt.Sprintf(format, args...), err, strings.Join(h.recent, "\n\t"))
	}
}

// refused wants an error with that text.
func (h *hand) refused(err error, text, format string, args ...any) {
	if err == nil || err.Error() != text {
		h.must(fmt.Errorf("the error is %v, want %q", err, text), format, args...)
	}
}

func (h *hand) did(format string, args ...any) {
	h.recent = append(h.recent, fmt.Sprintf(format, args...))
	if len(h.recent) > 30 {
		h.recent = slices.Delete(h.recent, 0, len(h.recent)-30)
	}
}

func now() time.Time { return time.Now() }

// since is the time since a request was made.
func since(from time.Time) gefstest.Interval { return gefstest.Interval{From: from, To: now()} }

func (h *hand) pick(list []string) string { return list[h.rng.IntN(len(list))] }

func isDir(p string, f *gefstest.ModelFile) bool  { return f.Dir() }
func isFile(p string, f *gefstest.ModelFile) bool { return !f.Dir() }

func split(p string) []string {
	if p == "." {
		return nil
	}
	return strings.Split(p, "/")
}

func (h *hand) walk(p string) *client.Fid {
	f, err := h.root.Walk(split(p)...)
	h.must(err, "walk to %s", p)
	// A clone has the qid that its original had when that was walked to.
	if q := h.model.File(p); f.Qid().Uid != q.Qid || p != "." && f.Qid().Vers != q.Vers {
		h.must(fmt.Errorf("qid %v, want %d vers %d", f.Qid(), q.Qid, q.Vers), "walk to %s", p)
	}
	return f
}

func (h *hand) clunk(f *client.Fid) { h.must(f.Clunk(), "clunk") }

// newName returns a name that was never there, or with some luck one that was.
func (h *hand) newName(dir string) string {
	for {
		h.n++
		name := fmt.Sprintf("f%d", h.n)
		switch h.rng.IntN(6) {
		case 0:
			name = fmt.Sprintf("again%d", h.rng.IntN(6))
		case 1:
			name = fmt.Sprintf("f%d-%0*d", h.n, 1+h.rng.IntN(200), 7)
		}
		if h.model.File(path.Join(dir, name)) == nil {
			return name
		}
	}
}

// data returns n bytes that are not like any others.
func (h *hand) data(n int) []byte {
	p := make([]byte, n)
	x := h.rng.Uint64() | 1
	for i := range p {
		if i%8 == 0 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		p[i] = byte(x >> (8 * (i % 8)))
	}
	return p
}

// step makes one random change and looks at what became of it.
func (h *hand) step() {
	files, dirs := h.model.Paths(isFile), h.model.Paths(isDir)
	op := h.rng.IntN(100)
	if len(files) == 0 {
		op = 0
	}
	switch {
	case op < 14:
		if len(files) < 30 {
			h.create(path.Join(h.pick(dirs), ""))
		} else {
			h.remove(h.pick(files))
		}
	case op < 18:
		if len(dirs) < 8 {
			h.mkdir(h.pick(dirs))
		} else {
			h.rmdir(h.pick(dirs))
		}
	case op < 44:
		h.write(h.pick(files))
	case op < 50:
		h.truncate(h.pick(files))
	case op < 54:
		h.openTrunc(h.pick(files))
	case op < 62:
		h.remove(h.pick(files))
	case op < 64:
		h.rmdir(h.pick(dirs))
	case op < 72:
		h.wstat(h.pick(append(files, dirs...)))
	case op < 78:
		h.list(h.pick(dirs))
	case op < 80:
		h.listAll()
	case op < 84:
		h.orclose(h.pick(dirs))
	case op < 87:
		h.exclusive(h.pick(dirs))
	case op < 90:
		h.missing(h.pick(dirs))
	case op < 93:
		h.readWhole(h.pick(files))
	case op < 95:
		h.useOpen()
	case op < 96:
		h.hole(h.pick(files))
	case op < 98:
		h.big(h.pick(files))
	default:
		h.did("fsync")
		h.must(h.root.Fsync(), "fsync")
	}
}

func (h *hand) stat(f *client.Fid, p string) {
	d, err := f.Stat()
	h.must(err, "stat %s", p)
	h.must(h.model.Stat(p, &d), "stat")
}

// create makes a file, writes to it, and may keep it open.
func (h *hand) create(dir string) {
	name := h.newName(dir)
	p := path.Join(dir, name)
	perm := []uint32{0644, 0600, 0664, 0666, ninep.DMAPPEND | 0644, ninep.DMTMP | 0640}[h.rng.IntN(6)]
	h.did("create %s %o", p, perm)
	f := h.walk(dir)
	from := now()
	h.must(f.Create(name, perm, ninep.ORDWR), "create %s", p)
	h.model.Create(p, f.Qid().Uid, perm, h.c.user(), since(from))
	h.stat(f, p)
	if h.rng.IntN(2) == 0 {
		h.writeTo(f, p)
	}
	if h.rng.IntN(3) == 0 && len(h.open) < 6 {
		h.open = append(h.open, &openFid{f, p})
		return
	}
	h.clunk(f)
}

func (h *hand) mkdir(dir string) {
	if strings.Count(dir, "/") > 5 {
		return
	}
	p := path.Join(dir, h.newName(dir))
	h.did("mkdir %s", p)
	f := h.walk(dir)
	from := now()
	h.must(f.Create(path.Base(p), ninep.DMDIR|0755, ninep.OREAD), "mkdir %s", p)
	h.model.Create(p, f.Qid().Uid, ninep.DMDIR|0755, h.c.user(), since(from))
	h.stat(f, p)
	h.clunk(f)
}

func (h *hand) rmdir(p string) {
	if p == "." {
		return
	}
	h.did("rmdir %s", p)
	f := h.walk(p)
	from := now()
	err := f.Remove()
	if len(h.model.Names(p)) > 0 {
		h.refused(err, "directory is not empty", "rmdir %s", p)
		return
	}
	h.must(err, "rmdir %s", p)
	h.model.Remove(p, h.c.user(), since(from))
}

func (h *hand) remove(p string) {
	h.did("remove %s", p)
	f := h.walk(p)
	from := now()
	h.must(f.Remove(), "remove %s", p)
	h.model.Remove(p, h.c.user(), since(from))
	for _, o := range h.open {
		if o.path == p {
			o.path = ""
		}
	}
	_, err := h.root.Walk(split(p)...)
	if err == nil || !strings.Contains(err.Error(), string(ninep.ErrNotFound)) {
		h.must(fmt.Errorf("error is %v", err), "walk to removed %s", p)
	}
}

// opened returns a fid open for both, and whether it is to be clunked.
func (h *hand) opened(p string) (f *client.Fid, mine bool) {
	for _, o := range h.open {
		if o.path == p {
			return o.fid, false
		}
	}
	f = h.walk(p)
	h.must(f.Open(ninep.ORDWR), "open %s", p)
	return f, true
}

func (h *hand) write(p string) {
	f, mine := h.opened(p)
	h.writeTo(f, p)
	if mine {
		h.clunk(f)
	}
}

// writeTo writes somewhere in a file, in pieces that are all in flight at once, beside a read and a
// stat of something else, and reads back what is there then.
func (h *hand) writeTo(f *client.Fid, p string) {
	file := h.model.File(p)
	size := len(file.Data)
	n := 1 + h.rng.IntN(4000)
	switch h.rng.IntN(10) {
	case 0:
		n = h.rng.IntN(90000)
	case 1:
		n = 16384 * (1 + h.rng.IntN(4))
	case 2:
		n = h.rng.IntN(3)
	}
	off := h.rng.IntN(size + 1)
	switch h.rng.IntN(8) {
	case 0:
		off = size
	case 1:
		off = off &^ 16383
	case 2:
		if size < 1<<20 {
			off = size + h.rng.IntN(150000) // leaves a hole
		}
	}
	data := h.data(n)
	pieces := 1
	if file.Mode&ninep.DMAPPEND == 0 && n > 100 {
		pieces += h.rng.IntN(5)
	}
	h.did("write %s %d+%d in %d", p, off, n, pieces)
	other := h.other(p)
	from := now()
	type piece struct {
		call   *client.Call
		at, to int
	}
	var calls []piece
	for i := range pieces {
		at, to := n*i/pieces, n*(i+1)/pieces
		k, err := h.c.conn.Start(&proto.TWrite{Fid: f.Num(), Offset: uint64(off + at), Data: data[at:to]})
		h.must(err, "write %s", p)
		calls = append(calls, piece{k, at, to})
	}
	var read *client.Call
	var buf int
	if other != nil {
		var err error
		buf = len(h.model.File(other.path).Data) + 1
		read, err = h.c.conn.Start(&proto.TRead{Fid: other.fid.Num(), Count: uint32(buf)})
		h.must(err, "read %s", other.path)
	}
	h.rng.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	var reply ninep.Fcall
	for _, k := range calls {
		h.must(k.call.Wait(&reply), "write %s %d+%d", p, off+k.at, k.to-k.at)
		if got := int(reply.Rwrite.Count); got != k.to-k.at {
			h.must(fmt.Errorf("%d bytes taken", got), "write %s %d+%d", p, off+k.at, k.to-k.at)
		}
	}
	when := since(from)
	for _, k := range calls {
		h.model.Write(p, off+k.at, data[k.at:k.to], h.c.user(), when)
	}
	if read != nil {
		h.must(read.Wait(&reply), "read %s", other.path)
		want := h.model.File(other.path).Data
		want = want[:min(len(want), h.r.maxData())]
		if !bytes.Equal(reply.Rread.Data, want) {
			h.must(fmt.Errorf("%d bytes, want %d", len(reply.Rread.Data), len(want)), "read %s", other.path)
		}
	}
	size = len(h.model.File(p).Data)
	if file.Mode&ninep.DMAPPEND != 0 {
		off = max(0, size-n)
	}
	at := max(0, off-h.rng.IntN(20000))
	h.must(h.model.Range(p, f, at, off-at+n+h.rng.IntN(20000)), "read back")
	h.stat(f, p)
}

// maxData is what fits into one message.
func (r *parRig) maxData() int { return 1<<20 - ninep.IOHDRSZ }

// other returns a fid open on another file than p, nil if there is none.
func (h *hand) other(p string) *openFid {
	for _, i := range h.rng.Perm(len(h.open)) {
		if o := h.open[i]; o.path != "" && o.path != p {
			return o
		}
	}
	return nil
}

func (h *hand) truncate(p string) {
	size := len(h.model.File(p).Data)
	n := h.rng.IntN(size + 20000)
	if h.rng.IntN(4) == 0 {
		n = h.rng.IntN(size+1) &^ 16383
	}
	h.did("truncate %s from %d to %d", p, size, n)
	f, mine := h.opened(p)
	d := ninep.NullDir()
	d.Length = uint64(n)
	from := now()
	h.must(f.Wstat(d), "truncate %s", p)
	h.model.Wstat(p, &d, h.c.user(), since(from))
	h.stat(f, p)
	at := max(0, min(n, size)-h.rng.IntN(20000))
	h.must(h.model.Range(p, f, at, h.rng.IntN(40000)), "read back")
	if mine {
		h.clunk(f)
	}
}

// openTrunc opens with OTRUNC, which does nothing to append-only files.
func (h *hand) openTrunc(p string) {
	h.did("open %s with OTRUNC", p)
	f := h.walk(p)
	from := now()
	h.must(f.Open(ninep.ORDWR|ninep.OTRUNC), "open %s", p)
	if h.model.File(p).Mode&ninep.DMAPPEND == 0 {
		h.model.Truncate(p, h.c.user(), since(from))
	}
	h.stat(f, p)
	if h.rng.IntN(2) == 0 {
		h.writeTo(f, p)
	}
	h.clunk(f)
}

// wstat changes any of name, mode, time, group and length, all at once.
func (h *hand) wstat(p string) {
	file := h.model.File(p)
	d := ninep.NullDir()
	for d.IsNull() {
		if h.rng.IntN(3) == 0 && p != "." {
			d.Name = h.newName(path.Dir(p))
		}
		if h.rng.IntN(3) == 0 {
			d.Mode = file.Mode&^0777 | 0700 | uint32(h.rng.IntN(0100))
			if p == "." {
				d.Mode |= 0777
			}
		}
		if h.rng.IntN(3) == 0 {
			d.Mtime = uint32(h.rng.IntN(1 << 31))
		}
		if h.rng.IntN(3) == 0 {
			d.Gid = h.pick([]string{"team", h.c.user()})
		}
		if h.rng.IntN(6) == 0 && !file.Dir() {
			d.Length = uint64(h.rng.IntN(len(file.Data) + 5000))
		}
	}
	h.did("wstat %s %+v", p, d)
	f := h.walk(p)
	from := now()
	h.must(f.Wstat(d), "wstat %s %+v", p, d)
	h.model.Wstat(p, &d, h.c.user(), since(from))
	q := p
	if d.Name != "" {
		q = path.Join(path.Dir(p), d.Name)
		for _, o := range h.open {
			if o.path == p || strings.HasPrefix(o.path, p+"/") {
				o.path = q + o.path[len(p):]
			}
		}
	}
	h.stat(f, q)
	h.clunk(f)
	if q != p {
		if _, err := h.root.Walk(split(p)...); err == nil {
			h.must(fmt.Errorf("found"), "walk to %s, which is %s now", p, q)
		}
	}
	h.clunk(h.walk(q))
}

func (h *hand) list(dir string) {
	h.did("list %s", dir)
	f := h.walk(dir)
	h.must(f.Open(ninep.OREAD), "open %s", dir)
	dirs, err := f.ReadDir()
	h.must(err, "read %s", dir)
	h.must(h.model.Listing(dir, dirs), "listing")
	h.clunk(f)
}

// listAll lists the directory in which all hands have theirs. They rename nothing there.
func (h *hand) listAll() {
	f, err := h.root.Walk("..")
	h.must(err, "walk to ..")
	h.must(f.Open(ninep.OREAD), "open ..")
	dirs, err := f.ReadDir()
	h.must(err, "read ..")
	h.clunk(f)
	seen := make(map[string]int)
	for i := range dirs {
		seen[dirs[i].Name]++
		if dirs[i].Name == h.name {
			h.must(h.model.Stat(".", &dirs[i]), "entry of our own directory")
		}
	}
	for _, o := range h.r.hands {
		if seen[o.name] != 1 {
			h.must(fmt.Errorf("%s is there %d times", o.name, seen[o.name]), "list ..")
		}
	}
}

// orclose makes a file that goes with its fid.
func (h *hand) orclose(dir string) {
	p := path.Join(dir, h.newName(dir))
	h.did("create %s with ORCLOSE", p)
	f := h.walk(dir)
	from := now()
	h.must(f.Create(path.Base(p), 0600, ninep.ORDWR|ninep.ORCLOSE), "create %s", p)
	h.model.Create(p, f.Qid().Uid, 0600, h.c.user(), since(from))
	h.writeTo(f, p)
	second := h.walk(p)
	h.must(second.Open(ninep.ORDWR), "open %s", p)
	from = now()
	h.clunk(f)
	h.model.Remove(p, h.c.user(), since(from))
	if _, err := h.root.Walk(split(p)...); err == nil {
		h.must(fmt.Errorf("found"), "walk to %s after its clunk", p)
	}
	_, err := second.WriteAt([]byte("x"), 0)
	h.refused(err, "phase error -- use after remove", "write to removed %s", p)
	h.clunk(second)
}

// exclusive opens a file that only one may have open.
func (h *hand) exclusive(dir string) {
	const locked = "open/create -- file is locked"
	p := path.Join(dir, h.newName(dir))
	h.did("create %s with DMEXCL", p)
	f := h.walk(dir)
	from := now()
	perm := uint32(ninep.DMEXCL | 0600)
	h.must(f.Create(path.Base(p), perm, ninep.ORDWR), "create %s", p)
	h.model.Create(p, f.Qid().Uid, perm, h.c.user(), since(from))
	second := h.walk(p)
	h.refused(second.Open(ninep.OREAD), locked, "open %s twice", p)
	h.refused(h.walk(p).Remove(), locked, "remove %s while it is open", p)
	h.writeTo(f, p)
	h.clunk(f)
	h.must(second.Open(ninep.ORDWR), "open %s", p)
	h.must(h.model.Contents(p, second), "read back")
	h.clunk(second)
	if h.rng.IntN(2) == 0 {
		h.remove(p)
		return
	}
	d := ninep.NullDir() // an ordinary file from here on
	d.Mode = 0644
	f = h.walk(p)
	from = now()
	h.must(f.Wstat(d), "chmod %s", p)
	h.model.Wstat(p, &d, h.c.user(), since(from))
	h.stat(f, p)
	h.clunk(f)
}

// missing asks for what is not there, and for what is not allowed.
func (h *hand) missing(dir string) {
	h.did("mistakes in %s", dir)
	if _, err := h.root.Walk(append(split(dir), "no such file")...); err == nil {
		h.must(fmt.Errorf("found"), "walk to a name that never was")
	}
	f := h.walk(dir)
	if names := h.model.Names(dir); len(names) > 0 {
		h.refused(f.Create(h.pick(names), 0644, ninep.OWRITE), "create/wstat -- file exists", "create again in %s", dir)
		if dir != "." {
			d := ninep.NullDir()
			if d.Name = h.pick(h.model.Names(path.Dir(dir))); d.Name != path.Base(dir) {
				h.refused(f.Wstat(d), "create/wstat -- file exists", "rename %s to %s", dir, d.Name)
			}
		}
	}
	h.refused(f.Open(ninep.OWRITE), "permission denied", "open %s for writing", dir)
	_, err := f.ReadAt(make([]byte, 1), 0)
	h.refused(err, "resource in use", "read %s, which is not open", dir)
	h.stat(f, dir)
	h.clunk(f)
}

func (h *hand) readWhole(p string) {
	h.did("read %s", p)
	f, mine := h.opened(p)
	h.must(h.model.Contents(p, f), "read")
	h.stat(f, p)
	if mine {
		h.clunk(f)
	}
}

// useOpen uses a fid that was opened before, whatever happened to its file since, and clunks it.
func (h *hand) useOpen() {
	if len(h.open) == 0 {
		return
	}
	i := h.rng.IntN(len(h.open))
	o := h.open[i]
	h.open = slices.Delete(h.open, i, i+1)
	h.did("use open %q", o.path)
	if o.path != "" {
		h.must(h.model.Contents(o.path, o.fid), "read")
		h.stat(o.fid, o.path)
	} else {
		_, err := o.fid.WriteAt([]byte("x"), 0)
		h.refused(err, "phase error -- use after remove", "write to a removed file")
		d := ninep.NullDir()
		d.Mode = 0600
		h.refused(o.fid.Wstat(d), "phase error -- use after remove", "wstat a removed file")
		if h.rng.IntN(2) == 0 {
			h.refused(o.fid.Remove(), "phase error -- use after remove", "remove a removed file")
			return
		}
	}
	h.clunk(o.fid)
}

// hole writes very far behind the end, looks there, and takes it back.
func (h *hand) hole(p string) {
	file := h.model.File(p)
	if file.Mode&ninep.DMAPPEND != 0 {
		return
	}
	off := int64(1)<<(30+h.rng.IntN(20)) + int64(h.rng.IntN(1<<20))
	h.did("hole %s up to %d", p, off)
	f, mine := h.opened(p)
	data := h.data(1 + h.rng.IntN(30000))
	from := now()
	_, err := f.WriteAt(data, off)
	h.must(err, "write %s at %d", p, off)
	buf := make([]byte, len(data)+50000)
	n, _ := f.ReadFull(buf, off-40000)
	if n != 40000+len(data) || !bytes.Equal(buf[40000:n], data) || !bytes.Equal(buf[:40000], make([]byte, 40000)) {
		h.must(fmt.Errorf("other bytes, or %d", n), "read %s around %d", p, off)
	}
	d, err := f.Stat()
	h.must(err, "stat %s", p)
	if d.Length != uint64(off)+uint64(len(data)) {
		h.must(fmt.Errorf("%d bytes long", d.Length), "stat %s", p)
	}
	back := ninep.NullDir()
	back.Length = uint64(len(file.Data))
	h.must(f.Wstat(back), "truncate %s", p)
	h.model.Write(p, 0, nil, h.c.user(), since(from))
	h.model.Wstat(p, &back, h.c.user(), since(from))
	h.must(h.model.Range(p, f, max(0, len(file.Data)-20000), 50000), "read back")
	h.stat(f, p)
	if mine {
		h.clunk(f)
	}
}

// big makes the file so large that what comes next is cleared in the background, and gives others
// to do with it at once.
func (h *hand) big(p string) {
	file := h.model.File(p)
	if file.Mode&ninep.DMAPPEND != 0 {
		return
	}
	size := 1<<20 + h.rng.IntN(1<<20)
	h.fill(p, size)
	f, mine := h.opened(p)
	switch h.rng.IntN(4) {
	case 0:
		h.openTrunc(p)
	case 1:
		d := ninep.NullDir()
		d.Length = uint64(h.rng.IntN(40000))
		h.did("truncate %s to %d", p, d.Length)
		from := now()
		h.must(f.Wstat(d), "truncate %s", p)
		h.model.Wstat(p, &d, h.c.user(), since(from))
		h.writeTo(f, p)
	case 2:
		h.did("truncate and remove %s", p)
		d := ninep.NullDir()
		d.Length = 5
		from := now()
		h.must(f.Wstat(d), "truncate %s", p)
		h.model.Wstat(p, &d, h.c.user(), since(from))
		h.remove(p)
	default:
		h.remove(p)
	}
	if mine {
		h.clunk(f)
	}
}

// fill writes the beginning of a file in large pieces, all in flight at once.
func (h *hand) fill(p string, size int) {
	h.did("fill %s, %d bytes", p, size)
	f, mine := h.opened(p)
	data := h.data(size)
	from := now()
	var calls []*client.Call
	for at := 0; at < size; {
		n := min(size-at, 1+h.rng.IntN(400000))
		k, err := h.c.conn.Start(&proto.TWrite{Fid: f.Num(), Offset: uint64(at), Data: data[at : at+n]})
		h.must(err, "write %s", p)
		calls = append(calls, k)
		at += n
	}
	var reply ninep.Fcall
	for _, k := range calls {
		h.must(k.Wait(&reply), "write %s", p)
	}
	for range len(calls) - 1 {
		h.model.Change(p, func(*gefstest.ModelFile) {})
	}
	h.model.Write(p, 0, data, h.c.user(), since(from))
	h.must(h.model.Range(p, f, h.rng.IntN(size), 100000), "read back")
	h.stat(f, p)
	if mine {
		h.clunk(f)
	}
}
