package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"gefs9p/ninep"
	"gefs9p/salvage"
)

// paxMode is the record of a tar archive in which export says all of a file's mode, in octal digits, if that
// has more than permissions.
const paxMode = "GEFS9P.mode"

// A pathNameError says that a name in an archive leads out of it.
type pathNameError struct{ archive, name string }

func (e *pathNameError) Error() string {
	return fmt.Sprintf("%s: the name %q in the archive is absolute or leads out of it with '..'", e.archive, e.name)
}

// errBadPath says that a path is absolute or has '..' in it.
var errBadPath = errors.New("absolute, or with '..'")

// tarPath cuts a path of an archive into names. What is absolute or has '..' in it is refused, even if it would
// come back.
func tarPath(p string) ([]string, error) {
	if strings.HasPrefix(p, "/") || strings.IndexByte(p, 0) >= 0 {
		return nil, errBadPath
	}
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		switch name {
		case "", ".":
		case "..":
			return nil, errBadPath
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

// A tarSource is a tar archive.
type tarSource struct {
	r    io.Reader
	name string
	sum  *transferred
}

// linked stands for the data of a file that is another one in the same archive.
type linked struct {
	io.Reader
	target []string
}

func (s *tarSource) each(fn func(f *salvage.File, data io.Reader) error) error {
	r := tar.NewReader(s.r)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: read the archive: %w", s.name, pathError(err))
		}
		names, err := tarPath(h.Name)
		if err != nil {
			return &pathNameError{s.name, h.Name}
		}
		f := &salvage.File{Path: names, Uid: h.Uname, Gid: h.Gname}
		if f.Uid == "" {
			f.Uid = strconv.Itoa(h.Uid)
		}
		if f.Gid == "" {
			f.Gid = strconv.Itoa(h.Gid)
		}
		f.Dir.Mode = uint32(h.Mode) & 0777
		f.Dir.Mtime = h.ModTime.UnixNano()
		if v, err := strconv.ParseUint(h.PAXRecords[paxMode], 8, 32); err == nil {
			f.Dir.Mode = uint32(v) & (specialBits | 0777)
		}
		var data io.Reader
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			f.Dir.Length = uint64(h.Size)
			data = r
		case tar.TypeDir:
			f.Dir.Mode |= ninep.DMDIR
		case tar.TypeLink:
			target, err := tarPath(h.Linkname)
			if err != nil {
				return &pathNameError{s.name, h.Linkname}
			}
			data = &linked{target: target}
		case tar.TypeXGlobalHeader:
			continue
		default:
			s.sum.skip(names, "%s: a disk has none", tarKind(h.Typeflag))
			continue
		}
		if f.IsDir() != (data == nil) || len(names) == 0 && data != nil {
			return &pathNameError{s.name, h.Name}
		}
		if err := fn(f, data); err != nil {
			return err
		}
	}
}

func tarKind(t byte) string {
	switch t {
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a FIFO"
	}
	return fmt.Sprintf("an entry of type %q", t)
}

// A dirSource is a directory of the host. Nothing leads out of it.
type dirSource struct {
	root  *os.Root
	sum   *transferred
	names *names
}

func (s *dirSource) each(fn func(f *salvage.File, data io.Reader) error) error {
	return s.dir(".", nil, fn)
}

func (s *dirSource) dir(host string, at []string, fn func(f *salvage.File, data io.Reader) error) error {
	d, err := s.root.Open(host)
	var entries []os.DirEntry
	if err == nil {
		entries, err = d.ReadDir(-1)
		d.Close()
	}
	if err != nil {
		s.sum.skip(append(at, ""), "%v", pathError(err))
		return nil
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		sub, names := path.Join(host, e.Name()), append(append([]string{}, at...), e.Name())
		info, err := s.root.Lstat(sub)
		if err != nil {
			s.sum.skip(names, "%v", pathError(err))
			continue
		}
		f := &salvage.File{Path: names}
		f.Uid, f.Gid = s.names.owner(info)
		f.Dir.Mode = uint32(info.Mode().Perm())
		f.Dir.Mtime = info.ModTime().UnixNano()
		switch {
		case info.IsDir():
			f.Dir.Mode |= ninep.DMDIR
			if err := fn(f, nil); err != nil {
				return err
			}
			if err := s.dir(sub, names, fn); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			f.Dir.Length = uint64(info.Size())
			if err := s.file(sub, f, fn); err != nil {
				return err
			}
		default:
			s.sum.skip(names, "%s: a disk has none", hostKind(info.Mode()))
		}
	}
	return nil
}

func (s *dirSource) file(host string, f *salvage.File, fn func(f *salvage.File, data io.Reader) error) error {
	data := &lazyFile{root: s.root, name: host}
	defer data.close()
	return fn(f, data)
}

// A lazyFile is opened when it is read: most files of an import that goes on are not.
type lazyFile struct {
	root *os.Root
	name string
	f    *os.File
}

func (l *lazyFile) Read(p []byte) (int, error) {
	if l.f == nil {
		f, err := l.root.Open(l.name)
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	return l.f.Read(p)
}

func (l *lazyFile) close() {
	if l.f != nil {
		l.f.Close()
	}
}

func hostKind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeDevice != 0:
		return "a device"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}

// names finds the names of the host's users and groups, each once.
type names struct{ users, groups map[int]string }

func newNames() *names { return &names{map[int]string{}, map[int]string{}} }

func (n *names) user(id int) string {
	name, ok := n.users[id]
	if !ok {
		name = strconv.Itoa(id)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		n.users[id] = name
	}
	return name
}

func (n *names) group(id int) string {
	name, ok := n.groups[id]
	if !ok {
		name = strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		n.groups[id] = name
	}
	return name
}
