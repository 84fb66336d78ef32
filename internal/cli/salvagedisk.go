package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/salvage"
	"gefs9p/snap"
	"gefs9p/users"
)

// A diskOutlet is an outlet onto a new gefs disk, which it makes and writes as a client does.
//
// Owners are kept by creating each file as its owner. Immutable snapshots are filled as mutable forks
// and then frozen; what they share on the old disk they do not on the new one.
type diskOutlet struct {
	ctx    context.Context
	path   string
	reamer reamer
	dev    *blkdev.File // nil until there is something to write
	undo   func()
	fs     *gefs.FS
	srv    *ninep.Server
	served chan struct{} // closed when the connection's goroutine has ended
	conn   *client.Conn
	table  *users.Table

	label  string // what is being written
	aname  string
	freeze string // the label that aname is to become, if it is immutable
	user   string // owner of what nobody else owns
	as     map[string]*client.Fid
	dir    *client.Fid // the directory that was used last
	dirKey string

	nrenamed int
	nobody   map[string]bool // users that there are not
	notes    []string
}

// newDiskOutlet looks whether a disk can be made of path, and makes nothing yet.
func newDiskOutlet(ctx context.Context, path string, size int64) (*diskOutlet, error) {
	d := &diskOutlet{ctx: ctx, path: path, reamer: reamer{disk: path, size: size, out: io.Discard}, as: map[string]*client.Fid{}, nobody: map[string]bool{}}
	if _, err := os.Stat(path); err != nil {
		return d, nil // made later, or refused then
	}
	dev, err := openDisk(path, false)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	return d, d.reamer.consider(dev)
}

// start makes the disk, and serves it to ourselves.
func (d *diskOutlet) start(table *users.Table) (err error) {
	d.table = table
	if d.user, err = firstUser(table); err != nil {
		return err
	}
	d.reamer.user = d.user
	if d.dev, d.undo, err = d.reamer.ream(d.ctx); err != nil {
		return err
	}
	if d.fs, err = gefs.Open(d.dev, gefs.Options{Permissive: true}); err != nil {
		return err
	}
	if table != nil {
		c, end := d.fs.Background()
		err := d.fs.EditUsers(c, func([]byte) ([]byte, error) { return []byte(table.Format()), nil })
		end()
		if err != nil {
			d.notes = append(d.notes, fmt.Sprintf("the users could not be copied: %v", err))
		}
	}
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

// firstUser returns a user of the table to whom a disk can be given: one who may administer it, if
// there is one; without a table whoever runs this.
func firstUser(table *users.Table) (string, error) {
	if table == nil {
		return loginName()
	}
	var list []int32
	if adm, ok := table.ByID(table.Adm()); ok {
		list = adm.Members
	}
	for _, u := range table.Users() {
		list = append(list, u.ID)
	}
	for _, id := range list {
		if name, ok := table.Name(id); ok {
			if _, err := users.Ream(name); err == nil {
				return name, nil
			}
		}
	}
	return loginName()
}

// Close implements outlet. A disk of a run that has failed is removed, if it was made for it.
func (d *diskOutlet) Close(ok bool) error {
	if d.dev == nil {
		return nil
	}
	var err error
	if ok {
		err = d.endLabel()
	}
	if d.conn != nil {
		d.conn.Close()
	}
	if d.srv != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d.srv.Shutdown(ctx)
		<-d.served
	}
	if d.fs != nil {
		err = errors.Join(err, d.fs.Close())
	}
	if !ok || err != nil {
		d.undo()
	}
	return errors.Join(err, d.dev.Close())
}

