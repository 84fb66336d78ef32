package watch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/arena"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// A Watcher watches one server of one disk. The fields are set before the first use and not changed
// after; only FS is required. Its methods are safe for concurrent use.
type Watcher struct {
	FS      *gefs.FS
	Meter   *ninep.Meter              // that of the server; nil for none
	Clients func() []ninep.ClientInfo // that of the server; nil for none
	Events  *Events                   // nil for none
	Disk    string                    // what the disk is called
	Version string                    // of the program
	Pprof   bool                      // offer profiles of the program
	Logger  *slog.Logger              // nil discards

	once  sync.Once
	began time.Time
	asked atomic.Int64 // when somebody last looked at what is counted in the background: nanoseconds since began, and 1
	wake  chan struct{}

	mu   sync.Mutex
	ring [samples]sample
	n    uint64 // samples so far; the last is ring[(n-1)%samples]

	survey survey
	blocks blockMap
}

const (
	sampleEvery = time.Second
	samples     = 660 // ten minutes and some
	// looked is for how long after somebody has looked the counting in the background goes on.
	looked = 2 * time.Minute
	// stuckAfter is how old the last sample is when nobody can change anything any more.
	stuckAfter = time.Minute
)

// A sample is what the counters said at one time.
type sample struct {
	at             time.Time
	reads, writes  uint64 // requests
	others, errors uint64
	took           [ninep.TimeBuckets]uint64 // of all requests, in classes of time
	received, sent uint64
	store          blkstore.Stats
	deleted, lists int // what deletions have left to do
	quotas         []gefs.Quota
}

func (w *Watcher) init() {
	w.once.Do(func() {
		w.began = time.Now()
		w.wake = make(chan struct{}, 1)
		if w.Logger == nil {
			w.Logger = slog.New(slog.DiscardHandler)
		}
		w.survey.init()
	})
}

// Run samples, and counts in the background what somebody looks at, until ctx ends. It returns when all it
// has started has ended; the file system must not be closed before.
func (w *Watcher) Run(ctx context.Context) {
	w.init()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.count(ctx) })
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		w.sample()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sample takes a sample. It waits for the lock of those who change something.
func (w *Watcher) sample() {
	deleted, lists := w.FS.Backlog()
	quotas := w.FS.Quotas(false)
	s := w.now()
	s.deleted, s.lists, s.quotas = deleted, lists, quotas
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ring[w.n%samples] = s
	w.n++
}

// now returns what the counters say, without what only sample knows. It waits for nobody.
func (w *Watcher) now() sample {
	s := sample{at: time.Now(), store: w.FS.Store().Stats()}
	if w.Meter == nil {
		return s
	}
	c := w.Meter.Counts()
	s.received, s.sent = c.Received, c.Sent
	for _, t := range c.Types {
		for i, n := range t.Took {
			s.took[i] += n
		}
		n := t.Requests()
		s.errors += t.Errors
		switch t.Type {
		case ninep.Tread, ninep.Treaddir:
			s.reads += n
		case ninep.Twrite:
			s.writes += n
		default:
			s.others += n
		}
	}
	return s
}

// last returns the last sample; its time is zero if there is none.
func (w *Watcher) last() sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == 0 {
		return sample{}
	}
	return w.ring[(w.n-1)%samples]
}

// history returns the samples there are, the oldest first.
func (w *Watcher) history() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]sample, 0, min(w.n, samples))
	for i := w.n - uint64(cap(list)); i < w.n; i++ {
		list = append(list, w.ring[i%samples])
	}
	return list
}

// stuck returns for how long nobody could change anything, 0 if somebody could a moment ago.
func (w *Watcher) stuck() time.Duration {
	at := w.last().at
	if at.IsZero() {
		at = w.began
	}
	if d := time.Since(at); d > stuckAfter {
		return d
	}
	return 0
}

// look says that somebody looks at what is counted in the background.
func (w *Watcher) look() {
	w.asked.Store(int64(time.Since(w.began)) + 1)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watched reports whether somebody has looked lately.
func (w *Watcher) watched() bool {
	at := w.asked.Load()
	return at != 0 && time.Since(w.began)-time.Duration(at) < looked
}

// A load is who is connected now.
type load struct {
	clients           []ninep.ClientInfo
	fids, outstanding int
}

func (w *Watcher) load() load {
	var l load
	if w.Clients != nil {
		l.clients = w.Clients()
	}
	for _, c := range l.clients {
		l.fids += c.Fids
		l.outstanding += c.Outstanding
	}
	return l
}

// space adds up arenas, in bytes.
func space(arenas []arena.Stat) (size, used, waiting int64) {
	for _, a := range arenas {
		size += a.Size
		used += a.Used - a.Waiting
		waiting += a.Waiting
	}
	return size, used, waiting
}
