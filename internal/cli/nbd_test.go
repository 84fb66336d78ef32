package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/client"
	"gefs9p/nbd/nbdtest"
	"gefs9p/ninep"
)

// exportSize is diskSize in bytes.
const exportSize = 131088 << 10

// newRemote serves dev, in a test that is in a folder of its own.
func newRemote(t *testing.T, dev blkdev.Device) (*nbdtest.Server, string) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", t.TempDir()) // for locks
	s := &nbdtest.Server{Dev: dev}
	s.Start(t)
	return s, "nbd://" + s.Addr() + "/vol/1"
}

func TestEveryCommandTakesAnAddress(t *testing.T) {
	s, addr := newRemote(t, blkdev.NewMem(exportSize))
	must(t, "ream", "-u", "glenda", addr)
	l := start(t, 1, "serve", "-m", "16M", addr)
	name := strings.ReplaceAll(s.Addr(), ":", "-") + "-vol-1"
	if want := name + ".sock"; filepath.Base(l.addrs[0]) != want {
		t.Errorf("listens on %s, want %s", l.addrs[0], want)
	}
	put(t, l.attach(l.addrs[0]), "file", "hello")
	if out := must(t, "ctl", "-s", addr, "df"); out == "" {
		t.Error("no answer of the console")
	}
	s.HangUp()
	put(t, l.attach(l.addrs[0]), "another", "one")
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, l.stderr())
	}
	if !strings.Contains(l.stderr(), "connected to the disk again") {
		t.Errorf("no word of the lost connection in\n%s", l.stderr())
	}
	must(t, "check", "--strict", addr)
	must(t, "check", "--repair", addr)
	must(t, "-c", "-f", addr)
	must(t, "salvage", addr, "saved")
	if b, err := os.ReadFile("saved/main/file"); err != nil || string(b) != "hello" {
		t.Errorf("salvaged %q, %v", b, err)
	}
	l = start(t, 1, "serve", "-m", "16M", "--read-only", addr)
	if got := get(t, l.attach(l.addrs[0]), "another"); got != "one" {
		t.Errorf("the file holds %q", got)
	}
	l.stop()

	must(t, "export", addr+"#main", "exported")
	if b, err := os.ReadFile("exported/file"); err != nil || string(b) != "hello" {
		t.Errorf("exported %q, %v", b, err)
	}
	must(t, "import", addr, "exported")

	// And a disk on one export salvaged to another.
	other := &nbdtest.Server{Dev: blkdev.NewMem(exportSize)}
	other.Start(t)
	must(t, "salvage", addr, "nbd://"+other.Addr()+"/")
	must(t, "check", "--strict", "nbd://"+other.Addr()+"/")

	must(t, "ream", "-u", "glenda", "--force", addr)
	must(t, "-r", "glenda", "-f", addr)
	left, err := filepath.Glob("*.sock")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestSnapshotsTravelBetweenAddresses sends from a disk at an address, served and not, to one at another, whose
// server hangs up all the time.
func TestSnapshotsTravelBetweenAddresses(t *testing.T) {
	_, from := newRemote(t, blkdev.NewMem(exportSize))
	var n atomic.Int64
	other := &nbdtest.Server{Dev: blkdev.NewMem(exportSize), Hook: func(nbdtest.Request) nbdtest.Fault {
		return nbdtest.Fault{Lost: n.Add(1)%50 == 0}
	}}
	other.Start(t)
	to := "nbd://" + other.Addr() + "/"
	must(t, "ream", "-u", "glenda", from)
	must(t, "ream", "-u", "glenda", to)
	l := start(t, 1, "serve", "-m", "16M", from)
	root := l.attach(l.addrs[0])
	for i := range 40 {
		put(t, root, fmt.Sprint("file", i), strings.Repeat("text", i*1000))
	}
	must(t, "ctl", "-s", from, "snap", "main", "one")
	put(t, root, "more", "text")
	must(t, "ctl", "-s", from, "snap", "main", "two")
	digest := must(t, "digest", from, "one")
	one, errs, code := command("send", from, "one")
	if code != 0 || !strings.Contains(errs, strings.TrimSpace(digest)) {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if _, errs, code := feed([]byte(one[:len(one)*2/3]), "recv", to); code != 1 || !strings.Contains(errs, "--where "+to+" one") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	token := strings.TrimSpace(must(t, "recv", "--where", to, "one"))
	rest, errs, code := command("send", "--resume", token, from, "one")
	if code != 0 {
		t.Fatal(errs)
	}
	if _, errs, code := feed([]byte(rest), "recv", to); code != 0 {
		t.Fatal(errs)
	}
	if code := l.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, l.stderr())
	}
	two, errs, code := command("send", "-i", "one", from, "two")
	if code != 0 || len(two) > len(one)/10 {
		t.Fatalf("exit code %d, %d bytes: %s", code, len(two), errs)
	}
	if _, errs, code := feed([]byte(two), "recv", to); code != 0 {
		t.Fatal(errs)
	}
	for _, label := range []string{"one", "two"} {
		if a, b := must(t, "digest", from, label), must(t, "digest", to, label); a != b {
			t.Errorf("%s: digests %s and %s", label, a, b)
		}
	}
	must(t, "check", "--strict", to)
}

