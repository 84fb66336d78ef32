package gefs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
)

// goldenNames are the disks to be looked at: under the race detector, which sees nothing new on many
// disks and takes ten times as long, only some.
func goldenNames() []string {
	if raceEnabled {
		return []string{"fresh", "crash-h0"}
	}
	return golden.Names()
}

// TestGoldenDisksShowWhatTheReferenceShows compares every field of every file in every snapshot, which
// is attached by its name. Nothing is written to the disks meanwhile.
func TestGoldenDisksShowWhatTheReferenceShows(t *testing.T) {
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) {
			want := golden.Manifest(t, name)
			dev := gefstest.Golden(t, name)
			before := dev.Clone()
			fs := gefstest.Open(t, dev, gefs.Options{ReadOnly: true})
			srv := gefstest.Serve(t, fs, 0)
			sameLabels(t, fs, want)
			for _, label := range slices.Sorted(maps.Keys(want.Snapshots)) {
				got := gefstest.Tree(t, srv.Attach(gefstest.User, "%"+label))
				gefstest.SameTree(t, label, got, want.Snapshots[label].Files)
			}
			srv.Stop()
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
			if same, off := dev.Equal(before); !same {
				t.Errorf("a read-only disk has changed at %#x", off)
			}
		})
	}
}

// atGiga is a file of a gigabyte, nearly all hole. It takes as long to read as everything else together.
const atGiga = "/sparse/at1g"

// skipped returns what is expected of a tree in which some files are not read.
func skipped(files map[string]golden.File, skip []string) map[string]golden.File {
	files = maps.Clone(files)
	for _, path := range skip {
		if f, ok := files[path]; ok {
			f.SHA256 = gefstest.Skipped
			files[path] = f
		}
	}
	return files
}

func sameLabels(t *testing.T, fs *gefs.FS, want *golden.Contents) {
	t.Helper()
	labels := fs.Forest().Labels()
	for _, l := range labels {
		w, ok := want.Snapshots[l.Name]
		if !ok {
			t.Errorf("label %s should not be there", l.Name)
			continue
		}
		if l.Mutable != w.Mutable || uint64(l.Gen) != w.DumpQidPath {
			t.Errorf("label %s: mutable %v of generation %d, want %v of %d", l.Name, l.Mutable, l.Gen, w.Mutable, w.DumpQidPath)
		}
	}
	if len(labels) != len(want.Snapshots) {
		t.Errorf("%d labels, want %d", len(labels), len(want.Snapshots))
	}
}

// TestGoldenDisksShowTheSameInTheirDump walks to the snapshots through the dump directory, where
// permissions count.
func TestGoldenDisksShowTheSameInTheirDump(t *testing.T) {
	for _, name := range []string{"fresh", "tree", "snaps", "crash-h0"} {
		if !slices.Contains(goldenNames(), name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			want := golden.Manifest(t, name)
			fs := gefstest.Open(t, gefstest.Golden(t, name), gefs.Options{})
			srv := gefstest.Serve(t, fs, 0)
			dump := srv.Attach(gefstest.User, "dump")
			list, err := dump.Walk()
			if err != nil {
				t.Fatal(err)
			}
			if err := list.Open(ninep.OREAD); err != nil {
				t.Fatal(err)
			}
			entries, err := list.ReadDir()
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != len(want.Snapshots) {
				t.Errorf("the dump lists %d snapshots, want %d", len(entries), len(want.Snapshots))
			}
			for _, d := range entries {
				w, ok := want.Snapshots[d.Name]
				if !ok {
					t.Errorf("the dump lists %s", d.Name)
					continue
				}
				if d.Qid.Uid != w.DumpQidPath || d.Qid.Qtype != ninep.QTDIR || d.Mode != ninep.DMDIR|0555 {
					t.Errorf("the dump has %+v for %s, want qid path %d", d, d.Name, w.DumpQidPath)
				}
				root, err := dump.Walk(d.Name)
				if err != nil {
					t.Fatalf("walk to dump/%s: %v", d.Name, err)
				}
				got := gefstest.Tree(t, root, atGiga)
				files := skipped(w.Files, []string{atGiga})
				for path, f := range got {
					if f.SHA256 == gefstest.Denied {
						if w := files[path]; !deniedToGlenda(w) {
							t.Errorf("dump/%s%s may not be read: %+v", d.Name, path, w)
						}
						f.SHA256 = files[path].SHA256
						got[path] = f
					}
				}
				gefstest.SameTree(t, "dump/"+d.Name, got, files)
				root.Clunk()
			}
		})
	}
}

// deniedToGlenda says whether glenda, who is in the group adm, may not read f.
func deniedToGlenda(f golden.File) bool {
	return f.Mode&4 == 0 && !(f.Mode&0040 != 0 && (f.Gid == "adm" || f.Gid == "glenda")) && !(f.Mode&0400 != 0 && f.Uid == "glenda")
}

