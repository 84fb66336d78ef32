package salvage

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/users"
)

// loadUsers reads the users table from the snapshot adm, as far as it is there.
func (x *run) loadUsers() {
	for _, l := range x.labels {
		if l.name != labelAdm || l.snap == nil {
			continue
		}
		v, _ := x.lookup(&l.snap.tree, kvfmt.AppendEntKey(nil, l.snap.root, "users"))
		d, err := kvfmt.GetDir(v)
		if err != nil || d.Length > users.MaxSize {
			break
		}
		text := make([]byte, d.Length)
		x.blocks(&l.snap.tree, d.Qid.Path, d.Length, func(off uint64, p []byte) error {
			copy(text[off:], p)
			return nil
		})
		if t, err := users.Parse(bytes.TrimRight(text, "\x00")); err == nil {
			x.table = t
			return
		}
	}
	x.note("the users table is lost: owners are shown as numbers")
}

func (x *run) userName(id int32) string {
	if x.table != nil {
		if name, ok := x.table.Name(id); ok {
			return name
		}
	}
	return strconv.Itoa(int(id))
}

// copyLabels copies the labels that are asked for.
func (x *run) copyLabels() error {
	found := false
	for _, l := range x.labels {
		mutable := l.Flags&kvfmt.LabelMutable != 0
		if x.opt.Label != "" && l.name != x.opt.Label || x.opt.Label == "" && !mutable && !x.opt.All {
			continue
		}
		found = true
		x.rep.Labels = append(x.rep.Labels, LabelReport{Name: l.name, Gen: l.Gen, Mutable: mutable, Proven: x.super != nil && !x.older && l.snap != nil && l.snap.sure})
		c := &copier{x: x, l: l, rep: &x.rep.Labels[len(x.rep.Labels)-1], dirs: map[uint64]bool{}}
		if err := c.run(); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	if !found && x.opt.Label != "" {
		return fmt.Errorf("%w: %s", ErrNoLabel, x.opt.Label)
	}
	return nil
}

// A copier copies one label.
type copier struct {
	x     *run
	l     *label
	t     *tree
	rep   *LabelReport
	holes bool            // the tree has some
	dirs  map[uint64]bool // qids of directories that were visited
	files map[uint64]bool // qids of files that were met; kept only if the tree has holes
}

func (c *copier) run() error {
	x := c.x
	if c.l.snap == nil {
		c.rep.Doubt = "the record of the snapshot is lost"
	} else {
		c.t = &c.l.snap.tree
		x.holes(c.t, c.hole)
		switch {
		case c.t.top.ptr.Addr == blkfmt.NoAddr:
			c.rep.Doubt = "the record of its root is lost, the newest that was found stands in"
		case !c.t.top.sure:
			c.rep.Doubt = "the record of its root may be of an earlier state"
		case len(c.rep.Holes) > 0 && c.rep.Holes[0].Level == c.t.top.level:
			c.rep.Doubt = "its root is lost, what was below it stands in"
		}
	}
	if x.opt.Sink != nil {
		if err := x.opt.Sink.Label(*c.rep, x.table); err != nil {
			return err
		}
	}
	if c.l.snap == nil {
		return nil
	}
	if c.holes = len(c.rep.Holes) > 0; c.holes {
		c.files = map[uint64]bool{}
	}
	root := c.l.snap.root
	v, sure := x.lookup(c.t, rootKey)
	d, err := kvfmt.GetDir(v)
	f := c.newFile(nil, d, sure)
	if err != nil {
		f = c.newFile(nil, kvfmt.Dir{Qid: kvfmt.Qid{Path: root, Type: dmDir >> 24}, Mode: dmDir | 0775, Uid: -1, Gid: -1}, false)
		f.Status, f.Why = Damaged, "its entry is lost"
	}
	if err := c.dir(f); err != nil {
		return err
	}
	if c.holes {
		return c.lost()
	}
	return nil
}

// hole reports a hole.
func (c *copier) hole(h child, lo, hi []byte) {
	p := c.x.patch(c.t, h, lo, hi)
	c.rep.Holes = append(c.rep.Holes, Hole{Addr: h.ptr.Addr, Level: h.level, Patches: len(p.tiles),
		From: c.keyText(lo, "the beginning"), To: c.keyText(hi, "the end")})
}

// keyText says where in the tree a key is.
func (c *copier) keyText(key []byte, end string) string {
	if len(key) == 0 {
		return end
	}
	switch key[0] {
	case kvfmt.Kdat:
		if qid, off, err := kvfmt.GetDat(key); err == nil {
			return fmt.Sprintf("the data of qid %d at %d", qid, off)
		}
	case kvfmt.Kent:
		if e, err := kvfmt.GetEnt(key); err == nil {
			if path, ok := c.pathOf(e.Pqid); ok {
				return strconv.Quote(pathText(append(path, e.Name)))
			}
			return fmt.Sprintf("%q in the directory qid %d", e.Name, e.Pqid)
		}
	case kvfmt.Kup:
		if qid, err := kvfmt.GetUp(key); err == nil {
			return fmt.Sprintf("the parent of qid %d", qid)
		}
	}
	return fmt.Sprintf("key %x", key)
}

func pathText(path []string) string { return "/" + strings.Join(path, "/") }

// pathOf returns the path of a directory by the records directories have of themselves.
func (c *copier) pathOf(qid uint64) ([]string, bool) {
	var path []string
	for range MaxDepth {
		if qid == c.l.snap.root || qid == kvfmt.RootPqid {
			for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
				path[i], path[j] = path[j], path[i]
			}
			return path, true
		}
		e, ok := c.up(qid)
		if !ok {
			return nil, false
		}
		path, qid = append(path, e.Name), e.Pqid
	}
	return nil, false
}

