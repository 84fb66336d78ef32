// Package trace remembers what happened last to the blocks of a disk, for whoever wants to know how it came to
// be as it is: a ring of records of fixed size, the newest replacing the oldest.
//
// A nil *Ring remembers nothing and costs a comparison, so callers need not ask.
//
// Locks: one for each record, a leaf lock that is held for a copy. Writers of different records do not
// meet.
//
// Source: dat.h and cons.c of 9front's gefs.
package trace

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"gefs9p/blkfmt"
)

// None is the value of what a record has nothing to say of.
const None = -1

// A Record is one thing that happened.
type Record struct {
	Seq  uint64 // counts records from 1
	Qgen int64  // the commit being prepared
	Tag  string // what, a constant
	Addr blkfmt.Addr
	Gen  blkfmt.Gen // the block's birth, None if unknown
	V    int64      // depends on the tag
}

// String is the record as a line: [seq@qgen] tag (addr,gen) v, without what is None.
func (r Record) String() string {
	s := fmt.Sprintf("[%d@%d] %s", r.Seq, r.Qgen, r.Tag)
	if r.Addr != blkfmt.NoAddr {
		s += " (" + r.Addr.String()
		if r.Gen != None {
			s += fmt.Sprintf(",%d", int64(r.Gen))
		}
		s += ")"
	}
	if r.V != None {
		s += fmt.Sprintf(" %x", r.V)
	}
	return s
}

type slot struct {
	mu  sync.Mutex
	rec Record
}

// A Ring holds the last records. Its methods are safe for concurrent use, and of a nil Ring.
type Ring struct {
	seq   atomic.Uint64
	slots []slot
}

// New returns a ring that takes about size bytes of memory; nil if that is not enough for one record.
func New(size int64) *Ring {
	n := size / int64(unsafe.Sizeof(slot{}))
	if n <= 0 {
		return nil
	}
	return &Ring{slots: make([]slot, n)}
}

// Add remembers a record, whose Seq it gives.
func (r *Ring) Add(rec Record) {
	if r == nil {
		return
	}
	rec.Seq = r.seq.Add(1)
	s := &r.slots[rec.Seq%uint64(len(r.slots))]
	s.mu.Lock()
	if rec.Seq > s.rec.Seq { // somebody who was slow does not replace what is newer
		s.rec = rec
	}
	s.mu.Unlock()
}

// Records returns what is remembered, oldest first; of the block at addr alone unless that is NoAddr.
func (r *Ring) Records(addr blkfmt.Addr) []Record {
	if r == nil {
		return nil
	}
	var list []Record
	for i := range r.slots {
		s := &r.slots[i]
		s.mu.Lock()
		if s.rec.Seq > 0 && (addr == blkfmt.NoAddr || s.rec.Addr == addr) {
			list = append(list, s.rec)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Record) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	return list
}

// Write writes what is remembered to w, a line for each record. The error is w's.
func (r *Ring) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, rec := range r.Records(blkfmt.NoAddr) {
		fmt.Fprintln(b, rec) // b keeps the first error
	}
	return b.Flush()
}
