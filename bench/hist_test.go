package bench

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 chooses one")

// newRand returns a source for a random test, and prints how to repeat it.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestHistogramBucketsMeetWithoutGaps(t *testing.T) {
	for i := range histBuckets {
		top := bucketTop(i)
		if top < 0 {
			t.Fatalf("bucket %d ends at %d", i, top)
		}
		if got := bucket(top); got != i {
			t.Fatalf("bucket %d ends at %d, which is in %d", i, top, got)
		}
		if top == math.MaxInt64 {
			if i != histBuckets-1 {
				t.Fatalf("bucket %d of %d is the last", i, histBuckets)
			}
			break
		}
		if got := bucket(top + 1); got != i+1 {
			t.Fatalf("bucket %d ends at %d, but %d is in %d", i, top, top+1, got)
		}
	}
}

func TestHistogramQuantilesAreCloseToExact(t *testing.T) {
	r := newRand(t)
	var parts [3]hist
	var all []time.Duration
	for range 20000 {
		d := time.Duration(math.Exp(r.Float64() * 25)) // 1 ns to 72 s
		parts[r.IntN(len(parts))].add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	var h hist
	for i := range parts {
		h.merge(&parts[i])
	}
	if h.n != uint64(len(all)) || h.max != all[len(all)-1] {
		t.Errorf("n %d, max %v; want %d, %v", h.n, h.max, len(all), all[len(all)-1])
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.99, 0.999, 1} {
		exact := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		got := h.quantile(q)
		if got < exact || float64(got-exact) > float64(exact)/histSub {
			t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
		}
	}
}

func TestHistogramAtItsEdges(t *testing.T) {
	var h hist
	if h.quantile(0.5) != 0 || h.max != 0 {
		t.Error("an empty histogram has a median")
	}
	h.add(-5)
	if h.quantile(1) != 0 || h.n != 1 {
		t.Errorf("a negative duration counts as %v", h.quantile(1))
	}
	h.add(math.MaxInt64)
	if h.quantile(1) != math.MaxInt64 || h.quantile(0.5) != 0 {
		t.Errorf("quantiles %v, %v", h.quantile(0.5), h.quantile(1))
	}
	if n := testing.AllocsPerRun(100, func() { h.add(time.Millisecond) }); n != 0 {
		t.Errorf("recording allocates %v times", n)
	}
}

func TestPatternTellsPlacesApart(t *testing.T) {
	p := newPattern()
	const n = 512
	seen := make(map[string]int)
	for i := range 4096 { // every 8 KiB of 32 MiB, in both contents
		for j, s := range []stream{original, overwritten} {
			b := string(p.at(s, int64(i)*8192, n))
			if k, ok := seen[b]; ok {
				t.Fatalf("place %d/%d looks like %d", i, j, k)
			}
			seen[b] = i
			if !p.holds(s, int64(i)*8192, []byte(b)) {
				t.Fatalf("place %d/%d does not hold its own bytes", i, j)
			}
		}
	}
	clear(seen)
	for i := range 100000 {
		b := string(p.at(small(i), 0, n))
		if k, ok := seen[b]; ok {
			t.Fatalf("small file %d looks like %d", i, k)
		}
		seen[b] = i
	}
}

func TestPatternDoesNotDependOnTheCut(t *testing.T) {
	p := newPattern()
	r := newRand(t)
	const size = 3 << 20 // more than a period and a chunk
	whole := make([]byte, 0, size)
	for len(whole) < size {
		n := min(1+r.IntN(maxChunk), size-len(whole))
		whole = append(whole, p.at(overwritten, int64(len(whole)), n)...)
	}
	if !p.holds(overwritten, 0, whole) {
		t.Fatal("chunks do not add up to the whole")
	}
	whole[r.IntN(size)] ^= 1
	if p.holds(overwritten, 0, whole) {
		t.Fatal("a changed bit passed")
	}
}