// up returns where directory qid says that its entry is.
func (c *copier) up(qid uint64) (kvfmt.Ent, bool) {
	v, _ := c.x.lookup(c.t, kvfmt.AppendUpKey(nil, qid))
	if v == nil {
		return kvfmt.Ent{}, false
	}
	e, err := kvfmt.GetEnt(v)
	return e, err == nil
}

func (c *copier) newFile(path []string, d kvfmt.Dir, sure bool) *File {
	f := &File{Label: c.l.name, Path: path, Dir: d, Uid: c.x.userName(d.Uid), Gid: c.x.userName(d.Gid), Muid: c.x.userName(d.Muid)}
	if !sure {
		f.Status, f.Why = Unsure, "its entry may be of an earlier state"
	}
	return f
}

// worse makes the status of f at least s.
func (f *File) worse(s Status, why string) {
	if s > f.Status {
		f.Status, f.Why = s, why
	}
}

// report counts f, and lists it if it is not whole.
func (c *copier) report(f *File) {
	if !f.IsDir() {
		switch f.Status {
		case Whole:
			c.rep.Whole++
		case Unsure:
			c.rep.Unsure++
		default:
			c.rep.Damaged++
		}
	}
	if f.Status == Whole || f.Status == Unsure && c.rep.Doubt != "" {
		return
	}
	c.x.rep.Files = append(c.x.rep.Files, FileReport{Label: f.Label, Path: pathText(f.Path), Qid: f.Dir.Qid.Path, Dir: f.IsDir(),
		Length: f.Dir.Length, Status: f.Status, Why: f.Why, Lost: f.Lost})
}

// refused takes in the error of a Sink. It returns nil if that is about f alone.
func (c *copier) refused(f *File, err error) error {
	var fe *FileError
	if errors.As(err, &fe) {
		f.worse(Damaged, fe.Error())
		return nil
	}
	return err
}

// dir copies the directory f and all that is below it.
func (c *copier) dir(f *File) error {
	c.dirs[f.Dir.Qid.Path] = true
	c.rep.Dirs++
	sink := c.x.opt.Sink
	if sink != nil {
		if err := c.refused(f, sink.Mkdir(f)); err != nil {
			return err
		}
	}
	subs, err := c.entries(f)
	if err != nil {
		return err
	}
	c.report(f)
	for _, d := range subs {
		if c.dirs[d.Dir.Qid.Path] {
			d.worse(Damaged, "the same directory is elsewhere too")
			c.report(d)
			continue
		}
		if err := c.dir(d); err != nil {
			return err
		}
	}
	if sink != nil {
		return c.refused(f, sink.Done(f))
	}
	return nil
}

// entries copies the files in the directory f and returns the directories in it.
func (c *copier) entries(f *File) (subs []*File, err error) {
	prefix := kvfmt.AppendEntPrefix(nil, f.Dir.Qid.Path)
	err = c.x.scan(c.t, prefix, next(prefix), func(key, val []byte, sure bool) error {
		e, err := kvfmt.GetEnt(key)
		if err != nil {
			return nil
		}
		path := append(f.Path[:len(f.Path):len(f.Path)], e.Name)
		d, err := kvfmt.GetDir(val)
		if err != nil {
			g := c.newFile(path, kvfmt.Dir{}, sure)
			g.worse(Damaged, "its entry makes no sense")
			c.report(g)
			return nil
		}
		g := c.newFile(path, d, sure)
		if !g.IsDir() {
			return c.file(g)
		}
		if len(path) <= MaxDepth {
			subs = append(subs, g)
			return nil
		}
		g.worse(Damaged, "too many directories in each other")
		c.report(g)
		return nil
	}, func(child, []byte, []byte, *patch) error {
		f.worse(Unsure, "entries may be missing, or be of an earlier state")
		return nil
	})
	return subs, err
}

