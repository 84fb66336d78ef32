package blkdev

import (
	"fmt"
	"sort"
	"sync"
)

// A Trace is the recording of a Crash: a starting image and the events since.
//
// The events between two Syncs are a window. A power cut in a window finds everything before the
// window on the disk, and of the window's writes whatever the Cut says. Finding the image for any Cut is
// cheap, cheapest when Cuts come in ascending order. A Trace is safe for concurrent use.
type Trace struct {
	base   *Mem    // never written
	events []Event // all of these only grow in the Crash, so that a Trace may share them

	changes []int // indices of the events that change the disk
	syncs   []int // indices of the syncs
	marks   []any // the marks' values
	markAt  []int // and indices

	mu     sync.Mutex
	run    point   // the last prefix asked for
	points []point // some prefixes, ascending, to go back to
}

// A point is the image with the first n events done, whole and in order.
type point struct {
	n   int
	img *Mem
}

// pointEvery is the number of events after which an image is kept to go back to.
const pointEvery = 64

// Len returns the number of events.
func (t *Trace) Len() int { return len(t.events) }

// Event returns the i-th event. Its Data must not be changed.
func (t *Trace) Event(i int) Event { return t.events[i] }

// Marks returns the values marked before a cut at event index at, oldest first. The slice is shared
// and must not be changed.
func (t *Trace) Marks(at int) []any {
	n := sort.SearchInts(t.markAt, at)
	return t.marks[:n:n]
}

// A Part is a write, or some sectors of it, that reached the disk. Sectors are counted from 0, the
// first one that the write touches; nil means all.
type Part struct {
	Event   int
	Sectors []int
}

// A Cut is one way for the power to go: when, and what of the last window reached the disk.
//
//   - Events with index At and later did not happen.
//   - Events before Full reached the disk whole and in order. So did all before the last Sync
//     before At, whatever Full is.
//   - The Parts in Then reached it after that, in this order. Other writes are lost.
type Cut struct {
	At   int
	Full int
	Then []Part
}

// State returns the disk as it is found after the cut. It is the caller's, and shares unchanged
// parts with the trace. The error says what is wrong with a cut that does not fit the trace.
func (t *Trace) State(c Cut) (*Mem, error) {
	if c.At < 0 || c.At > len(t.events) || c.Full < 0 || c.Full > c.At {
		return nil, fmt.Errorf("cut %v does not fit a trace of %d events", c, len(t.events))
	}
	full := max(c.Full, t.window(c.At))
	for _, p := range c.Then {
		if p.Event < full || p.Event >= c.At || !t.events[p.Event].changes() {
			return nil, fmt.Errorf("cut %v: event %d is not a write from %d to %d", c, p.Event, full, c.At-1)
		}
		for _, s := range p.Sectors {
			if n := t.events[p.Event].Sectors(); s < 0 || s >= n {
				return nil, fmt.Errorf("cut %v: event %d has %d sectors", c, p.Event, n)
			}
		}
	}
	m := t.prefix(full)
	for _, p := range c.Then {
		e := &t.events[p.Event]
		if p.Sectors == nil {
			e.apply(m)
		}
		for _, s := range p.Sectors {
			e.applySector(m, s)
		}
	}
	return m, nil
}

// window returns the index of the first event of the window in which a cut at at is.
func (t *Trace) window(at int) int {
	if n := sort.SearchInts(t.syncs, at); n > 0 {
		return t.syncs[n-1] + 1
	}
	return 0
}

// prefix returns a copy of the image with the first n events done.
func (t *Trace) prefix(n int) *Mem {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run.img == nil {
		t.points = []point{{0, t.base}}
	}
	i := sort.Search(len(t.points), func(i int) bool { return t.points[i].n > n }) - 1
	if p := t.points[i]; t.run.img == nil || t.run.n > n || t.run.n < p.n {
		t.run = point{p.n, p.img.Clone()}
	}
	for t.run.n < n {
		t.events[t.run.n].apply(t.run.img)
		t.run.n++
		if t.run.n >= t.points[len(t.points)-1].n+pointEvery {
			t.points = append(t.points, point{t.run.n, t.run.img.Clone()})
		}
	}
	return t.run.img.Clone()
}
