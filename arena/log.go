package arena

import (
	"cmp"
	"fmt"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// When a log is written anew: at growth times the size it had when it was last written anew, and
// slack blocks more. The factor bounds what replay reads to a multiple of what it must; the slack
// keeps short logs from being rewritten at every commit.
const (
	logGrowth = 2
	logSlack  = 16
)

// What makes a log block full: at least so many bytes of entries, and so many range entries.
const (
	blockBytes  = (blkfmt.LogFull + 7) / 8 * 8
	blockRanges = (blkfmt.LogFull + 15) / 16
)

// logBlocks returns the number of blocks of a log that begins with n range entries and ends with a
// barrier.
func logBlocks(n int64) int64 { return n/blockRanges + 1 }

// A logWriter fills log blocks one after the other.
type logWriter struct {
	a      *arena
	spare  []blkfmt.Addr // blocks to go on in that the log so far does not say are free
	blocks []logBlock
	bufs   *buffers
}

type logBlock struct {
	addr  blkfmt.Addr
	chain blkfmt.Addr
	data  []byte // header and entries so far
}

// begin makes the block at b, empty, the current one.
func (w *logWriter) begin(b blkfmt.Addr) {
	w.blocks = append(w.blocks, logBlock{addr: b, chain: blkfmt.NoAddr, data: w.bufs.take()[:blkfmt.LogHdSize]})
}

func (w *logWriter) cur() *logBlock { return &w.blocks[len(w.blocks)-1] }

func (w *logWriter) full() bool { return len(w.cur().data)-blkfmt.LogHdSize >= blkfmt.LogFull }

// put appends e, in a new block if the current one is full.
func (w *logWriter) put(e logfmt.Entry) error {
	if w.full() {
		if err := w.extend(); err != nil {
			return err
		}
	}
	w.append(e)
	return nil
}

func (w *logWriter) append(e logfmt.Entry) { w.cur().data = logfmt.Append(w.cur().data, e) }

// extend goes on in another block. A block that the log says is free is recorded as taken in the
// block that it is chained to, so that replay knows before it goes there.
func (w *logWriter) extend() error {
	if len(w.spare) > 0 {
		next := w.spare[0]
		w.spare = w.spare[1:]
		w.a.chain.add(next)
		w.link(next)
		return nil
	}
	next, ok := w.a.takeLogLocked(w.cur().addr + blkfmt.BlkSize)
	if !ok {
		return fmt.Errorf("allocation log of arena %d: %w", w.a.no, ErrFull)
	}
	w.append(logfmt.Entry{Op: logfmt.Alloc1, Addr: next, Len: blkfmt.BlkSize})
	w.link(next)
	return nil
}

// link chains block next behind the current one and makes it current.
func (w *logWriter) link(next blkfmt.Addr) {
	w.cur().chain = next
	w.begin(next)
}

// finish returns the blocks with headers and hashes.
func (w *logWriter) finish(hash blkfmt.Hasher) []Write {
	out := make([]Write, 0, len(w.blocks))
	for _, b := range w.blocks {
		h := blkfmt.LogHdr{Type: blkfmt.Log, Size: len(b.data) - blkfmt.LogHdSize, Chain: blkfmt.NoPtr}
		h.Chain.Addr = b.chain
		p := b.data[:blkfmt.BlkSize]
		blkfmt.EncodeLogHdr(p, h, hash)
		out = append(out, Write{Addr: b.addr, Data: p})
	}
	return out
}

// changes returns the net change since the last barrier, in order of address, and the number of
// blocks that a log holding them takes from the arena, given that it begins in an empty one: the
// last one also holds the barrier.
func (a *arena) changes() (list []logfmt.Entry, blocks int64) {
	list = make([]logfmt.Entry, 0, a.born.runs+a.died.runs)
	for b, n := range a.born.all() {
		list = append(list, logfmt.Range(logfmt.Alloc, b, n))
	}
	for b, n := range a.died.all() {
		list = append(list, logfmt.Range(logfmt.Free, b, n))
	}
	slices.SortFunc(list, func(x, y logfmt.Entry) int { return cmp.Compare(x.Addr, y.Addr) })
	size := 0
	for _, e := range list {
		if size >= blkfmt.LogFull {
			blocks, size = blocks+1, 0
		}
		size += e.Size()
	}
	if size >= blkfmt.LogFull {
		blocks++
	}
	return list, blocks
}

// freshBlocks returns how many blocks a log written anew takes, at most: as if no two ranges of what
// is free, will be free and the old log has touched. Taking the blocks from the start of free ranges
// makes no ranges more.
func (a *arena) freshBlocks() int64 {
	return logBlocks(a.free.count() + a.young.runs + a.later.runs + a.held.runs + a.lent.runs + a.chain.runs)
}

// needLocked returns how many blocks the next Seal must be able to take: those of the shorter of the
// two logs that it can write, without the tail behind the barrier, which can wait.
func (a *arena) needLocked() int64 {
	fresh := a.freshBlocks()
	if a.tail == blkfmt.NoAddr {
		return fresh
	}
	bytes := min(8*(a.born.n+a.died.n), 16*(a.born.runs+a.died.runs))
	return min(fresh, bytes/blockBytes)
}

// pressedLocked tells whether the next log may need more than half of what is kept for it.
func (a *arena) pressedLocked() bool {
	return a.needLocked() > max(1, min(a.free.blocks(), a.floor)/2)
}

// A plan is how an arena's next log is written.
type plan struct {
	anew    bool           // a new chain; else the old one is continued
	entries []logfmt.Entry // when continued
}

// planLocked chooses between continuing the log and writing it anew. It changes nothing, and fails
// if there is room for neither.
func (a *arena) planLocked() (plan, error) {
	if a.suspect != "" {
		return plan{}, fmt.Errorf("arena %d: %w: %s", a.no, ErrSuspect, a.suspect)
	}
	fresh, room := a.freshBlocks(), a.free.blocks()
	if a.tail == blkfmt.NoAddr {
		if fresh <= room {
			return plan{anew: true}, nil
		}
		return plan{}, a.noRoom(fresh, room)
	}
	entries, blocks := a.changes()
	switch {
	case fresh > room:
		if blocks <= room {
			return plan{entries: entries}, nil
		}
		return plan{}, a.noRoom(min(blocks, fresh), room)
	case blocks > room || blocks >= fresh || a.chain.n >= logGrowth*a.lastSize+logSlack:
		return plan{anew: true}, nil
	case room < a.floor && a.chain.n > fresh+1:
		// A new log gives back more than it takes.
		return plan{anew: true}, nil
	}
	return plan{entries: entries}, nil
}

func (a *arena) noRoom(need, have int64) error {
	return fmt.Errorf("arena %d: %w: its log needs %d blocks, %d are free", a.no, ErrFull, need, have)
}

// continueLocked appends entries to the log, from its empty tail on.
func (a *arena) continueLocked(entries []logfmt.Entry, bufs *buffers) (*logWriter, error) {
	w := &logWriter{a: a, bufs: bufs}
	w.begin(a.tail)
	for _, e := range entries {
		if err := w.put(e); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// anewLocked begins a new log that says what is free: the free ranges, what is about to be, and the
// blocks of the old log, which the caller gives back. Blocks in use need no entry.
func (a *arena) anewLocked(bufs *buffers) (*logWriter, error) {
	spare, ok := a.takeFreshLocked()
	if !ok {
		return nil, fmt.Errorf("allocation log of arena %d: %w", a.no, ErrFull)
	}
	old := a.chain
	a.chain = blockSet{}
	w := &logWriter{a: a, spare: spare, bufs: bufs}
	w.begin(w.spare[0])
	a.chain.add(w.spare[0])
	w.spare = w.spare[1:]

	for b, n := range merged(merged(merged(a.free.all(), a.held.all()), merged(a.lent.all(), a.young.all())), merged(a.later.all(), old.all())) {
		// Always the form with a length, as the reference has it here.
		if err := w.put(logfmt.Entry{Op: logfmt.Free, Addr: b, Len: n}); err != nil {
			return nil, err
		}
	}
	// Blocks of this log that it turned out not to need are free as well. Should they take a
	// block to say so, it is one of them.
	for len(w.spare) > 0 {
		if w.full() {
			if err := w.extend(); err != nil {
				return nil, err
			}
			continue
		}
		b := w.spare[0]
		w.spare = w.spare[1:]
		w.append(logfmt.Entry{Op: logfmt.Free1, Addr: b, Len: blkfmt.BlkSize})
		a.freedLocked(b, blkfmt.BlkSize)
	}
	for b, n := range old.all() {
		a.limbo.addRange(b, n)
	}
	return w, nil
}

// takeFreshLocked takes the blocks for a new log out of the free ranges, in one piece if there is
// one; the first log of a new arena begins in the block that Extend kept for it. It returns false if
// there are too few.
func (a *arena) takeFreshLocked() ([]blkfmt.Addr, bool) {
	n := a.freshBlocks()
	if n > a.free.blocks() {
		return nil, false
	}
	list := make([]blkfmt.Addr, 0, n)
	kept := a.kept
	a.kept = blkfmt.NoAddr
	if kept != blkfmt.NoAddr && a.chain.remove(kept) {
		list = append(list, kept)
		if n--; n == 0 {
			return list, true
		}
	}
	if b, ok := a.free.takeRun(n * blkfmt.BlkSize); ok {
		for ; n > 0; n-- {
			a.takenLocked(b)
			list = append(list, b)
			b += blkfmt.BlkSize
		}
		return list, true
	}
	for ; n > 0; n-- {
		b, _ := a.free.takeFirst()
		a.takenLocked(b)
		list = append(list, b)
	}
	return list, true
}

// barrierLocked ends what w has written with the barrier of qgen, and chains an empty block behind
// it in which the next Seal goes on. It returns the number of bytes that replay finds free at the
// barrier.
func (a *arena) barrierLocked(w *logWriter, qgen int64) (free int64, err error) {
	if err := w.put(logfmt.Entry{Op: logfmt.Sync, Qgen: qgen}); err != nil {
		return 0, err
	}
	a.born, a.died = blockSet{}, blockSet{}
	if a.limbo.n == 0 {
		a.limbo = a.later
	} else {
		for b, n := range a.later.all() {
			a.limbo.addRange(b, n)
		}
	}
	a.later = blockSet{}
	free = a.free.total + (a.young.n+a.limbo.n+a.held.n+a.lent.n)*blkfmt.BlkSize

	// The barrier comes first: a replay to it must not find the next block taken, for nothing in
	// this state needs it.
	a.tail = blkfmt.NoAddr
	if next, ok := a.takeLogLocked(w.cur().addr + blkfmt.BlkSize); ok {
		a.tail = next
		a.streams.keep(next+blkfmt.BlkSize, logSlack)
		w.append(logfmt.Entry{Op: logfmt.Alloc1, Addr: next, Len: blkfmt.BlkSize})
		w.link(next)
	}
	return free, nil
}
