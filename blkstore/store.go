package blkstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/internal/trace"
	"gefs9p/kvfmt"
)

// Errors.
var (
	ErrIO       = errors.New("i/o error")
	ErrClosed   = errors.New("block store is closed")
	ErrReadOnly = errors.New("block store is read-only")
)

// Options says how a store is opened. The zero value works.
type Options struct {
	// Cache is the number of blocks kept in memory; 0 means DefaultCache, and it is never less
	// than MinCache.
	Cache int
	// Key is the content of the disk's key file, nil if there is none.
	Key *[blkfmt.KeySize]byte
	// ReadOnly refuses everything that would write.
	ReadOnly bool
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// Trace remembers what happens to blocks; nil remembers nothing.
	Trace *trace.Ring
}

// Sizes of the cache in blocks.
const (
	DefaultCache = 512 << 20 / blkfmt.BlkSize
	MinCache     = 8 << 20 / blkfmt.BlkSize
)

// A Store holds the blocks of one disk. Its methods are safe for concurrent use except where they
// ask for the mutation lock.
type Store struct {
	dev      blkdev.Device
	devSize  atomic.Int64 // as the place of the second superblock has it; see follow
	hash     blkfmt.Hasher
	log      *slog.Logger
	trace    *trace.Ring
	readOnly bool
	arenas   *arena.Set
	epochs   *epoch.Domain[dead]

	shards [nshard]shard
	pool   pool
	queues atomic.Pointer[[]*queue] // one for each arena; replaced as a whole when there are more

	seq      atomic.Uint64 // last number given to a queue entry
	qgen     atomic.Int64  // generation that entries are stamped with: that of the next Seal
	pressure atomic.Bool   // write everything: buffers are short
	pinned   atomic.Int64  // blocks that cannot be evicted because they are unwritten or in limbo
	roomy    chan struct{} // a token when the store has become less crowded

	latch atomic.Pointer[error] // the failure after which nothing is written any more
	stop  chan struct{}
	once  sync.Once

	trimMu  sync.Mutex // held while a range is discarded; taken with no other lock
	trimmed atomic.Uint64
	done    sync.WaitGroup

	hits, misses, written, cancelled, commits, corrupt, unreadable atomic.Uint64

	// guarded by the caller's mutation lock
	super      blkfmt.Super  // as committed, or as sealed last
	dying      []blkfmt.Addr // freed since the last Seal, but part of the committed state
	committing bool
	fresh      bool          // formatted, and not committed yet
	healAt     []blkfmt.Addr // superblock copies that are not what they should be
}

