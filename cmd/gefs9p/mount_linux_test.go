package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gefs9p/mount"
	"gefs9p/ninep"
)

// mountArgs has the program mount a server's tree and returns the process and the directory. It skips where
// that is not possible.
func mountArgs(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	if _, err := exec.LookPath("fusermount3"); err != nil && os.Getuid() != 0 {
		t.Skip("mounting without being root needs fusermount3")
	}
	dir := t.TempDir()
	cmd := append([]string{"mount"}, append(args, dir)...)
	p, err := startUntil("mounted ", program, cmd...)
	if err != nil && (strings.Contains(err.Error(), "operation not permitted") || strings.Contains(err.Error(), "fusermount")) {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.wait:
		case <-time.After(20 * time.Second):
			p.cmd.Process.Kill()
			<-p.wait
			syscall.Unmount(dir, syscall.MNT_DETACH)
			t.Error("the mount did not end")
		}
		if t.Failed() {
			t.Logf("the mount said:\n%s", p.stderr())
		}
	})
	return p, dir
}

// sums returns what is in a tree: kind, mode, size, time in seconds and content of each name.
func sums(t *testing.T, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.IsDir() {
			all[rel] = fmt.Sprintf("%v %d", st.Mode(), st.ModTime().Unix())
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all[rel] = fmt.Sprintf("%v %d %d %x", st.Mode(), st.Size(), st.ModTime().Unix(), sha256.Sum256(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameTree(t *testing.T, want, got map[string]string) {
	t.Helper()
	bad := 0
	for name := range want {
		if want[name] != got[name] {
			if bad++; bad < 10 {
				t.Errorf("%s: %q, want %q", name, got[name], want[name])
			}
		}
	}
	if bad > 0 || len(want) != len(got) {
		t.Errorf("%d of %d names differ; there are %d", bad, len(want), len(got))
	}
}

// sh runs a script in the directory.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// TestTreeOnTheMountIsWhatWasCopied copies a part of Go's source in, with four processes at a time, has it
// synced, kills the server and compares what the next one has, in every byte, mode and time; then it changes the
// tree as users do, and compares again.
func TestTreeOnTheMountIsWhatWasCopied(t *testing.T) {
	if testing.Short() {
		t.Skip("with -short TestRandomOperationsOnTheMount stands for it")
	}
	src := filepath.Join(runtime.GOROOT(), "src/net")
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "32M", disk)
	m, dir := mountArgs(t, "-u", "glenda", p.addr)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if out, err := exec.Command("cp", "-r", "--preserve=mode,timestamps", src, filepath.Join(dir, fmt.Sprint("copy", i))).CombinedOutput(); err != nil {
				t.Errorf("cp: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil { // of a directory: of everything
		t.Fatal(err)
	}
	d.Close()
	p.kill()
	if _, err := os.Stat(filepath.Join(dir, "copy0", "none")); !errors.Is(err, syscall.EIO) {
		t.Errorf("without a server: %v", err)
	}
	if code := m.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("mount: exit code %d\n%s", code, m.stderr())
	}
	checkClean(t, disk)

	p = serve(t, "serve", "-m", "32M", disk)
	_, dir = mountArgs(t, "-u", "glenda", "--cache", "0", p.addr)
	want := sums(t, src)
	if len(want) < 300 {
		t.Fatalf("only %d names in %s", len(want), src)
	}
	for i := range 4 {
		sameTree(t, want, sums(t, filepath.Join(dir, fmt.Sprint("copy", i))))
	}

	sh(t, dir, `
		cp -r copy1 new && diff -r copy1 new
		echo more >>new/net.go && ! cmp -s new/net.go copy1/net.go
		sed -i s/package/PACKAGE/ new/dial.go && grep -q PACKAGE new/dial.go
		mv new/http new/renamed && test -e new/renamed/server.go && ! test -e new/http
		mkdir other && mv new/url other && test -e other/url/url.go && ! test -e new/url
		mv -f new/ip.go new/ipsock.go && cmp new/ipsock.go copy1/ip.go
		chmod 600 new/dial.go && test $(stat -c %a new/dial.go) = 600
		touch -d '2001-02-03 04:05:06 UTC' new/dial.go && test $(stat -c %Y new/dial.go) = 981173106
		tar cf t.tar -C copy2 . && mkdir un && tar xf t.tar --no-same-owner -C un && diff -r copy2 un
		rm -r new other un copy1 copy2 t.tar
		test "$(ls)" = "$(printf 'copy0\ncopy3')"
	`)
	sameTree(t, want, sums(t, filepath.Join(dir, "copy3")))
}

func TestGitWorksOnTheMount(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	p := serve(t, "serve", "-m", "32M", newDisk(t))
	_, dir := mountArgs(t, "-u", "glenda", p.addr)
	sh(t, dir, fmt.Sprintf(`
		mkdir one && cd one
		git init -q . && cp -r '%s' tree && git add -A && git commit -qm first
		for i in 1 2 3; do echo $i >>tree/url.go; git commit -qam $i; done
		git repack -adq && git fsck --no-progress --strict
		git checkout -q -b b HEAD~2 && git merge -q master 2>/dev/null || git merge -q main
		cd .. && git clone -q one two && cd two && git fsck --no-progress --strict
		test -z "$(git status --porcelain)" && git diff --quiet
		diff -r ../one/tree tree
	`, filepath.Join(runtime.GOROOT(), "src/net/url")))
	left, err := filepath.Glob(filepath.Join(dir, "*", mount.AsideName+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestUnmountedByOthersEndsWith0: umount(8) is as good as a signal.
func TestUnmountedByOthersEndsWith0(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("unmounts as root")
	}
	p := serve(t, "serve", "-m", "16M", newDisk(t))
	m, dir := mountArgs(t, "-u", "glenda", p.addr)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.wait:
	case <-time.After(20 * time.Second):
		t.Fatal("mount goes on")
	}
	if m.err != nil {
		t.Errorf("%v\n%s", m.err, m.stderr())
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("after unmounting: %v, %v", entries, err)
	}
	_, root := p.attach(t)
	if _, err := root.Walk("f"); err != nil {
		t.Errorf("what was written: %v", err)
	}
}

// TestTwoMountsSeeEachOther: what one writes the other one reads after opening it, and appending to a file that the
// other one knows well goes to its end.
func TestTwoMountsSeeEachOther(t *testing.T) {
	p := serve(t, "serve", "-m", "32M", newDisk(t))
	_, a := mountArgs(t, "-u", "glenda", "--cache", "0", p.addr)
	_, b := mountArgs(t, "-u", "glenda", "--cache", "0", p.addr)
	var want []byte
	for i := range 50 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		f, err := os.OpenFile(filepath.Join(from, "f"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		line := bytes.Repeat([]byte{byte('a' + i%26)}, 1000)
		if _, err := f.Write(line); err != nil {
			t.Fatal(err)
		}
		f.Close()
		want = append(want, line...)
		got, err := os.ReadFile(filepath.Join(to, "f"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("after %d lines the other has %d bytes, %v; want %d", i+1, len(got), err, len(want))
		}
	}
}

// TestSnapshotsOnTheMountAreApart: in all of them a file has the same qid.
func TestSnapshotsOnTheMountAreApart(t *testing.T) {
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "32M", disk)
	_, dir := mountArgs(t, "-u", "glenda", p.addr)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"first", "second"} {
		if err := os.WriteFile(filepath.Join(dir, "d/file"), []byte(label), 0o644); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "ctl", "-s", disk, "snap", "main", label)
	}
	_, dump := mountArgs(t, "-u", "glenda", "--aname", "dump", "--read-only", p.addr)
	for range 2 { // the second time the kernel knows them
		for _, label := range []string{"first", "second"} {
			got, err := os.ReadFile(filepath.Join(dump, label, "d/file"))
			if err != nil || string(got) != label {
				t.Errorf("%s: %q, %v", label, got, err)
			}
		}
		if _, err := os.ReadDir(dump); err != nil {
			t.Error(err)
		}
	}
	one, err1 := os.Stat(filepath.Join(dump, "first/d/file"))
	two, err2 := os.Stat(filepath.Join(dump, "second/d/file"))
	if err := errors.Join(err1, err2); err != nil || os.SameFile(one, two) {
		t.Errorf("the same file in two snapshots is one for the system: %v", err)
	}
}

func TestMountProvesWhoItIs(t *testing.T) {
	dir := t.TempDir()
	serverFile, _ := newKey(t, dir, "bootes")
	userFile, _ := newKey(t, dir, "glenda", "--password")
	var table []byte
	for _, f := range []string{serverFile, userFile} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		table = append(table, b...)
	}
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, table, 0o600); err != nil {
		t.Fatal(err)
	}
	as := serve(t, "auth", "serve", "-a", "tcp!127.0.0.1!0", users)
	fs := serve(t, "serve", "-m", "16M", "--auth", serverFile, "-a", "tcp!127.0.0.1!0", newDisk(t))
	for _, args := range [][]string{
		{"--auth", userFile, "--as", as.addr},
		{"--auth", serverFile, "-u", "glenda"},
	} {
		t.Run(strings.Join(args[2:3], ""), func(t *testing.T) {
			_, at := mountArgs(t, append(args, fs.addr)...)
			if err := os.WriteFile(filepath.Join(at, "mine"), []byte("x"), 0o600); err != nil {
				t.Error(err)
			}
			st, err := os.Stat(filepath.Join(at, "mine"))
			if err != nil || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
				t.Errorf("whose is it? %v, %v", st, err)
			}
		})
	}
	out, errs, code := run(t, "mount", "-u", "glenda", fs.addr, t.TempDir())
	if code == 0 || out != "" || strings.Count(errs, "\n") != 1 {
		t.Errorf("without a proof: exit code %d, %s%s", code, out, errs)
	}
	cmd := exec.Command(program, "mount", "-u", "glenda", "--password", "--authdom", "example.com", "--as", as.addr, fs.addr, t.TempDir())
	cmd.Stdin = strings.NewReader("wrong horse\n")
	if b, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(b), "wrong password") {
		t.Errorf("with the wrong password: %v, %s", err, b)
	}
	at := t.TempDir()
	cmd = exec.Command(program, "mount", "-u", "glenda", "--password", "--authdom", "example.com", "--as", as.addr, fs.addr, at)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out2, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "correct horse battery staple\n")
	line := make([]byte, 8)
	if _, err := io.ReadFull(out2, line); err != nil || string(line) != "mounted " {
		t.Errorf("with the password: %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestRandomOperationsOnTheMount runs the client kit's checker, where it is.
func TestRandomOperationsOnTheMount(t *testing.T) {
	kit, err := filepath.Abs("../../../shared/clients/fsx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kit); err != nil {
		t.Skipf("no client kit: %v", err)
	}
	bin := filepath.Join(t.TempDir(), "fsx")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = kit
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod -buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	disk := newDisk(t)
	p := serve(t, "serve", "-m", "32M", disk)
	m, dir := mountArgs(t, "-u", "glenda", p.addr)
	n := 1500
	if testing.Short() {
		n = 400
	}
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano() % 1e9)
	}
	s &= math.MaxInt64 // which is what the checker takes
	t.Logf("-seed=%d", s)
	out, err := exec.CommandContext(t.Context(), bin, "-seed", fmt.Sprint(s), "-n", fmt.Sprint(n), "-j", "4", "-d", "3m", dir).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	m.signal(syscall.SIGTERM)
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("serve: exit code %d", code)
	}
	checkClean(t, disk)
}

