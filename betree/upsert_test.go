package betree

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

func TestResetGoesBackToAnOlderRoot(t *testing.T) {
	s := newStore(t)
	s.keep = true
	tree := create(t, s)
	upsert(t, tree, insert(conf(1, 0), nil))
	root, ht := tree.Root()
	before := contents(t, tree)
	for i := range 300 {
		upsert(t, tree, insert(conf(i, 0), value("x", 300)))
	}
	if tree.Height() == ht {
		t.Fatal("the tree has not grown")
	}
	tree.Reset(root, ht)
	if bp, h := tree.Root(); bp != root || h != ht {
		t.Errorf("root is %v of %d levels, want %v of %d", bp, h, root, ht)
	}
	want(t, tree, before)
	tree.Reset(root, ht)
	tree.Close()
	if s.out != 0 {
		t.Errorf("%d references held", s.out)
	}
}

// Pitfall 7: batches as large as a buffer arrive whole, however full the buffers on their way are.
func TestEveryMessageOfALargeBatchArrives(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	pairs := make(map[string]string)
	for range 300 {
		var msgs []kvfmt.Msg
		size := 0
		for {
			m := insert(conf(rng.IntN(1500), 20), value("v", rng.IntN(100)))
			if size += m.Size(); size > BatchMax {
				break
			}
			msgs = append(msgs, m)
			pairs[string(m.Key)] = string(m.Val)
		}
		upsert(t, tree, msgs...)
		if got := contents(t, tree); !maps.Equal(got, pairs) {
			t.Fatalf("%d pairs, want %d", len(got), len(pairs))
		}
	}
	s.check(tree)
}

// Pitfall 9: whoever asks whether the tree has changed compares roots.
func TestEveryUpsertChangesTheRoot(t *testing.T) {
	s := newStore(t)
	tree := create(t, s)
	last, _ := tree.Root()
	for i := range 300 {
		upsert(t, tree, insert(conf(i%7, 100), value("same", 300)))
		root, ht := tree.Root()
		if root.Addr == last.Addr {
			t.Fatalf("upsert %d left the root where it was", i)
		}
		if root.Gen != 2 || ht != tree.Height() {
			t.Fatalf("root %v, %d levels", root, ht)
		}
		last = root
		again := Open(s, s, root, ht)
		want(t, again, contents(t, tree))
		again.Close()
	}
}

// Pitfall 10: nodes never change. Clones taken on the way still show what the tree was then.
func TestClonesStayAsTheyWere(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	s.keep = true
	m := newModel(rng, s, mixedKeys(rng, allKinds, 1500, 1, 100))
	tree := create(t, s)
	type then struct {
		tree *Tree
		vals map[string]string
	}
	var clones []then
	for i := range 1500 {
		upsert(t, tree, m.batch(1+rng.IntN(8), []int{90, 20}[i/500%2])...)
		if i%60 == 0 {
			vals := make(map[string]string)
			for k, v := range m.vals {
				vals[k] = string(v)
			}
			clones = append(clones, then{tree.Clone(nobody{}), vals})
		}
	}
	for i, c := range clones {
		if got := contents(t, c.tree); !maps.Equal(got, c.vals) {
			t.Errorf("clone %d has %d pairs, want %d", i, len(got), len(c.vals))
		}
		if err := Check(nil, c.tree); err != nil {
			t.Errorf("clone %d: %v", i, err)
		}
		// A clone goes its own way.
		upsert(t, c.tree, insert(conf(1, 0), value("clone", 30)))
		c.tree.Close()
	}
	if _, err := tree.Lookup(nil, conf(1, 0), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("the clones' key in the tree: %v", err)
	}
	if err := m.compare(tree); err != nil {
		t.Error(err)
	}
	if s.out != 1 {
		t.Errorf("%d references held for one tree", s.out)
	}
}

// nobody is a Freer that lets everything be.
type nobody struct{}

func (nobody) Free(blkfmt.Bptr) error { return nil }

