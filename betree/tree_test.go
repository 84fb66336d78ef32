package betree

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Pitfalls 1, 12, 13 and 15: after mass deletes every key left is reachable, nodes have been joined
// and none of those joined is lost or freed twice.
func TestTreeShrinksFromTenThousandKeysToTen(t *testing.T) {
	for _, c := range []struct {
		name        string
		short, long int
		kinds       []byte
		bulky       bool
		n           int
	}{
		{"small", 6, 30, allKinds, false, 10000},
		{"maximal, four levels", 240, 244, []byte{kvfmt.Kconf}, true, 10000},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := newRand(t)
			s := newStore(t)
			m := newModel(rng, s, mixedKeys(rng, c.kinds, c.n/slow, c.short, c.long))
			m.bulky = c.bulky
			tree := create(t, s)
			rng.Shuffle(len(m.keys), func(i, j int) { m.keys[i], m.keys[j] = m.keys[j], m.keys[i] })
			step := func(keys []string, msg func(string) kvfmt.Msg, every int) {
				for i := 0; len(keys) > 0; i++ {
					n := min(1+rng.IntN(8), len(keys))
					var msgs []kvfmt.Msg
					for _, k := range keys[:n] {
						msgs = append(msgs, msg(k))
					}
					keys = keys[n:]
					upsert(t, tree, msgs...)
					if i%every == 0 && !raced {
						s.check(tree)
						if err := m.compare(tree); err != nil {
							t.Fatal(err)
						}
					}
				}
				t.Logf("%d keys, %d levels, %d nodes, %d blocks held at most", len(m.there), tree.Height(), len(s.nodes), s.held)
			}
			m.gen = 2
			step(m.keys, m.insert, 400)
			most := len(s.nodes)
			rng.Shuffle(len(m.keys), func(i, j int) { m.keys[i], m.keys[j] = m.keys[j], m.keys[i] })
			step(m.keys[10:], func(k string) kvfmt.Msg { m.remove(k); return remove([]byte(k)) }, 100)
			if len(s.nodes) > most/10+8 {
				t.Errorf("%d nodes for ten keys, there were %d for %d", len(s.nodes), most, c.n)
			}
			// What is still buffered goes down when more comes: for ten keys one leaf is enough.
			step(slices.Repeat(m.there, 200), m.change, 50)
			if tree.Height() > 2 || len(s.nodes) > 3 {
				t.Errorf("%d levels, %d nodes for ten keys", tree.Height(), len(s.nodes))
			}
		})
	}
}

