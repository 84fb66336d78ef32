package arena

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"gefs9p/blkfmt"
)

// A Write is a block and where on the device it belongs.
type Write struct {
	Addr blkfmt.Addr
	Data []byte
}

// Sealed is what one Seal wants written, and what it will give back. The slices of writes are in
// order of address. They belong to the caller until Release, but Headers and Footers share their bytes.
//
// A commit writes, each step on stable storage before the next begins:
//
//  1. Heal, if there is any. Before, both superblocks must be the same: otherwise the first one,
//     which led to the good header, is about to be overwritten, and the second one leads to neither;
//  2. Log and Headers, together with all blocks of the new state;
//  3. the first superblock, then the second, holding Refs and Qgen;
//  4. Footers.
//
// When the first superblock is on stable storage, and nobody reads the former state any more, the
// caller hands Sealed to Release.
type Sealed struct {
	Qgen    int64             // generation of the barriers
	Heal    []Write           // copies of headers that were found bad, as of the last commit
	Log     []Write           // log blocks: never seen before, or empty in the last commit
	Headers []Write           // a header for each arena
	Footers []Write           // the same headers for the second place
	Refs    []blkfmt.ArenaRef // the superblock's arena table
}

// Seal ends the allocation logs with the barrier qgen and returns what a commit must write. From
// then on the blocks freed so far are free in every log, but are kept back until Release. Every arena
// is sealed at the same moment, with respect to concurrent calls.
//
// A block that was handed out before Seal counts as used in the state being committed. If nothing
// there points at it, a crash loses it, harmlessly: so data blocks are prepared under a lock that
// excludes Seal until something points at them, and what trees drop is retired when they drop it,
// not when its last reader has left.
//
// qgen must be higher than that of the last Seal or Load, and the last Sealed must have been released.
// Seal fails with ErrSuspect, or with ErrFull if a log has no room in its arena, and has changed
// nothing then; see LogPressure. It does no I/O, and takes all arena locks.
//
// Source: logbarrier, compresslog and the first half of sync.
func (s *Set) Seal(qgen int64) (*Sealed, error) {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	arenas := s.list() // no others come with sealMu held
	for _, a := range arenas {
		a.mu.Lock()
		defer a.unlock()
	}
	if s.waiting != nil {
		return nil, fmt.Errorf("arena: barrier %d while the commit of barrier %d is not released", qgen, s.waiting.Qgen)
	}
	if qgen <= s.qgen.Load() || qgen >= 1<<55 {
		return nil, fmt.Errorf("arena: barrier %d after barrier %d", qgen, s.qgen.Load())
	}
	plans, err := s.planLocked()
	if err != nil && s.unholdLocked() {
		plans, err = s.planLocked()
	}
	if err != nil {
		return nil, err
	}
	out := &Sealed{Qgen: qgen}
	for i, a := range arenas {
		if err := a.sealLocked(plans[i], qgen, s.hash, &s.bufs, out); err != nil {
			return nil, err
		}
	}
	s.qgen.Store(qgen)
	s.waiting = out
	slices.SortFunc(out.Log, func(x, y Write) int { return cmp.Compare(x.Addr, y.Addr) })
	return out, nil
}

// planLocked plans the log of each arena. All arena locks are held.
func (s *Set) planLocked() ([]plan, error) {
	plans := make([]plan, len(s.list()))
	var errs []error
	for i, a := range s.list() {
		var err error
		if plans[i], err = a.planLocked(); err != nil {
			errs = append(errs, err)
		}
	}
	return plans, errors.Join(errs...)
}

// sealLocked carries p out and adds the result to out. It does not fail if p came from planLocked
// under the same lock.
func (a *arena) sealLocked(p plan, qgen int64, hash blkfmt.Hasher, bufs *buffers, out *Sealed) error {
	var w *logWriter
	var err error
	if p.anew {
		w, err = a.anewLocked(bufs)
	} else {
		w, err = a.continueLocked(p.entries, bufs)
	}
	if err != nil {
		return err
	}
	size := int64(len(w.blocks))
	free, err := a.barrierLocked(w, qgen)
	if err != nil {
		return err
	}
	log := w.finish(hash)
	if p.anew {
		a.first = log[0].Addr
		a.sum = hash.Sum(log[0].Data)
		a.lastSize = size
	}
	out.Log = append(out.Log, log...)

	h := blkfmt.ArenaHdr{
		Log:  blkfmt.Bptr{Addr: a.first, Hash: a.sum},
		Size: a.size,
		Used: a.size - free,
	}
	block := bufs.take()
	h.Encode(block)
	if a.footBad {
		out.Heal = append(out.Heal, Write{Addr: a.head + blkfmt.BlkSize, Data: a.hdr})
	}
	out.Headers = append(out.Headers, Write{Addr: a.head, Data: block})
	out.Footers = append(out.Footers, Write{Addr: a.head + blkfmt.BlkSize, Data: block})
	out.Refs = append(out.Refs, blkfmt.ArenaRef{Addr: a.head, Hash: hash.Sum(block)})
	return nil
}

// buffers keeps blocks of memory from one Seal for the next: a small commit writes a few dozen of them, and
// hundreds of commits a second would make work for nobody but the garbage collector.
type buffers struct{ spare [][]byte }

const maxSpare = 256 // buffers kept, 4 MiB

// take returns a block of zeros.
func (b *buffers) take() []byte {
	n := len(b.spare)
	if n == 0 {
		return make([]byte, blkfmt.BlkSize)
	}
	p := b.spare[n-1]
	b.spare = b.spare[:n-1]
	clear(p)
	return p
}

func (b *buffers) give(p []byte) {
	if len(b.spare) < maxSpare {
		b.spare = append(b.spare, p)
	}
}

// Release hands out again what the Seal that returned sealed logged as free: to be called once its
// commit is on stable storage and no reader of an older state is left. It fails if sealed is not the
// last one, or was released before. After a commit that failed it must not be called: then nothing
// is known about what is on the device, and there is no further Seal. Safe for concurrent use.
func (s *Set) Release(sealed *Sealed) error {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	if sealed == nil || sealed != s.waiting {
		return errors.New("arena: release of what is not the last Seal, or was released before")
	}
	for _, a := range s.list() {
		a.release()
	}
	for _, list := range [][]Write{sealed.Log, sealed.Headers} { // Footers are Headers once more
		for _, w := range list {
			s.bufs.give(w.Data)
		}
	}
	s.waiting = nil
	return nil
}

func (a *arena) release() {
	a.mu.Lock()
	defer a.unlock()
	a.freeLimboLocked()
	a.limbo = blockSet{}
	a.rebuilt, a.added, a.headBad, a.footBad, a.hdr = false, false, false, false, nil
}
