package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
)

// hostTree makes a tree on the host, with holes, read-only directories, and a link that stays out.
func hostTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string, mode fs.FileMode) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"src", "src/deep", "src/deep/er", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		p := make([]byte, rng.IntN(40000))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		put([]string{"src", "src/deep", "src/deep/er", "."}[i%4]+fmt.Sprintf("/file %d é", i), string(p), 0o644)
	}
	put("script", "#!/bin/sh\n", 0o755)
	put("src/none", "", 0o400)
	put("holes", "", 0o640)
	f, err := os.OpenFile(filepath.Join(dir, "holes"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("in the middle"), 3<<20)
	}
	if err == nil {
		err = f.Truncate(5<<20 + 3)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(p, time.Time{}, time.Unix(1e9+int64(len(p))*1000, 0)))
	})
	if err == nil {
		err = os.Chmod(filepath.Join(dir, "src/deep"), 0o555)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "src/deep"), 0o755) })
	return dir
}

// hostFiles describes what is below dir.
func hostFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := []byte{}
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		name, err := filepath.Rel(dir, p)
		files[name] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime().Unix(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// onDisk returns what is in a label, without what no copy keeps.
func onDisk(t *testing.T, disk, label string) map[string]golden.File {
	t.Helper()
	dev, err := blkdev.OpenFile(disk, blkdev.FileOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	fsys, err := gefs.Open(dev, gefs.Options{Permissive: true, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	srv := gefstest.Serve(t, fsys, 0)
	defer srv.Stop()
	files := gefstest.Tree(t, srv.Attach("adm", "%"+label))
	for p, f := range files {
		f.Atime, f.Muid, f.QidPath, f.QidVers = 0, "", 0, 0
		files[p] = f
	}
	delete(files, "/") // stays the disk's
	return files
}

func sameFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s is %.80q, want %.80q", p, got[p], w)
		}
	}
	for p := range got {
		if want[p] == "" {
			t.Errorf("%s should not be there", p)
		}
	}
}

func transferSum(t *testing.T, text string) (s transferred) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

// TestATreeGoesOntoADiskAndBack imports a directory, exports it to one and to an archive, and imports that. Each
// of it twice: the second time nothing is written.
func TestATreeGoesOntoADiskAndBack(t *testing.T) {
	src := hostTree(t)
	want := hostFiles(t, src)
	disk := newDisk(t)
	first := transferSum(t, must(t, "import", "--json", disk, src))
	if first.Files != 63 || first.Dirs != 4 || first.Same != 0 || len(first.Skipped) != 0 {
		t.Errorf("imported %+v", first)
	}
	if again := transferSum(t, must(t, "import", "--json", disk, src)); again.Same != first.Files || again.Files != 0 {
		t.Errorf("imported again: %+v", again)
	}
	dst := filepath.Join(t.TempDir(), "out")
	must(t, "export", disk, dst)
	defer os.Chmod(filepath.Join(dst, "src/deep"), 0o755)
	sameFiles(t, hostFiles(t, dst), want)
	if again := transferSum(t, must(t, "export", "--json", disk, dst)); again.Same != first.Files {
		t.Errorf("exported again: %+v", again)
	}
	// What is not as it was is made so, also in a directory that cannot be written.
	lost := filepath.Join(dst, "src/deep/er/file 2 é")
	if err := os.WriteFile(lost, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "export", disk, dst)
	sameFiles(t, hostFiles(t, dst), want)
	sound(t, disk)

	archive := filepath.Join(t.TempDir(), "out.tar")
	must(t, "export", disk, archive)
	second := newDisk(t)
	must(t, "import", second, archive)
	gefstest.SameTree(t, "through an archive", onDisk(t, second, "main"), onDisk(t, disk, "main"))
	piped, _, code := command("export", disk, "-")
	text, err := os.ReadFile(archive)
	if err != nil || code != 0 || piped != string(text) {
		t.Errorf("on standard output %d bytes, in a file %d: %v, exit code %d", len(piped), len(text), err, code)
	}
	third := newDisk(t)
	if _, errs, code := feed(text, "import", "--into", "a/b", third, "-"); code != 0 {
		t.Fatal(errs)
	}
	got := map[string]golden.File{}
	for p, f := range onDisk(t, third, "main") {
		if rest, ok := strings.CutPrefix(p, "/a/b/"); ok {
			got["/"+rest] = f
		}
	}
	gefstest.SameTree(t, "below a directory", got, onDisk(t, disk, "main"))
}

func TestOwnersAndModesGoThroughAnArchive(t *testing.T) {
	disk, _ := salvageDisk(t)
	archive := filepath.Join(t.TempDir(), "before.tar")
	must(t, "export", disk+":before", archive)
	out := filepath.Join(t.TempDir(), "disk")
	must(t, "salvage", "--size", diskSize, "--label", "adm", disk, out) // with the same users
	must(t, "import", out, archive)
	want := onDisk(t, disk, "before")
	if len(want) < 5 || want["/lib/alice/log"].Uid != "alice" {
		t.Fatalf("what is exported is %v", want)
	}
	gefstest.SameTree(t, "with owners", onDisk(t, out, "main"), want)
	sound(t, out)

	// On a disk that does not know alice.
	other := newDisk(t)
	said := must(t, "import", other, archive)
	if !strings.Contains(said, "alice") {
		t.Errorf("who alice is, is not known, and it says %q", said)
	}
	if f := onDisk(t, other, "main")["/lib/alice/log"]; f.Uid != "glenda" || f.Mode != 0x40000000|0640 {
		t.Errorf("the log is %+v", f)
	}
}

// TestAnEndedExportOfAnArchiveGoesOn cuts archives anywhere.
func TestAnEndedExportOfAnArchiveGoesOn(t *testing.T) {
	src := hostTree(t)
	disk := newDisk(t)
	must(t, "import", disk, src)
	archive := filepath.Join(t.TempDir(), "out.tar")
	must(t, "export", disk, archive)
	whole, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 12 {
		cut := 512 + rng.IntN(len(whole)-512)
		if i == 0 {
			cut = len(whole)
		}
		if err := os.WriteFile(archive, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, "export", disk, archive)
		if p, err := os.ReadFile(archive); err != nil || !bytes.Equal(p, whole) {
			t.Fatalf("cut at %d of %d: %d bytes: %v", cut, len(whole), len(p), err)
		}
	}
	// One of something else is left alone.
	must(t, "import", disk, filepath.Join(src, "src/deep"), "--into", ".more") // sorted before the rest
	refused(t, filepath.Dir(archive), 1, []string{archive, "something else"}, "export", disk, archive)
}

// badTar returns an archive with a name that leads out of it behind one that does not.
func badTar(t *testing.T, h *tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{{Name: "good", Typeflag: tar.TypeReg, Mode: 0o644}, h} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchivesThatLeadOutAreRefused(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	file := filepath.Join(t.TempDir(), "bad.tar")
	for _, h := range []*tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg},
		{Name: "a/../../out", Typeflag: tar.TypeReg},
		{Name: "a/..", Typeflag: tar.TypeDir},
		{Name: "/etc/passwd", Typeflag: tar.TypeReg},
		{Name: "link", Typeflag: tar.TypeLink, Linkname: "../../out"},
		{Name: "link", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		{Name: ".", Typeflag: tar.TypeReg},
	} {
		p := badTar(t, h)
		if err := os.WriteFile(file, p, 0o600); err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Linkname != "" {
			name = h.Linkname
		}
		refused(t, dir, 1, []string{file, name, ".."}, "import", disk, file)
		_, errs, code := feed(p, "import", disk, "-")
		if code != 1 || !strings.Contains(errs, "what came before it") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s on standard input: exit code %d: %q", h.Name, code, errs)
		}
	}
	for p := range onDisk(t, disk, "main") {
		if p != "/good" {
			t.Errorf("%s is on the disk", p)
		}
	}
	cut := badTar(t, &tar.Header{Name: "more", Typeflag: tar.TypeReg})[:700] // in the second header
	if err := os.WriteFile(file, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, 1, []string{file, "archive"}, "import", disk, file)
	sound(t, disk)
}

