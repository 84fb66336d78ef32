// Package logfmt is the bytes inside log blocks: the entries of allocation logs and of deadlists.
// (Nothing to do with the key=value logging format.)
//
// It is pure: no I/O, no locks, no panics on bad bytes. The header of the blocks these entries
// stand in is blkfmt.LogHdr. Source: blk.c and snap.c of 9front's gefs.
package logfmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"gefs9p/blkfmt"
)

// An Op says what an allocation-log entry does.
type Op uint8

// The ops, as they stand in the low byte of an entry.
const (
	Alloc1 Op = 1 // one block
	Free1  Op = 2
	Sync   Op = 3 // barrier of a commit
	Alloc  Op = 4 // a range
	Free   Op = 5
)

func (o Op) String() string {
	switch o {
	case Alloc1:
		return "alloc1"
	case Free1:
		return "free1"
	case Sync:
		return "sync"
	case Alloc:
		return "alloc"
	case Free:
		return "free"
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// An Entry is one record of an allocation log.
//
//	alloc1, free1   addr|op               one block
//	sync            qgen<<8|op            replay barrier
//	alloc, free     addr|op   len[8]      len bytes from addr
//
// Each is one or two big-endian 64-bit words, so that qgen is below 2^56. An entry never straddles a block: a writer starts a
// new block once it holds blkfmt.LogFull bytes.
type Entry struct {
	Op   Op
	Addr blkfmt.Addr // of the range; zero for Sync
	Len  int64       // bytes; BlkSize for the one-block forms; zero for Sync
	Qgen int64       // of Sync
}

// Size returns the number of bytes e takes, 8 or 16.
func (e Entry) Size() int {
	if e.Op == Alloc || e.Op == Free {
		return 16
	}
	return 8
}

// Append appends e to p. Of a one-block form Len is not stored. It does not check e: what Next would
// refuse is the caller's mistake.
func Append(p []byte, e Entry) []byte {
	be := binary.BigEndian
	switch e.Op {
	case Sync:
		return be.AppendUint64(p, uint64(e.Qgen)<<8|uint64(e.Op))
	case Alloc, Free:
		return be.AppendUint64(be.AppendUint64(p, uint64(e.Addr)|uint64(e.Op)), uint64(e.Len))
	}
	return be.AppendUint64(p, uint64(e.Addr)|uint64(e.Op))
}

// Range returns the entry that allocates or frees n bytes from a, in its one-block form when that
// is enough. op is Alloc or Free.
func Range(op Op, a blkfmt.Addr, n int64) Entry {
	if n == blkfmt.BlkSize {
		op -= Alloc - Alloc1
	}
	return Entry{Op: op, Addr: a, Len: n}
}

// ErrEntry is wrapped by every error about bytes that are no entry of a log or a deadlist.
var ErrEntry = errors.New("malformed log entry")

// Next reads the first entry of p and returns it with the bytes it took. It fails on an unknown
// op, a cut entry, and an address or length that is no positive multiple of the block size.
func Next(p []byte) (Entry, int, error) {
	if len(p) < 8 {
		return Entry{}, 0, fmt.Errorf("%w: cut after %d bytes", ErrEntry, len(p))
	}
	be := binary.BigEndian
	w := be.Uint64(p)
	e := Entry{Op: Op(w)}
	switch e.Op {
	case Sync:
		e.Qgen = int64(w >> 8)
		return e, 8, nil
	case Alloc1, Free1:
		e.Len = blkfmt.BlkSize
	case Alloc, Free:
		if len(p) < 16 {
			return Entry{}, 0, fmt.Errorf("%w: %v cut after %d bytes", ErrEntry, e.Op, len(p))
		}
		e.Len = int64(be.Uint64(p[8:]))
	default:
		return Entry{}, 0, fmt.Errorf("%w: %016x has an unknown op", ErrEntry, w)
	}
	e.Addr = blkfmt.Addr(w &^ 0xff)
	if !e.Addr.Block() || e.Len <= 0 || e.Len%blkfmt.BlkSize != 0 || e.Len > math.MaxInt64-int64(e.Addr) {
		return Entry{}, 0, fmt.Errorf("%w: %v of %d bytes at %v: not whole blocks", ErrEntry, e.Op, e.Len, e.Addr)
	}
	return e, e.Size(), nil
}