func newStore(dev blkdev.Device, opt Options) (*Store, error) {
	size, err := dev.Size()
	if err != nil {
		return nil, err
	}
	s := &Store{
		dev: dev, log: opt.Logger, trace: opt.Trace, readOnly: opt.ReadOnly,
		roomy: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	s.devSize.Store(size)
	s.queues.Store(new([]*queue))
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for i := range s.shards {
		s.shards[i].blks = make(map[blkfmt.Addr]*Blk)
	}
	n := opt.Cache
	if n == 0 {
		n = DefaultCache
	}
	s.pool = pool{store: s, max: max(n, MinCache), avail: make(chan struct{}, 1)}
	s.epochs = epoch.New(8, s.release)
	return s, nil
}

// start makes the queues of n more arenas and, unless the store is read-only, the goroutines that empty
// them.
func (s *Store) start(n int) {
	list := slices.Clone(s.allQueues())
	for range n {
		q := newQueue(s)
		list = append(list, q)
		if !s.readOnly {
			s.done.Go(q.run)
		}
	}
	s.queues.Store(&list)
}

// allQueues returns the queues there are, which must not be changed.
func (s *Store) allQueues() []*queue { return *s.queues.Load() }

// Open opens the disk on dev. Of the two superblocks it takes the newest whose arenas can be
// loaded. Errors: blkfmt.ErrNotGefs, *blkfmt.VersionError, blkfmt.ErrNoKey, *blkfmt.CorruptError,
// those of the device; the text says what is wrong with both copies.
func Open(dev blkdev.Device, opt Options) (*Store, error) {
	s, err := newStore(dev, opt)
	if err != nil {
		return nil, err
	}
	type candidate struct {
		at    blkfmt.Addr
		super *blkfmt.Super
		err   error
	}
	read := func(at blkfmt.Addr) (c candidate) {
		c.at = at
		buf := make([]byte, blkfmt.BlkSize)
		if at < 0 || int64(at)+blkfmt.BlkSize > s.devSize.Load() {
			c.err = fmt.Errorf("%w (the device has only %d bytes)", blkfmt.ErrNotGefs, s.devSize.Load())
		} else if _, err := dev.ReadAt(buf, int64(at)); err != nil {
			c.err = fmt.Errorf("%w: read superblock at %v: %w", ErrIO, at, err)
		} else {
			c.super, c.err = blkfmt.DecodeSuper(buf, opt.Key, at)
		}
		return c
	}
	first, second := read(0), read(blkfmt.BackupAddr(s.devSize.Load()))
	order := []candidate{first, second}
	if first.super != nil && second.super != nil && second.super.Qgen > first.super.Qgen {
		order = []candidate{second, first}
	}
	for i := range order {
		c := &order[i]
		if c.super == nil {
			continue
		}
		if c.err = s.load(c.super); c.err != nil {
			continue
		}
		if o := order[1-i]; o.super == nil || o.super.Qgen != c.super.Qgen {
			s.healAt = []blkfmt.Addr{o.at}
			why := o.err
			if why == nil {
				why = fmt.Errorf("it is of generation %d, the other of %d", o.super.Qgen, c.super.Qgen)
			}
			s.log.Warn("a superblock copy is damaged or old; using the other, the next commit repairs it", "at", o.at, "why", why)
		}
		s.start(s.arenas.Len())
		return s, nil
	}
	if order[0].err.Error() == order[1].err.Error() || errors.Is(order[1].err, blkfmt.ErrNotGefs) {
		return nil, order[0].err
	}
	if errors.Is(order[0].err, blkfmt.ErrNotGefs) {
		return nil, order[1].err
	}
	return nil, fmt.Errorf("unable to load either superblock: %w; %w", order[0].err, order[1].err)
}

// load makes super the state of s.
func (s *Store) load(super *blkfmt.Super) error {
	if end := int64(super.Arenas[len(super.Arenas)-1].Addr); end >= s.devSize.Load() {
		return &blkfmt.CorruptError{Addr: super.Arenas[len(super.Arenas)-1].Addr, Type: blkfmt.Arena,
			What: fmt.Sprintf("the last arena lies beyond the device's %d bytes: the disk is truncated", s.devSize.Load())}
	}
	s.hash = super.Hasher()
	set, err := arena.Load(s.dev, s.devSize.Load(), s.hash, super.Arenas, super.Qgen)
	if err != nil {
		return err
	}
	s.arenas, s.super = set, *super
	s.qgen.Store(super.Qgen + 1)
	return nil
}

// Format starts a new disk on dev, whose content is given up. Nothing is written before the first
// commit, which has the generation 0. sip chooses the keyed hash, under key; if keyInside, the key
// is kept in the superblock. Errors wrap blkfmt.ErrTooSmall.
func Format(dev blkdev.Device, opt Options, sip, keyInside bool) (*Store, error) {
	s, err := newStore(dev, opt)
	if err != nil {
		return nil, err
	}
	geom, err := blkfmt.ReamGeometry(s.devSize.Load())
	if err != nil {
		return nil, err
	}
	s.super = blkfmt.Super{Sip: sip, SnapDead: [2]blkfmt.Bptr{blkfmt.NoPtr, blkfmt.NoPtr}, Qgen: -1}
	if sip {
		s.super.Key = opt.Key
		if keyInside {
			s.super.Flag |= blkfmt.FlagKeyInside
		}
	}
	s.hash = s.super.Hasher()
	if s.arenas, err = arena.Format(geom, s.hash); err != nil {
		return nil, err
	}
	s.qgen.Store(0)
	s.fresh = true
	s.start(s.arenas.Len())
	return s, nil
}

// Super returns the superblock as it was sealed last. The caller has the mutation lock.
func (s *Store) Super() blkfmt.Super { return s.super }

// Hasher returns the disk's hash.
func (s *Store) Hasher() blkfmt.Hasher { return s.hash }

// Arenas returns the arenas, for their sizes and for a census. Blocks are taken and given back
// through the store only.
func (s *Store) Arenas() *arena.Set { return s.arenas }

// Device returns the device, for reading only.
func (s *Store) Device() io.ReaderAt { return s.dev }

// DeviceSize returns the device's length in bytes when it was opened, or when a commit or Grow last found
// that it has changed.
func (s *Store) DeviceSize() int64 { return s.devSize.Load() }

// CanWrite reports whether the store was opened for writing.
func (s *Store) CanWrite() bool { return !s.readOnly }

// Guard registers a worker's epoch slot. See epoch.Guard for its use.
func (s *Store) Guard() *epoch.Guard { return s.epochs.Register() }

// FreeGuard gives a slot back. The worker is outside.
func (s *Store) FreeGuard(g *epoch.Guard) { s.epochs.Unregister(g) }

// Err returns the failure after which the store writes nothing any more, nil as long as all is
// well.
func (s *Store) Err() error {
	if p := s.latch.Load(); p != nil {
		return *p
	}
	return nil
}

// fail latches the store.
func (s *Store) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrIO, err)
	if !s.latch.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("the file system is read-only from now on: writing to the disk failed", "err", err)
	s.pokeAll()
}

