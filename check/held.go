package check

import (
	"context"
	"hash/maphash"
	"io"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// Held calls f with the address of each block that is kept for snapshots only, until f returns false: it is on
// the deadlist of a snapshot, and so its predecessor has it, from which nothing else was derived and which
// nobody can write to. super is the superblock of the state that r holds; of its trees only the snapshot
// tree is read.
//
// What a fork has dropped and the line it was forked from may still have is left out, and so is what
// cannot be read: f is called for less than there is then, never for more. A deadlist found on the disk may
// have garbage in it that others wrote there, which is for Run to find. Errors: ctx's, that of a read that r
// refuses when ctx has ended.
func (c *Checker) Held(ctx context.Context, r io.ReaderAt, size int64, super blkfmt.Super, f func(blkfmt.Addr) bool) error {
	x := &run{
		c: c, ctx: ctx, r: r, size: size,
		opt:   Options{CacheBlocks: 64},
		rep:   &Report{Size: size, ByKind: map[Kind]int{}},
		nodes: map[blkfmt.Addr]*nodeInfo{},
		cache: map[blkfmt.Addr]cached{},
		said:  map[said]bool{},
		seed:  maphash.MakeSeed(),
		most:  int(size / blkfmt.BlkSize),
		super: &super,
		hash:  super.Hasher(),
	}
	x.buf = c.block()
	defer func() {
		for _, e := range x.cache {
			c.pool = append(c.pool, e.n)
		}
		c.pool = append(c.pool, x.buf)
	}()
	pred := map[blkfmt.Gen]blkfmt.Gen{}
	children := map[blkfmt.Gen]int{}
	mutable := map[blkfmt.Gen]bool{}
	var lists []deadlist
	x.newCursor(&tree{name: "snapshot tree", snap: true, gen: blkfmt.NoGen, root: super.Snap, ht: super.SnapHt}).each(func(k, v []byte) bool {
		switch k[0] {
		case kvfmt.Klabel:
			if l, err := kvfmt.GetLabel(v); err == nil && l.Flags&kvfmt.LabelMutable != 0 {
				mutable[l.Gen] = true
			}
		case kvfmt.Ksnap:
			gen, err := kvfmt.GetSnapKey(k)
			t, err2 := kvfmt.GetTree(v)
			if err == nil && err2 == nil && gen != 0 {
				pred[gen] = t.Pred
				children[t.Pred]++
			}
		case kvfmt.Kdlist:
			gen, birth, err := kvfmt.GetDlistKey(k)
			d, err2 := kvfmt.GetDlist(v)
			if err == nil && err2 == nil {
				lists = append(lists, deadlist{gen, birth, d})
			}
		}
		return x.stop == nil
	})
	for _, l := range lists {
		if p, ok := pred[l.gen]; ok && children[p] == 1 && !mutable[p] && !x.entries(l.Dlist, f) {
			break
		}
	}
	return x.stop
}

// entries calls f with what stands on a deadlist, as far as it can be read. It reports whether f wants more.
func (x *run) entries(d kvfmt.Dlist, f func(blkfmt.Addr) bool) bool {
	var addrs []blkfmt.Addr
	seen := map[blkfmt.Addr]bool{}
	for at := d.Hd.Addr; at != blkfmt.NoAddr && !seen[at]; {
		seen[at] = true
		if x.read(x.buf, at) != nil {
			return x.stop == nil
		}
		h, err := blkfmt.DecodeLogHdr(x.buf, blkfmt.Deadlist, x.hash, at)
		if err == nil {
			addrs, err = logfmt.Dead(addrs[:0], x.buf[blkfmt.LogHdSize:blkfmt.LogHdSize+h.Size])
		}
		if err != nil {
			return true
		}
		for _, a := range addrs {
			if !f(a) {
				return false
			}
		}
		at = h.Chain.Addr
	}
	return true
}
