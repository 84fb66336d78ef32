package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
	"gefs9p/salvage"
)

const salvageUsers = "-1:adm::glenda\n0:none::\n1:glenda:glenda:\n2:alice:alice:\n5:staff:alice:alice\n"

// oddName is one that the server takes from nobody, and that may stand on a disk.
const oddName = "caf\xe9"

// salvageDisk makes a disk with some files of some users, a snapshot and a fork. It returns what is in main.
func salvageDisk(t *testing.T) (disk string, files map[string]string) {
	t.Helper()
	disk = newDisk(t)
	dev, err := blkdev.OpenFile(disk, blkdev.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fs := gefstest.Open(t, dev, gefs.Options{Permissive: true})
	c, end := fs.Background()
	err = fs.EditUsers(c, func([]byte) ([]byte, error) { return []byte(salvageUsers), nil })
	end()
	if err != nil {
		t.Fatal(err)
	}
	srv := gefstest.Serve(t, fs, 0)
	files = map[string]string{}
	put := func(user, aname, p string, perm uint32, text string) {
		t.Helper()
		root := srv.Attach(user, aname)
		f, err := root.WalkPath(path.Dir(p))
		if err == nil {
			err = f.Create(path.Base(p), perm, ninep.OREAD)
			if perm&ninep.DMDIR == 0 {
				f.Clunk()
				if f, err = root.WalkPath(p); err == nil {
					err = f.Open(ninep.OWRITE)
				}
			}
		}
		if err == nil && perm&ninep.DMDIR == 0 {
			_, err = f.WriteAt([]byte(text), 0)
			files[p] = text
		}
		if err == nil {
			w := ninep.NullDir()
			w.Mode, w.Mtime = perm, 1234567890
			if user == "alice" {
				w.Gid = "staff"
			}
			err = f.Wstat(w)
		}
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		f.Clunk()
		root.Clunk()
	}
	put("glenda", "%main", "lib", ninep.DMDIR|0775, "")
	put("alice", "%main", "lib/alice", ninep.DMDIR|0750, "")
	put("alice", "%main", "lib/alice/log", ninep.DMAPPEND|0640, strings.Repeat("a line\n", 5000))
	put("glenda", "%main", "lib/motd", 0444, "hello")
	put("glenda", "%main", "caf\u00e9 au lait", 0600, "odd")
	root := srv.Attach("alice", "%main") // the files in it have changed its time
	d, err := root.WalkPath("lib/alice")
	if err == nil {
		w := ninep.NullDir()
		w.Mtime = 1234567890
		err = d.Wstat(w)
	}
	if err != nil {
		t.Fatal(err)
	}
	label := func(name string, mutable bool) {
		c, end := fs.Background()
		defer end()
		if err := fs.Label(c, "main", name, mutable); err != nil {
			t.Fatal(err)
		}
	}
	label("before", false)
	label("fork", true)
	put("glenda", "%main", "later", 0666, "later")
	f := files
	files = map[string]string{} // put does not tell a fork's from main's
	put("glenda", "%fork", "forked", 0666, "forked")
	srv.Stop()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, f
}

// behead overwrites both superblocks.
func behead(t *testing.T, disk string) {
	t.Helper()
	info, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	nonsense := bytes.Repeat([]byte("nonsense"), blkfmt.BlkSize/8)
	damage(t, disk, 0, nonsense)
	damage(t, disk, int64(blkfmt.BackupAddr(info.Size())), nonsense)
}

func manifest(t *testing.T, dir string) map[string]manifestLine {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := map[string]manifestLine{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var l manifestLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.Bytes != nil {
			l.Path = string(l.Bytes)
		}
		lines[l.Label+l.Path] = l
	}
	return lines
}

func TestSalvageFillsADirectory(t *testing.T) {
	disk, files := salvageDisk(t)
	for _, lost := range []bool{false, true} {
		want := 0
		if lost {
			behead(t, disk)
			want = exitCheckErrors
		}
		before := snapshot(t, filepath.Dir(disk), time.Unix(1e9, 0))
		out := filepath.Join(t.TempDir(), "out")
		text, errs, code := command("salvage", "--all", disk, out)
		if code != want || errs != "" || lost && !strings.Contains(text, "superblocks are lost") {
			t.Fatalf("exit code %d: %s%s", code, text, errs)
		}
		if after := snapshot(t, filepath.Dir(disk), time.Time{}); after != before {
			t.Error("salvage has written to the disk")
		}
		lines := manifest(t, out)
		for p, data := range files {
			got, err := os.ReadFile(filepath.Join(out, "main", p))
			if err != nil || string(got) != data {
				t.Errorf("%s: %d bytes, want %d: %v", p, len(got), len(data), err)
			}
			info, err := os.Stat(filepath.Join(out, "main", p))
			if err != nil || info.ModTime().Unix() != 1234567890 {
				t.Errorf("%s: %v %v", p, info, err)
			}
			if l := lines["main/"+p]; l.Status != salvage.Whole || l.Length != uint64(len(data)) || l.Host != "" {
				t.Errorf("%s: the manifest says %+v", p, l)
			}
			_, err = os.Stat(filepath.Join(out, "before", p))
			if (err == nil) != (p != "later") {
				t.Errorf("before/%s: %v", p, err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(out, "fork", "forked")); string(got) != "forked" {
			t.Error(err)
		}
		info, err := os.Stat(filepath.Join(out, "main/lib/alice"))
		if err != nil || info.Mode().Perm() != 0o750 || info.ModTime().Unix() != 1234567890 {
			t.Errorf("lib/alice: %v %v", info, err)
		}
		if l := lines["main/lib/alice/log"]; l.Uid != "alice" || l.Gid != "staff" || l.Mode != "010000000640" {
			t.Errorf("lib/alice/log: %+v", l)
		}
		if p, err := os.ReadFile(filepath.Join(out, "adm/users")); string(p) != salvageUsers {
			t.Errorf("users: %q %v", p, err)
		}
	}
}

func TestSalvageMakesANewDisk(t *testing.T) {
	disk, files := salvageDisk(t)
	behead(t, disk)
	out := filepath.Join(t.TempDir(), "new")
	text, errs, code := command("salvage", "--all", "--size", diskSize, disk, out)
	if code != exitCheckErrors || errs != "" {
		t.Fatalf("exit code %d: %s%s", code, text, errs)
	}
	must(t, "check", "--strict", out)
	dev, err := blkdev.OpenFile(out, blkdev.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	fs := gefstest.Open(t, dev, gefs.Options{Permissive: true})
	srv := gefstest.Serve(t, fs, 0)
	for label, has := range map[string]string{"main": "later", "before": "lib/motd", "fork": "forked"} {
		tree := gefstest.Tree(t, srv.Attach("glenda", "%"+label))
		if _, ok := tree["/"+has]; !ok {
			t.Errorf("%s has no %s: %v", label, has, tree)
		}
		if _, ok := tree["/later"]; ok != (label == "main") {
			t.Errorf("%s: later is there: %v", label, ok)
		}
		l := tree["/lib/alice/log"]
		if l.Uid != "alice" || l.Gid != "staff" || l.Mode != ninep.DMAPPEND|0640 || l.Mtime != 1234567890 || l.Length != uint64(len(files["lib/alice/log"])) {
			t.Errorf("%s/lib/alice/log: %+v", label, l)
		}
		if d := tree["/lib/alice"]; d.Uid != "alice" || d.Mode != ninep.DMDIR|0750 || d.Mtime != 1234567890 {
			t.Errorf("%s/lib/alice: %+v", label, d)
		}
	}
	for _, l := range fs.Labels() {
		if want := l.Name == "main" || l.Name == "adm" || l.Name == "fork"; l.Mutable != want {
			t.Errorf("label %s: mutable is %v", l.Name, l.Mutable)
		}
	}
	if len(fs.Labels()) != 5 || fs.Users().Format() != salvageUsers {
		t.Errorf("labels %v, users %q", fs.Labels(), fs.Users().Format())
	}
	got := contents(t, srv.Attach("glenda", "%main"), "lib/alice/log")
	if got != files["lib/alice/log"] {
		t.Errorf("the log has %d bytes", len(got))
	}
}

func contents(t *testing.T, root *client.Fid, p string) string {
	t.Helper()
	f, err := root.WalkPath(p)
	if err == nil {
		err = f.Open(ninep.OREAD)
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	n, _ := f.ReadFull(buf, 0)
	return string(buf[:n])
}

// A disk of the reference without its superblocks, through the command and onto a new disk: what is
// served from that is what the reference showed.
func TestSalvagedGoldenDiskIsWhatTheReferenceShowed(t *testing.T) {
	disk := golden.Image(t, "snaps").File(t)
	want := golden.Manifest(t, "snaps")
	behead(t, disk)
	out := filepath.Join(t.TempDir(), "new")
	if text, errs, code := command("salvage", "--size", "512M", disk, out); code != exitCheckErrors || errs != "" {
		t.Fatalf("exit code %d: %s%s", code, text, errs)
	}
	dev, err := blkdev.OpenFile(out, blkdev.FileOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	srv := gefstest.Serve(t, gefstest.Open(t, dev, gefs.Options{ReadOnly: true, Permissive: true}), 0)
	for label, s := range want.Snapshots {
		if !s.Mutable || label == "adm" {
			continue
		}
		got := gefstest.Tree(t, srv.Attach("glenda", "%"+label))
		for p, f := range got { // what a copy cannot keep
			w := s.Files[p]
			f.Atime, f.Muid, f.QidPath, f.QidVers = w.Atime, w.Muid, w.QidPath, w.QidVers
			if p == "/" {
				f.Uid, f.Gid = w.Uid, w.Gid // nobody can give a root away
			}
			got[p] = f
		}
		gefstest.SameTree(t, label, got, s.Files)
	}
}

func TestSalvageListsOnly(t *testing.T) {
	disk, files := salvageDisk(t)
	dir := filepath.Dir(disk)
	before := snapshot(t, dir, time.Unix(1e9, 0))
	var rep salvage.Report
	if err := json.Unmarshal([]byte(must(t, "salvage", "--list", "--json", "--label", "main", disk)), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Labels) != 1 || rep.Labels[0].Whole != int64(len(files)) || !rep.Whole() {
		t.Errorf("%+v", rep)
	}
	if after := snapshot(t, dir, time.Time{}); after != before {
		t.Error("--list has written")
	}
}

func TestSalvageRefusesWhatItShould(t *testing.T) {
	disk, _ := salvageDisk(t)
	dir := filepath.Dir(disk)
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	zero := filepath.Join(dir, "zero")
	if err := os.WriteFile(zero, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("a text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for _, tt := range []struct {
		code  int
		words []string
		args  []string
	}{
		{exitCheckUsage, []string{"not 1"}, []string{disk}},
		{exitCheckUsage, []string{"--list"}, []string{"--list", disk, out}},
		{exitCheckUsage, []string{"--all"}, []string{"--label", "main", "--all", disk, out}},
		{exitCheckUsage, []string{"--size"}, []string{"--list", "--size", "1G", disk}},
		{exitCheckFail, []string{full, "not empty"}, []string{disk, full}},
		{exitCheckFail, []string{full, "directory"}, []string{"--size", "1G", disk, full}},
		{exitCheckFail, []string{text, "not empty"}, []string{disk, text}},
		{exitCheckFail, []string{"no such folder"}, []string{disk, filepath.Join(dir, "no", "out")}},
		{exitCheckFail, []string{zero, "nothing of a gefs disk"}, []string{zero, out}},
		{exitCheckFail, []string{zero, "nothing of a gefs disk"}, []string{"--size", "1G", zero, out}},
		{exitCheckFail, []string{"too small"}, []string{"--size", "1M", disk, out}},
		{exitCheckFail, []string{"no such label", "nosuch"}, []string{"--label", "nosuch", disk, out}},
		{exitCheckFail, []string{filepath.Join(dir, "nodisk")}, []string{filepath.Join(dir, "nodisk"), out}},
		{exitCheckFail, []string{disk, "use"}, []string{disk, disk}},
	} {
		refused(t, dir, tt.code, tt.words, append([]string{"salvage"}, tt.args...)...)
	}
}

func TestSalvageAsksForTheKeyFile(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	disk := newDisk(t, "--hash", "siphash", "--keyfile", key)
	behead(t, disk)
	out := filepath.Join(dir, "out")
	refused(t, dir, exitCheckFail, []string{disk, "--keyfile"}, "salvage", disk, out)
	if _, errs, code := command("salvage", "--keyfile", key, disk, out); code != exitCheckErrors {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestNamesBecomeWhatTheHostCanHold(t *testing.T) {
	for name, want := range map[string]string{"": "%", ".": "%.", "..": "%..", "a/b": "a%2Fb", "a\x00": "a%00", "a%b": "a%b", "ü": "ü", oddName: oddName} {
		if got := hostName(name); got != want {
			t.Errorf("%q on the host is %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"": "%", "..": "%..", "a/b": "a%2Fb", "a\n": "a%0A", "ü": "ü", oddName: "caf%E9"} {
		if got := diskName(name); got != want {
			t.Errorf("%q on a disk is %q, want %q", name, got, want)
		}
	}
}

// Names that lead out of the directory, or are taken, or come twice, do no harm.
func TestAFolderHoldsAnyName(t *testing.T) {
	dir := t.TempDir()
	f, err := newFolder(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.Label(salvage.LabelReport{Name: manifestName}, nil))
	root := &salvage.File{Label: manifestName}
	check(f.Mkdir(root))
	names := [][]string{{".."}, {"..", "x"}, {"/etc/passwd"}, {"a\x00b"}, {"twice"}, {"twice"}, {"dir"}, {"dir", "in"}}
	for i, p := range names {
		d := &salvage.File{Label: manifestName, Path: p}
		d.Dir.Mode = 0o644
		if p[0] == ".." && len(p) == 1 || p[0] == "dir" && len(p) == 1 {
			d.Dir.Mode = 1<<31 | 0o500
			check(f.Mkdir(d))
			check(f.Mkdir(d))
			check(f.Done(d))
			continue
		}
		w, err := f.Create(d)
		check(err)
		data := []byte(fmt.Sprint(i))
		_, err = w.WriteAt(data, 0)
		check(err)
		d.Dir.Length = uint64(len(data))
		check(w.Finish(d))
	}
	check(f.Done(root))
	check(f.Close(true))
	got := map[string]string{}
	check(filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != manifestName {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(dir, p)
			got[rel] = string(b)
		}
		return err
	}))
	base := "out/%" + manifestName + "/"
	for p, want := range map[string]string{"%../x": "1", "%2Fetc%2Fpasswd": "2", "a%00b": "3", "twice": "4", "twice%2": "5", "dir/in": "7"} {
		if got[base+p] != want {
			t.Errorf("%s is %q, want %q: %v", p, got[base+p], want, got)
		}
	}
	if len(f.Notes()) != 1 || len(manifest(t, filepath.Join(dir, "out"))) != 8 {
		t.Errorf("notes %q, manifest %v", f.Notes(), manifest(t, filepath.Join(dir, "out")))
	}
}

func TestSalvageProgressSaysRateAndTimeLeft(t *testing.T) {
	p := salvage.Progress{Pass: "scan", Read: 64 * 100, All: 64 * 400}
	if got, want := salvageLine(p, 10*time.Second), "salvage, scan: 100 of 400 MiB (25%), 10 MiB/s, 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := salvageLine(salvage.Progress{Pass: "trees"}, 0); got != "salvage, trees: 0 MiB" {
		t.Errorf("%q", got)
	}
}
