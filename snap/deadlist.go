package snap

import (
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A deadlist holds the blocks born in bgen that snapshot gen's pred has and gen has not.
//
//   - fresh are addresses that stand in no block yet; the next Seal writes them.
//   - disk is the chain on the device, newest block first; both ends are NoPtr when there is none.
//   - A block of the chain is never changed. The newest, while it has room, is replaced by a copy
//     with more in it, so that a list that grows a little at each commit does not become a chain
//     of nearly empty blocks.
type deadlist struct {
	gen, bgen blkfmt.Gen
	fresh     []blkfmt.Addr
	disk      kvfmt.Dlist
	onDisk    bool // the snapshot tree has a record of it

	// Of a list that Reclaim takes apart: the blocks of its chain from the head on, once it was followed
	// to its end, and whether it cannot be.
	order []blkfmt.Addr
	stuck bool
}

func newDeadlist(gen, bgen blkfmt.Gen) *deadlist {
	return &deadlist{gen: gen, bgen: bgen, disk: kvfmt.Dlist{Hd: blkfmt.NoPtr, Tl: blkfmt.NoPtr}}
}

func (d *deadlist) empty() bool { return len(d.fresh) == 0 && d.disk.Hd.Addr == blkfmt.NoAddr }

// listsOf returns the deadlists of s by birth, reading which there are the first time.
func (f *Forest) listsOf(g *epoch.Guard, s *snapshot) (map[blkfmt.Gen]*deadlist, error) {
	if s.lists != nil {
		return s.lists, nil
	}
	lists := make(map[blkfmt.Gen]*deadlist)
	if s.onDisk {
		prefix := kvfmt.AppendDlistKey(nil, s.rec.Gen, 0)[:1+8]
		var bad error
		err := f.tree.Scan(g, prefix, nil, func(k, v []byte) bool {
			var gen, bgen blkfmt.Gen
			if gen, bgen, bad = kvfmt.GetDlistKey(k); bad != nil {
				return false
			}
			d := &deadlist{gen: gen, bgen: bgen, onDisk: true}
			if d.disk, bad = kvfmt.GetDlist(v); bad != nil {
				return false
			}
			lists[bgen] = d
			return true
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return nil, fmt.Errorf("read deadlists of snapshot %d: %w", s.rec.Gen, err)
		}
	}
	s.lists = lists
	return lists, nil
}

// kill puts the block on the deadlist of s.
func (f *Forest) kill(g *epoch.Guard, s *snapshot, bp blkfmt.Bptr) error {
	lists, err := f.listsOf(g, s)
	if err != nil {
		return err
	}
	d := lists[bp.Gen]
	if d == nil {
		d = newDeadlist(s.rec.Gen, bp.Gen)
		lists[bp.Gen] = d
	}
	d.fresh = append(d.fresh, bp.Addr)
	f.markList(d)
	return nil
}

// flush writes d's fresh addresses to blocks.
func (d *deadlist) flush(g *epoch.Guard, st *blkstore.Store) error {
	if len(d.fresh) == 0 {
		return nil
	}
	list, chain := d.fresh, d.disk.Hd
	if chain.Addr != blkfmt.NoAddr {
		// One that cannot be read stays in the chain as it is.
		old, next, err := readDead(g, st, chain)
		if err == nil && len(old)+len(list) <= logfmt.DeadMax {
			list = append(old, list...)
			if err := st.FreeOwn(chain); err != nil {
				return err
			}
			if chain = next; chain.Addr == blkfmt.NoAddr {
				d.disk.Tl = blkfmt.NoPtr
			}
		}
	}
	for len(list) > 0 {
		n := min(len(list), logfmt.DeadMax)
		b, err := st.New(g, blkfmt.Deadlist, 0)
		if err != nil {
			return err
		}
		p := b.Bytes()[:blkfmt.LogHdSize]
		for _, a := range list[:n] {
			p = logfmt.AppendDead(p, a)
		}
		blkfmt.EncodeLogHdr(b.Bytes(), blkfmt.LogHdr{Type: blkfmt.Deadlist, Size: 8 * n, Chain: chain}, st.Hasher())
		st.Enqueue(b)
		chain = b.Ptr()
		st.Drop(b)
		d.disk.Hd = chain
		if d.disk.Tl.Addr == blkfmt.NoAddr {
			d.disk.Tl = chain
		}
		list = list[n:]
	}
	d.fresh = nil
	return nil
}

// readDead reads one block of a deadlist: its addresses and the pointer to the next older block.
func readDead(g *epoch.Guard, st *blkstore.Store, bp blkfmt.Bptr) ([]blkfmt.Addr, blkfmt.Bptr, error) {
	b, err := st.Get(g, blkfmt.Bptr{Addr: bp.Addr, Hash: blkfmt.NoHash, Gen: blkfmt.NoGen}, blkfmt.Deadlist)
	if err != nil {
		return nil, blkfmt.NoPtr, err
	}
	defer st.Drop(b)
	h, err := blkfmt.DecodeLogHdr(b.Bytes(), blkfmt.Deadlist, st.Hasher(), bp.Addr)
	if err != nil {
		return nil, blkfmt.NoPtr, err
	}
	list, err := logfmt.Dead(nil, b.Bytes()[blkfmt.LogHdSize:blkfmt.LogHdSize+h.Size])
	if err != nil {
		return nil, blkfmt.NoPtr, &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Deadlist, What: err.Error()}
	}
	return list, h.Chain, nil
}

// each calls block for every block of d's chain and entry for every address on d; either may be
// nil. Nothing guards the pointers of a chain but its two ends: one that does not end, or that ends
// elsewhere than at the tail, as if it had been led into another list, is corruption. What was called
// until then was called for blocks that may be another's.
func (d *deadlist) each(g *epoch.Guard, st *blkstore.Store, block func(blkfmt.Bptr) error, entry func(blkfmt.Addr) error) error {
	for _, a := range d.fresh {
		if entry != nil {
			if err := entry(a); err != nil {
				return err
			}
		}
	}
	seen := make(map[blkfmt.Addr]bool)
	last := blkfmt.NoAddr
	for bp := d.disk.Hd; bp.Addr != blkfmt.NoAddr; {
		if seen[bp.Addr] {
			return circle(bp.Addr)
		}
		seen[bp.Addr] = true
		last = bp.Addr
		list, next, err := readDead(g, st, bp)
		if err != nil {
			return err
		}
		if entry != nil {
			for _, a := range list {
				if err := entry(a); err != nil {
					return err
				}
			}
		}
		if block != nil {
			if err := block(bp); err != nil {
				return err
			}
		}
		bp = next
	}
	if tail := d.disk.Tl.Addr; last != tail {
		return &blkfmt.CorruptError{Addr: last, Type: blkfmt.Deadlist, What: fmt.Sprintf("the chain ends here, and not at its tail %v", tail)}
	}
	return nil
}

// clear makes d an empty list, whose record the next Seal removes.
func (f *Forest) clear(d *deadlist) {
	d.fresh = nil
	d.disk = kvfmt.Dlist{Hd: blkfmt.NoPtr, Tl: blkfmt.NoPtr}
	f.markList(d)
}

// list returns the list under the key if it is in memory, nil otherwise.
func (f *Forest) list(k listKey) *deadlist {
	if s := f.snaps[k.gen]; s != nil {
		return s.lists[k.bgen]
	}
	return nil
}

// shorter returns the one of two lists whose chain on the device ends first. It reads no more of
// the other than that.
func (f *Forest) shorter(g *epoch.Guard, a, b *deadlist) (*deadlist, error) {
	pa, pb := a.disk.Hd, b.disk.Hd
	for seen := make(map[blkfmt.Addr]bool); !seen[pa.Addr]; {
		var err error
		if pa.Addr == blkfmt.NoAddr {
			return a, nil
		}
		if pb.Addr == blkfmt.NoAddr {
			return b, nil
		}
		seen[pa.Addr] = true
		if _, pa, err = readDead(g, f.st, pa); err != nil {
			return nil, err
		}
		if _, pb, err = readDead(g, f.st, pb); err != nil {
			return nil, err
		}
	}
	return nil, circle(pa.Addr)
}

// follow reads chains whose heads were found in this epoch and under the mutation lock, without the lock.
// The snapshots they belong to must be pinned: then only the head of a chain may be replaced meanwhile, so
// the heads are read first, and pause, which may leave the epoch, is called only after that. fn is told
// which addresses are in the next block of chain i, and whether that is its last; it returns whether to go
// on with the chain.
func (f *Forest) follow(g *epoch.Guard, heads []blkfmt.Bptr, pause func() error, fn func(i int, list []blkfmt.Addr, last bool) bool) error {
	type chain struct {
		i    int
		next blkfmt.Bptr
	}
	var live []chain
	for i, bp := range heads {
		if bp.Addr != blkfmt.NoAddr {
			live = append(live, chain{i, bp})
		}
	}
	longest := f.st.DeviceSize() / blkfmt.BlkSize
	for round := int64(0); len(live) > 0; round++ {
		on := live[:0]
		for _, c := range live {
			if round > 0 {
				if err := pause(); err != nil {
					return err
				}
			}
			list, next, err := readDead(g, f.st, c.next)
			switch {
			case err != nil:
				return err
			case round == longest:
				return circle(c.next.Addr)
			}
			last := next.Addr == blkfmt.NoAddr
			if fn(c.i, list, last) && !last {
				on = append(on, chain{c.i, next})
			}
		}
		live = on
	}
	return nil
}

func circle(at blkfmt.Addr) error {
	return &blkfmt.CorruptError{Addr: at, Type: blkfmt.Deadlist, What: "the chain runs in a circle"}
}
