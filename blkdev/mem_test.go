package blkdev_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
)

// TestClonesAreIndependent keeps a family of clones and a plain array for each.
func TestClonesAreIndependent(t *testing.T) {
	r := blkdevtest.Rand(t)
	const size = 2<<20 + 1000
	type pair struct {
		m    *blkdev.Mem
		want []byte
	}
	family := []pair{{blkdev.NewMem(size), make([]byte, size)}}
	for range 400 {
		p := family[r.IntN(len(family))]
		off := r.Int64N(size)
		n := min(r.Int64N(50_000), size-off)
		switch r.IntN(5) {
		case 0:
			c := pair{p.m.Clone(), bytes.Clone(p.want)}
			if len(family) < 8 {
				family = append(family, c)
			} else {
				family[r.IntN(len(family))] = c
			}
		case 1:
			off, n = off&^16383, min(32768, size-off&^16383)
			fallthrough
		case 2, 3:
			b := bytes.Repeat([]byte{byte(r.Uint32())}, int(n))
			copy(p.want[off:], b)
			if _, err := p.m.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
		case 4:
			clear(p.want[off : off+n])
			if err := p.m.Discard(off, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, p := range family {
		got := make([]byte, size)
		if _, err := p.m.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, p.want) {
			t.Errorf("clone %d holds something else than was written to it", i)
		}
		other := family[r.IntN(len(family))]
		if same, _ := p.m.Equal(other.m); same != bytes.Equal(p.want, other.want) {
			t.Errorf("clone %d: Equal says %v", i, same)
		}
	}
}

func TestCloneWhileOthersReadAndWrite(t *testing.T) {
	m := blkdev.NewMem(1 << 20)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(w)}, 16384)
			for i := range 100 {
				off := int64(i%64) * 16384
				var err error
				switch w {
				case 0:
					_, err = m.WriteAt(p, off)
				case 1:
					_, err = m.ReadAt(p, off)
				case 2:
					_, err = m.Clone().WriteAt(p, off)
				}
				if err != nil && err != io.EOF {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestMemoryImageSurvivesTheRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 16383, 16384, 16385, 3<<20 + 17} {
		want := make([]byte, size)
		for i := 0; i < size; i += 40_000 { // leaves some blocks zero
			want[i] = byte(i) | 1
		}
		m, err := blkdev.ReadMem(iotest.HalfReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := m.Size(); n != int64(size) {
			t.Errorf("size %d, want %d", n, size)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer // of a closed disk
		if n, err := m.WriteTo(&got); n != int64(size) || err != nil {
			t.Errorf("WriteTo: %d, %v", n, err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes came back changed", size)
		}
	}
	bad := errors.New("bad cable")
	if _, err := blkdev.ReadMem(iotest.ErrReader(bad)); !errors.Is(err, bad) {
		t.Errorf("ReadMem of a reader that fails: %v", err)
	}
}

func TestResizeBringsNothingBack(t *testing.T) {
	const size = 3<<20 + 100
	full := bytes.Repeat([]byte{1}, size)
	for _, small := range []int64{0, 1, 100, 16384, 1 << 20, 1<<20 + 1, 3 << 20, size} {
		m, err := blkdev.ReadMem(bytes.NewReader(full))
		if err != nil {
			t.Fatal(err)
		}
		clone := m.Clone()
		m.Resize(small)
		m.Resize(5 << 20)
		got := make([]byte, 5<<20)
		if _, err := m.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:small], full[:small]) || bytes.Count(got[small:], []byte{0}) != len(got)-int(small) {
			t.Errorf("cut to %d and made larger: wrong contents", small)
		}
		b := make([]byte, size)
		if _, err := clone.ReadAt(b, 0); err != nil || !bytes.Equal(b, full) {
			t.Errorf("cut to %d: the clone changed too, or %v", small, err)
		}
	}
}

func TestEqualFindsTheFirstDifference(t *testing.T) {
	a := blkdev.NewMem(4 << 20)
	b := a.Clone()
	if _, err := b.WriteAt(make([]byte, 100_000), 5000); err != nil { // zeros, but not absent
		t.Fatal(err)
	}
	if same, off := a.Equal(b); !same {
		t.Errorf("written zeros differ from absent ones at %d", off)
	}
	for _, at := range []int64{4<<20 - 1, 1<<20 + 16384, 1<<20 - 1, 3} {
		if _, err := b.WriteAt([]byte{1}, at); err != nil {
			t.Fatal(err)
		}
		if same, off := a.Equal(b); same || off != at {
			t.Errorf("Equal = %v, %d; want false, %d", same, off, at)
		}
	}
	if same, off := a.Equal(blkdev.NewMem(1 << 20)); same || off != 1<<20 {
		t.Errorf("of a smaller disk: %v, %d", same, off)
	}
}

func BenchmarkCloneAndWriteBlock(b *testing.B) {
	p := make([]byte, 16384)
	m := blkdev.NewMem(1 << 30)
	for off := int64(0); off < 1<<30; off += 1 << 18 {
		m.WriteAt(p, off)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := m.Clone().WriteAt(p, int64(i)%65536*16384); err != nil {
			b.Fatal(err)
		}
	}
}
