package gefstest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"gefs9p/client"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
)

// Denied stands for the hash of a file that may not be read, Skipped for that of one that was not.
const (
	Denied  = "permission denied"
	Skipped = "skipped"
)

// Tree returns what a client sees below root: every file by its path, with the hash of what it
// contains. It is what a golden disk's manifest says of a snapshot. What the directory says of a
// file and what the file says of itself must be the same. Of the files in skip the hash is Skipped.
func Tree(t testing.TB, root *client.Fid, skip ...string) map[string]golden.File {
	t.Helper()
	files := make(map[string]golden.File)
	for _, path := range skip {
		files[path] = golden.File{SHA256: Skipped}
	}
	d, err := root.Stat()
	if err != nil {
		t.Fatalf("stat /: %v", err)
	}
	if err := addTree(files, root, "/", &d); err != nil {
		t.Fatal(err)
	}
	for _, path := range skip {
		if files[path].QidPath == 0 {
			delete(files, path) // it is not there
		}
	}
	return files
}

// addTree enters the file, whose entry is d, and all below it.
func addTree(files map[string]golden.File, f *client.Fid, path string, d *ninep.Dir) error {
	e := golden.File{
		Dir:     d.Mode&ninep.DMDIR != 0,
		Mode:    d.Mode,
		Uid:     d.Uid,
		Gid:     d.Gid,
		Muid:    d.Muid,
		Atime:   int64(d.Atime),
		Mtime:   int64(d.Mtime),
		Length:  d.Length,
		QidType: d.Qid.Qtype,
		QidPath: d.Qid.Uid,
		QidVers: d.Qid.Vers,
	}
	if files[path].SHA256 == Skipped {
		e.SHA256 = Skipped
		files[path] = e
		return nil
	}
	g, err := f.Walk()
	if err != nil {
		return fmt.Errorf("clone %s: %w", path, err)
	}
	defer g.Clunk()
	switch err := g.Open(ninep.OREAD); {
	case err == nil:
	case err.Error() == Denied && !e.Dir:
		e.SHA256 = Denied
		files[path] = e
		return nil
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
	if !e.Dir {
		if e.SHA256, err = contents(g, d.Length); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		files[path] = e
		return nil
	}
	files[path] = e
	entries, err := g.ReadDir()
	if err != nil {
		return fmt.Errorf("list %s: %w", path, err)
	}
	for i := range entries {
		sub := path + "/" + entries[i].Name
		if path == "/" {
			sub = "/" + entries[i].Name
		}
		if f, ok := files[sub]; ok && f.SHA256 != Skipped {
			return fmt.Errorf("%s is listed twice", sub)
		}
		if err := addEntry(files, f, sub, &entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func addEntry(files map[string]golden.File, dir *client.Fid, path string, d *ninep.Dir) error {
	f, err := dir.Walk(d.Name)
	if err != nil {
		return fmt.Errorf("walk to %s: %w", path, err)
	}
	defer f.Clunk()
	if f.Qid() != d.Qid {
		return fmt.Errorf("%s: the walk says qid %v, the directory %v", path, f.Qid(), d.Qid)
	}
	own, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if own != *d {
		return fmt.Errorf("%s: its stat is %+v, its directory says %+v", path, own, *d)
	}
	return addTree(files, f, path, d)
}

// contents returns the hash of an open file, which must be length bytes long.
func contents(f *client.Fid, length uint64) (string, error) {
	r, err := f.NewReader(0, 4)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", fmt.Errorf("read at %d: %w", n, err)
	}
	if uint64(n) != length {
		return "", fmt.Errorf("%d bytes could be read of %d", n, length)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// SameTree fails the test, saying where, if the trees are not the same in every field.
func SameTree(t testing.TB, what string, got, want map[string]golden.File) {
	t.Helper()
	differ := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[path]
		switch {
		case !ok:
			t.Errorf("%s: %s is missing", what, path)
		case g != want[path]:
			t.Errorf("%s: %s is\n\t%+v, want\n\t%+v", what, path, g, want[path])
		default:
			continue
		}
		if differ++; differ > 20 {
			t.Fatalf("%s: and so on", what)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %s should not be there", what, path)
		}
	}
}
