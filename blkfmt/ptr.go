package blkfmt

import (
	"encoding/binary"
	"fmt"
)

// Sizes in bytes.
const (
	BlkSize  = 16384 // the only block size
	BlkShift = 14    // log2 of BlkSize
	PtrSize  = 24    // a block pointer

	BufSpc  = (BlkSize - PivHdSize) / 2    // message half of a pivot
	PivSpc  = BlkSize - PivHdSize - BufSpc // value half of a pivot
	LeafSpc = BlkSize - LeafHdSize         // table and entries of a leaf
	LogSpc  = BlkSize - LogHdSize          // entries of a log or deadlist block
	LogFull = LogSpc - LogSlop             // a log block holding this much takes no more entries
	LogSlop = 16 + 16 + 8                  // room kept for one range entry and the chain's allocation

	PivHdSize  = 10
	LeafHdSize = 6
	LogHdSize  = 36
)

// An Addr is a byte offset from the start of the device. NoAddr stands for "none".
type Addr int64

// NoAddr is the address of nothing: eight ff bytes on disk.
const NoAddr Addr = -1

func (a Addr) String() string {
	if a == NoAddr {
		return "-"
	}
	return fmt.Sprintf("%#x", int64(a))
}

// Block reports whether a may be a block's address: a positive multiple of BlkSize. Block 0 is the
// superblock, to which nothing points.
func (a Addr) Block() bool { return a > 0 && a%BlkSize == 0 }

// A Gen is a generation: the birth date of a block, and the identity of a snapshot.
type Gen int64

// NoGen is the generation of nothing.
const NoGen Gen = -1

// NoHash stands where a hash is unknown; it is never to be verified.
const NoHash = ^uint64(0)

// A Type tells what a block holds. It is the first two bytes of every block but a data block,
// which has no header at all.
type Type uint16

// The block types.
const (
	Data     Type = 0
	Pivot    Type = 1
	Leaf     Type = 2
	Log      Type = 3
	Deadlist Type = 4
	Arena    Type = 5
	SuperBlk Type = 0x6765 // "ge", the start of the superblock's magic
)

func (t Type) String() string {
	switch t {
	case Data:
		return "data"
	case Pivot:
		return "pivot"
	case Leaf:
		return "leaf"
	case Log:
		return "log"
	case Deadlist:
		return "deadlist"
	case Arena:
		return "arena header"
	case SuperBlk:
		return "superblock"
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// A Bptr points at a block and says what is to be found there.
//
//	addr[8] hash[8] gen[8]
//
// Pointers to log and deadlist blocks carry no meaningful hash: those blocks check themselves.
type Bptr struct {
	Addr Addr
	Hash uint64
	Gen  Gen // birth: the pending generation of the tree for which the block was allocated
}

// NoPtr points nowhere.
var NoPtr = Bptr{Addr: NoAddr, Hash: NoHash, Gen: NoGen}

func (b Bptr) String() string { return fmt.Sprintf("(%v, %016x, %d)", b.Addr, b.Hash, int64(b.Gen)) }

// Put writes b to the first PtrSize bytes of p.
func (b Bptr) Put(p []byte) {
	_ = p[PtrSize-1]
	binary.BigEndian.PutUint64(p, uint64(b.Addr))
	binary.BigEndian.PutUint64(p[8:], b.Hash)
	binary.BigEndian.PutUint64(p[16:], uint64(b.Gen))
}

// Append appends b's PtrSize bytes to p.
func (b Bptr) Append(p []byte) []byte {
	p = binary.BigEndian.AppendUint64(p, uint64(b.Addr))
	p = binary.BigEndian.AppendUint64(p, b.Hash)
	return binary.BigEndian.AppendUint64(p, uint64(b.Gen))
}

// GetPtr reads a block pointer from the first PtrSize bytes of p, which must have them.
func GetPtr(p []byte) Bptr {
	_ = p[PtrSize-1]
	return Bptr{
		Addr: Addr(binary.BigEndian.Uint64(p)),
		Hash: binary.BigEndian.Uint64(p[8:]),
		Gen:  Gen(binary.BigEndian.Uint64(p[16:])),
	}
}

// A CorruptError says that a block does not hold what its pointer or its own header promises.
// It is found by a hash, or by structure that makes no sense under a good hash.
type CorruptError struct {
	Addr Addr
	Type Type   // what was expected there
	Want uint64 // hash wanted, where a hash was compared
	Got  uint64 // hash found
	What string // what is wrong, when it is not the hash
}

func (e *CorruptError) Error() string {
	if e.What != "" {
		return fmt.Sprintf("corrupt %v block at %v: %s", e.Type, e.Addr, e.What)
	}
	return fmt.Sprintf("corrupt %v block at %v: hash is %016x, not %016x", e.Type, e.Addr, e.Got, e.Want)
}
