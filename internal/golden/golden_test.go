package golden_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"gefs9p/internal/golden"
)

var full = flag.Bool("full", false, "test with every golden disk and hash every byte, not only some")

// disks returns the names of the disks to test with. Under the race detector unpacking one takes
// seconds.
func disks() []string {
	if *full {
		return golden.Names()
	}
	return []string{"fresh", "tree", "snaps", "crash-sb0"}
}

// Unpacking verifies the checksum in the packed file, so that one disk is enough for every day.
func TestFileIsTheDiskOfTheManifest(t *testing.T) {
	for _, name := range disks() {
		if name != "fresh" && !*full {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := golden.Manifest(t, name)
			d := golden.Image(t, name)
			if d.Size() != m.Bytes || m.Image != name+".img.zst" {
				t.Fatalf("disk of %d bytes; the manifest is of %s, %d bytes", d.Size(), m.Image, m.Bytes)
			}
			f, err := os.Open(d.File(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			h := sha256.New()
			if n, err := io.Copy(h, f); err != nil || n != m.Bytes {
				t.Fatalf("file of %d bytes, error %v, the disk has %d", n, err, m.Bytes)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != m.SHA256 {
				t.Errorf("sha256 is %s, the manifest says %s", got, m.SHA256)
			}
		})
	}
}

func TestManifestsAreComplete(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			m := golden.Manifest(t, name)
			if got := m.Load(t, "blocksize"); got != "16384" {
				t.Errorf("blocksize %q", got)
			}
			if _, err := strconv.ParseUint(m.Load(t, "nextqid"), 10, 64); err != nil {
				t.Error(err)
			}
			for label, s := range m.Snapshots {
				if s.Entries != len(s.Files) {
					t.Errorf("%s: %d entries, %d files", label, s.Entries, len(s.Files))
				}
				if root := s.Files["/"]; !root.Dir || root.Mode>>31 != 1 || root.QidType&0x80 == 0 {
					t.Errorf("%s: root is %+v", label, root)
				}
				for path, f := range s.Files {
					if uint8(f.Mode>>24) != f.QidType || f.Dir != (f.Mode>>31 == 1) || f.Dir == (f.SHA256 != "") {
						t.Errorf("%s:%s: %+v", label, path, f)
					}
				}
			}
			users := m.Snapshots["adm"].Files["/users"]
			h := sha256.Sum256([]byte(m.Users))
			if hex.EncodeToString(h[:]) != users.SHA256 || users.Length != uint64(len(m.Users)) {
				t.Errorf("users file of %d bytes, the entry says %d, or the hash differs", len(m.Users), users.Length)
			}
		})
	}
}

// TestDirSkipsWithoutTheDisks runs Image in a folder tree that has a go.mod and no golden disks.
func TestDirSkipsWithoutTheDisks(t *testing.T) {
	top := filepath.Join(t.TempDir(), "repo")
	sub := filepath.Join(top, "a", "b")
	if err := os.MkdirAll(sub, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "go.mod"), []byte("module x\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Chdir(sub)
	skipped := false
	t.Run("sub", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		golden.Image(t, "fresh")
		t.Error("Image found a disk")
	})
	if !skipped {
		t.Error("Image did not skip")
	}
}
