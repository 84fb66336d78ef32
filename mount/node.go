//go:build linux || darwin

package mount

import (
	"context"
	"hash/fnv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A node is a file or directory that the kernel knows.
type node struct {
	fs.Inode
	s        *Server
	top      bool // it is the root
	qid      ninep.Qid
	snapshot uint64 // of identity
	label    bool   // it is the root of a snapshot, and known by its name
	held     held   // if it is a directory
}

// child returns the node for name in n, whose qid is q. The root is made by New.
func (n *node) child(ctx context.Context, name string, q ninep.Qid) *fs.Inode {
	c := &node{s: n.s, qid: q}
	c.snapshot, c.label = n.below(name)
	return n.NewInode(ctx, c, identity(q, c.snapshot, c.label))
}

// below returns which snapshot name in n is of, and whether it is its root.
func (n *node) below(name string) (snapshot uint64, label bool) {
	if !n.s.o.Dump || !n.top {
		return n.snapshot, false
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64(), true
}

// use returns a fid of the directory n, which give takes back.
func (n *node) use() (*client.Fid, error) {
	if fid := n.s.dirs.take(&n.held); fid != nil {
		return fid, nil
	}
	fid, err := n.walk()
	if err != nil {
		return nil, err
	}
	return n.s.dirs.put(&n.held, fid), nil
}

func (n *node) give() { n.s.dirs.give(&n.held) }

// walk returns a fid of n, not open, for the caller to clunk. ESTALE says that the file has gone, or
// another one has its name: the kernel then looks for it again.
func (n *node) walk() (*client.Fid, error) {
	if n.top {
		return n.s.root.Walk()
	}
	name, p := n.Parent()
	if p == nil {
		return nil, syscall.ESTALE
	}
	fid, err := p.Operations().(*node).step(name)
	if err == nil && (fid.Qid().Uid != n.qid.Uid && !n.label || fid.IsDir() != n.IsDir()) {
		fid.Clunk()
		err = syscall.ESTALE
	}
	return fid, err
}

// step returns a fid for name in the directory n.
func (n *node) step(name string) (*client.Fid, error) {
	dir, err := n.use()
	if err != nil {
		return nil, err
	}
	defer n.give()
	return dir.Walk(name)
}

// with calls f with a fid of n that is not open: the directory's, or one for the moment.
func (n *node) with(f func(*client.Fid) error) error {
	if n.IsDir() {
		fid, err := n.use()
		if err != nil {
			return err
		}
		defer n.give()
		return f(fid)
	}
	fid, err := n.walk()
	if err != nil {
		return err
	}
	defer fid.Clunk()
	return f(fid)
}

// OnForget gives up what the server holds for n. The kernel may know the same file as another node.
func (n *node) OnForget() { n.s.dirs.drop(&n.held) }

// Lookup finds name.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	fid, err := n.step(name)
	if err != nil {
		return nil, errnoOf(err)
	}
	defer fid.Clunk()
	d, err := fid.Stat()
	if err != nil {
		return nil, errnoOf(err)
	}
	n.s.attr(&d, &out.Attr)
	return n.child(ctx, name, fid.Qid()), 0
}

// Getattr asks for the attributes, of the open file if there is one: it may have been renamed by others.
func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	stat := func(fid *client.Fid) error {
		d, err := fid.Stat()
		if err == nil {
			n.s.attr(&d, &out.Attr)
		}
		return err
	}
	if h, ok := f.(*handle); ok {
		return errnoOf(stat(h.fid))
	}
	return errnoOf(n.with(stat))
}

// Setattr changes mode, length, time and group, all in one request or nothing.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	set := func(fid *client.Fid) error {
		want, err := n.s.change(in, func() (*ninep.Dir, error) {
			d, err := fid.Stat()
			return &d, err
		})
		if err == nil && !want.IsNull() { // that would be an fsync
			err = fid.Wstat(want)
		}
		if err != nil {
			return err
		}
		d, err := fid.Stat()
		if err == nil {
			n.s.attr(&d, &out.Attr)
			out.Ino = n.StableAttr().Ino
		}
		return err
	}
	if h, ok := f.(*handle); ok {
		return errnoOf(set(h.fid))
	}
	return errnoOf(n.with(set))
}

// Access leaves the decision to the server: ENOSYS keeps the kernel from asking.
func (n *node) Access(context.Context, uint32) syscall.Errno { return syscall.ENOSYS }

// Statfs says how long names can be. There is no request for space in 9P2000; df leaves out what has none.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, nameMax
	return 0
}

// nameMax is the longest name that gefs takes, in bytes.
const nameMax = 244

// Create makes a file and opens it. If there is one that the kernel did not know of, it is opened, as open(2)
// has it.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	fid, err := n.make(name, mode&0o777, openMode(flags))
	if errnoOf(err) == syscall.EEXIST && flags&syscall.O_EXCL == 0 {
		fid, err = n.step(name)
		if err == nil {
			how := openMode(flags)
			if flags&syscall.O_TRUNC != 0 {
				how |= ninep.OTRUNC
			}
			if err = fid.Open(how); err != nil {
				fid.Clunk()
			}
		}
	}
	if err != nil {
		return nil, nil, 0, errnoOf(err)
	}
	d, err := fid.Stat()
	if err != nil {
		fid.Clunk()
		return nil, nil, 0, errnoOf(err)
	}
	n.s.attr(&d, &out.Attr)
	return n.child(ctx, name, fid.Qid()), &handle{fid: fid}, 0, 0
}

// make creates name in the directory n and returns the open fid.
func (n *node) make(name string, perm uint32, how uint8) (*client.Fid, error) {
	dir, err := n.use()
	if err != nil {
		return nil, err
	}
	defer n.give()
	fid, err := dir.Walk()
	if err != nil {
		return nil, err
	}
	if err := fid.Create(name, perm, how); err != nil {
		fid.Clunk()
		return nil, err
	}
	return fid, nil
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	fid, err := n.make(name, ninep.DMDIR|mode&0o777, ninep.OREAD)
	if err != nil {
		return nil, errnoOf(err)
	}
	defer fid.Clunk()
	d, err := fid.Stat()
	if err != nil {
		return nil, errnoOf(err)
	}
	n.s.attr(&d, &out.Attr)
	return n.child(ctx, name, fid.Qid()), 0
}

// Unlink removes a file.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.remove(name, false)
}

// Rmdir removes an empty directory.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.remove(name, true)
}

// remove removes name if it is a directory or not, as dir says.
func (n *node) remove(name string, dir bool) syscall.Errno {
	fid, err := n.step(name)
	if err != nil {
		return errnoOf(err)
	}
	if fid.IsDir() != dir {
		fid.Clunk()
		if dir {
			return syscall.ENOTDIR
		}
		return syscall.EISDIR
	}
	return errnoOf(fid.Remove())
}

// What 9P2000 has not is refused as POSIX says of such file systems.

// Symlink is refused.
func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Link is refused.
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Mknod is refused, except that of a plain file, which is created.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if t := mode & syscall.S_IFMT; t != 0 && t != syscall.S_IFREG {
		return nil, syscall.EPERM
	}
	ino, f, _, errno := n.Create(ctx, name, syscall.O_RDONLY|syscall.O_EXCL, mode, out)
	if errno == 0 {
		f.(*handle).fid.Clunk()
	}
	return ino, errno
}
