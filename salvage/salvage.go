package salvage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/users"
)

// MaxDepth is the number of directories that may be nested; what is deeper goes to LostFound.
const MaxDepth = 4000

// LostFound is the name of the directory, in the root of a label, for what has no directory.
const LostFound = "lost+found"

const dmDir = 0x80000000

var (
	// ErrNothing says that no block of the device belongs to a gefs file system.
	ErrNothing = errors.New("nothing of a gefs disk found")

	// ErrNoLabel says that there is no such label, or that it is lost.
	ErrNoLabel = errors.New("no such label")
)

// Options say what to salvage. The zero value reads all mutable labels and reports.
type Options struct {
	Key         *[blkfmt.KeySize]byte // content of the key file; nil if there is none
	Label       string                // only this one; empty for all that are mutable
	All         bool                  // immutable snapshots too
	Sink        Sink                  // where it goes; nil only reads and reports
	Progress    func(Progress)        // called now and then from the goroutine of Run; may be nil
	CacheBlocks int                   // tree blocks kept in memory; 0 means 1024 (16 MiB)
}

// Progress says where a run is.
type Progress struct {
	Pass string // "trees", "scan", "copy"
	Read int64  // blocks read in this pass
	All  int64  // blocks that the pass will read, about; 0 if that is not known
}

// Run salvages a device of size bytes. Errors: ErrNothing; those of blkfmt.DecodeSuper if the only
// superblocks are of an unknown version or need a key; ErrNoLabel; the Sink's; ctx's. Whatever
// else is wrong is in the report.
func Run(ctx context.Context, r io.ReaderAt, size int64, opt Options) (*Report, error) {
	if opt.CacheBlocks <= 0 {
		opt.CacheBlocks = 1024
	}
	x := &run{
		ctx: ctx, r: r, size: size, opt: opt,
		rep:     &Report{Size: size, Super: blkfmt.NoAddr},
		hash:    blkfmt.Metro{},
		cache:   map[blkfmt.Addr]cached{},
		visited: map[blkfmt.Addr]visit{},
		patches: map[patchKey]*patch{},
		buf:     make([]byte, blkfmt.BlkSize),
	}
	if err := x.all(); err != nil {
		return nil, err
	}
	return x.rep, nil
}

// A run is the state of one Run.
type run struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64
	opt  Options
	rep  *Report
	stop error // why it was given up: ctx is done

	pass  string
	nread int64
	nall  int64

	hash   blkfmt.Hasher
	super  *blkfmt.Super // nil if there is none
	older  bool          // it is not of the newest commit
	arenas []*arena      // by address
	ix     *index        // nil until a scan was needed

	snapTree tree // of snapshots
	snaps    map[blkfmt.Gen]*snapshot
	labels   []*label
	table    *users.Table

	visited map[blkfmt.Addr]visit // nodes that mark has been at
	cache   map[blkfmt.Addr]cached
	fifo    []blkfmt.Addr
	buf     []byte
	patches map[patchKey]*patch
}

type cached struct {
	n    kvfmt.Node
	hash uint64
}

func (x *run) all() error {
	x.begin("trees", 0)
	if err := x.loadSuper(); err != nil {
		return err
	}
	if err := x.loadForest(); err != nil {
		return err
	}
	if x.super == nil || x.rep.LostNodes > 0 {
		if err := x.scanDevice(); err != nil {
			return err
		}
		x.begin("trees", 0)
		if err := x.loadForest(); err != nil {
			return err
		}
	}
	if x.stop != nil {
		return x.stop
	}
	x.begin("copy", x.inUse())
	x.loadUsers()
	if err := x.copyLabels(); err != nil {
		return err
	}
	return x.stop
}

func (x *run) begin(pass string, all int64) {
	x.pass, x.nread, x.nall = pass, 0, all
	x.progress()
}

func (x *run) progress() {
	if x.opt.Progress != nil {
		x.opt.Progress(Progress{Pass: x.pass, Read: x.nread, All: x.nall})
	}
}

func (x *run) note(format string, arg ...any) {
	x.rep.Notes = append(x.rep.Notes, fmt.Sprintf(format, arg...))
}

// errOutside says that an address is not that of a block of the device.
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
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	x.rep.ReadErrors++
	return err
}

// node returns the node that p points at, verified, if it is of this level. The block stays as it is
// for as long as it is referenced.
func (x *run) node(p blkfmt.Bptr, level int) (kvfmt.Node, bool) {
	e, ok := x.cache[p.Addr]
	if !ok || e.hash != p.Hash {
		b := make([]byte, blkfmt.BlkSize)
		if x.read(b, p.Addr) != nil || !isNode(b) || x.hash.Sum(b) != p.Hash || kvfmt.CheckNode(b) != nil {
			return nil, false
		}
		if len(x.fifo) >= x.opt.CacheBlocks {
			delete(x.cache, x.fifo[0])
			x.fifo = x.fifo[1:]
		}
		if !ok {
			x.fifo = append(x.fifo, p.Addr)
		}
		e = cached{b, p.Hash}
		x.cache[p.Addr] = e
	}
	if e.n.Leaf() != (level == 0) {
		return nil, false
	}
	return e.n, true
}

// isNode reports whether b has the type of a node, so that it is worth a closer look.
func isNode(b []byte) bool {
	return b[0] == 0 && (b[1] == byte(blkfmt.Pivot) || b[1] == byte(blkfmt.Leaf))
}

// data returns the data block that p points at, valid until the next call.
func (x *run) data(p blkfmt.Bptr) ([]byte, bool) {
	if x.read(x.buf, p.Addr) != nil || x.hash.Sum(x.buf) != p.Hash {
		return nil, false
	}
	return x.buf, true
}
