package damage_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/damage"
	"gefs9p/internal/faults"
)

var flags = faults.NewFlags()

const blkBits = 8 * blkfmt.BlkSize

var kinds = []blkfmt.Type{blkfmt.SuperBlk, blkfmt.Arena, blkfmt.Log, blkfmt.Deadlist, blkfmt.Pivot, blkfmt.Leaf, blkfmt.Data}

// flip flips one bit; bit 0 is the highest of the first byte.
func flip(img *blkdev.Mem, a blkfmt.Addr, bit int) {
	p := block(img, a)
	p[bit/8] ^= 0x80 >> (bit % 8)
	setBlock(img, a, p)
}

// meant says whether a bit of the block b means anything to anybody. What docs/crash.md says of the
// bits that no hash covers is from here.
func (r *rig) meant(b damage.Block, bit int) bool {
	p, at := block(r.img, b.Addr), bit/8
	switch b.Type {
	case blkfmt.SuperBlk:
		s, err := blkfmt.DecodeSuper(p, nil, b.Addr)
		return err != nil || at < 104+16*len(s.Arenas)+8
	case blkfmt.Log, blkfmt.Deadlist:
		size := int(p[2])<<8 | int(p[3])
		if at >= 12 && at < 20 && b.Type == blkfmt.Log && damage.EndsLog(p, r.qgen) {
			// Where it goes on to has not happened, but must be a block.
			flipped := blkfmt.GetPtr(p[12:]).Addr ^ 1<<(159-bit)
			return flipped != blkfmt.NoAddr && !flipped.Block()
		}
		return at < 20 || at >= blkfmt.LogHdSize && at < blkfmt.LogHdSize+size
	}
	return true
}

func flipName(a blkfmt.Addr, bit int) string { return fmt.Sprintf("block=%#x bit=%d", int64(a), bit) }

// tryFlip tries a disk with one bit flipped. It is noticed by check if and only if the bit means
// something.
func (r *rig) tryFlip(name string) error {
	var at int64
	var bit int
	if _, err := fmt.Sscanf(name, "block=%v bit=%d", &at, &bit); err != nil {
		return err
	}
	a := blkfmt.Addr(at)
	b, ok := r.at[a]
	if !ok || bit < 0 || bit >= blkBits {
		return fmt.Errorf("%q is no bit of the rig's disk", name)
	}
	img := r.img.Clone()
	flip(img, a, bit)
	v, err := r.judge(img, setOf(a), bit%16 == 5)
	if err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	if meant := r.meant(b, bit); meant != v.noticed {
		return fmt.Errorf("%v: noticed by check: %v, want %v", b, v.noticed, meant)
	}
	return nil
}

// TestEveryFlippedBitIsFound flips single bits of a block of each kind. Whoever needs the block is told,
// and nobody else: all files that do not depend on it are read and written as before. What check does
// not see is a bit that means nothing.
func TestEveryFlippedBitIsFound(t *testing.T) {
	r := newRig(t)
	row := flags.Row(t, 5, faults.Size{Ordinary: len(kinds) * blkBits / 100, Short: 400})
	row.Each(func(yield func(string) bool) {
		var one []damage.Block // of each kind
		var perm [][]int
		for i, k := range kinds {
			rnd := row.Rand(uint64(i))
			if len(r.byType[k]) == 0 {
				t.Errorf("the rig has no %v", k)
				return
			}
			one = append(one, r.byType[k][rnd.IntN(len(r.byType[k]))])
			perm = append(perm, headFirst(rnd, blkBits))
		}
		for i := range blkBits {
			for k := range kinds {
				if !yield(flipName(one[k].Addr, perm[k][i])) {
					return
				}
			}
		}
	}, r.tryFlip)
}

// headFirst returns the numbers up to n in such an order that the first 512, the header of a block,
// come early: every other number is one of them until there are no more.
func headFirst(rnd *rand.Rand, n int) []int {
	const head = 512
	first, rest := rnd.Perm(head), rnd.Perm(n-head)
	list := make([]int, 0, n)
	for len(rest) > 0 || len(first) > 0 {
		if len(first) > 0 {
			list, first = append(list, first[0]), first[1:]
		}
		if len(rest) > 0 {
			list, rest = append(list, head+rest[0]), rest[1:]
		}
	}
	return list
}

// TestEveryBitOfAChain flips each bit of the headers of log and deadlist blocks, as good as all of which
// no hash covers.
func TestEveryBitOfAChain(t *testing.T) {
	r := newRig(t)
	row := flags.Row(t, 5, faults.Size{Ordinary: 1500, Short: 100})
	row.Each(chainBits(r, row), r.tryFlip)
}

func chainBits(r *rig, row *faults.Row) iter.Seq[string] {
	return func(yield func(string) bool) {
		list := append(append([]damage.Block(nil), r.byType[blkfmt.Log]...), r.byType[blkfmt.Deadlist]...)
		const bits = 8 * blkfmt.LogHdSize
		for _, i := range row.Rand(100).Perm(len(list) * bits) {
			if !yield(flipName(list[i/bits].Addr, i%bits)) {
				return
			}
		}
	}
}