// Pitfall 11: clears of keys without a value change nothing and show nothing, on every level.
func TestClearingMissingKeysDoesNothing(t *testing.T) {
	hole := kvfmt.AppendDatKey(nil, 5, 7*blkfmt.BlkSize)
	name := kvfmt.AppendEntKey(nil, 5, "nobody")
	clears := []kvfmt.Msg{{Op: kvfmt.Clearb, Key: hole}, {Op: kvfmt.Clobber, Key: name}, {Op: kvfmt.Clearb, Key: hole}}
	there := pair{conf(1, 0), value("there", 10)}
	pairs := map[string]string{string(there.key): string(there.val)}
	for _, ht := range []int{1, 2, 3} {
		s := newStore(t)
		root := s.leaf(there)
		for range ht - 1 {
			root = s.pivot(clears, root)
		}
		tree := s.open(root, ht)
		upsert(t, tree, clears...)
		want(t, tree, pairs)
		s.check(tree)
		for range 100 { // until they are at the leaf
			upsert(t, tree, slices.Repeat(clears, 2)...)
			want(t, tree, pairs)
			s.check(tree)
		}
		// Present only between an insert and a clear of the same batch.
		upsert(t, tree, clears[0], insert(hole, s.data(2).Append(nil)), clears[0], clears[1])
		want(t, tree, pairs)
		s.check(tree)
	}
}

// Data blocks are freed at the leaf, once each: those replaced on the way, too.
func TestEachDataBlockIsFreedOnceWhenItsMessageReachesTheLeaf(t *testing.T) {
	s := newStore(t)
	key := kvfmt.AppendDatKey(nil, 5, 0)
	x, a, b := s.data(1), s.data(2), s.data(2)
	put := func(bp blkfmt.Bptr) kvfmt.Msg { return insert(key, bp.Append(nil)) }
	clear := kvfmt.Msg{Op: kvfmt.Clearb, Key: key}

	root := s.pivot(nil, s.leaf(pair{key, x.Append(nil)}, pair{conf(1, 0), nil}))
	tree := s.open(root, 2)
	upsert(t, tree, put(a), put(b), clear)
	for _, bp := range []blkfmt.Bptr{x, a, b} {
		if !s.live[bp.Addr] {
			t.Errorf("%v was freed while its message is in a buffer", bp)
		}
	}
	s.check(tree)
	c := s.data(2)
	upsert(t, tree, put(c), remove(key), clear, put(s.data(2)), clear)
	for i := 0; tree.Height() > 1; i++ {
		upsert(t, tree, insert(conf(1, 0), value("fill", 500)))
		s.check(tree)
	}
	for _, bp := range []blkfmt.Bptr{x, a, b, c} {
		if s.live[bp.Addr] {
			t.Errorf("%v was not freed", bp)
		}
	}
	// Straight into a leaf.
	d, e := s.data(2), s.data(2)
	upsert(t, tree, put(d), put(e))
	if s.live[d.Addr] || !s.live[e.Addr] {
		t.Error("insert of one block over another does not free the first")
	}
	s.check(tree)
}

