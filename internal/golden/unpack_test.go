package golden

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// sample returns bytes with zeros between, four chunks and a bit long, and the same packed.
func sample(t *testing.T) (plain, packed []byte) {
	plain = make([]byte, 4*chunkSize+777)
	for _, off := range []int{0, chunkSize - 1, chunkSize, 3*chunkSize + 5, len(plain) - 1} {
		plain[off] = byte(off) | 1
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain, w.EncodeAll(plain, nil)
}

func TestReadAtKeepsTheContractAtEveryEdge(t *testing.T) {
	plain, packed := sample(t)
	d, err := unpack(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if d.Size() != int64(len(plain)) || len(d.chunks) != 4 {
		t.Fatalf("%d bytes in %d chunks, want %d in 4", d.Size(), len(d.chunks), len(plain))
	}
	for _, off := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2*chunkSize - 7, 4*chunkSize - 3, len(plain) - 1} {
		for _, n := range []int{0, 1, 16384, chunkSize, 3*chunkSize + 5} {
			p := bytes.Repeat([]byte{0xa5}, n)
			got, err := d.ReadAt(p, int64(off))
			want := plain[off:min(off+n, len(plain))]
			if got != len(want) || !bytes.Equal(p[:got], want) {
				t.Errorf("%d bytes at %d: %d bytes, wrong ones", n, off, got)
			}
			if short := len(want) < n; short != errors.Is(err, io.EOF) || !short && err != nil {
				t.Errorf("%d bytes at %d: error %v", n, off, err)
			}
		}
	}
	if n, err := d.ReadAt(make([]byte, 1), d.Size()); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the start: no error")
	}
}

func TestUnpackRefusesCutAndChangedFiles(t *testing.T) {
	_, packed := sample(t)
	for n := range packed {
		if n == 0 {
			continue // no frame at all is an empty disk to zstd
		}
		if _, err := unpack(bytes.NewReader(packed[:n])); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(packed))
		}
	}
	packed[len(packed)-1] ^= 1 // the checksum
	if _, err := unpack(bytes.NewReader(packed)); err == nil {
		t.Error("wrong checksum: no error")
	}
}
