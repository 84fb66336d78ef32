package salvage_test

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"testing"

	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/salvage"
)

// atGiga is a file of a gigabyte, nearly all hole, of which the test's Sink keeps nothing.
const atGiga = "/sparse/at1g"

func TestSoundGoldenDisksAreSavedAsTheReferenceShowsThem(t *testing.T) {
	names := golden.Names()
	if raceEnabled {
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
