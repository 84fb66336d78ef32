package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

func TestReamMakesASparseSoundDisk(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	out, errs, code := command("ream", "-u", "glenda", "--size", "1G", disk)
	if code != 0 || out != "" {
		t.Fatalf("exit code %d, output %q, %s", code, out, errs)
	}
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	if len(lines) != 9 || lines[0] != "reaming "+disk || lines[1] != "arena 0: 8189 blocks at 4000" || lines[8] != "arena 7: 8189 blocks at 37fe8000" {
		t.Errorf("ream says %q", lines)
	}
	st, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != 1<<30 || st.Mode().Perm() != 0o600 {
		t.Errorf("the disk has %d bytes and mode %v", st.Size(), st.Mode())
	}
	must(t, "check", "--strict", disk)
}

func TestReamRefusesWhatIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	must(t, "ream", "-u", "glenda", "--size", diskSize, disk)
	refused(t, dir, exitFail, []string{disk, "a gefs disk", "--force"}, "ream", "-u", "glenda", disk)
	refused(t, dir, exitFail, []string{disk, "is there already"}, "ream", "-u", "glenda", "--size", "4G", disk)
	must(t, "ream", "-u", "glenda", "--size", diskSize, "--force", disk)

	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	tw.WriteHeader(&tar.Header{Name: "file", Mode: 0644, Size: 3})
	tw.Write([]byte("abc"))
	tw.Close()
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	zw.Write([]byte("hello"))
	zw.Close()
	ext4 := make([]byte, 4096)
	ext4[1024+56], ext4[1024+57] = 0x53, 0xef
	for _, tt := range []struct {
		what string
		at   int64
		data []byte
		say  string
	}{
		{"tar", 0, archive.Bytes(), "a tar archive"},
		{"gzip", 0, zipped.Bytes(), "a gzip file"},
		{"ext4", 0, ext4, "ext4"},
		{"text", 0, []byte("# Meine Notizen, täglich\n" + strings.Repeat("ein Wort ", 200000)), `"# Meine Notizen, täglich"`},
		{"unknown", 0, []byte{1, 2, 3, 4}, "01 02 03 04"},
		{"late data", 128<<20 - 5000, []byte{1}, "zeros at first"},
		{"old gefs", 0, []byte("gefs0001"), "a gefs disk"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			disk := filepath.Join(dir, "disk")
			if err := os.WriteFile(disk, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			damage(t, disk, tt.at, tt.data)
			if err := os.Truncate(disk, blkfmt.MinDevice); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, exitFail, []string{disk, tt.say, "--force"}, "ream", "-u", "glenda", disk)
			must(t, "ream", "-u", "glenda", "--force", disk)
			must(t, "check", "--strict", disk)
		})
	}
}

func TestReamTakesAnEmptyFile(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, blkfmt.MinDevice); err != nil {
		t.Fatal(err)
	}
	must(t, "ream", "-u", "glenda", disk)
	must(t, "check", "--strict", disk)
}

func TestReamRefusesWhatCannotBeADisk(t *testing.T) {
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	new := filepath.Join(dir, "new")
	ream := func(args ...string) []string { return append([]string{"ream", "-u", "glenda"}, args...) }
	refused(t, dir, exitFail, []string{small, "too small", "134234112"}, ream(small)...)
	refused(t, dir, exitFail, []string{new, "too small"}, ream("--size", "131087K", new)...)
	refused(t, dir, exitFail, []string{new, "--size"}, ream(new)...)
	refused(t, dir, exitFail, []string{dir, "neither a file nor a disk"}, ream(dir)...)
	refused(t, dir, exitFail, []string{"no such folder"}, ream("--size", diskSize, filepath.Join(dir, "no", "disk"))...)
	refused(t, dir, exitFail, []string{"adm", "-u"}, "ream", "-u", "adm", "--size", diskSize, new)
	refused(t, dir, exitFail, []string{"-u"}, "ream", "-u", "a:b", "--size", diskSize, new)
}

