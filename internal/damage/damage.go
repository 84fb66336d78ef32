// Package damage breaks disks for tests: it says which blocks a disk consists of, flips their bits,
// exchanges them for others and, if the damage is to be logical, makes every hash above it good again.
//
// It knows the formats and nothing of who writes them. Whatever the bytes are, nothing here panics,
// and every walk ends: a block is walked once, and no deeper than blkfmt.MaxHeight.
//
// Addresses are bytes from the start of the device. Disks with a secret key are not for this package.
package damage

import (
	"encoding/binary"
	"fmt"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A Block is one that the committed state of a disk owns.
type Block struct {
	Addr blkfmt.Addr
	Type blkfmt.Type
	Snap bool // a node of the snapshot tree
	Copy bool // the second superblock, or the second copy of a header
}

func (b Block) String() string {
	s := b.Type.String()
	if b.Snap {
		s += " of the snapshot tree"
	}
	if b.Copy {
		s += ", second copy"
	}
	return fmt.Sprintf("%s at %v", s, b.Addr)
}

// Survey returns the blocks of the disk on dev, superblocks first, each once: of logs those up to the
// barrier of the commit. The error says what cannot be read; a sound disk gives none.
func Survey(dev *blkdev.Mem) ([]Block, error) {
	var list []Block
	w := newWalk(dev)
	w.visit = func(b Block) { list = append(list, b) }
	if err := w.disk(); err != nil {
		return nil, err
	}
	return list, w.err
}

// Repair makes every hash on the disk good, those of data blocks, nodes, logs, deadlists, headers and
// superblocks, so that what was changed is found by its meaning or not at all. The first superblock
// and the first copies of headers are believed, and copied over the second ones. Nodes that are
// malformed are hashed as they are. It fails if the first superblock is none.
func Repair(dev *blkdev.Mem) error {
	w := newWalk(dev)
	w.fix = true
	w.visit = func(Block) {}
	return w.disk()
}

// A walk goes through a whole disk, from the superblock down.
type walk struct {
	dev    *blkdev.Mem
	size   int64
	backup blkfmt.Addr
	hash   blkfmt.Hasher
	fix    bool
	visit  func(Block)
	seen   map[blkfmt.Addr]bool
	err    error // the first thing that was not as it should be
}

func newWalk(dev *blkdev.Mem) *walk {
	size, err := dev.Size()
	return &walk{dev: dev, size: size, backup: blkfmt.BackupAddr(size), seen: make(map[blkfmt.Addr]bool), err: err}
}

func (w *walk) bad(format string, arg ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, arg...)
	}
}

// read returns the block at a, nil if there can be none.
func (w *walk) read(a blkfmt.Addr) []byte {
	if a < 0 || a%blkfmt.BlkSize != 0 || int64(a) > w.size-blkfmt.BlkSize {
		w.bad("no block can be at %v", a)
		return nil
	}
	p := make([]byte, blkfmt.BlkSize)
	if _, err := w.dev.ReadAt(p, int64(a)); err != nil {
		w.bad("read %v: %w", a, err)
		return nil
	}
	return p
}

func (w *walk) write(p []byte, a blkfmt.Addr) {
	if _, err := w.dev.WriteAt(p, int64(a)); err != nil {
		w.bad("write %v: %w", a, err)
	}
}

func (w *walk) disk() error {
	p := w.read(0)
	if p == nil {
		return w.err
	}
	s, err := blkfmt.DecodeSuper(p, nil, 0)
	if err != nil {
		return err
	}
	w.hash = s.Hasher()
	w.visit(Block{Addr: 0, Type: blkfmt.SuperBlk})
	w.visit(Block{Addr: w.backup, Type: blkfmt.SuperBlk, Copy: true})
	w.seen[0], w.seen[w.backup] = true, true
	for i := range s.Arenas {
		w.arena(&s.Arenas[i], s.Qgen)
	}
	root := s.Snap.Append(nil)
	w.node(root, s.SnapHt-1, true)
	if w.fix {
		s.Snap.Hash = blkfmt.GetPtr(root).Hash
		if err := s.Encode(p); err != nil {
			return err
		}
		w.write(p, 0)
		w.write(p, w.backup)
	}
	return nil
}

func (w *walk) arena(ref *blkfmt.ArenaRef, qgen int64) {
	p := w.read(ref.Addr)
	if p == nil || w.seen[ref.Addr] {
		return
	}
	second := ref.Addr + blkfmt.BlkSize
	w.seen[ref.Addr], w.seen[second] = true, true
	w.visit(Block{Addr: ref.Addr, Type: blkfmt.Arena})
	w.visit(Block{Addr: second, Type: blkfmt.Arena, Copy: true})
	if h, err := blkfmt.DecodeArenaHdr(p, ref.Addr); err != nil {
		w.bad("%w", err)
	} else {
		w.chain(h.Log.Addr, blkfmt.Log, qgen)
	}
	if w.fix {
		w.write(p, second)
		ref.Hash = w.hash.Sum(p)
	}
}

