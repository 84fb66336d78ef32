package golibs

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"

	"gefs9p/ninep"
)

// hugelgupf is a client that speaks 9P2000.L and nothing else.
type hugelgupf struct {
	c    *p9.Client
	nc   net.Conn
	root p9.File
}

func attachHugelgupf(network, addr, uname, aname string) (tree, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c, err := p9.NewClient(&named{Conn: nc, uname: uname})
	if err != nil {
		nc.Close()
		return nil, err
	}
	root, err := c.Attach(aname)
	if err != nil {
		nc.Close()
		return nil, attachErr(err)
	}
	return hugelgupf{c, nc, root}, nil
}

// A named is a connection whose Tattach says who attaches: the library has no way to.
type named struct {
	net.Conn
	uname string
	frame []byte // what has been written of a frame that is not complete
}

func (n *named) Write(p []byte) (int, error) {
	n.frame = append(n.frame, p...)
	for len(n.frame) >= ninep.HeaderSize {
		size := binary.LittleEndian.Uint32(n.frame)
		if uint64(size) > uint64(len(n.frame)) {
			break
		}
		f := n.frame[:size]
		if f[4] == ninep.Tattach {
			var m ninep.Fcall
			if err := m.DecodeLinux(f); err != nil {
				return 0, err
			}
			var err error
			if f, err = ninep.AppendTattachL(nil, m.Tag, m.Tattach.Fid, m.Tattach.Afid, n.uname, m.Tattach.Aname, m.NUname); err != nil {
				return 0, err
			}
		}
		if _, err := n.Conn.Write(f); err != nil {
			return 0, err
		}
		n.frame = n.frame[size:]
	}
	return len(p), nil
}

// saying makes of numbers the texts that gefs has for them in 9P2000, for tests that compare these.
func saying(err error, texts map[linux.Errno]string) error {
	var no linux.Errno
	if !errors.As(err, &no) {
		return err
	}
	if s, ok := texts[no]; ok {
		return errText(s)
	}
	return err
}

func hugErr(err error) error {
	return saying(err, map[linux.Errno]string{
		linux.ENOENT: saysNotFound, linux.EEXIST: saysExists, linux.EACCES: saysPerm, linux.ENOTEMPTY: saysNotEmpty,
	})
}

func attachErr(err error) error {
	return saying(err, map[linux.Errno]string{linux.ENOENT: saysBadSpec, linux.EACCES: saysNoUser})
}

func (t hugelgupf) Close() { t.nc.Close() }

// walk returns a fid of its own for path.
func (t hugelgupf) walk(path string) (p9.File, error) {
	names := split(path)
	qids, f, err := t.root.Walk(names)
	if err != nil {
		return nil, hugErr(err)
	}
	if len(qids) < len(names) {
		f.Close() // there is no such fid, which the library does not notice
		return nil, errText(saysNotFound)
	}
	return f, nil
}

