package kvfmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"gefs9p/blkfmt"
)

// A Node is a view of the bytes of a leaf or pivot block.
//
//	leaf   type[2]=2 nval[2] valsz[2]                     table, free space, entries      6..16384
//	pivot  type[2]=1 nval[2] valsz[2] nbuf[2] bufsz[2]    table, free space, children    10..8197
//	                                                      table, free space, messages  8197..16384
//
// A table is of 2-byte offsets, sorted by key and counted from the table's own start; entries are
// packed downwards from the end of their half. valsz and bufsz do not count the tables. Messages
// with equal keys stand oldest first.
//
// The methods read fields without checks: a Node from disk must have passed CheckNode once.
// Slices they return alias the block.
type Node []byte

const (
	leafTab = blkfmt.LeafHdSize
	pivTab  = blkfmt.PivHdSize
	bufTab  = blkfmt.PivHdSize + blkfmt.PivSpc
)

// MaxEntries bounds the entries, and the messages, of a node.
const MaxEntries = blkfmt.LeafSpc / 6

// Leaf reports whether n is a leaf.
func (n Node) Leaf() bool { return blkfmt.Type(binary.BigEndian.Uint16(n)) == blkfmt.Leaf }

// Nval returns the number of entries of a leaf, of children of a pivot.
func (n Node) Nval() int { return int(binary.BigEndian.Uint16(n[2:])) }

// ValSize returns the bytes of the entries with their table slots.
func (n Node) ValSize() int { return int(binary.BigEndian.Uint16(n[4:])) + 2*n.Nval() }

// Nbuf returns the number of messages buffered in a pivot, 0 for a leaf.
func (n Node) Nbuf() int {
	if n.Leaf() {
		return 0
	}
	return int(binary.BigEndian.Uint16(n[6:]))
}

// BufSize returns the bytes of the buffered messages with their table slots.
func (n Node) BufSize() int {
	if n.Leaf() {
		return 0
	}
	return int(binary.BigEndian.Uint16(n[8:])) + 2*n.Nbuf()
}

// Fill returns the occupancy that the parent records: ValSize and BufSize.
func (n Node) Fill() int { return n.ValSize() + n.BufSize() }

func (n Node) tab() int {
	if n.Leaf() {
		return leafTab
	}
	return pivTab
}

// Val returns entry i: key and value of a leaf, key and ChildSize bytes of a pivot.
func (n Node) Val(i int) (key, val []byte) {
	tab := n.tab()
	p := n[tab+int(binary.BigEndian.Uint16(n[tab+2*i:])):]
	klen := int(binary.BigEndian.Uint16(p))
	vlen := int(binary.BigEndian.Uint16(p[2+klen:]))
	return p[2 : 2+klen : 2+klen], p[4+klen : 4+klen+vlen : 4+klen+vlen]
}

// Key returns the key of entry i.
func (n Node) Key(i int) []byte { return n.keyAt(n.tab(), i) }

func (n Node) keyAt(tab, i int) []byte {
	p := n[tab+int(binary.BigEndian.Uint16(n[tab+2*i:])):]
	klen := int(binary.BigEndian.Uint16(p))
	return p[2 : 2+klen : 2+klen]
}

// Child returns the pointer to child i of a pivot, and the fill recorded for it.
func (n Node) Child(i int) (blkfmt.Bptr, int) {
	_, v := n.Val(i)
	return GetChild(v)
}

// GetChild decodes the value of a pivot's entry, of ChildSize bytes.
func GetChild(v []byte) (blkfmt.Bptr, int) {
	return blkfmt.GetPtr(v), int(binary.BigEndian.Uint16(v[blkfmt.PtrSize:]))
}

// MsgKey returns the key of buffered message i of a pivot, which is in its bytes.
func (n Node) MsgKey(i int) []byte {
	p := n[bufTab+int(binary.BigEndian.Uint16(n[bufTab+2*i:])):]
	klen := int(binary.BigEndian.Uint16(p[1:]))
	return p[3 : 3+klen : 3+klen]
}

// Msg returns buffered message i of a pivot.
func (n Node) Msg(i int) Msg {
	p := n[bufTab+int(binary.BigEndian.Uint16(n[bufTab+2*i:])):]
	klen := int(binary.BigEndian.Uint16(p[1:]))
	vlen := int(binary.BigEndian.Uint16(p[3+klen:]))
	return Msg{Op(p[0]), p[3 : 3+klen : 3+klen], p[5+klen : 5+klen+vlen : 5+klen+vlen]}
}

// Search returns the index of the entry with the key, and true; or that of the greatest entry
// below it, -1 if there is none, and false.
func (n Node) Search(key []byte) (int, bool) {
	tab := n.tab()
	lo, hi := 0, n.Nval() // entries below lo are <= key, from hi on they are > key
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		switch c := Compare(n.keyAt(tab, m), key); {
		case c == 0:
			return m, true
		case c < 0:
			lo = m + 1
		default:
			hi = m
		}
	}
	return lo - 1, false
}

