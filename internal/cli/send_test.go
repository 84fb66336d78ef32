package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// feed runs a command with standard input.
func feed(in []byte, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Main(context.Background(), args, bytes.NewReader(in), &out, &errs)
	return out.String(), errs.String(), code
}

// sound checks a disk strictly: nothing may be leaked.
func sound(t *testing.T, disk string) {
	t.Helper()
	must(t, "check", "--strict", disk)
}

// seen returns what a client sees of a snapshot of a disk that nobody serves.
func seen(t *testing.T, disk, label string) map[string]string {
	t.Helper()
	dev, err := blkdev.OpenFile(disk, blkdev.FileOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	fs, err := gefs.Open(dev, gefs.Options{Permissive: true, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	srv := gefstest.Serve(t, fs, 0)
	defer srv.Stop()
	files := map[string]string{}
	for path, f := range gefstest.Tree(t, srv.Attach("adm", "%"+label)) {
		f.Uid, f.Gid, f.Muid = "", "", "" // names are another file's matter
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = string(text)
	}
	return files
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for p, f := range want {
		if got[p] != f {
			t.Errorf("%s is\n%s, want\n%s", p, got[p], f)
		}
	}
	for p := range got {
		if want[p] == "" {
			t.Errorf("%s should not be there", p)
		}
	}
}

func TestSnapshotsAreSentAndReceived(t *testing.T) {
	disk, _ := salvageDisk(t)
	copied := newDisk(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "before.gefs")
	said := must(t, "send", "-o", file, disk, "before")
	digest := strings.TrimSpace(must(t, "digest", disk, "before"))
	if !strings.Contains(said, digest) || len(digest) != 64 {
		t.Errorf("sent %q, digest %q", said, digest)
	}
	if said := must(t, "recv", "--input", file, copied); !strings.Contains(said, digest) {
		t.Errorf("received %q, want digest %s", said, digest)
	}
	if said := must(t, "recv", "--input", file, copied); !strings.Contains(said, "already") {
		t.Errorf("received again: %q", said)
	}

	// A difference, through a pipe, under another name.
	stream, note, code := command("send", "--json", "-i", "before", disk, "main")
	if code != 0 || strings.Contains(stream, digest) {
		t.Fatalf("exit code %d: %s", code, note)
	}
	var sum gefs.Moved
	if err := json.Unmarshal([]byte(note), &struct {
		*gefs.Moved
		Digest string `json:"digest"`
	}{Moved: &sum}); err != nil || sum.Base != "before" || sum.Changes == 0 {
		t.Errorf("summary %q: %v", note, err)
	}
	if out, errs, code := feed([]byte(stream), "recv", copied, "main.copy"); code != 0 || !strings.Contains(out, "main.copy from before") {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	for label, here := range map[string]string{"before": "before", "main": "main.copy"} {
		if a, b := must(t, "digest", disk, label), must(t, "digest", copied, here); a != b {
			t.Errorf("%s: digests %s and %s", label, a, b)
		}
		same(t, seen(t, copied, here), seen(t, disk, label))
	}
	sound(t, copied)
	sound(t, disk)
}

func TestCutStreamsCanBeGoneOnWith(t *testing.T) {
	disk, _ := salvageDisk(t)
	copied := newDisk(t)
	file := filepath.Join(t.TempDir(), "stream")
	must(t, "send", "-o", file, disk, "before")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := whole[:len(whole)-50] // the end, and a part of the last frame
	if token := must(t, "recv", "--where", copied, "before"); token != "" {
		t.Errorf("nothing was received, and it says %q", token)
	}
	_, errs, code := feed(half, "recv", copied)
	if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "cut off") {
		t.Errorf("exit code %d: %q", code, errs)
	}
	// The small stream has one frame; a larger one says where it is.
	disk2 := filepath.Join(t.TempDir(), "large")
	must(t, "ream", "-u", "glenda", "--size", diskSize, disk2)
	fill(t, disk2, 3<<20)
	long, _, _ := command("send", disk2, "main")
	_, errs, code = feed([]byte(long[:len(long)/2]), "recv", copied, "large")
	if code != 1 || !strings.Contains(errs, "--where") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d: %q", code, errs)
	}
	sound(t, copied)
	token := strings.TrimSpace(must(t, "recv", "--where", copied, "large"))
	rest, errs, code := command("send", "--resume", token, disk2, "main")
	if code != 0 || len(rest) > len(long)*2/3 {
		t.Fatalf("the rest of %d bytes is %d: %s", len(long), len(rest), errs)
	}
	if _, errs, code := feed([]byte(rest), "recv", copied, "large"); code != 0 {
		t.Fatal(errs)
	}
	if a, b := must(t, "digest", disk2, "main"), must(t, "digest", copied, "large"); a != b {
		t.Errorf("digests %s and %s", a, b)
	}

	// A file goes on by itself.
	if err := os.WriteFile(file, []byte(long[:len(long)/3]), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "send", "-o", file, disk2, "main")
	if p, err := os.ReadFile(file); err != nil || string(p) != long {
		t.Errorf("the file has %d bytes, want %d: %v", len(p), len(long), err)
	}
	if said := must(t, "send", "-o", file, disk2, "main"); !strings.Contains(said, "already") {
		t.Errorf("said %q", said)
	}
	refused(t, filepath.Dir(file), 1, []string{file, "another stream"}, "send", "-o", file, disk, "before")

	// What has come can be given up.
	feed([]byte(long[:len(long)/2]), "recv", copied, "again")
	must(t, "recv", "--abort", copied, "again")
	if token := must(t, "recv", "--where", copied, "again"); token != "" {
		t.Errorf("given up, and it says %q", token)
	}
	sound(t, copied)
}

// fill writes a file of n bytes to main.
func fill(t *testing.T, disk string, n int) {
	t.Helper()
	dev, err := blkdev.OpenFile(disk, blkdev.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fs := gefstest.Open(t, dev, gefs.Options{Permissive: true})
	srv := gefstest.Serve(t, fs, 0)
	root := srv.Attach("glenda", "%main")
	p := bytes.Repeat([]byte("0123456789abcde\n"), n/16)
	if err := root.Create("large", 0644, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := root.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSendAndRecvRefuse(t *testing.T) {
	disk, _ := salvageDisk(t)
	dir := filepath.Dir(disk)
	copied := newDisk(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("this is a text and no stream of a snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "part")
	must(t, "send", "-o", part, "-i", "before", disk, "main")
	for _, tt := range []struct {
		code int
		say  []string
		args []string
	}{
		{1, []string{"nosuch", "does not exist"}, []string{"send", disk, "nosuch"}},
		{1, []string{"nosuch", "does not exist"}, []string{"send", "-i", "nosuch", disk, "main"}},
		{1, []string{"nosuch", "does not exist"}, []string{"digest", disk, "nosuch"}},
		{2, []string{"--resume"}, []string{"send", "--resume", "rubbish", disk, "main"}},
		{2, []string{"no snapshot named"}, []string{"send", disk}},
		{2, []string{"too many"}, []string{"send", disk, "main", "file"}},
		{1, []string{text, "no stream"}, []string{"send", "-o", text, disk, "main"}},
	} {
		refused(t, dir, tt.code, tt.say, tt.args...)
	}
	for _, tt := range []struct {
		code int
		say  []string
		args []string
	}{
		{1, []string{copied, "no stream of a snapshot"}, []string{"recv", "--input", text, copied}},
		{1, []string{copied, "difference to a snapshot", "before"}, []string{"recv", "--input", part, copied, "later"}},
		{1, []string{copied, "reserved"}, []string{"recv", "--input", part, copied, "adm"}},
		{1, []string{copied, "already exists", "another name"}, []string{"recv", "--input", part, copied, "main"}},
		{1, []string{"cut off"}, []string{"recv", copied}},
		{1, []string{"not being received"}, []string{"recv", "--abort", copied, "nosuch"}},
		{2, []string{"which snapshot"}, []string{"recv", "--where", copied}},
		{2, []string{"exclude"}, []string{"recv", "--where", "--abort", copied, "x"}},
	} {
		refused(t, t.TempDir(), tt.code, tt.say, tt.args...)
	}
	sound(t, copied)
}

// TestADiskThatIsServedIsSent sends through the console, while files are made.
func TestADiskThatIsServedIsSent(t *testing.T) {
	disk, copied := newDisk(t), newDisk(t)
	fill(t, disk, 3<<20)
	l := start(t, 1, "serve", disk)
	root := l.attach(l.addrs[0])
	must(t, "ctl", "-s", disk, "snap", "main", "one")
	if err := root.Create("more", 0644, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := root.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	digest := must(t, "digest", disk, "one")
	for _, from := range []string{disk, disk + ".ctl"} {
		stream, errs, code := command("send", from, "one")
		if code != 0 || !strings.Contains(errs, strings.TrimSpace(digest)) {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		if _, errs, code := feed([]byte(stream), "recv", copied); code != 0 {
			t.Fatal(errs)
		}
	}
	file := filepath.Join(t.TempDir(), "two")
	must(t, "send", "-o", file, "-i", "one", disk, "main")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) > 10000 {
		t.Errorf("the difference has %d bytes", len(whole))
	}
	must(t, "send", "-o", file+"x", disk, "one")
	long, err := os.ReadFile(file + "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+"x", long[:len(long)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "send", "-o", file+"x", disk, "one")
	if p, err := os.ReadFile(file + "x"); err != nil || !bytes.Equal(p, long) {
		t.Errorf("gone on with, it has %d bytes, not %d: %v", len(p), len(long), err)
	}
	refused(t, filepath.Dir(file), 1, []string{"another stream"}, "send", "-o", file+"x", disk, "main")
	refused(t, filepath.Dir(file), 1, []string{disk, "nosuch", "does not exist"}, "send", disk, "nosuch")
	must(t, "recv", "--input", file, copied, "two")
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for here, there := range map[string]string{"one": "one", "main": "two"} {
		if a, b := must(t, "digest", disk, here), must(t, "digest", copied, there); a != b {
			t.Errorf("%s: %s and %s", here, a, b)
		}
	}
	sound(t, disk)
	sound(t, copied)
}
