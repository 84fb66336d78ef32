package ninep

import (
	"math"
	"slices"
	"sync"
)

// Types of locks, and what a Tlock is answered.
const (
	LockRead   = 0
	LockWrite  = 1
	LockUnlock = 2

	LockSuccess = 0
	LockBlocked = 1 // somebody else has it; the client asks again if it wants to wait
	LockError   = 2 // no more locks, or a lock of no type
)

const (
	lockForever = math.MaxUint64 // end of a lock that has none
	maxLocks    = 1 << 16        // ranges of one connection
	maxClient   = 128            // bytes of a client_id; Linux has names of at most 64
)

// A lockOwner is a process on a client. Its own locks are never in its way.
type lockOwner struct {
	conn   *Conn
	proc   uint32
	client string
}

// A lockRange is bytes start to end, end not included, of a file.
type lockRange struct {
	typ        uint8
	start, end uint64
	owner      lockOwner
	fid        *fid // with which it goes
}

func lockEnd(start, length uint64) uint64 {
	if length == 0 || start > lockForever-length {
		return lockForever
	}
	return start + length
}

// A lockTable has the advisory locks of all files, in memory. Each lock goes when it is given back, or with
// the fid by which it came. mu is a leaf.
type lockTable struct {
	mu    sync.Mutex
	files map[any][]lockRange // ranges of one owner do not overlap
	held  map[*Conn]int       // ranges of each connection
}

// conflict returns a lock of somebody else's that l cannot stand beside.
func (t *lockTable) conflict(file any, l lockRange) (lockRange, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return conflict(t.files[file], l)
}

func conflict(list []lockRange, l lockRange) (lockRange, bool) {
	for _, o := range list {
		if o.owner != l.owner && o.start < l.end && l.start < o.end && (o.typ == LockWrite || l.typ == LockWrite) {
			return o, true
		}
	}
	return lockRange{}, false
}

// set takes or gives back a range, and returns what to answer. The parts of the owner's earlier locks that
// the range covers become what it says.
func (t *lockTable) set(f *fid, file any, l lockRange) uint8 {
	if l.typ > LockUnlock || len(l.owner.client) > maxClient {
		return LockError
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.files[file]
	if l.typ != LockUnlock {
		if _, found := conflict(list, l); found {
			return LockBlocked
		}
	}
	c := l.owner.conn
	if t.held[c]+2 > maxLocks && l.typ != LockUnlock {
		return LockError
	}
	l.fid = f
	next := make([]lockRange, 0, len(list)+2)
	for _, o := range list {
		if o.owner != l.owner || o.end < l.start || l.end < o.start {
			next = append(next, o)
			continue
		}
		if o.typ == l.typ && o.fid == f { // one lock, where they touch
			l.start, l.end = min(l.start, o.start), max(l.end, o.end)
			continue
		}
		before, after := o, o
		before.end, after.start = min(o.end, l.start), max(o.start, l.end)
		for _, p := range []lockRange{before, after} {
			if p.start < p.end {
				next = append(next, p)
			}
		}
	}
	if l.typ != LockUnlock && l.start < l.end {
		next = append(next, l)
		if !slices.Contains(f.locked, file) {
			f.locked = append(f.locked, file)
		}
	}
	t.put(file, list, next)
	return LockSuccess
}

// put replaces the locks of a file. t.mu is held.
func (t *lockTable) put(file any, old, next []lockRange) {
	if t.files == nil {
		t.files, t.held = make(map[any][]lockRange), make(map[*Conn]int)
	}
	for _, l := range old {
		if t.held[l.owner.conn]--; t.held[l.owner.conn] == 0 {
			delete(t.held, l.owner.conn)
		}
	}
	for _, l := range next {
		t.held[l.owner.conn]++
	}
	if len(next) == 0 {
		delete(t.files, file)
	} else {
		t.files[file] = next
	}
}

// release gives back what came by a fid, which nobody uses any more.
func (t *lockTable) release(f *fid) {
	if len(f.locked) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, file := range f.locked {
		old := t.files[file]
		next := slices.DeleteFunc(slices.Clone(old), func(l lockRange) bool { return l.fid == f })
		t.put(file, old, next)
	}
	f.locked = nil
}
