package betree

import (
	"errors"
	"maps"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Whichever read or allocation of an upsert fails, the tree is as it was, nothing was freed, and
// nothing leaks. Then the same batch succeeds.
func TestFailedUpsertLeavesNoTrace(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	m := newModel(rng, s, mixedKeys(rng, []byte{kvfmt.Kconf, kvfmt.Kent, kvfmt.Kdat}, 3000, 200, 244))
	m.bulky = true
	tree := create(t, s)
	failed, most := 0, 0
	for i := range 1300 {
		grow := 90
		if i > 700 {
			grow = 10
		}
		before := maps.Clone(m.vals)
		live := maps.Clone(s.live)
		msgs := m.batch(8, grow)
		for n := 1; i%3 == 0; n++ {
			for _, msg := range msgs { // the batch's data blocks are in use whatever happens
				if msg.Op == kvfmt.Insert && msg.Key[0] == kvfmt.Kdat {
					live[blkfmt.GetPtr(msg.Val).Addr] = true
				}
			}
			root, ht := tree.Root()
			frees := s.frees
			s.failIn = n
			err := tree.Upsert(nil, 2, msgs)
			over := s.failIn > 0
			s.failIn = 0
			if over {
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, n-1)
				msgs = nil
				break
			}
			failed++
			if !errors.Is(err, errInjected) {
				t.Fatalf("batch %d, call %d: %v", i, n, err)
			}
			if again, h := tree.Root(); again != root || h != ht {
				t.Fatalf("batch %d, call %d: root %v of %d levels became %v of %d", i, n, root, ht, again, h)
			}
			if s.out != 1 || s.raw != 0 || s.frees != frees || !maps.Equal(live, s.live) {
				t.Fatalf("batch %d, call %d: %d references, %d blocks never queued, %d freed, %d in use, were %d",
					i, n, s.out, s.raw, s.frees-frees, len(s.live), len(live))
			}
			if failed%40 == 0 {
				got := contents(t, tree)
				if len(got) != len(before) {
					t.Fatalf("batch %d, call %d: %d pairs, were %d", i, n, len(got), len(before))
				}
				for k, v := range before {
					if got[k] != string(v) {
						t.Fatalf("batch %d, call %d: value of %x has changed", i, n, k)
					}
				}
			}
		}
		upsert(t, tree, msgs...)
		if i%100 == 0 {
			s.check(tree)
			if err := m.compare(tree); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d failures, up to call %d of one upsert", failed, most)
	if most < 12 {
		t.Errorf("no upsert needed more than %d calls", most)
	}
}

// Reads that fail end a lookup, a scan or a walk with the error, and hold nothing.
func TestFailedReadsHoldNothing(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	m := newModel(rng, s, mixedKeys(rng, []byte{kvfmt.Kent, kvfmt.Kconf}, 2000, 240, 244))
	m.bulky = true
	tree := create(t, s)
	for range 500 {
		upsert(t, tree, m.batch(8, 95)...)
	}
	root, ht := tree.Root()
	if ht < 3 {
		t.Fatalf("only %d levels", ht)
	}
	tree.Close()
	key := []byte(m.there[0])
	for _, c := range []struct {
		name string
		call func(*Tree) error
	}{
		{"lookup", func(t *Tree) error { _, err := t.Lookup(nil, key, nil); return err }},
		{"scan", func(t *Tree) error { return t.Scan(nil, nil, nil, func(_, _ []byte) bool { return true }) }},
		{"scan from a key", func(t *Tree) error { return t.ScanRange(nil, key, nil, func(_, _ []byte) bool { return true }) }},
		{"upsert", func(t *Tree) error { return t.Upsert(nil, 2, []kvfmt.Msg{insert(conf(1, 0), nil)}) }},
		{"walk", func(t *Tree) error { return t.Walk(nil, Visit{}) }},
		{"check", func(t *Tree) error { return Check(nil, t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				tree := Open(s, nobody{}, root, ht)
				s.failIn = n
				err := c.call(tree)
				over := s.failIn > 0
				s.failIn = 0
				tree.Close()
				if s.out != 0 {
					t.Fatalf("call %d: %d references held", n, s.out)
				}
				if over {
					if err != nil {
						t.Error(err)
					}
					if n < 3 {
						t.Errorf("only %d reads", n-1)
					}
					break
				}
				if !errors.Is(err, errInjected) {
					t.Fatalf("call %d: %v", n, err)
				}
			}
		})
	}
}

// A disk without room for the new root's leaf has room for nothing.
func TestCreateFails(t *testing.T) {
	s := newStore(t)
	s.failIn = 1
	if tree, err := Create(nil, s, s, 1); tree != nil || !errors.Is(err, errInjected) {
		t.Errorf("Create: %v, %v", tree, err)
	}
	if s.out != 0 || s.raw != 0 {
		t.Errorf("%d references held", s.out)
	}
}
