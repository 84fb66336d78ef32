package blkstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/internal/trace"
)

// ErrNoDiscard says that telling the device what is free does nothing.
var ErrNoDiscard = errors.New("this device, or the system, cannot discard: what is free stays allocated")

// A discarder is a device that knows whether its Discard has an effect. Of others it is assumed.
type discarder interface{ Discards() bool }

// Sizes and the rate of discards.
const (
	// TrimMost is the longest range that is discarded at once, in bytes. Nobody can use it meanwhile.
	TrimMost = 64 << 20
	// TrimLeast is the shortest that is worth it in the background, in bytes.
	TrimLeast = 256 << 10
)

// TrimOptions says what is to be discarded, and how fast.
type TrimOptions struct {
	Stale bool  // only what became free since NoteStale, and was not discarded since; all that is free otherwise
	Least int64 // bytes of a range to be worth it; 0: a block
	Rate  int64 // bytes a second; 0: as fast as the device goes
}

// NoteStale remembers from now on what becomes free, for TrimOptions.Stale.
func (s *Store) NoteStale() { s.arenas.NoteStale() }

// Trim discards what is free on the device, range by range, and returns how many bytes that were. What is in use, waits
// for a commit or for readers, is kept for a View or belongs to a log is not free: see arena.Lend. The discards
// are on stable storage with the next commit's flush, if the device cares; a power cut may undo them.
//
// It goes on while others read, write and commit. Trims wait for each other, range by range. The caller is
// outside any epoch and has no lock. Errors: ErrReadOnly, ErrClosed, ErrNoDiscard, the store's failure – after which
// nothing is discarded any more –, the device's, ctx's; what was discarded until then is counted.
func (s *Store) Trim(ctx context.Context, opt TrimOptions) (bytes int64, err error) {
	if s.readOnly {
		return 0, ErrReadOnly
	}
	least := max(opt.Least, blkfmt.BlkSize) &^ (blkfmt.BlkSize - 1)
	most := int64(TrimMost)
	if opt.Rate > 0 {
		most = max(min(most, opt.Rate/4), least) &^ (blkfmt.BlkSize - 1)
	}
	began := time.Now()
	for at := blkfmt.Addr(0); ; {
		select {
		case <-ctx.Done():
			return bytes, ctx.Err()
		case <-s.stop:
			return bytes, ErrClosed
		default:
		}
		if err := s.Err(); err != nil {
			return bytes, err
		}
		end, n, err := s.trimOne(at, least, most, opt.Stale)
		if err != nil || n == 0 {
			return bytes, err
		}
		bytes += n
		at = end
		if opt.Rate <= 0 {
			continue
		}
		due := began.Add(time.Duration(float64(bytes) / float64(opt.Rate) * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		case <-s.stop:
		}
	}
}

// trimOne discards the next range and returns its end and length; 0 if there is none.
func (s *Store) trimOne(at blkfmt.Addr, least, most int64, stale bool) (end blkfmt.Addr, n int64, err error) {
	s.trimMu.Lock()
	defer s.trimMu.Unlock()
	can := func() bool {
		d, ok := s.dev.(discarder)
		return !ok || d.Discards()
	}
	if !can() {
		return 0, 0, ErrNoDiscard
	}
	l, ok := s.arenas.Lend(at, least, most, stale)
	if !ok {
		return 0, 0, nil
	}
	defer s.arenas.Return(l)
	s.note("trim", l.Addr, trace.None, l.Len)
	if err := s.dev.Discard(int64(l.Addr), l.Len); err != nil {
		return 0, 0, fmt.Errorf("discard %d bytes at %v: %w", l.Len, l.Addr, err)
	}
	if !can() { // only now has it been found out
		return 0, 0, ErrNoDiscard
	}
	s.trimmed.Add(uint64(l.Len))
	return l.Addr + blkfmt.Addr(l.Len), l.Len, nil
}

// TrimEnds returns when what is being discarded at the moment can be used again.
func (s *Store) TrimEnds() {
	s.trimMu.Lock()
	defer s.trimMu.Unlock()
}

// Trimmed returns how many bytes were discarded since the store was opened.
func (s *Store) Trimmed() int64 { return int64(s.trimmed.Load()) }
