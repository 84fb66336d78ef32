package bench

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// patternPeriod is the length after which the pattern repeats. It is prime, so blocks of any usual size
// that ended up in each other's place differ: the distance between two places that look alike is at
// least the period times the size of the block.
const patternPeriod = 1048573

// maxChunk is the most bytes one request of a workload carries.
const maxChunk = 1 << 20

// A pattern is what the workloads write: bytes that look random and follow from where they stand, so
// that whatever is read back can be verified without having been kept. Immutable.
type pattern struct {
	ring []byte // one period, and its start again, so that every range is contiguous
}

// newPattern makes the pattern. It is always the same one: data written by one run is verified by
// the next.
func newPattern() *pattern {
	p := &pattern{ring: make([]byte, patternPeriod+maxChunk)}
	r := rand.New(rand.NewPCG(0x6765, 0x66732e3030))
	for i := 0; i < patternPeriod; i += 8 { // the last word reaches into the repetition
		binary.LittleEndian.PutUint64(p.ring[i:], r.Uint64())
	}
	for n := patternPeriod; n < len(p.ring); {
		n += copy(p.ring[n:], p.ring[:patternPeriod])
	}
	return p
}

// A stream is one of many different contents that the pattern gives: that of a file, or of a file
// after it was overwritten.
type stream uint64

const (
	original    stream = 0
	overwritten stream = 524287
)

// small returns the content of small file i.
func small(i int) stream { return stream(271828 + uint64(i)*4099) }

// at returns n bytes, at most maxChunk, of s from offset off. The caller must not change them.
func (p *pattern) at(s stream, off int64, n int) []byte {
	i := int((uint64(s) + uint64(off)) % patternPeriod)
	return p.ring[i : i+n]
}

// holds reports whether data is what s has at off.
func (p *pattern) holds(s stream, off int64, data []byte) bool {
	for len(data) > maxChunk {
		if !p.holds(s, off, data[:maxChunk]) {
			return false
		}
		data, off = data[maxChunk:], off+maxChunk
	}
	return bytes.Equal(data, p.at(s, off, len(data)))
}
