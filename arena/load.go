package arena

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// Load reads the arenas of a device of length bytes: the headers that the superblock's table refs
// names, and the allocation logs up to the barrier qgen of the commit that wrote the superblock.
//
// A header is taken from its first place or, if that one does not verify, from its second. A hash
// of blkfmt.NoHash stands for one that is not known (the reference writes it when it grows a disk).
// If neither verifies, or the arenas do not fit the device, Load fails with a *blkfmt.CorruptError.
// One bad copy is the normal result of a crash in a commit, and is mended by the next one.
//
// A log that cannot be believed is no error: see Suspects. Reads that fail are treated as bad bytes,
// with the reason kept. The first Seal writes each log anew. Source: loadarena, loadlog.
func Load(dev io.ReaderAt, length int64, hash blkfmt.Hasher, refs []blkfmt.ArenaRef, qgen int64) (*Set, error) {
	s := &Set{hash: hash}
	s.qgen.Store(qgen)
	if len(refs) == 0 || len(refs) > blkfmt.MaxArenas {
		return nil, fmt.Errorf("arena: %d arenas, must be 1 to %d", len(refs), blkfmt.MaxArenas)
	}
	list := make([]*arena, 0, len(refs))
	at := blkfmt.Addr(blkfmt.BlkSize) // where the next arena may begin
	for i, ref := range refs {
		limit := blkfmt.Addr(length)
		if i+1 < len(refs) {
			limit = min(limit, refs[i+1].Addr)
		}
		if ref.Addr < at || ref.Addr > limit || ref.Addr%blkfmt.BlkSize != 0 {
			return nil, fmt.Errorf("arena %d: %w", i, &blkfmt.CorruptError{Addr: ref.Addr, Type: blkfmt.Arena,
				What: fmt.Sprintf("no place for an arena between %v and %v", at, limit)})
		}
		a, log, err := loadArena(dev, hash, i, ref, limit, &s.sums)
		if err != nil {
			return nil, fmt.Errorf("arena %d: %w", i, err)
		}
		a.replay(dev, hash, log, qgen)
		a.settleLocked()
		list = append(list, a)
		at = a.base + blkfmt.Addr(a.size)
	}
	s.arenas.Store(&list)
	return s, nil
}

// loadArena finds a good header for the arena at ref, which must end at limit or before.
func loadArena(dev io.ReaderAt, hash blkfmt.Hasher, no int, ref blkfmt.ArenaRef, limit blkfmt.Addr, s *sums) (*arena, *blkfmt.ArenaHdr, error) {
	read := func(at blkfmt.Addr) ([]byte, *blkfmt.ArenaHdr, error) {
		p := make([]byte, blkfmt.BlkSize)
		if err := readBlock(dev, p, at); err != nil {
			return nil, nil, err
		}
		if ref.Hash != blkfmt.NoHash {
			if got := hash.Sum(p); got != ref.Hash {
				return p, nil, &blkfmt.CorruptError{Addr: at, Type: blkfmt.Arena, Want: ref.Hash, Got: got}
			}
		}
		h, err := blkfmt.DecodeArenaHdr(p, at)
		if err == nil && h.Size > int64(limit-ref.Addr)-blkfmt.ArenaOverhead {
			err = &blkfmt.CorruptError{Addr: at, Type: blkfmt.Arena,
				What: fmt.Sprintf("%d bytes reach over %v, where the arena ends at the latest", h.Size, limit)}
		}
		return p, h, err
	}
	p, h, err := read(ref.Addr)
	p1, h1, err1 := read(ref.Addr + blkfmt.BlkSize)
	if err != nil && err1 != nil {
		err = errors.Join(err, err1)
		if c := (*blkfmt.CorruptError)(nil); !errors.As(err, &c) {
			// Unreadable is as bad as wrong: the other superblock is worth a try.
			err = fmt.Errorf("%w: %w", &blkfmt.CorruptError{Addr: ref.Addr, Type: blkfmt.Arena, What: "unreadable"}, err)
		}
		return nil, nil, err
	}
	headBad := err != nil
	if headBad {
		p, h = p1, h1
	}
	a := newArena(no, ref.Addr, h.Size, s)
	a.headBad = headBad
	if !headBad && !bytes.Equal(p, p1) {
		a.footBad = true
		a.hdr = p
	}
	return a, h, nil
}

