package check

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sort"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Options say how to check. The zero value checks everything.
type Options struct {
	Key      *[blkfmt.KeySize]byte // content of the key file; nil if there is none
	NoData   bool                  // do not read data blocks: their hashes stay unverified
	Progress func(Progress)        // called now and then from the goroutine of Run; may be nil
	// CacheBlocks bounds the tree blocks kept in memory; 0 means 2048 (32 MiB). A small cache
	// makes large disks slow, nothing else.
	CacheBlocks int
}

// Progress says where a run is.
type Progress struct {
	Pass string // "arenas", "trees", "files", "deadlists", "leaks", "paths"
	Read int64  // blocks read so far
	Used int64  // blocks in use on the disk: about what there is to read
}

// A Checker keeps memory from one run for the next. Its zero value is ready to use. It is not safe
// for concurrent use.
type Checker struct {
	pool [][]byte // block buffers
}

// Run checks a device of size bytes. It fails if r cannot be read where its superblocks should be,
// if there is no gefs disk of a known version there (errors of blkfmt.DecodeSuper), or when ctx is
// done; whatever else is wrong is in the report.
func Run(ctx context.Context, r io.ReaderAt, size int64, opt Options) (*Report, error) {
	return new(Checker).Run(ctx, r, size, opt)
}

// Run is the function Run with c's memory.
func (c *Checker) Run(ctx context.Context, r io.ReaderAt, size int64, opt Options) (*Report, error) {
	if opt.CacheBlocks <= 0 {
		opt.CacheBlocks = 2048
	}
	x := &run{
		c:     c,
		ctx:   ctx,
		r:     r,
		size:  size,
		opt:   opt,
		rep:   &Report{Size: size, ByKind: map[Kind]int{}, Complete: true},
		nodes: map[blkfmt.Addr]*nodeInfo{},
		cache: map[blkfmt.Addr]cached{},
		said:  map[said]bool{},
		seed:  maphash.MakeSeed(),
	}
	x.buf = c.block()
	defer func() {
		for _, e := range x.cache {
			c.pool = append(c.pool, e.n)
		}
		c.pool = append(c.pool, x.buf)
	}()
	if err := x.all(); err != nil {
		return nil, err
	}
	if x.stop != nil {
		return nil, x.stop
	}
	return x.rep, nil
}

// block returns a block buffer whose content is undefined.
func (c *Checker) block() []byte {
	if n := len(c.pool); n > 0 {
		p := c.pool[n-1]
		c.pool = c.pool[:n-1]
		return p
	}
	return make([]byte, blkfmt.BlkSize)
}

// A run is the state of one check.
type run struct {
	c    *Checker
	ctx  context.Context
	r    io.ReaderAt
	size int64
	opt  Options
	rep  *Report
	stop error // why the run was given up; once set, every read fails with it

	pass  string
	nread int64 // blocks read

	seed   maphash.Seed // of owners' fingerprints
	hash   blkfmt.Hasher
	super  *blkfmt.Super
	arenas []*arena // by address

	nodes map[blkfmt.Addr]*nodeInfo // every node visited
	most  int                       // nodes there can be, where none are remembered
	cache map[blkfmt.Addr]cached    // nodes that verified
	fifo  []blkfmt.Addr             // the cache's keys, oldest first
	buf   []byte                    // one block, for whoever needs it briefly

	forest forest
	said   map[said]bool // problems that need saying only once
}

type cached struct {
	n    kvfmt.Node
	hash uint64
}

type said struct {
	kind Kind
	addr blkfmt.Addr
	key  string
}

func (x *run) all() error {
	x.begin("arenas")
	if err := x.loadSuper(); err != nil || x.super == nil {
		x.rep.Opening = "fails, as there is no superblock; salvage copies what can be read"
		return err
	}
	x.countUsed()
	x.claimLogs()
	arenas := x.rep.Complete
	x.rep.Complete = true

	x.begin("trees")
	x.loadForest()

	x.begin("files")
	x.checkFiles()

	x.begin("deadlists")
	x.checkDeadlists()
	x.fillReport()
	x.opening(x.rep.Complete)
	x.rep.Complete = x.rep.Complete && arenas

	x.begin("leaks")
	x.findLeaks()

	x.begin("paths")
	x.explain()

	sort.SliceStable(x.rep.Problems, func(i, j int) bool {
		return x.rep.Problems[i].Severity > x.rep.Problems[j].Severity
	})
	return nil
}

func (x *run) begin(pass string) {
	x.pass = pass
	x.progress()
}

func (x *run) progress() {
	if x.opt.Progress != nil {
		x.opt.Progress(Progress{Pass: x.pass, Read: x.nread, Used: x.rep.Counts.Used})
	}
}

