package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gefs9p/client"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// A rig is a server with a file system in memory and its tree mounted.
type rig struct {
	fs   *ninetest.FS
	conn *client.Conn
	root *client.Fid // of the connection that is mounted
	dir  string

	stop func() error // ends the mount
	log  *lines
}

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// connect serves mem and attaches to it.
func connect(t *testing.T, mem *ninetest.FS) (*client.Conn, *client.Fid) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	srv := &ninep.Server{FS: mem}
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		if n := mem.Live(); n != 0 {
			t.Errorf("%d files were not clunked", n)
		}
	})
	conn, err := client.Dial(t.Context(), "unix!"+l.Addr().String(), 1<<17)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	root, err := conn.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	return conn, root
}

// newRig mounts mem, or skips where that is not possible.
func newRig(t *testing.T, mem *ninetest.FS, options ...func(*Options)) *rig {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	r := &rig{fs: mem, dir: t.TempDir(), log: new(lines)}
	r.conn, r.root = connect(t, mem)
	o := Options{Dir: r.dir, Source: "test", User: "glenda", Log: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, f := range options {
		f(&o)
	}
	s, err := New(r.conn, r.root, o)
	if errors.Is(err, syscall.EPERM) || err != nil && strings.Contains(err.Error(), "fusermount") {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the mount does not end")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("%v\n%s", err, r.log)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfAFile(t *testing.T) {
	r := newRig(t, ninetest.New())
	must(t, os.Mkdir(r.path("d"), 0o755))
	want := bytes.Repeat([]byte("0123456789"), 50_000)
	must(t, os.WriteFile(r.path("d/f"), want, 0o644))
	got, err := os.ReadFile(r.path("d/f"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if at, ok := r.fs.Get("d/f"); !ok || !bytes.Equal(at, want) {
		t.Errorf("the server has %d bytes, %v", len(at), ok)
	}
	must(t, os.Chmod(r.path("d/f"), 0o600))
	when := time.Unix(981173106, 0)
	must(t, os.Chtimes(r.path("d/f"), when, when))
	must(t, os.Truncate(r.path("d/f"), 7))
	must(t, os.Chtimes(r.path("d/f"), when, when)) // the truncation changed it
	st, err := os.Stat(r.path("d/f"))
	must(t, err)
	if st.Mode() != 0o600 || st.Size() != 7 || !st.ModTime().Equal(when) {
		t.Errorf("mode %v, %d bytes, time %v", st.Mode(), st.Size(), st.ModTime())
	}
	must(t, os.Rename(r.path("d/f"), r.path("d/g")))
	if _, err := os.Stat(r.path("d/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	must(t, os.Remove(r.path("d/g")))
	must(t, os.Remove(r.path("d")))
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestWhatIsRefusedHasTheNumberOfPOSIX(t *testing.T) {
	mem := ninetest.New()
	mem.Put("full/file", []byte("x"))
	mem.Put("dir2/file", nil)
	r := newRig(t, mem)
	for _, c := range []struct {
		what string
		err  error
		want syscall.Errno
	}{
		{"stat of what is not there", syscall.Access(r.path("none"), 0), syscall.ENOENT},
		{"a full directory", syscall.Rmdir(r.path("full")), syscall.ENOTEMPTY},
		{"mkdir of what is there", syscall.Mkdir(r.path("full"), 0o755), syscall.EEXIST},
		{"into another directory", syscall.Rename(r.path("full/file"), r.path("dir2/new")), syscall.EXDEV},
		{"symbolic link", os.Symlink("a", r.path("b")), syscall.EPERM},
		{"hard link", os.Link(r.path("full/file"), r.path("full/link")), syscall.EPERM},
		{"named pipe", syscall.Mkfifo(r.path("pipe"), 0o600), syscall.EPERM},
		{"unlink of a directory", syscall.Unlink(r.path("full")), syscall.EISDIR},
		{"rmdir of a file", syscall.Rmdir(r.path("full/file")), syscall.ENOTDIR},
		{"set-user-id", syscall.Chmod(r.path("full/file"), 0o4755), syscall.EOPNOTSUPP},
		{"somebody else's", syscall.Chown(r.path("full/file"), 12345, -1), syscall.EPERM},
		{"a group nobody knows", syscall.Chown(r.path("full/file"), -1, 1234567), syscall.EPERM},
		{"exchange", unix.Renameat2(unix.AT_FDCWD, r.path("full"), unix.AT_FDCWD, r.path("dir2"), unix.RENAME_EXCHANGE), syscall.EINVAL},
		{"a directory onto a full one", syscall.Rename(r.path("full"), r.path("dir2")), syscall.ENOTEMPTY},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
	if err := syscall.Chown(r.path("full/file"), os.Getuid(), os.Getgid()); err != nil {
		t.Errorf("chown to what is shown: %v", err)
	}
}

func TestRenameOntoAFileReplacesItAndLeavesNothing(t *testing.T) {
	mem := ninetest.New()
	mem.Put("a", []byte("new"))
	mem.Put("b", []byte("old"))
	r := newRig(t, mem)
	must(t, os.Rename(r.path("a"), r.path("b")))
	got, err := os.ReadFile(r.path("b"))
	if err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("entries %v, %v", entries, err)
	}
	must(t, os.WriteFile(r.path("c"), nil, 0o644))
	if err := unix.Renameat2(unix.AT_FDCWD, r.path("c"), unix.AT_FDCWD, r.path("b"), unix.RENAME_NOREPLACE); err != syscall.EEXIST {
		t.Errorf("RENAME_NOREPLACE: %v", err)
	}
}

// TestFailedReplacementPutsTheOldFileBack has the server refuse the second of the three requests.
func TestFailedReplacementPutsTheOldFileBack(t *testing.T) {
	mem := ninetest.New()
	mem.Put("a", []byte("new"))
	mem.Put("b", []byte("old"))
	var mu sync.Mutex
	var names []string
	mem.Hook = func(_ *ninep.Ctx, op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op != "wstat" {
			return nil
		}
		names = append(names, name)
		if len(names) == 3 { // a to b; b aside; a to b again
			return ninep.Error("file system full")
		}
		return nil
	}
	r := newRig(t, mem)
	if err := os.Rename(r.path("a"), r.path("b")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("rename: %v", err)
	}
	for name, want := range map[string]string{"a": "new", "b": "old"} {
		if got, _ := mem.Get(name); string(got) != want {
			t.Errorf("%s is %q after %q", name, got, names)
		}
	}
}

func TestRequestsAreUnderWayTogether(t *testing.T) {
	mem := ninetest.New()
	const n = 8
	for i := range n {
		mem.Put(fmt.Sprintf("f%d", i), []byte("x"))
	}
	var all sync.WaitGroup
	all.Add(n)
	met := make(chan struct{})
	go func() { all.Wait(); close(met) }()
	var reads atomic.Int64
	mem.Hook = func(c *ninep.Ctx, op, name string) error {
		if op != "read" || reads.Add(1) > n {
			return nil
		}
		all.Done()
		var err error
		c.Sleep(func() {
			select {
			case <-met:
			case <-time.After(10 * time.Second):
				err = ninep.Error("alone")
			}
		})
		return err
	}
	r := newRig(t, mem)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := os.ReadFile(r.path(fmt.Sprintf("f%d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestRenamedByOthersIsStillTheSame: who holds a directory or a file keeps it when another client renames
// it, and another one that takes its name is another.
func TestRenamedByOthersIsStillTheSame(t *testing.T) {
	mem := ninetest.New()
	mem.Put("dir/file", []byte("first"))
	r := newRig(t, mem)
	f, err := os.OpenFile(r.path("dir/file"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	d, err := os.OpenRoot(r.path("dir"))
	must(t, err)
	defer d.Close()

	other, err := r.conn.Attach("glenda", "")
	must(t, err)
	defer other.Clunk()
	rename := func(from, to string) {
		t.Helper()
		fid, err := other.WalkPath(from)
		must(t, err)
		must(t, setName(fid, to))
		fid.Clunk()
	}
	rename("dir/file", "was")
	mem.Put("dir/file", []byte("second"))
	rename("dir", "moved")
	mem.Put("dir/file", []byte("third"))

	if _, err := f.WriteAt([]byte("F"), 0); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"moved/was": "First", "moved/file": "second", "dir/file": "third"} {
		if got, err := os.ReadFile(r.path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	g, err := d.Open("file")
	must(t, err)
	defer g.Close()
	if got, err := io.ReadAll(g); err != nil || string(got) != "second" {
		t.Errorf("in the directory that was moved: %q, %v", got, err)
	}
}

func TestDirectoriesOfThousandsAreReadWholeAndAgain(t *testing.T) {
	mem := ninetest.New()
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("a-name-that-takes-some-room-%04d", i)
		mem.Put("d/"+name, nil)
		want = append(want, name)
	}
	r := newRig(t, mem)
	d, err := os.Open(r.path("d"))
	must(t, err)
	defer d.Close()
	for round := range 2 {
		got, err := d.Readdirnames(-1)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d names, %v; want %d", len(got), err, len(want))
		}
		if round == 0 {
			if _, err := d.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			mem.Put("d/z", nil)
			want = append(want, "z")
		}
	}
	infos, err := os.ReadDir(r.path("d"))
	must(t, err)
	for _, e := range infos {
		st, err := e.Info()
		if err != nil || st.IsDir() {
			t.Fatalf("%s: %v, %v", e.Name(), st, err)
		}
	}
}

func TestLostConnectionFailsEverythingUntilUnmounted(t *testing.T) {
	mem := ninetest.New()
	mem.Put("f", []byte("x"))
	r := newRig(t, mem)
	f, err := os.Open(r.path("f"))
	must(t, err)
	defer f.Close()
	r.conn.Close()
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	if err := os.WriteFile(r.path("g"), nil, 0o644); !errors.Is(err, syscall.EIO) {
		t.Errorf("create: %v", err)
	}
	for end := time.Now().Add(5 * time.Second); !strings.Contains(r.log.String(), "connection is at its end"); {
		if time.Now().After(end) {
			t.Fatal("nothing is logged")
		}
		time.Sleep(time.Millisecond)
	}
	f.Close()
	must(t, r.stop())
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) != 0 {
		t.Errorf("after unmounting: %v, %v", entries, err)
	}
}

func TestEndWhileInUseTakesTheNameAwayAndWaits(t *testing.T) {
	mem := ninetest.New()
	mem.Put("f", []byte("content"))
	r := newRig(t, mem)
	f, err := os.Open(r.path("f"))
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(r.path("f")); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("still mounted")
		}
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "content" {
		t.Errorf("who had it open reads %q, %v", got, err)
	}
	select {
	case err := <-ended:
		t.Errorf("it ended while a file was open: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	f.Close()
	must(t, <-ended)
}

func TestReadOnlyMountRefusesChanges(t *testing.T) {
	mem := ninetest.New()
	mem.Put("f", []byte("x"))
	r := newRig(t, mem, func(o *Options) { o.ReadOnly = true })
	if err := os.WriteFile(r.path("f"), []byte("y"), 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v", err)
	}
	if got, err := os.ReadFile(r.path("f")); err != nil || string(got) != "x" {
		t.Errorf("read: %q, %v", got, err)
	}
}
