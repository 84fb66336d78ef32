package snap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Errors that a user may cause.
var (
	ErrNoLabel  = errors.New("does not exist")
	ErrExists   = errors.New("already exists")
	ErrMounted  = errors.New("snap is mounted")
	ErrReserved = errors.New("name is reserved")
	ErrName     = errors.New("bad snapshot name")

	ErrNotMutable = errors.New("does not change")
	ErrSame       = errors.New("name the same snapshot")
)

// Names that ream makes, and the name under which all snapshots are shown as directories.
const (
	Empty = "empty"
	Adm   = "adm"
	Main  = "main"
	Dump  = "dump"
)

// NameMax is the longest name of a label, in bytes. It leaves a mutable label room for the 27
// bytes that a scheduled snapshot appends to its name, and stays in the reference's limit of 127.
const NameMax = 127

// A Forest is all the snapshots of a disk.
type Forest struct {
	st      *blkstore.Store
	nodes   betree.Store // st, as trees see it
	tree    *betree.Tree // the snapshot tree
	nextQid atomic.Uint64
	first   *snapshot // empty's, which never changes but for its children; nil on a disk without

	mu      sync.Mutex
	nextGen blkfmt.Gen
	snaps   map[blkfmt.Gen]*snapshot
	labels  map[string]*label
	open    map[string]*Tree
	changed bool // something is to be written at the next Seal

	// guarded by the mutation lock
	dirt      dirt                     // what that is
	condemned map[blkfmt.Gen]*snapshot // those that nobody needs, which wait for Reclaim
	piece     pieceSize
}

// A snapshot mirrors a Ksnap record. The mirror is the truth; Seal brings it to the snapshot tree.
//
//   - rec.Nlbl is the number of labels with its generation, rec.Nref the number of children.
//     They are counted when the forest is loaded: disks of the reference may say more.
//   - rec.Root and rec.Ht of a snapshot that a mutable tree writes to are those of the last Seal or
//     the last time it was shared; the tree knows better.
type snapshot struct {
	rec      kvfmt.Tree
	children map[blkfmt.Gen]*snapshot // nil if there is none
	lists    map[blkfmt.Gen]*deadlist // by birth; nil until they are needed
	onDisk   bool                     // the snapshot tree has a record of it

	// Guarded by the mutation lock. doubtful says that its lists were found on the disk, and may be the
	// reference's, which leaves out what a fork drops. pins counts those who look at its tree and lists
	// without the lock: who wants to write to it moves on to another, and Reclaim leaves it and its
	// neighbours alone. stuck says that it should go, and cannot be read.
	doubtful bool
	pins     int
	stuck    bool
}

// shared reports whether the tree of s must stay as it is even if a mutable label names s.
func (s *snapshot) shared() bool { return s.rec.Nlbl > 1 || s.rec.Nref > 0 || s.pins > 0 }

// adopt makes c one of s's children.
func (s *snapshot) adopt(c *snapshot) {
	if s.children == nil {
		s.children = make(map[blkfmt.Gen]*snapshot)
	}
	s.children[c.rec.Gen] = c
	s.rec.Nref++
}

// disown undoes adopt.
func (s *snapshot) disown(c *snapshot) {
	delete(s.children, c.rec.Gen)
	s.rec.Nref--
}

// A label mirrors a Klabel record.
type label struct {
	val    kvfmt.Label
	onDisk bool // the snapshot tree has a record of it
}

func newForest(st *blkstore.Store, nextQid uint64, nextGen blkfmt.Gen) *Forest {
	f := &Forest{
		st:      st,
		nodes:   betree.On(st),
		nextGen: nextGen,
		snaps:   make(map[blkfmt.Gen]*snapshot),
		labels:  make(map[string]*label),
		open:    make(map[string]*Tree),
		dirt:    newDirt(),

		condemned: make(map[blkfmt.Gen]*snapshot),
		piece:     usualPiece,
	}
	f.nextQid.Store(nextQid)
	return f
}

