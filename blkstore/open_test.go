package blkstore

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

// copyBlocks copies blocks from one disk to another.
func copyBlocks(t *testing.T, to, from blkdev.Device, list ...blkfmt.Addr) {
	t.Helper()
	buf := make([]byte, blkfmt.BlkSize)
	for _, a := range list {
		if _, err := from.ReadAt(buf, int64(a)); err != nil {
			t.Fatal(err)
		}
		if _, err := to.WriteAt(buf, int64(a)); err != nil {
			t.Fatal(err)
		}
	}
}

// generations returns a disk after each of n commits: disk i is of generation i and has i changes.
func generations(t *testing.T, n int) []*blkdev.Mem {
	dev := blkdev.NewMem(diskSize)
	y := newToy(t, dev, Options{})
	var list []*blkdev.Mem
	for i := range n {
		if i > 0 {
			y.must(y.set(uint64(i), byte(i)))
		}
		y.must(y.commit())
		list = append(list, dev.Clone())
	}
	y.close()
	return list
}

// Pitfalls 52, 53.
func TestOpenTakesTheNewestSuperblockThatLeadsToAWholeDisk(t *testing.T) {
	disks := generations(t, 4)
	backup := blkfmt.BackupAddr(diskSize)
	open := func(dev blkdev.Device) *toy {
		t.Helper()
		y, err := openToy(t, dev, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y.content(); err != nil {
			t.Error(err)
		}
		if err := y.audit(); err != nil {
			t.Error(err)
		}
		return y
	}
	first, second := func() ([]blkfmt.Addr, []blkfmt.Addr) {
		y := open(disks[0].Clone())
		defer y.close()
		return headers(y.st.arenas.Stat())
	}()
	zero := blkdev.NewMem(diskSize)
	for _, tt := range []struct {
		name  string
		spoil func(dev *blkdev.Mem)
		want  uint64
		heals bool
	}{
		{"whole", func(dev *blkdev.Mem) {}, 3, false},
		{"first superblock destroyed", func(dev *blkdev.Mem) { copyBlocks(t, dev, zero, 0) }, 3, true},
		{"second superblock destroyed", func(dev *blkdev.Mem) { copyBlocks(t, dev, zero, backup) }, 3, true},
		{"second superblock old", func(dev *blkdev.Mem) { copyBlocks(t, dev, disks[2], backup) }, 3, true},
		{"second superblock very old", func(dev *blkdev.Mem) { copyBlocks(t, dev, disks[0], backup) }, 3, true},
		{"first superblock old, its headers gone", func(dev *blkdev.Mem) { copyBlocks(t, dev, disks[2], 0) }, 3, true},
		{"second superblock old, and its headers", func(dev *blkdev.Mem) {
			// Both lead to a whole disk, as between the steps of a commit.
			copyBlocks(t, dev, disks[2], backup)
			copyBlocks(t, dev, disks[2], second...)
		}, 3, true},
		{"first superblock old, and its headers", func(dev *blkdev.Mem) {
			copyBlocks(t, dev, disks[2], 0)
			copyBlocks(t, dev, disks[2], first...)
		}, 3, true},
		{"headers old", func(dev *blkdev.Mem) { copyBlocks(t, dev, disks[2], first...) }, 3, true},
		{"one header destroyed", func(dev *blkdev.Mem) { copyBlocks(t, dev, zero, first[3]) }, 3, true},
		{"copies of headers old", func(dev *blkdev.Mem) { copyBlocks(t, dev, disks[2], second...) }, 3, true},
		{"one copy of a header destroyed", func(dev *blkdev.Mem) { copyBlocks(t, dev, zero, second[0]) }, 3, true},
		{"superblocks old, headers new", func(dev *blkdev.Mem) {
			copyBlocks(t, dev, disks[2], 0, backup)
			copyBlocks(t, dev, disks[2], second...)
		}, 2, true},
		{"superblock new, its headers torn, the old ones whole", func(dev *blkdev.Mem) {
			// No power cut does this: the newest superblock must not be trusted before its arenas load.
			copyBlocks(t, dev, disks[2], backup)
			copyBlocks(t, dev, disks[2], second...)
			copyBlocks(t, dev, zero, first...)
		}, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := disks[3].Clone()
			tt.spoil(dev)
			y := open(dev)
			if y.n != tt.want {
				t.Errorf("opened state %d, want %d", y.n, tt.want)
			}
			if y.st.NeedsCommit() != tt.heals {
				t.Errorf("wants a commit: %v", !tt.heals)
			}
			// Reading is no reason to write: opened and closed, the disk is as it was.
			y.close()
			if y = open(dev); y.st.NeedsCommit() != tt.heals {
				t.Error("healed without a commit")
			}
			y.must(y.commit())
			y.close()
			if y = open(dev); y.st.NeedsCommit() || y.n != tt.want {
				t.Errorf("after a commit: state %d, wants another commit: %v", y.n, y.st.NeedsCommit())
			}
		})
	}
}

