package kvfmt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"gefs9p/blkfmt"
)

// An Op says what a message does to the value of its key.
type Op uint8

// The message ops.
const (
	Insert  Op = 1 // set the value
	Delete  Op = 2 // remove an existing key
	Clearb  Op = 3 // remove a data block if there is one
	Clobber Op = 4 // remove an entry if there is one
	Wstat   Op = 5 // change fields of an existing directory entry; its version goes up by one
	Relink  Op = 6 // change a snapshot's Succ, and its counts by deltas
	Reprev  Op = 7 // change a snapshot's Pred, and its counts by deltas
)

func (o Op) String() string {
	names := [...]string{"nop", "insert", "delete", "clearb", "clobber", "wstat", "relink", "reprev"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// Clears reports whether o removes a key that need not be there.
func (o Op) Clears() bool { return o == Clearb || o == Clobber }

// A Msg is one change on its way down a tree.
//
//	op[1] klen[2] key vlen[2] payload
type Msg struct {
	Op  Op
	Key []byte
	Val []byte // payload
}

// Size returns the bytes m takes in a pivot's buffer, its slot in the table included.
func (m Msg) Size() int { return 2 + 1 + 2 + len(m.Key) + 2 + len(m.Val) }

// MsgMax is the largest Size of a message.
const MsgMax = 2 + 1 + 2 + KeyMax + 2 + ValMax

// EntrySize returns the bytes a key and its value take in a leaf or in the value half of a pivot,
// the slot in the table included.
func EntrySize(key, val []byte) int { return 2 + 2 + len(key) + 2 + len(val) }

// EntryMax is the largest EntrySize in a leaf.
const EntryMax = 2 + 2 + KeyMax + 2 + ValMax

// ChildMax is the largest EntrySize of a pivot's child entry.
const ChildMax = 2 + 2 + KeyMax + 2 + ChildSize

// The fields that a Wstat message may carry, in the order of their bits.
const (
	WLength uint8 = 1 << iota // length[8]
	WMode                     // mode[4]
	WMtime                    // mtime[8], ns
	WAtime                    // atime[8], ns
	WUid                      // uid[4]
	WGid                      // gid[4]
	WMuid                     // muid[4]
)

// AppendWstat appends the payload of a Wstat message that sets the fields of mask to those of d.
// A mask of zero only raises the version.
func AppendWstat(p []byte, mask uint8, d *Dir) []byte {
	be := binary.BigEndian
	p = append(p, mask)
	if mask&WLength != 0 {
		p = be.AppendUint64(p, d.Length)
	}
	if mask&WMode != 0 {
		p = be.AppendUint32(p, d.Mode)
	}
	if mask&WMtime != 0 {
		p = be.AppendUint64(p, uint64(d.Mtime))
	}
	if mask&WAtime != 0 {
		p = be.AppendUint64(p, uint64(d.Atime))
	}
	if mask&WUid != 0 {
		p = be.AppendUint32(p, uint32(d.Uid))
	}
	if mask&WGid != 0 {
		p = be.AppendUint32(p, uint32(d.Gid))
	}
	if mask&WMuid != 0 {
		p = be.AppendUint32(p, uint32(d.Muid))
	}
	return p
}

// ErrMsg is wrapped by every error about a message that is malformed or cannot be applied for
// another reason than ErrMissing.
var ErrMsg = errors.New("malformed message")

// ApplyWstat changes d as the payload of a Wstat message says. The payload must be consumed
// exactly.
func ApplyWstat(d *Dir, p []byte) error {
	if len(p) == 0 || len(p) != wstatSize(p[0]) {
		return fmt.Errorf("%w: wstat payload %x", ErrMsg, p)
	}
	be := binary.BigEndian
	mask, p := p[0], p[1:]
	u64 := func() uint64 { v := be.Uint64(p); p = p[8:]; return v }
	u32 := func() uint32 { v := be.Uint32(p); p = p[4:]; return v }
	d.Qid.Vers++
	if mask&WLength != 0 {
		d.Length = u64()
	}
	if mask&WMode != 0 {
		d.Mode = u32()
		d.Qid.Type = uint8(d.Mode >> 24)
	}
	if mask&WMtime != 0 {
		d.Mtime = int64(u64())
	}
	if mask&WAtime != 0 {
		d.Atime = int64(u64())
	}
	if mask&WUid != 0 {
		d.Uid = int32(u32())
	}
	if mask&WGid != 0 {
		d.Gid = int32(u32())
	}
	if mask&WMuid != 0 {
		d.Muid = int32(u32())
	}
	return nil
}

// wstatSize returns the length of the payload that starts with mask, -1 for an unknown bit.
func wstatSize(mask uint8) int {
	const (
		wide   = WLength | WMtime | WAtime   // 8 bytes each
		narrow = WMode | WUid | WGid | WMuid // 4 bytes each
	)
	if mask&^(wide|narrow) != 0 {
		return -1
	}
	return 1 + 8*bits.OnesCount8(mask&wide) + 4*bits.OnesCount8(mask&narrow)
}

// LinkSize is the length of a Relink or Reprev payload: gen[8] nlbl[1] nref[1], the last two signed.
const LinkSize = 10

// CheckMsg says whether m is well formed: a known op, a key of the kind it is for, lengths within the
// limits, and for Wstat, Relink and Reprev a payload that can be read. The values of inserts are for
// whoever reads them; those of the other ops are ignored.
func CheckMsg(m Msg) error {
	if len(m.Key) == 0 || len(m.Key) > KeyMax || len(m.Val) > ValMax {
		return fmt.Errorf("%w: %v with key of %d and payload of %d bytes", ErrMsg, m.Op, len(m.Key), len(m.Val))
	}
	kind := m.Key[0]
	ok := true
	switch m.Op {
	case Insert, Delete: // any payload: the reference once stored a zero byte with Delete
	case Clearb:
		ok = kind == Kdat
	case Clobber:
		ok = kind == Kent || kind == Kup
	case Wstat:
		ok = kind == Kent && len(m.Val) > 0 && len(m.Val) == wstatSize(m.Val[0])
	case Relink, Reprev:
		ok = kind == Ksnap && len(m.Val) == LinkSize
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: %v of key %x, payload %x", ErrMsg, m.Op, m.Key, m.Val)
	}
	return nil
}

// ErrMissing says that a message needs a value that is not there.
var ErrMissing = errors.New("message for a key that is not there")

// Apply returns the value that m makes of cur, and whether there is one. present says whether cur
// is a value at all. The result is m's payload, or is written to dst[:0], which needs a capacity of
// TreeSize to do without allocating; cur is never changed. dst must not overlap cur or m.
//
// Insert sets; Delete, Wstat, Relink and Reprev need a value (ErrMissing); Clearb and Clobber do
// not. Other errors say that cur or m does not decode, or that a count would leave its range; then
// a tree is corrupt. Source: tree.c, apply.
func Apply(dst []byte, m Msg, cur []byte, present bool) ([]byte, bool, error) {
	switch m.Op {
	case Insert:
		return m.Val, true, nil
	case Clearb, Clobber:
		return nil, false, nil
	case Delete, Wstat, Relink, Reprev:
		if !present {
			return nil, false, fmt.Errorf("%w: %v of key %x", ErrMissing, m.Op, m.Key)
		}
	default:
		return nil, false, fmt.Errorf("%w: %v", ErrMsg, m.Op)
	}

	switch m.Op {
	case Delete:
		return nil, false, nil
	case Wstat:
		d, err := GetDir(cur)
		if err != nil {
			return nil, false, err
		}
		if err := ApplyWstat(&d, m.Val); err != nil {
			return nil, false, err
		}
		return d.Append(dst[:0]), true, nil
	}

	t, err := GetTree(cur)
	if err != nil {
		return nil, false, err
	}
	if len(m.Val) != LinkSize {
		return nil, false, fmt.Errorf("%w: %v payload %x", ErrMsg, m.Op, m.Val)
	}
	link := blkfmt.Gen(binary.BigEndian.Uint64(m.Val))
	if m.Op == Relink {
		t.Succ = link
	} else {
		t.Pred = link
	}
	nlbl, nref := int64(t.Nlbl)+int64(int8(m.Val[8])), int64(t.Nref)+int64(int8(m.Val[9]))
	if nlbl < 0 || nref < 0 || nlbl > math.MaxInt32 || nref > math.MaxInt32 {
		return nil, false, fmt.Errorf("%w: %v leaves %d labels and %d references", ErrMsg, m.Op, nlbl, nref)
	}
	t.Nlbl, t.Nref = int32(nlbl), int32(nref)
	return t.Append(dst[:0]), true, nil
}

// AppendLink appends the payload of a Relink or Reprev message: the snapshot that becomes Succ or
// Pred, and what is added to Nlbl and Nref.
func AppendLink(p []byte, link blkfmt.Gen, nlbl, nref int8) []byte {
	p = binary.BigEndian.AppendUint64(p, uint64(link))
	return append(p, byte(nlbl), byte(nref))
}

// Compare orders keys: unsigned bytes, a prefix first.
func Compare(a, b []byte) int { return bytes.Compare(a, b) }
