package blkdev_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gefs9p/blkdev"
)

func tempDisk(t *testing.T, size int64) (*blkdev.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := blkdev.CreateFile(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func TestSecondOpenerIsRefused(t *testing.T) {
	if runtime.GOOS == "plan9" {
		t.Skip("no locks on this system")
	}
	var (
		served  = blkdev.FileOptions{}
		checked = blkdev.FileOptions{ReadOnly: true}
		peek    = blkdev.FileOptions{ReadOnly: true, NoLock: true}
		force   = blkdev.FileOptions{NoLock: true}
	)
	for _, c := range []struct {
		name          string
		first, second blkdev.FileOptions
		refused       bool
	}{
		{"server and server", served, served, true},
		{"server and check", served, checked, true},
		{"check and server", checked, served, true},
		{"check and check", checked, checked, false},
		{"server and unlocked reader", served, peek, false},
		{"server and unlocked writer", served, force, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, path := tempDisk(t, 1<<20)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			a, err := blkdev.OpenFile(path, c.first)
			if err != nil {
				t.Fatal(err)
			}
			b, err := blkdev.OpenFile(path, c.second)
			var le *blkdev.LockedError
			if errors.As(err, &le) != c.refused || (err != nil) != c.refused {
				t.Fatalf("second open: %v; want refused: %v", err, c.refused)
			}
			if err == nil {
				b.Close()
			} else if s := err.Error(); !strings.Contains(s, path) || !strings.Contains(s, "already served") || !strings.Contains(s, "halt") {
				t.Errorf("the error does not say what to do: %q", s)
			}
			a.Close()
			b, err = blkdev.OpenFile(path, c.second)
			if err != nil {
				t.Fatalf("after the first was closed: %v", err)
			}
			b.Close()
		})
	}
}

func TestCreatedFileIsLockedPrivateAndSparse(t *testing.T) {
	const size = 8 << 30
	f, path := tempDisk(t, size)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != size {
		t.Errorf("size %d, want %d", st.Size(), int64(size))
	}
	if runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
	var le *blkdev.LockedError
	if _, err := blkdev.OpenFile(path, blkdev.FileOptions{}); !errors.As(err, &le) {
		t.Errorf("open of a disk just made: %v; want LockedError", err)
	}
	p := []byte("at the very end")
	if _, err := f.WriteAt(p, size-int64(len(p))); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

func TestCreateLeavesExistingFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := blkdev.CreateFile(path, 1<<20); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateFile: %v; want fs.ErrExist", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("file is now %q, %v", b, err)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{-1, 1<<63 - 1} { // the second is more than a file system takes
		path := filepath.Join(dir, "disk")
		f, err := blkdev.CreateFile(path, size)
		if err == nil {
			f.Close()
			os.Remove(path)
			t.Logf("a file of %d bytes can be made here", size)
			continue
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after CreateFile(%d) failed: stat: %v", size, err)
		}
	}
	if _, err := blkdev.CreateFile(filepath.Join(dir, "no", "disk"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

func TestOpenRefusesWhatIsNoDisk(t *testing.T) {
	dir := t.TempDir()
	if _, err := blkdev.OpenFile(filepath.Join(dir, "none"), blkdev.FileOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if f, err := blkdev.OpenFile(dir, blkdev.FileOptions{ReadOnly: true}); err == nil {
		f.Close()
		t.Error("a directory was opened as a disk")
	}
	if _, err := os.Stat(os.DevNull); err == nil {
		if f, err := blkdev.OpenFile(os.DevNull, blkdev.FileOptions{}); err == nil {
			f.Close()
			t.Errorf("%s was opened as a disk", os.DevNull)
		}
	}
}

func TestReadOnlyFileIsNeverWritten(t *testing.T) {
	f, path := tempDisk(t, 1<<20)
	p := bytes.Repeat([]byte{7}, 512)
	if _, err := f.WriteAt(p, 512); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r, err := blkdev.OpenFile(path, blkdev.FileOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, werr := r.WriteAt(p, 0)
	for op, err := range map[string]error{"WriteAt": werr, "WriteVec": r.WriteVec([][]byte{p}, 0), "Discard": r.Discard(512, 512)} {
		if !errors.Is(err, blkdev.ErrReadOnly) {
			t.Errorf("%s: %v; want ErrReadOnly", op, err)
		}
	}
	got := make([]byte, 1024)
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, append(make([]byte, 512), p...)) {
		t.Errorf("contents changed, or %v", err)
	}
	if err := r.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
}

func TestFileKnowsWhetherANameIsItsStill(t *testing.T) {
	f, path := tempDisk(t, 512)
	if !f.Is(path) || f.Is(path+".not") {
		t.Error("a file does not know its name")
	}
	other, theirs := tempDisk(t, 512)
	other.Close()
	if f.Is(theirs) {
		t.Error("a file takes another one for itself")
	}
	if runtime.GOOS == "windows" {
		return // where an open file stays
	}
	if err := os.Rename(theirs, path); err != nil {
		t.Fatal(err)
	}
	if f.Is(path) {
		t.Error("a file that was replaced is not noticed")
	}
}

func TestFileMayGrowWhileOpen(t *testing.T) {
	f, path := tempDisk(t, 1<<16)
	p := make([]byte, 512)
	if _, err := f.WriteAt(p, 1<<16); !errors.Is(err, blkdev.ErrRange) {
		t.Fatalf("write past the end: %v", err)
	}
	if err := os.Truncate(path, 1<<17); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(p, 1<<16); err != nil {
		t.Errorf("write into what was added: %v", err)
	}
	if n, err := f.Size(); n != 1<<17 || err != nil {
		t.Errorf("Size() = %d, %v", n, err)
	}
}
