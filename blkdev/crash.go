package blkdev

import (
	"os"
	"slices"
	"sync"
)

// A Kind says what an Event is.
type Kind uint8

// The kinds of events.
const (
	EventWrite   Kind = iota // Data was written at Off
	EventDiscard             // Len bytes at Off were discarded, and read as zeros
	EventSync                // a Sync returned: all events before this one are durable
	EventMark                // the test said so
	EventResize              // the disk has Len bytes from here on, and all before is durable
)

// An Event is one thing that happened to a Crash, in the order in which they happened.
type Event struct {
	Kind Kind
	Off  int64  // of a write or discard, bytes
	Len  int64  // of a write or discard, bytes, > 0; the size after a resize
	Data []byte // of a write; never to be changed
	Mark any    // of a mark
}

// changes reports whether the event changes the disk.
func (e *Event) changes() bool { return e.Kind == EventWrite || e.Kind == EventDiscard }

// Sectors returns how many sectors of the device the event touches, some perhaps in part.
func (e *Event) Sectors() int {
	if !e.changes() {
		return 0
	}
	return int((e.Off+e.Len-1)/SectorSize - e.Off/SectorSize + 1)
}

// apply does the event to m.
func (e *Event) apply(m *Mem) {
	switch e.Kind {
	case EventWrite:
		m.writeShared(e.Data, e.Off)
	case EventDiscard:
		m.zero(e.Off, e.Len)
	case EventResize:
		m.resize(e.Len)
	}
}

// applySector does what the event does to its i-th sector.
func (e *Event) applySector(m *Mem, i int) {
	lo := (e.Off/SectorSize + int64(i)) * SectorSize
	hi := min(lo+SectorSize, e.Off+e.Len)
	lo = max(lo, e.Off)
	if e.Kind == EventWrite {
		m.writeShared(e.Data[lo-e.Off:hi-e.Off], lo)
	} else {
		m.zero(lo, hi-lo)
	}
}

// A Crash is a disk in memory that records all that is written to it, every Sync, and whatever else
// the test marks. Its Trace then shows the disk as it may be found after a power cut at any point.
//
// Each buffer of a WriteVec is a write of its own: the disk may keep one and lose the next. A write
// that races with a Sync is before or after it, as it happens. Crash is safe for concurrent use.
type Crash struct {
	mu  sync.Mutex
	cur *Mem // what the server sees
	t   Trace
}

var _ Device = (*Crash)(nil)

// NewCrash returns a disk that holds what image holds, all of it durable. The image itself is not
// changed, and changes to it are not seen.
func NewCrash(image *Mem) *Crash {
	c := &Crash{cur: image.Clone()}
	c.cur.name = "crash"
	c.t.base = image.Clone()
	return c
}

// ReadAt implements Device.
func (c *Crash) ReadAt(p []byte, off int64) (int, error) { return c.cur.ReadAt(p, off) }

// WriteAt implements Device and records the write.
func (c *Crash) WriteAt(p []byte, off int64) (int, error) {
	if err := c.writeVec([][]byte{p}, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteVec implements Device and records a write for each buffer.
func (c *Crash) WriteVec(bufs [][]byte, off int64) error { return c.writeVec(bufs, off) }

func (c *Crash) writeVec(bufs [][]byte, off int64) error {
	return c.change("write", off, vecLen(bufs), func() {
		for _, b := range bufs {
			if len(b) > 0 {
				c.record(Event{Kind: EventWrite, Off: off, Len: int64(len(b)), Data: slices.Clone(b)})
				off += int64(len(b))
			}
		}
	})
}

// Discard implements Device and records it. As with a write, a power cut may undo it up to the next
// Sync.
func (c *Crash) Discard(off, n int64) error {
	return c.change("discard", off, n, func() {
		if n > 0 {
			c.record(Event{Kind: EventDiscard, Off: off, Len: n})
		}
	})
}

// change calls fn with the locks of c and c.cur held if the range may be changed.
func (c *Crash) change(op string, off, n int64, fn func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.mu.Lock()
	defer c.cur.mu.Unlock()
	if err := c.cur.mayWrite(op, off, n); err != nil {
		return err
	}
	fn()
	return nil
}

// record appends e and does it to c.cur, whose lock is held for changes.
func (c *Crash) record(e Event) {
	if e.changes() {
		e.apply(c.cur)
		c.t.changes = append(c.t.changes, len(c.t.events))
	}
	c.t.events = append(c.t.events, e)
}

// Sync implements Device and records that all before it is durable.
func (c *Crash) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cur.Sync(); err != nil {
		return err
	}
	c.t.syncs = append(c.t.syncs, len(c.t.events))
	c.record(Event{Kind: EventSync})
	return nil
}

// Enlarge changes the size, as somebody does who makes an image larger and has that synced: a power cut from here
// on finds the new size, and what was written before. It returns ErrRange for a size below the present one.
func (c *Crash) Enlarge(size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.mu.Lock()
	defer c.cur.mu.Unlock()
	if c.cur.closed {
		return opErr("enlarge", c.cur.name, 0, 0, os.ErrClosed)
	}
	if size < c.cur.size {
		return opErr("enlarge", c.cur.name, 0, 0, ErrRange)
	}
	e := Event{Kind: EventResize, Len: size}
	e.apply(c.cur)
	c.t.syncs = append(c.t.syncs, len(c.t.events))
	c.record(e)
	return nil
}

// Mark records v among the events, for Trace.Marks to return for every later power cut, and returns
// the index of the event. A test marks an operation when it was acknowledged, not before.
func (c *Crash) Mark(v any) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := len(c.t.events)
	c.t.marks = append(c.t.marks, v)
	c.t.markAt = append(c.t.markAt, i)
	c.record(Event{Kind: EventMark, Mark: v})
	return i
}

// Len returns the number of events so far.
func (c *Crash) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.t.events)
}

// Trace returns what was recorded so far. It does not grow when more is.
func (c *Crash) Trace() *Trace {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Trace{
		base:    c.t.base,
		events:  slices.Clip(c.t.events),
		changes: slices.Clip(c.t.changes),
		syncs:   slices.Clip(c.t.syncs),
		marks:   slices.Clip(c.t.marks),
		markAt:  slices.Clip(c.t.markAt),
	}
}

// Image returns a copy of the disk as the server sees it now, nothing lost.
func (c *Crash) Image() *Mem { return c.cur.Clone() }

// Size implements Device.
func (c *Crash) Size() (int64, error) { return c.cur.Size() }

// Close implements Device. The trace stays.
func (c *Crash) Close() error { return c.cur.Close() }

// Reopen makes a closed disk usable again, for a test that halts a server and starts the next one
// on the same recording. It returns os.ErrExist when the disk is open.
func (c *Crash) Reopen() error {
	c.cur.mu.Lock()
	defer c.cur.mu.Unlock()
	if !c.cur.closed {
		return opErr("open", c.cur.name, 0, 0, os.ErrExist)
	}
	c.cur.closed = false
	return nil
}
