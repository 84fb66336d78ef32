package arena

import (
	"iter"
	"maps"
	"math/bits"
	"slices"

	"gefs9p/blkfmt"
)

// A chunk of a blockSet holds this many blocks.
const chunkBlocks = 4096

// blockSet is a set of blocks kept as a sparse bitmap: adding, removing and asking take constant
// time wherever the blocks lie. It has no lock. The zero value is the empty set.
//
// It suits sets that come and go, such as the blocks changed since the last barrier; ranges suits
// sets that are searched by position.
type blockSet struct {
	chunks map[int64]*chunk // by block number / chunkBlocks
	n      int64            // blocks in the set
	runs   int64            // runs of consecutive blocks

	last  *chunk // the chunk met last, of number lastN; spares most look-ups in the map
	lastN int64
	spare *chunk // an empty one, kept for the next chunk needed
}

type chunk struct {
	n int
	w [chunkBlocks / 64]uint64
}

func (c *chunk) has(i int64) bool { return c.w[i/64]>>(i%64)&1 != 0 }

// chunk returns chunk number k, nil if nothing is in it.
func (s *blockSet) chunk(k int64) *chunk {
	if s.last != nil && s.lastN == k {
		return s.last
	}
	c := s.chunks[k]
	if c != nil {
		s.last, s.lastN = c, k
	}
	return c
}

func number(a blkfmt.Addr) int64 { return int64(a) >> blkfmt.BlkShift }

// hasN tells whether block number b is in the set.
func (s *blockSet) hasN(b int64) bool {
	c := s.chunk(b / chunkBlocks)
	return c != nil && c.has(b%chunkBlocks)
}

// has tells whether the block at a is in the set.
func (s *blockSet) has(a blkfmt.Addr) bool { return s.n > 0 && s.hasN(number(a)) }

// neighbours returns how many of the two blocks beside block i of chunk k are in the set.
func (s *blockSet) neighbours(c *chunk, k, i int64) (n int64) {
	var left, right bool
	if i > 0 {
		left = c.has(i - 1)
	} else {
		left = k > 0 && s.hasN(k*chunkBlocks-1)
	}
	if i < chunkBlocks-1 {
		right = c.has(i + 1)
	} else {
		right = s.hasN((k + 1) * chunkBlocks)
	}
	if left {
		n++
	}
	if right {
		n++
	}
	return n
}

// add puts the block at a into the set. It returns false if it is there already.
func (s *blockSet) add(a blkfmt.Addr) bool {
	b := number(a)
	k, i := b/chunkBlocks, b%chunkBlocks
	c := s.chunk(k)
	if c == nil {
		if s.chunks == nil {
			s.chunks = map[int64]*chunk{}
		}
		if c = s.spare; c == nil {
			c = new(chunk)
		}
		s.spare = nil
		s.chunks[k] = c
	} else if c.has(i) {
		return false
	}
	s.runs += 1 - s.neighbours(c, k, i)
	c.w[i/64] |= 1 << (i % 64)
	c.n++
	s.n++
	return true
}

// addRange puts n bytes at a into the set, which must have none of them.
func (s *blockSet) addRange(a blkfmt.Addr, n int64) {
	for end := a + blkfmt.Addr(n); a < end; a += blkfmt.BlkSize {
		s.add(a)
	}
}

// remove takes the block at a out of the set. It returns false if it is not there.
func (s *blockSet) remove(a blkfmt.Addr) bool {
	b := number(a)
	k, i := b/chunkBlocks, b%chunkBlocks
	c := s.chunk(k)
	if c == nil || !c.has(i) {
		return false
	}
	s.runs -= 1 - s.neighbours(c, k, i)
	c.w[i/64] &^= 1 << (i % 64)
	c.n--
	s.n--
	if c.n == 0 {
		delete(s.chunks, k)
		s.last = nil
		s.spare = c
	}
	return true
}

// all yields the start and the length in bytes of each run of blocks in ascending order. The set
// must not change meanwhile.
func (s *blockSet) all() iter.Seq2[blkfmt.Addr, int64] {
	return func(yield func(blkfmt.Addr, int64) bool) {
		start, end := int64(-1), int64(-1) // the open run
		out := func() bool {
			return start < 0 || yield(blkfmt.Addr(start<<blkfmt.BlkShift), (end-start)<<blkfmt.BlkShift)
		}
		for _, k := range slices.Sorted(maps.Keys(s.chunks)) {
			for j, w := range s.chunks[k].w {
				at := k*chunkBlocks + int64(j)*64
				for w != 0 {
					skip := bits.TrailingZeros64(w)
					w >>= skip
					n := bits.TrailingZeros64(^w)
					at += int64(skip)
					if at != end {
						if !out() {
							return
						}
						start = at
					}
					at += int64(n)
					end = at
					w >>= n // shifting by 64 gives 0
				}
			}
		}
		out()
	}
}
