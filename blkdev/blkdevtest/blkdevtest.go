// Package blkdevtest holds what every blkdev.Device must do, as tests for any of them.
package blkdevtest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
)

var seed = flag.Uint64("blkdev.seed", 0, "seed of the random device tests; 0 takes one from the clock")

// Rand returns the generator of a random test: seeded by the flag -blkdev.seed or, without it, by the
// clock. The seed is in the log of a test that fails.
func Rand(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-blkdev.seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// TestDevice runs the suite, each part on a fresh device. open returns a device of size bytes, open
// for reading and writing, with any contents; the suite closes it.
func TestDevice(t *testing.T, open func(t testing.TB, size int64) blkdev.Device) {
	for _, part := range []struct {
		name string
		size int64
		run  func(t *testing.T, d blkdev.Device)
	}{
		{"ReadsBackWhatWasWritten", 1<<20 + 512, readsBack},
		{"ReadStopsAtTheEnd", 100_000, readStopsAtEnd},
		{"WriteOutsideIsRefusedWhole", 100_000, writeOutside},
		{"VectorIsOneWriteOfAll", 8 << 20, vector},
		{"VectorLeavesTheBuffersAlone", 1 << 20, vectorKeepsBuffers},
		{"BuffersAreNotKept", 1 << 20, buffersNotKept},
		{"DiscardHarmsNothingElse", 1 << 20, discard},
		{"RandomOperationsMatchAModel", 1<<20 + 12345, model},
		{"ManyAtOnce", 1 << 20, concurrent},
		{"ClosedDeviceRefusesAll", 1 << 20, closed},
	} {
		t.Run(part.name, func(t *testing.T) {
			d := open(t, part.size)
			if size, err := d.Size(); err != nil || size != part.size {
				t.Fatalf("Size() = %d, %v; want %d", size, err, part.size)
			}
			part.run(t, d)
			if t.Failed() {
				d.Close()
				return
			}
			if err := d.Close(); (err != nil) != (part.name == "ClosedDeviceRefusesAll") {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// pattern returns n bytes that say where they belong.
func pattern(n int, off int64, salt byte) []byte {
	p := make([]byte, n)
	for i := range p {
		a := off + int64(i)
		p[i] = byte(a) ^ byte(a>>9)*3 ^ byte(a>>14)*7 ^ salt
	}
	return p
}

func mustWrite(t testing.TB, d blkdev.Device, p []byte, off int64) {
	t.Helper()
	if n, err := d.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
	}
}

func mustRead(t testing.TB, d blkdev.Device, n int, off int64) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{0xa5}, n)
	if m, err := d.ReadAt(p, off); m != n || (err != nil && err != io.EOF) {
		t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", n, off, m, err)
	}
	return p
}

func mustEqual(t testing.TB, got, want []byte, off int64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes at %d, want %d", len(got), off, len(want))
	}
	if bytes.Equal(got, want) {
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("byte %d is %#x, want %#x", off+int64(i), got[i], want[i])
		}
	}
}

func readsBack(t *testing.T, d blkdev.Device) {
	size, _ := d.Size()
	for i, r := range []struct{ off, n int64 }{
		{0, 16384}, {16384, 16384}, {1, 1}, {511, 2}, {16383, 2}, {32767, 16386}, {65536, 1 << 19}, {size - 1, 1},
		{size - 512, 512}, {0, size}, {size, 0}, {0, 0},
	} {
		p := pattern(int(r.n), r.off, byte(i))
		mustWrite(t, d, p, r.off)
		mustEqual(t, mustRead(t, d, int(r.n), r.off), p, r.off)
	}
	if err := d.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

func readStopsAtEnd(t *testing.T, d blkdev.Device) {
	size, _ := d.Size()
	p := pattern(int(size), 0, 0)
	mustWrite(t, d, p, 0)
	for _, r := range []struct{ off, n, want int64 }{
		{size - 10, 20, 10}, {size - 1, 1 << 16, 1}, {size, 1, 0}, {size + 1, 10, 0}, {1 << 50, 10, 0}, {size - 40_000, 50_000, 40_000},
	} {
		b := make([]byte, r.n)
		n, err := d.ReadAt(b, r.off)
		if int64(n) != r.want || err != io.EOF {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v; want %d, EOF", r.n, r.off, n, err, r.want)
			continue
		}
		if n > 0 {
			mustEqual(t, b[:n], p[r.off:r.off+r.want], r.off)
		}
	}
	if n, err := d.ReadAt(make([]byte, 10), -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt(10 bytes, -1) = %d, %v; want an error", n, err)
	}
}

func writeOutside(t *testing.T, d blkdev.Device) {
	size, _ := d.Size()
	p := pattern(int(size), 0, 0)
	mustWrite(t, d, p, 0)
	for _, r := range []struct{ off, n int64 }{
		{size - 10, 11}, {size, 1}, {size + 1, 0}, {-1, 1}, {-1, 0}, {1 << 50, 512}, {1<<63 - 1, 512}, {0, size + 1},
	} {
		b := bytes.Repeat([]byte{0xff}, int(r.n))
		if n, err := d.WriteAt(b, r.off); n != 0 || !errors.Is(err, blkdev.ErrRange) {
			t.Errorf("WriteAt(%d bytes, %d) = %d, %v; want ErrRange", r.n, r.off, n, err)
		}
		if err := d.WriteVec([][]byte{b[:r.n/2], b[r.n/2:]}, r.off); !errors.Is(err, blkdev.ErrRange) {
			t.Errorf("WriteVec(%d bytes, %d): %v; want ErrRange", r.n, r.off, err)
		}
		if err := d.Discard(r.off, r.n); !errors.Is(err, blkdev.ErrRange) {
			t.Errorf("Discard(%d, %d): %v; want ErrRange", r.off, r.n, err)
		}
	}
	if err := d.Discard(0, -1); !errors.Is(err, blkdev.ErrRange) {
		t.Errorf("Discard(0, -1): %v; want ErrRange", err)
	}
	if now, _ := d.Size(); now != size {
		t.Errorf("size changed from %d to %d", size, now)
	}
	mustEqual(t, mustRead(t, d, int(size), 0), p, 0)
	if err := d.Sync(); err != nil {
		t.Errorf("Sync after refused writes: %v", err)
	}
}

// vector writes more buffers than a system takes in one call, of all sizes, empty ones too.
func vector(t *testing.T, d blkdev.Device) {
	size, _ := d.Size()
	for _, count := range []int{0, 1, 2, 7, 8, 9, 1023, 1024, 1025, 2048, 3000} {
		const off = 777
		var bufs [][]byte
		var all []byte
		for i := range count {
			b := pattern([]int{512, 0, 1, 4096, 0, 300}[i%6], int64(len(all)), byte(count))
			bufs = append(bufs, b)
			all = append(all, b...)
		}
		n := min(int(size), off+len(all)+4096)
		want := mustRead(t, d, n, 0)
		if err := d.WriteVec(bufs, off); err != nil {
			t.Fatalf("WriteVec of %d buffers: %v", count, err)
		}
		copy(want[off:], all)
		mustEqual(t, mustRead(t, d, n, 0), want, 0)
	}
}

func vectorKeepsBuffers(t *testing.T, d blkdev.Device) {
	var bufs, want [][]byte
	for i := range 1100 {
		b := pattern(i%5*100, int64(i), 1)
		bufs, want = append(bufs, b), append(want, bytes.Clone(b))
	}
	if err := d.WriteVec(bufs, 0); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !bytes.Equal(bufs[i], want[i]) {
			t.Fatalf("buffer %d was changed by WriteVec", i)
		}
	}
}

func buffersNotKept(t *testing.T, d blkdev.Device) {
	p := pattern(3*16384, 16384, 5)
	mustWrite(t, d, p, 16384)
	want := bytes.Clone(p)
	clear(p)
	mustEqual(t, mustRead(t, d, len(want), 16384), want, 16384)

	q := bytes.Clone(want)
	if err := d.WriteVec([][]byte{q[:16384], q[16384:]}, 0); err != nil {
		t.Fatal(err)
	}
	clear(q)
	got := mustRead(t, d, len(want), 0)
	mustEqual(t, got, want, 0)
	clear(got)
	mustEqual(t, mustRead(t, d, len(want), 0), want, 0)
}

func discard(t *testing.T, d blkdev.Device) {
	size, _ := d.Size()
	for _, r := range []struct{ off, n int64 }{{65536, 65536}, {16384, 16384}, {1000, 70_000}, {0, 1}, {size - 3, 3}, {5, 0}} {
		p := pattern(int(size), 0, 9)
		mustWrite(t, d, p, 0)
		if err := d.Discard(r.off, r.n); err != nil {
			t.Fatalf("Discard(%d, %d): %v", r.off, r.n, err)
		}
		got := mustRead(t, d, int(size), 0)
		mustEqual(t, got[:r.off], p[:r.off], 0)
		mustEqual(t, got[r.off+r.n:], p[r.off+r.n:], r.off+r.n)
		mustWrite(t, d, p[r.off:r.off+r.n], r.off)
		mustEqual(t, mustRead(t, d, int(size), 0), p, 0)
	}
	if err := d.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

func model(t *testing.T, d blkdev.Device) {
	r := Rand(t)
	size, _ := d.Size()
	want := make([]byte, size)
	mustWrite(t, d, want, 0)
	span := func() (off, n int64) {
		switch r.IntN(3) {
		case 0: // blocks
			off = r.Int64N(size/16384) * 16384
			n = min(16384*(1+r.Int64N(3)), size-off)
		case 1: // near an edge of a block
			off = max(0, r.Int64N(size/16384)*16384-r.Int64N(5))
			n = min(r.Int64N(20_000), size-off)
		default:
			off = r.Int64N(size)
			n = r.Int64N(min(size-off, 100_000) + 1)
		}
		return off, n
	}
	fill := func(p []byte) {
		x := r.Uint64()
		for i := range p {
			p[i] = byte(x)
			x = x*6364136223846793005 + 1442695040888963407
			x ^= x >> 29
		}
	}
	for range 300 {
		off, n := span()
		switch r.IntN(6) {
		case 0, 1:
			fill(want[off : off+n])
			mustWrite(t, d, want[off:off+n], off)
		case 2:
			p := want[off : off+n]
			fill(p)
			var bufs [][]byte
			for len(p) > 0 {
				k := 1 + r.IntN(min(len(p), 16384))
				bufs, p = append(bufs, p[:k]), p[k:]
			}
			if err := d.WriteVec(bufs, off); err != nil {
				t.Fatal(err)
			}
		case 3:
			if err := d.Discard(off, n); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, d, want[off:off+n], off)
		case 4:
			if r.IntN(8) > 0 { // a real disk takes its time
				continue
			}
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
		default:
			mustEqual(t, mustRead(t, d, int(n), off), want[off:off+n], off)
		}
	}
	mustEqual(t, mustRead(t, d, int(size), 0), want, 0)
}

// concurrent has workers write and read blocks of their own, beside one that syncs.
func concurrent(t *testing.T, d blkdev.Device) {
	const workers, rounds, block = 4, 40, 16384
	var wg sync.WaitGroup
	errs := make(chan error, workers+1)
	for w := range workers {
		wg.Go(func() {
			got := make([]byte, 2*block)
			for i := range rounds {
				off := int64(w+workers*(i%8)) * 2 * block
				p := pattern(2*block, off, byte(i+w))
				var err error
				if i%2 == 0 {
					_, err = d.WriteAt(p, off)
				} else {
					err = d.WriteVec([][]byte{p[:block], p[block:]}, off)
				}
				if err == nil {
					_, err = d.ReadAt(got, off)
				}
				if err != nil && err != io.EOF {
					errs <- err
					return
				}
				if !bytes.Equal(got, p) {
					errs <- fmt.Errorf("worker %d round %d: read something else than was written at %d", w, i, off)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := d.Sync(); err != nil {
				errs <- err
				return
			}
			if _, err := d.Size(); err != nil {
				errs <- err
				return
			}
		}
	})
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func closed(t *testing.T, d blkdev.Device) {
	if err := d.Close(); err != nil {
		t.Fatalf("first Close: %v", err)
	}
	b := make([]byte, 512)
	_, rerr := d.ReadAt(b, 0)
	_, werr := d.WriteAt(b, 0)
	_, serr := d.Size()
	for op, err := range map[string]error{
		"ReadAt": rerr, "WriteAt": werr, "Size": serr,
		"WriteVec": d.WriteVec([][]byte{b}, 0), "Sync": d.Sync(), "Discard": d.Discard(0, 512),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after Close: %v; want os.ErrClosed", op, err)
		}
	}
}
