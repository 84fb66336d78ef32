package gefstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A ModelFile is what a Model says of a file. It is never changed, only replaced by another.
type ModelFile struct {
	Qid            uint64 // path of its qid
	Vers           uint32
	Mode           uint32
	Uid, Gid, Muid string
	Mtime          [2]uint32 // seconds, not earlier and not later than this
	Data           []byte
}

// Dir reports whether it is a directory.
func (f *ModelFile) Dir() bool { return f.Mode&ninep.DMDIR != 0 }

// A Model says what a client that is alone in a tree must find there. It predicts everything that
// Tstat tells but the time of the last read: also when files change their version. Paths have no
// leading slash; the root's is ".". A Model is for one goroutine.
type Model struct{ files map[string]*ModelFile }

// NewModel returns a Model of a tree that has only a root.
func NewModel(root ModelFile) *Model {
	return &Model{files: map[string]*ModelFile{".": &root}}
}

// Clone returns a second Model of the same tree, which from here on goes its own way.
func (m *Model) Clone() *Model { return &Model{files: maps.Clone(m.files)} }

// File returns what is at p, nil if nothing is. It must not be changed.
func (m *Model) File(p string) *ModelFile { return m.files[p] }

// Paths returns the paths of what keep chooses, in order.
func (m *Model) Paths(keep func(p string, f *ModelFile) bool) []string {
	var list []string
	for p, f := range m.files {
		if keep(p, f) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// Names returns the names of the entries of directory dir, in order.
func (m *Model) Names(dir string) []string {
	list := m.Paths(func(p string, _ *ModelFile) bool { return p != "." && path.Dir(p) == dir })
	for i := range list {
		list[i] = path.Base(list[i])
	}
	return list
}

// An Interval is the time, in the clock of the server, in which a request was made and answered.
type Interval struct{ From, To time.Time }

func (iv Interval) seconds() [2]uint32 {
	sec := func(t time.Time) uint32 { return uint32(t.Add(time.Second / 2).Unix()) }
	return [2]uint32{sec(iv.From), sec(iv.To)}
}

// Change replaces what is at p by what fn makes of a copy, whose version is one up. Data that fn
// changes must be its own.
func (m *Model) Change(p string, fn func(*ModelFile)) {
	f := *m.files[p]
	f.Vers++
	fn(&f)
	m.files[p] = &f
}

func (m *Model) touch(dir, muid string, when Interval) {
	m.Change(dir, func(f *ModelFile) { f.Mtime, f.Muid = when.seconds(), muid })
}

// Create enters a file or directory that uid made with permissions perm. Source: open(5).
func (m *Model) Create(p string, qid uint64, perm uint32, uid string, when Interval) {
	dir := m.files[path.Dir(p)]
	mask := uint32(0666)
	if perm&ninep.DMDIR != 0 {
		mask = 0777
	}
	m.files[p] = &ModelFile{
		Qid: qid, Mode: perm & (^mask | dir.Mode&mask),
		Uid: uid, Gid: dir.Gid, Muid: uid, Mtime: when.seconds(),
	}
	m.touch(path.Dir(p), uid, when)
}

// Write writes data at off, or at the end if the file is append-only.
func (m *Model) Write(p string, off int, data []byte, muid string, when Interval) {
	m.Change(p, func(f *ModelFile) {
		if f.Mode&ninep.DMAPPEND != 0 {
			off = len(f.Data)
		}
		n := len(f.Data)
		if len(data) > 0 {
			n = max(n, off+len(data))
		}
		f.Data = append(make([]byte, 0, n), f.Data...)[:n]
		copy(f.Data[min(off, n):], data)
		f.Mtime, f.Muid = when.seconds(), muid
	})
}

// Truncate is what opening with OTRUNC does.
func (m *Model) Truncate(p, muid string, when Interval) {
	m.Change(p, func(f *ModelFile) { f.Data, f.Mtime, f.Muid = nil, when.seconds(), muid })
}

// Wstat makes the change that d asks for, which must be one that is granted and asks for something.
func (m *Model) Wstat(p string, d *ninep.Dir, muid string, when Interval) {
	m.Change(p, func(f *ModelFile) {
		f.Muid = muid
		if d.Length != ^uint64(0) && !f.Dir() {
			f.Data = append(make([]byte, 0, d.Length), f.Data[:min(uint64(len(f.Data)), d.Length)]...)[:d.Length]
		}
		if d.Mode != ^uint32(0) {
			f.Mode = d.Mode
		}
		if d.Mtime != ^uint32(0) {
			f.Mtime = [2]uint32{d.Mtime, d.Mtime}
		}
		if d.Gid != "" {
			f.Gid = d.Gid
		}
	})
	if d.Name != "" && d.Name != path.Base(p) {
		q := path.Join(path.Dir(p), d.Name)
		for old, f := range maps.Clone(m.files) {
			if old == p || strings.HasPrefix(old, p+"/") {
				delete(m.files, old)
				m.files[q+old[len(p):]] = f
			}
		}
		m.touch(path.Dir(p), muid, when)
	}
}

// Remove removes the file or empty directory at p.
func (m *Model) Remove(p, muid string, when Interval) {
	delete(m.files, p)
	m.touch(path.Dir(p), muid, when)
}

// Stat says whether d is what a Tstat of the file at p must say.
func (m *Model) Stat(p string, d *ninep.Dir) error {
	f := m.files[p]
	if f == nil {
		return fmt.Errorf("%s: should not be there: %+v", p, *d)
	}
	want := *d
	want.Qid = ninep.Qid{Qtype: uint8(f.Mode >> 24), Vers: f.Vers, Uid: f.Qid}
	want.Mode, want.Uid, want.Gid, want.Muid = f.Mode, f.Uid, f.Gid, f.Muid
	want.Length = uint64(len(f.Data))
	want.Mtime = min(max(d.Mtime, f.Mtime[0]), f.Mtime[1])
	if p != "." {
		want.Name = path.Base(p)
	}
	if *d != want {
		return fmt.Errorf("%s: stat says\n\t%+v, want\n\t%+v", p, *d, want)
	}
	return nil
}

// Listing says whether dirs are the entries of directory dir, all of them and with all that Tstat
// would say.
func (m *Model) Listing(dir string, dirs []ninep.Dir) error {
	var names []string
	for i := range dirs {
		names = append(names, dirs[i].Name)
		if err := m.Stat(path.Join(dir, dirs[i].Name), &dirs[i]); err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
	}
	slices.Sort(names)
	if want := m.Names(dir); !slices.Equal(names, want) {
		return fmt.Errorf("list %s: the names are %q, want %q", dir, names, want)
	}
	return nil
}

// Compare reads the whole tree below root and says where it is not what m says.
func (m *Model) Compare(root *client.Fid) error {
	d, err := root.Stat()
	if err != nil {
		return fmt.Errorf("stat the root: %w", err)
	}
	if err := m.Stat(".", &d); err != nil {
		return err
	}
	return m.compareDir(root, ".")
}

func (m *Model) compareDir(dir *client.Fid, at string) error {
	f, err := dir.Walk()
	if err != nil {
		return fmt.Errorf("clone %s: %w", at, err)
	}
	defer f.Clunk()
	if err := f.Open(ninep.OREAD); err != nil {
		return fmt.Errorf("open %s: %w", at, err)
	}
	dirs, err := f.ReadDir()
	if err != nil {
		return fmt.Errorf("list %s: %w", at, err)
	}
	if err := m.Listing(at, dirs); err != nil {
		return err
	}
	for i := range dirs {
		if err := m.compareEntry(dir, path.Join(at, dirs[i].Name)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) compareEntry(dir *client.Fid, p string) error {
	f, err := dir.Walk(path.Base(p))
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	defer f.Clunk()
	if m.files[p].Dir() {
		return m.compareDir(f, p)
	}
	d, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", p, err)
	}
	if err := m.Stat(p, &d); err != nil {
		return err
	}
	if err := f.Open(ninep.OREAD); err != nil {
		return fmt.Errorf("open %s: %w", p, err)
	}
	return m.Contents(p, f)
}

// Contents says whether f, open for reading, reads as the file at p.
func (m *Model) Contents(p string, f *client.Fid) error {
	return m.Range(p, f, 0, len(m.files[p].Data)+1)
}

// Range says whether the n bytes from off on read as they should; at the end of the file there are
// fewer.
func (m *Model) Range(p string, f *client.Fid, off, n int) error {
	want := m.files[p].Data
	want = want[min(off, len(want)):min(off+n, len(want))]
	buf := make([]byte, n)
	got, err := f.ReadFull(buf, int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at %d: %w", p, off, err)
	}
	if buf = buf[:got]; !bytes.Equal(buf, want) {
		return fmt.Errorf("read %s, %d bytes from %d: %s", p, n, off, difference(buf, want))
	}
	return nil
}

// difference says where two texts part.
func difference(got, want []byte) string {
	n := min(len(got), len(want))
	for i := range n {
		if got[i] != want[i] {
			end := i
			for end < n && got[end] != want[end] {
				end++
			}
			return fmt.Sprintf("%d bytes, want %d; bytes %d to %d differ: %x..., want %x...",
				len(got), len(want), i, end, got[i:min(i+16, end)], want[i:min(i+16, end)])
		}
	}
	return fmt.Sprintf("%d bytes, want %d; they agree as far as they go", len(got), len(want))
}