func TestWhatADiskDoesNotHaveIsListed(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "what both are"
	for _, h := range []*tar.Header{
		{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))},
		{Name: "dir/hard", Typeflag: tar.TypeLink, Linkname: "dir/file", Mode: 0o644},
		{Name: "hard2", Typeflag: tar.TypeLink, Linkname: "nowhere"},
		{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "tab\there", Typeflag: tar.TypeReg},
		{Name: strings.Repeat("long", 70), Typeflag: tar.TypeReg},
		{Name: "dir/file/below", Typeflag: tar.TypeReg},
		{Name: "dir", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, text)
		}
	}
	w.Close()
	disk := newDisk(t)
	out, errs, code := feed(b.Bytes(), "import", "--json", disk, "-")
	if code != 1 || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	s := transferSum(t, out)
	if len(s.Skipped) != 5 || s.Files != 3 || len(s.Notes) == 0 {
		t.Errorf("%+v", s)
	}
	files := onDisk(t, disk, "main")
	if files["/dir/hard"].SHA256 != files["/dir/file"].SHA256 || files["/dir/hard"].Length != uint64(len(text)) || files["/tab%09here"].Mode != 0 {
		t.Errorf("on the disk are %v", files)
	}
	sound(t, disk)

	if runtime.GOOS != "windows" {
		dir := t.TempDir()
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, "soft")); err != nil {
			t.Fatal(err)
		}
		if out, _, code := command("import", disk, dir); code != 1 || !strings.Contains(out, "soft: a symbolic link") {
			t.Errorf("exit code %d: %q", code, out)
		}
	}
}