// chain goes along a log, up to the barrier of qgen, or a deadlist.
func (w *walk) chain(a blkfmt.Addr, t blkfmt.Type, qgen int64) {
	for a != blkfmt.NoAddr && !w.seen[a] {
		p := w.read(a)
		if p == nil {
			return
		}
		w.seen[a] = true
		h := blkfmt.LogHdr{
			Type:  blkfmt.Type(binary.BigEndian.Uint16(p)),
			Size:  int(binary.BigEndian.Uint16(p[2:])),
			Chain: blkfmt.GetPtr(p[12:]),
		}
		if h.Type != t || h.Size > blkfmt.LogSpc {
			w.bad("no block of a %v at %v", t, a)
			return
		}
		w.visit(Block{Addr: a, Type: t})
		if w.fix {
			blkfmt.EncodeLogHdr(p, h, w.hash)
			w.write(p, a)
		} else if t == blkfmt.Log && EndsLog(p, qgen) {
			return
		}
		a = h.Chain.Addr
	}
}

// EndsLog reports whether the log block p has the barrier of commit qgen, at which replay stops.
func EndsLog(p []byte, qgen int64) bool {
	n := int(binary.BigEndian.Uint16(p[2:]))
	_, ok := barrier(p[:blkfmt.LogHdSize+min(n, blkfmt.LogSpc)], qgen)
	return ok && n <= blkfmt.LogSpc
}

// Replayed returns the entries of the log block p up to the barrier of commit qgen, or all of them.
func Replayed(p []byte, qgen int64) []byte {
	n := min(int(binary.BigEndian.Uint16(p[2:])), blkfmt.LogSpc)
	end, _ := barrier(p[:blkfmt.LogHdSize+n], qgen)
	return p[blkfmt.LogHdSize:end]
}

// barrier returns where the log block p, cut where its entries end, has been replayed to once the barrier
// of commit qgen is found.
func barrier(p []byte, qgen int64) (end int, ok bool) {
	end = blkfmt.LogHdSize
	for end < len(p) && !ok {
		e, n, err := logfmt.Next(p[end:])
		if err != nil {
			return end, false
		}
		end += n
		ok = e.Op == logfmt.Sync && e.Qgen >= qgen
	}
	return end, ok
}

// node goes through the tree below the pointer in slot, whose hash it makes good.
func (w *walk) node(slot []byte, level int, snap bool) {
	a := blkfmt.GetPtr(slot).Addr
	p := w.read(a)
	if p == nil {
		return
	}
	if !w.seen[a] && level >= 0 && level < blkfmt.MaxHeight {
		w.seen[a] = true
		n := kvfmt.Node(p)
		if err := kvfmt.CheckNode(n); err != nil {
			w.bad("node at %v: %w", a, err)
		} else {
			t := blkfmt.Pivot
			if n.Leaf() {
				t = blkfmt.Leaf
			}
			w.visit(Block{Addr: a, Type: t, Snap: snap})
			w.inside(n, level, snap)
		}
		if w.fix {
			w.write(p, a)
		}
	}
	w.rehash(slot, p)
}

func (w *walk) rehash(slot, p []byte) {
	if w.fix {
		binary.BigEndian.PutUint64(slot[8:], w.hash.Sum(p))
	}
}

func (w *walk) inside(n kvfmt.Node, level int, snap bool) {
	for i := range n.Nval() {
		k, v := n.Val(i)
		switch {
		case n.Leaf():
			w.value(k, v)
		case len(v) >= blkfmt.PtrSize:
			w.node(v, level-1, snap)
		}
	}
	for i := range n.Nbuf() {
		if m := n.Msg(i); m.Op == kvfmt.Insert {
			w.value(m.Key, m.Val)
		}
	}
}

// rootAt is where the pointer to the root stands in the record of a snapshot.
const rootAt = kvfmt.TreeSize - blkfmt.PtrSize

// value goes to what the value of a key points at.
func (w *walk) value(k, v []byte) {
	switch {
	case len(k) == 0:
	case k[0] == kvfmt.Kdat && len(v) == blkfmt.PtrSize:
		a := blkfmt.GetPtr(v).Addr
		p := w.read(a)
		if p == nil {
			return
		}
		if !w.seen[a] {
			w.seen[a] = true
			w.visit(Block{Addr: a, Type: blkfmt.Data})
		}
		w.rehash(v, p)
	case k[0] == kvfmt.Ksnap && len(v) == kvfmt.TreeSize:
		if t, err := kvfmt.GetTree(v); err == nil {
			w.node(v[rootAt:], int(t.Ht)-1, false)
		}
	case k[0] == kvfmt.Kdlist && len(v) == kvfmt.DlistSize:
		w.chain(blkfmt.GetPtr(v).Addr, blkfmt.Deadlist, 0)
	}
}