func readBlock(dev io.ReaderAt, p []byte, at blkfmt.Addr) error {
	n, err := dev.ReadAt(p, int64(at))
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read block %v: %w", at, err)
}

// replay rebuilds the free ranges from the log that h points at: all entries up to the first barrier
// that is not older than qgen. What stands behind it did not happen, the blocks chained there
// included. It sets suspect if the result is not to be believed.
func (a *arena) replay(dev io.ReaderAt, hash blkfmt.Hasher, h *blkfmt.ArenaHdr, qgen int64) {
	found, err := a.replayChain(dev, hash, h.Log.Addr, qgen)
	switch used := a.size - a.free.total; {
	case err != nil:
		a.suspect = err.Error()
		a.free = newRanges()
	case found < 0:
		a.suspect = fmt.Sprintf("its log ends without the barrier %d of the last commit", qgen)
	case found != qgen:
		a.suspect = fmt.Sprintf("its log has the barrier %d, not %d of the last commit", found, qgen)
	case used != h.Used:
		a.suspect = fmt.Sprintf("its log leaves %d bytes used, its header says %d", used, h.Used)
	}
}

// replayChain replays the log that starts at at into free and chain. It returns the generation of
// the barrier it stopped at, -1 if there is none.
func (a *arena) replayChain(dev io.ReaderAt, hash blkfmt.Hasher, at blkfmt.Addr, qgen int64) (int64, error) {
	found := int64(-1)
	p := make([]byte, blkfmt.BlkSize)
	for found < 0 && at != blkfmt.NoAddr {
		if !a.holds(at) {
			return -1, fmt.Errorf("its log goes on at %v, outside the arena", at)
		}
		if a.chain.has(at) {
			return -1, fmt.Errorf("its log runs in a circle at %v", at)
		}
		if err := readBlock(dev, p, at); err != nil {
			return -1, err
		}
		h, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, hash, at)
		if err != nil {
			return -1, err
		}
		a.chain.add(at)
		if found, err = a.replayEntries(p[blkfmt.LogHdSize:][:h.Size], qgen); err != nil {
			return -1, fmt.Errorf("log block %v: %w", at, err)
		}
		at = h.Chain.Addr
	}
	for b, n := range a.chain.all() {
		for end := b + blkfmt.Addr(n); b < end; b += blkfmt.BlkSize {
			if a.free.holding(b) != nil {
				return -1, fmt.Errorf("log block %v is free in the log", b)
			}
		}
	}
	return found, nil
}

// replayEntries applies the entries p up to the first barrier that is not older than qgen, and
// returns its generation, or -1.
func (a *arena) replayEntries(p []byte, qgen int64) (int64, error) {
	for off := 0; off < len(p); {
		e, n, err := logfmt.Next(p[off:])
		if err != nil {
			return -1, fmt.Errorf("at %d: %w", off, err)
		}
		ok := true
		switch e.Op {
		case logfmt.Sync:
			if e.Qgen >= qgen {
				return e.Qgen, nil
			}
		case logfmt.Alloc, logfmt.Alloc1:
			ok = a.free.remove(e.Addr, e.Len)
		case logfmt.Free, logfmt.Free1:
			ok = e.Addr >= a.base && e.Addr < a.end && e.Len <= int64(a.end-e.Addr) && a.free.insert(e.Addr, e.Len)
		}
		if !ok {
			return -1, fmt.Errorf("at %d: %v of %d bytes at %v contradicts what stands before it", off, e.Op, e.Len, e.Addr)
		}
		off += n
	}
	return -1, nil
}