// Latch makes the store read-only because of err, which somebody above found: a tree that cannot
// be changed without harm. Only the first call counts.
func (s *Store) Latch(err error) {
	if s.latch.CompareAndSwap(nil, &err) {
		s.log.Error("the file system is read-only from now on", "err", err)
		var corrupt *blkfmt.CorruptError
		if errors.As(err, &corrupt) {
			for _, rec := range s.trace.Records(corrupt.Addr) {
				s.log.Error("what happened to the block", "trace", rec)
			}
		}
		s.pokeAll()
	}
}

// note remembers that something happened to the block at a.
func (s *Store) note(tag string, a blkfmt.Addr, gen blkfmt.Gen, v int64) {
	if s.trace != nil {
		s.trace.Add(trace.Record{Qgen: s.qgen.Load(), Tag: tag, Addr: a, Gen: gen, V: v})
	}
}

// Trace returns what remembers what happened to blocks; nil if nothing does.
func (s *Store) Trace() *trace.Ring { return s.trace }

func (s *Store) pokeAll() {
	for _, q := range s.allQueues() {
		q.poke()
	}
}

// queue returns the write queue for blocks at a, which is inside an arena.
func (s *Store) queue(a blkfmt.Addr) *queue {
	i, err := s.arenas.Index(a)
	if err != nil {
		panic(err)
	}
	return s.allQueues()[i]
}

// setPressure makes the queues write all they have, if that can help.
func (s *Store) setPressure(on bool) {
	if !on {
		s.pressure.Store(false)
		return
	}
	if s.pinned.Load() > int64(s.pool.max/8) && !s.pressure.Swap(true) {
		s.pokeAll()
	}
}

// wrote accounts for n blocks that are on the device.
func (s *Store) wrote(n int) {
	s.written.Add(uint64(n))
	s.unpin(n)
	s.pool.signal()
}

func (s *Store) unpin(n int) {
	left := s.pinned.Add(-int64(n))
	if left <= int64(s.pool.max/8) {
		s.setPressure(false)
	}
	if left <= int64(s.pool.max/2) {
		select {
		case s.roomy <- struct{}{}:
		default:
		}
	}
}

// Close stops the store's goroutines. What was not committed is lost; the device stays open.
func (s *Store) Close() {
	s.once.Do(func() {
		close(s.stop)
		for _, q := range s.allQueues() {
			q.close()
		}
		s.done.Wait()
	})
}

// verify checks what was read for bp.
func (s *Store) verify(b *Blk, bp blkfmt.Bptr, t blkfmt.Type) error {
	if t == blkfmt.Deadlist || t == blkfmt.Log {
		_, err := blkfmt.DecodeLogHdr(b.buf, t, s.hash, bp.Addr)
		return err
	}
	got := s.hash.Sum(b.buf)
	if got != bp.Hash {
		return &blkfmt.CorruptError{Addr: bp.Addr, Type: t, Want: bp.Hash, Got: got}
	}
	b.hash.Store(got)
	b.hashed.Store(true)
	if t == blkfmt.Data {
		return nil
	}
	if err := kvfmt.CheckNode(b.buf); err != nil {
		return &blkfmt.CorruptError{Addr: bp.Addr, Type: t, What: err.Error()}
	}
	if !b.Node().Leaf() {
		b.typ = blkfmt.Pivot
	}
	return nil
}