// Pitfall 1: two pivots are joined, and each message still reaches its key.
func TestJoinedPivotsKeepTheirMessages(t *testing.T) {
	s := newStore(t)
	pairs := make(map[string]string)
	leaf := func(from int) made {
		var ps []pair
		for i := from; i < from+5; i++ {
			p := pair{conf(10*i, 0), value("old", 100)}
			pairs[string(p.key)] = string(p.val)
			ps = append(ps, p)
		}
		return s.leaf(ps...)
	}
	// Messages below the first child's key, in it, between the children and above; for keys that
	// exist and others.
	msgs := func(from int) (out []kvfmt.Msg) {
		for i := 10*from - 3; i < 10*from+130; i += 3 {
			out = append(out, insert(conf(i, 0), value("new", 90)))
			pairs[string(conf(i, 0))] = string(value("new", 90))
		}
		return out
	}
	a, b, c, d := leaf(1), leaf(9), leaf(21), leaf(29)
	left, right := s.pivot(msgs(1), a, b), s.pivot(msgs(21), c, d)
	tree := s.open(s.pivot(nil, left, right), 3)
	want(t, tree, pairs)
	s.check(tree)
	for i := range 30 {
		k, v := conf(3*i, 0), value("newest", 400)
		upsert(t, tree, insert(k, v))
		pairs[string(k)] = string(v)
		want(t, tree, pairs)
		s.check(tree)
	}
	if err := tree.Walk(nil, Visit{Node: func(bp blkfmt.Bptr, level int) error {
		if bp.Addr == left.bp.Addr || bp.Addr == right.bp.Addr {
			t.Errorf("%v was not joined", bp)
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
}

// Pitfall 2: the root's last two children are joined under a root that still buffers messages, and
// while a batch comes in that does not fit. The messages stay, and the root goes when it is empty.
func TestRootCollapsesOnlyWhenItsBufferIsEmpty(t *testing.T) {
	s := newStore(t)
	pairs := make(map[string]string)
	var msgs []kvfmt.Msg
	a := s.leaf(pair{conf(0, 0), value("a", 50)}, pair{conf(1, 0), value("a", 50)})
	b := s.leaf(pair{conf(500, 0), value("b", 50)}, pair{conf(501, 0), value("b", 50)})
	for _, i := range []int{0, 1, 500, 501} {
		pairs[string(conf(i, 0))] = ""
	}
	for i := range 4 {
		pairs[string(conf(500*(i/2)+i%2, 0))] = string(value(string("aabb"[i]), 50))
	}
	for i := range 9 { // for a, the most, deletes with a payload as the old reference stored it
		k := conf(0, 0)
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: k, Val: make([]byte, 400)}, insert(k, value("a", 50+i)))
		pairs[string(k)] = string(value("a", 50+i))
	}
	for i := range 6 {
		k := conf(600+i, 0)
		msgs = append(msgs, insert(k, value("b", 390)))
		pairs[string(k)] = string(value("b", 390))
	}
	tree := s.open(s.pivot(msgs, a, b), 2)
	want(t, tree, pairs)
	batch := []kvfmt.Msg{}
	for i := range 7 {
		k := conf(2+i, 0)
		batch = append(batch, insert(k, value("c", 300)))
		pairs[string(k)] = string(value("c", 300))
	}
	upsert(t, tree, batch...)
	s.check(tree)
	want(t, tree, pairs)
	if tree.Height() != 2 {
		t.Fatalf("%d levels right after the children were joined: the buffered messages need a root", tree.Height())
	}
	for i := 0; tree.Height() == 2 && i < 50; i++ {
		k := conf(0, 0)
		upsert(t, tree, insert(k, value("d", 200+i)))
		pairs[string(k)] = string(value("d", 200+i))
		s.check(tree)
		want(t, tree, pairs)
	}
	if tree.Height() != 1 {
		t.Errorf("%d levels for %d small pairs", tree.Height(), len(pairs))
	}
}

// A root whose last child but one empties gives way to the other as it stands on disk, or to what
// is below that, if it does nothing itself.
func TestRootCollapsesToABlockThatStays(t *testing.T) {
	for _, ht := range []int{2, 3, 4} {
		s := newStore(t)
		a := s.leaf(pair{conf(0, 0), nil})
		b := s.leaf(pair{conf(500, 0), value("b", 50)})
		root, nodes := b, []made{}
		for range ht - 2 {
			a, root = s.pivot(nil, a), s.pivot(nil, root)
			nodes = append(nodes, root)
		}
		var msgs []kvfmt.Msg
		for range 9 {
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: conf(0, 0), Val: make([]byte, 400)}, insert(conf(0, 0), value("a", 400)))
		}
		tree := s.open(s.pivot(msgs, a, root), ht)
		batch := []kvfmt.Msg{{Op: kvfmt.Delete, Key: conf(0, 0), Val: make([]byte, 500)}}
		for i := 0; tree.Height() > 1 && i < 3*ht; i++ {
			for n := 1; ; n++ {
				s.failIn = n
				if err := tree.Upsert(nil, 2, batch); err == nil {
					break
				} else if !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
			}
			s.failIn = 0
			s.check(tree)
			want(t, tree, map[string]string{string(conf(500, 0)): string(value("b", 50))})
			batch = []kvfmt.Msg{insert(conf(0, 0), value("a", 500)), batch[0], insert(conf(0, 0), value("a", 500)), batch[0],
				insert(conf(0, 0), value("a", 500)), batch[0], insert(conf(0, 0), value("a", 500)), batch[0]}
			batch = append(batch, batch...)[:14]
		}
		if bp, h := tree.Root(); h != 1 || bp != b.bp {
			t.Errorf("%d levels: root is %v of %d levels, want %v of 1", ht, bp, h, b.bp)
		}
	}
}

func TestTreeDoesNotGrowBeyondBelief(t *testing.T) {
	s := newStore(t)
	root := s.leaf(pair{conf(0, kvfmt.KeyMax), nil})
	for range blkfmt.MaxHeight - 2 {
		root = s.pivot(nil, root)
	}
	n := kvfmt.Node(make([]byte, blkfmt.BlkSize))
	n.InitPivot()
	n.AddChild(root.node.FirstKey(), root.bp, root.node.Fill())
	for i := 1; i < 28; i++ { // never read
		n.AddChild(conf(i, kvfmt.KeyMax), blkfmt.Bptr{Addr: 1 << 40}, blkfmt.LeafSpc)
	}
	for range 17 {
		n.InsertMsg(insert(conf(0, kvfmt.KeyMax), value("x", 200)))
	}
	tree := s.open(made{bp: s.put(1, n)}, blkfmt.MaxHeight)
	err := tree.Upsert(nil, 2, []kvfmt.Msg{insert(conf(0, kvfmt.KeyMax), value("y", 500))})
	if err == nil || !strings.Contains(err.Error(), "49 levels high") || tree.Height() != blkfmt.MaxHeight {
		t.Errorf("%d levels, %v", tree.Height(), err)
	}
	if s.out != 1 || s.raw != 0 {
		t.Errorf("%d references held, %d blocks never queued", s.out, s.raw)
	}
}

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

// Pitfall 3: a message that was not there when the place of the cut was chosen becomes the first key
// of the right half. Whatever is inserted around the middle, each child's key is its first.
func TestSeparatorsAreTheFirstKeysOfFinishedNodes(t *testing.T) {
	for shift := range 40 {
		s := newStore(t)
		tree := create(t, s)
		pairs := make(map[string]string)
		var batch []kvfmt.Msg
		for i := range 38 {
			k, v := conf(100*i, 0), value("x", 410)
			pairs[string(k)] = string(v)
			upsert(t, tree, insert(k, v))
		}
		for i := range 18 {
			k, v := conf(100*(shift-9+i)+50, 0), value("y", 410)
			if shift-9+i < 0 {
				continue
			}
			pairs[string(k)] = string(v)
			batch = append(batch, insert(k, v))
		}
		upsert(t, tree, batch...)
		s.check(tree) // compares the keys with those of the children
		want(t, tree, pairs)
		if tree.Height() != 2 {
			t.Fatal("the leaf was not split")
		}
	}
}

