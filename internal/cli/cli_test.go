package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/client"
)

// command runs the program in-process, without standard input.
func command(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Main(context.Background(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// must runs a command that is to succeed, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := command(args...)
	if code != 0 {
		t.Fatalf("gefs9p %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// refused runs a command that is to be refused with the exit code, with one line that says each of
// the words, and with nothing written below dir.
func refused(t *testing.T, dir string, code int, words []string, args ...string) {
	t.Helper()
	before := snapshot(t, dir, time.Unix(1e9, 0))
	out, errs, got := command(args...)
	name := "gefs9p " + strings.Join(args, " ")
	if got != code {
		t.Errorf("%s: exit code %d, want %d", name, got, code)
	}
	if out != "" {
		t.Errorf("%s: standard output %q", name, out)
	}
	if !strings.HasPrefix(errs, "gefs9p: ") || strings.Count(errs, "\n") != 1 || !strings.HasSuffix(errs, "\n") {
		t.Errorf("%s: not one line: %q", name, errs)
	}
	for _, w := range words {
		if !strings.Contains(errs, w) {
			t.Errorf("%s: %q is not in %q", name, w, errs)
		}
	}
	if after := snapshot(t, dir, time.Time{}); after != before {
		t.Errorf("%s: has changed files:\nbefore\n%safter\n%s", name, before, after)
	}
}

// snapshot describes all files below dir, so that two descriptions differ if anything was made, removed
// or written: it makes the files look old, and writing makes them new.
func snapshot(t *testing.T, dir string, old time.Time) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !old.IsZero() && d.Type().IsRegular() {
			if err := os.Chtimes(p, old, old); err != nil {
				return err
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", p, info.Mode())
		if !d.IsDir() {
			fmt.Fprintf(&b, " %v %d", info.ModTime(), info.Size())
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// diskSize is that of most disks here: the smallest there can be.
const diskSize = "131088K"

// newDisk makes a disk for glenda.
func newDisk(t *testing.T, args ...string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, append([]string{"ream", "-u", "glenda", "--size", diskSize, disk}, args...)...)
	return disk
}

// damage overwrites n bytes of a file.
func damage(t *testing.T, file string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
}

// A live server runs in-process.
type live struct {
	t      *testing.T
	addrs  []string
	cancel context.CancelFunc
	code   chan int

	mu   sync.Mutex
	errs bytes.Buffer
}

func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs.Write(p)
}

func (l *live) stderr() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs.String()
}

// start runs the program and waits until it listens on n addresses.
func start(t *testing.T, n int, args ...string) *live {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{t: t, cancel: cancel, code: make(chan int, 1)}
	pr, pw := io.Pipe()
	go func() {
		code := Main(ctx, args, strings.NewReader(""), pw, l)
		pw.Close()
		l.code <- code
	}()
	t.Cleanup(func() { l.stop() })
	sc := bufio.NewScanner(pr)
	for len(l.addrs) < n && sc.Scan() {
		addr, ok := strings.CutPrefix(sc.Text(), "listening ")
		if !ok {
			t.Fatalf("gefs9p %s says %q", strings.Join(args, " "), sc.Text())
		}
		l.addrs = append(l.addrs, addr)
	}
	go io.Copy(io.Discard, pr)
	if len(l.addrs) < n {
		t.Fatalf("gefs9p %s does not listen:\n%s", strings.Join(args, " "), l.stderr())
	}
	return l
}

// stop ends the server as SIGTERM does and returns its exit code.
func (l *live) stop() int {
	l.t.Helper()
	l.cancel()
	select {
	case code := <-l.code:
		l.code <- code // for the next who asks
		return code
	case <-time.After(time.Minute):
		l.t.Fatal("the server does not end")
		return -1
	}
}

// attach connects as glenda.
func (l *live) attach(addr string) *client.Fid {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, addr, 64<<10)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	root, err := c.Attach("glenda", "")
	if err != nil {
		l.t.Fatal(err)
	}
	return root
}

func TestWrongUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct {
		name string
		code int
		args string
		say  string
	}{
		{"command", 2, "frobnicate", "frobnicate"},
		{"flag", 2, "ream --frob disk", "--frob"},
		{"flag of check", 16, "check --frob disk", "--frob"},
		{"flag of root", 2, "--frob", "--frob"},
		{"flag of gefs(4)", 2, "-x -f disk", "'x'"},
		{"no disk", 2, "ream --size 4G", "no disk"},
		{"no disk to serve", 2, "serve", "no disk"},
		{"no disk to check", 16, "check", "no disk"},
		{"no disk for gefs(4)", 2, "-A", "-f"},
		{"empty name", 2, "serve ''", "empty"},
		{"two disks", 2, "serve a b", `"b"`},
		{"two disks to check", 16, "check a b", `"b"`},
		{"argument of gefs(4)", 2, "-f disk other", "other"},
		{"no size", 2, "ream --size= disk", "--size"},
		{"size of letters", 2, "ream --size big disk", `"big"`},
		{"unit", 2, "ream --size 4X disk", `"4X"`},
		{"unit alone", 2, "ream --size G disk", `"G"`},
		{"negative size", 2, "ream --size -4G disk", "-4G"},
		{"fraction", 2, "serve --create 1.5G disk", `"1.5G"`},
		{"size beyond int64", 2, "ream --size 9999999T disk", "too large"},
		{"digits beyond int64", 2, "ream --size 99999999999999999999 disk", "too large"},
		{"zero", 2, "ream --size 0 disk", "no bytes"},
		{"hash", 2, "ream --size 4G --hash md5 disk", "md5"},
		{"key for metro", 2, "ream --size 4G --keyfile k disk", "--hash siphash"},
		{"create and read-only", 2, "serve --create 4G --read-only disk", "--create"},
		{"memory", 2, "serve -m lots disk", `"lots"`},
		{"no memory", 2, "serve -m 0% disk", `"0%"`},
		{"too much memory", 2, "serve -m 101% disk", `"101%"`},
		{"little memory", 2, "serve -m 1M disk", "8M"},
		{"log level", 2, "serve --log loud disk", "loud"},
		{"address", 2, "serve -A -a nowhere disk", "nowhere"},
		{"port", 2, "serve -A -a tcp!*!99999 disk", "99999"},
		{"network", 2, "serve -A -a il!*!564 disk", "il"},
		{"TCP without -A", 2, "serve -a tcp!127.0.0.1!0 disk", "-A"},
		{"host:port without -A", 2, "serve -a 127.0.0.1:0 disk", "-A"},
		{"long name of a socket", 2, "serve " + strings.Repeat("d", 100), "-a"},
		{"ream and check", 2, "-c -r glenda -f disk", "-r"},
		{"grow and check", 2, "-g -c -f disk", "-g"},
		{"service name", 2, "-n a/b -f disk", "a/b"},
		{"no address", 2, "bench", "no address"},
		{"two addresses", 2, "bench a b", "2"},
		{"workload", 2, "bench -w W99 ./sock", "W99"},
		{"scale", 2, "bench --scale -1 ./sock", "-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			for i := range args {
				args[i] = strings.Trim(args[i], "'")
			}
			refused(t, dir, tt.code, []string{tt.say, "--help"}, args...)
		})
	}
}

func TestEveryCommandHasHelpAndExamples(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		if cmd.Hidden { // there only to be refused
			continue
		}
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: no help or no example", cmd.Name())
		}
		out := must(t, cmd.Name(), "--help")
		if !strings.Contains(out, cmd.Example) {
			t.Errorf("%s --help shows no example:\n%s", cmd.Name(), out)
		}
	}
	if out := must(t, "--version"); !strings.HasPrefix(out, "gefs9p ") {
		t.Errorf("--version prints %q", out)
	}
}

