// Package kvfmt is the bytes inside tree blocks: keys, values, messages, the nodes that hold them,
// and what applying a message to a value means.
//
// It is pure: no I/O, no locks, no panics on bad bytes once a node has passed CheckNode. Integers
// are big-endian. Keys compare as unsigned bytes, a prefix before what it begins.
//
//	0 Kdat    qid[8] off[8]              block pointer      file systems
//	1 Kent    pqid[8] len[2] name 00     directory entry    file systems
//	2 Kup     qid[8]                     a Kent key         file systems
//	3 Klabel  name                       label              snapshot tree
//	4 Ksnap   gen[8]                     tree root          snapshot tree
//	5 Kdlist  gen[8] bgen[8]             deadlist           snapshot tree
//	6 Kconf   name                       bytes              both
//
// As the length of a name stands before it, directories are ordered by name length first.
// Source: dat.h, pack.c and tree.c of 9front's gefs.
package kvfmt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gefs9p/blkfmt"
)

// Limits in bytes. KeyMax and ValMax bound what an upsert takes.
const (
	KeyMax  = 256
	ValMax  = 512
	NameMax = 244 // longest usable file name

	DirSize      = 61
	DatKeySize   = 17
	EntPrefix    = 9
	UpKeySize    = 9
	SnapKeySize  = 9
	DlistKeySize = 17
	DlistSize    = 48
	TreeSize     = 72
	LabelSize    = 13
	ChildSize    = blkfmt.PtrSize + 2 // value of a pivot entry: pointer and fill
)

// The kinds of keys: the first byte.
const (
	Kdat byte = iota
	Kent
	Kup
	Klabel
	Ksnap
	Kdlist
	Kconf
)

// RootPqid is the parent qid in the root directory's own Kent key.
const RootPqid = ^uint64(0)

// AppendDatKey appends the key of the data block at offset off of file qid. off is in bytes and a
// multiple of the block size.
func AppendDatKey(p []byte, qid, off uint64) []byte {
	p = binary.BigEndian.AppendUint64(append(p, Kdat), qid)
	return binary.BigEndian.AppendUint64(p, off)
}

// AppendEntKey appends the key of the entry name in directory pqid.
func AppendEntKey(p []byte, pqid uint64, name string) []byte {
	p = AppendEntPrefix(p, pqid)
	p = binary.BigEndian.AppendUint16(p, uint16(len(name)))
	p = append(p, name...)
	return append(p, 0)
}

// AppendEntPrefix appends the prefix that all entries of directory pqid share.
func AppendEntPrefix(p []byte, pqid uint64) []byte {
	return binary.BigEndian.AppendUint64(append(p, Kent), pqid)
}

// AppendUpKey appends the key under which directory qid finds its own entry.
func AppendUpKey(p []byte, qid uint64) []byte {
	return binary.BigEndian.AppendUint64(append(p, Kup), qid)
}

// AppendLabelKey appends the key of a label.
func AppendLabelKey(p []byte, name string) []byte { return append(append(p, Klabel), name...) }

// AppendConfKey appends the key of a configuration value.
func AppendConfKey(p []byte, name string) []byte { return append(append(p, Kconf), name...) }

// AppendSnapKey appends the key of snapshot gen.
func AppendSnapKey(p []byte, gen blkfmt.Gen) []byte {
	return binary.BigEndian.AppendUint64(append(p, Ksnap), uint64(gen))
}

// AppendDlistKey appends the key of the list of blocks born in bgen that snapshot gen no longer has.
func AppendDlistKey(p []byte, gen, bgen blkfmt.Gen) []byte {
	p = binary.BigEndian.AppendUint64(append(p, Kdlist), uint64(gen))
	return binary.BigEndian.AppendUint64(p, uint64(bgen))
}

// An Ent is a decoded Kent key.
type Ent struct {
	Pqid uint64
	Name string
}

// ErrKey is wrapped by every error about bytes that are no key.
var ErrKey = errors.New("malformed key")

// GetEnt decodes a Kent key, strictly.
func GetEnt(k []byte) (Ent, error) {
	name, err := EntName(k)
	if err != nil {
		return Ent{}, err
	}
	return Ent{binary.BigEndian.Uint64(k[1:]), string(name)}, nil
}

// EntName returns the name in a Kent key, which is a part of k. It is as strict as GetEnt, and does
// not allocate.
func EntName(k []byte) ([]byte, error) {
	if len(k) < EntPrefix+3 || k[0] != Kent {
		return nil, fmt.Errorf("%w: entry key %x", ErrKey, k)
	}
	n := int(binary.BigEndian.Uint16(k[9:]))
	if len(k) != EntPrefix+2+n+1 || k[len(k)-1] != 0 {
		return nil, fmt.Errorf("%w: entry key %x", ErrKey, k)
	}
	return k[11 : 11+n : 11+n], nil
}

// GetDat decodes a Kdat key.
func GetDat(k []byte) (qid, off uint64, err error) {
	if len(k) != DatKeySize || k[0] != Kdat {
		return 0, 0, fmt.Errorf("%w: data key %x", ErrKey, k)
	}
	return binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint64(k[9:]), nil
}

// GetUp decodes a Kup key.
func GetUp(k []byte) (qid uint64, err error) {
	if len(k) != UpKeySize || k[0] != Kup {
		return 0, fmt.Errorf("%w: up key %x", ErrKey, k)
	}
	return binary.BigEndian.Uint64(k[1:]), nil
}

// GetSnapKey decodes a Ksnap key.
func GetSnapKey(k []byte) (blkfmt.Gen, error) {
	if len(k) != SnapKeySize || k[0] != Ksnap {
		return 0, fmt.Errorf("%w: snapshot key %x", ErrKey, k)
	}
	return blkfmt.Gen(binary.BigEndian.Uint64(k[1:])), nil
}

// GetDlistKey decodes a Kdlist key.
func GetDlistKey(k []byte) (gen, bgen blkfmt.Gen, err error) {
	if len(k) != DlistKeySize || k[0] != Kdlist {
		return 0, 0, fmt.Errorf("%w: deadlist key %x", ErrKey, k)
	}
	return blkfmt.Gen(binary.BigEndian.Uint64(k[1:])), blkfmt.Gen(binary.BigEndian.Uint64(k[9:])), nil
}

// CheckKey says whether k is a well-formed key of any kind.
func CheckKey(k []byte) error {
	if len(k) == 0 || len(k) > KeyMax {
		return fmt.Errorf("%w: %d bytes", ErrKey, len(k))
	}
	var err error
	switch k[0] {
	case Kdat:
		_, _, err = GetDat(k)
	case Kent:
		_, err = GetEnt(k)
	case Kup:
		_, err = GetUp(k)
	case Ksnap:
		_, err = GetSnapKey(k)
	case Kdlist:
		_, _, err = GetDlistKey(k)
	case Klabel, Kconf:
	default:
		err = fmt.Errorf("%w: unknown kind %d", ErrKey, k[0])
	}
	return err
}
