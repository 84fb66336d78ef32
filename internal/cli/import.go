package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gefs9p/client"
	"gefs9p/ninep"
	"gefs9p/salvage"
)

// An importer copies files into a snapshot that can be written.
type importer struct {
	transfer
	src  string
	into []string // the directory below which everything is put
	dirs []*salvage.File
	made map[string]bool // directories that are there
	link map[string]bool // files that were imported, for hard links to them
}

func newImport() *cobra.Command {
	im := importer{made: map[string]bool{}, link: map[string]bool{}}
	var into string
	cmd := &cobra.Command{
		Use:   "import DISK[:LABEL] SRC",
		Short: "copy a directory or a tar archive onto a disk",
		Long: `Import copies all that is in the directory or the tar archive SRC to the root of the label, main
if none is named, or with --into below a directory of it, which is made. SRC - is a tar archive on
standard input.

Modes, times (to the second), and owners are kept; users are found by name, and what belongs to a
user whom the disk does not know becomes that of its first user. Holes stay holes. A disk has no
links, devices, FIFOs or sockets: these are left out, but for hard links, which become copies.

A file that is there already with the same size, mode and time, in whole seconds, is left alone, so the
same command again goes on with an import that was ended. Other files of the same names are replaced; nothing else is
removed. An archive in which a name is absolute or leads out with '..' is refused.

What could not be copied is listed at the end, and the exit code is 1 then.

The disk must not be served: there, mount it and copy.

` + keyHelp,
		Example: `  gefs9p import disk.img /home/glenda
  gefs9p import --into src disk.img go.tar
  ssh host tar c . | gefs9p import disk.img:work -`,
		Args: diskAnd("directory or archive", true),
		RunE: func(cmd *cobra.Command, args []string) error {
			im.src = args[1]
			if err := im.take(cmd, args[0]); err != nil {
				return err
			}
			path, err := tarPath(into)
			if err != nil || strings.HasPrefix(into, "/") {
				return usagef("--into %s: a path below the root of the snapshot is wanted, without '..'", into)
			}
			im.into = path
			return im.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "put everything below the directory `PATH`")
	im.flags(cmd)
	return cmd
}

// A source gives files: each directory before what is in it. data is nil for directories. An error of fn ends
// it.
type source interface {
	each(fn func(f *salvage.File, data io.Reader) error) error
}

func (im *importer) run(ctx context.Context) error {
	src, done, err := im.open()
	if err != nil {
		return err
	}
	defer done()
	err = im.with(ctx, false, func() error {
		if !im.mutable() {
			return fmt.Errorf("%s: the snapshot %s does not change: name a mutable label", im.disk, im.label)
		}
		err := im.all(src)
		var bad *pathNameError
		if im.src == "-" && errors.As(err, &bad) {
			return fmt.Errorf("%w; what came before it has been imported", err)
		}
		return err
	})
	if err != nil {
		return err
	}
	im.sum.Notes = append(im.sum.Notes, im.w.notes()...)
	return im.report(im.out, "imported")
}

// open opens the source, and refuses what can be refused before the disk is touched.
func (im *importer) open() (src source, done func(), err error) {
	if im.src == "-" {
		return &tarSource{r: im.in, name: "standard input", sum: &im.sum}, func() {}, nil
	}
	info, err := os.Stat(im.src)
	if err != nil {
		return nil, nil, pathError(err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(im.src)
		if err != nil {
			return nil, nil, pathError(err)
		}
		return &dirSource{root: root, sum: &im.sum, names: newNames()}, func() { root.Close() }, nil
	}
	f, err := os.Open(im.src)
	if err != nil {
		return nil, nil, pathError(err)
	}
	scan := &tarSource{r: f, name: im.src, sum: new(transferred)}
	if err = scan.each(func(*salvage.File, io.Reader) error { return nil }); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return &tarSource{r: f, name: im.src, sum: &im.sum}, func() { f.Close() }, nil
}

// all imports everything, and then sets what the directories are.
func (im *importer) all(src source) error {
	if len(im.into) > 0 {
		if err := im.parents(append(append([]string{}, im.into...), "")); err != nil {
			return err
		}
	}
	err := src.each(func(f *salvage.File, data io.Reader) error {
		if err := im.w.ctx.Err(); err != nil {
			return err
		}
		f.Label = im.label
		if f.Uid == "" {
			f.Uid = im.w.user
		}
		if f.Gid == "" {
			f.Gid = im.w.user
		}
		f.Path = append(append([]string{}, im.into...), f.Path...)
		return im.oneFile(f.Path, im.put(f, data))
	})
	if err != nil {
		return err
	}
	for i := len(im.dirs) - 1; i >= 0; i-- {
		d := im.dirs[i]
		fid, err := im.walk(d.Path)
		if err == nil {
			err = im.w.finish(fid, d, false)
			fid.Clunk()
		}
		if err := im.oneFile(d.Path, err); err != nil {
			return err
		}
	}
	return nil
}

// walk returns a fid for what is at the path.
func (im *importer) walk(path []string) (*client.Fid, error) {
	return im.w.walk(&salvage.File{Path: path})
}

// put puts one file or directory on the disk.
func (im *importer) put(f *salvage.File, data io.Reader) error {
	if len(f.Path) == len(im.into) {
		return nil // the root stays as it is
	}
	if err := im.parents(f.Path); err != nil {
		return err
	}
	old, err := im.walk(f.Path)
	var file *salvage.FileError
	if err != nil && !errors.As(err, &file) {
		return err
	}
	if f.IsDir() {
		if err != nil {
			err = im.mkdir(f)
		} else {
			if !old.IsDir() {
				err = &salvage.FileError{Err: errors.New("a file of this name is on the disk, and no directory")}
			}
			old.Clunk()
		}
		if err == nil {
			im.made[strings.Join(f.Path, "\x00")] = true
			im.dirs = append(im.dirs, f)
			im.sum.Dirs++
		}
		return err
	}
	if err == nil {
		same, err := im.same(old, f)
		if err != nil || same {
			old.Clunk()
			im.link[strings.Join(f.Path, "\x00")] = true
			return err
		}
		if err := old.Remove(); err != nil {
			return im.w.refusal(err)
		}
	}
	return im.write(f, data)
}

// same reports whether the file is on the disk already.
func (im *importer) same(old *client.Fid, f *salvage.File) (bool, error) {
	d, err := old.Stat()
	switch {
	case err != nil:
		return false, im.w.refusal(err)
	case d.Mode&ninep.DMDIR != 0:
		return false, &salvage.FileError{Err: errors.New("a directory of this name is on the disk")}
	}
	same := d.Length == f.Dir.Length && d.Mode == f.Dir.Mode && d.Mtime == wireTime(f.Dir.Mtime)
	if same {
		im.sum.Same++
		im.show("importing")
	}
	return same, nil
}

// write makes the file.
func (im *importer) write(f *salvage.File, data io.Reader) error {
	if l, ok := data.(*linked); ok {
		target := append(append([]string{}, im.into...), l.target...)
		if !im.link[strings.Join(target, "\x00")] {
			return &salvage.FileError{Err: fmt.Errorf("a link to %s, which was not imported", strings.Join(l.target, "/"))}
		}
		fid, err := im.walk(target)
		if err != nil {
			return err
		}
		defer fid.Clunk()
		d, err := fid.Stat()
		if err == nil {
			err = fid.Open(ninep.OREAD)
		}
		if err != nil {
			return im.w.refusal(err)
		}
		f.Dir.Length = d.Length
		r, err := fid.NewReader(0, 4)
		if err != nil {
			return im.w.refusal(err)
		}
		defer r.Close()
		data = r
	}
	// Without its special bits, until it is written: a file that only takes appends cannot have holes.
	fid, err := im.w.create(f, 0600, ninep.OWRITE)
	if err != nil {
		return err
	}
	defer fid.Clunk()
	n, err := im.copyHoles("importing", fidWriter{&im.w, fid}, data)
	var unread *readError
	if errors.As(err, &unread) {
		return &salvage.FileError{Err: fmt.Errorf("read: %w", pathError(unread.err))}
	}
	if err != nil {
		return err
	}
	f.Dir.Length = uint64(n)
	if err := im.w.finish(fid, f, true); err != nil {
		return err
	}
	im.link[strings.Join(f.Path, "\x00")] = true
	im.sum.Files++
	return nil
}

// A fidWriter writes to a file of the disk.
type fidWriter struct {
	w   *diskWriter
	fid *client.Fid
}

func (f fidWriter) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.fid.WriteAt(p, off)
	return n, f.w.refusal(err)
}

func (im *importer) mkdir(f *salvage.File) error {
	fid, err := im.w.create(f, ninep.DMDIR|0700, ninep.OREAD)
	if err != nil {
		return err
	}
	return im.w.refusal(fid.Clunk())
}

// parents makes the directories in which the last name of the path is to be, as far as they are not there.
func (im *importer) parents(path []string) error {
	for i := 1; i < len(path); i++ {
		key := strings.Join(path[:i], "\x00")
		if im.made[key] {
			continue
		}
		fid, err := im.walk(path[:i])
		var file *salvage.FileError
		switch {
		case err == nil:
			fid.Clunk()
			if !fid.IsDir() {
				return &salvage.FileError{Err: fmt.Errorf("%s is no directory on the disk", strings.Join(path[:i], "/"))}
			}
		case errors.As(err, &file):
			d := &salvage.File{Path: path[:i], Uid: im.w.user, Gid: im.w.user}
			d.Dir.Mode = ninep.DMDIR | 0755
			if err := im.mkdir(d); err != nil {
				return err
			}
			fid, err := im.walk(path[:i])
			if err != nil {
				return err
			}
			w := ninep.NullDir()
			w.Mode = d.Dir.Mode
			err = im.w.refusal(fid.Wstat(w))
			fid.Clunk()
			if err != nil {
				return err
			}
		default:
			return err
		}
		im.made[key] = true
	}
	return nil
}
