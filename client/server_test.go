package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// dialServer returns a Conn to a real server with a file system in memory, and its root.
func dialServer(t *testing.T, fs *ninetest.FS) (*Conn, *Fid) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &ninep.Server{FS: fs}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		if n := fs.Live(); n != 0 {
			t.Errorf("%d files were not clunked", n)
		}
	})
	c, err := Dial(t.Context(), "unix!"+l.Addr().String(), 20000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	root, err := c.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

func TestLifeOfAFile(t *testing.T) {
	fs := ninetest.New()
	_, root := dialServer(t, fs)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := root.Walk()
	must(err)
	must(d.Create("dir", ninep.DMDIR|0775, ninep.OREAD))
	if !d.IsDir() {
		t.Error("not a directory")
	}
	must(d.Clunk())
	d, err = root.WalkPath("dir")
	must(err)
	f, err := d.Walk()
	must(err)
	must(f.Create("file", 0664, ninep.ORDWR))
	r := newRand(t)
	want := randomBytes(r, 300_000)
	if n, err := f.WriteAt(want, 0); n != len(want) || err != nil {
		t.Fatalf("WriteAt: %d, %v", n, err)
	}
	must(f.Fsync())
	got := make([]byte, len(want)+1)
	if n, err := f.ReadFull(got, 0); n != len(want) || err != io.EOF || !slices.Equal(got[:n], want) {
		t.Fatalf("ReadFull: %d, %v", n, err)
	}
	change := ninep.NullDir()
	change.Name, change.Length, change.Mode = "new", 5, 0600
	must(f.Wstat(change))
	st, err := f.Stat()
	must(err)
	if st.Name != "new" || st.Length != 5 || st.Mode != 0600 {
		t.Errorf("stat %+v", st)
	}
	must(f.Clunk())
	if _, err := d.Walk("file"); err != ErrNotFound {
		t.Errorf("the old name: %v", err)
	}
	list, err := root.WalkPath("dir")
	must(err)
	must(list.Open(ninep.OREAD))
	entries, err := list.ReadDir()
	if err != nil || len(entries) != 1 || entries[0].Name != "new" {
		t.Errorf("directory %v, %v", entries, err)
	}
	must(list.Clunk())
	f, err = root.WalkPath("dir/new")
	must(err)
	if err := d.Remove(); err != ninetest.ErrEmpty {
		t.Errorf("remove a full directory: %v", err)
	}
	must(f.Remove())
	if _, ok := fs.Get("dir/new"); ok {
		t.Error("still there")
	}
}

func TestManyGoroutinesOnOneServer(t *testing.T) {
	_, root := dialServer(t, ninetest.New())
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 20 {
				if err := oneFile(root, fmt.Sprintf("f%d.%d", g, i), byte(g*20+i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// oneFile writes, reads and removes a file of one byte over and over.
func oneFile(root *Fid, name string, fill byte) error {
	f, err := root.Walk()
	if err != nil {
		return err
	}
	if err := f.Create(name, 0666, ninep.ORDWR); err != nil {
		f.Clunk()
		return fmt.Errorf("create %s: %w", name, err)
	}
	p := slices.Repeat([]byte{fill}, 50_000)
	if _, err := f.WriteAt(p, 0); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	q := make([]byte, len(p))
	if _, err := f.ReadFull(q, 0); err != nil || !slices.Equal(p, q) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return f.Remove()
}

func TestFlushEndsARequestThatSleeps(t *testing.T) {
	fs := ninetest.New()
	asleep := make(chan struct{})
	fs.Hook = func(c *ninep.Ctx, op, name string) error {
		if op != "stat" {
			return nil
		}
		close(asleep)
		c.Sleep(func() { <-c.Cancelled() })
		return ninep.ErrInterrupted
	}
	c, root := dialServer(t, fs)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asleep
		cancel()
	}()
	var r ninep.Fcall
	if err := c.RPC(ctx, &proto.TStat{Fid: root.Num()}, &r); err != context.Canceled {
		t.Errorf("error %v", err)
	}
	checkTagsFree(t, c)
	if _, err := root.Walk(); err != nil {
		t.Error(err)
	}
}
