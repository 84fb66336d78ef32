package gefstest

import (
	"fmt"
	"path"
	"slices"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// Attach attaches to a snapshot as user and returns its root.
func Attach(fs *gefs.FS, c *ninep.Ctx, user, aname string) (ninep.File, error) {
	f, _, err := fs.Attach(c, ninep.AttachArgs{Uname: user, Aname: aname})
	return f, err
}

// Walk returns a fid for the file at p, a path without leading slash; "." is f's own file.
func Walk(c *ninep.Ctx, f ninep.File, p string) (ninep.File, error) {
	var names []string
	for _, s := range splitPath(p) {
		names = append(names, s)
	}
	cur := f
	for first := true; first || len(names) > 0; first = false {
		n := min(len(names), ninep.MaxWalk)
		qids := make([]ninep.Qid, n)
		nf, got, err := cur.Walk(c, names[:n], qids)
		if cur != f {
			cur.Clunk(c)
		}
		if err != nil {
			return nil, err
		}
		if got != n {
			return nil, fmt.Errorf("walk %s: %w", p, ninep.ErrNotFound)
		}
		cur, names = nf, names[n:]
	}
	return cur, nil
}

func splitPath(p string) []string {
	var names []string
	for p = path.Clean(p); p != "." && p != "/"; p = path.Dir(p) {
		names = append([]string{path.Base(p)}, names...)
	}
	return names
}

// TreeDigest reads the whole tree below root, every name, mode, time and byte of it.
func TreeDigest(c *ninep.Ctx, root ninep.File) (Digest, error) {
	var st ninep.Dir
	if err := root.Stat(c, &st); err != nil {
		return Digest{}, err
	}
	d := NodeDigest(".", st.Mode&0777, int64(st.Mtime), nil)
	err := Visit(c, root, func(p string, st *ninep.Dir, data []byte) {
		d = d.xor(NodeDigest(p, st.Mode&0777, int64(st.Mtime), data))
	})
	return d, err
}

// Visit calls fn for every file and directory below root, which it names by path. The data is only
// lent.
func Visit(c *ninep.Ctx, root ninep.File, fn func(p string, st *ninep.Dir, data []byte)) error {
	v := visitor{c: c, fn: fn}
	return v.dir(root, ".")
}

type visitor struct {
	c   *ninep.Ctx
	fn  func(p string, st *ninep.Dir, data []byte)
	buf []byte
}

func (v *visitor) dir(dir ninep.File, at string) error {
	f, _, err := dir.Walk(v.c, nil, nil)
	if err != nil {
		return err
	}
	defer f.Clunk(v.c)
	list, err := readAll(v.c, f, nil)
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	dirs, err := ninep.DecodeDirs(list)
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	for i := range dirs {
		p := path.Join(at, dirs[i].Name)
		if err := v.file(dir, p, &dirs[i]); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// file visits the file that its directory describes by st.
func (v *visitor) file(dir ninep.File, p string, st *ninep.Dir) error {
	f, err := Walk(v.c, dir, st.Name)
	if err != nil {
		return err
	}
	defer f.Clunk(v.c)
	var own ninep.Dir
	if err := f.Stat(v.c, &own); err != nil {
		return err
	}
	if own != *st {
		return fmt.Errorf("stat says %+v, its directory %+v", own, *st)
	}
	if st.Mode&ninep.DMDIR != 0 {
		v.fn(p, st, nil)
		return v.dir(f, p)
	}
	if v.buf, err = readAll(v.c, f, v.buf[:0]); err != nil {
		return err
	}
	if uint64(len(v.buf)) != st.Length {
		return fmt.Errorf("%d bytes read, stat says %d", len(v.buf), st.Length)
	}
	v.fn(p, st, v.buf)
	return nil
}

// ReadAll opens f and reads it to its end.
func ReadAll(c *ninep.Ctx, f ninep.File) ([]byte, error) { return readAll(c, f, nil) }

func readAll(c *ninep.Ctx, f ninep.File, buf []byte) ([]byte, error) {
	if _, _, err := f.Open(c, ninep.OREAD); err != nil {
		return nil, err
	}
	for {
		buf = slices.Grow(buf, 64<<10)
		n, err := f.Read(c, buf[len(buf):cap(buf)], uint64(len(buf)))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// DiskDigest reads the tree main and every label but those that ream makes.
func DiskDigest(fs *gefs.FS, user string) (Digest, error) {
	c, end := fs.Background()
	defer end()
	var d Digest
	for _, l := range fs.Forest().Labels() {
		if l.Name == "empty" || l.Name == "adm" {
			continue
		}
		root, err := Attach(fs, c, user, l.Name)
		if err != nil {
			return d, fmt.Errorf("attach %s: %w", l.Name, err)
		}
		t, err := TreeDigest(c, root)
		root.Clunk(c)
		if err != nil {
			return d, fmt.Errorf("snapshot %s: %w", l.Name, err)
		}
		if l.Name != "main" {
			t = LabelDigest(l.Name, t)
		}
		d = d.xor(t)
	}
	return d, nil
}
