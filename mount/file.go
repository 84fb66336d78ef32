//go:build linux || darwin

package mount

import (
	"context"
	"io"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A handle is an open file.
type handle struct{ fid *client.Fid }

// openMode says for 9P how open(2) is to open a file.
func openMode(flags uint32) uint8 {
	switch flags & syscall.O_ACCMODE {
	case syscall.O_WRONLY:
		return ninep.OWRITE
	case syscall.O_RDWR:
		return ninep.ORDWR
	}
	if flags&forExec != 0 {
		return ninep.OEXEC
	}
	return ninep.OREAD
}

// Open opens the file.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fid, err := n.walk()
	if err != nil {
		return nil, 0, errnoOf(err)
	}
	how := openMode(flags)
	if flags&syscall.O_TRUNC != 0 {
		how |= ninep.OTRUNC
	}
	if err := fid.Open(how); err != nil {
		fid.Clunk()
		return nil, 0, errnoOf(err)
	}
	return &handle{fid: fid}, 0, 0
}

// Read reads up to the end of p or of the file.
func (h *handle) Read(_ context.Context, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.fid.ReadAt(p, off)
	if err != nil && err != io.EOF && n == 0 {
		return nil, errnoOf(err)
	}
	return fuse.ReadResultData(p[:n]), 0
}

// Write writes p, or as much as the server takes.
func (h *handle) Write(_ context.Context, p []byte, off int64) (uint32, syscall.Errno) {
	n, err := h.fid.WriteAt(p, off)
	if n == 0 && err != nil {
		return 0, errnoOf(err)
	}
	return uint32(n), 0
}

// Fsync has the server bring everything it has acknowledged to its disk.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno { return errnoOf(h.fid.Fsync()) }

// Release ends the use of the file.
func (h *handle) Release(context.Context) syscall.Errno { return errnoOf(h.fid.Clunk()) }

// A dirHandle is an open directory: what was in it when it was last read from the start.
type dirHandle struct {
	dir     *node
	entries []ninep.Dir
	next    int
	last    *ninep.Dir // what Readdirent returned last, which Lookup is asked for
}

// OpendirHandle reads the directory.
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h := &dirHandle{dir: n}
	if err := h.read(); err != nil {
		return nil, 0, errnoOf(err)
	}
	return h, 0, 0
}

// read reads all entries.
func (h *dirHandle) read() error {
	dir, err := h.dir.use()
	if err != nil {
		return err
	}
	defer h.dir.give()
	fid, err := dir.Walk()
	if err != nil {
		return err
	}
	defer fid.Clunk()
	if err := fid.Open(ninep.OREAD); err != nil {
		return err
	}
	entries, err := fid.ReadDir()
	if err != nil {
		return err
	}
	h.entries, h.next, h.last = entries, 0, nil
	return nil
}

// Readdirent returns the next entry, nil at the end.
func (h *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if h.next >= len(h.entries) {
		return nil, 0
	}
	d := &h.entries[h.next]
	h.next++
	h.last = d
	snapshot, label := h.dir.below(d.Name)
	id := identity(d.Qid, snapshot, label)
	return &fuse.DirEntry{Name: d.Name, Mode: id.Mode, Ino: id.Ino, Off: uint64(h.next)}, 0
}

// Lookup makes of the entry that Readdirent returned last what node.Lookup would have found, without asking.
func (h *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if h.last == nil || h.last.Name != name {
		return h.dir.Lookup(ctx, name, out)
	}
	h.dir.s.attr(h.last, &out.Attr)
	return h.dir.child(ctx, name, h.last.Qid), 0
}

// Seekdir goes to the entry behind the one whose Off it is; at 0 the directory is read again.
func (h *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	if off == 0 {
		return errnoOf(h.read())
	}
	h.next, h.last = int(min(off, uint64(len(h.entries)))), nil
	return 0
}

// Fsyncdir is Fsync: the server has one for everything.
func (h *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno {
	return errnoOf(h.dir.with((*client.Fid).Fsync))
}
