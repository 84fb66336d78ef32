package gefs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/snap"
)

// TestDeletingGoldenSnapshots deletes the labels of a disk that the reference made, in several
// orders. What is left must not change, the disk must stay sound, and no space may be lost: what is
// in use afterwards is what is still reached, and what the reference had leaked before.
func TestDeletingGoldenSnapshots(t *testing.T) {
	img := golden.Image(t, "snaps")
	load := func() *blkdev.Mem {
		dev := blkdev.NewMem(img.Size())
		if err := img.CopyTo(dev); err != nil {
			t.Fatal(err)
		}
		return dev
	}
	look := func(dev *blkdev.Mem) *check.Report {
		t.Helper()
		size, _ := dev.Size()
		rep, err := check.Run(t.Context(), dev, size, check.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !rep.Clean(false) {
			t.Fatalf("not sound: %v", rep.Problems)
		}
		return rep
	}
	digests := func(fs *gefs.FS) map[string]gefstest.Digest {
		t.Helper()
		sums := make(map[string]gefstest.Digest)
		c, end := fs.Background()
		defer end()
		for _, l := range fs.Labels() {
			root, err := gefstest.Attach(fs, c, "glenda", l.Name)
			if err != nil {
				t.Fatal(err)
			}
			if sums[l.Name], err = gefstest.TreeDigest(c, root); err != nil {
				t.Fatalf("%s: %v", l.Name, err)
			}
			root.Clunk(c)
		}
		return sums
	}

	before := look(load())
	var names []string
	fs, err := gefs.Open(load(), gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := digests(fs)
	for name := range want {
		if name != snap.Empty && name != snap.Adm && name != snap.Main {
			names = append(names, name)
		}
	}
	fs.Close()
	slices.Sort(names)
	backward := slices.Clone(names)
	slices.Reverse(backward)
	orders := [][]string{names, backward}
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		o := slices.Clone(names)
		r.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
		orders = append(orders, o)
	}
	var used []int64
	for i, order := range orders {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dev := load()
			fs, err := gefs.Open(dev, gefs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for k, name := range order {
				c, end := fs.Background()
				err := fs.DeleteLabel(c, name)
				end()
				if err != nil {
					t.Fatalf("delete %s: %v", name, err)
				}
				if k%8 == 0 || k == len(order)-1 {
					if err := fs.Sync(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := digests(fs)
			for name := range got {
				if got[name] != want[name] {
					t.Errorf("%s is not what it was", name)
				}
			}
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
			rep := look(dev)
			if rep.Counts.Leaked > before.Counts.Leaked || rep.Counts.Dead > 0 {
				t.Errorf("%d blocks leaked, %d before; %d on deadlists", rep.Counts.Leaked, before.Counts.Leaked, rep.Counts.Dead)
			}
			used = append(used, rep.Counts.Used-rep.Counts.Log-rep.Counts.Leaked)
		})
	}
	t.Logf("%d labels; blocks in use: %d before, %v after", len(names), before.Counts.Used, used)
	for _, n := range used {
		if n > slices.Min(used)+16 {
			t.Errorf("the order of deleting leaves %v blocks in use", used)
		}
	}
}
