package logfmt

import (
	"encoding/binary"
	"fmt"

	"gefs9p/blkfmt"
)

// DeadMax is the number of addresses a deadlist block holds before a new one is started.
const DeadMax = blkfmt.LogFull/8 + 1

// AppendDead appends a dead block's address to the entries of a deadlist block: 8 bytes, nothing
// else.
func AppendDead(p []byte, a blkfmt.Addr) []byte {
	return binary.BigEndian.AppendUint64(p, uint64(a))
}

// Dead appends the addresses in the entries p of a deadlist block to dst and returns it, newest
// address last. It fails if p is no whole number of addresses or one of them is no block address.
func Dead(dst []blkfmt.Addr, p []byte) ([]blkfmt.Addr, error) {
	if len(p)%8 != 0 {
		return dst, fmt.Errorf("%w: deadlist of %d bytes: not whole addresses", ErrEntry, len(p))
	}
	for ; len(p) > 0; p = p[8:] {
		a := blkfmt.Addr(binary.BigEndian.Uint64(p))
		if !a.Block() {
			return dst, fmt.Errorf("%w: deadlist holds %#x: not a block address", ErrEntry, uint64(a))
		}
		dst = append(dst, a)
	}
	return dst, nil
}
