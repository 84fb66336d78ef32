package salvage_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/salvage"
)

// atGiga is a file of a gigabyte, nearly all hole, of which the test's Sink keeps nothing.
const atGiga = "/sparse/at1g"

func TestSoundGoldenDisksAreSavedAsTheReferenceShowsThem(t *testing.T) {
	names := golden.Names()
	if raceEnabled || testing.Short() {
		names = []string{"snaps"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			want := golden.Manifest(t, name)
			disk := golden.Image(t, name)
			r, m := run(t, disk, disk.Size(), salvage.Options{All: true})
			if !r.Whole() || r.Scanned || len(r.Labels) != len(want.Snapshots) {
				t.Errorf("not all is whole:\n%s", text(r))
			}
			for label, s := range want.Snapshots {
				got := map[string]golden.File{}
				for p, f := range m.files {
					if p != label && !strings.HasPrefix(p, label+"/") {
						continue
					}
					p = path.Join("/", strings.TrimPrefix(p, label))
					g := s.Files[p] // of which it has users' names, rounded times and versions in use from
					if g.Uid != f.uid {
						t.Errorf("%s%s is owned by %s, want %s", label, p, f.uid, g.Uid)
					}
					if ns := f.dir.Mtime; g.Mtime != (ns+5e8)/1e9 {
						t.Errorf("%s%s is of %d, want %d", label, p, ns, g.Mtime)
					}
					g.Dir, g.Mode, g.Length, g.QidPath, g.QidType = f.dir.Mode>>31 == 1, f.dir.Mode, f.dir.Length, f.dir.Qid.Path, f.dir.Qid.Type
					if !g.Dir && p != atGiga {
						sum := sha256.Sum256(f.data)
						g.SHA256 = hex.EncodeToString(sum[:])
					}
					if f.status != salvage.Whole || !f.done {
						t.Errorf("%s%s is %v: %s", label, p, f.status, f.why)
					}
					got[p] = g
				}
				gefstest.SameTree(t, label, got, s.Files)
			}
		})
	}
}

// soundGolden returns what is saved of a copy of a golden disk that crashed nowhere, and the copy.
func soundGolden(t *testing.T, name string) (*blkdev.Mem, *memory) {
	if raceEnabled {
		t.Skip("unpacking a disk takes seconds under the race detector")
	}
	dev := gefstest.Golden(t, name)
	size, _ := dev.Size()
	_, m := run(t, dev, size, salvage.Options{All: true})
	delete(m.files, "main"+atGiga)
	return dev, m
}

// Without superblocks the newest state of a disk of the reference is the one that it shows, although
// it leaves leaks and no two of its commits are alike.
func goldenWithoutSuperblocks(t *testing.T, dev *blkdev.Mem, want *memory) {
	rnd := random(t)
	size, _ := dev.Size()
	destroy(dev, rnd, 0)
	destroy(dev, rnd, blkfmt.BackupAddr(size))
	r, got := run(t, dev, size, salvage.Options{All: true})
	if len(r.Files) > 0 || r.Whole() {
		t.Errorf("%s", text(r))
	}
	delete(got.files, "main"+atGiga)
	for p, w := range want.files {
		if g := got.files[p]; g == nil || g.dir != w.dir || g.uid != w.uid || !bytes.Equal(g.data, w.data) || g.status != salvage.Whole {
			t.Errorf("%s is %+v", p, g)
		}
	}
	if len(got.files) != len(want.files) {
		t.Errorf("%d files, want %d", len(got.files), len(want.files))
	}
}

// The reference leaks nodes, and what is leaked looks as if it were in use and of no tree. Even so a
// lost node costs nothing but what stood in it. (On a disk that crashed what is leaked may be newer than the
// last commit, and be taken for it.)
func TestOneLostNodeOfAReferenceDiskCostsOnlyWhatStoodInIt(t *testing.T) {
	for _, name := range []string{"snaps", "tree"} {
		t.Run(name, func(t *testing.T) {
			dev, sound := soundGolden(t, name)
			rnd := random(t)
			size, _ := dev.Size()
			by, all := qids(sound), truth{}
			for p, s := range sound.files {
				all[p] = &gefstest.Node{Dir: s.dir.Mode>>31 == 1, Data: s.data}
			}
			names := filesOf(all)
			nodes, n, saved := 0, 0, 0
			for _, b := range live(t, dev, false) {
				if b.what == "data" || b.what == "header" || b.what == "log" || b.what == "super" {
					continue
				}
				if nodes++; nodes > 12 && !*long {
					break
				}
				d := dev.Clone()
				destroy(d, rnd, b.addr)
				r, m := run(t, d, size, salvage.Options{Label: "main"})
				delete(m.files, "main"+atGiga)
				honest(t, m, all)
				hurt, ok := concerned(b, by), right(m, all)
				before := n - saved
				for _, p := range names {
					if !hurt[p] {
						if n++; ok[p] {
							saved++
						}
					}
				}
				if n-saved > before {
					t.Errorf("%s block at %v: %d files lost\n%s", b.what, b.addr, n-saved-before, text(r))
				}
			}
			t.Logf("%d nodes lost in turn, %d times a file not in them, %d times saved", nodes, n, saved)
			goldenWithoutSuperblocks(t, dev, sound)
		})
	}
}
