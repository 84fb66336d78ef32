package betree

import (
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
)

// goldenNames returns the names of the golden disks that there is time for.
func goldenNames() []string {
	if raced {
		return []string{"snaps", "crash-sb1"}
	}
	return golden.Names()
}

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

// The trees that the reference wrote keep the invariants, and can be changed: each becomes what the
// model says, down to nothing, and every block of it is freed once.
func TestTreesOfGoldenDisksTakeUpserts(t *testing.T) {
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) {
			rng := newRand(t)
			disk, snaps, trees := openGolden(t, name)
			if err := Check(nil, snaps); err != nil {
				t.Errorf("snapshot tree: %v", err)
			}
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
				n := 100 + len(m.there)/2
				t.Logf("snapshot %d: %d pairs, %d levels", gen, len(m.there), rec.Ht)
				run(t, s, m, tree, 200, phase{n, 8, 60}, phase{n, 8, 5})
				tree.Close()
				if s.out != 0 {
					t.Errorf("snapshot %d: %d references held", gen, s.out)
				}
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