// TestProgramsOnTheMount runs what programs do beyond reading and writing files.
func TestProgramsOnTheMount(t *testing.T) {
	p := serve(t, "serve", "-m", "32M", newDisk(t))
	_, dir := mountArgs(t, "-u", "glenda", p.addr)
	needs := func(t *testing.T, programs ...string) {
		t.Helper()
		for _, name := range programs {
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("no %s here", name)
			}
		}
	}
	t.Run("a program on it is run", func(t *testing.T) {
		needs(t, "env")
		sh(t, dir, `
			cp -L "$(command -v env)" env && chmod 755 env
			test "$(./env echo hello)" = hello
			chmod 555 env && test "$(./env echo hello)" = hello
			chmod 111 env && ! cat env >/dev/null 2>&1 && ! ./env true 2>/dev/null # gefs wants it readable
			chmod 644 env && ! ./env true 2>/dev/null`)
	})
	t.Run("build", func(t *testing.T) {
		needs(t, "make", "cc", "ar")
		sh(t, dir, `
			mkdir b && cd b
			for i in 1 2 3 4 5 6; do echo "int f$i(void) { return $i; }" >f$i.c; done
			echo 'int f1(void), f6(void); int main(void) { return f1() + f6() - 7; }' >m.c
			printf 'm: m.o l.a\n\tcc -o m m.o l.a\nl.a: f1.o f2.o f3.o f4.o f5.o f6.o\n\tar rc l.a f?.o\n' >Makefile
			make -s -j4 && ./m && make -q
			touch -d '2 seconds' f3.c && ! make -q && make -s && ./m`)
	})
	t.Run("sqlite", func(t *testing.T) {
		needs(t, "python3")
		sh(t, dir, `python3 -c '
import sqlite3
for mode in "delete", "truncate":
    c = sqlite3.connect("t.db")
    c.execute("pragma synchronous = full")
    c.execute("pragma journal_mode = " + mode)
    c.execute("create table if not exists t(a, b)")
    for i in range(20):
        c.execute("insert into t values(?, ?)", (i, "x" * 1000))
        c.commit()
    c.close()
c = sqlite3.connect("t.db")
assert c.execute("select count(*), sum(a) from t").fetchone() == (40, 380)
assert c.execute("pragma integrity_check").fetchone() == ("ok",)
'`)
	})
	t.Run("locks", func(t *testing.T) {
		needs(t, "flock")
		sh(t, dir, `flock l sh -c '! flock -n l true' && flock -n l true`)
	})
	t.Run("smoke of the client kit", func(t *testing.T) {
		kit, err := filepath.Abs("../../../shared/clients/v9fs/smoke.sh")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(kit); err != nil {
			t.Skipf("no client kit: %v", err)
		}
		t.Log(sh(t, dir, "MNT='"+dir+"' sh '"+kit+"'"))
	})
}

// TestMappedFilesOnTheMount writes through a mapping and reads the file from the server, and the other way
// round.
func TestMappedFilesOnTheMount(t *testing.T) {
	p := serve(t, "serve", "-m", "32M", newDisk(t))
	_, dir := mountArgs(t, "-u", "glenda", "--cache", "0", p.addr)
	const size = 1 << 20
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	want := make([]byte, size)
	for i := 0; i < size; i += 777 {
		b[i], want[i] = byte(i), byte(i)
	}
	if err := unix.Msync(b, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	_, root := p.attach(t)
	fid, err := root.Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := fid.Open(ninep.ORDWR); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if _, err := fid.ReadFull(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the server has something else: %v", err)
	}
	if _, err := f.WriteAt([]byte("through the file"), 5000); err != nil || string(b[5000:5016]) != "through the file" {
		t.Errorf("the mapping shows %q after a write, %v", b[5000:5016], err)
	}
	got = got[:16]
	if _, err := fid.ReadAt(got, 5000); err != nil || string(got) != "through the file" {
		t.Errorf("the server has %q, %v", got, err)
	}
}