// Notes implements outlet.
func (d *diskOutlet) Notes() []string {
	notes := d.notes
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

func (d *diskOutlet) fail(err error) error {
	if err == nil {
		return nil
	}
	return &outError{fmt.Errorf("%s: %w", d.path, err)}
}

// refusal makes of what the server says an error about one file, unless it is full.
func (d *diskOutlet) refusal(err error) error {
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

// Label implements salvage.Sink.
func (d *diskOutlet) Label(l salvage.LabelReport, table *users.Table) error {
	if d.dev == nil {
		if err := d.start(table); err != nil {
			return d.fail(err)
		}
	}
	if err := d.endLabel(); err != nil {
		return err
	}
	d.label, d.aname = l.Name, l.Name
	switch l.Name {
	case "main", snap.Adm, snap.Empty:
		return nil
	}
	if !l.Mutable {
		d.aname, d.freeze = "salvage.filling", l.Name
	}
	return d.fail(d.relabel(snap.Empty, d.aname, true))
}

func (d *diskOutlet) relabel(old, name string, mutable bool) error {
	c, end := d.fs.Background()
	defer end()
	return d.fs.Label(c, old, name, mutable)
}

// endLabel gives up all fids, and freezes what was written if it is to be immutable.
func (d *diskOutlet) endLabel() error {
	d.leave()
	for name, f := range d.as {
		f.Clunk()
		delete(d.as, name)
	}
	if d.freeze == "" {
		return nil
	}
	err := d.relabel(d.aname, d.freeze, false)
	if err == nil {
		c, end := d.fs.Background()
		err = d.fs.DeleteLabel(c, d.aname)
		end()
	}
	d.freeze = ""
	return d.fail(err)
}

// skip reports whether f is part of every new disk.
func (d *diskOutlet) skip(f *salvage.File) bool {
	return d.label == snap.Empty || d.label == snap.Adm && d.table != nil && len(f.Path) == 1 && f.Path[0] == "users"
}

// root returns the root for a user; for one that does not exist that of d.user.
func (d *diskOutlet) root(uid string) (*client.Fid, error) {
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
func (d *diskOutlet) leave() {
	if d.dir != nil {
		d.dir.Clunk()
		d.dir = nil
	}
}

// create makes f as its owner, and opens it.
func (d *diskOutlet) create(f *salvage.File, perm uint32, mode uint8) (*client.Fid, error) {
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

// finish sets what f's creation has not.
func (d *diskOutlet) finish(fid *client.Fid, f *salvage.File, length bool) error {
	w := ninep.NullDir()
	const special = ninep.DMDIR | ninep.DMAPPEND | ninep.DMEXCL | ninep.DMTMP
	w.Mode = f.Dir.Mode & (special | 0777)
	w.Mtime = uint32(min(max((f.Dir.Mtime+5e8)/1e9, 0), 1<<32-2))
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

// Mkdir implements salvage.Sink.
func (d *diskOutlet) Mkdir(f *salvage.File) error {
	if len(f.Path) == 0 || d.skip(f) {
		return nil
	}
	fid, err := d.create(f, ninep.DMDIR|0777, ninep.OREAD)
	if err != nil {
		if old, werr := d.walk(f); werr == nil { // it comes twice
			defer old.Clunk()
			if old.IsDir() {
				return nil
			}
		}
		return err
	}
	return d.refusal(fid.Clunk())
}

// walk returns a fid for f.
func (d *diskOutlet) walk(f *salvage.File) (*client.Fid, error) {
	root, err := d.root(d.user)
	if err != nil {
		return nil, err
	}
	fid, err := root.Walk(diskPath(f.Path)...)
	return fid, d.refusal(err)
}

// Done implements salvage.Sink.
func (d *diskOutlet) Done(f *salvage.File) error {
	if d.skip(f) {
		return nil
	}
	fid, err := d.walk(f)
	if err != nil {
		return err
	}
	defer fid.Clunk()
	return d.finish(fid, f, false)
}

// Create implements salvage.Sink.
func (d *diskOutlet) Create(f *salvage.File) (salvage.Writer, error) {
	if d.skip(f) {
		return nowhere{}, nil
	}
	// Without its special bits, until it is written: a file that only takes appends cannot have holes.
	fid, err := d.create(f, 0666, ninep.OWRITE)
	if err != nil {
		return nil, err
	}
	return &diskFile{d, fid}, nil
}

// A diskFile is a file being written.
type diskFile struct {
	d   *diskOutlet
	fid *client.Fid
}

// WriteAt implements salvage.Writer.
func (w *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.fid.WriteAt(p, off)
	return n, w.d.refusal(err)
}

// Finish implements salvage.Writer.
func (w *diskFile) Finish(f *salvage.File) error {
	defer w.fid.Clunk()
	return w.d.finish(w.fid, f, true)
}

// nowhere is a Writer for what is there already.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (nowhere) Finish(*salvage.File) error               { return nil }
