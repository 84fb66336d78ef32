package check

import (
	"bytes"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// An arena is what is known of one: which blocks are free, and who owns the others.
type arena struct {
	ref    blkfmt.ArenaRef
	hdr    *blkfmt.ArenaHdr // nil if no copy verifies
	base   blkfmt.Addr      // of the body
	nblk   int64            // blocks that may ever be allocated
	loaded bool             // free is what the log says
	free   *bitmap
	own    [][]owner // pages of ownPage blocks; nil: nobody owns any

	log     []blkfmt.Addr // blocks of the log up to the cut
	entries int
	barrier bool // the cut is at the barrier of the commit itself
	used    int64
}

// end returns the address behind the last block that may be allocated.
func (a *arena) end() blkfmt.Addr { return a.base + blkfmt.Addr(a.nblk*blkfmt.BlkSize) }

func (a *arena) addr(i int64) blkfmt.Addr { return a.base + blkfmt.Addr(i*blkfmt.BlkSize) }

func (a *arena) index(addr blkfmt.Addr) int64 { return int64(addr-a.base) / blkfmt.BlkSize }

// loadArenas reads headers and logs as an opener would who has chosen the superblock s. ok says
// that the headers are there; a log that cannot be replayed does not make an opener turn to an older
// commit, as the trees say what is in use. The problems are returned, not reported, as another
// superblock may be chosen in the end.
func (x *run) loadArenas(s *blkfmt.Super) (as []*arena, ps []Problem, ok bool) {
	ok = true
	bad := func(k Kind, sev Severity, a blkfmt.Addr, t blkfmt.Type, format string, arg ...any) {
		ps = append(ps, Problem{Kind: k, Severity: sev, Addr: a, Block: t.String(), Text: fmt.Sprintf(format, arg...)})
		ok = ok && sev < Error
	}
	backup := blkfmt.BackupAddr(x.size)
	refs := s.Arenas // in the order of their addresses, or it would be no superblock
	for i, ref := range refs {
		next := backup
		if i+1 < len(refs) {
			next = min(next, refs[i+1].Addr)
		}
		if next-ref.Addr < blkfmt.ArenaOverhead+4*blkfmt.BlkSize {
			bad(ArenaLayout, Fatal, ref.Addr, blkfmt.Arena, "arena %d has no room: it ends at %v", i, next)
			continue
		}
		a := &arena{ref: ref, base: ref.Addr + blkfmt.ArenaOverhead}
		size := int64(next - a.base)
		var hps []Problem
		a.hdr, hps = x.loadHeader(i, ref)
		for _, p := range hps {
			ps = append(ps, p)
			ok = ok && p.Severity < Error
		}
		if a.hdr != nil && a.hdr.Size > size {
			bad(ArenaLayout, Fatal, ref.Addr, blkfmt.Arena, "arena %d has %d bytes, %d are left before %v", i, a.hdr.Size, size, next)
			a.hdr = nil
		}
		if a.hdr != nil {
			size = a.hdr.Size
		}
		a.nblk = (size - blkfmt.ArenaUnused) / blkfmt.BlkSize
		a.free = newBitmap(a.nblk)
		a.own = make([][]owner, (a.nblk+ownPage-1)/ownPage)
		as = append(as, a)
		if a.hdr == nil {
			continue
		}
		if p := x.replay(i, a, s.Qgen); p != nil {
			ps = append(ps, *p)
			continue
		}
		a.loaded = true
		a.used = a.hdr.Size - a.free.count*blkfmt.BlkSize
	}
	return as, ps, ok
}

// loadHeader returns the header of arena i, from the copy that hashes to what the superblock says.
// Without a hash there it is the first copy that can be read as a header.
func (x *run) loadHeader(i int, ref blkfmt.ArenaRef) (*blkfmt.ArenaHdr, []Problem) {
	var (
		ps   []Problem
		b    [2][]byte
		errs [2]error
		hdrs [2]*blkfmt.ArenaHdr
	)
	say := func(k Kind, sev Severity, a blkfmt.Addr, format string, arg ...any) {
		ps = append(ps, Problem{Kind: k, Severity: sev, Addr: a, Block: blkfmt.Arena.String(), Text: fmt.Sprintf(format, arg...)})
	}
	for j := range b {
		b[j] = x.c.block()
		defer func() { x.c.pool = append(x.c.pool, b[j]) }()
		addr := ref.Addr + blkfmt.Addr(j*blkfmt.BlkSize)
		if errs[j] = x.read(b[j], addr); errs[j] != nil {
			continue
		}
		if j == 1 && hdrs[0] != nil && bytes.Equal(b[0], b[1]) {
			hdrs[1] = hdrs[0]
			continue
		}
		if ref.Hash != blkfmt.NoHash {
			if got := x.hash.Sum(b[j]); got != ref.Hash {
				errs[j] = &blkfmt.CorruptError{Addr: addr, Type: blkfmt.Arena, Want: ref.Hash, Got: got}
				continue
			}
		}
		hdrs[j], errs[j] = blkfmt.DecodeArenaHdr(b[j], addr)
	}
	if ref.Hash == blkfmt.NoHash {
		say(HeaderUnverified, Note, ref.Addr, "the superblock has no hash for the header of arena %d", i)
	}
	switch {
	case hdrs[0] == nil && hdrs[1] == nil:
		say(HeaderBad, Fatal, ref.Addr, "no header of arena %d: %v; its copy: %v", i, errs[0], errs[1])
	case hdrs[0] == nil:
		say(HeaderStale, Note, ref.Addr, "header of arena %d, its copy is good: %v", i, errs[0])
		return hdrs[1], ps
	case hdrs[1] == nil:
		say(HeaderStale, Note, ref.Addr+blkfmt.BlkSize, "copy of the header of arena %d: %v", i, errs[1])
	}
	return hdrs[0], ps
}

// replay fills a.free from the log of arena i, up to the barrier of the commit qgen: the first one
// that is not older. What stands behind it, later log blocks included, did not happen.
// It returns the problem that ended it early, nil if there was none.
func (x *run) replay(i int, a *arena, qgen int64) *Problem {
	fail := func(k Kind, addr blkfmt.Addr, format string, arg ...any) *Problem {
		return &Problem{Kind: k, Severity: Fatal, Addr: addr, Block: blkfmt.Log.String(),
			Text: fmt.Sprintf("log of arena %d: ", i) + fmt.Sprintf(format, arg...)}
	}
	b := x.c.block()
	defer func() { x.c.pool = append(x.c.pool, b) }()
	seen := map[blkfmt.Addr]bool{}
	for addr := a.hdr.Log.Addr; ; {
		if addr < a.base || addr >= a.end() || addr%blkfmt.BlkSize != 0 {
			return fail(LogBad, addr, "a log block at %v, outside of the arena", addr)
		}
		if seen[addr] {
			return fail(LogBad, addr, "the chain comes back to %v", addr)
		}
		seen[addr] = true
		if err := x.read(b, addr); err != nil {
			return fail(LogBad, addr, "%v", err)
		}
		h, err := blkfmt.DecodeLogHdr(b, blkfmt.Log, x.hash, addr)
		if err != nil {
			return fail(LogBad, addr, "%v", err)
		}
		a.log = append(a.log, addr)
		for p := b[blkfmt.LogHdSize : blkfmt.LogHdSize+h.Size]; len(p) > 0; {
			e, n, err := logfmt.Next(p)
			if err != nil {
				return fail(LogBad, addr, "%v", err)
			}
			if e.Op == logfmt.Sync {
				if e.Qgen >= qgen {
					a.barrier = e.Qgen == qgen
					return nil
				}
			} else if bad := x.replayEntry(i, a, e); bad != nil {
				bad.Addr = addr
				return bad
			}
			a.entries++
			p = p[n:]
		}
		if h.Chain.Addr == blkfmt.NoAddr {
			return nil
		}
		addr = h.Chain.Addr
	}
}

func (x *run) replayEntry(i int, a *arena, e logfmt.Entry) *Problem {
	what := ""
	if lo := a.index(e.Addr); e.Addr < a.base || e.Addr >= a.end() || e.Len > int64(a.end()-e.Addr) {
		what = "reaches out of the arena"
	} else if e.Op == logfmt.Free || e.Op == logfmt.Free1 {
		if at, ok := a.free.set(lo, e.Len/blkfmt.BlkSize, true); !ok {
			what = fmt.Sprintf("%v is free already", a.addr(at))
		}
	} else if at, ok := a.free.set(lo, e.Len/blkfmt.BlkSize, false); !ok {
		what = fmt.Sprintf("%v is not free", a.addr(at))
	}
	if what == "" {
		return nil
	}
	return &Problem{Kind: LogRange, Severity: Fatal, Block: blkfmt.Log.String(),
		Text: fmt.Sprintf("log of arena %d: %v of %d bytes at %v: %s", i, e.Op, e.Len, e.Addr, what)}
}

// claimLogs makes every log block up to the cut owned, and says what the replay is to be noted for.
func (x *run) claimLogs() {
	for i, a := range x.arenas {
		x.rep.Arenas = append(x.rep.Arenas, ArenaReport{Header: a.ref.Addr, Used: a.used, LogBlocks: len(a.log),
			LogEntries: a.entries, Barrier: a.barrier, Loaded: a.loaded})
		r := &x.rep.Arenas[i]
		if a.hdr == nil {
			continue
		}
		r.Size, r.HeaderUsed = a.hdr.Size, a.hdr.Used
		for _, addr := range a.log {
			if x.claim(addr, ownLog, 0, blkfmt.Log, "log of arena", nil) == claimFirst {
				x.rep.Counts.Log++
			}
		}
		if !a.loaded {
			continue
		}
		if !a.barrier {
			x.sayAt(LogNoBarrier, Note, a.log[len(a.log)-1], blkfmt.Log, "log of arena %d has no barrier of commit %d", i, x.super.Qgen)
		}
		if a.used != a.hdr.Used {
			x.sayAt(UsedDiffers, Note, a.ref.Addr, blkfmt.Arena, "arena %d: %d bytes are in use, its header says %d", i, a.used, a.hdr.Used)
		}
	}
}

// countUsed fills in the sums that the logs give.
func (x *run) countUsed() {
	c := &x.rep.Counts
	for _, a := range x.arenas {
		c.Total += a.nblk
		c.Free += a.free.count
	}
	c.Used = c.Total - c.Free
}
