package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A node is one file or folder of a local tree.
type node struct {
	path string // below the tree's root, with slashes; "" for the root
	info fs.FileInfo
}

// A tree is a local tree: folders before what is in them.
type tree struct {
	root  string
	dirs  []node
	files []node
	names map[string][]string // of each folder, sorted
	bytes int64
}

// scan reads a local tree. Only files and folders count.
func scan(t testing.TB, root string) *tree {
	t.Helper()
	tr := &tree{root: root, names: make(map[string][]string)}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		n := node{filepath.ToSlash(rel), info}
		if n.path == "." {
			n.path = ""
		}
		switch {
		case d.IsDir():
			tr.dirs = append(tr.dirs, n)
			tr.names[n.path] = nil
		case info.Mode().IsRegular():
			tr.files = append(tr.files, n)
			tr.bytes += info.Size()
		default:
			return nil
		}
		if n.path != "" {
			dir := parent(n.path)
			tr.names[dir] = append(tr.names[dir], path.Base(n.path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range tr.names {
		slices.Sort(names)
	}
	return tr
}

// parent is the folder of a path in a tree.
func parent(p string) string {
	if d := path.Dir(p); d != "." {
		return d
	}
	return ""
}

// inParallel calls fn for all nodes, on several connections to the server at once, and returns the
// first error after all have ended.
func (p *process) inParallel(conns int, nodes []node, fn func(root *client.Fid, n node) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	work := make(chan node)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			if err := p.work(ctx, work, fn); err != nil {
				cancel(err)
			}
		})
	}
	for _, n := range nodes {
		select {
		case work <- n:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// work is one connection of inParallel.
func (p *process) work(ctx context.Context, work <-chan node, fn func(root *client.Fid, n node) error) error {
	c, err := client.Dial(ctx, p.addr, 1<<20)
	if err != nil {
		return err
	}
	defer c.Close()
	root, err := c.Attach("glenda", "")
	if err != nil {
		return err
	}
	for n := range work {
		if err := fn(root, n); err != nil {
			return fmt.Errorf("%s: %w", n.path, err)
		}
	}
	return nil
}

const conns = 4 // of a copy or comparison

// copyIn copies the tree to the folder dest of the server, which is made, modes and times as well, and
// has it all written to the disk.
func (p *process) copyIn(tr *tree, dest string) error {
	err := p.inParallel(1, tr.dirs, func(root *client.Fid, n node) error {
		f, err := create(root, path.Join(dest, n.path), ninep.DMDIR|0o700, ninep.OREAD)
		if err != nil {
			return err
		}
		return f.Clunk()
	})
	if err != nil {
		return err
	}
	err = p.inParallel(conns, tr.files, func(root *client.Fid, n node) error {
		return copyFile(root, tr, n, dest)
	})
	if err != nil {
		return err
	}
	// Last, because making a file changes its folder's time, and some folders may be read-only.
	err = p.inParallel(conns, tr.dirs, func(root *client.Fid, n node) error {
		f, err := root.WalkPath(path.Join(dest, n.path))
		if err != nil {
			return err
		}
		return errors.Join(setStat(f, n), f.Clunk())
	})
	if err != nil {
		return err
	}
	return p.inParallel(1, tr.dirs[:1], func(root *client.Fid, _ node) error { return root.Fsync() })
}

// create makes a file or folder and returns its fid.
func create(root *client.Fid, name string, perm uint32, mode uint8) (*client.Fid, error) {
	f, err := root.WalkPath(parent(name))
	if err != nil {
		return nil, err
	}
	if err := f.Create(path.Base(name), perm, mode); err != nil {
		return nil, errors.Join(err, f.Clunk())
	}
	return f, nil
}

// copyFile copies one file of the tree.
func copyFile(root *client.Fid, tr *tree, n node, dest string) error {
	data, err := os.ReadFile(filepath.Join(tr.root, n.path))
	if err != nil {
		return err
	}
	f, err := create(root, path.Join(dest, n.path), 0o600, ninep.OWRITE)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Clunk())
	}
	return errors.Join(setStat(f, n), f.Clunk())
}

// setStat gives f the mode and time of the local file.
func setStat(f *client.Fid, n node) error {
	d := ninep.NullDir()
	d.Mode = wantMode(n)
	d.Mtime = uint32(n.info.ModTime().Unix())
	return f.Wstat(d)
}

func wantMode(n node) uint32 {
	m := uint32(n.info.Mode().Perm())
	if n.info.IsDir() {
		m |= ninep.DMDIR
	}
	return m
}

// compare reads dest of the server and returns how it differs from the tree, in any byte, name,
// mode or time.
func (p *process) compare(tr *tree, dest string) error {
	err := p.inParallel(conns, tr.dirs, func(root *client.Fid, n node) error {
		f, err := root.WalkPath(path.Join(dest, n.path))
		if err != nil {
			return err
		}
		if err := compareStat(f, n); err != nil {
			return err
		}
		if err := f.Open(ninep.OREAD); err != nil {
			return err
		}
		entries, err := f.ReadDir()
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, tr.names[n.path]) {
			return fmt.Errorf("holds %q, want %q", names, tr.names[n.path])
		}
		return f.Clunk()
	})
	if err != nil {
		return err
	}
	return p.inParallel(conns, tr.files, func(root *client.Fid, n node) error {
		return compareFile(root, tr, n, dest)
	})
}

// compareFile compares one file of the tree.
func compareFile(root *client.Fid, tr *tree, n node, dest string) error {
	want, err := os.ReadFile(filepath.Join(tr.root, n.path))
	if err != nil {
		return err
	}
	f, err := root.WalkPath(path.Join(dest, n.path))
	if err != nil {
		return err
	}
	if err := compareStat(f, n); err != nil {
		return err
	}
	if err := f.Open(ninep.OREAD); err != nil {
		return err
	}
	got := make([]byte, len(want)+1)
	k, err := f.ReadFull(got, 0)
	if err != io.EOF {
		return fmt.Errorf("read %d of %d bytes: %w", k, len(want), err)
	}
	if !bytes.Equal(got[:k], want) {
		return fmt.Errorf("content differs at byte %d", difference(got[:k], want))
	}
	return f.Clunk()
}

// difference is where a and b, which are not equal, begin to differ.
func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// compareStat compares what the server says of a file. Its group is that of the root of a new disk.
func compareStat(f *client.Fid, n node) error {
	d, err := f.Stat()
	if err != nil {
		return err
	}
	length := uint64(n.info.Size())
	if n.info.IsDir() {
		length = 0
	}
	name := path.Base(n.path)
	if n.path == "" {
		name = d.Name
	}
	switch {
	case d.Name != name:
		return fmt.Errorf("is called %q", d.Name)
	case d.Mode != wantMode(n):
		return fmt.Errorf("has mode %o, want %o", d.Mode, wantMode(n))
	case d.Mtime != uint32(n.info.ModTime().Unix()):
		return fmt.Errorf("has time %d, want %d", d.Mtime, n.info.ModTime().Unix())
	case d.Length != length:
		return fmt.Errorf("has %d bytes, want %d", d.Length, length)
	case d.Uid != "glenda" || d.Gid != "adm" || d.Muid != "glenda":
		return fmt.Errorf("belongs to %s, group %s, changed by %s", d.Uid, d.Gid, d.Muid)
	}
	return nil
}
