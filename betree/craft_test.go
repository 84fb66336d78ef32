package betree

import (
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Nodes made by hand, as another program may have written them.

// conf returns the i-th configuration key, of at least size bytes.
func conf(i, size int) []byte {
	k := kvfmt.AppendConfKey(nil, fmt.Sprintf("%06d", i))
	for len(k) < size {
		k = append(k, '.')
	}
	return k
}

type pair struct{ key, val []byte }

// A made is a node and how it was written.
type made struct {
	bp   blkfmt.Bptr
	node kvfmt.Node
}

func (s *memStore) leaf(pairs ...pair) made {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitLeaf()
	for _, p := range pairs {
		n.AddVal(p.key, p.val)
	}
	return made{s.put(1, n), n}
}

// pivot returns a pivot over children, each with the least of its keys.
func (s *memStore) pivot(msgs []kvfmt.Msg, children ...made) made {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitPivot()
	for _, c := range children {
		n.AddChild(c.node.FirstKey(), c.bp, c.node.Fill())
	}
	for _, m := range msgs {
		n.InsertMsg(m)
	}
	return made{s.put(1, n), n}
}

// open returns the tree with that root, and what a scan finds in it.
func (s *memStore) open(root made, ht int) *Tree { return Open(s, s, root.bp, ht) }

func insert(key, val []byte) kvfmt.Msg { return kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: val} }
func remove(key []byte) kvfmt.Msg      { return kvfmt.Msg{Op: kvfmt.Delete, Key: key} }

// value returns a value of size bytes that tells where it comes from.
func value(what string, size int) []byte {
	v := make([]byte, size)
	copy(v, what)
	return v
}

func upsert(t *testing.T, tree *Tree, msgs ...kvfmt.Msg) {
	t.Helper()
	if err := tree.Upsert(nil, 2, msgs); err != nil {
		t.Fatal(err)
	}
}

// contents returns all pairs of a tree.
func contents(t *testing.T, tree *Tree) map[string]string {
	t.Helper()
	all := make(map[string]string)
	if err := tree.Scan(nil, nil, nil, func(k, v []byte) bool { all[string(k)] = string(v); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

// want compares the contents of a tree, by scan and by lookup, with pairs.
func want(t *testing.T, tree *Tree, pairs map[string]string) {
	t.Helper()
	got := contents(t, tree)
	for k, v := range pairs {
		if got[k] != v {
			t.Fatalf("scan: key %q has value %.20q, want %.20q", k, got[k], v)
		}
		if p, err := tree.Lookup(nil, []byte(k), nil); err != nil || string(p) != v {
			t.Fatalf("lookup: key %q has value %.20q, %v, want %.20q", k, p, err, v)
		}
	}
	for k := range got {
		if _, ok := pairs[k]; !ok {
			t.Fatalf("scan: key %q is not to be there", k)
		}
	}
}
