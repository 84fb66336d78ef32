package betree

import (
	"bytes"
	"errors"
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

// TestSettleFreesWhatMessagesHold clears data whose messages stay in the buffers, and moves them down
// until nothing is left that only waits for them.
func TestSettleFreesWhatMessagesHold(t *testing.T) {
	for _, n := range []int{3, 2000, 60000} {
		rng := newRand(t)
		s := newStore(t)
		m := newModel(rng, s, mixedKeys(rng, []byte{kvfmt.Kdat}, n/slow+3, 6, 30))
		tree := create(t, s)
		for i := 0; i < len(m.keys); i += 100 {
			var msgs []kvfmt.Msg
			for _, k := range m.keys[i:min(i+100, len(m.keys))] {
				msgs = append(msgs, m.insert(k))
			}
			upsert(t, tree, msgs...)
		}
		for {
			moved, err := tree.Settle(nil, 2)
			if err != nil {
				t.Fatal(err)
			}
			if !moved {
				break
			}
		}
		s.check(tree)
		if err := m.compare(tree); err != nil {
			t.Fatal(err)
		}
		before, cleared := len(s.live), 0
		var msgs []kvfmt.Msg
		for _, k := range m.sorted()[:min(len(m.vals), 60)] {
			m.remove(k)
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Clearb, Key: []byte(k)})
			cleared++
		}
		upsert(t, tree, msgs...)
		if tree.Height() > 1 && len(s.live) < before {
			t.Fatalf("%d keys: the clears went down at once", n)
		}
		for calls := 0; ; calls++ {
			moved, err := tree.Settle(nil, 2)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.compare(tree); err != nil {
				t.Fatalf("after %d calls: %v", calls, err)
			}
			s.check(tree)
			if !moved {
				if calls == 0 && tree.Height() > 1 {
					t.Errorf("%d keys: nothing moved", n)
				}
				break
			}
		}
		if got := before - len(s.live); got < cleared-2 {
			t.Errorf("%d keys: %d blocks were freed, %d cleared", n, got, cleared)
		}
	}
}