func TestDisksThatCannotBeOpened(t *testing.T) {
	disks := generations(t, 3)
	backup := blkfmt.BackupAddr(diskSize)
	zero := blkdev.NewMem(diskSize)
	junk := blkdev.NewMem(diskSize)
	for at := int64(0); at < diskSize; at += 1 << 20 {
		junk.WriteAt([]byte(strings.Repeat("junk", 4096)), at)
	}
	clone := func(spoil func(dev *blkdev.Mem)) *blkdev.Mem {
		dev := disks[2].Clone()
		spoil(dev)
		return dev
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	broken := func(err error) bool { return corrupt(err) != nil }
	flip := func(dev *blkdev.Mem, at int64) {
		var b [1]byte
		dev.ReadAt(b[:], at)
		b[0] ^= 1
		dev.WriteAt(b[:], at)
	}
	for name, tt := range map[string]struct {
		dev blkdev.Device
		ok  func(error) bool
	}{
		"empty":     {blkdev.NewMem(0), is(blkfmt.ErrNotGefs)},
		"tiny":      {blkdev.NewMem(100), is(blkfmt.ErrNotGefs)},
		"one block": {blkdev.NewMem(blkfmt.BlkSize), is(blkfmt.ErrNotGefs)},
		"zeros":     {zero, is(blkfmt.ErrNotGefs)},
		"something": {junk, is(blkfmt.ErrNotGefs)},
		"other version": {clone(func(dev *blkdev.Mem) {
			dev.WriteAt([]byte("gefs0001"), 0)
			dev.WriteAt([]byte("gefs0001"), int64(backup))
		}), func(err error) bool { var v *blkfmt.VersionError; return errors.As(err, &v) }},
		"both superblocks damaged": {clone(func(dev *blkdev.Mem) {
			flip(dev, 60)
			flip(dev, int64(backup)+60)
		}), broken},
		"both headers of an arena damaged": {clone(func(dev *blkdev.Mem) {
			flip(dev, blkfmt.BlkSize+20)
			flip(dev, 2*blkfmt.BlkSize+20)
		}), broken},
		"unreadable": {func() blkdev.Device {
			f := blkdev.NewFault(disks[2].Clone())
			f.Fail(blkdev.Rule{Op: blkdev.OpRead, Forever: true})
			return f
		}(), is(ErrIO)},
	} {
		st, err := Open(tt.dev, Options{})
		if err == nil {
			st.Close()
			t.Errorf("%s: opened", name)
		} else if !tt.ok(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A disk cut off behind its end must be refused or open as it was; what is missing must not be
// written over by a superblock that finds its place inside an arena.
func TestTruncatedDevice(t *testing.T) {
	whole := generations(t, 3)[2]
	for _, cut := range []int64{1, 512, blkfmt.BlkSize - 1, blkfmt.BlkSize, 2 * blkfmt.BlkSize, 3 * blkfmt.BlkSize, 1 << 20, 64 << 20, diskSize - 2*blkfmt.BlkSize} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			dev := blkdev.NewMem(diskSize - cut)
			buf := make([]byte, blkfmt.BlkSize)
			for at := int64(0); at < diskSize-cut; at += blkfmt.BlkSize {
				n, _ := whole.ReadAt(buf[:min(blkfmt.BlkSize, diskSize-cut-at)], at)
				if strings.Trim(string(buf[:n]), "\x00") != "" {
					dev.WriteAt(buf[:n], at)
				}
			}
			y, err := openToy(t, dev, Options{})
			if err != nil {
				if corrupt(err) == nil {
					t.Errorf("refused with %v", err)
				}
				return
			}
			last := y.st.arenas.Stat()[y.st.arenas.Len()-1]
			end := last.Addr + blkfmt.ArenaOverhead + blkfmt.Addr(last.Size) - blkfmt.ArenaUnused
			if backup := blkfmt.BackupAddr(diskSize - cut); backup < end {
				t.Fatalf("the second superblock's place %v is inside the last arena, which ends at %v", backup, end)
			}
			for k := range uint64(200) {
				y.must(y.set(k, byte(k+1)))
			}
			y.must(y.commit())
			y.close()
			again, err := openToy(t, dev, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if again.st.NeedsCommit() {
				t.Error("not healed")
			}
			y.must(again.audit())
		})
	}
}

// A hole is a large device that keeps only what was written.
type hole struct {
	mu   sync.Mutex
	size int64
	blks map[int64][]byte
}

func (h *hole) ReadAt(p []byte, off int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if off < 0 || off+int64(len(p)) > h.size {
		return 0, io.EOF
	}
	for i := 0; i < len(p); {
		at := off + int64(i)
		n := min(len(p)-i, int(blkfmt.BlkSize-at%blkfmt.BlkSize))
		if b := h.blks[at/blkfmt.BlkSize]; b != nil {
			copy(p[i:i+n], b[at%blkfmt.BlkSize:])
		} else {
			clear(p[i : i+n])
		}
		i += n
	}
	return len(p), nil
}

func (h *hole) WriteAt(p []byte, off int64) (int, error) {
	return len(p), h.WriteVec([][]byte{p}, off)
}

func (h *hole) WriteVec(bufs [][]byte, off int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range bufs {
		for ; len(p) > 0; p = p[blkfmt.BlkSize:] {
			if off%blkfmt.BlkSize != 0 || off+blkfmt.BlkSize > h.size {
				return fmt.Errorf("write of %d bytes at %d", len(p), off)
			}
			h.blks[off/blkfmt.BlkSize] = append([]byte(nil), p[:blkfmt.BlkSize]...)
			off += blkfmt.BlkSize
		}
	}
	return nil
}

func (h *hole) Sync() error                { return nil }
func (h *hole) Discard(off, n int64) error { return nil }
func (h *hole) Size() (int64, error)       { return h.size, nil }
func (h *hole) Close() error               { return nil }

func TestFormatOfEverySizeClass(t *testing.T) {
	const tib = 1 << 40
	for _, tt := range []struct {
		size   int64
		arenas int
	}{
		{blkfmt.MinDevice, 8},
		{blkfmt.MinDevice + 1, 8},
		{blkfmt.MinDevice + blkfmt.BlkSize, 8},
		{blkfmt.MinDevice + 8*blkfmt.BlkSize - 1, 8},
		{1<<30 + 4097, 8},
		{tib, 8},
		{32*tib + 2*blkfmt.BlkSize, 8},
		{33 * tib, 9},
		{127 * tib, 32},
		{500 * tib, 32},
	} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) {
			dev := &hole{size: tt.size, blks: make(map[int64][]byte)}
			y := newToy(t, dev, Options{})
			if n := y.st.arenas.Len(); n != tt.arenas {
				t.Errorf("%d arenas, want %d", n, tt.arenas)
			}
			for k := range uint64(20) {
				y.must(y.set(k, byte(k+1)))
			}
			y.must(y.commit())
			y.must(y.set(3, 0))
			y.must(y.commit())
			y.close()
			again, err := openToy(t, dev, Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.content()
			if err != nil || len(got) != 19 {
				t.Errorf("%d keys, %v", len(got), err)
			}
			if again.st.DeviceSize() != tt.size || again.st.NeedsCommit() || again.n != 21 {
				t.Errorf("opened: state %d of %d bytes, wants a commit: %v", again.n, again.st.DeviceSize(), again.st.NeedsCommit())
			}
			again.close()
			delete(dev.blks, 0) // the second superblock is where it should be
			if again, err = openToy(t, dev, Options{}); err != nil {
				t.Fatal(err)
			}
			again.must(again.commit())
			if dev.blks[0] == nil {
				t.Error("the first superblock was not healed")
			}
		})
	}
	for _, size := range []int64{0, 1, blkfmt.BlkSize, 1 << 20, blkfmt.MinDevice - 1} {
		if _, err := Format(&hole{size: size}, Options{}, false, false); !errors.Is(err, blkfmt.ErrTooSmall) {
			t.Errorf("format of %d bytes: %v", size, err)
		}
	}
}

