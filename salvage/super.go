package salvage

import (
	"cmp"
	"errors"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// loadSuper takes the newest superblock that verifies. Without one, x.super stays nil. It fails if
// what is there says that this program or this key is not for it.
func (x *run) loadSuper() error {
	var errs [2]error
	type found struct {
		s    *blkfmt.Super
		addr blkfmt.Addr
	}
	var copies []found // newest first
	for i, a := range []blkfmt.Addr{0, blkfmt.BackupAddr(x.size)} {
		if i > 0 && a <= 0 {
			break
		}
		if errs[i] = x.read(x.buf, a); errs[i] != nil {
			continue
		}
		var s *blkfmt.Super
		if s, errs[i] = blkfmt.DecodeSuper(x.buf, x.opt.Key, a); errs[i] == nil {
			copies = append(copies, found{s, a})
		}
	}
	slices.SortStableFunc(copies, func(a, b found) int { return cmp.Compare(b.s.Qgen, a.s.Qgen) })
	// After a crash the superblocks may be of different commits. The state of the older one, if its tree
	// is there, is better than what can be found of the newer one's.
	for i, c := range copies {
		x.hash = c.s.Hasher()
		_, ok := x.node(c.s.Snap, c.s.SnapHt-1)
		if ok || i == 0 {
			x.super, x.rep.Super, x.older = c.s, c.addr, c.s.Qgen < copies[0].s.Qgen
		}
		if ok {
			break
		}
	}
	if x.stop != nil {
		return x.stop
	}
	if x.super == nil {
		for _, err := range errs {
			var ve *blkfmt.VersionError
			if errors.As(err, &ve) || errors.Is(err, blkfmt.ErrNoKey) || errors.Is(err, blkfmt.ErrForeignKey) {
				return err
			}
		}
		if x.opt.Key != nil {
			x.hash = blkfmt.NewSip(*x.opt.Key)
		}
		x.note("both superblocks are lost: the whole disk is scanned for what hung from them")
		return nil
	}
	if len(copies) < 2 {
		x.note("one superblock is lost, the one at %v is good", x.rep.Super)
	}
	if x.older {
		x.note("the tree of the newest commit is lost, the one before it is taken")
	}
	if last := x.super.Arenas[len(x.super.Arenas)-1].Addr; int64(last) >= x.size {
		x.note("the device ends at %v, before its last arena at %v: it has been cut off", blkfmt.Addr(x.size), last)
	}
	x.hash, x.rep.Qgen = x.super.Hasher(), x.super.Qgen
	for i, ref := range x.super.Arenas {
		end := blkfmt.BackupAddr(x.size)
		if i+1 < len(x.super.Arenas) {
			end = x.super.Arenas[i+1].Addr
		}
		x.addArena(ref, end)
	}
	for _, a := range x.arenas {
		if x.replay(a, x.super.Qgen, true); !a.known {
			x.note("the allocation log of the arena at %v cannot be read", a.ref.Addr)
		}
	}
	return nil
}

// An arena is what is known of one: if its log could be read, what is free in it.
type arena struct {
	ref   blkfmt.ArenaRef
	base  blkfmt.Addr // first block of the body
	nblk  int64
	log   blkfmt.Addr // first block of the log; NoAddr if there is no header
	known bool
	free  []uint64 // bitmap
	nfree int64
}

func (a *arena) end() blkfmt.Addr { return a.base + blkfmt.Addr(a.nblk*blkfmt.BlkSize) }

// addArena reads the header of the arena at ref, which must end before end.
func (x *run) addArena(ref blkfmt.ArenaRef, end blkfmt.Addr) {
	a := &arena{ref: ref, base: ref.Addr + blkfmt.ArenaOverhead, log: blkfmt.NoAddr}
	if end = min(end, blkfmt.Addr(x.size)); end > a.base {
		a.nblk = int64(end-a.base) / blkfmt.BlkSize
	}
	x.arenas = append(x.arenas, a)
	for i := range blkfmt.Addr(2) {
		if x.read(x.buf, ref.Addr+i*blkfmt.BlkSize) != nil || ref.Hash != blkfmt.NoHash && x.hash.Sum(x.buf) != ref.Hash {
			continue
		}
		if h, err := blkfmt.DecodeArenaHdr(x.buf, ref.Addr); err == nil {
			a.log = h.Log.Addr
			return
		}
	}
}

// replay fills in what is free in a by its log, up to the first barrier that is not older than qgen.
// It returns the last barrier met. Unless lenient says otherwise a log without any is not believed to be
// that of a commit.
func (x *run) replay(a *arena, qgen int64, lenient bool) (last int64) {
	a.known, a.nfree, a.free = false, 0, make([]uint64, (a.nblk+63)/64)
	last = -1
	seen := map[blkfmt.Addr]bool{}
	b := make([]byte, blkfmt.BlkSize)
	for addr := a.log; addr != blkfmt.NoAddr; {
		if addr < a.base || addr >= a.end() || seen[addr] {
			return last
		}
		seen[addr] = true
		if x.read(b, addr) != nil {
			return last
		}
		h, err := blkfmt.DecodeLogHdr(b, blkfmt.Log, x.hash, addr)
		if err != nil {
			return last
		}
		for p := b[blkfmt.LogHdSize : blkfmt.LogHdSize+h.Size]; len(p) > 0; {
			e, n, err := logfmt.Next(p)
			if err != nil {
				return last
			}
			p = p[n:]
			if e.Op == logfmt.Sync {
				if last = e.Qgen; e.Qgen >= qgen {
					a.known = true
					return last
				}
			} else if !a.apply(e) {
				return last
			}
		}
		if addr = h.Chain.Addr; addr == blkfmt.NoAddr {
			a.known = lenient
		}
	}
	return last
}

// apply enters an entry of the log, and reports whether it makes sense.
func (a *arena) apply(e logfmt.Entry) bool {
	if e.Addr < a.base || e.Addr >= a.end() || e.Len > int64(a.end()-e.Addr) {
		return false
	}
	free := e.Op == logfmt.Free || e.Op == logfmt.Free1
	i := int64(e.Addr-a.base) / blkfmt.BlkSize
	for n := e.Len / blkfmt.BlkSize; n > 0; n-- {
		w, bit := &a.free[i/64], uint64(1)<<(i%64)
		if (*w&bit != 0) == free {
			return false
		}
		*w ^= bit
		i++
	}
	if free {
		a.nfree += e.Len / blkfmt.BlkSize
	} else {
		a.nfree -= e.Len / blkfmt.BlkSize
	}
	return true
}

// A use says whether a block is in use.
type use uint8

const (
	isFree use = iota
	unknown
	inUse
)

// use returns what the logs say of the block at addr.
func (x *run) use(addr blkfmt.Addr) use {
	i, ok := slices.BinarySearchFunc(x.arenas, addr, func(a *arena, addr blkfmt.Addr) int {
		switch {
		case a.end() <= addr:
			return -1
		case a.base > addr:
			return +1
		}
		return 0
	})
	if !ok || !x.arenas[i].known {
		return unknown
	}
	a := x.arenas[i]
	n := int64(addr-a.base) / blkfmt.BlkSize
	if a.free[n/64]&(1<<(n%64)) != 0 {
		return isFree
	}
	return inUse
}

// inUse returns the number of blocks in use, about.
func (x *run) inUse() (n int64) {
	for _, a := range x.arenas {
		n += a.nblk - a.nfree
	}
	return n
}

// A header is an arena's header found by scanning.
type header struct {
	addr blkfmt.Addr
	hdr  blkfmt.ArenaHdr
	sum  uint64 // of the block, with which its copy is recognized
}

// findArenas makes arenas of the headers that the scan has found, without the help of a superblock. A
// header counts if it lies where ream puts one on a device of this size, or if its copy is
// behind it.
func (x *run) findArenas(found []header) {
	where := map[blkfmt.Addr]bool{}
	if g, err := blkfmt.ReamGeometry(x.size); err == nil {
		for i := range g.Count {
			where[g.Header(i)] = true
		}
	}
	var end blkfmt.Addr
	for i, h := range found {
		first, second := where[h.addr], where[h.addr-blkfmt.BlkSize]
		twin := i+1 < len(found) && found[i+1].addr == h.addr+blkfmt.BlkSize && found[i+1].sum == h.sum
		at := h.addr
		if second && !first {
			at -= blkfmt.BlkSize // of the two only the copy is left
		} else if !first && !twin {
			continue
		}
		size := h.hdr.Size
		if at < end || size <= 0 || size > x.size-int64(at) || h.hdr.Log.Addr < at || int64(h.hdr.Log.Addr) >= int64(at)+blkfmt.ArenaOverhead+size {
			continue
		}
		end = at + blkfmt.ArenaOverhead + blkfmt.Addr(size)
		x.arenas = append(x.arenas, &arena{ref: blkfmt.ArenaRef{Addr: at, Hash: blkfmt.NoHash}, base: at + blkfmt.ArenaOverhead,
			nblk: size / blkfmt.BlkSize, log: h.hdr.Log.Addr})
	}
	// The commit is the newest that all the logs have. If the power went in the middle of the next
	// one, that one is whole on the disk or some log lacks it.
	const forever = int64(1) << 62
	qgen := forever
	for _, a := range x.arenas {
		if last := x.replay(a, forever, true); a.known {
			qgen = min(qgen, last)
		}
	}
	if qgen < 0 || qgen == forever {
		return // a disk that was never committed to, or nothing to go by
	}
	x.rep.Qgen = qgen
	for _, a := range x.arenas {
		x.replay(a, qgen, false)
	}
}
