package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gefs9p/client"
	"gefs9p/ninep"
	"gefs9p/salvage"
)

// An exporter copies what is in a snapshot.
type exporter struct {
	transfer
	dst  string
	asis bool // the destination is a tar archive, whatever its name
	to   exportSink
}

// An exportSink takes the files of a snapshot: each directory before what is in it. An error of type
// *salvage.FileError is about one file.
type exportSink interface {
	// mkdir makes a directory, leave says that all in it has been made.
	mkdir(f *salvage.File) error
	leave(f *salvage.File) error
	// add writes a file whose data open opens. same says that it was there already.
	add(f *salvage.File, open func() (io.ReadCloser, error)) (same bool, err error)
	close(ok bool) error
}

func newExport() *cobra.Command {
	var ex exporter
	cmd := &cobra.Command{
		Use:   "export DISK[:SNAP] DST",
		Short: "copy a snapshot into a directory or a tar archive",
		Long: `Export copies all that is in the snapshot, main if none is named, into the directory DST, which
is made, or a tar archive, if DST ends in .tar or --tar is given; - is standard output.

Modes, times (to the second), and owners are kept; owners in a directory if root runs it and the host
has users of these names. Bits of modes that a host does not have (append only, exclusive use, temporary)
are kept in archives, for import. Holes stay holes in directories. Names that the host cannot hold get %XX for
a byte.

In a directory, a file that is there already with the same size and time is left alone, so the same
command again goes on with an export that was ended; others of the same names are replaced, and nothing
else is removed. An archive of the same snapshot is gone on with behind its last whole file.

What could not be copied is listed at the end, and the exit code is 1 then.

The disk must not be served: there, mount it and copy.

` + keyHelp,
		Example: `  gefs9p export disk.img saved
  gefs9p export disk.img:monday monday.tar
  gefs9p export disk.img - | ssh host tar xf -`,
		Args: diskAnd("directory or archive", true),
		RunE: func(cmd *cobra.Command, args []string) error {
			ex.dst = args[1]
			if err := ex.take(cmd, args[0]); err != nil {
				return err
			}
			return ex.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&ex.asis, "tar", false, "DST is a tar archive, whatever its name")
	ex.flags(cmd)
	return cmd
}

func (ex *exporter) run(ctx context.Context) error {
	said := ex.out
	err := ex.with(ctx, true, func() (err error) {
		switch {
		case ex.dst == "-":
			said = ex.errw
			ex.to = newTarSink(&ex.transfer, outlets{ex.out})
		case ex.asis || strings.HasSuffix(ex.dst, ".tar"):
			ex.to, err = openTarSink(&ex.transfer, ex.dst)
		default:
			ex.to, err = newDirSink(&ex.transfer, ex.dst)
		}
		if err != nil {
			return err
		}
		err = ex.all()
		if cerr := ex.to.close(err == nil); err == nil {
			err = cerr
		}
		return err
	})
	if err != nil {
		return err
	}
	return ex.report(said, "exported")
}

func (ex *exporter) all() error {
	root, err := ex.w.conn.Attach(ex.w.user, "%"+ex.label)
	if err != nil {
		return ex.w.fail(err)
	}
	defer root.Clunk()
	return ex.dir(root, nil)
}

// dir exports what is in a directory.
func (ex *exporter) dir(fid *client.Fid, at []string) error {
	list, err := fid.Walk()
	if err == nil {
		err = list.Open(ninep.OREAD)
	}
	var entries []ninep.Dir
	if err == nil {
		entries, err = list.ReadDir()
	}
	if list != nil {
		list.Clunk()
	}
	if err != nil {
		return ex.oneFile(append(at, ""), ex.w.refusal(err))
	}
	for i := range entries {
		if err := ex.w.ctx.Err(); err != nil {
			return err
		}
		d := &entries[i]
		f := &salvage.File{Path: append(slices.Clone(at), d.Name), Uid: d.Uid, Gid: d.Gid, Muid: d.Muid}
		f.Dir.Mode, f.Dir.Length = d.Mode, d.Length
		f.Dir.Mtime, f.Dir.Atime = int64(d.Mtime)*1e9, int64(d.Atime)*1e9
		if err := ex.oneFile(f.Path, ex.one(fid, f)); err != nil {
			return err
		}
	}
	return nil
}

// one exports an entry of the directory, with all below.
func (ex *exporter) one(dir *client.Fid, f *salvage.File) error {
	fid, err := dir.Walk(f.Path[len(f.Path)-1])
	if err != nil {
		return ex.w.refusal(err)
	}
	defer fid.Clunk()
	if f.IsDir() {
		if err := ex.to.mkdir(f); err != nil {
			return err
		}
		ex.sum.Dirs++
		if err := ex.dir(fid, f.Path); err != nil {
			return err
		}
		return ex.to.leave(f)
	}
	same, err := ex.to.add(f, func() (io.ReadCloser, error) {
		if err := fid.Open(ninep.OREAD); err != nil {
			return nil, err
		}
		return fid.NewReader(0, 4)
	})
	var unread *readError
	switch {
	case errors.As(err, &unread):
		return &salvage.FileError{Err: unread.err}
	case err != nil:
		return err
	case same:
		ex.sum.Same++
	default:
		ex.sum.Files++
	}
	ex.show("exporting")
	return nil
}

// A dirSink is a directory of the host. Nothing leads out of it.
type dirSink struct {
	t      *transfer
	folder *folder
	taken  map[string]bool // names on hosts for which small and capital letters are the same
}

// newDirSink makes the directory if it is not there.
func newDirSink(t *transfer, path string) (*dirSink, error) {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, pathError(err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, pathError(err)
	}
	f := &folder{path: path, root: root, renamed: map[string]string{}, owners: os.Geteuid() == 0, ids: map[string]int{}}
	return &dirSink{t: t, folder: f, taken: map[string]bool{}}, nil
}

// twin gives a file another name that the host would take for one that was made before.
func (s *dirSink) twin(f *salvage.File) {
	if runtime.GOOS != "darwin" && runtime.GOOS != "windows" {
		return
	}
	key := strings.ToLower(s.folder.host(f.Path))
	for n := 2; s.taken[key]; n++ {
		name := fmt.Sprintf("%s%%%d", hostName(f.Path[len(f.Path)-1]), n)
		s.folder.renamed["\x00"+strings.Join(f.Path, "\x00")] = name
		key = strings.ToLower(s.folder.host(f.Path))
	}
	s.taken[key] = true
}

func (s *dirSink) mkdir(f *salvage.File) error {
	s.twin(f)
	return s.folder.Mkdir(f)
}

func (s *dirSink) leave(f *salvage.File) error {
	return s.folder.refusal(s.folder.finish(f, s.folder.host(f.Path)))
}

func (s *dirSink) add(f *salvage.File, open func() (io.ReadCloser, error)) (same bool, err error) {
	s.twin(f)
	root, host := s.folder.root, s.folder.host(f.Path)
	info, err := root.Lstat(host)
	switch {
	case err == nil && info.Mode().IsRegular() && uint64(info.Size()) == f.Dir.Length && info.ModTime().UnixNano() == f.Dir.Mtime:
		return true, nil
	case err == nil && info.IsDir():
		return false, &salvage.FileError{Err: fmt.Errorf("%s is a directory there", host)}
	}
	data, err := open()
	if err != nil {
		return false, &readError{err}
	}
	defer data.Close()
	var file *os.File
	err = s.folder.make(f.Path, func(host string) (err error) {
		if err := root.Remove(host); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		file, err = root.OpenFile(host, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return false, err
	}
	n, err := s.t.copyHoles("exporting", file, data)
	var unread *readError
	if err != nil && !errors.As(err, &unread) {
		err = s.folder.refusal(err)
	}
	if err == nil && uint64(n) != f.Dir.Length {
		err = &readError{fmt.Errorf("%d bytes could be read of %d", n, f.Dir.Length)}
	}
	if err == nil {
		err = s.folder.refusal(file.Truncate(n))
	}
	if cerr := s.folder.refusal(file.Close()); err == nil {
		err = cerr
	}
	if err != nil {
		root.Remove(host) // half a file is none
		return false, err
	}
	return false, s.folder.refusal(s.folder.finish(f, host))
}

func (s *dirSink) close(ok bool) error {
	s.t.sum.Notes = append(s.t.sum.Notes, s.folder.Notes()...)
	return s.folder.root.Close()
}
