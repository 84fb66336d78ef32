package kvfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

func newNode(leaf bool) kvfmt.Node {
	n := kvfmt.Node(bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize))
	if leaf {
		n.InitLeaf()
	} else {
		n.InitPivot()
	}
	return n
}

func drawKey(t *rapid.T) string {
	n := rapid.OneOf(rapid.IntRange(1, 3), rapid.IntRange(1, 40), rapid.Just(kvfmt.KeyMax)).Draw(t, "length")
	return string(rapid.SliceOfN(rapid.ByteRange(0, 3), n, n).Draw(t, "key"))
}

// Nodes filled to the brim hold what was put in, and pass CheckNode.
func TestBuiltNodesAreGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.Bool().Draw(t, "leaf")
		n := newNode(leaf)
		if leaf {
			if err := kvfmt.CheckNode(n); err != nil {
				t.Fatalf("empty leaf: %v", err)
			}
		} else if err := kvfmt.CheckNode(n); !errors.Is(err, kvfmt.ErrNode) {
			t.Fatalf("pivot without children: error %v", err)
		}

		vals := make(map[string][]byte)
		space, size := blkfmt.PivSpc, 0
		if leaf {
			space = blkfmt.LeafSpc
		}
		for range rapid.IntRange(1, 100).Draw(t, "entries") {
			key, val := drawKey(t), bytes.Repeat([]byte{7}, kvfmt.ChildSize)
			if leaf {
				val = bytes.Repeat([]byte{7}, rapid.OneOf(rapid.IntRange(0, 5), rapid.Just(kvfmt.ValMax)).Draw(t, "value"))
			}
			if need := kvfmt.EntrySize([]byte(key), val); vals[key] == nil && size+need <= space {
				vals[key] = val
				size += need
			}
		}
		keys := slices.Sorted(maps.Keys(vals))
		for _, key := range keys {
			n.AddVal([]byte(key), vals[key])
		}
		if n.Nval() != len(keys) || n.ValSize() != size {
			t.Fatalf("%d entries of %d bytes, want %d of %d", n.Nval(), n.ValSize(), len(keys), size)
		}
		for i, want := range keys {
			if key, val := n.Val(i); string(key) != want || !bytes.Equal(val, vals[want]) {
				t.Fatalf("entry %d is %x = %x, want %x = %x", i, key, val, want, vals[want])
			}
		}

		var msgs []kvfmt.Msg
		if !leaf {
			size = 0
			for i := range rapid.IntRange(0, 200).Draw(t, "messages") {
				m := kvfmt.Msg{Op: kvfmt.Insert, Key: []byte(drawKey(t)), Val: binary.BigEndian.AppendUint32(nil, uint32(i))}
				if size+m.Size() > blkfmt.BufSpc {
					break
				}
				size += m.Size()
				msgs = append(msgs, m)
				n.InsertMsg(m)
			}
			sort.SliceStable(msgs, func(i, j int) bool { return kvfmt.Compare(msgs[i].Key, msgs[j].Key) < 0 })
			if n.Nbuf() != len(msgs) || n.BufSize() != size {
				t.Fatalf("%d messages of %d bytes, want %d of %d", n.Nbuf(), n.BufSize(), len(msgs), size)
			}
			for i, want := range msgs {
				if m := n.Msg(i); m.Op != want.Op || !bytes.Equal(m.Key, want.Key) || !bytes.Equal(m.Val, want.Val) {
					t.Fatalf("message %d is %v, want %v", i, m, want)
				}
			}
		}
		if err := kvfmt.CheckNode(n); err != nil {
			t.Fatal(err)
		}
		walk(t, n)
		addTo(t, n)

		// Searches for keys that may not be there.
		key := []byte(drawKey(t))
		i, exact := slices.BinarySearch(keys, string(key))
		if !exact {
			i--
		}
		if j, ok := n.Search(key); j != i || ok != exact {
			t.Fatalf("key %x is found at %d, %v, want %d, %v", key, j, ok, i, exact)
		}
		want := sort.Search(len(msgs), func(i int) bool { return kvfmt.Compare(msgs[i].Key, key) >= 0 })
		if j := n.BufSearch(key); j != want {
			t.Fatalf("messages for %x are found at %d, want %d", key, j, want)
		}
	})
}

