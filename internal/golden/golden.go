// Package golden gives tests the disks that 9front's gefs made, and what it served from them.
//
// The disks are not part of the repository: they lie in shared/golden beside it. Where they are
// missing every function here that takes a testing.TB skips the test and says so. A few of their
// blocks are in the testdata folders of blkfmt and kvfmt, for tests that must always run.
//
// A disk is 128 MiB and nearly all of it zeros: Image keeps only what is not, in chunks, so that a
// test costs what the disk holds. Offsets and lengths are bytes.
//
//	fresh      right after ream for user glenda, never mounted for writing
//	tree       several hundred files of all kinds, a directory of 3,000; cleanly halted
//	snaps      mutable and immutable snapshots, one deleted, automatic ones too
//	crash      killed between two commits
//	crash-h0   killed while the first arena headers were written; superblocks old
//	crash-sb0  only the first superblock is new
//	crash-sb1  both superblocks are new, the header copies old
//	crash-h1   header copies partly new
//
// The package imports nothing of ours, so that tests on every floor can use it. To put a disk into
// a device use CopyTo (a blkdev.Mem is an io.WriterAt) or File.
package golden

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Names returns the names of all golden disks.
func Names() []string {
	return []string{"fresh", "tree", "snaps", "crash", "crash-h0", "crash-sb0", "crash-sb1", "crash-h1"}
}

// Root returns the top folder of the repository: the nearest one upwards that has a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("golden: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("golden: no go.mod here or above")
		}
		dir = up
	}
}

// Dir returns the folder with the golden disks, or skips the test if there is none. Beside the
// disks it holds transcript.jsonl, 9P conversations with the reference; README.md there says how
// to read it.
func Dir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(Root(t)), "shared", "golden")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("golden disks are not here: no folder %s", filepath.Join("..", "shared", "golden"))
	}
	return dir
}

// chunkSize is the grain in which zeros are left out.
const chunkSize = 64 << 10

// A Disk is the content of a golden disk, held in memory without its zeros. It never changes, so
// it may be used from many goroutines at once.
type Disk struct {
	size   int64
	chunks map[int64][]byte // by offset, a multiple of chunkSize; a missing one is zeros
}

// Image unpacks the golden disk name, as in Names. It takes a few tenths of a second: unpack once
// and share the disk among subtests.
func Image(t testing.TB, name string) *Disk {
	t.Helper()
	file, err := os.Open(filepath.Join(Dir(t), name+".img.zst"))
	if err != nil {
		t.Fatalf("golden: %v", err)
	}
	defer file.Close()
	d, err := unpack(file)
	if err != nil {
		t.Fatalf("golden: disk %s: %v", name, err)
	}
	return d
}

func unpack(r io.Reader) (*Disk, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(1<<27), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	d := &Disk{chunks: make(map[int64][]byte)}
	buf, zero := make([]byte, chunkSize), make([]byte, chunkSize)
	for {
		n := 0
		var err error
		for n < len(buf) && err == nil { // not io.ReadFull: it hides a cut stream behind a short chunk
			var m int
			m, err = z.Read(buf[n:])
			n += m
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			d.chunks[d.size] = bytes.Clone(buf[:n])
		}
		d.size += int64(n)
		if err == io.EOF {
			return d, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Size returns the length of the disk.
func (d *Disk) Size() int64 { return d.size }

// ReadAt fills p from off on. It keeps the contract of io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("golden: read at %d", off)
	}
	n := 0
	for n < len(p) && off < d.size {
		base := off - off%chunkSize
		room := min(chunkSize, d.size-base) - (off - base)
		q := p[n:min(len(p), n+int(room))]
		if c := d.chunks[base]; c != nil {
			copy(q, c[off-base:])
		} else {
			clear(q)
		}
		n += len(q)
		off += int64(len(q))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Block returns a copy of the 16 KiB block at addr, which must lie on the disk.
func (d *Disk) Block(t testing.TB, addr int64) []byte {
	t.Helper()
	p := make([]byte, 16384)
	if _, err := d.ReadAt(p, addr); err != nil {
		t.Fatalf("golden: block at %#x: %v", addr, err)
	}
	return p
}

// CopyTo writes what is not zero of the disk to w, in ascending order. w must be of the disk's
// size and hold zeros.
func (d *Disk) CopyTo(w io.WriterAt) error {
	for _, off := range slices.Sorted(maps.Keys(d.chunks)) {
		if _, err := w.WriteAt(d.chunks[off], off); err != nil {
			return err
		}
	}
	return nil
}

// File writes the disk to a sparse file that goes away with the test, and returns its path. Each
// call makes a new one, so the test may change it.
func (d *Disk) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	file, err := os.Create(path)
	if err == nil {
		err = file.Truncate(d.size)
	}
	if err == nil {
		err = d.CopyTo(file)
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatalf("golden: %v", err)
	}
	return path
}
