package cli

import "testing"

func TestUnflushedWritesAreASmallPartOfMemory(t *testing.T) {
	for total, want := range map[int64]int64{0: 64 << 20, 1 << 20: 1 << 20, 64 << 20: 4 << 20, 512 << 20: 32 << 20, 1 << 30: 64 << 20, 1 << 40: 64 << 20} {
		if got := unflushed(total); got != want {
			t.Errorf("of %d bytes: %d, want %d", total, got, want)
		}
	}
}

func TestLittleMemoryMakesForSmallFramesAndFewConnections(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		total, cache int64
		msize        uint32 // 0 for the usual
	}{
		{0, 16 * mib, 0},
		{512 * mib, 128 * mib, 0},
		{24 << 30, 6 << 30, 0},
		{511 * mib, 8 * mib, mib},
		{256 * mib, 64 * mib, 256 << 10},
		{64 * mib, 16 * mib, 64 << 10},
		{64 * mib, 64 * mib, 16 << 10},
		{8 * mib, 8 * mib, 16 << 10},
	} {
		got := connLimits(c.total, c.cache)
		if got.Msize != c.msize {
			t.Errorf("%d MiB, %d of them for the cache: frames of %d bytes, want %d", c.total/mib, c.cache/mib, got.Msize, c.msize)
		}
		worst := int64(got.Conns) * (2*int64(got.Msize) + int64(got.Output) + int64(got.Held))
		if room := c.total - c.cache; c.msize > 16<<10 && worst > room {
			t.Errorf("%d MiB, %d of them for the cache: connections may take %d", c.total/mib, c.cache/mib, worst)
		}
	}
}
