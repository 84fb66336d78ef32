package betree

import (
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// entryMsg returns the Insert of the i-th version of the entry name.
func entryMsg(name string, i int) kvfmt.Msg {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: 7, Vers: uint32(i)}, Length: uint64(i)}
	return insert(kvfmt.AppendEntKey(nil, 3, name), d.Append(nil))
}

// rootMsgs returns how many messages for the key are in the root's buffer, and how many bytes all take.
func rootMsgs(t *testing.T, tree *Tree, key []byte) (n, size int) {
	t.Helper()
	root, _, err := tree.acquire(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.st.Drop(root)
	node := kvfmt.Node(root.Bytes())
	if node.Leaf() {
		t.Fatal("the root is a leaf")
	}
	for i := range node.Nbuf() {
		if string(node.MsgKey(i)) == string(key) {
			n++
		}
	}
	return n, node.BufSize()
}

// tall returns a tree whose root is a pivot with nothing for entries in it.
func tall(t *testing.T, s *memStore) (*Tree, map[string]string) {
	t.Helper()
	tree := create(t, s)
	pairs := make(map[string]string)
	for i := 0; tree.Height() < 2; i++ {
		m := insert(conf(i, 0), value("x", 300))
		upsert(t, tree, m)
		pairs[string(m.Key)] = string(m.Val)
	}
	return tree, pairs
}

// TestAnEntryThatChangesAllTheTimeHasOneMessage inserts one entry a thousand times. No flush is
// needed, and what is read is always the last.
func TestAnEntryThatChangesAllTheTimeHasOneMessage(t *testing.T) {
	s := newStore(t)
	tree, pairs := tall(t, s)
	for i := range 1000 {
		m := entryMsg("d", i)
		upsert(t, tree, m)
		got, err := tree.Lookup(nil, m.Key, nil)
		if err != nil || string(got) != string(m.Val) {
			t.Fatalf("version %d: found %x, %v", i, got, err)
		}
		if n, _ := rootMsgs(t, tree, m.Key); n != 1 {
			t.Fatalf("version %d: %d messages in the root", i, n)
		}
		pairs[string(m.Key)] = string(m.Val)
	}
	want(t, tree, pairs)
	s.check(tree)
}

// TestWhatComesBetweenTwoInsertsIsNotPassedOver removes an entry and inserts it again, in one batch and in
// two, when the root's buffer has no room for both messages: the second Insert cannot take the place
// of the first.
func TestWhatComesBetweenTwoInsertsIsNotPassedOver(t *testing.T) {
	for _, split := range []bool{false, true} {
		t.Run(fmt.Sprint("split=", split), func(t *testing.T) {
			s := newStore(t)
			tree, pairs := tall(t, s)
			old, again := entryMsg("d", 1), entryMsg("d", 2)
			upsert(t, tree, old)
			for i := 1000; ; i++ {
				m := insert(conf(i, 0), nil)
				if _, size := rootMsgs(t, tree, old.Key); size+m.Size() > blkfmt.BufSpc {
					break
				}
				upsert(t, tree, m)
				pairs[string(m.Key)] = ""
			}
			if n, _ := rootMsgs(t, tree, old.Key); n != 1 {
				t.Fatalf("%d messages for the entry in the root, want 1", n)
			}
			gone := kvfmt.Msg{Op: kvfmt.Clobber, Key: old.Key}
			if split {
				upsert(t, tree, gone)
				if _, err := tree.Lookup(nil, old.Key, nil); err != ErrNotFound {
					t.Fatalf("removed, and found: %v", err)
				}
				upsert(t, tree, again)
			} else {
				upsert(t, tree, gone, again)
			}
			pairs[string(old.Key)] = string(again.Val)
			want(t, tree, pairs)
			s.check(tree)
		})
	}
}