// TestAWrongKeyForAnAddressIsSaid: no key, another key, and a key for a disk that has none, of each command in one
// line; and nothing is written.
func TestAWrongKeyForAnAddressIsSaid(t *testing.T) {
	mem := blkdev.NewMem(exportSize)
	_, addr := newRemote(t, mem)
	key, other := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "other")
	must(t, "ream", "-u", "glenda", "--hash", "siphash", "--keyfile", key, addr)
	if err := os.WriteFile(other, []byte("sixteen bytes..."), 0o600); err != nil {
		t.Fatal(err)
	}
	before := mem.Clone()
	stream := filepath.Join(t.TempDir(), "stream")
	must(t, "send", "--keyfile", key, "-o", stream, addr, "main")
	folder := t.TempDir()
	for _, args := range [][]string{
		{"serve", "-a", "unix!other.sock", addr},
		{"check", addr},
		{"send", "-o", filepath.Join(t.TempDir(), "x"), addr, "main"},
		{"recv", "--input", stream, addr, "copy"},
		{"digest", addr, "main"},
		{"import", addr, folder},
		{"export", addr, filepath.Join(t.TempDir(), "y")},
	} {
		for _, with := range [][]string{nil, {"--keyfile", other}, {"--keyfile", folder}, {"--keyfile", filepath.Join(folder, "none")}} {
			all := append(append([]string{args[0]}, with...), args[1:]...)
			out, errs, code := command(all...)
			if args[0] == "check" && errs == "" { // what is wrong with the disk is its result
				errs, _, _ = strings.Cut(out, "\n")
				errs += "\n"
			}
			if code == 0 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "key") {
				t.Errorf("%q: exit code %d, %q", all, code, errs)
			}
		}
	}
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < exportSize; off += int64(len(p)) {
		n, _ := mem.ReadAt(p, off)
		before.ReadAt(q[:n], off)
		if !bytes.Equal(p[:n], q[:n]) {
			t.Fatalf("something was written between %d and %d", off, off+int64(n))
		}
	}
	must(t, "check", "--strict", "--keyfile", key, addr)

	plain := blkdev.NewMem(exportSize)
	s := &nbdtest.Server{Dev: plain}
	s.Start(t)
	must(t, "ream", "-u", "glenda", "nbd://"+s.Addr()+"/")
	refused(t, ".", 1, []string{"key", s.Addr()}, "digest", "--keyfile", key, "nbd://"+s.Addr()+"/", "main")
}

func TestServeMakesTheDiskAtAnAddressThatIsEmpty(t *testing.T) {
	_, addr := newRemote(t, blkdev.NewMem(exportSize))
	refused(t, ".", 1, []string{"134234112", "name this size"}, "serve", "--create", "1G", addr)
	for range 2 { // the second time it is there
		l := start(t, 1, "serve", "-m", "16M", "--create", diskSize, addr)
		if code := l.stop(); code != 0 {
			t.Fatalf("exit code %d\n%s", code, l.stderr())
		}
		if made := strings.Contains(l.stderr(), "reaming"); made != strings.Contains(l.stderr(), "arena 0") {
			t.Error(l.stderr())
		}
	}
	must(t, "check", "--strict", addr)
}

