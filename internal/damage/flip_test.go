package damage_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/damage"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")
	flips    = flag.Int("flips", blkBits/100, "bits to flip in a block of each kind, at random; 131072 flips all")
	swaps    = flag.Int("faults", 2000, "disks with blocks zeroed, stale, swapped, misdirected, lost")
)

const blkBits = 8 * blkfmt.BlkSize

// seedOf returns the seed of a random test, which it prints.
func seedOf(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return s
}

// most returns how many of n states are looked at in a test that must be short.
func most(n int) int {
	if testing.Short() || raceEnabled {
		return max(n/20, 1)
	}
	return n
}

// A state is a damaged disk: what was done to it, and the blocks that are not what they were.
type state struct {
	name   string
	img    *blkdev.Mem
	hurt   blockSet
	writes bool
	judged func(verdict) error // may be nil
}

// run judges n states that make makes, on all processors. It stops early when five have failed.
func (r *rig) run(t *testing.T, row string, n int, make func(i int) state) {
	t.Helper()
	var next, done, failed, noticed, refused, unreadable atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() < 5 {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				s := make(i)
				v, err := r.judge(s.img, s.hurt, s.writes)
				if err == nil && s.judged != nil {
					err = s.judged(v)
				}
				done.Add(1)
				if v.noticed {
					noticed.Add(1)
				}
				if v.refused {
					refused.Add(1)
				}
				if v.errors > 0 {
					unreadable.Add(1)
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("%s: %v", s.name, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%s: %d states, %d failures; %d noticed by check, %d not served, %d with files that cannot be read",
		row, done.Load(), failed.Load(), noticed.Load(), refused.Load(), unreadable.Load())
}

// flip flips one bit.
func flip(img *blkdev.Mem, a blkfmt.Addr, bit int) {
	p := block(img, a)
	p[bit/8] ^= 0x80 >> (bit % 8)
	setBlock(img, a, p)
}

// guarded says whether a flipped bit of the block b changes anything that anybody reads. It is where
// docs/crash.md has its figures from.
func guarded(p []byte, b damage.Block, bit int) bool {
	at := bit / 8
	switch b.Type {
	case blkfmt.SuperBlk:
		s, err := blkfmt.DecodeSuper(p, nil, b.Addr)
		return err != nil || at < 104+16*len(s.Arenas)+8
	case blkfmt.Log, blkfmt.Deadlist:
		size := int(p[2])<<8 | int(p[3])
		return at < 20 || at >= blkfmt.LogHdSize && at < blkfmt.LogHdSize+size
	}
	return true
}

// TestEveryFlippedBitIsFound flips single bits of a block of each kind. Whoever needs the block is told,
// and nobody else: all files that do not depend on it are read and written as before. What check does
// not see is a bit that means nothing.
func TestEveryFlippedBitIsFound(t *testing.T) {
	r := newRig(t)
	seed := seedOf(t)
	for _, kind := range []blkfmt.Type{blkfmt.SuperBlk, blkfmt.Arena, blkfmt.Log, blkfmt.Deadlist, blkfmt.Pivot, blkfmt.Leaf, blkfmt.Data} {
		t.Run(kind.String(), func(t *testing.T) {
			list := r.byType[kind]
			if len(list) == 0 {
				t.Fatal("the rig has none")
			}
			perm := rand.New(rand.NewPCG(seed, uint64(kind))).Perm(blkBits)
			r.run(t, fmt.Sprintf("one bit of a %v", kind), most(min(*flips, blkBits)), func(i int) state {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)<<8|uint64(kind)))
				bit := perm[i]
				if *flips < blkBits && i%2 == 0 { // half of them where there are headers
					bit %= 512
				}
				b := list[rnd.IntN(len(list))]
				s := state{name: fmt.Sprintf("-seed %d: %v, bit %d (state %d)", seed, b, bit, i), img: r.img.Clone(), hurt: setOf(b.Addr), writes: i%8 == 0}
				p := block(s.img, b.Addr)
				flip(s.img, b.Addr, bit)
				s.judged = func(v verdict) error {
					if g := guarded(p, b, bit); g != v.noticed && !(r.lastLog(p, b) && at12(bit)) {
						return fmt.Errorf("noticed by check: %v; want %v", v.noticed, g)
					}
					return nil
				}
				return s
			})
		})
	}
}

// at12 says whether a bit lies in the address to which a chain goes on.
func at12(bit int) bool { return bit/8 >= 12 && bit/8 < 20 }

// lastLog says whether b is the last block of a log, whose chain leads to what has not happened.
func (r *rig) lastLog(p []byte, b damage.Block) bool {
	return b.Type == blkfmt.Log && damage.EndsLog(p, r.qgen)
}

// TestEveryBitOfAChain flips each bit of every pointer that chains log and deadlist blocks, and of the sizes
// before them: the part that no hash covers.
func TestEveryBitOfAChain(t *testing.T) {
	r := newRig(t)
	var list []damage.Block
	for _, kind := range []blkfmt.Type{blkfmt.Log, blkfmt.Deadlist} {
		list = append(list, r.byType[kind]...)
	}
	const bits = 8 * blkfmt.LogHdSize
	n := len(list) * bits
	step := 1
	if testing.Short() || raceEnabled {
		step = 41
	}
	r.run(t, "each bit of a chained block's header", n/step, func(i int) state {
		b, bit := list[i*step/bits], i*step%bits
		s := state{name: fmt.Sprintf("%v, bit %d", b, bit), img: r.img.Clone(), hurt: setOf(b.Addr), writes: at12(bit)}
		p := block(s.img, b.Addr)
		flip(s.img, b.Addr, bit)
		s.judged = func(v verdict) error {
			if g := guarded(p, b, bit); g != v.noticed && !(r.lastLog(p, b) && at12(bit)) {
				return fmt.Errorf("noticed by check: %v; want %v", v.noticed, g)
			}
			return nil
		}
		return s
	})
}
