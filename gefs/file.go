package gefs

import (
	"fmt"
	"strconv"
	"sync"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// notOpen is the mode of a File that was not opened.
const notOpen = -1

// A File is one fid. It is a ninep.File.
//
//   - It holds a reference on its Mount, its Dent and the Dent of the directory it lies in, which
//     for a root is the root itself.
//   - mount, uid, permit, fromDump and dialect never change. dent and dir change when Create makes this
//     File the new file, and dir follows when the file was moved to another directory (home), under mu.
type File struct {
	fs       *FS
	mount    *Mount
	uid      int32
	permit   bool          // permission checks are off: attached with '%'
	fromDump bool          // '..' of the root is the dump directory
	dialect  ninep.Dialect // that the client speaks

	mu     sync.RWMutex
	dent   *Dent
	dir    *Dent
	mode   int  // as it was opened, or notOpen
	rclose bool // to be removed when it is clunked

	// Reading a directory goes on where it stopped.
	scanOff   uint64 // the offset that says so
	scanAfter []byte // key of the last entry given
	scan      dirScan
}

var _ ninep.File = (*File)(nil)

func wireQid(q kvfmt.Qid) ninep.Qid { return ninep.Qid{Qtype: q.Type, Vers: q.Vers, Uid: q.Path} }

// path returns the file's path for people to read.
func (f *File) path() string {
	w := &Worker{Guard: f.fs.st.Guard(), store: f.fs.st}
	defer f.fs.st.FreeGuard(w.Guard)
	w.Enter()
	defer w.Leave()
	f.dent.mu.RLock()
	pqid, name := f.dent.pqid, f.dent.name
	f.dent.mu.RUnlock()
	return f.mount.pathOf(w.Guard, pqid, name)
}

// Describe says what the fid stands for, as far as memory knows it, for people who debug. Safe at any
// time, also after Clunk.
func (f *File) Describe() string {
	f.mu.RLock()
	de, mode := f.dent, f.mode
	f.mu.RUnlock()
	de.mu.RLock()
	defer de.mu.RUnlock()
	open := "not open"
	if mode != notOpen {
		open = fmt.Sprintf("open %#x", mode)
	}
	gone := ""
	if de.gone {
		gone = " removed"
	}
	return fmt.Sprintf("%s: dir=%d %q qid=%d %s uid=%d permit=%t%s", f.mount.name, int64(de.pqid), de.name, de.qid, open, f.uid, f.permit, gone)
}

// Stat fills d from the file's entry. Source: stat(5).
func (f *File) Stat(c *ninep.Ctx, d *ninep.Dir) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.dent.mu.RLock()
	defer f.dent.mu.RUnlock()
	f.fs.fillDir(d, f.dent.name, &f.dent.dir)
	return nil
}

// fillDir makes the stat record of an entry. Times are rounded to the nearest second.
func (fs *FS) fillDir(d *ninep.Dir, name string, e *kvfmt.Dir) {
	fillValues(d, e)
	d.Name = name
	d.Uid = fs.userName(e.Uid, "none")
	d.Gid = fs.userName(e.Gid, "nogroup")
	d.Muid = fs.userName(e.Muid, "none")
}

// fillValues makes all of an entry's stat record but the names.
func fillValues(d *ninep.Dir, e *kvfmt.Dir) {
	d.Type, d.Dev = ^uint16(0), ^uint32(0)
	d.Qid = wireQid(e.Qid)
	d.Mode = e.Mode
	d.Atime, d.Mtime = seconds(e.Atime), seconds(e.Mtime)
	d.Length = e.Length
	if e.Mode&dmDir != 0 {
		d.Length = 0
	}
}

func seconds(ns int64) uint32 { return uint32((ns + 5e8) / 1e9) }

// userName returns the name of the id, or of the stand-in for unknown ids if there is such a user,
// or the number.
func (fs *FS) userName(id int32, standIn string) string {
	t := fs.Users()
	if name, ok := t.Name(id); ok {
		return name
	}
	if _, ok := t.ID(standIn); ok {
		return standIn
	}
	return strconv.Itoa(int(id))
}

// Read reads from an open file, or whole records from an open directory. Source: read(5).
func (f *File) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	g := guard(c)
	f.mu.RLock()
	mode, isDir := f.mode, f.dent.isDir()
	if mode == notOpen || mode&3 == ninep.OWRITE {
		f.mu.RUnlock()
		return 0, errInUse
	}
	if isDir {
		f.mu.RUnlock()
		f.mu.Lock()
		defer f.mu.Unlock()
		n, err := f.readDir(g, p, off)
		return n, f.fs.wire(err, "read directory", f)
	}
	defer f.mu.RUnlock()
	n, err := f.readAt(g, p, off)
	return n, f.fs.wire(err, "read", f)
}

// theDent returns the Dent, which is only the fid's own to hold: it may change when the fid's client
// uses it for two requests at once.
func (f *File) theDent() *Dent {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.dent
}

