package gefs

import (
	"sort"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// A dirScan is how far a fid has come in a directory with Treaddir. An entry's offset counts the entries
// up to it; "." and ".." are the first two.
//
// A client that goes on where it was is served from the key there. For one that goes back, marks has
// the key at the beginning of each earlier reply; from there on entries are counted again.
type dirScan struct {
	marks []scanMark // by offset; the last one is where the scan has come to
}

// A scanMark says that the entry with the key was given the offset.
type scanMark struct {
	off uint64
	key []byte // nil before the first
}

// dots is the number of entries that stand in no tree.
const dots = 2

// Readdir gives the entries behind the one with the offset off.
func (f *File) Readdir(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := guard(c)
	if f.mode == notOpen {
		return 0, errInUse
	}
	if !f.dent.isDir() {
		return 0, ninep.ENOTDIR
	}
	if err := f.homeLocked(g); err != nil {
		return 0, f.fs.wire(err, "read directory", f)
	}
	out := p[:0]
	for ; off < dots; off++ {
		name, d := ".", f.dent
		if off == 1 {
			name, d = "..", f.dir
		}
		switch fits := len(out)+ninep.DirentSize+len(name) <= len(p); {
		case !fits && off == 0:
			return 0, ninep.EINVAL
		case !fits:
			return len(out), nil
		}
		out = ninep.AppendDirent(out, f.wireQid(d.values().Qid), off+1, ninep.DTDir, name)
	}
	out, err := f.dirents(g, out, len(p), off)
	return len(out), f.fs.wire(err, "read directory", f)
}

// dirents appends entries behind offset off to out, up to a length of size, and remembers where that was.
func (f *File) dirents(g *epoch.Guard, out []byte, size int, off uint64) ([]byte, error) {
	marks := f.scan.marks
	if len(marks) == 0 {
		marks = []scanMark{{dots, nil}}
	}
	// The last mark that is not behind off.
	i := sort.Search(len(marks), func(i int) bool { return marks[i].off > off }) - 1
	at := marks[i].off
	var last []byte
	var bad error
	start := len(out)
	err := f.mount.tree.Scan(g, kvfmt.AppendEntPrefix(nil, f.dent.qid), marks[i].key, func(k, v []byte) bool {
		if at < off {
			at++
			last = append(last[:0], k...)
			return true
		}
		var ent kvfmt.Ent
		var e kvfmt.Dir
		if ent, bad = kvfmt.GetEnt(k); bad != nil {
			return false
		}
		if e, bad = kvfmt.GetDir(v); bad != nil {
			return false
		}
		if len(out)+ninep.DirentSize+len(ent.Name) > size {
			if len(out) == 0 {
				bad = ninep.EINVAL
			}
			return false
		}
		typ := uint8(ninep.DTReg)
		if e.Mode&dmDir != 0 {
			typ = ninep.DTDir
		}
		at++
		out = ninep.AppendDirent(out, f.wireQid(e.Qid), at, typ, ent.Name)
		last = append(last[:0], k...)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, err
	}
	if len(out) > start && at > marks[len(marks)-1].off {
		marks = append(marks, scanMark{at, last})
	}
	f.scan.marks = marks
	return out, nil
}
