package kvfmt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gefs9p/blkfmt"
)

// ErrValue is wrapped by every error about bytes that are no value of their kind.
var ErrValue = errors.New("malformed value")

// A Dir is a directory entry's value; the name is in its key.
//
//	 0  flag[8] qid.path[8] qid.vers[4] qid.type[1] mode[4]
//	25  atime[8] mtime[8] length[8] uid[4] gid[4] muid[4]
//
// Times are nanoseconds since 1970, the length is in bytes, ids are those of the users file.
type Dir struct {
	Flag   uint64
	Qid    Qid
	Mode   uint32 // 9P's bits: DMDIR, DMAPPEND, DMEXCL, DMTMP and rwxrwxrwx
	Atime  int64
	Mtime  int64
	Length uint64
	Uid    int32
	Gid    int32
	Muid   int32
}

// A Qid identifies a file on this disk. Type is Mode>>24 after any change of the mode.
type Qid struct {
	Path uint64
	Vers uint32
	Type uint8
}

// Append appends d's DirSize bytes to p.
func (d *Dir) Append(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint64(p, d.Flag)
	p = be.AppendUint64(p, d.Qid.Path)
	p = be.AppendUint32(p, d.Qid.Vers)
	p = append(p, d.Qid.Type)
	p = be.AppendUint32(p, d.Mode)
	p = be.AppendUint64(p, uint64(d.Atime))
	p = be.AppendUint64(p, uint64(d.Mtime))
	p = be.AppendUint64(p, d.Length)
	p = be.AppendUint32(p, uint32(d.Uid))
	p = be.AppendUint32(p, uint32(d.Gid))
	return be.AppendUint32(p, uint32(d.Muid))
}

// GetDir decodes a directory entry's value, which must be exactly DirSize bytes.
func GetDir(p []byte) (Dir, error) {
	if len(p) != DirSize {
		return Dir{}, fmt.Errorf("%w: directory entry of %d bytes, not %d", ErrValue, len(p), DirSize)
	}
	be := binary.BigEndian
	return Dir{
		Flag:   be.Uint64(p),
		Qid:    Qid{be.Uint64(p[8:]), be.Uint32(p[16:]), p[20]},
		Mode:   be.Uint32(p[21:]),
		Atime:  int64(be.Uint64(p[25:])),
		Mtime:  int64(be.Uint64(p[33:])),
		Length: be.Uint64(p[41:]),
		Uid:    int32(be.Uint32(p[49:])),
		Gid:    int32(be.Uint32(p[53:])),
		Muid:   int32(be.Uint32(p[57:])),
	}, nil
}

// GetDatVal decodes the value of a Kdat key: the pointer to the data block.
func GetDatVal(p []byte) (blkfmt.Bptr, error) {
	if len(p) != blkfmt.PtrSize {
		return blkfmt.Bptr{}, fmt.Errorf("%w: block pointer of %d bytes", ErrValue, len(p))
	}
	return blkfmt.GetPtr(p), nil
}

// A Tree is a snapshot: an immutable root and its place among the others.
//
//	 0  nref[4] nlbl[4] ht[4] flag[4] gen[8] pred[8] succ[8] base[8]
//	48  root[24]
type Tree struct {
	Nref int32 // snapshots whose Pred is this one
	Nlbl int32 // labels that name it
	Ht   int32 // levels; 1 is a root that is a leaf
	Flag uint32
	Gen  blkfmt.Gen // its identity, as in its key
	Pred blkfmt.Gen // the snapshot it was derived from
	Succ blkfmt.Gen // a snapshot derived from it, NoGen if none
	Base blkfmt.Gen // fork point: blocks not younger belong to somebody else
	Root blkfmt.Bptr
}

// Append appends t's TreeSize bytes to p.
func (t *Tree) Append(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint32(p, uint32(t.Nref))
	p = be.AppendUint32(p, uint32(t.Nlbl))
	p = be.AppendUint32(p, uint32(t.Ht))
	p = be.AppendUint32(p, t.Flag)
	p = be.AppendUint64(p, uint64(t.Gen))
	p = be.AppendUint64(p, uint64(t.Pred))
	p = be.AppendUint64(p, uint64(t.Succ))
	p = be.AppendUint64(p, uint64(t.Base))
	return t.Root.Append(p)
}

// GetTree decodes a tree root, which must be exactly TreeSize bytes and of a believable height.
func GetTree(p []byte) (Tree, error) {
	if len(p) != TreeSize {
		return Tree{}, fmt.Errorf("%w: tree root of %d bytes, not %d", ErrValue, len(p), TreeSize)
	}
	be := binary.BigEndian
	t := Tree{
		Nref: int32(be.Uint32(p)),
		Nlbl: int32(be.Uint32(p[4:])),
		Ht:   int32(be.Uint32(p[8:])),
		Flag: be.Uint32(p[12:]),
		Gen:  blkfmt.Gen(be.Uint64(p[16:])),
		Pred: blkfmt.Gen(be.Uint64(p[24:])),
		Succ: blkfmt.Gen(be.Uint64(p[32:])),
		Base: blkfmt.Gen(be.Uint64(p[40:])),
		Root: blkfmt.GetPtr(p[48:]),
	}
	if t.Ht < 1 || t.Ht > blkfmt.MaxHeight {
		return Tree{}, fmt.Errorf("%w: tree of height %d", ErrValue, t.Ht)
	}
	return t, nil
}

// LabelMutable is the flag of a label that moves to the newest snapshot at each commit. Other
// bits are kept as they are read.
const LabelMutable = 1

// A Label names a snapshot: Ksnap[1] gen[8] flags[4].
type Label struct {
	Gen   blkfmt.Gen
	Flags uint32
}

// Append appends l's LabelSize bytes to p.
func (l Label) Append(p []byte) []byte {
	p = binary.BigEndian.AppendUint64(append(p, Ksnap), uint64(l.Gen))
	return binary.BigEndian.AppendUint32(p, l.Flags)
}

// GetLabel decodes a label's value.
func GetLabel(p []byte) (Label, error) {
	if len(p) != LabelSize || p[0] != Ksnap {
		return Label{}, fmt.Errorf("%w: label %x", ErrValue, p)
	}
	return Label{blkfmt.Gen(binary.BigEndian.Uint64(p[1:])), binary.BigEndian.Uint32(p[9:])}, nil
}

// A Dlist finds a deadlist's blocks: the newest and the oldest of the chain. Both addresses are
// NoAddr when the list is empty.
type Dlist struct{ Hd, Tl blkfmt.Bptr }

// Append appends d's DlistSize bytes to p.
func (d Dlist) Append(p []byte) []byte { return d.Tl.Append(d.Hd.Append(p)) }

// GetDlist decodes a deadlist's value.
func GetDlist(p []byte) (Dlist, error) {
	if len(p) != DlistSize {
		return Dlist{}, fmt.Errorf("%w: deadlist of %d bytes", ErrValue, len(p))
	}
	return Dlist{blkfmt.GetPtr(p), blkfmt.GetPtr(p[blkfmt.PtrSize:])}, nil
}