// Pitfalls 18 and 19: what must not get into a tree is refused, and nothing happens.
func TestUpsertRefusesWhatMustNotBeStored(t *testing.T) {
	s := newStore(t)
	leaf := create(t, s)
	upsert(t, leaf, insert(conf(1, 0), nil))
	ent := kvfmt.AppendEntKey(nil, 1, "name")
	many := make([]kvfmt.Msg, 12)
	for i := range many {
		many[i] = insert(conf(i, 200), make([]byte, 500))
	}
	for _, c := range []struct {
		name string
		msgs []kvfmt.Msg
	}{
		{"key of 257 bytes", []kvfmt.Msg{insert(conf(1, 257), nil)}},
		{"no key", []kvfmt.Msg{insert(nil, nil)}},
		{"value of 513 bytes", []kvfmt.Msg{insert(conf(1, 0), make([]byte, 513))}},
		{"no op", []kvfmt.Msg{{Key: conf(1, 0)}}},
		{"unknown op", []kvfmt.Msg{{Op: 8, Key: conf(1, 0)}}},
		{"clearb of an entry", []kvfmt.Msg{{Op: kvfmt.Clearb, Key: ent}}},
		{"clobber of data", []kvfmt.Msg{{Op: kvfmt.Clobber, Key: kvfmt.AppendDatKey(nil, 1, 0)}}},
		{"wstat without mask", []kvfmt.Msg{{Op: kvfmt.Wstat, Key: ent}}},
		{"wstat too short", []kvfmt.Msg{{Op: kvfmt.Wstat, Key: ent, Val: []byte{kvfmt.WLength, 1}}}},
		{"malformed entry key", []kvfmt.Msg{insert(ent[:len(ent)-1], make([]byte, kvfmt.DirSize))}},
		{"key of unknown kind", []kvfmt.Msg{insert([]byte{9, 1}, nil)}},
		{"data without pointer", []kvfmt.Msg{insert(kvfmt.AppendDatKey(nil, 1, 0), make([]byte, 23))}},
		{"short directory entry", []kvfmt.Msg{insert(ent, make([]byte, 60))}},
		{"short tree", []kvfmt.Msg{insert(kvfmt.AppendSnapKey(nil, 1), make([]byte, 71))}},
		{"second of two", []kvfmt.Msg{insert(conf(5, 0), nil), insert(conf(1, 257), nil)}},
		{"more than a buffer", many},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := leaf.Root()
			if err := leaf.Upsert(nil, 2, c.msgs); !errors.Is(err, ErrBatch) {
				t.Errorf("Upsert: %v", err)
			}
			if after, _ := leaf.Root(); after != before {
				t.Error("the root has changed")
			}
			s.check(leaf)
		})
	}
	if err := leaf.Upsert(nil, 2, nil); err != nil {
		t.Errorf("no messages: %v", err)
	}
	if err := leaf.Upsert(nil, 2, many[:11]); err != nil {
		t.Errorf("%d bytes: %v", 11*many[0].Size(), err)
	}
	s.check(leaf)
}

// Pitfall 18: a message that needs a value is refused where the tree gets to see that there is none,
// and the others of its batch with it.
func TestMessageForAnAbsentKeyChangesNothing(t *testing.T) {
	link := make([]byte, kvfmt.LinkSize)
	for _, bad := range []kvfmt.Msg{
		remove(conf(2, 0)),
		{Op: kvfmt.Wstat, Key: kvfmt.AppendEntKey(nil, 1, "name"), Val: []byte{0}},
		{Op: kvfmt.Relink, Key: kvfmt.AppendSnapKey(nil, 3), Val: link},
	} {
		s := newStore(t)
		tree := create(t, s)
		upsert(t, tree, insert(conf(1, 0), nil))
		x := s.data(2)
		key := kvfmt.AppendDatKey(nil, 1, 0)
		upsert(t, tree, insert(key, x.Append(nil)))
		before := contents(t, tree)
		err := tree.Upsert(nil, 2, []kvfmt.Msg{{Op: kvfmt.Clearb, Key: key}, insert(conf(0, 0), nil), bad})
		if !errors.Is(err, kvfmt.ErrMissing) {
			t.Errorf("%v: %v", bad.Op, err)
		}
		var corrupt *blkfmt.CorruptError
		if errors.As(err, &corrupt) {
			t.Errorf("%v: %v, but the disk is all right", bad.Op, err)
		}
		want(t, tree, before)
		s.check(tree)
	}
}

// An upsert whose frees fail has taken effect, and all are tried.
func TestFailedFreesDoNotUndoAnUpsert(t *testing.T) {
	s := newStore(t)
	tree := create(t, s)
	for i := range 400 {
		upsert(t, tree, insert(conf(i, 0), value("x", 100)))
	}
	c := &refuser{}
	other := tree.Clone(c)
	for i := 0; len(c.list) < 40; i++ {
		before := len(c.list)
		key := conf(1000+i, 0)
		err := other.Upsert(nil, 3, []kvfmt.Msg{insert(key, value("y", 100))})
		var fe *FreeError
		if !errors.As(err, &fe) || !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "free") || len(c.list) == before {
			t.Fatalf("%d frees, %v", len(c.list)-before, err)
		}
		if _, err := other.Lookup(nil, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	// What was refused, and what is left to the first tree, is all that the second does not reach.
	tree.Close()
	for _, bp := range c.list {
		if err := s.Free(bp); err != nil {
			t.Fatal(err)
		}
	}
	s.check(other)
}

// A refuser frees nothing, and remembers what.
type refuser struct{ list []blkfmt.Bptr }

func (r *refuser) Free(bp blkfmt.Bptr) error {
	r.list = append(r.list, bp)
	return errInjected
}