// TestGoldenDisksTakeWrites changes every mutable snapshot of every disk, those included on which the
// reference takes no writes any more. What was there stays; what was written is there after a restart;
// no space is lost.
func TestGoldenDisksTakeWrites(t *testing.T) {
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) {
			manifest := golden.Manifest(t, name)
			dev := gefstest.Golden(t, name)
			before := gefstest.Check(t, dev).Counts.Leaked

			want := make(map[string]map[string]golden.File)
			for label, s := range manifest.Snapshots {
				want[label] = skipped(s.Files, []string{atGiga})
			}
			serving(t, dev, func(srv *gefstest.Server) {
				for label, s := range manifest.Snapshots {
					if s.Mutable {
						scribble(t, srv.Attach(gefstest.User, "%"+label), label)
					}
				}
				for label, s := range manifest.Snapshots {
					if s.Mutable {
						addScribbled(t, srv, label, want[label])
					}
				}
			})
			serving(t, dev, func(srv *gefstest.Server) {
				for label := range want {
					root := srv.Attach(gefstest.User, "%"+label)
					gefstest.SameTree(t, label, gefstest.Tree(t, root, atGiga), want[label])
				}
			})
			after := gefstest.Check(t, dev).Counts.Leaked
			if after > before {
				t.Errorf("%d blocks leaked, %d were before", after, before)
			}
		})
	}
}

// serving opens the disk, serves it while f runs, and closes it.
func serving(t *testing.T, dev blkdev.Device, f func(*gefstest.Server)) {
	t.Helper()
	fs := gefstest.Open(t, dev, gefs.Options{})
	srv := gefstest.Serve(t, fs, 0)
	f(srv)
	srv.Stop()
	if err := fs.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

const scribbles = 40

func scribbled(label string, i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%s %d ", label, i), 1+i*i*9)
}

// scribble makes a directory with new files of several sizes, removes some and rewrites others.
func scribble(t *testing.T, root *client.Fid, label string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("%s: %v", label, err)
		}
	}
	dir, err := root.Walk()
	must(err)
	must(dir.Create("scribble", ninep.DMDIR|0775, ninep.OREAD))
	for i := range scribbles {
		f, err := root.Walk("scribble")
		must(err)
		must(f.Create(fmt.Sprint("f", i), 0664, ninep.ORDWR))
		_, err = f.WriteAt(scribbled(label, i), 0)
		must(err)
		if i%4 == 1 {
			_, err = f.WriteAt([]byte("again"), int64(i))
			must(err)
		}
		if i%4 == 2 {
			must(f.Remove())
		} else {
			must(f.Clunk())
		}
	}
	must(dir.Fsync())
	must(dir.Clunk())
}

// addScribbled adds what scribble left to what is expected of the label.
func addScribbled(t *testing.T, srv *gefstest.Server, label string, want map[string]golden.File) {
	t.Helper()
	root := srv.Attach(gefstest.User, "%"+label)
	touched(t, srv, label, want, "/")
	dir, err := root.Walk("scribble")
	if err != nil {
		t.Fatal(err)
	}
	files := gefstest.Tree(t, dir)
	want["/scribble"] = files["/"]
	n := 0
	for i := range scribbles {
		if i%4 == 2 {
			continue
		}
		n++
		p := scribbled(label, i)
		if i%4 == 1 {
			p = append(p, make([]byte, max(0, i+5-len(p)))...)
			copy(p[i:], "again")
		}
		sum := sha256.Sum256(p)
		f := files[fmt.Sprint("/f", i)]
		if f.Length != uint64(len(p)) || f.SHA256 != hex.EncodeToString(sum[:]) || f.Mode != 0664 || f.Uid != gefstest.User {
			t.Errorf("%s: scribble %d is %+v, %d bytes were written", label, i, f, len(p))
		}
		want[fmt.Sprint("/scribble/f", i)] = f
	}
	if len(files) != n+1 {
		t.Errorf("%s: %d files in scribble, want %d", label, len(files), n+1)
	}
}

// touched brings what is expected of a directory up to date with what a change in it does: its
// version, its time, and who changed it last.
func touched(t *testing.T, srv *gefstest.Server, label string, want map[string]golden.File, path string) {
	t.Helper()
	f, err := srv.Attach(gefstest.User, "%"+label).WalkPath(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	w := want[path]
	if d.Qid.Vers != w.QidVers+1 || d.Muid != gefstest.User || int64(d.Mtime) < w.Mtime {
		t.Errorf("%s%s: a file was added or removed, and it is %+v, it was %+v", label, path, d, w)
	}
	w.QidVers, w.Muid, w.Mtime = d.Qid.Vers, d.Muid, int64(d.Mtime)
	want[path] = w
}
