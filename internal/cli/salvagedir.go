package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gefs9p/salvage"
	"gefs9p/users"
)

// manifestName is the file in a folder that says what its files were on the disk.
const manifestName = "manifest.jsonl"

// A folder is an outlet into a directory of the host. Nothing leads out of it, whatever the names on
// the disk are.
type folder struct {
	path     string
	root     *os.Root
	manifest *os.File
	buf      *bufio.Writer
	label    string            // host name of the label's folder
	renamed  map[string]string // path on the disk, with zero bytes between names: its name on the host, if it is another
	nrenamed int
	owners   bool // can be set
	ids      map[string]int
}

// newFolder looks whether the directory is empty, or can be made.
func newFolder(path string) (*folder, error) {
	f := &folder{path: path, renamed: map[string]string{}, owners: os.Geteuid() == 0, ids: map[string]int{}}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%s: no such folder", filepath.Dir(path))
		}
	case err != nil:
		return nil, pathError(err)
	case len(entries) > 0:
		return nil, fmt.Errorf("%s: not empty: it has %s; name a directory that is not there", path, entries[0].Name())
	}
	return f, nil
}

// start makes the directory, now that there is something to put into it.
func (f *folder) start() error {
	if err := os.Mkdir(f.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return &outError{pathError(err)}
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return &outError{pathError(err)}
	}
	f.root = root
	if f.manifest, err = root.OpenFile(manifestName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return &outError{fmt.Errorf("%s: %w", f.path, pathError(err))}
	}
	f.buf = bufio.NewWriter(f.manifest)
	return nil
}

// Close implements outlet. What was written before a failure stays.
func (f *folder) Close(ok bool) error {
	var err error
	if f.buf != nil {
		err = errors.Join(f.buf.Flush(), f.manifest.Sync(), f.manifest.Close())
	}
	if f.root != nil {
		err = errors.Join(err, f.root.Close())
	}
	return err
}

// Notes implements outlet.
func (f *folder) Notes() []string {
	if f.nrenamed == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d names could not be as they were: the manifest lists them as host", f.nrenamed)}
}

// Label implements salvage.Sink.
func (f *folder) Label(l salvage.LabelReport, _ *users.Table) error {
	if f.root == nil {
		if err := f.start(); err != nil {
			return err
		}
	}
	f.label = hostName(l.Name)
	if f.label == manifestName {
		f.label = "%" + f.label
	}
	if err := f.root.Mkdir(f.label, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return &outError{fmt.Errorf("%s: %w", f.path, err)}
	}
	return nil
}