func TestWhatIsWrongWithAnAddressIsSaid(t *testing.T) {
	s, addr := newRemote(t, blkdev.NewMem(exportSize))
	text := blkdev.NewMem(exportSize)
	if _, err := text.WriteAt([]byte(strings.Repeat("my diary\n", 100)), 0); err != nil {
		t.Fatal(err)
	}
	readOnly := &nbdtest.Server{Dev: text, ReadOnly: true}
	readOnly.Start(t)
	full := &nbdtest.Server{Dev: text}
	full.Start(t)
	refused(t, ".", 2, []string{"nbd+unix:///export?socket=PATH"}, "serve", "nbd+unix:///x")
	refused(t, ".", 16, []string{"unknown parameter"}, "check", addr+"?colour=red")
	refused(t, ".", 1, []string{"refused", "nbd://127.0.0.1:1/"}, "serve", "nbd://127.0.0.1:1/")
	refused(t, ".", 1, []string{"no such export"}, "serve", "nbd://"+s.Addr()+"/none")
	refused(t, ".", 1, []string{"read-only"}, "serve", "nbd://"+readOnly.Addr()+"/")
	refused(t, ".", 1, []string{"not a gefs", "my diary"}, "serve", "nbd://"+full.Addr()+"/")
	refused(t, ".", 1, []string{"not empty", "my diary", "--force"}, "ream", "-u", "glenda", "nbd://"+full.Addr()+"/")
	refused(t, ".", 1, []string{"134234112", "name this size, or none"}, "ream", "-u", "glenda", "--size", "1G", addr)
	must(t, "ream", "-u", "glenda", addr)
	start(t, 1, "serve", "-m", "16M", addr)
	refused(t, os.Getenv("TMPDIR"), 8, []string{"already served", addr}, "check", addr)
	refused(t, os.Getenv("TMPDIR"), 1, []string{"already served", addr}, "serve", "-a", "unix!other.sock", addr)
}

func TestNamesOfSocketsAreMadeOfAddresses(t *testing.T) {
	for disk, want := range map[string]string{
		"disk.img":                      "disk.img",
		"/a/b":                          "/a/b",
		"nbd://store/vol1":              "store-vol1",
		"nbd://store:1/":                "store-1",
		"nbd://[::1]/a/../b":            "1--a-..-b",
		"nbds://store/%C3%A4?a=b":       "nbd",
		"nbd+unix:///e?socket=/run/s.s": "s.s-e",
		"nbd+unix:///..?socket=/":       "..",
	} {
		got := localName(disk)
		if want == ".." { // whatever it is, no other folder
			if strings.ContainsRune(got, '/') || strings.HasPrefix(got, ".") {
				t.Errorf("%s: %q", disk, got)
			}
		} else if got != want {
			t.Errorf("%s: %q, want %q", disk, got, want)
		}
	}
}

// A watched device notes which blocks are read.
type watched struct {
	*blkdev.Mem
	mu   sync.Mutex
	read map[int64]bool
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	for b := off / blkfmt.BlkSize; b*blkfmt.BlkSize < off+int64(len(p)); b++ {
		w.read[b] = true
	}
	w.mu.Unlock()
	return w.Mem.ReadAt(p, off)
}

