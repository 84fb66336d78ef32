package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	diskWriter
	reamer reamer
	dev    disk // nil until there is something to write
	undo   func()
	table  *users.Table

	label  string // what is being written
	freeze string // the label that aname is to become, if it is immutable
	notes  []string
}

// newDiskOutlet looks whether a disk can be made of path, and makes nothing yet.
func newDiskOutlet(ctx context.Context, path string, size int64) (*diskOutlet, error) {
	d := &diskOutlet{diskWriter: newDiskWriter(ctx, path), reamer: reamer{disk: path, size: size, out: io.Discard}}
	if err := statDisk(path); err != nil {
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
	return d.serve()
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
	d.hangUp()
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
	return append(d.notes, d.diskWriter.notes()...)
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
	d.release()
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
