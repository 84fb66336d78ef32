package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/salvage"
)

// A diskWriter writes files to a disk as a client does that may be anybody. Owners are kept by creating each
// file as its owner.
type diskWriter struct {
	ctx    context.Context
	path   string // of the disk
	fs     *gefs.FS
	srv    *ninep.Server
	served chan struct{} // closed when the connection's goroutine has ended
	conn   *client.Conn

	aname  string
	user   string // owner of what nobody else owns
	as     map[string]*client.Fid
	dir    *client.Fid // the directory that was used last
	dirKey string

	nrenamed int
	nobody   map[string]bool // users that there are not
}

func newDiskWriter(ctx context.Context, path string) diskWriter {
	return diskWriter{ctx: ctx, path: path, as: map[string]*client.Fid{}, nobody: map[string]bool{}}
}

// serve serves d.fs, which must be permissive, to ourselves.
func (d *diskWriter) serve() (err error) {
	d.srv = &ninep.Server{FS: d.fs, NewWorker: d.fs.NewWorker, FreeWorker: d.fs.FreeWorker}
	ours, theirs := net.Pipe()
	d.served = make(chan struct{})
	go func() {
		defer close(d.served)
		d.srv.ServeConn(context.Background(), theirs)
	}()
	d.conn, err = client.New(d.ctx, ours, 1<<20)
	return err
}

// hangUp ends serve.
func (d *diskWriter) hangUp() {
	if d.conn != nil {
		d.conn.Close()
	}
	if d.srv != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d.srv.Shutdown(ctx)
		<-d.served
	}
}

// release gives up all fids.
func (d *diskWriter) release() {
	d.leave()
	for name, f := range d.as {
		f.Clunk()
		delete(d.as, name)
	}
}

// notes says what could not be written as it was.
func (d *diskWriter) notes() (notes []string) {
	if d.nrenamed > 0 {
		notes = append(notes, fmt.Sprintf("%d names were not such as a file can be given: bytes of them have become %%XX", d.nrenamed))
	}
	if len(d.nobody) > 0 {
		names := slices.Sorted(maps.Keys(d.nobody))
		notes = append(notes, fmt.Sprintf("%d users or groups are not in the users table, and what was theirs is %s's or of its directory's group: %s",
			len(names), d.user, strings.Join(names[:min(len(names), 20)], ", ")))
	}
	return notes
}

func (d *diskWriter) fail(err error) error {
	if err == nil {
		return nil
	}
	return &outError{fmt.Errorf("%s: %w", d.path, err)}
}

// refusal makes of what the server says an error about one file, unless it is full.
func (d *diskWriter) refusal(err error) error {
	var said client.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &said) && strings.Contains(string(said), "full"):
		return d.fail(fmt.Errorf("%w: make it larger", err))
	case errors.As(err, &said) && d.fs.Err() == nil, errors.Is(err, client.ErrNotFound):
		return &salvage.FileError{Err: err}
	}
	return d.fail(err)
}

// root returns the root for a user; for one that does not exist that of d.user.
func (d *diskWriter) root(uid string) (*client.Fid, error) {
	if f := d.as[uid]; f != nil {
		return f, nil
	}
	who := uid
	if _, ok := d.fs.Users().ByName(uid); !ok {
		who = d.user
		d.nobody[uid] = true
	}
	f, err := d.conn.Attach(who, "%"+d.aname)
	if err != nil {
		return nil, d.fail(err)
	}
	if who == uid {
		d.as[uid] = f
	}
	return f, nil
}

// diskName returns name as a file of a gefs disk can be called.
func diskName(name string) string {
	switch name {
	case "", ".", "..":
		return "%" + name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f || r == '/' {
			fmt.Fprintf(&b, "%%%02X", name[i])
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}

func diskPath(path []string) []string {
	names := slices.Clone(path)
	for i := range names {
		names[i] = diskName(names[i])
	}
	return names
}

// leave gives up the directory that was used last.
func (d *diskWriter) leave() {
	if d.dir != nil {
		d.dir.Clunk()
		d.dir = nil
	}
}

// create makes f as its owner, and opens it.
func (d *diskWriter) create(f *salvage.File, perm uint32, mode uint8) (*client.Fid, error) {
	names := diskPath(f.Path)
	dir, name := names[:len(names)-1], names[len(names)-1]
	if name != f.Path[len(f.Path)-1] {
		d.nrenamed++
	}
	if key := f.Uid + "\x00" + strings.Join(dir, "\x00"); d.dir == nil || key != d.dirKey {
		d.leave()
		root, err := d.root(f.Uid)
		if err != nil {
			return nil, err
		}
		d.dir, err = root.Walk(dir...)
		if d.as[f.Uid] != root {
			root.Clunk()
		}
		if err != nil {
			d.dir = nil
			return nil, d.refusal(err)
		}
		d.dirKey = key
	}
	fid, err := d.dir.Walk()
	if err != nil {
		return nil, d.refusal(err)
	}
	if err := fid.Create(name, perm, mode); err != nil {
		fid.Clunk()
		return nil, d.refusal(err)
	}
	return fid, nil
}

// wireTime rounds a time in nanoseconds as a server does.
func wireTime(ns int64) uint32 { return uint32(min(max((ns+5e8)/1e9, 0), 1<<32-2)) }

// finish sets what f's creation has not.
func (d *diskWriter) finish(fid *client.Fid, f *salvage.File, length bool) error {
	w := ninep.NullDir()
	const special = ninep.DMDIR | ninep.DMAPPEND | ninep.DMEXCL | ninep.DMTMP
	w.Mode = f.Dir.Mode & (special | 0777)
	w.Mtime = wireTime(f.Dir.Mtime)
	if length {
		w.Length = f.Dir.Length
	}
	if _, ok := d.fs.Users().ByName(f.Gid); ok {
		w.Gid = f.Gid
	} else {
		d.nobody[f.Gid] = true
	}
	return d.refusal(fid.Wstat(w))
}

// walk returns a fid for f.
func (d *diskWriter) walk(f *salvage.File) (*client.Fid, error) {
	root, err := d.root(d.user)
	if err != nil {
		return nil, err
	}
	fid, err := root.Walk(diskPath(f.Path)...)
	return fid, d.refusal(err)
}