// home makes f.dir the directory that the file lies in now. A rename may have moved the file since the
// walk; with the mutation lock none can until it is given back.
func (f *File) home(g *epoch.Guard) error {
	f.mu.RLock()
	there := f.atHome()
	f.mu.RUnlock()
	if there {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.homeLocked(g)
}

// atHome reports whether f.dir is the directory of the file, if it is in any. f.mu is held.
func (f *File) atHome() bool {
	f.dent.mu.RLock()
	defer f.dent.mu.RUnlock()
	return f.dent.gone || f.dent.isRoot() || f.dent.pqid == f.dir.qid
}

// homeLocked is home for who holds f.mu.
func (f *File) homeLocked(g *epoch.Guard) error {
	if f.atHome() {
		return nil
	}
	dir, err := f.mount.parent(g, f.dent)
	if err != nil {
		return err
	}
	f.dir.drop()
	f.dir = dir
	return nil
}

func (de *Dent) isDir() bool {
	de.mu.RLock()
	defer de.mu.RUnlock()
	return de.dir.Mode&dmDir != 0
}

// view returns the file's length together with the tree of the same moment, to be closed.
func (f *File) view(g *epoch.Guard) (uint64, betree.View, error) {
	f.dent.mu.RLock()
	defer f.dent.mu.RUnlock()
	v, err := f.mount.tree.View(g)
	return f.dent.dir.Length, v, err
}

// readAt reads the file's bytes; what was never written is zero.
func (f *File) readAt(g *epoch.Guard, p []byte, off uint64) (int, error) {
	length, view, err := f.view(g)
	if err != nil {
		return 0, err
	}
	defer view.Close()
	if off >= length {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), length-off)]
	// One descent finds the pointers of all blocks that are concerned.
	first := off &^ (blkfmt.BlkSize - 1)
	end := off + uint64(len(p))
	type piece struct {
		off uint64
		bp  blkfmt.Bptr
	}
	var few [4]piece
	pieces := few[:0]
	if first+blkfmt.BlkSize >= end {
		bp, ok, err := dataPtr(g, view, f.dent.qid, first)
		if err != nil {
			return 0, err
		}
		if ok {
			pieces = append(pieces, piece{first, bp})
		}
	} else {
		var kfrom, kto [kvfmt.DatKeySize]byte
		var bad error
		from := kvfmt.AppendDatKey(kfrom[:0], f.dent.qid, first)
		to := kvfmt.AppendDatKey(kto[:0], f.dent.qid, end)
		err := view.ScanRange(g, from, to, func(k, v []byte) bool {
			var pc piece
			pc.off, pc.bp, bad = dataPair(k, v)
			pieces = append(pieces, pc)
			return bad == nil
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return 0, err
		}
	}
	done := uint64(0) // bytes of p that are filled
	for _, pc := range pieces {
		b, err := f.fs.st.Get(g, pc.bp, blkfmt.Data)
		if err != nil {
			return 0, err
		}
		skip := uint64(0)
		at := pc.off - off
		if pc.off < off {
			skip, at = off-pc.off, 0
		}
		clear(p[done:at])
		done = at + uint64(copy(p[at:], b.Bytes()[skip:]))
		f.fs.st.Drop(b)
	}
	clear(p[done:])
	return len(p), nil
}

// dataPair decodes the key and value of a data block. Blocks that would overlap are an error: the reader
// of a range relies on their order.
func dataPair(k, v []byte) (off uint64, bp blkfmt.Bptr, err error) {
	if _, off, err = kvfmt.GetDat(k); err == nil {
		bp, err = kvfmt.GetDatVal(v)
	}
	if err == nil && off%blkfmt.BlkSize != 0 {
		err = &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Data, What: fmt.Sprintf("a data block at offset %d of a file, inside of another", off)}
	}
	return off, bp, err
}

// dataPtr returns the pointer to the data block of the file at off, and whether there is one.
func (m *Mount) dataPtr(g *epoch.Guard, qid, off uint64) (blkfmt.Bptr, bool, error) {
	v, err := m.tree.View(g)
	if err != nil {
		return blkfmt.NoPtr, false, err
	}
	defer v.Close()
	return dataPtr(g, v, qid, off)
}

func dataPtr(g *epoch.Guard, tree betree.View, qid, off uint64) (blkfmt.Bptr, bool, error) {
	var kbuf [kvfmt.DatKeySize]byte
	var vbuf [kvfmt.ValMax]byte
	v, err := tree.Lookup(g, kvfmt.AppendDatKey(kbuf[:0], qid, off), vbuf[:0])
	if err == betree.ErrNotFound {
		return blkfmt.NoPtr, false, nil
	}
	if err != nil {
		return blkfmt.NoPtr, false, err
	}
	bp, err := kvfmt.GetDatVal(v)
	return bp, err == nil, err
}

// Clunk gives back what the fid holds, and removes the file if it was opened so.
// Source: clunk(5).
func (f *File) Clunk(c *ninep.Ctx) {
	g := guard(c)
	f.mu.Lock()
	rclose := f.rclose
	f.rclose = false
	last := f.closeLocked()
	f.mu.Unlock()
	if last {
		f.fs.lockMut(c)
		f.fs.sweepOrphan(f.dent)
		f.fs.mutMu.Unlock()
	}
	if rclose {
		if err := f.removeOnClose(c, g); err != nil {
			f.fs.log.Warn("remove on close", "file", f.path(), "err", err)
		}
	}
	f.dent.drop()
	f.dir.drop()
	f.fs.unmount(c, f.mount)
}

// closeLocked ends an open. It reports whether that was the last of an orphan, which the caller then has
// cleared. f.mu is held.
func (f *File) closeLocked() (last bool) {
	if f.mode == notOpen {
		return false
	}
	f.mode = notOpen
	f.dent.mu.Lock()
	defer f.dent.mu.Unlock()
	f.dent.opens--
	if f.dent.opens == 0 {
		f.dent.excl = false
	}
	return f.dent.lastClose()
}
