package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A folder is what a client of a journal has: files by their path from the root of the file system.
type folder map[string]*file

// A file of a folder. Those of two folders may be shared; whoever changes one makes a new one.
type file struct {
	mode  uint32 // with DMDIR
	mtime uint32 // below setTimes if it was set; otherwise whatever the server says
	data  string
	sum   uint64 // digest of all of these and the name, once it was asked for
	qid   uint64 // path of the qid; 0 if it is not known
}

// setTimes is above the times that clients set and below those that the server gives.
const setTimes = 1 << 30

// sumSeed makes sums comparable inside the process.
var sumSeed = maphash.MakeSeed()

func (f folder) clone() folder {
	c := maps.Clone(f)
	for p, v := range c {
		w := *v
		c[p] = &w
	}
	return c
}

// digest stands for all that is compared of a folder.
func (f folder) digest() (d uint64) {
	for p, v := range f {
		if v.sum == 0 {
			mtime := v.mtime
			if mtime >= setTimes || v.mode&ninep.DMDIR != 0 {
				mtime = 0
			}
			v.sum = maphash.String(sumSeed, fmt.Sprintf("%s\x00%o %d %s", p, v.mode, mtime, v.data))
		}
		d += v.sum
	}
	return d
}

// differences says how two folders differ, for a failed test.
func (f folder) differences(want folder) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(f)) {
		g, w := f[p], want[p]
		switch {
		case w == nil:
			fmt.Fprintf(&b, "%s is there, %d bytes\n", p, len(g.data))
		case g.mode != w.mode:
			fmt.Fprintf(&b, "%s has mode %o, want %o\n", p, g.mode, w.mode)
		case g.data != w.data:
			fmt.Fprintf(&b, "%s has %d bytes, want %d; they differ at %d\n", p, len(g.data), len(w.data), difference([]byte(g.data), []byte(w.data)))
		case g.mode&ninep.DMDIR == 0 && g.mtime != w.mtime && min(g.mtime, w.mtime) < setTimes:
			fmt.Fprintf(&b, "%s has time %d, want %d\n", p, g.mtime, w.mtime)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if f[p] == nil {
			fmt.Fprintf(&b, "%s is not there\n", p)
		}
	}
	return b.String()
}

// sameQids compares the qids that are known with those found, and remembers the others.
func (f folder) sameQids(found folder) error {
	paths := make(map[uint64]string)
	for p, v := range found {
		if other, twice := paths[v.qid]; twice {
			return fmt.Errorf("%s and %s have the same qid.path %d", p, other, v.qid)
		}
		paths[v.qid] = p
		w := f[p]
		if w.qid != 0 && w.qid != v.qid {
			return fmt.Errorf("%s has qid.path %d, and had %d when it was made", p, v.qid, w.qid)
		}
		w.qid = v.qid
	}
	return nil
}

// The kinds of operations. Each is one request that changes the tree, and so happens or does not.
type opKind int

const (
	opCreate opKind = iota
	opMkdir
	opWrite
	opTruncate  // by Twstat
	opTruncOpen // by Topen
	opChmod
	opTime
	opRename
	opRemove
)

var opNames = [...]string{"create", "mkdir", "write", "truncate", "open with OTRUNC", "chmod", "set the time of", "rename", "remove"}

// An op is one operation of a journal.
type op struct {
	kind opKind
	path string
	to   string // new name of a renamed file, in the same folder
	off  int64  // of a write; length of a truncation
	data string // of a write
	arg  uint32 // mode or time
}

func (o op) String() string {
	switch o.kind {
	case opWrite:
		return fmt.Sprintf("write %s, %d bytes at %d", o.path, len(o.data), o.off)
	case opTruncate:
		return fmt.Sprintf("truncate %s to %d", o.path, o.off)
	case opRename:
		return fmt.Sprintf("rename %s to %s", o.path, o.to)
	}
	return opNames[o.kind] + " " + o.path
}

const (
	maxFiles  = 24       // of a client
	maxLength = 96 << 10 // of a file, about
)

