package gefs

import (
	"math"
	"sync"

	"gefs9p/ninep"
)

// dumpQid is the qid path of the dump directory.
const dumpQid = 1 << 63

// A dumpDir is a fid on the directory that shows every snapshot as a directory. It is a
// ninep.File. Walking to a label leads to the root of that snapshot.
type dumpDir struct {
	fs      *FS
	uid     int32
	dialect ninep.Dialect // that the client speaks

	mu      sync.Mutex
	mode    int
	scanOff uint64
	after   string // last label given
}

var _ ninep.File = (*dumpDir)(nil)

func (d *dumpDir) qid() ninep.Qid {
	return ninep.Qid{Qtype: ninep.QTDIR, Vers: uint32(d.fs.forest.NextGen()), Uid: dumpQid}
}

// fill makes a record of a synthetic directory.
func (d *dumpDir) fill(r *ninep.Dir, name string, path uint64) {
	*r = ninep.Dir{
		Type: math.MaxUint16, Dev: math.MaxUint32,
		Qid:  ninep.Qid{Qtype: ninep.QTDIR, Vers: uint32(d.fs.forest.NextGen()), Uid: path},
		Mode: ninep.DMDIR | 0555,
		Name: name, Uid: "adm", Gid: "adm", Muid: "adm",
	}
}

// Walk goes into snapshots.
func (d *dumpDir) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	d.mu.Lock()
	mode := d.mode
	d.mu.Unlock()
	if mode != notOpen && d.dialect != ninep.Linux {
		return nil, 0, errInUse
	}
	w := walker{fs: d.fs, c: c, g: guard(c), uid: d.uid, dialect: d.dialect}
	return w.walk(names, qids)
}

// Open opens the directory for reading.
func (d *dumpDir) Open(c *ninep.Ctx, mode uint8) (ninep.Qid, uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case mode&^(3|ninep.OTRUNC|ninep.OCEXEC|ninep.ORCLOSE) != 0:
		return ninep.Qid{}, 0, errMode
	case mode&^ninep.OCEXEC != ninep.OREAD:
		return ninep.Qid{}, 0, errPerm
	case d.mode != notOpen:
		return ninep.Qid{}, 0, errInUse
	}
	d.mode = int(mode)
	return d.qid(), 0, nil
}

// Read gives a record for each label.
func (d *dumpDir) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.mode == notOpen:
		return 0, errInUse
	case off == 0:
		d.scanOff, d.after = 0, ""
	case off != d.scanOff:
		return 0, errScan
	}
	out := p[:0]
	for _, l := range d.fs.forest.Labels() {
		if l.Name <= d.after {
			continue
		}
		var r ninep.UnixDir
		d.fillUnix(&r, l.Name, uint64(l.Gen))
		size, add := r.Dir.Size, r.Dir.Append
		if d.dialect == ninep.Unix {
			r.Qid.Uid = salt(l.Name)
			size, add = r.Size, r.Append
		}
		if len(out)+size() > len(p) {
			if len(out) == 0 {
				return 0, errBotch
			}
			break
		}
		var err error
		if out, err = add(out); err != nil {
			return 0, err
		}
		d.after = l.Name
	}
	d.scanOff += uint64(len(out))
	return len(out), nil
}

// Stat describes the directory itself.
func (d *dumpDir) Stat(c *ninep.Ctx, r *ninep.Dir) error {
	d.fill(r, "/", dumpQid)
	return nil
}

// Create is refused, and so is all else that would change the directory, which is made up. The texts
// are the reference's.
func (d *dumpDir) Create(c *ninep.Ctx, name string, perm uint32, mode uint8) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, 0, errPerm
}

// Write is refused: the directory is never open for writing.
func (d *dumpDir) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) { return 0, errInUse }

// Wstat is refused, but for the record that asks for a sync.
func (d *dumpDir) Wstat(c *ninep.Ctx, r *ninep.Dir) error {
	if r.IsNull() {
		return d.fs.syncFor(c)
	}
	return errMode
}

// Remove is refused.
func (d *dumpDir) Remove(c *ninep.Ctx) error { return errPhase }

// Clunk has nothing to give back.
func (d *dumpDir) Clunk(c *ninep.Ctx) {}

// Describe says what the fid stands for.
func (d *dumpDir) Describe() string { return "dump" }
