package gefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/arena"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/internal/trace"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/users"
)

// Options says how a disk is served. The zero value works.
type Options struct {
	Cache    int                   // blocks kept in memory, see blkstore.Options
	Key      *[blkfmt.KeySize]byte // content of the disk's key file
	ReadOnly bool                  // nothing that would change the disk
	// Trust says whether whoever is at the other end of the connection may attach as uname without
	// proving it. nil trusts everybody. It may sleep, with Ctx.Sleep.
	Trust func(c *ninep.Ctx, uname string) bool
	// Auth begins a conversation in which a client that is not trusted proves to be uname. nil
	// offers none.
	Auth func(c *ninep.Ctx, uname string) (Proof, error)
	// IDs says which Linux users are which of ours, for clients that speak 9P2000.L or 9P2000.u. Where it says
	// nothing, and without it, the ids of the users table are Linux's.
	IDs IDMap
	// Permissive lets every user attach with '%', which switches off permission checks.
	Permissive bool
	// Schedule makes automatic snapshots, as the configuration key retain says.
	Schedule bool
	// CommitEvery is the time after which a change is on the disk at the latest; 0 means 5 s.
	CommitEvery time.Duration
	// ScrubEvery has all blocks in use read and compared in the background, beginning so long after the
	// last time; 0: only when StartScrub asks for it.
	ScrubEvery time.Duration
	// Discard tells the device, in the background, what commits have made free: see FS.Trim for all that is.
	Discard bool
	Now     func() time.Time // the clock; nil means time.Now
	Logger  *slog.Logger     // nil discards
	// Trace remembers what happens to blocks; nil remembers nothing.
	Trace *trace.Ring

	noCount bool // files are not counted for quotas where that is due
}

// An FS serves one disk. It is a ninep.FS.
type FS struct {
	st     *blkstore.Store
	forest *snap.Forest
	opt    Options
	log    *slog.Logger
	now    func() time.Time
	users  atomic.Pointer[users.Table]
	permit atomic.Bool
	proofs atomic.Uint64 // auth fids so far
	// spendReserve lets ordinary requests use what is kept for removals.
	spendReserve atomic.Bool

	mutMu    sync.Mutex
	commitMu sync.Mutex    // held by a commit, and by whoever wants the disk to hold still
	viewing  chan struct{} // holds a token while somebody has a View

	trim    chan struct{} // a token when a commit has made something free
	rebuilt []int         // arenas whose free ranges Open has found again

	mountMu sync.Mutex
	mounts  map[string]*Mount

	quotas    quotas
	unsynced  unsynced
	commit    committer
	sweeper   sweeper
	reclaimer reclaimer
	scrub     scrubber
	once      sync.Once
	cancel    context.CancelFunc // ends the background goroutines
	ctx       context.Context
	done      sync.WaitGroup
}

// Open serves the disk on dev, which stays the caller's to close after Close. If arenas have lost
// their free ranges, they are found again by a census of all trees. Errors: those of
// blkstore.Open, a users file that cannot be read, corruption.
func Open(dev blkdev.Device, opt Options) (*FS, error) {
	st, err := blkstore.Open(dev, blkstore.Options{Cache: opt.Cache, Key: opt.Key, ReadOnly: opt.ReadOnly, Logger: opt.Logger, Trace: opt.Trace})
	if err != nil {
		return nil, err
	}
	g := st.Guard()
	defer st.FreeGuard(g)
	fs, err := open(g, st, opt)
	if err != nil {
		st.Close()
		return nil, err
	}
	return fs, nil
}

func open(g *epoch.Guard, st *blkstore.Store, opt Options) (*FS, error) {
	fs := newFS(st, opt)
	g.Enter()
	defer g.Leave()
	var err error
	if fs.forest, err = snap.Load(g, st); err != nil {
		return nil, err
	}
	if err := fs.rebuild(g); err != nil {
		return nil, err
	}
	if err := fs.loadUsers(g); err != nil {
		if !opt.Permissive {
			return nil, fmt.Errorf("load users: %w", err)
		}
		fs.log.Warn("users file is broken; only adm and none are known", "err", err)
		fs.users.Store(users.Default())
	}
	if err := fs.loadQuotas(g); err != nil {
		return nil, fmt.Errorf("load quotas: %w", err)
	}
	fs.start()
	return fs, nil
}

func newFS(st *blkstore.Store, opt Options) *FS {
	fs := &FS{st: st, opt: opt, unsynced: unsynced{born: time.Now()}, log: opt.Logger, now: opt.Now, mounts: make(map[string]*Mount), viewing: make(chan struct{}, 1), trim: make(chan struct{}, 1)}
	if fs.log == nil {
		fs.log = slog.New(slog.DiscardHandler)
	}
	if fs.now == nil {
		fs.now = time.Now
	}
	fs.permit.Store(opt.Permissive)
	fs.ctx, fs.cancel = context.WithCancel(context.Background())
	fs.commit.init()
	fs.sweeper.init()
	fs.scrub.init(fs.ctx, opt.ScrubEvery)
	fs.reclaimer.init()
	fs.quotas.init()
	return fs
}

