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

var full = flag.Bool("full", false, "hash every golden disk, not only two")

// Unpacking verifies the checksum in the packed file, so that two disks are enough for every day.
func TestImagesAreWhatTheManifestsSay(t *testing.T) {
	names := []string{"fresh", "crash-sb0"}
	if *full {
		names = golden.Names()
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := golden.Manifest(t, name)
			d := golden.Image(t, name)
			if d.Size() != m.Bytes || m.Image != name+".img.zst" {
				t.Fatalf("disk of %d bytes; the manifest is of %s, %d bytes", d.Size(), m.Image, m.Bytes)
			}
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(d, 0, d.Size())); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != m.SHA256 {
				t.Errorf("sha256 is %s, the manifest says %s", got, m.SHA256)
			}
		})
	}
}

func TestFileIsTheImage(t *testing.T) {
	d := golden.Image(t, "fresh")
	path := d.File(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != d.Size() {
		t.Fatalf("file of %v bytes, error %v, the disk has %d", fi.Size(), err, d.Size())
	}
	if got, want := sum(t, f), sum(t, io.NewSectionReader(d, 0, d.Size())); got != want {
		t.Errorf("the file hashes to %s, the disk to %s", got, want)
	}
}

func sum(t *testing.T, r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
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
