package kvfmt_test

import (
	"bytes"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// walk calls every method on a node that has passed CheckNode, and holds the answers against each
// other. It does not change n.
func walk(t tester, n kvfmt.Node) {
	t.Helper()
	if n.ValSize()+n.BufSize() != n.Fill() || n.Fill() > blkfmt.BlkSize || n.Nval() > kvfmt.MaxEntries || n.Nbuf() > kvfmt.MaxEntries {
		t.Fatalf("%d entries of %d bytes, %d messages of %d, fill %d", n.Nval(), n.ValSize(), n.Nbuf(), n.BufSize(), n.Fill())
	}
	if n.Leaf() && n.Nbuf() != 0 {
		t.Fatalf("leaf with %d messages", n.Nbuf())
	}
	var first []byte
	size := 0
	for i := range n.Nval() {
		key, val := n.Val(i)
		size += kvfmt.EntrySize(key, val)
		if i == 0 {
			first = key
		}
		if !bytes.Equal(key, n.Key(i)) || len(key) > kvfmt.KeyMax || len(val) > kvfmt.ValMax {
			t.Fatalf("entry %d: keys %x and %x", i, key, n.Key(i))
		}
		if j, ok := n.Search(key); !ok || j != i {
			t.Fatalf("entry %d is found as %d, %v", i, j, ok)
		}
		// A key just above: this entry is the greatest below it, unless it is the next one.
		if j, ok := n.Search(append(bytes.Clone(key), 0)); !ok && j != i || ok && j != i+1 {
			t.Fatalf("the key above entry %d is found as %d, %v", i, j, ok)
		}
		if !n.Leaf() {
			bp, fill := n.Child(i)
			if again := append(bp.Append(nil), byte(fill>>8), byte(fill)); !bytes.Equal(again, val) {
				t.Fatalf("child %d is written again as %x", i, again)
			}
		}
	}
	if size != n.ValSize() {
		t.Fatalf("entries of %d bytes, ValSize says %d", size, n.ValSize())
	}
	if j, ok := n.Search(nil); ok || j != -1 {
		t.Fatalf("the empty key is found as %d, %v", j, ok)
	}
	size = 0
	start := 0 // of the messages with this key
	for i := range n.Nbuf() {
		m := n.Msg(i)
		size += m.Size()
		if err := kvfmt.CheckMsg(m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if i > 0 && !bytes.Equal(n.Msg(i-1).Key, m.Key) {
			start = i
		}
		if j := n.BufSearch(m.Key); j != start {
			t.Fatalf("the key of message %d is found at %d, not %d", i, j, start)
		}
		if i == 0 && (first == nil || kvfmt.Compare(m.Key, first) < 0) {
			first = m.Key
		}
		// Nothing that a message does may panic.
		for _, cur := range [][]byte{nil, {}, m.Val, usersDir.Append(nil), mainTree.Append(nil)} {
			kvfmt.Apply(nil, m, cur, cur != nil)
		}
	}
	if size != n.BufSize() {
		t.Fatalf("messages of %d bytes, BufSize says %d", size, n.BufSize())
	}
	if j := n.BufSearch(nil); j != 0 {
		t.Fatalf("the first message is found at %d", j)
	}
	if j := n.BufSearch(bytes.Repeat([]byte{0xff}, kvfmt.KeyMax+1)); j != n.Nbuf() {
		t.Fatalf("the end is found at %d of %d", j, n.Nbuf())
	}
	if got := n.FirstKey(); !bytes.Equal(got, first) || (got == nil) != (n.Nval()+n.Nbuf() == 0) {
		t.Fatalf("FirstKey is %x, want %x", got, first)
	}
}

// addTo adds to a copy of a node as much as there is room for, and checks that what was there has
// stayed.
func addTo(t tester, n kvfmt.Node) {
	t.Helper()
	m := kvfmt.Node(bytes.Clone(n))
	high := bytes.Repeat([]byte{0xff}, kvfmt.KeyMax)
	val := make([]byte, kvfmt.ChildSize)
	space := blkfmt.PivSpc
	if n.Leaf() {
		space = blkfmt.LeafSpc
	}
	nval, nbuf := n.Nval(), n.Nbuf()
	if nval > 0 && bytes.Equal(n.Key(nval-1), high) {
		high = nil
	}
	if high != nil && n.ValSize()+kvfmt.EntrySize(high, val) <= space {
		m.AddVal(high, val)
		nval++
	}
	low := kvfmt.Msg{Op: kvfmt.Delete, Key: []byte{0}}
	if !n.Leaf() && n.BufSize()+low.Size() <= blkfmt.BufSpc {
		m.InsertMsg(low)
		nbuf++
	}
	if err := kvfmt.CheckNode(m); err != nil {
		t.Fatalf("after adding: %v", err)
	}
	if m.Nval() != nval || m.Nbuf() != nbuf {
		t.Fatalf("%d entries and %d messages, want %d and %d", m.Nval(), m.Nbuf(), nval, nbuf)
	}
	for i := range n.Nval() {
		k, v := n.Val(i)
		if k2, v2 := m.Val(i); !bytes.Equal(k, k2) || !bytes.Equal(v, v2) {
			t.Fatalf("adding changed entry %d", i)
		}
	}
	for i := range n.Nbuf() {
		j := i
		if nbuf > n.Nbuf() && !bytes.Equal(n.Msg(i).Key, low.Key) {
			j++ // the new message is after its equals and before all others
		}
		a, b := n.Msg(i), m.Msg(j)
		if a.Op != b.Op || !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Val, b.Val) {
			t.Fatalf("adding changed message %d", i)
		}
	}
}