// start starts the goroutines: all but one for disks that are written to.
func (fs *FS) start() {
	fs.scrub.done.Go(fs.scrubLoop)
	if !fs.st.CanWrite() {
		return
	}
	fs.done.Go(fs.commitLoop)
	fs.done.Go(fs.sweepLoop)
	fs.done.Go(fs.reclaimLoop)
	if !fs.opt.noCount {
		fs.done.Go(fs.countLoop)
	}
	if fs.opt.Schedule {
		fs.done.Go(fs.scheduleLoop)
	}
	if fs.opt.Discard {
		fs.st.NoteStale()
		fs.done.Go(fs.trimLoop)
	}
}

// rebuild makes a census if an arena's log cannot be trusted.
func (fs *FS) rebuild(g *epoch.Guard) error {
	suspects := fs.st.Arenas().Suspects()
	if len(suspects) == 0 {
		return nil
	}
	for _, s := range suspects {
		fs.log.Warn("the allocation log of an arena cannot be trusted; rebuilding its free ranges from all trees", "arena", s.Arena, "why", s.Why)
	}
	live, err := fs.forest.Census(g)
	if err != nil {
		return fmt.Errorf("rebuild free ranges: %w", err)
	}
	for _, s := range suspects {
		if err := fs.st.Arenas().Rebuild(live.All(), s.Arena); err != nil {
			return fmt.Errorf("rebuild free ranges of arena %d: %w", s.Arena, err)
		}
		fs.rebuilt = append(fs.rebuilt, s.Arena)
	}
	return nil
}

// Close commits what was acknowledged and ends the service. All connections must be over. It
// returns the error of the last commit. If deletions of snapshots have left something to do it goes on
// with that first, for some seconds at most; the rest is done after the next Open.
func (fs *FS) Close() error {
	var err error
	fs.once.Do(func() {
		fs.endScrub()
		if fs.st.CanWrite() {
			fs.reclaimer.finish(closingReclaim)
			err = fs.Sync(context.Background())
		}
		fs.cancel()
		fs.sweeper.wake()
		fs.done.Wait()
		fs.commitMu.Lock() // somebody may be growing the disk
		defer fs.commitMu.Unlock()
		fs.st.Close()
	})
	return err
}

// A Worker is a seat in the store's epochs for the requests of one 9P worker. It is a
// ninep.Worker.
type Worker struct {
	*epoch.Guard
	store *blkstore.Store
	ctx   *ninep.Ctx // the request it works on
	tick  bool       // it has changed something since it entered
}

// NewWorker makes a Worker; it is the server's NewWorker function.
func (fs *FS) NewWorker() ninep.Worker {
	w := &Worker{Guard: fs.st.Guard(), store: fs.st}
	w.OnBlock = func() {
		if w.ctx != nil {
			w.ctx.Block()
		}
	}
	return w
}

// FreeWorker takes back what NewWorker gave.
func (fs *FS) FreeWorker(w ninep.Worker) { fs.st.FreeGuard(w.(*Worker).Guard) }

// guard returns the epoch guard of the request, which will hand the connection on when it blocks.
func guard(c *ninep.Ctx) *epoch.Guard {
	w := c.Worker.(*Worker)
	w.ctx = c
	return w.Guard
}

// Background returns a Ctx for work that is no client's request, inside an epoch, and the function
// that ends it.
func (fs *FS) Background() (*ninep.Ctx, func()) {
	w := &Worker{Guard: fs.st.Guard(), store: fs.st}
	w.Enter()
	return &ninep.Ctx{Worker: w}, func() {
		w.Leave()
		fs.st.FreeGuard(w.Guard)
	}
}

// located is what has a path, for people to read.
type located interface{ path() string }

// wire turns an error from below into one whose text may go to a client. Corruption and failures
// are logged with all that is known; the client is told in the reference's words.
func (fs *FS) wire(err error, what string, of located) error {
	if err == nil {
		return nil
	}
	var text ninep.Error
	var corrupt *blkfmt.CorruptError
	switch {
	case errors.As(err, &text):
		return err
	case errors.Is(err, arena.ErrFull):
		return fmt.Errorf("%w: %w", errFull, err)
	case errors.Is(err, blkstore.ErrReadOnly):
		return errReadOnly
	case errors.As(err, &corrupt):
		text = errCorrupt
	default:
		text = errIO
	}
	path := ""
	if of != nil {
		path = of.path()
	}
	fs.log.Error(what, "file", path, "err", err)
	if path == "" {
		return fmt.Errorf("%w: %w", text, err)
	}
	return fmt.Errorf("%w: %w", ninep.Error(string(text)+": "+path), err)
}

// Users returns the users table in force.
func (fs *FS) Users() *users.Table { return fs.users.Load() }

// Forest returns the snapshots, for those who administer them.
func (fs *FS) Forest() *snap.Forest { return fs.forest }

// Store returns the blocks, for those who count them.
func (fs *FS) Store() *blkstore.Store { return fs.st }