// The key of a pivot is that of its first message, if that is below the first child's: the lookup of
// a new first key would not get there otherwise.
func TestPivotWithAMessageBelowItsChildrenIsFound(t *testing.T) {
	s := newStore(t)
	leaf := func(i int) made { return s.leaf(pair{conf(i, 0), value("old", 200)}) }
	pairs := map[string]string{}
	for _, i := range []int{100, 300, 500, 700} {
		pairs[string(conf(i, 0))] = string(value("old", 200))
	}
	tree := s.open(s.pivot(nil, s.pivot(nil, leaf(100), leaf(300)), s.pivot(nil, leaf(500), leaf(700))), 3)
	for i := range 60 {
		// The lowest of all, then the lowest that goes to the second pivot.
		for _, k := range [][]byte{conf(99-i, 0), conf(499-i, 0)} {
			upsert(t, tree, insert(k, value("new", 200)))
			pairs[string(k)] = string(value("new", 200))
		}
		s.check(tree)
		want(t, tree, pairs)
	}
}

// Pitfalls 4 and 5: entries of the longest key, and keys that take the place of shorter ones, never
// overflow a pivot.
func TestPivotsTakeMaximalKeys(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	var keys []string
	for i := range 2500 {
		// The short key stands right before the long one, and is in its place when that is gone.
		k := conf(i, kvfmt.KeyMax)
		keys = append(keys, string(k[:7]), string(k))
	}
	m := newModel(rng, s, keys)
	m.bulky = true
	run(t, s, m, tree, 400, phase{1500, 8, 95}, phase{1500, 8, 45})
	if tree.Height() < 3 {
		t.Errorf("only %d levels", tree.Height())
	}
}

// Pitfall 6: the last child of a pivot empties while more messages flow through the pivot. And a
// pivot without children, which the reference may leave, gives its messages a new child.
func TestMessagesOutliveTheLastChild(t *testing.T) {
	t.Run("emptied", func(t *testing.T) {
		s := newStore(t)
		only := s.leaf(pair{conf(50, 0), value("gone", 50)})
		var msgs []kvfmt.Msg
		pairs := make(map[string]string)
		msgs = append(msgs, remove(conf(50, 0)))
		for i := range 18 {
			k := conf(100+i, 0)
			msgs = append(msgs, insert(k, value("kept", 400)))
			pairs[string(k)] = string(value("kept", 400))
		}
		tree := s.open(s.pivot(nil, s.pivot(msgs, only)), 3)
		want(t, tree, pairs)
		for i := 0; tree.Height() == 3 && i < 50; i++ {
			k := conf(200, 0)
			upsert(t, tree, insert(k, value("flush", 450)), remove(k))
			s.check(tree)
			want(t, tree, pairs)
		}
	})
	t.Run("all emptied", func(t *testing.T) {
		s := newStore(t)
		leaf := func(i int) made { return s.leaf(pair{conf(i, 0), value("gone", 50)}) }
		var msgs []kvfmt.Msg
		for i := range 5 {
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: conf(i, 0), Val: make([]byte, 500)})
		}
		tree := s.open(s.pivot(nil, s.pivot(msgs, leaf(0), leaf(1), leaf(2), leaf(3), leaf(4))), 3)
		k := conf(200, 0)
		for i := 0; tree.Height() > 1 && i < 100; i++ {
			upsert(t, tree, insert(k, value("flush", 450)), remove(k))
			s.check(tree)
			want(t, tree, nil)
		}
		if tree.Height() != 1 {
			t.Errorf("%d levels for nothing", tree.Height())
		}
	})
	t.Run("never there", func(t *testing.T) {
		// No disk has a pivot like this, and none is to be made on the way.
		s := newStore(t)
		var u update
		u.begin(&Tree{st: s, freer: s}, nil, 1)
		defer u.end()
		p := u.proto(3)
		for i := range 10 {
			p.msgs = append(p.msgs, insert(conf(i, 0), value("kept", 400)))
		}
		nodes, err := u.settle(p)
		if err != nil || len(nodes) != 1 {
			t.Fatalf("%d nodes, %v", len(nodes), err)
		}
		p = nodes[0]
		for p.level > 1 {
			if len(p.ents) != 1 || len(p.msgs) != 0 {
				t.Fatalf("pivot of level %d has %d children, %d messages", p.level, len(p.ents), len(p.msgs))
			}
			p = p.ents[0].sub
		}
		if len(p.ents) != 10 {
			t.Errorf("leaf of %d entries", len(p.ents))
		}
	})
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

