package blkfmt_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"gefs9p/blkfmt"
)

func TestReamGeometryOfTheReference(t *testing.T) {
	const tib = 1 << 40
	for _, tt := range []struct {
		name    string
		length  int64
		count   int
		size    int64
		headers map[int]blkfmt.Addr
		backup  blkfmt.Addr
	}{
		{"256 MiB", 268435456, 8, 0x1ff4000, map[int]blkfmt.Addr{
			0: 0x4000, 1: 0x2000000, 2: 0x3ffc000, 3: 0x5ff8000, 4: 0x7ff4000, 5: 0x9ff0000, 6: 0xbfec000, 7: 0xdfe8000,
		}, 0xfffc000},
		{"no whole block", 200000001, 8, 0x17cc000, map[int]blkfmt.Addr{0: 0x4000, 7: 0xa6d0000}, 200000001/16384*16384 - 16384},
		{"smallest", 134234112, 8, 1021 * 16384, map[int]blkfmt.Addr{0: 0x4000, 7: 0x4000 + 7*1023*16384}, 0x8000000},
		{"eight arenas until 32 TiB", 32*tib + 2*16384, 8, 4*tib - 32768, nil, 32*tib + 16384},
		{"nine from there on", 32*tib + 3*16384, 9, (32*tib+16384)/9/16384*16384 - 32768, nil, 32*tib + 2*16384},
		{"32 at most", 1000 * tib, 32, (1000*tib-32768)/32/16384*16384 - 32768, nil, 1000*tib - 16384},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := blkfmt.ReamGeometry(tt.length)
			if err != nil {
				t.Fatal(err)
			}
			if g.First != 0x4000 || g.Count != tt.count || g.Size != tt.size || g.Backup != tt.backup {
				t.Errorf("%+v, want %d arenas of %#x, backup at %v", g, tt.count, tt.size, tt.backup)
			}
			for i, want := range tt.headers {
				if got := g.Header(i); got != want {
					t.Errorf("header %d at %v, want %v", i, got, want)
				}
			}
			if got := blkfmt.BackupAddr(tt.length); got != tt.backup {
				t.Errorf("BackupAddr is %v, want %v", got, tt.backup)
			}
		})
	}
}

func TestReamRefusesSmallDisks(t *testing.T) {
	for _, n := range []int64{blkfmt.MinDevice - 1, 16384, 1, 0} {
		if _, err := blkfmt.ReamGeometry(n); !errors.Is(err, blkfmt.ErrTooSmall) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestGrowGeometryOfTheReference(t *testing.T) {
	old, err := blkfmt.ReamGeometry(256 << 20)
	if err != nil {
		t.Fatal(err)
	}
	end := old.Header(old.Count)
	g, err := blkfmt.GrowGeometry(end, 512<<20)
	if err != nil {
		t.Fatal(err)
	}
	if g.Count != 4 || g.Size != 0x3ffc000 || g.Backup != 512<<20-16384 {
		t.Errorf("%+v", g)
	}
	for i, want := range []blkfmt.Addr{0xffe4000, 0x13fe8000, 0x17fec000, 0x1bff0000} {
		if got := g.Header(i); got != want {
			t.Errorf("header %d at %v, want %v", i, got, want)
		}
	}
	enough := int64(end) + blkfmt.MinGrow + 2*blkfmt.BlkSize
	if _, err := blkfmt.GrowGeometry(end, enough); err != nil {
		t.Errorf("just enough: %v", err)
	}
	for _, n := range []int64{enough - 1, 256 << 20, 1, 0} {
		if _, err := blkfmt.GrowGeometry(end, n); !errors.Is(err, blkfmt.ErrNoGrowth) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := blkfmt.GrowGeometry(blkfmt.NoAddr, 512<<20); !errors.Is(err, blkfmt.ErrNoGrowth) {
		t.Errorf("after an arena at nowhere: %v", err)
	}
}

// Arenas lie back to back between the superblocks, and what is left over is less than a block for
// each. Growing leaves one more, as the reference does.
func TestGeometryFitsAnyDevice(t *testing.T) {
	check := func(t *rapid.T, g blkfmt.Geometry, length int64, spare blkfmt.Addr) {
		if !g.First.Block() || g.Size <= 0 || g.Size%blkfmt.BlkSize != 0 || g.Stride() != g.Size+blkfmt.ArenaOverhead {
			t.Fatalf("%+v", g)
		}
		end := g.Header(g.Count)
		if left := g.Backup - end; left < spare || left >= spare+blkfmt.Addr(g.Count)*blkfmt.BlkSize {
			t.Fatalf("arenas end at %v, backup is at %v", end, g.Backup)
		}
		if g.Backup != blkfmt.BackupAddr(length) || int64(g.Backup)+blkfmt.BlkSize > length {
			t.Fatalf("backup at %v of %d", g.Backup, length)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(blkfmt.MinDevice, 1<<60).Draw(t, "length")
		g, err := blkfmt.ReamGeometry(length)
		if err != nil {
			t.Fatal(err)
		}
		if g.Count < 8 || g.Count > 32 {
			t.Fatalf("%d arenas", g.Count)
		}
		check(t, g, length, 0)
		more := length + rapid.Int64Range(blkfmt.MinGrow+2*blkfmt.BlkSize, 1<<60).Draw(t, "more")
		if g, err = blkfmt.GrowGeometry(g.Header(g.Count), more); err != nil {
			t.Fatal(err)
		}
		check(t, g, more, blkfmt.BlkSize)
	})
}

func TestBackupNeedsTwoBlocks(t *testing.T) {
	for _, n := range []int64{0, 1, 16384, 32767} {
		if a := blkfmt.BackupAddr(n); a > 0 {
			t.Errorf("%d bytes have a backup at %v", n, a)
		}
	}
	if a := blkfmt.BackupAddr(32768); a != 16384 {
		t.Errorf("backup of two blocks at %v", a)
	}
}