// hostName returns name as a host can hold it: slashes and what is no name at all become %XX.
func hostName(name string) string {
	switch name {
	case "", ".", "..":
		return "%" + name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c == '/' || c == 0 || c == '\\' && filepath.Separator == '\\' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// host returns the path on the host of a path on the disk.
func (f *folder) host(path []string) string {
	p := f.label
	for i, name := range path {
		h := hostName(name)
		if len(f.renamed) > 0 {
			if r, ok := f.renamed[f.label+"\x00"+strings.Join(path[:i+1], "\x00")]; ok {
				h = r
			}
		}
		p = filepath.Join(p, h)
	}
	return p
}

// refusal makes of an error of the host one about a file alone, unless it is one of all files.
func (f *folder) refusal(err error) error {
	if err == nil {
		return nil
	}
	if isOfAll(err) || errors.Is(err, fs.ErrClosed) {
		return &outError{fmt.Errorf("%s: %w", f.path, pathError(err))}
	}
	return &salvage.FileError{Err: pathError(err)}
}

// make calls fn with names for the last element of path until one is free, and opens the directory it
// is in if that has been closed to us by its mode.
func (f *folder) make(path []string, fn func(host string) error) error {
	for i := 0; ; i++ {
		host := f.host(path)
		err := fn(host)
		if errors.Is(err, fs.ErrPermission) {
			dir := filepath.Dir(host)
			if info, serr := f.root.Stat(dir); serr == nil && f.root.Chmod(dir, info.Mode().Perm()|0o700) == nil {
				err = fn(host)
				f.root.Chmod(dir, info.Mode().Perm())
			}
		}
		name := hostName(path[len(path)-1])
		if i == 0 && name != path[len(path)-1] && err == nil {
			f.nrenamed++
		}
		if !errors.Is(err, fs.ErrExist) || i == 1000 {
			return f.refusal(err)
		}
		if i == 0 {
			f.nrenamed++
		}
		f.renamed[f.label+"\x00"+strings.Join(path, "\x00")] = fmt.Sprintf("%s%%%d", name, i+2)
	}
}

// Mkdir implements salvage.Sink.
func (f *folder) Mkdir(d *salvage.File) error {
	if len(d.Path) == 0 {
		return nil // made by Label
	}
	return f.make(d.Path, func(host string) error {
		err := f.root.Mkdir(host, 0o700)
		if errors.Is(err, fs.ErrExist) {
			if info, serr := f.root.Lstat(host); serr == nil && info.IsDir() {
				return nil // it comes twice
			}
		}
		return err
	})
}

// Done implements salvage.Sink.
func (f *folder) Done(d *salvage.File) error {
	host := f.host(d.Path)
	if err := f.record(d, host); err != nil {
		return err
	}
	return f.refusal(f.finish(d, host))
}

// finish sets owner, mode and times.
func (f *folder) finish(d *salvage.File, host string) error {
	if f.owners {
		uid, gid := f.id("u", d.Uid), f.id("g", d.Gid)
		if uid >= 0 || gid >= 0 {
			if err := f.root.Lchown(host, uid, gid); err != nil {
				return err
			}
		}
	}
	if err := f.root.Chmod(host, fs.FileMode(d.Dir.Mode&0o777)); err != nil {
		return err
	}
	return f.root.Chtimes(host, time.Unix(0, d.Dir.Atime), time.Unix(0, d.Dir.Mtime))
}

// id returns the host's number of a user ("u") or group ("g"), -1 if it has none of this name.
func (f *folder) id(what, name string) int {
	if n, ok := f.ids[what+name]; ok {
		return n
	}
	n, text := -1, ""
	if what == "u" {
		if u, err := user.Lookup(name); err == nil {
			text = u.Uid
		}
	} else if g, err := user.LookupGroup(name); err == nil {
		text = g.Gid
	}
	if v, err := strconv.Atoi(text); err == nil {
		n = v
	}
	f.ids[what+name] = n
	return n
}

// A manifestLine says what a file was on the disk.
type manifestLine struct {
	Label  string          `json:"label"`
	Path   string          `json:"path"`
	Bytes  []byte          `json:"pathBytes,omitempty"` // the path, if it is not UTF-8
	Host   string          `json:"host,omitempty"`      // where it is, if that is not label and path
	Mode   string          `json:"mode"`                // octal, all of 9P's bits
	Uid    string          `json:"uid"`
	Gid    string          `json:"gid"`
	Muid   string          `json:"muid"`
	Atime  int64           `json:"atime"` // nanoseconds since 1970
	Mtime  int64           `json:"mtime"`
	Length uint64          `json:"length"`
	Qid    uint64          `json:"qid"`
	Vers   uint32          `json:"vers"`
	Status salvage.Status  `json:"status"`
	Why    string          `json:"why,omitempty"`
	Lost   []salvage.Range `json:"lost,omitempty"`
}

func (f *folder) record(d *salvage.File, host string) error {
	path := "/" + strings.Join(d.Path, "/")
	line := manifestLine{Label: d.Label, Path: path, Mode: fmt.Sprintf("%#o", d.Dir.Mode), Uid: d.Uid, Gid: d.Gid, Muid: d.Muid,
		Atime: d.Dir.Atime, Mtime: d.Dir.Mtime, Length: d.Dir.Length, Qid: d.Dir.Qid.Path, Vers: d.Dir.Qid.Vers,
		Status: d.Status, Why: d.Why, Lost: d.Lost}
	if !utf8.ValidString(path) {
		line.Bytes = []byte(path)
	}
	if host != filepath.Join(d.Label, filepath.FromSlash(path)) {
		line.Host = host
	}
	p, err := json.Marshal(&line)
	if err == nil {
		_, err = f.buf.Write(append(p, '\n'))
	}
	if err != nil {
		return &outError{fmt.Errorf("%s: %w", manifestName, err)}
	}
	return nil
}

// Create implements salvage.Sink.
func (f *folder) Create(d *salvage.File) (salvage.Writer, error) {
	w := &folderFile{f: f}
	err := f.make(d.Path, func(host string) (err error) {
		w.host = host
		w.file, err = f.root.OpenFile(host, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		d.Status, d.Why = salvage.Damaged, err.Error()
		if rerr := f.record(d, w.host); rerr != nil {
			return nil, rerr
		}
		return nil, err
	}
	return w, nil
}

// A folderFile is a file being written.
type folderFile struct {
	f    *folder
	file *os.File
	host string
}

// WriteAt implements salvage.Writer.
func (w *folderFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.file.WriteAt(p, off)
	return n, w.f.refusal(err)
}

// Finish implements salvage.Writer.
func (w *folderFile) Finish(d *salvage.File) error {
	err := w.f.refusal(w.file.Truncate(int64(min(d.Dir.Length, 1<<63-1))))
	if cerr := w.f.refusal(w.file.Close()); err == nil {
		err = cerr
	}
	if err == nil {
		err = w.f.refusal(w.f.finish(d, w.host))
	}
	if err != nil {
		d.Status, d.Why = salvage.Damaged, err.Error()
	}
	if rerr := w.f.record(d, w.host); rerr != nil {
		return rerr
	}
	return err
}