// in does something with the directory that path lies in.
func (t hugelgupf) in(path string, do func(dir p9.File, name string) error) error {
	dir, name := dirAndName(path)
	f, err := t.walk(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return hugErr(do(f, name))
}

// with does something with the file.
func (t hugelgupf) with(path string, do func(f p9.File) error) error {
	f, err := t.walk(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return hugErr(do(f))
}

// writeAll writes data at off, as many bytes at a time as the library likes.
func writeAll(f p9.File, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := f.WriteAt(data, off)
		if err != nil {
			return err
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func (t hugelgupf) Create(path string, perm uint32, data []byte) error {
	return t.in(path, func(dir p9.File, name string) error {
		const exclusive = ninep.OCreat | ninep.OExcl
		if _, _, _, err := dir.Create(name, p9.WriteOnly|exclusive, p9.FileMode(perm), p9.NoUID, p9.NoGID); err != nil {
			return err
		}
		return writeAll(dir, data, 0)
	})
}

func (t hugelgupf) WriteAt(path string, data []byte, off int64, trunc bool) error {
	return t.with(path, func(f p9.File) error {
		flags := p9.WriteOnly
		if trunc {
			flags |= ninep.OTrunc
		}
		if _, _, err := f.Open(flags); err != nil {
			return err
		}
		return writeAll(f, data, off)
	})
}

func (t hugelgupf) ReadAll(path string) (data []byte, err error) {
	err = t.with(path, func(f p9.File) error {
		if _, _, err := f.Open(p9.ReadOnly); err != nil {
			return err
		}
		p := make([]byte, 200_000)
		for {
			n, err := f.ReadAt(p, int64(len(data)))
			data = append(data, p[:n]...)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return data, err
}

func (t hugelgupf) Stat(path string) (in info, err error) {
	err = t.with(path, func(f p9.File) error {
		q, _, a, err := f.GetAttr(p9.AttrMaskAll)
		_, name := dirAndName(path)
		in = info{name, a.Mode.IsDir(), uint32(a.Mode.Permissions()), a.Size, q.Path, q.Version, "somebody"}
		if a.UID == 1 { // as a new disk has it
			in.Uid = "glenda"
		}
		return err
	})
	return in, err
}

// List has no more of a file than Linux's Treaddir: its name, its qid and whether it is a directory.
func (t hugelgupf) List(path string) (all []info, err error) {
	err = t.with(path, func(f p9.File) error {
		if _, _, err := f.Open(p9.ReadOnly); err != nil {
			return err
		}
		for off := uint64(0); ; {
			ents, err := f.Readdir(off, 8000)
			if err != nil || len(ents) == 0 {
				return err
			}
			for _, e := range ents {
				if off = e.Offset; e.Name != "." && e.Name != ".." {
					all = append(all, info{Name: e.Name, Dir: e.QID.Type == p9.TypeDir, QidPath: e.QID.Path, QidVers: e.QID.Version})
				}
			}
		}
	})
	return all, err
}

func (t hugelgupf) Mkdir(path string, perm uint32) error {
	return t.in(path, func(dir p9.File, name string) error {
		_, err := dir.Mkdir(name, p9.FileMode(perm), p9.NoUID, p9.NoGID)
		return err
	})
}

// Rename does not replace a file, which is what the others are asked for: TestLinuxsOwn does.
func (t hugelgupf) Rename(path, name string) error {
	return t.in(path, func(dir p9.File, old string) error {
		if qids, f, err := dir.Walk([]string{name}); err == nil {
			f.Close()
			if len(qids) == 1 {
				return errSkip
			}
		}
		return dir.RenameAt(old, dir, name)
	})
}

func (t hugelgupf) setattr(path string, valid p9.SetAttrMask, a p9.SetAttr) error {
	return t.with(path, func(f p9.File) error { return f.SetAttr(valid, a) })
}

func (t hugelgupf) Chmod(path string, perm uint32) error {
	return t.setattr(path, p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: p9.FileMode(perm)})
}

func (t hugelgupf) Truncate(path string, n uint64) error {
	return t.setattr(path, p9.SetAttrMask{Size: true}, p9.SetAttr{Size: n})
}

func (t hugelgupf) Remove(path string) error {
	in, err := t.Stat(path)
	if err != nil {
		return err
	}
	return t.in(path, func(dir p9.File, name string) error {
		flags := uint32(0)
		if in.Dir {
			flags = ninep.AtRemoveDir
		}
		return dir.UnlinkAt(name, flags)
	})
}

// TestLinuxsOwn is what 9P2000.L has and the others have not, as a client says it that we have not written.
func TestLinuxsOwn(t *testing.T) {
	at := serve(t)[0]
	tr, err := attachHugelgupf(at.network, at.addr, "glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	l := tr.(hugelgupf)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	refused := func(what string, err error, want linux.Errno) {
		t.Helper()
		var no linux.Errno
		if !errors.As(err, &no) || no != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	must("mkdir", l.Mkdir("d", 0o755))
	must("create", l.Create("a", 0o644, []byte("a")))
	must("create", l.Create("d/b", 0o644, []byte("b")))
	d, err := l.walk("d")
	must("walk", err)

	must("rename onto a file elsewhere", l.root.RenameAt("a", d, "b"))
	if got, err := l.ReadAll("d/b"); err != nil || string(got) != "a" {
		t.Errorf("the replaced file holds %q, %v", got, err)
	}
	f, err := l.walk("d/b")
	must("walk", err)
	must("rename back", f.Rename(l.root, "a"))
	_, _, err = f.Open(p9.ReadWrite)
	must("open", err)
	must("fsync", f.FSync())

	_, err = f.Lock(1, p9.WriteLock, 0, 0, 10, "one")
	refused("a lock, for which the library names no fid", err, linux.EBADF)
	must("unlink of what is open", l.root.UnlinkAt("a", 0))
	must("write to it", writeAll(f, []byte(strings.Repeat("x", 100)), 0))
	if _, _, a, err := f.GetAttr(p9.AttrMaskAll); err != nil || a.NLink != 0 || a.Size != 100 {
		t.Errorf("a removed file: %v, %v", a, err)
	}
	must("clunk", f.Close())

	s, err := l.root.StatFS()
	if must("statfs", err); s.BlockSize != 16384 || s.Blocks == 0 || s.BlocksFree > s.Blocks || s.NameLength != 244 {
		t.Errorf("statfs: %+v", s)
	}
	_, err = l.root.Symlink("to", "link", p9.NoUID, p9.NoGID)
	refused("symlink", err, linux.EOPNOTSUPP)
	refused("link", l.root.Link(d, "hard"), linux.EOPNOTSUPP)
	_, err = l.root.Mknod("pipe", p9.ModeNamedPipe|0o644, 0, 0, p9.NoUID, p9.NoGID)
	refused("mknod of a pipe", err, linux.EOPNOTSUPP)
	_, err = l.root.Mknod("file", p9.ModeRegular|0o644, 0, 0, p9.NoUID, p9.NoGID)
	must("mknod of a file", err)
	_, err = d.Readlink()
	refused("readlink", err, linux.EOPNOTSUPP)
	refused("rmdir of a file", l.root.UnlinkAt("file", ninep.AtRemoveDir), linux.ENOTDIR)
	refused("unlink of a directory", l.root.UnlinkAt("d", 0), linux.EISDIR)
	must("clunk", d.Close())
	must("rmdir", l.root.UnlinkAt("d", ninep.AtRemoveDir))
}