func TestImportAndExportRefuse(t *testing.T) {
	disk, _ := salvageDisk(t)
	dir := filepath.Dir(disk)
	file := filepath.Join(t.TempDir(), "text.tar")
	if err := os.WriteFile(file, []byte(strings.Repeat("no archive ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code int
		say  []string
		args []string
	}{
		{1, []string{"nosuch", "no such file"}, []string{"import", disk, filepath.Join(dir, "nosuch")}},
		{1, []string{"nosuch", "does not exist"}, []string{"import", disk + ":nosuch", t.TempDir()}},
		{1, []string{"before", "does not change"}, []string{"import", disk + ":before", t.TempDir()}},
		{1, []string{file, "archive"}, []string{"import", disk, file}},
		{2, []string{"--into"}, []string{"import", "--into", "../x", disk, t.TempDir()}},
		{2, []string{"--into"}, []string{"import", "--into", "/x", disk, t.TempDir()}},
		{2, []string{"no snapshot"}, []string{"export", disk + ":", t.TempDir()}},
		{1, []string{"nosuch", "does not exist"}, []string{"export", disk + ":nosuch", filepath.Join(dir, "out")}},
		{1, []string{file, "remove it"}, []string{"export", disk, file}},
		{1, []string{"no such"}, []string{"export", disk, filepath.Join(dir, "no/where")}},
	} {
		refused(t, dir, tt.code, tt.say, tt.args...)
	}
	sound(t, disk)
}

func TestImportToAFullDiskLeavesASoundOne(t *testing.T) {
	disk := newDisk(t)
	src := t.TempDir()
	p := bytes.Repeat([]byte("full of it"), 7<<20)
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprint(i)), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, errs, code := command("import", disk, src)
	if code != 1 || !strings.Contains(errs, "full") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d: %q", code, errs)
	}
	sound(t, disk)
}
