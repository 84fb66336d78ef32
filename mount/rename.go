//go:build linux || darwin

package mount

import (
	"context"
	"crypto/rand"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"

	"gefs9p/client"
	"gefs9p/ninep"
)

// Flags of renameat2(2).
const (
	renameNoReplace = 1
)

// Rename changes a name in the directory n. 9P2000 knows no way into another directory: EXDEV has mv
// copy.
func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	switch {
	case flags&^renameNoReplace != 0:
		return syscall.EINVAL
	case to.EmbeddedInode() != n.EmbeddedInode():
		return syscall.EXDEV
	case name == newName:
		return 0
	}
	fid, err := n.step(name)
	if err != nil {
		return errnoOf(err)
	}
	defer fid.Clunk()
	err = setName(fid, newName)
	if errnoOf(err) == syscall.EEXIST && flags&renameNoReplace == 0 {
		err = n.replace(fid, newName)
	}
	return errnoOf(err)
}

// setName renames a file in its directory.
func setName(fid *client.Fid, name string) error {
	d := ninep.NullDir()
	d.Name = name
	return fid.Wstat(d)
}

// replace gives fid the name of another file, which goes. At no moment is the only copy of either removed: what
// was there is put aside first, and removed when the new one has its place.
func (n *node) replace(fid *client.Fid, name string) error {
	old, err := n.step(name)
	if err != nil {
		return err
	}
	switch {
	case old.IsDir() && !fid.IsDir():
		old.Clunk()
		return syscall.EISDIR
	case !old.IsDir() && fid.IsDir():
		old.Clunk()
		return syscall.ENOTDIR
	case old.IsDir(): // an empty one, or it stays
		if err := old.Remove(); err != nil {
			return err
		}
		return setName(fid, name)
	}
	aside := AsideName + rand.Text()
	if err := setName(old, aside); err != nil {
		old.Clunk()
		return err
	}
	if err := setName(fid, name); err != nil {
		if back := setName(old, name); back != nil {
			n.s.o.Log.Error("a file lost its name", "name", name, "is now", aside, "err", back)
		}
		old.Clunk()
		return err
	}
	if err := old.Remove(); err != nil {
		n.s.o.Log.Warn("a replaced file stays", "name", name, "is now", aside, "err", err)
	}
	return nil
}