// mustPanic says whether f panics.
func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestNodesTakeExactlyWhatFits(t *testing.T) {
	key := func(i int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(i)) }
	for _, tt := range []struct {
		leaf  bool
		space int
	}{{true, blkfmt.LeafSpc}, {false, blkfmt.PivSpc}} {
		n := newNode(tt.leaf)
		i := 0
		for ; n.ValSize()+kvfmt.EntrySize(key(i), make([]byte, kvfmt.ChildSize)) <= tt.space; i++ {
			n.AddVal(key(i), make([]byte, kvfmt.ChildSize))
		}
		mustPanic(t, "one entry more", func() { n.AddVal(key(i), make([]byte, kvfmt.ChildSize)) })
		if tt.leaf { // fill the last byte, and no more
			last := make([]byte, tt.space-n.ValSize()-kvfmt.EntrySize(key(i), nil))
			mustPanic(t, "one byte more", func() { n.AddVal(key(i), append(last[:len(last):len(last)], 0)) })
			n.AddVal(key(i), last)
			if n.ValSize() != tt.space || n.Fill() != tt.space {
				t.Errorf("full leaf of %d bytes", n.ValSize())
			}
		}
		if err := kvfmt.CheckNode(n); err != nil {
			t.Error(err)
		}
		walk(t, n)
	}

	n := newNode(false)
	n.AddChild(key(0), blkfmt.NoPtr, 0)
	m := kvfmt.Msg{Op: kvfmt.Insert, Key: key(1), Val: make([]byte, 50)}
	for n.BufSize()+m.Size() <= blkfmt.BufSpc {
		n.InsertMsg(m)
	}
	mustPanic(t, "one message more", func() { n.InsertMsg(m) })
	last := kvfmt.Msg{Op: kvfmt.Insert, Key: key(2), Val: []byte{}}
	last.Val = make([]byte, blkfmt.BufSpc-n.BufSize()-last.Size()+1)
	mustPanic(t, "one byte more", func() { n.InsertMsg(last) })
	last.Val = last.Val[1:]
	n.InsertMsg(last)
	if n.BufSize() != blkfmt.BufSpc {
		t.Errorf("full buffer of %d bytes", n.BufSize())
	}
	if err := kvfmt.CheckNode(n); err != nil {
		t.Error(err)
	}
	walk(t, n)
	mustPanic(t, "message for a leaf", func() { newNode(true).InsertMsg(m) })
}

func TestFullNodesHoldTheLargestOfAll(t *testing.T) {
	key, val := make([]byte, kvfmt.KeyMax), make([]byte, kvfmt.ValMax)
	n := newNode(false)
	for i := range 4 {
		key[0] = byte(i)
		n.AddChild(key, blkfmt.NoPtr, blkfmt.BlkSize)
	}
	for range 2 {
		n.InsertMsg(kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: val})
	}
	leaf := newNode(true)
	for i := range 4 {
		key[0] = byte(i)
		leaf.AddVal(key, val)
	}
	for _, n := range []kvfmt.Node{n, leaf} {
		if err := kvfmt.CheckNode(n); err != nil {
			t.Error(err)
		}
		walk(t, n)
	}
	if got := (kvfmt.Msg{Key: key, Val: val}).Size(); got != kvfmt.MsgMax {
		t.Errorf("largest message of %d bytes", got)
	}
	if got := kvfmt.EntrySize(key, val); got != kvfmt.EntryMax {
		t.Errorf("largest entry of %d bytes", got)
	}
	if got := kvfmt.EntrySize(key, make([]byte, kvfmt.ChildSize)); got != kvfmt.ChildMax {
		t.Errorf("largest child of %d bytes", got)
	}
}

// smallLeaf has the entries 1 and 2; smallPivot has them as children, and two messages for 1.
func smallLeaf() kvfmt.Node {
	n := newNode(true)
	n.AddVal([]byte{1}, []byte("one"))
	n.AddVal([]byte{2}, []byte("two"))
	return n
}

func smallPivot() kvfmt.Node {
	n := newNode(false)
	n.AddChild([]byte{1}, blkfmt.Bptr{Addr: 0x4000}, 100)
	n.AddChild([]byte{2}, blkfmt.Bptr{Addr: 0x8000}, 100)
	n.InsertMsg(kvfmt.Msg{Op: kvfmt.Insert, Key: []byte{1}, Val: []byte("one")})
	n.InsertMsg(kvfmt.Msg{Op: kvfmt.Delete, Key: []byte{1}})
	return n
}

