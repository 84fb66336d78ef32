package arena

import (
	"runtime"
	"testing"

	"gefs9p/blkfmt"
)

// TestFreeRangesTakeLittleMemory: what a free range takes decides how fragmented a large disk may be. docs/scale.md
// multiplies it.
func TestFreeRangesTakeLittleMemory(t *testing.T) {
	if raceOn {
		t.Skip("the race detector takes memory")
	}
	const n = 200_000
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	r := newRanges()
	before := live()
	for i := range n {
		if !r.insert(blkfmt.Addr(2*i+1)*blkfmt.BlkSize, blkfmt.BlkSize) {
			t.Fatal(i)
		}
	}
	each := float64(live()-before) / n
	t.Logf("%.1f bytes a free range", each)
	if each > 60 {
		t.Errorf("%.1f bytes a free range", each)
	}
	if r.count() != n {
		t.Errorf("%d ranges, want %d", r.count(), n)
	}
}
