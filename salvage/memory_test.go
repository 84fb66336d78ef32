package salvage

import (
	"testing"
	"unsafe"

	"gefs9p/blkfmt"
)

// The documentation promises how much memory a node takes that the scan has found.
func TestIndexTakesTheMemoryThatIsPromised(t *testing.T) {
	// The record, its place in byKey and in the order it is made of, and what mark has of it.
	if n := unsafe.Sizeof(record{}) + 4 + unsafe.Sizeof(blkfmt.Addr(0)) + unsafe.Sizeof(visit{}); n > 150 {
		t.Errorf("%d bytes for a node", n)
	}
	if n := unsafe.Sizeof(blkfmt.Bptr{}); n > 24 {
		t.Errorf("%d bytes for a pointer", n)
	}
	t.Logf("a record has %d bytes", unsafe.Sizeof(record{}))
}
