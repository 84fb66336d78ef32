package check

import (
	"encoding/binary"
	"hash/maphash"
	"sort"

	"gefs9p/blkfmt"
)

// An owner is who owns a block, in 32 bits: what it is used as, which kinds of deadlist have it, and a
// fingerprint of what it is there. Two users with the same fingerprint are the same use, seen from
// two snapshots; a wrong match has a chance of 2^-27, and tree nodes are compared in full.
type owner uint32

const (
	ownNone owner = iota
	ownLog
	ownSnapNode
	ownNode
	ownData
	ownDeadlist

	ownUse    owner = 7  // mask of the above
	ownListed owner = 8  // it is an entry of a deadlist
	ownWaits  owner = 16 // of one of those that are to be freed
	ownPrint        = ^(ownUse | ownListed | ownWaits)
)

func (o owner) String() string {
	return [...]string{"nothing", "log block", "node of the snapshot tree", "tree node", "data block", "deadlist block", "?", "?"}[o&ownUse]
}

const ownPage = 1024

// find returns the arena and the block number of addr, nil if no block can be allocated there.
func (x *run) find(addr blkfmt.Addr) (*arena, int64) {
	if addr < 0 || addr%blkfmt.BlkSize != 0 {
		return nil, 0
	}
	i := sort.Search(len(x.arenas), func(i int) bool { return x.arenas[i].base > addr }) - 1
	if i < 0 || addr >= x.arenas[i].end() {
		return nil, 0
	}
	return x.arenas[i], x.arenas[i].index(addr)
}

// owner returns the place where the owner of block i is kept.
func (a *arena) owner(i int64) *owner {
	p := &a.own[i/ownPage]
	if *p == nil {
		*p = make([]owner, min(ownPage, a.nblk-i/ownPage*ownPage))
	}
	return &(*p)[i%ownPage]
}

type claimed int

const (
	claimFirst claimed = iota // the block had no owner
	claimAgain                // the same use as before
	claimBad                  // it cannot be: reported
)

// claim makes the block at addr owned for the use u, by something whose fingerprint is print.
// what and key describe it in the texts of problems.
func (x *run) claim(addr blkfmt.Addr, u owner, print uint64, t blkfmt.Type, what string, key []byte) claimed {
	describe := func() string {
		if key == nil {
			return what
		}
		return what + ": " + keyText(key)
	}
	a, i := x.find(addr)
	if a == nil {
		x.rep.Complete = false // where it should lead is not known
		if x.once(BadAddress, addr, string(key)) {
			x.sayAt(BadAddress, Fatal, addr, t, "%s: a %v block at %v, where none can be", describe(), t, addr)
		}
		return claimBad
	}
	o := a.owner(i)
	v := u | owner(print)&ownPrint
	if u == ownLog || u == ownDeadlist {
		v |= ownPrint // these are never shared
	}
	switch {
	case *o&ownUse == ownNone:
		*o |= v
	case *o&^(ownListed|ownWaits) == v && u != ownLog && u != ownDeadlist:
		return claimAgain
	default:
		if x.once(TwoOwners, addr, string(key)) {
			x.sayAt(TwoOwners, Fatal, addr, t, "%s: a %v, and in use as a %v elsewhere", describe(), u, *o)
		}
		return claimBad
	}
	if a.loaded && a.free.has(i) && x.once(UsedFree, addr, "") {
		x.sayAt(UsedFree, Fatal, addr, t, "%s: the %v is free", describe(), u)
	}
	return claimFirst
}

// listDead notes that a deadlist has addr. It returns false, and reports it, if that is no address
// of a block.
func (x *run) listDead(addr blkfmt.Addr, list string) bool {
	a, i := x.find(addr)
	if a == nil {
		x.rep.Complete = false
		x.sayAt(BadAddress, Fatal, addr, blkfmt.Data, "%s has %v, where no block can be", list, addr)
		return false
	}
	*a.owner(i) |= ownListed
	if a.loaded && a.free.has(i) && x.once(UsedFree, addr, "") {
		x.sayAt(UsedFree, Fatal, addr, blkfmt.Data, "%s has %v, which is free", list, addr)
	}
	return true
}

// use returns what the block at addr is in use as.
func (x *run) use(addr blkfmt.Addr) owner {
	if a, i := x.find(addr); a != nil {
		return *a.owner(i) & ownUse
	}
	return ownNone
}

// dataPrint is the fingerprint of a data block: where in which file it is, and its pointer.
func (x *run) dataPrint(key []byte, p blkfmt.Bptr) uint64 {
	var b [64]byte
	s := p.Append(append(b[:0], key...))
	return maphash.Bytes(x.seed, s)
}

func (x *run) nodePrint(p blkfmt.Bptr) uint64 {
	var b [blkfmt.PtrSize]byte
	binary.BigEndian.PutUint64(b[:], p.Hash)
	binary.BigEndian.PutUint64(b[8:], uint64(p.Gen))
	return maphash.Bytes(x.seed, b[:])
}

// findLeaks counts the blocks that are allocated and have no owner. They are only leaks if every
// owner has been heard.
func (x *run) findLeaks() {
	for n, a := range x.arenas {
		if !a.loaded {
			continue
		}
		leaked := int64(0)
		for i := int64(0); i < a.nblk; i++ {
			if i%pageBits == 0 && a.free.pages[i/pageBits] == a.free.full {
				i += pageBits - 1
				continue
			}
			if a.free.has(i) {
				continue
			}
			var o owner
			if pg := a.own[i/ownPage]; pg != nil {
				o = pg[i%ownPage]
			}
			switch {
			case o == ownNone:
				leaked++
				if x.rep.Complete {
					x.leak(a.addr(i))
				}
			case o&ownUse == ownNone:
				x.rep.Counts.Dead++
			}
		}
		x.rep.Arenas[n].Leaked = leaked
		x.rep.Counts.Leaked += leaked
		if leaked > 0 && x.rep.Complete {
			x.sayAt(Leaked, Leak, a.ref.Addr, blkfmt.Arena, "arena %d: %d blocks are allocated and nobody owns them", n, leaked)
		}
	}
	if n := x.rep.Counts.Leaked; n > 0 && !x.rep.Complete {
		x.say(Leaked, Note, "%d blocks have no owner; as parts of the disk could not be read, they may well have one", n)
	}
}

// leak adds the block at addr, which is above all before, to the report's list.
func (x *run) leak(addr blkfmt.Addr) {
	l := x.rep.Leaked
	if n := len(l); n > 0 && l[n-1].Addr+blkfmt.Addr(l[n-1].Len) == addr {
		l[n-1].Len += blkfmt.BlkSize
		return
	}
	x.rep.Leaked = append(l, Extent{addr, blkfmt.BlkSize})
}
