package cli

import "sync/atomic"

// A meteredDisk counts what has been done on a disk. Who waits for it to open or to close knows by that whether
// it goes on, however long it takes.
type meteredDisk struct {
	disk
	done *atomic.Uint64 // operations that have ended well
}

func (d *meteredDisk) count(err error) {
	if err == nil {
		d.done.Add(1)
	}
}

func (d *meteredDisk) ReadAt(p []byte, off int64) (n int, err error) {
	defer func() { d.count(err) }()
	return d.disk.ReadAt(p, off)
}

func (d *meteredDisk) WriteAt(p []byte, off int64) (n int, err error) {
	defer func() { d.count(err) }()
	return d.disk.WriteAt(p, off)
}

func (d *meteredDisk) WriteVec(bufs [][]byte, off int64) (err error) {
	defer func() { d.count(err) }()
	return d.disk.WriteVec(bufs, off)
}

func (d *meteredDisk) Sync() (err error) {
	defer func() { d.count(err) }()
	return d.disk.Sync()
}

// Discards is that of the disk, which is assumed to discard if it does not say.
func (d *meteredDisk) Discards() bool {
	c, ok := d.disk.(interface{ Discards() bool })
	return !ok || c.Discards()
}

// A meteredFile is a meteredDisk that can be made longer.
type meteredFile struct {
	*meteredDisk
	file interface{ Enlarge(size int64) error }
}

func (f meteredFile) Enlarge(size int64) error { return f.file.Enlarge(size) }

// metered returns a disk that is dev, and counts in done what is done on it.
func metered(dev disk, done *atomic.Uint64) disk {
	m := &meteredDisk{dev, done}
	if f, ok := dev.(interface{ Enlarge(size int64) error }); ok {
		return meteredFile{m, f}
	}
	return m
}