// With a key that it does not have, a storage can forge no block without being found out: not by changing it, and
// not by giving another for it that was once right, of another place or of an earlier time.
func TestStorageThatForgesIsFoundOut(t *testing.T) {
	mem := blkdev.NewMem(exportSize)
	w := &watched{Mem: mem, read: map[int64]bool{}}
	_, addr := newRemote(t, w)
	key := filepath.Join(t.TempDir(), "key")
	must(t, "ream", "-u", "glenda", "--hash", "siphash", "--keyfile", key, addr)
	contents := map[string]string{}
	fill := func(round int) {
		l := start(t, 1, "serve", "-m", "16M", "--keyfile", key, "--no-snapshots", addr)
		root := l.attach(l.addrs[0])
		for i := range 40 {
			name := fmt.Sprintf("file%d", i)
			if round > 0 && i%2 == 0 {
				continue
			}
			contents[name] = strings.Repeat(fmt.Sprintf("%d in round %d. ", i, round), 1+i*100)
			if round > 0 {
				f, err := root.Walk(name)
				if err == nil {
					err = f.Remove()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			put(t, root, name, contents[name])
		}
		if code := l.stop(); code != 0 {
			t.Fatalf("exit code %d\n%s", code, l.stderr())
		}
	}
	fill(0)
	old := mem.Clone()
	fill(1)
	secret, err := readKey(key)
	if err != nil {
		t.Fatal(err)
	}
	examine := func() *check.Report {
		d, err := openDisk(addr, true)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		rep, err := check.Run(context.Background(), d, exportSize, check.Options{Key: secret})
		if err != nil {
			return nil // nothing is believed at all
		}
		return rep
	}
	clear(w.read)
	if rep := examine(); rep == nil || !rep.Clean(true) {
		t.Fatalf("the disk is not sound before: %+v", rep)
	}
	var blocks []int64
	for b := range w.read {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	r := blkdevtest.Rand(t)
	if testing.Short() {
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		blocks = blocks[:min(len(blocks), 40)]
	}
	tried := map[string]int{}
	var data []int64 // blocks of our files
	for _, b := range blocks {
		was := make([]byte, blkfmt.BlkSize)
		if _, err := mem.ReadAt(was, b*blkfmt.BlkSize); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for _, how := range []string{"a bit", "an older one", "another one"} {
			forged := bytes.Clone(was)
			switch how {
			case "a bit":
				// Some bytes mean nothing: docs/crash.md lists them.
				from, to := 0, len(forged)
				switch {
				case blkfmt.Type(binary.BigEndian.Uint16(was)) == blkfmt.Log:
					from, to = 36, 36+int(binary.BigEndian.Uint16(was[2:]))
				case string(was[:4]) == "gefs":
					to = 112
				}
				forged[from+r.IntN(to-from)] ^= 1 << r.IntN(8)
			case "an older one":
				old.ReadAt(forged, b*blkfmt.BlkSize)
			default:
				mem.ReadAt(forged, blocks[r.IntN(len(blocks))]*blkfmt.BlkSize)
			}
			if bytes.Equal(forged, was) {
				continue
			}
			if _, err := mem.WriteAt(forged, b*blkfmt.BlkSize); err != nil {
				t.Fatal(err)
			}
			tried[how]++
			rep := examine()
			if rep != nil && len(rep.Problems) == 0 { // where there is a copy, it is no error
				t.Errorf("block %d (begins % x), %s: not found", b, was[:4], how)
			}
			if rep != nil && how == "a bit" && len(rep.Problems) > 0 && rep.Problems[0].Block == blkfmt.Data.String() &&
				slices.ContainsFunc(rep.Problems[0].Paths, func(p string) bool { return strings.HasPrefix(p, "main/file") }) {
				data = append(data, b)
			}
			if _, err := mem.WriteAt(was, b*blkfmt.BlkSize); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d blocks, forged: %v", len(blocks), tried)
	if tried["a bit"] < 30 || tried["another one"] < 20 || tried["an older one"] == 0 && !testing.Short() {
		t.Error("too few to prove anything")
	}
	servesNoForgery(t, r, mem, addr, key, data, contents)
}

// servesNoForgery changes blocks of files one after the other: clients get errors, or what they wrote.
func servesNoForgery(t *testing.T, r *rand.Rand, mem *blkdev.Mem, addr, key string, blocks []int64, contents map[string]string) {
	r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	found := 0
	for _, b := range blocks[:min(len(blocks), 8)] {
		p := make([]byte, blkfmt.BlkSize)
		mem.ReadAt(p, b*blkfmt.BlkSize)
		was := bytes.Clone(p)
		for i := range 16 {
			p[r.IntN(len(p))] ^= byte(i + 1)
		}
		mem.WriteAt(p, b*blkfmt.BlkSize)
		l := start(t, 1, "serve", "-m", "16M", "--keyfile", key, "--read-only", addr)
		root := l.attach(l.addrs[0])
		for name, want := range contents {
			got, err := tryGet(root, name)
			if err != nil {
				found++
			} else if got != want {
				t.Errorf("block %d forged: %s holds %.40q", b, name, got)
			}
		}
		l.stop()
		mem.WriteAt(was, b*blkfmt.BlkSize)
	}
	if found == 0 {
		t.Error("no file was found out")
	}
	t.Logf("%d files could not be read, and none was wrong", found)
}

// tryGet reads a file that may be damaged.
func tryGet(root *client.Fid, name string) (string, error) {
	f, err := root.Walk(name)
	if err != nil {
		return "", err
	}
	defer f.Clunk()
	if err := f.Open(ninep.OREAD); err != nil {
		return "", err
	}
	buf := make([]byte, 1<<20)
	n, err := f.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return string(buf[:n]), err
}
