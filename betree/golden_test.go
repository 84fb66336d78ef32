package betree

import (
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
)

// openGolden returns a store on the disk, its snapshot tree, and the trees of its snapshots.
func openGolden(t *testing.T, name string) (s *memStore, snaps *Tree, trees map[blkfmt.Gen]kvfmt.Tree) {
	t.Helper()
	disk := golden.Image(t, name)
	buf := make([]byte, blkfmt.BlkSize)
	if _, err := disk.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	super, err := blkfmt.DecodeSuper(buf, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s = newStore(t)
	s.base = disk
	s.next = blkfmt.Addr(disk.Size())
	snaps = Open(s, s, super.Snap, super.SnapHt)
	trees = make(map[blkfmt.Gen]kvfmt.Tree)
	err = snaps.Scan(nil, []byte{kvfmt.Ksnap}, nil, func(_, val []byte) bool {
		rec, err := kvfmt.GetTree(val)
		if err != nil {
			t.Error(err)
		}
		trees[rec.Gen] = rec
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, snaps, trees
}

// The trees that the reference wrote keep the invariants.
func TestTreesOfGoldenDisksAreWhole(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			s, snaps, trees := openGolden(t, name)
			if err := Check(nil, snaps); err != nil {
				t.Errorf("snapshot tree: %v", err)
			}
			for _, gen := range slices.Sorted(maps.Keys(trees)) {
				rec := trees[gen]
				tree := Open(s, s, rec.Root, int(rec.Ht))
				if err := Check(nil, tree); err != nil {
					t.Errorf("snapshot %d: %v", gen, err)
				}
				t.Logf("snapshot %d: %d levels, %d pairs", gen, rec.Ht, len(contents(t, tree)))
				tree.Close()
			}
			snaps.Close()
			if s.out != 0 {
				t.Errorf("%d references held", s.out)
			}
		})
	}
}

// The trees that the reference wrote can be changed: each becomes what the model says, down to
// nothing, and every block of it is freed once.
func TestTreesOfGoldenDisksTakeUpserts(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			rng := newRand(t)
			disk, snaps, trees := openGolden(t, name)
			snaps.Close()
			for _, gen := range slices.Sorted(maps.Keys(trees)) {
				rec := trees[gen]
				s := newStore(t)
				s.base, s.next = disk.base, disk.next
				tree := Open(s, s, rec.Root, int(rec.Ht))
				m := newModel(rng, s, mixedKeys(rng, allKinds, 100, 1, 30))
				m.gen = 1000
				m.adopt(t, s, tree)
				s.check(tree)
				if err := m.compare(tree); err != nil {
					t.Fatalf("snapshot %d: %v", gen, err)
				}
				n := 0
				for _, grow := range []int{60, 5} {
					for range 100 + len(m.there)/2 {
						upsert := m.batch(1+rng.IntN(8), grow)
						if err := tree.Upsert(nil, m.gen, upsert); err != nil {
							t.Fatalf("snapshot %d: %v", gen, err)
						}
						if n++; n%200 == 0 {
							s.check(tree)
							if err := m.compare(tree); err != nil {
								t.Fatalf("snapshot %d: %v", gen, err)
							}
						}
					}
				}
				s.check(tree)
				if err := m.compare(tree); err != nil {
					t.Fatalf("snapshot %d: %v", gen, err)
				}
				t.Logf("snapshot %d: %d pairs left in %d nodes", gen, len(m.there), len(s.nodes))
			}
		})
	}
}

// adopt makes the model know what a tree on the store's base holds, and the store what it reaches.
func (m *model) adopt(t *testing.T, s *memStore, tree *Tree) {
	t.Helper()
	err := tree.Scan(nil, nil, nil, func(key, val []byte) bool {
		k := string(key)
		m.set(k, append([]byte(nil), val...))
		m.keys = append(m.keys, k)
		switch key[0] {
		case kvfmt.Kent:
			d, err := kvfmt.GetDir(val)
			if err != nil {
				t.Error(err)
			}
			m.dirs[k] = d
		case kvfmt.Ksnap:
			rec, err := kvfmt.GetTree(val)
			if err != nil {
				t.Error(err)
			}
			m.snaps[k] = rec
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	err = tree.Walk(nil, Visit{
		Node: func(bp blkfmt.Bptr, _ int) error { s.live[bp.Addr] = true; return nil },
		Data: func(_ []byte, bp blkfmt.Bptr) error { s.live[bp.Addr] = true; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
}
