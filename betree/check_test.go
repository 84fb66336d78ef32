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

// The fill recorded for a child may be wrong on disk: it is only a hint what to read.
func TestRecordedFillIsNotTrusted(t *testing.T) {
	s := newStore(t)
	var full []pair
	for i := range 36 {
		full = append(full, pair{conf(i, 0), value("large", 430)})
	}
	a, b := s.leaf(full...), s.leaf(pair{conf(100, 0), nil})
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitPivot()
	n.AddChild(conf(0, 0), a.bp, 10)
	n.AddChild(conf(100, 0), b.bp, b.node.Fill())
	for range 18 {
		n.InsertMsg(insert(conf(100, 0), value("x", 420)))
	}
	tree := s.open(made{bp: s.put(1, n)}, 2)
	upsert(t, tree, insert(conf(100, 0), value("y", 500)))
	if s.gets < 3 {
		t.Errorf("only %d reads: the neighbour was not tried", s.gets)
	}
	got := contents(t, tree)
	if len(got) != 37 || got[string(conf(100, 0))] != string(value("y", 500)) {
		t.Errorf("%d pairs", len(got))
	}
	if s.out != 1 || !s.live[a.bp.Addr] || s.live[b.bp.Addr] {
		t.Errorf("%d references held; in use: the full leaf %v, the other %v", s.out, s.live[a.bp.Addr], s.live[b.bp.Addr])
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
