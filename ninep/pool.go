package ninep

import (
	"math/bits"
	"sync"
)

// A pool is the server's workers. As many requests run at once as there are seats; a request that
// blocks takes its worker with it and another worker sits down in its place, so that a request that
// wakes up never waits for a seat, which could deadlock with those who wait for what it holds.
type pool struct {
	seats chan Worker // free seats, each with its worker
	make  func() Worker
	free  func(Worker)

	mu    sync.Mutex
	spare []Worker // back from requests that blocked
}

func newPool(n int, mk func() Worker, free func(Worker)) *pool {
	if mk == nil {
		mk = func() Worker { return nil }
	}
	if free == nil {
		free = func(Worker) {}
	}
	p := &pool{seats: make(chan Worker, n), make: mk, free: free}
	for range n {
		p.seats <- p.make()
	}
	return p
}

// get waits for a seat.
func (p *pool) get() Worker { return <-p.seats }

// put gives a seat back.
func (p *pool) put(w Worker) { p.seats <- w }

// replace gives back a seat whose worker stays with its request. It does not wait.
func (p *pool) replace() {
	p.mu.Lock()
	var w Worker
	if n := len(p.spare); n > 0 {
		w, p.spare = p.spare[n-1], p.spare[:n-1]
		p.mu.Unlock()
	} else {
		p.mu.Unlock()
		w = p.make()
	}
	p.seats <- w // has room: the caller's own seat
}

// retire takes the worker of a request that blocked, now without a seat.
func (p *pool) retire(w Worker) {
	p.mu.Lock()
	if len(p.spare) < cap(p.seats) {
		p.spare = append(p.spare, w)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.free(w)
}

// close frees all workers; none may be in use.
func (p *pool) close() {
	for range cap(p.seats) {
		p.free(<-p.seats)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.spare {
		p.free(w)
	}
	p.spare = nil
}

// A buffer is memory for frames. b's length is what is filled; of an input buffer, the leader knows.
type buffer struct {
	b []byte

	// Of an input buffer, guarded by Conn.mu; see (*Conn).keep.
	holders int  // blocked requests with a part of it
	left    bool // the leader uses it no more
}

// size is how many bytes b takes, 0 if it is nil.
func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return cap(b.b)
}

const (
	minBufShift = 12 // the smallest buffer is 4 KiB
	bufClasses  = 10 // the largest that is kept is 2 MiB
	smallBuf    = 1 << minBufShift
)

// buffers keeps unused buffers by powers of two.
type buffers struct{ class [bufClasses]sync.Pool }

// get returns an empty buffer with room for n bytes at least.
func (bs *buffers) get(n int) *buffer {
	k := 0
	if n > smallBuf {
		k = bits.Len(uint(n-1)) - minBufShift
	}
	if k >= bufClasses {
		return &buffer{b: make([]byte, 0, n)}
	}
	if b, ok := bs.class[k].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, smallBuf<<k)}
}

// put takes a buffer back; nil is none. Nobody may hold a part of it.
func (bs *buffers) put(b *buffer) {
	if b == nil {
		return
	}
	n := cap(b.b)
	k := bits.Len(uint(n)) - 1 - minBufShift
	if k < 0 || k >= bufClasses || n != smallBuf<<k {
		return // grown by append to an odd size
	}
	b.b, b.left = b.b[:0], false
	bs.class[k].Put(b)
}

// grow makes room in b for n bytes more, in a larger buffer if need be.
func (bs *buffers) grow(b *buffer, n int) *buffer {
	if b == nil {
		return bs.get(n)
	}
	if cap(b.b)-len(b.b) >= n {
		return b
	}
	nb := bs.get(len(b.b) + n)
	nb.b = append(nb.b, b.b...)
	bs.put(b)
	return nb
}