// formatSip makes a disk with a keyed hash.
func formatSip(t *testing.T, dev blkdev.Device, key *[blkfmt.KeySize]byte, inside bool) {
	t.Helper()
	st, err := Format(dev, Options{Key: key}, true, inside)
	if err != nil {
		t.Fatal(err)
	}
	y := &toy{t: t, st: st, data: make(map[uint64]blkfmt.Bptr), root: blkfmt.NoPtr, hist: []map[uint64]byte{{}}}
	y.begin()
	y.must(y.plant())
	for k := range uint64(5) {
		y.must(y.set(k, 7))
	}
	y.must(y.commit())
	y.must(y.set(1, 8))
	y.must(y.commit())
	y.close()
}

func TestKeyedDisks(t *testing.T) {
	key := &[blkfmt.KeySize]byte{1, 2, 3, 15: 9}
	wrong := &[blkfmt.KeySize]byte{1, 2, 3, 15: 8}
	for _, inside := range []bool{false, true} {
		dev := blkdev.NewMem(diskSize)
		formatSip(t, dev, key, inside)
		y, err := openToy(t, dev, Options{Key: key})
		if err != nil {
			t.Fatalf("key inside %v: %v", inside, err)
		}
		if v, err := y.read(1); v != 8 || err != nil {
			t.Errorf("key inside %v: %d, %v", inside, v, err)
		}
		y.must(y.audit())
		bp := y.data[1]
		y.close()

		_, err = openToy(t, dev, Options{})
		if inside && err != nil || !inside && !errors.Is(err, blkfmt.ErrNoKey) {
			t.Errorf("key inside %v, opened without: %v", inside, err)
		}
		if _, err = openToy(t, dev, Options{Key: wrong}); !inside && err == nil {
			t.Error("opened with a wrong key")
		}
		// Hashes are keyed: a block with a forged MetroHash is none.
		forged := dev.Clone()
		forged.WriteAt([]byte{1}, int64(bp.Addr))
		if y, err = openToy(t, forged, Options{Key: key}); err != nil {
			t.Fatal(err)
		}
		if _, err := y.read(1); corrupt(err) == nil {
			t.Errorf("a changed block was read: %v", err)
		}
	}
	// Whoever gives a key wants a disk that nobody without it has written.
	plain := generations(t, 1)[0]
	if _, err := openToy(t, plain, Options{Key: key}); err == nil {
		t.Error("a disk without a key was opened with one")
	}
}

func TestReadOnlyStoreNeverWrites(t *testing.T) {
	disks := generations(t, 3)
	copyBlocks(t, disks[2], disks[1], blkfmt.BackupAddr(diskSize)) // something to heal
	dev := &spy{Device: disks[2]}
	y, err := openToy(t, dev, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if y.st.CanWrite() || y.st.NeedsCommit() {
		t.Errorf("can write: %v, wants a commit: %v", y.st.CanWrite(), y.st.NeedsCommit())
	}
	if _, err := y.content(); err != nil {
		t.Error(err)
	}
	if err := y.set(1, 1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a change: %v", err)
	}
	if err := y.commit(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a commit: %v", err)
	}
	y.close()
	if calls := dev.take(); len(calls) > 0 {
		t.Errorf("wrote %v", calls)
	}
}
