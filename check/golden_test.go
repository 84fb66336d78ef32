package check

import (
	"context"
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
)

// The reference leaks and miscounts, so its disks have leaks; nothing worse.
func TestGoldenDisksHaveLeaksOnly(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := golden.Manifest(t, name)
			d := goldenDisk(t, name)
			r, err := Run(context.Background(), d, d.Size(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Clean(false) || !r.Complete {
				t.Errorf("clean %v, complete %v:\n%s", r.Clean(false), r.Complete, text(t, r))
			}
			if strict := name == "fresh"; r.Clean(true) != strict {
				t.Errorf("strictly clean is %v, want %v:\n%s", r.Clean(true), strict, text(t, r))
			}
			c := r.Counts
			if sum := c.Log + c.SnapNodes + c.Pivots + c.Leaves + c.Data + c.Deadlist + c.Dead + c.Leaked; sum != c.Used {
				t.Errorf("%d blocks are used, those of all kinds are %d: %+v", c.Used, sum, c)
			}
			var leaked int64
			for i, e := range r.Leaked {
				leaked += e.Len / blkfmt.BlkSize
				if i > 0 && e.Addr <= r.Leaked[i-1].Addr {
					t.Errorf("leaked blocks are not in order: %v", r.Leaked)
				}
			}
			if leaked != c.Leaked {
				t.Errorf("%d leaked, %d in the list", c.Leaked, leaked)
			}
			for i, a := range r.Arenas {
				if a.Used != a.HeaderUsed || !a.Loaded || a.Barrier != (name != "fresh") {
					t.Errorf("arena %d: %+v", i, a)
				}
			}
			compareFiles(t, r, m)
		})
	}
}

// compareFiles compares what each label is said to hold with what the reference served from it.
func compareFiles(t *testing.T, r *Report, m *golden.Contents) {
	labels := map[string]SnapReport{}
	for _, s := range r.Snaps {
		for _, l := range s.Labels {
			labels[l] = s
		}
	}
	if got, want := slices.Sorted(maps.Keys(labels)), slices.Sorted(maps.Keys(m.Snapshots)); !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	for l, want := range m.Snapshots {
		var files, dirs int64
		var bytes uint64
		for _, f := range want.Files {
			if f.Dir {
				dirs++
			} else {
				files++
				bytes += f.Length
			}
		}
		s := labels[l]
		if !s.Checked || s.Files != files || s.Dirs != dirs || s.Bytes != bytes {
			t.Errorf("%s: %d files, %d directories, %d bytes; want %d, %d, %d; checked %v", l, s.Files, s.Dirs, s.Bytes, files, dirs, bytes, s.Checked)
		}
	}
}
