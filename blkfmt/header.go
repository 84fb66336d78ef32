package blkfmt

import (
	"encoding/binary"
	"fmt"
)

// An ArenaHdr is an arena's header. It stands at the arena's first block, and again at the second;
// both copies are the same bytes when both are current.
//
//	type[2]=5 log.addr[8] log.hash[8] size[8] used[8]
//
// The hash that covers the whole block is in the superblock.
type ArenaHdr struct {
	Log  Bptr  // first block of the allocation log; Hash is informational, Gen is not stored
	Size int64 // bytes of the body
	Used int64 // bytes of the body that are not free, as of the last barrier; the log decides
}

// Encode writes h to the block p and zeros the rest.
func (h *ArenaHdr) Encode(p []byte) {
	clear(p)
	be := binary.BigEndian
	be.PutUint16(p, uint16(Arena))
	be.PutUint64(p[2:], uint64(h.Log.Addr))
	be.PutUint64(p[10:], h.Log.Hash)
	be.PutUint64(p[18:], uint64(h.Size))
	be.PutUint64(p[26:], uint64(h.Used))
}

// maxSize bounds an arena, so that sums of an address on the device and a size cannot overflow.
const maxSize = 1 << 60

// DecodeArenaHdr reads the arena header p, found at addr. It does not verify the hash, nor that the
// arena and its log lie on the device. All errors are *CorruptError.
func DecodeArenaHdr(p []byte, addr Addr) (*ArenaHdr, error) {
	bad := func(format string, arg ...any) error {
		return &CorruptError{Addr: addr, Type: Arena, What: fmt.Sprintf(format, arg...)}
	}
	if len(p) != BlkSize {
		return nil, bad("%d bytes, not %d", len(p), BlkSize)
	}
	be := binary.BigEndian
	if t := Type(be.Uint16(p)); t != Arena {
		return nil, bad("type is %d", uint16(t))
	}
	h := &ArenaHdr{
		Log:  Bptr{Addr: Addr(be.Uint64(p[2:])), Hash: be.Uint64(p[10:]), Gen: NoGen},
		Size: int64(be.Uint64(p[18:])),
		Used: int64(be.Uint64(p[26:])),
	}
	if h.Size < 4*BlkSize || h.Size%BlkSize != 0 || h.Size > maxSize {
		return nil, bad("size %d", h.Size)
	}
	if !h.Log.Addr.Block() {
		return nil, bad("log at %v", h.Log.Addr)
	}
	return h, nil
}

// A LogHdr heads a log block and a deadlist block.
//
//	type[2] size[2] hash[8] chain[24]
//
// The hash covers the size bytes after the header and nothing else: the header itself and the
// pointer that led here are not guarded by it.
type LogHdr struct {
	Type  Type
	Size  int  // bytes of entries
	Chain Bptr // next block of the log, next older block of the deadlist; Addr is NoAddr at the end
}

// EncodeLogHdr writes the header of a log or deadlist block whose entries stand at p[LogHdSize:],
// with their hash. It panics if h.Size is out of range: that is the caller's count, not bad bytes.
func EncodeLogHdr(p []byte, h LogHdr, hash Hasher) {
	if h.Size < 0 || h.Size > LogSpc {
		panic(fmt.Sprintf("log block of %d bytes", h.Size))
	}
	be := binary.BigEndian
	be.PutUint16(p, uint16(h.Type))
	be.PutUint16(p[2:], uint16(h.Size))
	be.PutUint64(p[4:], hash.Sum(p[LogHdSize:LogHdSize+h.Size]))
	h.Chain.Put(p[12:])
}

// DecodeLogHdr reads and verifies a log or deadlist block found at addr. Its entries are
// p[LogHdSize:LogHdSize+Size]. As nothing guards the header, a chain may lead astray: to a block of
// another list, or in a circle. All errors are *CorruptError.
func DecodeLogHdr(p []byte, t Type, hash Hasher, addr Addr) (LogHdr, error) {
	if len(p) != BlkSize {
		return LogHdr{}, &CorruptError{Addr: addr, Type: t, What: fmt.Sprintf("%d bytes", len(p))}
	}
	be := binary.BigEndian
	h := LogHdr{Type: Type(be.Uint16(p)), Size: int(be.Uint16(p[2:])), Chain: GetPtr(p[12:])}
	if h.Type != t {
		return LogHdr{}, &CorruptError{Addr: addr, Type: t, What: fmt.Sprintf("type is %d", uint16(h.Type))}
	}
	if h.Size > LogSpc {
		return LogHdr{}, &CorruptError{Addr: addr, Type: t, What: fmt.Sprintf("%d bytes of entries, at most %d fit", h.Size, LogSpc)}
	}
	if h.Chain.Addr != NoAddr && !h.Chain.Addr.Block() {
		return LogHdr{}, &CorruptError{Addr: addr, Type: t, What: fmt.Sprintf("chain to %v", h.Chain.Addr)}
	}
	if want, got := be.Uint64(p[4:]), hash.Sum(p[LogHdSize:LogHdSize+h.Size]); want != got {
		return LogHdr{}, &CorruptError{Addr: addr, Type: t, Want: want, Got: got}
	}
	return h, nil
}