func TestReamRefusesADiskInUse(t *testing.T) {
	disk := newDisk(t)
	dev, err := blkdev.OpenFile(disk, blkdev.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	refused(t, filepath.Dir(disk), exitFail, []string{disk, "already served"}, "ream", "-u", "glenda", "--force", disk)
}

// TestReamErasesTheDiskBefore: nothing of an older disk, with many more commits, may be taken for
// the new one's.
func TestReamErasesTheDiskBefore(t *testing.T) {
	disk := newDisk(t)
	for range 3 {
		l := start(t, 1, "serve", "-m", "16M", disk)
		f := l.attach(l.addrs[0])
		if err := f.Create("file", 0664, 1); err != nil {
			t.Fatal(err)
		}
		if err := f.Fsync(); err != nil {
			t.Fatal(err)
		}
		if err := f.Remove(); err != nil {
			t.Fatal(err)
		}
		l.stop()
	}
	must(t, "ream", "-u", "rob", "--force", disk)
	out := must(t, "check", "--strict", disk)
	if !strings.Contains(out, "commit 0") {
		t.Errorf("after another ream:\n%s", out)
	}
}

func TestReamKeepsTheKeyInAFile(t *testing.T) {
	dir := t.TempDir()
	disk, key := filepath.Join(dir, "disk"), filepath.Join(dir, "key")
	must(t, "ream", "-u", "glenda", "--size", diskSize, "--hash", "siphash", "--keyfile", key, disk)
	st, err := os.Stat(key)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 || st.Size() != 33 {
		t.Errorf("key file has mode %v and %d bytes", st.Mode(), st.Size())
	}
	k, err := readKey(key)
	if err != nil || k == nil || *k == [16]byte{} {
		t.Fatalf("key is %v, %v", k, err)
	}
	image, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(image, k[:]) {
		t.Error("the secret key is on the disk")
	}
	if string(image[:8]) != blkfmt.VersionSip {
		t.Errorf("the disk's version is %q", image[:8])
	}
	must(t, "check", "--strict", "--keyfile", key, disk)

	// The same key again, for another disk.
	disk2 := filepath.Join(dir, "disk2")
	must(t, "ream", "-u", "glenda", "--size", diskSize, "--hash", "siphash", "--keyfile", key, disk2)
	if k2, err := readKey(key); err != nil || *k2 != *k {
		t.Error("the key file was changed")
	}
	must(t, "check", "--keyfile", key, disk2)

	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("0123456789abcde"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for cmd, code := range map[string]int{"check": exitCheckFail, "serve": exitFail} {
		refused(t, dir, code, []string{disk, "--keyfile"}, cmd, disk)
		refused(t, dir, code, []string{bad, "not a key"}, cmd, "--keyfile", bad, disk)
		refused(t, dir, code, []string{none, "no such file"}, cmd, "--keyfile", none, disk)
	}
	refused(t, dir, exitFail, []string{disk, "not the disk's key file"}, "serve", "--keyfile", wrong, disk)
	if out, _, code := command("check", "--keyfile", wrong, disk); code != exitCheckErrors || !strings.Contains(out, "not the disk's key file") {
		t.Errorf("check with a wrong key: exit code %d\n%s", code, out)
	}
	plain := filepath.Join(dir, "plain")
	must(t, "ream", "-u", "glenda", "--size", diskSize, plain)
	refused(t, dir, exitFail, []string{plain, "not hashed with the secret key"}, "serve", "--keyfile", key, plain)

	// A ream that fails leaves no key behind, and no disk.
	refused(t, dir, exitFail, []string{bad}, "ream", "-u", "glenda", "--size", diskSize, "--hash", "siphash", "--keyfile", bad, none)
	refused(t, dir, exitFail, []string{"too small"}, "ream", "-u", "glenda", "--size", "1M", "--hash", "siphash", "--keyfile", none, none+"2")
}

func TestReamKeepsTheKeyOnTheDisk(t *testing.T) {
	disk := newDisk(t, "--hash", "siphash")
	must(t, "check", "--strict", disk)
	l := start(t, 1, "serve", "-m", "16M", disk)
	l.attach(l.addrs[0])
}

func TestReamMakesTheCallerTheFirstUser(t *testing.T) {
	name, err := loginName()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, "ream", "--size", diskSize, disk)
	image, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\n1:" + name + ":" + name + ":\n"; !bytes.Contains(image, []byte(want)) {
		t.Errorf("no line %q in the users file", want)
	}
}
