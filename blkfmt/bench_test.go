package blkfmt_test

import (
	"testing"

	"gefs9p/blkfmt"
)

func BenchmarkMetro(b *testing.B) { benchHash(b, blkfmt.Metro{}) }
func BenchmarkSip(b *testing.B)   { benchHash(b, blkfmt.NewSip([16]byte{1, 2, 3})) }

func benchHash(b *testing.B, h blkfmt.Hasher) {
	p := make([]byte, blkfmt.BlkSize)
	for i := range p {
		p[i] = byte(i * 7)
	}
	b.SetBytes(int64(len(p)))
	var sum uint64
	for b.Loop() {
		sum += h.Sum(p)
	}
	if sum == 1 {
		b.Log(sum)
	}
}
