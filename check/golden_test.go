package check

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
)

// The reference leaks and miscounts, so its disks have leaks; nothing worse.
func TestGoldenDisksHaveLeaksOnly(t *testing.T) {
	for _, name := range goldenNames() {
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

// goldenNames returns the golden disks to test with.
func goldenNames() []string {
	if raceEnabled {
		return []string{"snaps"}
	}
	return golden.Names()
}

// A byte changed in a block of any kind is found, and what is found names the block and its files.
func TestChangedByteIsFoundInEveryKindOfBlock(t *testing.T) {
	if raceEnabled {
		t.Skip("unpacking a disk takes seconds under the race detector")
	}
	tree, snaps := fromGolden(t, "tree"), fromGolden(t, "snaps")
	gen := func(d *disk, label string) blkfmt.Gen {
		l, err := kvfmt.GetLabel(d.val(snapTree, kvfmt.AppendLabelKey(nil, label)))
		if err != nil {
			t.Fatal(err)
		}
		return l.Gen
	}
	main := gen(tree, "main")
	name, file := "", golden.File{QidPath: 1 << 60} // the first file that has data
	for p, f := range golden.Manifest(t, "tree").Snapshots["main"].Files {
		if f.Length > 0 && f.QidPath < file.QidPath && !f.Dir {
			name, file = p, f
		}
	}
	key := datKey(file.QidPath, 0)
	for _, tt := range []struct {
		name  string
		d     *disk
		addr  func(d *disk) blkfmt.Addr
		off   int
		kind  Kind
		block string
		path  string // starts with
	}{
		{"superblock", tree, func(d *disk) blkfmt.Addr { return 0 }, 30, SuperBad, "superblock", ""},
		{"backup", tree, func(d *disk) blkfmt.Addr { return d.backup() }, 30, SuperBad, "superblock", ""},
		{"header", tree, func(d *disk) blkfmt.Addr { return d.super(nil).Arenas[3].Addr }, 16000, HeaderStale, "arena header", ""},
		{"header copy", tree, func(d *disk) blkfmt.Addr { return d.super(nil).Arenas[3].Addr + blk }, 16000, HeaderStale, "arena header", ""},
		{"log", tree, func(d *disk) blkfmt.Addr { return d.header(3, nil).Log.Addr }, 40, LogBad, "log", ""},
		{"snapshot tree", tree, func(d *disk) blkfmt.Addr { return d.rootOf(snapTree) }, 16300, Corrupt, "leaf", ""},
		{"pivot", tree, func(d *disk) blkfmt.Addr { return d.rootOf(main) }, 9000, Corrupt, "pivot", "main/"},
		{"leaf", tree, func(d *disk) blkfmt.Addr { return d.leafOf(main, key) }, 16300, Corrupt, "leaf", "main" + name},
		{"data", tree, func(d *disk) blkfmt.Addr { return d.datAddr(main, key) }, 0, Corrupt, "data", "main" + name},
		{"users file", snaps, func(d *disk) blkfmt.Addr { return d.datAddr(gen(d, "adm"), datKey(qUsers, 0)) }, 16383, Corrupt, "data", "adm/users"},
		{"deadlist", snaps, func(d *disk) blkfmt.Addr {
			for _, p := range d.get(d.rootOf(snapTree)).pairs {
				if l, err := kvfmt.GetDlist(p.val); p.key[0] == kvfmt.Kdlist && err == nil && l.Hd.Addr != blkfmt.NoAddr {
					return l.Hd.Addr
				}
			}
			panic("no deadlist")
		}, blkfmt.LogHdSize, Corrupt, "deadlist", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.d.clone()
			at := tt.addr(d)
			d.flip(at, tt.off)
			r := d.check(t)
			found := false
			for _, p := range r.Problems {
				if p.Kind == tt.kind && p.Addr == at && p.Block == tt.block {
					found = tt.path == "" || slices.ContainsFunc(p.Paths, func(s string) bool { return strings.HasPrefix(s, tt.path) })
				}
			}
			if !found {
				t.Errorf("not found: %s in the %s block at %v, path %s:\n%s", tt.kind, tt.block, at, tt.path, text(t, r))
			}
		})
	}
}
