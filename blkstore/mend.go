package blkstore

import (
	"slices"

	"gefs9p/blkfmt"
)

// Rotten reads what commits write in place, superblocks and arena headers with their copies, and returns
// the addresses of those that are not as the last commit left them. What cannot be read is one of them.
// No commit may be under way.
func (s *Store) Rotten() []blkfmt.Addr {
	var bad []blkfmt.Addr
	buf := make([]byte, blkfmt.BlkSize)
	for i, a := range s.fixed(&s.super) {
		good := false
		if _, err := s.dev.ReadAt(buf, int64(a)); err == nil {
			if i < 2 {
				super, err := blkfmt.DecodeSuper(buf, s.super.Key, a)
				good = err == nil && super.Qgen == s.super.Qgen
			} else if want := s.super.Arenas[i/2-1].Hash; want != blkfmt.NoHash {
				good = s.hash.Sum(buf) == want
			} else {
				_, err := blkfmt.DecodeArenaHdr(buf, a)
				good = err == nil
			}
		}
		if !good {
			bad = append(bad, a)
		}
	}
	return bad
}

// Mend has the next commit make good what Rotten has returned, before it overwrites the other copy. Since
// then no commit may have begun. The caller has the mutation lock; NeedsCommit is true afterwards.
func (s *Store) Mend(bad []blkfmt.Addr) error {
	if s.readOnly {
		return ErrReadOnly
	}
	fixed := s.fixed(&s.super)
	for _, a := range fixed[:2] {
		if slices.Contains(bad, a) && !slices.Contains(s.healAt, a) {
			s.healAt = append(s.healAt, a)
		}
	}
	for i := 2; i < len(fixed); i += 2 {
		head, foot := slices.Contains(bad, fixed[i]), slices.Contains(bad, fixed[i+1])
		if !head && !foot {
			continue
		}
		var good []byte
		if !head {
			good = make([]byte, blkfmt.BlkSize)
			if _, err := s.dev.ReadAt(good, int64(fixed[i])); err != nil {
				return err
			}
			if want := s.super.Arenas[i/2-1].Hash; want != blkfmt.NoHash && s.hash.Sum(good) != want {
				continue // it has gone bad since; the commit writes it anew anyway
			}
		}
		s.arenas.Mend(i/2-1, good)
	}
	return nil
}