// Load reads the forest whose tree the store's superblock names: all records of labels and snapshots,
// but nothing of what the snapshots hold. The caller is inside an epoch.
func Load(g *epoch.Guard, st *blkstore.Store) (*Forest, error) {
	super := st.Super()
	f := newForest(st, super.NextQid, super.NextGen)
	f.tree = betree.Open(f.nodes, ownFreer{st}, super.Snap, super.SnapHt)

	var bad error
	counts := make(map[blkfmt.Gen][2]int32) // labels and children as recorded
	err := f.tree.Scan(g, []byte{kvfmt.Ksnap}, nil, func(k, v []byte) bool {
		var gen blkfmt.Gen
		var rec kvfmt.Tree
		if gen, bad = kvfmt.GetSnapKey(k); bad != nil {
			return false
		}
		if rec, bad = kvfmt.GetTree(v); bad != nil {
			return false
		}
		counts[gen] = [2]int32{rec.Nlbl, rec.Nref}
		rec.Gen, rec.Nlbl, rec.Nref = gen, 0, 0
		f.snaps[gen] = &snapshot{rec: rec, onDisk: true}
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("read snapshots: %w", err)
	}
	err = f.tree.Scan(g, []byte{kvfmt.Klabel}, nil, func(k, v []byte) bool {
		var l kvfmt.Label
		if l, bad = kvfmt.GetLabel(v); bad != nil {
			return false
		}
		s := f.snaps[l.Gen]
		if s == nil {
			bad = fmt.Errorf("label %q names snapshot %d, which is not there", k[1:], l.Gen)
			return false
		}
		s.rec.Nlbl++
		f.labels[string(k[1:])] = &label{val: l, onDisk: true}
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	for gen, s := range f.snaps {
		if p := f.snaps[s.rec.Pred]; p != nil && s.rec.Pred != gen {
			p.adopt(s)
		}
		f.nextGen = max(f.nextGen, gen+1)
	}
	f.first = f.snaps[0]
	for gen, s := range f.snaps {
		if counts[gen] != [2]int32{s.rec.Nlbl, s.rec.Nref} {
			f.mark(s) // put right when there is something to commit
		}
		f.judge(s)
		s.doubtful = s.rec.Pred != 0
	}
	if e := f.first; e != nil {
		if _, err := f.listsOf(g, e); err != nil { // what Reclaim has not come to yet
			return nil, err
		}
	}
	return f, nil
}

// Format plants the forest of a new disk: empty, adm and main, as ream does. users is the text of
// the users file. Nothing is on the device before the first Seal and commit.
func Format(g *epoch.Guard, st *blkstore.Store, users []byte) (*Forest, error) {
	f := newForest(st, 3, 3)
	f.changed = true
	main, err := plant(g, st, rootDir(0))
	if err != nil {
		return nil, err
	}
	admKVs, err := admTree(g, st, users)
	if err != nil {
		return nil, err
	}
	adm, err := plant(g, st, admKVs)
	if err != nil {
		return nil, err
	}
	var labels, recs []kvfmt.Msg
	add := func(name string, gen blkfmt.Gen, root blkfmt.Bptr, flags uint32) {
		f.snaps[gen] = &snapshot{
			rec:    kvfmt.Tree{Nlbl: 1, Ht: 1, Gen: gen, Pred: 0, Succ: blkfmt.NoGen, Base: 0, Root: root},
			lists:  make(map[blkfmt.Gen]*deadlist),
			onDisk: true,
		}
		l := &label{val: kvfmt.Label{Gen: gen, Flags: flags}, onDisk: true}
		f.labels[name] = l
		if p := f.snaps[0]; gen != 0 {
			p.adopt(f.snaps[gen])
			p.rec.Succ = gen
		}
		labels = append(labels, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendLabelKey(nil, name), Val: l.val.Append(nil)})
	}
	add(Empty, 0, main, 0)
	add(Adm, 1, adm, kvfmt.LabelMutable)
	add(Main, 2, main, kvfmt.LabelMutable)
	for _, gen := range sortedGens(f.snaps) {
		recs = append(recs, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendSnapKey(nil, gen), Val: f.snaps[gen].rec.Append(nil)})
	}
	slices.SortFunc(labels, func(a, b kvfmt.Msg) int { return bytes.Compare(a.Key, b.Key) })
	f.first = f.snaps[0]
	root, err := plant(g, st, append(labels, recs...))
	if err != nil {
		return nil, err
	}
	f.tree = betree.Open(f.nodes, ownFreer{st}, root, 1)
	return f, nil
}

// NextQid hands out a qid path. Safe for concurrent use.
func (f *Forest) NextQid() uint64 { return f.nextQid.Add(1) - 1 }

// PeekQid returns the qid path that will be handed out next. Safe for concurrent use.
func (f *Forest) PeekQid() uint64 { return f.nextQid.Load() }

// RaiseQid makes sure that no qid path below next is handed out any more. Safe for concurrent use.
func (f *Forest) RaiseQid(next uint64) {
	for {
		now := f.nextQid.Load()
		if now >= next || f.nextQid.CompareAndSwap(now, next) {
			return
		}
	}
}

// newGen hands out a generation.
func (f *Forest) newGen() blkfmt.Gen {
	f.nextGen++
	return f.nextGen - 1
}

// A LabelInfo describes one label.
type LabelInfo struct {
	Name    string
	Gen     blkfmt.Gen // of the snapshot it names
	Mutable bool
	Open    bool // somebody has it mounted
}

// Labels returns all labels, ordered by name. Safe for concurrent use.
func (f *Forest) Labels() []LabelInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]LabelInfo, 0, len(f.labels))
	for name, l := range f.labels {
		list = append(list, LabelInfo{name, l.val.Gen, l.val.Flags&kvfmt.LabelMutable != 0, f.open[name] != nil})
	}
	slices.SortFunc(list, func(a, b LabelInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// NextGen returns the generation that will be handed out next. Safe for concurrent use.
func (f *Forest) NextGen() blkfmt.Gen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nextGen
}

// Recounted reports whether Load has found other numbers of labels and references than were recorded; the
// next Seal puts them right, which is something to commit then. The caller has the mutation lock, and
// nothing has changed since Load.
func (f *Forest) Recounted() bool {
	if len(f.dirt.snaps) == 0 {
		return false
	}
	f.touch()
	return true
}

// Changed reports whether a Seal would write anything: whether what is in memory differs from the
// state sealed last. Safe for concurrent use.
func (f *Forest) Changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// ownFreer frees blocks of the snapshot tree: no snapshot has them, and nobody reads them but the
// holder of the mutation lock.
type ownFreer struct{ st *blkstore.Store }

func (o ownFreer) Free(bp blkfmt.Bptr) error { return o.st.FreeOwn(bp) }

// sortedGens returns the keys of m in order, so that what is written does not depend on chance.
func sortedGens[V any](m map[blkfmt.Gen]V) []blkfmt.Gen { return slices.Sorted(maps.Keys(m)) }
