package faults

import (
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// A History is what happened to a disk on which a script of operations was done: everything written, with a
// mark where each operation begins and where each fsync was answered, and what the oracle says
// after each operation. It is safe for concurrent use.
type History struct {
	Ops     []Op // those that were done; the n-th operation is Ops[n-1]
	Trace   *blkdev.Trace
	Refused int // operations that were told the disk is full; they are not among Ops

	base    *Disk
	secs    []int64 // the time of each of Ops
	after   map[gefstest.Digest][]int
	oracles []*gefstest.Oracle // after each oracleEvery operations
	pool    sync.Pool          // of *check.Checker

	once sync.Once
	crc  uint32

	mu    sync.Mutex
	known map[blkfmt.Bptr]gefstest.Digest // by the root of the snapshot tree
}

const oracleEvery = 64

// allEvery is how rarely the contents are read again of a state that is known.
const allEvery = 32

// A mark stands in the trace where an operation begins, and where an fsync was answered.
type mark struct {
	begins int // operation that may be under way from here on
	synced int // or, if not negative: operations up to this one are safe
}

func newHistory(base *Disk) *History {
	return &History{
		base:  base,
		after: make(map[gefstest.Digest][]int),
		known: make(map[blkfmt.Bptr]gefstest.Digest),
		pool:  sync.Pool{New: func() any { return new(check.Checker) }},
	}
}

// Record does the operations on a copy of the disk, without those that do not fit because another was
// refused, and ends with a commit. With hold the tree main stays mounted between operations.
//
// What the server does in the background gets turns between operations, more of them or fewer, always the
// same. Where the operations should be done the same way again, RecordAlone is to be preferred.
func Record(base *Disk, ops []Op, hold bool) (*History, error) {
	return RecordThrough(base, ops, hold, func(disk *blkdev.Crash) (blkdev.Device, error) { return disk, nil })
}

// RecordThrough is Record with something between the file system and the disk that notes every write.
func RecordThrough(base *Disk, ops []Op, hold bool, through func(*blkdev.Crash) (blkdev.Device, error)) (*History, error) {
	disk := blkdev.NewCrash(base.Image)
	dev, err := through(disk)
	if err != nil {
		return nil, err
	}
	h := newHistory(base)
	r := base.Runner()
	note := func() {
		d := r.Oracle.Digest()
		h.after[d] = append(h.after[d], len(h.Ops))
		if len(h.Ops)%oracleEvery == 0 {
			h.oracles = append(h.oracles, r.Oracle.Clone())
		}
		disk.Mark(mark{begins: len(h.Ops) + 1, synced: -1})
	}
	note()
	if err := r.Open(dev, hold); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	turns := rand.New(rand.NewPCG(11, 11))
	for i, op := range ops {
		for range turns.IntN(6) {
			runtime.Gosched()
		}
		if !op.Fits(r.Oracle) {
			continue
		}
		switch err := r.Do(op); {
		case IsFull(err):
			h.Refused++
			continue
		case err != nil:
			return nil, fmt.Errorf("operation %d, %v: %w", i, op, errors.Join(err, r.Close()))
		}
		if op.Kind == Fsync {
			disk.Mark(mark{synced: len(h.Ops)})
		}
		h.Ops = append(h.Ops, op)
		h.secs = append(h.secs, r.Sec)
		note()
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("close: %w", err)
	}
	disk.Mark(mark{synced: len(h.Ops)})
	h.Trace = disk.Trace()
	return h, nil
}

// RecordAlone is Record on one processor, while nothing else is done: two recordings of the same operations
// are much alike. They need not be the same, as a busy machine interrupts it at other moments.
func RecordAlone(base *Disk, ops []Op, hold bool) (*History, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	return Record(base, ops, hold)
}

// Oracle returns the oracle after n operations, and the time then.
func (h *History) Oracle(n int) (*gefstest.Oracle, int64) {
	o := h.oracles[n/oracleEvery].Clone()
	for i := n / oracleEvery * oracleEvery; i < n; i++ {
		h.Ops[i].Predict(o, h.secs[i])
	}
	if n == 0 {
		return o, h.base.Sec
	}
	return o, h.secs[n-1]
}

// Window returns which operations may be the last that a disk found after the cut has.
func (h *History) Window(cut blkdev.Cut) (first, last int) {
	for _, m := range h.Trace.Marks(cut.At) {
		if m := m.(mark); m.synced >= 0 {
			first = m.synced
		} else {
			last = m.begins
		}
	}
	return first, min(last, len(h.Ops))
}

// Verify looks at the disk as it is after the cut and returns it, and the number of operations that it
// has; some number, if several states look the same. The error says what is wrong with it.
func (h *History) Verify(cut blkdev.Cut) (*blkdev.Mem, int, error) {
	img, err := h.Trace.State(cut)
	if err != nil {
		return nil, 0, err
	}
	first, last := h.Window(cut)
	found, err := h.look(img, cut.At%allEvery == 0)
	if err != nil {
		return nil, 0, err
	}
	at := h.after[found]
	for _, n := range at {
		if n >= first && n <= last {
			return img, n, nil
		}
	}
	if len(at) == 0 {
		return nil, 0, fmt.Errorf("the state is that after no operation; operations %d to %d may be the last: %v", first, last, h.Ops[max(0, first-3):last])
	}
	return nil, 0, fmt.Errorf("the state is that after operations %v, but %d to %d are allowed", at[:min(len(at), 20)], first, last)
}

// look checks the disk, opens it twice, and returns what it finds there. Opening changes nothing, unless
// something is unfinished: the server goes on with it then, and the contents are the same. Deletions of
// snapshots are ended.
func (h *History) look(img *blkdev.Mem, all bool) (d gefstest.Digest, err error) {
	chk := h.pool.Get().(*check.Checker)
	defer h.pool.Put(chk)
	left, err := h.base.sound(chk, img)
	if err != nil {
		return d, err
	}
	var root blkfmt.Bptr
	for again := range 2 {
		before := root
		fs, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache})
		if err != nil {
			return d, fmt.Errorf("open: %w", err)
		}
		root = fs.Store().Super().Snap
		switch {
		case again == 0:
			d, err = h.contents(fs, root, all)
		case left.deletions || left.clearing || left.counting:
			var then gefstest.Digest
			if then, err = h.contents(fs, root, true); err == nil && then != d {
				err = errors.New("the second opening finds other contents than the first")
			}
		case root != before:
			err = fmt.Errorf("the second opening finds the state %v, the first found %v", root, before)
		}
		if err = errors.Join(err, fs.Close()); err != nil {
			return d, err
		}
	}
	if !left.deletions {
		return d, nil
	}
	if left, err = h.base.sound(chk, img); err == nil && left.deletions {
		err = errors.New("deletions that were not ended before are not ended after two openings")
	}
	return d, err
}