func TestSizesArePowersOf1024(t *testing.T) {
	for s, want := range map[string]int64{
		"7": 7, "1K": 1 << 10, "3M": 3 << 20, "4G": 4 << 30, "2T": 2 << 40, "1k": 1 << 10, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := parseSize(s, 1); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	if got, err := parseSize("16", 1<<20); err != nil || got != 16<<20 {
		t.Errorf("a bare 16 in MiB is %d, %v", got, err)
	}
}

func TestCacheIsAPartOfMemory(t *testing.T) {
	var m memFlag
	for s, want := range map[string]int{"16M": 1024, "16": 1024, "1G": 65536} {
		if err := m.Set(s); err != nil || m.blocks() != want {
			t.Errorf("-m %s gives %d blocks, %v; want %d", s, m.blocks(), err, want)
		}
	}
	total := memory()
	if total <= 0 {
		t.Skip("this system does not say how much memory it has")
	}
	if err := m.Set("50%"); err != nil {
		t.Fatal(err)
	}
	if got, want := m.blocks(), int(total/2/16384); got < want-100 || got > want+100 {
		t.Errorf("-m 50%% gives %d blocks of %d MiB", got, total>>20)
	}
	if err := m.Set(fmt.Sprint(total>>20 + 1)); err == nil {
		t.Error("-m takes more memory than there is")
	}
}
