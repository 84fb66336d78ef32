package kvfmt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"gefs9p/blkfmt"
)

// A Clear says that a file was removed or truncated and that its data blocks are still to be
// cleared. It stands in the tree whose blocks it speaks of, as a configuration value that the
// reference does not know and leaves alone, so that a crash does not forget it.
//
//	key    Kconf "gefs9p.clear." qid in 16 hexadecimal digits
//	value  gen[8] from[8] to[8]
//
// It covers the blocks at offsets From ≤ off < To, in bytes, that were born no later than Gen: a
// server that does not know the record may have let the file grow again.
type Clear struct {
	Qid      uint64
	Gen      blkfmt.Gen
	From, To uint64
}

const clearPrefix = "gefs9p.clear."

// AppendClearPrefix appends the prefix that the keys of all Clear records share.
func AppendClearPrefix(p []byte) []byte { return AppendConfKey(p, clearPrefix) }

// AppendKey appends the record's key; only Qid counts.
func (c Clear) AppendKey(p []byte) []byte {
	return fmt.Appendf(AppendClearPrefix(p), "%016x", c.Qid)
}

// AppendValue appends the record's value.
func (c Clear) AppendValue(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint64(p, uint64(c.Gen))
	p = be.AppendUint64(p, c.From)
	return be.AppendUint64(p, c.To)
}

// IsClear reports whether key is that of a Clear record.
func IsClear(key []byte) bool {
	return len(key) > 0 && key[0] == Kconf && bytes.HasPrefix(key[1:], []byte(clearPrefix))
}

// GetClear decodes a Clear record, strictly.
func GetClear(key, val []byte) (Clear, error) {
	var c Clear
	if !IsClear(key) || len(val) != 24 {
		return c, fmt.Errorf("%w: record of a file to be cleared, %q = %x", ErrValue, key, val)
	}
	if _, err := fmt.Sscanf(string(key[1+len(clearPrefix):]), "%016x", &c.Qid); err != nil || !bytes.Equal(c.AppendKey(nil), key) {
		return c, fmt.Errorf("%w: record of a file to be cleared, key %q", ErrKey, key)
	}
	be := binary.BigEndian
	c.Gen, c.From, c.To = blkfmt.Gen(be.Uint64(val)), be.Uint64(val[8:]), be.Uint64(val[16:])
	return c, nil
}