// errOutside says that an address cannot be read as it is not that of a block of the device.
var errOutside = errors.New("not a block of the device")

// read reads the block at a into p.
func (x *run) read(p []byte, a blkfmt.Addr) error {
	if x.stop != nil {
		return x.stop
	}
	if x.nread++; x.nread%256 == 0 {
		x.progress()
	}
	if err := x.ctx.Err(); err != nil {
		x.stop = err
		return err
	}
	if a < 0 || a%blkfmt.BlkSize != 0 || int64(a) > x.size-blkfmt.BlkSize {
		return errOutside
	}
	n, err := x.r.ReadAt(p[:blkfmt.BlkSize], int64(a))
	if n == blkfmt.BlkSize {
		return nil
	}
	if ended := x.ctx.Err(); ended != nil { // why it failed, or as good a reason
		x.stop = ended
		return ended
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return &readError{a, err}
}

// A readError is a failure of the device, not of what it holds.
type readError struct {
	addr blkfmt.Addr
	err  error
}

func (e *readError) Error() string { return fmt.Sprintf("read block at %v: %v", e.addr, e.err) }
func (e *readError) Unwrap() error { return e.err }

// node returns the tree block that p points at, verified. The block stays as it is for as long as
// it is referenced.
func (x *run) node(p blkfmt.Bptr) (kvfmt.Node, error) {
	if e, ok := x.cache[p.Addr]; ok && e.hash == p.Hash {
		return e.n, nil
	}
	b := x.c.block()
	if err := x.loadNode(b, p); err != nil {
		x.c.pool = append(x.c.pool, b)
		return nil, err
	}
	if _, ok := x.cache[p.Addr]; !ok { // two hashes for one address: the first stays
		if len(x.fifo) >= x.opt.CacheBlocks {
			delete(x.cache, x.fifo[0]) // not to the pool: someone may still read it
			x.fifo = x.fifo[1:]
		}
		x.cache[p.Addr] = cached{b, p.Hash}
		x.fifo = append(x.fifo, p.Addr)
	}
	return b, nil
}

func (x *run) loadNode(b []byte, p blkfmt.Bptr) error {
	if err := x.read(b, p.Addr); err != nil {
		return err
	}
	if got := x.hash.Sum(b); got != p.Hash {
		return &blkfmt.CorruptError{Addr: p.Addr, Type: blkfmt.Leaf, Want: p.Hash, Got: got}
	}
	return kvfmt.CheckNode(b)
}

// problem adds p to the report, unless the run has been given up: what fails then is not the disk.
func (x *run) problem(p Problem) {
	if x.stop != nil {
		return
	}
	x.rep.Found[p.Severity]++
	x.rep.ByKind[p.Kind]++
	if x.rep.ByKind[p.Kind] <= MaxPerKind {
		x.rep.Problems = append(x.rep.Problems, p)
	}
}

// once reports whether a problem of this kind about addr and key is new, and notes it.
func (x *run) once(k Kind, addr blkfmt.Addr, key string) bool {
	s := said{k, addr, key}
	if x.said[s] {
		return false
	}
	x.said[s] = true
	return true
}

// say adds a problem that is not about one block.
func (x *run) say(k Kind, s Severity, format string, arg ...any) {
	x.problem(Problem{Kind: k, Severity: s, Addr: blkfmt.NoAddr, Text: fmt.Sprintf(format, arg...)})
}

// sayAt adds a problem about the block at a, which should be of type t.
func (x *run) sayAt(k Kind, s Severity, a blkfmt.Addr, t blkfmt.Type, format string, arg ...any) {
	x.problem(Problem{Kind: k, Severity: s, Addr: a, Block: t.String(), Text: fmt.Sprintf(format, arg...)})
}

// sayErr adds a problem for err, met when the block at a was read as a t. It tells a device that
// fails from a block that does not verify, and from one that is malformed under a good hash.
func (x *run) sayErr(err error, a blkfmt.Addr, t blkfmt.Type, what string) {
	var (
		re *readError
		ce *blkfmt.CorruptError
	)
	switch {
	case errors.As(err, &re):
		x.sayAt(ReadFailed, Error, a, t, "%s: %v", what, re.err)
	case errors.As(err, &ce) && ce.What == "":
		x.sayAt(Corrupt, Error, a, t, "%s: hash is %016x, should be %016x", what, ce.Got, ce.Want)
	case t == blkfmt.Deadlist:
		x.sayAt(DeadBad, Error, a, t, "%s: %v", what, err)
	default:
		x.sayAt(BadNode, Error, a, t, "%s: %v", what, err)
	}
}