// Pitfall 16: a scan that starts at any key, or just before or after one, finds the next.
func TestScanStartsAtEveryKeyAndBetween(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	m := newModel(rng, s, mixedKeys(rng, []byte{kvfmt.Kent, kvfmt.Kconf}, 2000, 200, 244))
	m.bulky = true
	for range 600 {
		upsert(t, tree, m.batch(8, 90)...)
	}
	list := m.sorted()
	first := func(prefix, after []byte) (key []byte) {
		t.Helper()
		if err := tree.Scan(nil, prefix, after, func(k, _ []byte) bool { key = bytes.Clone(k); return false }); err != nil {
			t.Fatal(err)
		}
		return key
	}
	for i, k := range list {
		key := []byte(k)
		var next []byte
		if i+1 < len(list) {
			next = []byte(list[i+1])
		}
		if got := first(key, nil); !bytes.Equal(got, key) {
			t.Errorf("first with prefix %x is %x", key, got)
		}
		if got := first(nil, key); !bytes.Equal(got, next) {
			t.Errorf("first after %x is %x, want %x", key, got, next)
		}
		if got := first(nil, key[:len(key)-1]); !bytes.Equal(got, key) && (i == 0 || string(got) != list[i-1]) && string(got) > k {
			t.Errorf("first after %x is %x", key[:len(key)-1], got)
		}
		n := 0
		if err := tree.ScanRange(nil, key, next, func(k, _ []byte) bool { n++; return true }); err != nil || n != 1 {
			t.Errorf("%d keys from %x up to the next, %v", n, key, err)
		}
	}
	if h := tree.Height(); h < 3 {
		t.Errorf("only %d levels", h)
	}
}

// A scan reads no leaf that can have nothing of what is wanted.
func TestScanReadsOnlyWhatMayBeWanted(t *testing.T) {
	s := newStore(t)
	var leaves []made
	for i := range 8 {
		leaves = append(leaves, s.leaf(pair{conf(10*i, 0), nil}, pair{conf(10*i+1, 0), nil}))
	}
	// Messages behind what is wanted, and deletes of all that is.
	msgs := []kvfmt.Msg{remove(conf(30, 0)), remove(conf(31, 0)), insert(conf(45, 0), nil)}
	tree := s.open(s.pivot(nil, s.pivot(msgs, leaves[:5]...), s.pivot(nil, leaves[5:]...)), 3)
	all := func(_, _ []byte) bool { return true }
	for _, c := range []struct {
		name  string
		reads int
		scan  func() error
	}{
		{"range of a leaf", 2, func() error { return tree.ScanRange(nil, conf(20, 0), conf(30, 0), all) }},
		{"range at the end of a pivot", 2, func() error { return tree.ScanRange(nil, conf(40, 0), conf(50, 0), all) }},
		{"range over the end of a pivot", 4, func() error { return tree.ScanRange(nil, conf(40, 0), conf(51, 0), all) }},
		{"prefix", 3, func() error { return tree.Scan(nil, conf(20, 0)[:6], nil, all) }},
		{"prefix where all was deleted", 3, func() error { return tree.Scan(nil, conf(30, 0)[:6], nil, all) }},
		{"prefix of nothing", 0, func() error { return tree.Scan(nil, []byte{kvfmt.Klabel}, nil, all) }},
		{"first", 2, func() error { return tree.Scan(nil, nil, nil, func(_, _ []byte) bool { return false }) }},
	} {
		if err := c.scan(); err != nil { // the root is read once
			t.Fatal(err)
		}
		before := s.gets
		if err := c.scan(); err != nil || s.gets-before != c.reads {
			t.Errorf("%s: %d reads, %v, want %d", c.name, s.gets-before, err, c.reads)
		}
	}
	s.check(tree)
}