// contents reads everything, or if the same state was read before, and all is false, takes its word: the
// root's pointer has the hash of everything below it, and the checker has just computed these.
func (h *History) contents(fs *gefs.FS, root blkfmt.Bptr, all bool) (gefstest.Digest, error) {
	h.mu.Lock()
	d, ok := h.known[root]
	h.mu.Unlock()
	if ok && !all {
		return d, nil
	}
	now, err := gefstest.DiskDigest(fs, gefstest.User)
	if err != nil {
		return now, err
	}
	if ok && now != d {
		return now, fmt.Errorf("the state %v has other contents than before", root)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[root] = now
	return now, nil
}

// Name returns the name of the case that is this cut. It has the operation that was under way and a sum of the
// trace, so that Try can look near there if it has another trace of the same operations.
func (h *History) Name(cut blkdev.Cut) string {
	_, last := h.Window(cut)
	return fmt.Sprintf("op=%d trace=%08x %v", last, h.Sum(), cut)
}

// cut returns the cut of that name.
func (h *History) cut(name string) (blkdev.Cut, error) {
	_, rest, _ := strings.Cut(name, " at=")
	return blkdev.ParseCut("at=" + rest)
}

// Try verifies the cut of that name. If the name is of another recording of the operations, in which the
// server had its turns at other moments, it verifies many cuts around the operation.
func (h *History) Try(name string) error {
	var op int
	var sum uint32
	if _, err := fmt.Sscanf(name, "op=%d trace=%x", &op, &sum); err != nil {
		return fmt.Errorf("bad case %q: %w", name, err)
	}
	cut, err := h.cut(name)
	if err != nil {
		return err
	}
	if sum == h.Sum() {
		_, _, err = h.Verify(cut)
		return err
	}
	for cut := range h.Near(op, 2, 300, rand.New(rand.NewPCG(uint64(op), 5))) {
		if _, _, err := h.Verify(cut); err != nil {
			return fmt.Errorf("in another recording, cut %v: %w", cut, err)
		}
	}
	return nil
}

// Near yields the cuts at write boundaries while one of the operations from op-d to op+d was under way, and as many
// random ones.
func (h *History) Near(op, d, random int, r *rand.Rand) iter.Seq[blkdev.Cut] {
	return func(yield func(blkdev.Cut) bool) {
		var ats []int
		begins := 0
		for at := range h.Trace.Len() {
			if m, ok := h.Trace.Event(at).Mark.(mark); ok && m.synced < 0 {
				begins = m.begins
			}
			if begins >= op-d && begins <= op+d {
				ats = append(ats, at+1)
			}
		}
		for _, at := range ats {
			if !yield(h.Trace.All(at)) {
				return
			}
		}
		for i := 0; i < random && len(ats) > 0; i++ {
			if !yield(h.Trace.RandomAt(r, pick(r, ats))) {
				return
			}
		}
	}
}

// Sum is a sum over all that was written, in its order.
func (h *History) Sum() uint32 {
	h.once.Do(func() {
		m := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		for i := range h.Trace.Len() {
			e := h.Trace.Event(i)
			fmt.Fprintf(m, "%d %d %d", e.Kind, e.Off, e.Len)
			m.Write(e.Data)
		}
		h.crc = m.Sum32()
	})
	return h.crc
}
