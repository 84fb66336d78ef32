package blkfmt

import (
	"encoding/binary"
	"math/bits"

	"github.com/dchest/siphash"
)

// A Hasher computes the checksum of a disk's blocks. Which one it is, is a property of the disk.
// Sum may be called from many goroutines at once.
type Hasher interface {
	Sum(p []byte) uint64
}

// Metro is the hash of "gefs9.00" disks: MetroHash64, variant 1, with the seed 0x6765.
type Metro struct{}

// Sum returns the hash of p.
func (Metro) Sum(p []byte) uint64 { return metro64(p, 0x6765) }

// A Sip is the keyed hash of "gefs9.sh" disks: SipHash-2-4 under a key of the disk's own, so that
// whoever stores the blocks without knowing the key cannot forge one unnoticed.
type Sip struct{ k0, k1 uint64 }

// KeySize is the length in bytes of a Sip key.
const KeySize = 16

// NewSip returns the hash under key; SipHash reads its key little-endian.
func NewSip(key [KeySize]byte) Sip {
	return Sip{binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])}
}

// Sum returns the hash of p.
func (s Sip) Sum(p []byte) uint64 { return siphash.Hash(s.k0, s.k1, p) }

// metro64 is J. Andrew Rogers' MetroHash64_1. No Go module has this variant.
func metro64(p []byte, seed uint64) uint64 {
	const (
		k0 = 0xC83A91E1
		k1 = 0x8648DBDB
		k2 = 0x7BDEC03B
		k3 = 0x2F5870A5
	)
	le := binary.LittleEndian
	ror := func(x uint64, n int) uint64 { return bits.RotateLeft64(x, -n) }

	h := (seed+k2)*k0 + uint64(len(p))
	if len(p) >= 32 {
		a, b, c, d := h, h, h, h
		for len(p) >= 64 { // two stripes a turn: a quarter faster
			s := (*[64]byte)(p)
			a = ror(a+le.Uint64(s[0:])*k0, 29) + c
			b = ror(b+le.Uint64(s[8:])*k1, 29) + d
			c = ror(c+le.Uint64(s[16:])*k2, 29) + a
			d = ror(d+le.Uint64(s[24:])*k3, 29) + b
			a = ror(a+le.Uint64(s[32:])*k0, 29) + c
			b = ror(b+le.Uint64(s[40:])*k1, 29) + d
			c = ror(c+le.Uint64(s[48:])*k2, 29) + a
			d = ror(d+le.Uint64(s[56:])*k3, 29) + b
			p = p[64:]
		}
		if len(p) >= 32 {
			a = ror(a+le.Uint64(p[0:])*k0, 29) + c
			b = ror(b+le.Uint64(p[8:])*k1, 29) + d
			c = ror(c+le.Uint64(p[16:])*k2, 29) + a
			d = ror(d+le.Uint64(p[24:])*k3, 29) + b
			p = p[32:]
		}
		c ^= ror((a+d)*k0+b, 33) * k1
		d ^= ror((b+c)*k1+a, 33) * k0
		a ^= ror((a+c)*k0+d, 33) * k1
		b ^= ror((b+d)*k1+c, 33) * k0
		h += a ^ b
	}
	if len(p) >= 16 {
		x := ror(h+le.Uint64(p)*k0, 33) * k1
		y := ror(h+le.Uint64(p[8:])*k1, 33) * k2
		x ^= ror(x*k0, 35) + y
		y ^= ror(y*k3, 35) + x
		h += y
		p = p[16:]
	}
	if len(p) >= 8 {
		h += le.Uint64(p) * k3
		h ^= ror(h, 33) * k1
		p = p[8:]
	}
	if len(p) >= 4 {
		h += uint64(le.Uint32(p)) * k3
		h ^= ror(h, 15) * k1
		p = p[4:]
	}
	if len(p) >= 2 {
		h += uint64(le.Uint16(p)) * k3
		h ^= ror(h, 13) * k1
		p = p[2:]
	}
	if len(p) >= 1 {
		h += uint64(p[0]) * k3
		h ^= ror(h, 25) * k1
	}
	h ^= ror(h, 33)
	h *= k0
	h ^= ror(h, 33)
	return h
}