// file copies the file f.
func (c *copier) file(f *File) error {
	if c.files != nil {
		c.files[f.Dir.Qid.Path] = true
	}
	var w Writer
	if sink := c.x.opt.Sink; sink != nil {
		var err error
		if w, err = sink.Create(f); err != nil {
			if err = c.refused(f, err); err == nil {
				c.report(f)
			}
			return err
		}
	}
	put := func(off uint64, p []byte) error {
		c.rep.Bytes += uint64(len(p))
		if w == nil {
			return nil
		}
		_, err := w.WriteAt(p, int64(off))
		return err
	}
	lost, unsure, err := c.x.blocks(c.t, f.Dir.Qid.Path, f.Dir.Length, put)
	if err == nil {
		f.Lost = lost
		switch {
		case f.Dir.Length > math.MaxInt64:
			f.worse(Damaged, "its length makes no sense")
		case len(lost) > 0:
			f.worse(Damaged, "parts of it are lost")
		case unsure:
			f.worse(Unsure, "parts of it may be of an earlier state")
		}
	} else if err = c.refused(f, err); err != nil {
		return err
	}
	if w != nil {
		if err := c.refused(f, w.Finish(f)); err != nil {
			return err
		}
	}
	c.report(f)
	return nil
}

// blocks calls put with each piece of the data of file qid, which has length bytes. It returns what is
// lost, and whether some of the rest is not certain. The only errors are those of put and ctx.
func (x *run) blocks(t *tree, qid, length uint64, put func(off uint64, p []byte) error) (lost []Range, unsure bool, err error) {
	lo := kvfmt.AppendDatKey(nil, qid, 0)
	lose := func(off, end uint64) {
		if end = min(end, length); off >= end {
			return
		}
		if n := len(lost); n > 0 && lost[n-1].Off+lost[n-1].Len >= off {
			lost[n-1].Len = max(lost[n-1].Len, end-lost[n-1].Off)
			return
		}
		lost = append(lost, Range{off, end - off})
	}
	// What is not found in a hole may be lost or never have been. from is where the part of a hole
	// begins in which nothing was found yet, upto where the hole ends.
	var from, upto uint64
	flush := func(to uint64) {
		if from < upto {
			lose(from, min(to, upto))
			from = max(from, min(to, upto))
		}
	}
	offset := func(key []byte, none uint64) uint64 {
		if key == nil {
			return none
		}
		q, off, err := kvfmt.GetDat(key)
		switch {
		case err != nil && len(key) > 0 && key[0] == kvfmt.Kdat && bytes.HasPrefix(key, lo[:9]): // cut off in the middle of an offset
			return none
		case err != nil || q > qid:
			if len(key) > 0 && kvfmt.Compare(key, lo) < 0 {
				return 0
			}
			return none
		case q < qid:
			return 0
		}
		return off
	}
	end := length
	if end%blkfmt.BlkSize != 0 && end < math.MaxUint64-blkfmt.BlkSize {
		end += blkfmt.BlkSize - end%blkfmt.BlkSize
	}
	hi := kvfmt.AppendDatKey(nil, qid, end)
	err = x.scan(t, lo, hi, func(key, val []byte, sure bool) error {
		_, off, err := kvfmt.GetDat(key)
		if err != nil || off >= length {
			return nil
		}
		flush(off)
		if from <= off && off < upto {
			from = off + blkfmt.BlkSize
		}
		p, err := kvfmt.GetDatVal(val)
		var b []byte
		ok := err == nil
		if ok {
			b, ok = x.data(p)
		}
		if x.stop != nil {
			return x.stop
		}
		if !ok {
			lose(off, off+blkfmt.BlkSize)
			return nil
		}
		unsure = unsure || !sure
		return put(off, b[:min(blkfmt.BlkSize, length-off)])
	}, func(_ child, hlo, hhi []byte, _ *patch) error {
		a, b := offset(hlo, length), offset(hhi, length)
		if a >= b {
			return nil
		}
		if a >= upto {
			flush(upto)
			from = a
		}
		upto = max(upto, b)
		return nil
	})
	flush(upto)
	return lost, unsure, err
}
