package damage_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/damage"
	"gefs9p/internal/faults"
	"gefs9p/internal/gefstest"
)

// What can happen to a whole block.
const (
	zeroed      = "zeroed"      // it reads as zeros
	stale       = "stale"       // it is what it once was
	swapped     = "swapped"     // two blocks have changed places
	misdirected = "misdirected" // it was written to the place of another, and is what it was before
	lost        = "lost"        // it was never written the last time
)

// older returns what the block at a was, its last content but i: zeros if it was never written so
// often.
func (r *rig) older(a blkfmt.Addr, i int) []byte {
	if list := r.before[a]; i < len(list) {
		return list[len(list)-1-i]
	}
	return make([]byte, blkfmt.BlkSize)
}

// tryMisplaced tries a disk to one or two of whose blocks something has happened.
func (r *rig) tryMisplaced(name string) error {
	var what string
	var at, with int64
	var n int
	if _, err := fmt.Sscanf(name, "%s block=%v with=%v n=%d", &what, &at, &with, &n); err != nil {
		return err
	}
	a, b := blkfmt.Addr(at), blkfmt.Addr(with)
	hurt := setOf(a)
	img := r.img.Clone()
	mine, other := block(img, a), block(img, b)
	switch what {
	case zeroed:
		setBlock(img, a, make([]byte, blkfmt.BlkSize))
	case stale:
		setBlock(img, a, r.older(a, n))
	case lost:
		setBlock(img, a, r.older(a, 0))
	case swapped:
		setBlock(img, a, other)
		setBlock(img, b, mine)
		hurt[b] = true
	case misdirected:
		setBlock(img, a, r.older(a, 0))
		setBlock(img, b, mine)
		hurt[b] = true
	default:
		return fmt.Errorf("nothing is known of %q", what)
	}
	before := img.Clone() // judge writes
	v, err := r.judge(img, hurt, n%4 == 0)
	if err != nil {
		return fmt.Errorf("%v, %v: %w", r.at[a], r.at[b], err)
	}
	if !v.noticed && !r.harmless(before, hurt) {
		return fmt.Errorf("%v, %v: check does not notice", r.at[a], r.at[b])
	}
	return nil
}

// harmless says whether nothing that counts is different: blocks in use have, where they mean something,
// the bytes they had.
func (r *rig) harmless(img *blkdev.Mem, hurt blockSet) bool {
	for a := range hurt {
		b, used := r.at[a]
		if !used {
			continue
		}
		was, is := block(r.img, a), block(img, a)
		if b.Type == blkfmt.Log && r.replaysAlike(a, was, is) {
			continue
		}
		for i := range was {
			if was[i] == is[i] {
				continue
			}
			for bit := range 8 {
				if (was[i]^is[i])&(0x80>>bit) != 0 && r.meant(b, 8*i+bit) {
					return false
				}
			}
		}
	}
	return true
}

// replaysAlike reports whether two log blocks end a log and say the same until then. What stands behind the
// barrier has not happened, nor has the block the log goes on to, if it is a block.
func (r *rig) replaysAlike(a blkfmt.Addr, was, is []byte) bool {
	s, err := blkfmt.DecodeSuper(block(r.img, 0), nil, 0)
	if err != nil || !damage.EndsLog(was, r.qgen) || !damage.EndsLog(is, r.qgen) {
		return false
	}
	_, err = blkfmt.DecodeLogHdr(is, blkfmt.Log, s.Hasher(), a)
	return err == nil && bytes.Equal(damage.Replayed(was, r.qgen), damage.Replayed(is, r.qgen))
}

// TestMisplacedBlocksAreFound makes disks on which blocks are zeros, old, in each other's place, or
// were never written, though the device said so. They are found, and hurt only what is in them.
func TestMisplacedBlocksAreFound(t *testing.T) {
	r := newRig(t)
	row := flags.Row(t, 6, faults.Size{Ordinary: 2000, Short: 200})
	row.Each(func(yield func(string) bool) {
		rnd := row.Rand(0)
		for yield(r.misplace(rnd)) {
		}
	}, r.tryMisplaced)
}

// misplace chooses something to happen. Each kind of block is as likely as any other.
func (r *rig) misplace(rnd *rand.Rand) string {
	pick := func() blkfmt.Addr {
		list := r.byType[kinds[rnd.IntN(len(kinds))]]
		return list[rnd.IntN(len(list))].Addr
	}
	what := []string{zeroed, stale, swapped, misdirected, lost}[rnd.IntN(5)]
	a, b, n := pick(), pick(), rnd.IntN(100)
	if rnd.IntN(4) == 0 { // among its like
		list := r.byType[r.at[a].Type]
		b = list[rnd.IntN(len(list))].Addr
	}
	if what == misdirected && rnd.IntN(4) == 0 { // to where nothing is
		b = a
		for r.at[b].Type != 0 || b == a {
			b = blkfmt.Addr(1+rnd.Int64N(gefstest.SmallDisk/blkfmt.BlkSize-1)) * blkfmt.BlkSize
		}
	}
	if n := len(r.before[a]); what == stale && n == 0 {
		what = lost
	}
	return fmt.Sprintf("%s block=%#x with=%#x n=%d", what, int64(a), int64(b), n%max(len(r.before[a]), 8))
}

// TestRigHasHistory holds the rig to what the row needs: old superblocks, headers and blocks that were
// used again.
func TestRigHasHistory(t *testing.T) {
	r := newRig(t)
	for _, k := range kinds {
		again := r.usedAgain(k)
		t.Logf("%v: %d blocks, %d of them held something else before", k, len(r.byType[k]), again)
		if len(r.byType[k]) == 0 || again == 0 && k != blkfmt.Data {
			t.Errorf("%v: the rig has %d, %d of them with a past", k, len(r.byType[k]), again)
		}
	}
	labels := make(map[string]int)
	for th := range r.want {
		labels[th.label]++
	}
	t.Logf("%v things, %v", labels, slices.Sorted(maps.Keys(labels)))
}
