package blkstore

import (
	"cmp"
	"fmt"
	"sync"

	"gefs9p/blkfmt"
)

// Inside a queue generation, file data goes before tree nodes: data seldom dies young, while the
// upper nodes of a tree are shadowed by every change, and those not yet written need never be.
const (
	kindData uint8 = iota
	kindNode
)

// A qent is a wish to write b. It is void once b.seq is no longer seq.
type qent struct {
	qgen int64
	kind uint8
	addr blkfmt.Addr
	seq  uint64
	b    *Blk
}

func (e qent) valid() bool { return e.b.seq.Load() == e.seq }

func qcmp(a, b qent) int {
	if c := cmp.Compare(a.qgen, b.qgen); c != 0 {
		return c
	}
	if c := cmp.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	return cmp.Compare(a.addr, b.addr)
}

// A queue is the sync heap of one arena: what is to be written there, oldest queue generation
// first, then by kind and address. One goroutine empties it, so that two writes to one address
// reach the device in the order in which they were queued.
//
// It is lazy: it writes when a fence asks for a generation, when file data has piled up, or when
// the store is short of buffers.
//
//   - live counts the entries that are not void, data those of them that are file data.
//   - A block in the heap holds one reference for its entry until the entry is written or void.
type queue struct {
	store *Store

	mu     sync.Mutex
	work   *sync.Cond // something may be eligible
	idle   *sync.Cond // a batch is done
	heap   qheap
	live   int
	data   int
	fence  int64 // generations up to here are wanted on the device
	eager  bool  // writing file data until none is left
	flight int   // entries being written
	fgen   int64 // lowest generation among them
	done   bool
	gone   bool // run has returned
}

const (
	eagerBlocks = 256 // file data beyond this is written without being asked for: 4 MiB
	batchBlocks = 128 // entries taken at a time: 2 MiB
)

func newQueue(s *Store) *queue {
	q := &queue{store: s, fence: -1}
	q.work = sync.NewCond(&q.mu)
	q.idle = sync.NewCond(&q.mu)
	return q
}

// put queues b for writing. The generation is read under the queue's lock, so that no block can
// slip behind a fence with an older stamp. The queue takes a reference.
func (q *queue) put(b *Blk) {
	kind := kindNode
	if b.typ == blkfmt.Data {
		kind = kindData
	}
	b.ref.Add(1)
	seq := q.store.seq.Add(1)
	q.mu.Lock()
	b.seq.Store(seq)
	q.heap.push(qent{q.store.qgen.Load(), kind, b.addr, seq, b})
	q.live++
	if kind == kindData {
		if q.data++; q.data >= eagerBlocks {
			q.eager = true
		}
	}
	wake := q.eager || q.store.pressure.Load()
	q.mu.Unlock()
	if wake {
		q.work.Signal()
	}
}

// cancel makes the entry of b void if it has one that is not being written yet, and reports
// whether it did. The entry's reference is the caller's then.
func (q *queue) cancel(b *Blk) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b.seq.Load() == 0 {
		return false
	}
	b.seq.Store(0)
	q.live--
	if b.typ == blkfmt.Data {
		q.datumLocked()
	}
	if len(q.heap) > 4*q.live+4096 {
		q.heap.filter(qent.valid)
	}
	return true
}

// datumLocked counts an entry of file data less.
func (q *queue) datumLocked() {
	if q.data--; q.data == 0 {
		q.eager = false
	}
}

// peekLocked returns the first entry that is not void.
func (q *queue) peekLocked() (qent, bool) {
	for len(q.heap) > 0 {
		if e := q.heap[0]; e.valid() {
			return e, true
		}
		q.heap.pop()
	}
	return qent{}, false
}

// nextLocked returns the first entry if it is to be written now.
func (q *queue) nextLocked() (qent, bool) {
	e, ok := q.peekLocked()
	if !ok || q.store.Err() != nil {
		return qent{}, false
	}
	return e, e.qgen <= q.fence || q.store.pressure.Load() || q.eager && e.kind == kindData
}

// run empties the queue until it is closed. After a failure it writes nothing more: unwritten
// blocks stay in memory, where readers find them.
func (q *queue) run() {
	batch := make([]qent, 0, batchBlocks)
	vec := make([][]byte, 0, batchBlocks)
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		batch = batch[:0]
		for len(batch) < batchBlocks {
			e, ok := q.nextLocked()
			if !ok {
				break
			}
			q.heap.pop()
			e.b.seq.Store(0)
			q.live--
			if e.kind == kindData {
				q.datumLocked()
			}
			batch = append(batch, e)
		}
		if len(batch) == 0 {
			if q.done {
				q.gone = true
				q.idle.Broadcast()
				return
			}
			q.work.Wait()
			continue
		}
		q.flight, q.fgen = len(batch), batch[0].qgen
		q.mu.Unlock()

		err := q.write(batch, vec)
		if err != nil {
			q.store.fail(err)
		}
		if err == nil {
			for _, e := range batch {
				q.store.Drop(e.b)
			}
			q.store.wrote(len(batch))
		}

		q.mu.Lock()
		q.flight = 0
		q.idle.Broadcast()
	}
}

// write brings a batch to the device, each run of adjacent blocks in one call.
func (q *queue) write(batch []qent, vec [][]byte) error {
	for i := 0; i < len(batch); {
		vec = append(vec[:0], batch[i].b.buf)
		j := i + 1
		for j < len(batch) && batch[j].addr == batch[j-1].addr+blkfmt.BlkSize {
			vec = append(vec, batch[j].b.buf)
			j++
		}
		for _, e := range batch[i:j] {
			q.store.note("writeb", e.addr, e.b.gen, int64(j-i))
		}
		if err := q.store.Err(); err != nil {
			return err
		}
		if err := q.store.dev.WriteVec(vec, int64(batch[i].addr)); err != nil {
			return fmt.Errorf("write %d blocks at %v: %w", j-i, batch[i].addr, err)
		}
		i = j
	}
	return nil
}

// drain waits until everything queued in generations up to qgen has been written. It returns the
// store's error if it has one, and ErrClosed if nobody will write any more.
func (q *queue) drain(qgen int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fence = max(q.fence, qgen)
	q.work.Signal()
	for {
		if err := q.store.Err(); err != nil {
			return err
		}
		e, more := q.peekLocked()
		if (!more || e.qgen > qgen) && (q.flight == 0 || q.fgen > qgen) {
			return nil
		}
		if q.gone {
			return ErrClosed
		}
		q.idle.Wait()
	}
}

// poke lets the queue look again at what is eligible.
func (q *queue) poke() {
	q.mu.Lock()
	q.work.Signal()
	q.idle.Broadcast()
	q.mu.Unlock()
}

func (q *queue) close() {
	q.mu.Lock()
	q.done = true
	q.work.Signal()
	q.mu.Unlock()
}

// ask tells the queue that generations up to qgen are wanted on the device, without waiting.
func (q *queue) ask(qgen int64) {
	q.mu.Lock()
	q.fence = max(q.fence, qgen)
	q.work.Signal()
	q.mu.Unlock()
}

// still waits until the queue writes nothing; after a failure it stays so.
func (q *queue) still() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.flight > 0 {
		q.idle.Wait()
	}
}