// A directory is read in pieces, each with a new scan, while it changes: what was there all the
// time is seen once.
func TestScanInPiecesSeesEachKeyOnceWhileTheTreeChanges(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	stay := make(map[string]int)
	put := func(i int, op kvfmt.Op) {
		m := kvfmt.Msg{Op: op, Key: conf(i, 50)}
		if op == kvfmt.Insert {
			m.Val = value("v", rng.IntN(200))
		}
		upsert(t, tree, m)
	}
	for i := range 2000 {
		put(i, kvfmt.Insert)
		if i%2 == 0 {
			stay[string(conf(i, 50))] = 0
		}
	}
	there := func(i int) bool { _, err := tree.Lookup(nil, conf(i, 50), nil); return err == nil }
	var after []byte
	for done := false; !done; {
		n := 0
		done = true
		err := tree.Scan(nil, []byte{kvfmt.Kconf}, after, func(k, _ []byte) bool {
			if _, ok := stay[string(k)]; ok {
				stay[string(k)]++
			}
			after = append(after[:0], k...)
			n++
			done = n < 7
			return n < 7
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			i := rng.IntN(1000)*2 + 1
			if there(i) {
				put(i, kvfmt.Delete)
			} else {
				put(i, kvfmt.Insert)
			}
		}
	}
	for k, n := range stay {
		if n != 1 {
			t.Errorf("key %q was seen %d times", k, n)
		}
	}
}

// Pitfall 17: the value is made of the leaf's and of messages on all levels, the lowest first.
func TestLookupAppliesTheMessagesOfEveryLevel(t *testing.T) {
	s := newStore(t)
	key := kvfmt.AppendEntKey(nil, 1, "file")
	d := kvfmt.Dir{Mode: 0600, Length: 1}
	stat := func(mask uint8, d kvfmt.Dir) kvfmt.Msg {
		return kvfmt.Msg{Op: kvfmt.Wstat, Key: key, Val: kvfmt.AppendWstat(nil, mask, &d)}
	}
	root := s.leaf(pair{key, d.Append(nil)})
	for i := range 4 {
		root = s.pivot([]kvfmt.Msg{
			stat(kvfmt.WLength, kvfmt.Dir{Length: uint64(10 * (i + 1))}),
			stat(kvfmt.WMtime|kvfmt.WLength, kvfmt.Dir{Mtime: int64(i), Length: uint64(10*(i+1) + 1)}),
			stat(0, kvfmt.Dir{}),
		}, root)
	}
	tree := s.open(root, 5)
	w := kvfmt.Dir{Qid: kvfmt.Qid{Vers: 12}, Mode: 0600, Length: 41, Mtime: 3}
	want(t, tree, map[string]string{string(key): string(w.Append(nil))})
	// An insert or a clear hides all that is older, and what is newer counts.
	d = kvfmt.Dir{Mode: 0640, Qid: kvfmt.Qid{Vers: 5}}
	upsert(t, tree, insert(key, d.Append(nil)), stat(kvfmt.WMtime, kvfmt.Dir{Mtime: 9}))
	d.Mtime, d.Qid.Vers = 9, 6
	want(t, tree, map[string]string{string(key): string(d.Append(nil))})
	upsert(t, tree, kvfmt.Msg{Op: kvfmt.Clobber, Key: key})
	want(t, tree, nil)
	upsert(t, tree, insert(key, d.Append(nil)))
	want(t, tree, map[string]string{string(key): string(d.Append(nil))})
	upsert(t, tree, remove(key))
	want(t, tree, nil)
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

// Pitfall 21: key and result may share storage, and a result has any size.
func TestLookupMayReuseTheKeysStorage(t *testing.T) {
	s := newStore(t)
	tree := create(t, s)
	upsert(t, tree, insert(conf(1, 0), value("long", kvfmt.ValMax)), insert(conf(2, 0), value("short", 3)), insert(conf(3, 0), nil))
	buf := make([]byte, 0, 8)
	for i, size := range []int{kvfmt.ValMax, 3, 0} {
		key := append(buf[:0], conf(i+1, 0)...)
		got, err := tree.Lookup(nil, key, key)
		if err != nil || len(got) != size {
			t.Errorf("value of %d bytes, %v, want %d", len(got), err, size)
		}
		buf = got
	}
	if got, err := tree.Lookup(nil, conf(3, 0), nil); err != nil || len(got) != 0 {
		t.Errorf("empty value: %q, %v", got, err)
	}
	if _, err := tree.Lookup(nil, conf(4, 0), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
}

// Pitfall 22: each message replayed is held to the same rule, not only the first of a level.
func TestEveryMessageReplayedNeedsItsValue(t *testing.T) {
	key := kvfmt.AppendEntKey(nil, 1, "name")
	d := kvfmt.Dir{Mode: 0600}
	there := pair{key, d.Append(nil)}
	bump := kvfmt.Msg{Op: kvfmt.Wstat, Key: key, Val: []byte{0}}
	gone := kvfmt.Msg{Op: kvfmt.Clobber, Key: key}
	for _, c := range []struct {
		name string
		low  []kvfmt.Msg
		high []kvfmt.Msg
	}{
		{"first of the lower level", []kvfmt.Msg{gone, remove(key)}, nil},
		{"second of the lower level", []kvfmt.Msg{remove(key), bump}, nil},
		{"first of the upper level", []kvfmt.Msg{remove(key)}, []kvfmt.Msg{bump}},
		{"second of the upper level", []kvfmt.Msg{bump}, []kvfmt.Msg{remove(key), remove(key)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			tree := s.open(s.pivot(c.high, s.pivot(c.low, s.leaf(there))), 3)
			var bad *blkfmt.CorruptError
			_, err := tree.Lookup(nil, key, nil)
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("lookup: %v", err)
			}
			err = tree.Scan(nil, nil, nil, func(_, _ []byte) bool { return true })
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("scan: %v", err)
			}
			if err := Check(nil, tree); !errors.As(err, &bad) {
				t.Errorf("check: %v", err)
			}
			for i := 0; ; i++ {
				err = tree.Upsert(nil, 2, []kvfmt.Msg{insert(conf(i, 0), value("x", 500))})
				if err != nil || i == 200 {
					break
				}
			}
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("upsert: %v", err)
			}
			if s.out != 1 || s.raw != 0 {
				t.Errorf("%d references held, %d blocks never queued", s.out, s.raw)
			}
		})
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

// The blocks one upsert needs at a time are bounded, also when every child gets as much as every
// other, so that half of them must be rewritten to make room.
func TestUpsertHoldsFewBlocks(t *testing.T) {
	s := newStore(t)
	key := func(i int) []byte { return kvfmt.AppendUpKey(nil, uint64(i)) }
	var leaves []made
	var msgs []kvfmt.Msg
	const n, per = 170, 100
	for i := range n {
		var ps []pair
		for j := 50; j < 70; j++ {
			ps = append(ps, pair{key(per*i + j), value("x", 500)})
		}
		leaves = append(leaves, s.leaf(ps...))
	}
	clobbers := func(from int) (out []kvfmt.Msg) {
		for i := range n {
			for j := from; j < from+3; j++ {
				out = append(out, kvfmt.Msg{Op: kvfmt.Clobber, Key: key(per*i + j)})
			}
		}
		return out
	}
	msgs = clobbers(1)
	low := s.pivot(msgs, leaves...)
	tree := s.open(s.pivot(clobbers(4), low), 3)
	want := contents(t, tree)
	s.held = 0
	upsert(t, tree, insert(conf(1, 0), value("overflow", 500)))
	if s.held > 200 {
		t.Errorf("%d blocks held", s.held)
	}
	t.Logf("%d blocks held, %d written", s.held, s.writes)
	for k := range want {
		if _, err := tree.Lookup(nil, []byte(k), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.check(tree)
}

func TestWalkVisitsAllButWhatIsSkipped(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	m := newModel(rng, s, mixedKeys(rng, allKinds, 3000, 243, 244))
	for i := range 800 {
		m.gen = blkfmt.Gen(1 + i/10)
		if i >= 790 {
			m.gen = 100 // some nodes are not rewritten any more
		}
		if err := tree.Upsert(nil, m.gen, m.batch(8, 80)); err != nil {
			t.Fatal(err)
		}
	}
	root, ht := tree.Root()
	// Everything, by hand.
	type visit struct {
		nodes map[blkfmt.Addr]int
		data  map[blkfmt.Addr]string
	}
	record := func(skip func(blkfmt.Bptr, int) bool) visit {
		v := visit{make(map[blkfmt.Addr]int), make(map[blkfmt.Addr]string)}
		err := tree.Walk(nil, Visit{
			Skip: skip,
			Node: func(bp blkfmt.Bptr, level int) error {
				if _, ok := v.nodes[bp.Addr]; ok {
					t.Errorf("%v visited twice", bp)
				}
				for i, n := 0, kvfmt.Node(s.nodes[bp.Addr].data); level > 1 && i < n.Nval(); i++ {
					c, _ := n.Child(i)
					if _, ok := v.nodes[c.Addr]; !ok && (skip == nil || !skip(c, level-1)) {
						t.Errorf("%v visited before its child %v", bp, c)
					}
				}
				v.nodes[bp.Addr] = level
				return nil
			},
			Data: func(key []byte, bp blkfmt.Bptr) error { v.data[bp.Addr] = string(key); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	all := record(nil)
	if len(all.nodes) != len(s.nodes) || len(all.nodes)+len(all.data) != len(s.live) || all.nodes[root.Addr] != ht {
		t.Errorf("%d nodes and %d data blocks visited of %d and %d", len(all.nodes), len(all.data), len(s.nodes), len(s.live)-len(s.nodes))
	}
	const old = 99
	some := record(func(bp blkfmt.Bptr, _ int) bool { return bp.Gen <= old })
	if len(some.nodes) == 0 || len(some.nodes) == len(all.nodes) {
		t.Errorf("%d of %d nodes are younger", len(some.nodes), len(all.nodes))
	}
	for a, level := range all.nodes {
		_, got := some.nodes[a]
		if young := s.nodes[a].bp.Gen > old; got != young {
			t.Errorf("node %v of level %d, born in %d: visited is %v", a, level, s.nodes[a].bp.Gen, got)
		}
	}
	if none := record(func(bp blkfmt.Bptr, _ int) bool { return true }); len(none.nodes)+len(none.data) != 0 {
		t.Error("visited although the root is to be skipped")
	}
	// An error of the visitor ends the walk, and nothing is held.
	calls := 0
	err := tree.Walk(nil, Visit{Data: func([]byte, blkfmt.Bptr) error { calls++; return errInjected }})
	if err != errInjected || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	err = tree.Walk(nil, Visit{Node: func(blkfmt.Bptr, int) error { calls++; return errInjected }})
	if err != errInjected || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	s.check(tree)
}

// Check is only worth something if it finds what is wrong.
func TestCheckFindsEachKindOfDamage(t *testing.T) {
	data := kvfmt.AppendDatKey(nil, 1, 0)
	for _, c := range []struct {
		name string
		make func(s *memStore) (made, int)
	}{
		{"leaf too high", func(s *memStore) (made, int) { return s.leaf(pair{conf(1, 0), nil}), 2 }},
		{"pivot too low", func(s *memStore) (made, int) { return s.pivot(nil, s.leaf(pair{conf(1, 0), nil})), 1 }},
		{"key below the parent's", func(s *memStore) (made, int) {
			a, b := s.leaf(pair{conf(1, 0), nil}), s.leaf(pair{conf(3, 0), nil})
			b.node = s.leaf(pair{conf(4, 0), nil}).node
			return s.pivot(nil, a, b), 2
		}},
		{"key above the next", func(s *memStore) (made, int) {
			return s.pivot(nil, s.leaf(pair{conf(1, 0), nil}, pair{conf(4, 0), nil}), s.leaf(pair{conf(3, 0), nil})), 2
		}},
		{"message above the next", func(s *memStore) (made, int) {
			a := s.pivot([]kvfmt.Msg{insert(conf(9, 0), nil)}, s.leaf(pair{conf(1, 0), nil}))
			return s.pivot(nil, a, s.pivot(nil, s.leaf(pair{conf(5, 0), nil}))), 3
		}},
		{"wrong fill", func(s *memStore) (made, int) {
			a := s.leaf(pair{conf(1, 0), nil})
			a.node = s.leaf(pair{conf(1, 0), value("x", 3)}).node
			return s.pivot(nil, a), 2
		}},
		{"child younger than its parent", func(s *memStore) (made, int) {
			a := s.leaf(pair{conf(1, 0), nil})
			a.bp = s.put(9, a.node)
			return s.pivot(nil, a), 2
		}},
		{"node with two parents", func(s *memStore) (made, int) {
			a := s.leaf(pair{conf(1, 0), nil})
			b := a
			b.node = s.leaf(pair{conf(2, 0), nil}).node
			return s.pivot(nil, a, b), 2
		}},
		{"data block with two owners", func(s *memStore) (made, int) {
			x := s.data(1).Append(nil)
			return s.leaf(pair{data, x}, pair{kvfmt.AppendDatKey(nil, 2, 0), x}), 1
		}},
		{"data block also in a message", func(s *memStore) (made, int) {
			x := s.data(1).Append(nil)
			return s.pivot([]kvfmt.Msg{insert(data, x)}, s.leaf(pair{data, x})), 2
		}},
		{"malformed data pointer", func(s *memStore) (made, int) { return s.leaf(pair{data, []byte("short")}), 1 }},
		{"delete of a missing key", func(s *memStore) (made, int) {
			return s.pivot([]kvfmt.Msg{remove(conf(2, 0))}, s.leaf(pair{conf(1, 0), nil})), 2
		}},
		{"no such root", func(s *memStore) (made, int) { return made{bp: blkfmt.Bptr{Addr: 1 << 40}}, 1 }},
		{"height of nothing", func(s *memStore) (made, int) { return s.leaf(), 0 }},
		{"height beyond belief", func(s *memStore) (made, int) { return s.leaf(), blkfmt.MaxHeight + 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			root, ht := c.make(s)
			var bad *blkfmt.CorruptError
			tree := s.open(root, ht)
			if err := Check(nil, tree); !errors.As(err, &bad) {
				t.Errorf("Check: %v", err)
			}
			tree.Close()
			if s.out != 0 {
				t.Errorf("%d references held", s.out)
			}
		})
	}
}

// Children whose keys overlap cannot be split or joined without losing some: that is corruption, and
// changes nothing. So is a data pointer that is none.
func TestUpsertRefusesDamagedChildren(t *testing.T) {
	fill := func(key []byte) (msgs []kvfmt.Msg) {
		for range 19 {
			msgs = append(msgs, insert(key, value("x", 412)))
		}
		return msgs
	}
	large := func(from int) (ps []pair) {
		for i := from; i < from+36; i++ {
			ps = append(ps, pair{conf(i, 0), value("large", 430)})
		}
		return ps
	}
	for _, c := range []struct {
		name, want string
		make       func(s *memStore) (made, int)
	}{
		{"leaf to be split", "overlap", func(s *memStore) (made, int) {
			msgs := fill(nil)[:18]
			for i := range msgs {
				msgs[i].Key = conf(0, 10+i)
			}
			return s.pivot(msgs, s.leaf(large(0)...), s.leaf(large(5)...)), 2
		}},
		{"leaves to be joined", "overlap", func(s *memStore) (made, int) {
			a := s.leaf(pair{conf(0, 0), nil}, pair{conf(20, 0), nil})
			return s.pivot(fill(conf(0, 0)), a, s.leaf(pair{conf(10, 0), nil})), 2
		}},
		{"buffers to be joined", "overlap", func(s *memStore) (made, int) {
			a := s.pivot([]kvfmt.Msg{insert(conf(20, 0), nil)}, s.leaf(pair{conf(0, 0), nil}))
			b := s.pivot([]kvfmt.Msg{insert(conf(11, 0), nil)}, s.leaf(pair{conf(10, 0), nil}))
			return s.pivot(fill(conf(0, 0)), a, b), 3
		}},
		{"data pointer", "block pointer", func(s *memStore) (made, int) {
			key := kvfmt.AppendDatKey(nil, 1, 0)
			msgs := append(fill(conf(0, 0))[:17], kvfmt.Msg{Op: kvfmt.Clearb, Key: key})
			return s.pivot(msgs, s.leaf(pair{key, []byte("none")}, pair{conf(0, 0), nil})), 2
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			root, ht := c.make(s)
			tree := s.open(root, ht)
			for i := 0; ; i++ {
				err := tree.Upsert(nil, 2, []kvfmt.Msg{insert(conf(0, 0), value("y", 500))})
				if err == nil && i < 20 {
					continue
				}
				var bad *blkfmt.CorruptError
				if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("upsert %d: %v", i, err)
				}
				break
			}
			if s.out != 1 || s.raw != 0 {
				t.Errorf("%d references held, %d blocks never queued", s.out, s.raw)
			}
		})
	}
}

// Whatever the sizes of entries, the parts fit, follow each other, are as few as can be or one more,
// and take their messages with them.
func TestSplitsFitAndAreEven(t *testing.T) {
	rng := newRand(t)
	for range 3000 / slow {
		s := newStore(t)
		var u update
		u.begin(&Tree{st: s, freer: s}, nil, 1)
		p := u.proto(1 + rng.IntN(2))
		n, biggest := 1+rng.IntN(120), 0
		long := 7 + rng.IntN(kvfmt.KeyMax-6)
		for i := range n {
			e := entry{key: conf(2*i+1, 7+rng.IntN(long-6))}
			if p.level == 1 {
				e.val = make([]byte, rng.IntN(2)*rng.IntN(kvfmt.ValMax+1))
			} else {
				e.val = make([]byte, kvfmt.ChildSize)
			}
			p.ents = append(p.ents, e)
			biggest = max(biggest, p.entSize(i))
		}
		for i := range 2 * n {
			if p.level > 1 && rng.IntN(3) == 0 {
				p.msgs = append(p.msgs, remove(conf(i, 0)))
			}
		}
		total := p.valSize()
		parts := u.split(p)
		if least := (total + p.space() - 1) / p.space(); len(parts) < least || len(parts) > least+1 {
			t.Fatalf("%d bytes in %d parts of at most %d", total, len(parts), p.space())
		}
		var ents []entry
		var msgs []kvfmt.Msg
		for i, q := range parts {
			size := q.valSize()
			if size > q.space() || len(parts) > 1 && (size < total/len(parts)-biggest || size > total/len(parts)+biggest) {
				t.Fatalf("part %d of %d has %d of %d bytes", i, len(parts), size, total)
			}
			if i > 0 && !before(parts[i-1], q) || i > 0 && len(q.msgs) > 0 && kvfmt.Compare(q.msgs[0].Key, q.ents[0].key) < 0 {
				t.Fatalf("part %d starts too early", i)
			}
			ents, msgs = append(ents, q.ents...), append(msgs, q.msgs...)
		}
		if !slices.EqualFunc(ents, p.ents, func(a, b entry) bool { return bytes.Equal(a.key, b.key) }) ||
			!slices.EqualFunc(msgs, p.msgs, func(a, b kvfmt.Msg) bool { return bytes.Equal(a.Key, b.Key) }) {
			t.Fatal("the parts are not the whole")
		}
		u.end()
	}
}

// What has a good hash and the form of a node may still be nonsense. Nothing panics, loops or keeps
// references, whatever the tree.
func TestDamagedTreesNeverPanic(t *testing.T) {
	rng := newRand(t)
	for range 100 / slow {
		s := newStore(t)
		s.t = quiet{t} // frees of nonsense are expected
		s.keep, s.lax = true, true
		m := newModel(rng, s, mixedKeys(rng, allKinds, 300, 100, 244))
		tree := create(t, s)
		for range 120 {
			upsert(t, tree, m.batch(8, 80)...)
		}
		damage(rng, s)
		root, ht := tree.Root()
		tree.Close()
		tree = s.open(made{bp: root}, ht)
		_ = Check(nil, tree)
		_ = tree.Walk(nil, Visit{})
		for range 60 {
			_, _ = tree.Lookup(nil, []byte(m.keys[rng.IntN(len(m.keys))]), nil)
			_ = tree.Scan(nil, []byte(m.keys[rng.IntN(len(m.keys))][:3]), nil, func(_, _ []byte) bool { return true })
			_ = tree.Upsert(nil, 3, m.batch(8, 50))
		}
		tree.Close()
		if s.out != 0 || s.raw != 0 {
			t.Fatalf("%d references held, %d blocks never queued", s.out, s.raw)
		}
	}
}

// damage changes some of the nodes in use so that they still have the form of one.
func damage(rng *rand.Rand, s *memStore) {
	for _, a := range slices.Sorted(maps.Keys(s.nodes)) {
		if !s.live[a] || rng.IntN(3) == 0 {
			continue
		}
		poke := func(p []byte) {
			if len(p) > 0 {
				p[rng.IntN(len(p))] = byte(rng.Uint32())
			}
		}
		for range 1 + rng.IntN(3) {
			n := kvfmt.Node(bytes.Clone(s.nodes[a].data))
			i := rng.IntN(n.Nval())
			key, val := n.Val(i)
			switch rng.IntN(6) {
			case 0:
				poke(key)
			case 1:
				poke(val)
			case 2: // a child, or value, twice
				_, from := n.Val(rng.IntN(n.Nval()))
				copy(val, from)
			case 3:
				if n.Nbuf() > 0 {
					poke(n.Msg(rng.IntN(n.Nbuf())).Key)
				}
			case 4:
				if n.Nbuf() > 0 {
					poke(n.Msg(rng.IntN(n.Nbuf())).Val)
				}
			case 5: // header, tables
				poke(n[:200])
			}
			if kvfmt.CheckNode(n) == nil {
				s.nodes[a].data = n
			}
		}
	}
}

// quiet is a testing.TB that does not mind errors.
type quiet struct{ testing.TB }

func (quiet) Errorf(string, ...any) {}