func TestNodesWithABadFieldAreRefused(t *testing.T) {
	be := binary.BigEndian
	type bad struct {
		name string
		do   func(p []byte)
	}
	put := func(at int, v uint16) func(p []byte) { return func(p []byte) { be.PutUint16(p[at:], v) } }
	// Entries of the leaf: 8 bytes each, at 16384-8 and 16384-16. Of the pivot: 31 bytes each, at
	// 8197-31 and 8197-62; messages of 9 and 6 bytes at 16384-9 and 16384-15.
	for _, tt := range []struct {
		node func() kvfmt.Node
		name string
		bad  []bad
	}{
		{smallLeaf, "leaf", []bad{
			{"no type", put(0, 0)},
			{"type of a log", put(0, 3)},
			{"entry less", put(2, 1)},
			{"entry more", put(2, 3)},
			{"entries without end", put(2, 0xffff)},
			{"size less", put(4, 15)},
			{"size more", put(4, 17)},
			{"size above the leaf", put(4, blkfmt.LeafSpc)},
			{"size without end", put(4, 0xffff)},
			{"offset in the table", put(6, 2)},
			{"offset in free space", put(6, 1000)},
			{"offset at the end", put(6, blkfmt.LeafSpc-3)},
			{"offset behind the end", put(6, 0xffff)},
			{"offsets swapped", func(p []byte) { p[6], p[7], p[8], p[9] = p[8], p[9], p[6], p[7] }},
			{"offset twice", func(p []byte) { copy(p[8:10], p[6:8]) }},
			{"key empty", put(16384-8, 0)},
			{"key too long", put(16384-8, 257)},
			{"key behind the end", put(16384-8, 5)},
			{"value behind the end", put(16384-5, 4)},
			{"value shorter", put(16384-5, 2)},
			{"value without end", put(16384-5, 0xffff)},
			{"keys out of order", func(p []byte) { p[16384-6] = 9 }},
			{"keys equal", func(p []byte) { p[16384-6] = 2 }},
		}},
		{smallPivot, "pivot", []bad{
			{"type of a leaf", put(0, 2)},
			{"no children", func(p []byte) { be.PutUint32(p[2:], 0) }},
			{"child more", put(2, 3)},
			{"child less", put(2, 1)},
			{"children without end", put(2, 0xffff)},
			{"size more", put(4, 63)},
			{"size without end", put(4, 0xffff)},
			{"message more", put(6, 3)},
			{"message less", put(6, 1)},
			{"messages without end", put(6, 0xffff)},
			{"buffer size less", put(8, 14)},
			{"buffer size more", put(8, 16)},
			{"buffer size without end", put(8, 0xffff)},
			{"child offset in the buffer", put(10, blkfmt.PivSpc)},
			{"child key too long", put(8197-31, 300)},
			{"child pointer shorter", put(8197-28, 25)},
			{"child pointer longer", put(8197-28, 27)},
			{"children out of order", func(p []byte) { p[8197-29] = 3 }},
			{"message offset in the table", put(8197, 2)},
			{"message offset in free space", put(8197, 1000)},
			{"message offset at the end", put(8197, blkfmt.BufSpc-4)},
			{"message offset behind the end", put(8197, 0xffff)},
			{"message without op", func(p []byte) { p[16384-9] = 0 }},
			{"message of an unknown op", func(p []byte) { p[16384-9] = 8 }},
			{"message key empty", put(16384-8, 0)},
			{"message key without end", put(16384-8, 0xffff)},
			{"message payload longer", put(16384-5, 4)},
			{"message payload without end", put(16384-5, 0xffff)},
			{"messages out of order", func(p []byte) { p[16384-6] = 2 }},
		}},
	} {
		p := tt.node()
		if err := kvfmt.CheckNode(p); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, bad := range tt.bad {
			t.Run(tt.name+" "+bad.name, func(t *testing.T) {
				q := bytes.Clone(p)
				bad.do(q)
				if bytes.Equal(p, q) {
					t.Fatal("nothing was changed")
				}
				if err := kvfmt.CheckNode(q); !errors.Is(err, kvfmt.ErrNode) {
					t.Errorf("error %v", err)
				}
			})
		}
	}
	for _, n := range []int{0, 1, 6, 10, blkfmt.BlkSize - 1, blkfmt.BlkSize + 1} {
		if err := kvfmt.CheckNode(make([]byte, n)); !errors.Is(err, kvfmt.ErrNode) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
}

// Entries whose sizes add up, but that are longer or shorter than an entry may be.
func TestNodesWithEntriesOfABadSizeAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name     string
		leaf     bool
		key, val int
	}{
		{"leaf, empty key", true, 0, 5}, {"leaf, long key", true, 257, 5}, {"leaf, long value", true, 1, 513},
		{"pivot, empty key", false, 0, 26}, {"pivot, long key", false, 257, 26},
		{"pivot, short pointer", false, 1, 25}, {"pivot, long pointer", false, 1, 27},
	} {
		n := newNode(tt.leaf)
		n.AddVal(make([]byte, tt.key), make([]byte, tt.val))
		if err := kvfmt.CheckNode(n); !errors.Is(err, kvfmt.ErrNode) {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
	for _, m := range []kvfmt.Msg{
		{Op: kvfmt.Insert}, {Op: kvfmt.Insert, Key: make([]byte, 257)}, {Op: kvfmt.Insert, Key: []byte{1}, Val: make([]byte, 513)},
	} {
		n := smallPivot()
		n.InsertMsg(m)
		if err := kvfmt.CheckNode(n); !errors.Is(err, kvfmt.ErrNode) || !errors.Is(err, kvfmt.ErrMsg) {
			t.Errorf("message with a key of %d and a payload of %d bytes: error %v", len(m.Key), len(m.Val), err)
		}
	}
}

// A good entry below the place where entries start would be written over by the next one added.
func TestEntriesBelowTheHeapAreRefused(t *testing.T) {
	be := binary.BigEndian
	leaf := smallLeaf()
	copy(leaf[6+1000:], leaf[blkfmt.BlkSize-8:])
	be.PutUint16(leaf[6:], 1000)
	pivot := smallPivot()
	copy(pivot[8197+1000:], pivot[blkfmt.BlkSize-9:])
	be.PutUint16(pivot[8197:], 1000)
	for _, n := range []kvfmt.Node{leaf, pivot} {
		if err := kvfmt.CheckNode(n); !errors.Is(err, kvfmt.ErrNode) {
			t.Errorf("error %v", err)
		}
	}
}

// Every slot of the table, which covers the whole half and more, is a good offset, and the bytes
// there are a good message.
func TestTableOverItsEntriesIsRefused(t *testing.T) {
	n := newNode(false)
	n.AddChild([]byte{1}, blkfmt.NoPtr, 0)
	for i := 8197; i+1 < len(n); i += 2 {
		n[i], n[i+1] = 1, 0
	}
	binary.BigEndian.PutUint16(n[6:], 0xffff)
	binary.BigEndian.PutUint16(n[8:], blkfmt.BufSpc-256)
	if err := kvfmt.CheckNode(n); !errors.Is(err, kvfmt.ErrNode) {
		t.Errorf("error %v", err)
	}
}

// One flipped bit anywhere outside keys, values and free space is seen, or does no harm.
func TestNodesWithAFlippedBitDoNoHarm(t *testing.T) {
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) {
			n := golden(t, name)
			refused := 0
			for at := range n {
				if at > 1000 && at < blkfmt.BlkSize-2000 && at%7 != 0 {
					continue // most of it is alike
				}
				bit := at % 8
				n[at] ^= 1 << bit
				if kvfmt.CheckNode(n) != nil {
					refused++
				} else if at%16 == 0 || at < 512 {
					walk(t, n)
				}
				n[at] ^= 1 << bit
			}
			if refused < 10 {
				t.Errorf("only %d flips were seen", refused)
			}
		})
	}
}

