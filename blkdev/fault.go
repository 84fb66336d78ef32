package blkdev

import (
	"errors"
	"io"
	"sync"
)

// An Op is a set of kinds of operations.
type Op uint8

// The kinds of operations. WriteAt and WriteVec are both one OpWrite a call.
const (
	OpRead Op = 1 << iota
	OpWrite
	OpSync
	OpDiscard

	opKinds = 4
)

// String returns the names, separated by |.
func (o Op) String() string {
	s := ""
	for i, name := range [opKinds]string{"read", "write", "sync", "discard"} {
		if o>>i&1 != 0 {
			if s != "" {
				s += "|"
			}
			s += name
		}
	}
	return s
}

// ErrInjected is the error of a Rule that names none.
var ErrInjected = errors.New("injected fault")

// A Rule says which operations of a Fault fail.
type Rule struct {
	Op      Op    // which kinds count and fail
	Nth     int   // the first to fail, counted from when the rule is set; 0 and 1 are the next one
	Forever bool  // all after the Nth too; otherwise the rule is used up by it
	Err     error // what the operation returns, in an OpError; nil is ErrInjected

	// Off and Len, if Len is not 0, let only reads, writes and discards count that touch this range.
	Off, Len int64

	// Short bytes of a failing read or write are done before it fails, at most as many as were asked
	// for less one. With Err nil the error is then io.ErrUnexpectedEOF or io.ErrShortWrite.
	Short int
}

// A Fault passes everything on to another device, except what is to fail. It is safe for concurrent
// use.
//
// A failed operation does not reach the device, except for Short bytes. Unlike File, Fault forgets:
// the Sync after a failed one succeeds, so that a test can see whether somebody trusts it.
type Fault struct {
	dev Device

	mu      sync.Mutex
	rules   []*rule
	corrupt []corruption
	hook    func(op Op, off, n int64) error
	counts  [opKinds]int
}

type rule struct {
	Rule
	seen int
}

type corruption struct {
	off, n int64
	mask   byte
}

var _ Device = (*Fault)(nil)

// NewFault returns a device that does what dev does until it is told otherwise.
func NewFault(dev Device) *Fault { return &Fault{dev: dev} }

// Fail adds a rule. An operation that several rules match fails by the first; it counts for all.
func (f *Fault) Fail(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &rule{Rule: r})
}

// Corrupt makes reads find each byte of the n bytes at off exclusive-ored with mask, until Heal. What is
// on the device does not change, and writing there does not help: the medium is bad.
func (f *Fault) Corrupt(off, n int64, mask byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.corrupt = append(f.corrupt, corruption{off, n, mask})
}

// Hook makes every operation call fn first, with no lock held; fn may wait, and an error from it
// fails the operation. A nil fn takes the hook away. off and n are 0 for a Sync.
func (f *Fault) Hook(fn func(op Op, off, n int64) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = fn
}

// Heal drops all rules and corruptions. The hook and the counts stay.
func (f *Fault) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.corrupt = nil, nil
}

// Count returns how many operations of these kinds there have been, failed ones included.
func (f *Fault) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for i, c := range f.counts {
		if op>>i&1 != 0 {
			n += c
		}
	}
	return n
}

// begin counts an operation and returns nil, or how it is to fail: after that many bytes.
func (f *Fault) begin(op Op, off, n int64) (short int64, err error) {
	f.mu.Lock()
	for i := range f.counts {
		if op>>i&1 != 0 {
			f.counts[i]++
		}
	}
	var hit *rule
	kept := f.rules[:0]
	for _, r := range f.rules {
		used := false
		if r.matches(op, off, n) {
			r.seen++
			if r.seen >= r.Nth {
				if hit == nil {
					hit = r
				}
				used = !r.Forever
			}
		}
		if !used {
			kept = append(kept, r)
		}
	}
	clear(f.rules[len(kept):])
	f.rules = kept
	hook := f.hook
	f.mu.Unlock()

	if hit != nil {
		return hit.outcome(op, n)
	}
	if hook != nil {
		return 0, hook(op, off, n)
	}
	return 0, nil
}

func (r *rule) matches(op Op, off, n int64) bool {
	if r.Op&op == 0 {
		return false
	}
	return r.Len == 0 || op == OpSync || (off < r.Off+r.Len && r.Off < off+n)
}

func (r *rule) outcome(op Op, n int64) (short int64, err error) {
	short, err = min(int64(r.Short), max(n-1, 0)), r.Err
	switch {
	case op != OpRead && op != OpWrite:
		short = 0
	case err == nil && short > 0 && op == OpRead:
		err = io.ErrUnexpectedEOF
	case err == nil && short > 0:
		err = io.ErrShortWrite
	}
	if err == nil {
		err = ErrInjected
	}
	return short, err
}

// ReadAt implements Device.
func (f *Fault) ReadAt(p []byte, off int64) (int, error) {
	short, err := f.begin(OpRead, off, int64(len(p)))
	if err == nil {
		n, err := f.dev.ReadAt(p, off)
		f.spoil(p[:n], off)
		return n, err
	}
	n, rerr := f.dev.ReadAt(p[:short], off)
	if rerr != nil {
		return n, rerr
	}
	f.spoil(p[:n], off)
	return n, opErr("read", "fault", off+int64(n), int64(len(p)-n), err)
}

// spoil changes what was read as Corrupt said.
func (f *Fault) spoil(p []byte, off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.corrupt {
		lo, hi := max(c.off, off), min(c.off+c.n, off+int64(len(p)))
		for ; lo < hi; lo++ {
			p[lo-off] ^= c.mask
		}
	}
}

// WriteAt implements Device.
func (f *Fault) WriteAt(p []byte, off int64) (int, error) {
	short, err := f.begin(OpWrite, off, int64(len(p)))
	if err == nil {
		return f.dev.WriteAt(p, off)
	}
	n, werr := f.dev.WriteAt(p[:short], off)
	if werr != nil {
		return n, werr
	}
	return n, opErr("write", "fault", off+int64(n), int64(len(p)-n), err)
}

// WriteVec implements Device.
func (f *Fault) WriteVec(bufs [][]byte, off int64) error {
	n := vecLen(bufs)
	short, err := f.begin(OpWrite, off, n)
	if err == nil {
		return f.dev.WriteVec(bufs, off)
	}
	var head [][]byte
	for left := short; left > 0; bufs = bufs[1:] {
		b := bufs[0][:min(int64(len(bufs[0])), left)]
		head = append(head, b)
		left -= int64(len(b))
	}
	if werr := f.dev.WriteVec(head, off); werr != nil {
		return werr
	}
	return opErr("write", "fault", off+short, n-short, err)
}

// Sync implements Device.
func (f *Fault) Sync() error {
	if _, err := f.begin(OpSync, 0, 0); err != nil {
		return opErr("sync", "fault", 0, 0, err)
	}
	return f.dev.Sync()
}

// Discard implements Device.
func (f *Fault) Discard(off, n int64) error {
	if _, err := f.begin(OpDiscard, off, n); err != nil {
		return opErr("discard", "fault", off, n, err)
	}
	return f.dev.Discard(off, n)
}

// Size implements Device; it never fails by itself.
func (f *Fault) Size() (int64, error) { return f.dev.Size() }

// Close implements Device; it closes the device below.
func (f *Fault) Close() error { return f.dev.Close() }
