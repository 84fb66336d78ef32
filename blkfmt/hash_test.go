package blkfmt_test

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gefs9p/blkfmt"
)

func TestMetroKnownAnswers(t *testing.T) {
	seq := make([]byte, 63)
	for i := range seq {
		seq[i] = byte(i)
	}
	for _, tt := range []struct {
		in   []byte
		want uint64
	}{
		{nil, 0x35d244c2ba0d952f},
		{[]byte("a"), 0xea6a586ea38e2e61},
		{[]byte("ab"), 0x3d64bba71fe7542f},
		{[]byte("abc"), 0x8af9c49d69f1ad94},
		{[]byte("gefs"), 0x6aa61d8c7ba707d5},
		{[]byte("12345678"), 0xbe3e059f9e3d9df0},
		{[]byte("0123456789abcdef"), 0x623b3d33bf7de1d4},
		{[]byte(strings.Repeat("0123456789abcdef", 2)), 0xa8a4500d4462c2da},
		{seq, 0x4ec45dfccc483192},
		{make([]byte, 16384), 0x8d19d8745486446e},
	} {
		if got := (blkfmt.Metro{}).Sum(tt.in); got != tt.want {
			t.Errorf("Metro of %d bytes %.16q: %016x, want %016x", len(tt.in), tt.in, got, tt.want)
		}
	}
}

// The known answers of SipHash's authors: key 00..0f, input 00..n-1.
func TestSipKnownAnswers(t *testing.T) {
	var key [blkfmt.KeySize]byte
	for i := range key {
		key[i] = byte(i)
	}
	in := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	for n, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5,
	} {
		if got := blkfmt.NewSip(key).Sum(in[:n]); got != want {
			t.Errorf("Sip of %d bytes: %016x, want %016x", n, got, want)
		}
	}
}

// slowMetro is the hash as it is written down: a lane at a time, no unrolling.
func slowMetro(p []byte) uint64 {
	k := [4]uint64{0xC83A91E1, 0x8648DBDB, 0x7BDEC03B, 0x2F5870A5}
	ror := func(x uint64, n int) uint64 { return bits.RotateLeft64(x, 64-n) }
	take := func(n int) (x uint64) {
		for i := range n {
			x |= uint64(p[i]) << (8 * i)
		}
		p = p[n:]
		return x
	}
	h := (0x6765+k[2])*k[0] + uint64(len(p))
	if len(p) >= 32 {
		v := [4]uint64{h, h, h, h}
		for len(p) >= 32 {
			for i := range v {
				v[i] = ror(v[i]+take(8)*k[i], 29) + v[(i+2)%4]
			}
		}
		v[2] ^= ror((v[0]+v[3])*k[0]+v[1], 33) * k[1]
		v[3] ^= ror((v[1]+v[2])*k[1]+v[0], 33) * k[0]
		v[0] ^= ror((v[0]+v[2])*k[0]+v[3], 33) * k[1]
		v[1] ^= ror((v[1]+v[3])*k[1]+v[2], 33) * k[0]
		h += v[0] ^ v[1]
	}
	if len(p) >= 16 {
		x := ror(h+take(8)*k[0], 33) * k[1]
		y := ror(h+take(8)*k[1], 33) * k[2]
		x ^= ror(x*k[0], 35) + y
		y ^= ror(y*k[3], 35) + x
		h += y
	}
	for _, s := range [...]struct{ n, r int }{{8, 33}, {4, 15}, {2, 13}, {1, 25}} {
		if len(p) >= s.n {
			h += take(s.n) * k[3]
			h ^= ror(h, s.r) * k[1]
		}
	}
	h = (h ^ ror(h, 33)) * k[0]
	return h ^ ror(h, 33)
}

func TestMetroIsTheSlowOne(t *testing.T) {
	p := make([]byte, 300)
	for i := range p {
		p[i] = byte(i*i + 7*i)
	}
	for n := range p {
		if got, want := (blkfmt.Metro{}).Sum(p[:n]), slowMetro(p[:n]); got != want {
			t.Errorf("%d bytes: %016x, want %016x", n, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		if got, want := (blkfmt.Metro{}).Sum(p), slowMetro(p); got != want {
			t.Fatalf("%016x, want %016x", got, want)
		}
	})
}

// Every bit of a block counts, for both hashes, and the key for Sip.
func TestHashesSeeEveryByte(t *testing.T) {
	var key, other [blkfmt.KeySize]byte
	binary.LittleEndian.PutUint64(other[8:], 1)
	p := make([]byte, blkfmt.BlkSize)
	for i := range p {
		p[i] = byte(i * 31)
	}
	if blkfmt.NewSip(key).Sum(p) == blkfmt.NewSip(other).Sum(p) {
		t.Error("Sip does not see the end of its key")
	}
	for _, h := range []blkfmt.Hasher{blkfmt.Metro{}, blkfmt.NewSip(key)} {
		want := h.Sum(p)
		for i := 0; i < len(p); i += 61 {
			p[i] ^= 1 << (i % 8)
			if h.Sum(p) == want {
				t.Errorf("%T does not see byte %d", h, i)
			}
			p[i] ^= 1 << (i % 8)
		}
	}
}