// home is the name of a client's folder.
func home(id int) string { return fmt.Sprintf("c%02d", id) }

// next returns an operation that must succeed and that leaves a state which was not there before.
func (a *author) next() op {
	a.serial++
	top := home(a.id)
	if a.now[top] == nil {
		return op{kind: opMkdir, path: top, arg: ninep.DMDIR | 0o775}
	}
	names := slices.Sorted(maps.Keys(a.now))
	var dirs, files []string
	for _, p := range names {
		if a.now[p].mode&ninep.DMDIR != 0 {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
	}
	pick := func(s []string) string { return s[a.rnd.IntN(len(s))] }
	if len(files) == 0 {
		return op{kind: opCreate, path: fmt.Sprintf("%s/f%d", top, a.serial), arg: 0o664}
	}
	for {
		switch p := pick(files); a.rnd.IntN(16) {
		case 0, 1, 2:
			if len(names) < maxFiles {
				return op{kind: opCreate, path: fmt.Sprintf("%s/f%d", pick(dirs), a.serial), arg: a.mode()}
			}
		case 3:
			if len(names) < maxFiles && len(dirs) < 5 {
				return op{kind: opMkdir, path: fmt.Sprintf("%s/d%d", pick(dirs), a.serial), arg: ninep.DMDIR | 0o775}
			}
		default:
			n := len(a.now[p].data)
			off := a.rnd.IntN(n + 1)
			switch a.rnd.IntN(4) {
			case 0:
				off = n // append
			case 1:
				off += a.rnd.IntN(20000) // perhaps a hole
			}
			// Often within a block, sometimes over several: all of it happens or nothing.
			length := 1 + a.rnd.IntN(1000)
			if a.rnd.IntN(4) == 0 {
				length = 1 + a.rnd.IntN(48<<10)
			}
			if off+length <= maxLength {
				return op{kind: opWrite, path: p, off: int64(off), data: a.text(length)}
			}
		case 10:
			if n := len(a.now[p].data); n > 0 {
				return op{kind: opTruncate, path: p, off: int64(a.rnd.IntN(n + 5000))}
			}
		case 11:
			if len(a.now[p].data) > 0 {
				return op{kind: opTruncOpen, path: p}
			}
		case 12:
			if mode := a.mode(); mode != a.now[p].mode {
				return op{kind: opChmod, path: p, arg: mode}
			}
		case 13:
			return op{kind: opTime, path: p, arg: uint32(a.serial % setTimes)}
		case 14:
			return op{kind: opRename, path: p, to: fmt.Sprintf("r%d", a.serial)}
		case 15:
			if p = pick(names); p != top && a.now.empty(p) {
				return op{kind: opRemove, path: p}
			}
		}
	}
}

// mode returns one that the file's folder leaves as it is, see open(5), and that lets us in.
func (a *author) mode() uint32 { return 0o600 | a.rnd.Uint32N(64)&0o75 }

// empty says whether nothing is below p.
func (f folder) empty(p string) bool {
	for q := range f {
		if strings.HasPrefix(q, p+"/") {
			return false
		}
	}
	return true
}

// text returns n bytes that say who wrote them when.
func (a *author) text(n int) string {
	line := fmt.Sprintf("client %d wrote this as operation %d\n", a.id, a.serial)
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// apply does the operation to f.
func (o op) apply(f folder) {
	v := file{mode: o.arg, mtime: setTimes}
	if old := f[o.path]; old != nil && o.kind > opMkdir {
		v = *old
	}
	v.sum = 0
	switch o.kind {
	case opWrite:
		end := int(o.off) + len(o.data)
		b := make([]byte, max(end, len(v.data)))
		copy(b, v.data)
		copy(b[o.off:], o.data)
		v.data, v.mtime = string(b), setTimes
	case opTruncate, opTruncOpen:
		b := make([]byte, o.off)
		copy(b, v.data)
		v.data = string(b)
		if o.kind == opTruncOpen {
			v.mtime = setTimes // a Twstat leaves the time as it is
		}
	case opChmod:
		v.mode = o.arg
	case opTime:
		v.mtime = o.arg
	case opRename:
		delete(f, o.path)
		f[path.Join(path.Dir(o.path), o.to)] = &v
		return
	case opRemove:
		delete(f, o.path)
		return
	}
	f[o.path] = &v
}

// A prepared operation has its fid and needs one request more.
type prepared struct {
	op op
	f  *client.Fid
}

// prepare does all that is needed before the operation and changes nothing.
func (o op) prepare(root *client.Fid) (prepared, error) {
	name := o.path
	if o.kind == opCreate || o.kind == opMkdir {
		name = parent(name)
	}
	f, err := root.WalkPath(name)
	if err == nil && o.kind == opWrite {
		if err = f.Open(ninep.OWRITE); err == nil && f.Iounit() < len(o.data) {
			err = fmt.Errorf("%w: iounit %d", client.ErrProtocol, f.Iounit())
		}
	}
	return prepared{o, f}, err
}

// do sends the request. It returns the qid's path of what it made.
func (p prepared) do() (qid uint64, err error) {
	d := ninep.NullDir()
	switch o := p.op; o.kind {
	case opCreate:
		err = p.f.Create(path.Base(o.path), o.arg, ninep.ORDWR)
		return p.f.Qid().Uid, err
	case opMkdir:
		err = p.f.Create(path.Base(o.path), o.arg, ninep.OREAD)
		return p.f.Qid().Uid, err
	case opWrite:
		_, err = p.f.WriteAt([]byte(o.data), o.off)
		return 0, err
	case opTruncOpen:
		return 0, p.f.Open(ninep.OWRITE | ninep.OTRUNC)
	case opRemove:
		return 0, p.f.Remove()
	case opTruncate:
		d.Length = uint64(o.off)
	case opChmod:
		d.Mode = o.arg
	case opTime:
		d.Mtime = o.arg
	case opRename:
		d.Name = o.to
	}
	return 0, p.f.Wstat(d)
}

// readFolder reads all that a client has. Nothing at all is a folder as well.
func readFolder(ctx context.Context, dial dialer, id int) (folder, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	root, err := c.Attach("glenda", "")
	if err != nil {
		return nil, err
	}
	f := folder{}
	top, err := root.Walk(home(id))
	if err != nil {
		if isNotFound(err) {
			return f, nil
		}
		return nil, err
	}
	return f, f.read(top, home(id))
}

// isNotFound recognizes a walk that ended at a name which is not there.
func isNotFound(err error) bool {
	return errors.Is(err, client.ErrNotFound) || strings.Contains(err.Error(), "not found")
}

// read adds the file and what is below it, and clunks the fid.
func (f folder) read(fid *client.Fid, p string) error {
	defer fid.Clunk()
	d, err := fid.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", p, err)
	}
	v := &file{mode: d.Mode, mtime: d.Mtime, qid: d.Qid.Uid}
	f[p] = v
	open, err := fid.Walk() // the fid itself is still to be walked from
	if err != nil {
		return fmt.Errorf("walk to %s again: %w", p, err)
	}
	defer open.Clunk()
	if err := open.Open(ninep.OREAD); err != nil {
		return fmt.Errorf("open %s: %w", p, err)
	}
	if d.Mode&ninep.DMDIR == 0 {
		buf := make([]byte, d.Length+1)
		n, err := open.ReadFull(buf, 0)
		if err != io.EOF {
			return fmt.Errorf("read %s, %d of %d bytes: %w", p, n, d.Length, err)
		}
		v.data = string(buf[:n])
		if uint64(n) != d.Length {
			return fmt.Errorf("%s: %d bytes are read, its length is %d", p, n, d.Length)
		}
		return nil
	}
	entries, err := open.ReadDir()
	if err != nil {
		return fmt.Errorf("read folder %s: %w", p, err)
	}
	for _, e := range entries {
		g, err := fid.Walk(e.Name)
		if err != nil {
			return fmt.Errorf("%s/%s is in the folder, but: %w", p, e.Name, err)
		}
		if err := f.read(g, p+"/"+e.Name); err != nil {
			return err
		}
	}
	return nil
}