func TestCheckNodeDoesNotAllocate(t *testing.T) {
	leaf, pivot := golden(t, "tree-leaf.blk"), golden(t, "tree-pivot.blk")
	if n := testing.AllocsPerRun(10, func() {
		if kvfmt.CheckNode(leaf) != nil || kvfmt.CheckNode(pivot) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What a node gives out is its own memory, and cannot be appended into what stands behind it.
func TestSlicesOfANodeEndWhereTheyEnd(t *testing.T) {
	n := smallPivot()
	want := bytes.Clone(n)
	k, v := n.Val(0)
	m := n.Msg(0)
	for i, s := range [][]byte{k, v, n.Key(0), m.Key, m.Val, n.FirstKey()} {
		if cap(s) != len(s) {
			t.Errorf("slice %d has room for %d bytes more", i, cap(s)-len(s))
		}
		_ = append(s, 0xff)
	}
	if !bytes.Equal(n, want) {
		t.Error("the node was changed")
	}
}

func ExampleNode() {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitLeaf()
	n.AddVal(kvfmt.AppendConfKey(nil, "a"), []byte("1"))
	n.AddVal(kvfmt.AppendConfKey(nil, "c"), []byte("3"))
	for _, name := range []string{"a", "b", "c"} {
		i, ok := n.Search(kvfmt.AppendConfKey(nil, name))
		_, val := n.Val(i)
		fmt.Printf("%s: entry %d %q, exact %v\n", name, i, val, ok)
	}
	// Output:
	// a: entry 0 "1", exact true
	// b: entry 0 "1", exact false
	// c: entry 1 "3", exact true
}