// BufSearch returns the index of the first buffered message whose key is not below key; it is
// Nbuf if there is none. The messages for key itself, if any, start there, oldest first.
func (n Node) BufSearch(key []byte) int {
	lo, hi := 0, n.Nbuf()
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if Compare(n.MsgKey(m), key) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// FirstKey returns the least key of the node, whether it is an entry's or a message's: what a
// parent must not exceed. It returns nil for an empty node.
func (n Node) FirstKey() []byte {
	var k []byte
	if n.Nval() > 0 {
		k = n.Key(0)
	}
	if n.Nbuf() > 0 {
		if b := n.MsgKey(0); k == nil || Compare(b, k) < 0 {
			k = b
		}
	}
	return k
}

// InitLeaf makes n, a whole block, an empty leaf.
func (n Node) InitLeaf() {
	clear(n)
	binary.BigEndian.PutUint16(n, uint16(blkfmt.Leaf))
}

// InitPivot makes n, a whole block, an empty pivot. It needs a child to pass CheckNode.
func (n Node) InitPivot() {
	clear(n)
	binary.BigEndian.PutUint16(n, uint16(blkfmt.Pivot))
}

// AddVal appends an entry, whose key must be above those already there; the value of a pivot's must
// be ChildSize bytes. It panics if there is no room: sizes are the caller's to check. Key and value
// may lie in another node.
func (n Node) AddVal(key, val []byte) {
	be := binary.BigEndian
	tab, end := leafTab, blkfmt.BlkSize
	if !n.Leaf() {
		tab, end = pivTab, bufTab
	}
	nval, size := int(be.Uint16(n[2:])), int(be.Uint16(n[4:]))
	need := 2 + len(key) + 2 + len(val)
	off := end - size - need
	if off < tab+2*(nval+1) {
		panic(fmt.Sprintf("node overflow: %d entries of %d bytes, %d more", nval, size, need))
	}
	p := n[off:]
	be.PutUint16(p, uint16(len(key)))
	copy(p[2:], key)
	be.PutUint16(p[2+len(key):], uint16(len(val)))
	copy(p[4+len(key):], val)
	be.PutUint16(n[tab+2*nval:], uint16(off-tab))
	be.PutUint16(n[2:], uint16(nval+1))
	be.PutUint16(n[4:], uint16(size+need))
}

// AddChild appends a child entry to a pivot.
func (n Node) AddChild(key []byte, bp blkfmt.Bptr, fill int) {
	var v [ChildSize]byte
	bp.Put(v[:])
	binary.BigEndian.PutUint16(v[blkfmt.PtrSize:], uint16(fill))
	n.AddVal(key, v[:])
}

// InsertMsg puts m into a pivot's buffer, after those with an equal key. It panics if there is no
// room, or no buffer: n is a leaf.
func (n Node) InsertMsg(m Msg) {
	if n.Leaf() {
		panic("message for a leaf")
	}
	i := n.bufAfter(m.Key)
	be := binary.BigEndian
	nbuf, size := int(be.Uint16(n[6:])), int(be.Uint16(n[8:]))
	need := m.Size() - 2
	off := blkfmt.BlkSize - size - need
	if off < bufTab+2*(nbuf+1) {
		panic(fmt.Sprintf("buffer overflow: %d messages of %d bytes, %d more", nbuf, size, need))
	}
	p := n[off:]
	p[0] = byte(m.Op)
	be.PutUint16(p[1:], uint16(len(m.Key)))
	copy(p[3:], m.Key)
	be.PutUint16(p[3+len(m.Key):], uint16(len(m.Val)))
	copy(p[5+len(m.Key):], m.Val)
	slot := bufTab + 2*i
	copy(n[slot+2:bufTab+2*(nbuf+1)], n[slot:bufTab+2*nbuf])
	be.PutUint16(n[slot:], uint16(off-bufTab))
	be.PutUint16(n[6:], uint16(nbuf+1))
	be.PutUint16(n[8:], uint16(size+need))
}

// bufAfter returns the number of messages in a pivot whose keys are not above key.
func (n Node) bufAfter(key []byte) int {
	lo, hi := 0, n.Nbuf() // messages below lo are <= key, from hi on they are > key
	if hi > 0 && Compare(n.MsgKey(hi-1), key) <= 0 {
		return hi
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if Compare(n.MsgKey(mid), key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Supersedes reports whether m, put into a pivot's buffer, would leave nothing of the message for the
// same key before it: both are Inserts, of payloads of one length.
func (n Node) Supersedes(m Msg) bool { return n.superseded(m) != nil }

// Supersede puts m in the place of the message that it Supersedes, if there is one, and reports
// whether there was. It takes no room.
func (n Node) Supersede(m Msg) bool {
	val := n.superseded(m)
	copy(val, m.Val)
	return val != nil
}

// superseded returns the payload of the message that m Supersedes, nil if there is none.
func (n Node) superseded(m Msg) []byte {
	i := n.bufAfter(m.Key) - 1
	if m.Op != Insert || i < 0 {
		return nil
	}
	old := n.Msg(i)
	if old.Op != Insert || len(old.Val) != len(m.Val) || Compare(old.Key, m.Key) != 0 {
		return nil
	}
	return old.Val
}

// ErrNode is wrapped by every error of CheckNode.
var ErrNode = errors.New("malformed node")

// CheckNode says whether p can be read as a node without harm: its tables and entries lie where
// they may, sizes add up, a pivot has children, pointers and messages are well formed, keys are in
// order. A node that passes can also be added to. Whether it is the right node is for its hash and
// for the tree's invariants to say. It does not change p, and allocates only for errors.
func CheckNode(p []byte) error {
	if len(p) != blkfmt.BlkSize {
		return fmt.Errorf("%w: %d bytes", ErrNode, len(p))
	}
	n := Node(p)
	switch t := blkfmt.Type(binary.BigEndian.Uint16(p)); t {
	case blkfmt.Leaf:
		return n.checkVals(n[leafTab:], 0, ValMax)
	case blkfmt.Pivot:
		if n.Nval() == 0 {
			return fmt.Errorf("%w: pivot without children", ErrNode)
		}
		if err := n.checkVals(n[pivTab:bufTab], ChildSize, ChildSize); err != nil {
			return err
		}
		return n.checkBuf(n[bufTab:])
	default:
		return fmt.Errorf("%w: type is %d", ErrNode, uint16(t))
	}
}

// checkVals checks the table and the entries in half; values have vmin to vmax bytes.
func (n Node) checkVals(half []byte, vmin, vmax int) error {
	be := binary.BigEndian
	nval, want := n.Nval(), int(be.Uint16(n[4:]))
	heap := len(half) - want // where entries start; below it are the table and free space
	if 2*nval > heap {
		return fmt.Errorf("%w: %d entries of %d bytes in %d", ErrNode, nval, want, len(half))
	}
	var prev []byte // empty: below every key, as none is empty
	sum := 0
	for i := range nval {
		off := int(be.Uint16(half[2*i:]))
		if off < heap || off+4 > len(half) {
			return fmt.Errorf("%w: entry %d at offset %d", ErrNode, i, off)
		}
		p := half[off:]
		klen := int(be.Uint16(p))
		if klen == 0 || klen > KeyMax || 4+klen > len(p) {
			return fmt.Errorf("%w: entry %d has a key of %d bytes", ErrNode, i, klen)
		}
		vlen := int(be.Uint16(p[2+klen:]))
		if vlen < vmin || vlen > vmax || 4+klen+vlen > len(p) {
			return fmt.Errorf("%w: entry %d has a value of %d bytes", ErrNode, i, vlen)
		}
		key := p[2 : 2+klen]
		if Compare(prev, key) >= 0 {
			return fmt.Errorf("%w: entry %d is out of order", ErrNode, i)
		}
		prev = key
		sum += 4 + klen + vlen
	}
	if sum != want {
		return fmt.Errorf("%w: entries of %d bytes, header says %d", ErrNode, sum, want)
	}
	return nil
}

// checkBuf checks the table and the messages in half.
func (n Node) checkBuf(half []byte) error {
	be := binary.BigEndian
	nbuf, want := n.Nbuf(), int(be.Uint16(n[8:]))
	heap := len(half) - want
	if 2*nbuf > heap {
		return fmt.Errorf("%w: %d messages of %d bytes in %d", ErrNode, nbuf, want, len(half))
	}
	var prev []byte
	sum := 0
	for i := range nbuf {
		off := int(be.Uint16(half[2*i:]))
		if off < heap || off+5 > len(half) {
			return fmt.Errorf("%w: message %d at offset %d", ErrNode, i, off)
		}
		p := half[off:]
		klen := int(be.Uint16(p[1:]))
		if 5+klen > len(p) {
			return fmt.Errorf("%w: message %d has a key of %d bytes", ErrNode, i, klen)
		}
		vlen := int(be.Uint16(p[3+klen:]))
		if 5+klen+vlen > len(p) {
			return fmt.Errorf("%w: message %d has a payload of %d bytes", ErrNode, i, vlen)
		}
		m := Msg{Op(p[0]), p[3 : 3+klen], p[5+klen : 5+klen+vlen]}
		if err := CheckMsg(m); err != nil {
			return fmt.Errorf("%w: message %d: %w", ErrNode, i, err)
		}
		if Compare(prev, m.Key) > 0 {
			return fmt.Errorf("%w: message %d is out of order", ErrNode, i)
		}
		prev = m.Key
		sum += 5 + klen + vlen
	}
	if sum != want {
		return fmt.Errorf("%w: messages of %d bytes, header says %d", ErrNode, sum, want)
	}
	return nil
}

// Compile-time proof of the sizes the tree relies on: four child entries fit a pivot, two messages
// fit a buffer, offsets fit 16 bits.
const (
	_ = uint(blkfmt.PivSpc - 4*ChildMax)
	_ = uint(blkfmt.BufSpc - 2*MsgMax)
	_ = uint(math.MaxUint16 - blkfmt.BlkSize)
)
