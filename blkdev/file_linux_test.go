package blkdev

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A stutter is a file that does at most max bytes a call, interrupts every third call before it did
// anything, and fails with err once it has done limit bytes.
type stutter struct {
	data  []byte
	max   int
	limit int
	err   error
	calls int
	done  int
}

func (s *stutter) step(n int) (int, error) {
	s.calls++
	if s.calls%3 == 0 {
		return -1, syscall.EINTR
	}
	if s.err != nil && s.done >= s.limit {
		return 0, s.err
	}
	n = min(n, s.max)
	if s.err != nil {
		n = min(n, s.limit-s.done)
	}
	s.done += n
	return n, nil
}

func (s *stutter) readAt(p []byte, off int64) (int, error) {
	if off >= int64(len(s.data)) {
		return 0, io.EOF
	}
	n, err := s.step(min(len(p), len(s.data)-int(off)))
	if n > 0 {
		copy(p[:n], s.data[off:])
	}
	return n, err
}

func (s *stutter) writeAt(p []byte, off int64) (int, error) {
	n, err := s.step(len(p))
	if n > 0 {
		copy(s.data[off:], p[:n])
	}
	return n, err
}

func (s *stutter) writev(bufs [][]byte, off int64) (int, error) {
	return s.writeAt(bytes.Join(bufs, nil), off)
}

func counted(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

func TestShortAndInterruptedReadsAreContinued(t *testing.T) {
	for _, m := range []int{1, 2, 100, 4096} {
		s := &stutter{data: counted(5000), max: m}
		p := make([]byte, 3000)
		if n, err := readFull(s.readAt, p, 1000); n != 3000 || err != nil {
			t.Fatalf("max %d: %d, %v", m, n, err)
		}
		if !bytes.Equal(p, s.data[1000:4000]) {
			t.Errorf("max %d: bytes are not where they belong", m)
		}
		if n, err := readFull(s.readAt, p, 4000); n != 1000 || err != io.EOF {
			t.Errorf("max %d, at the end: %d, %v; want 1000, EOF", m, n, err)
		}
	}
	never := func([]byte, int64) (int, error) { return 0, nil }
	if _, err := readFull(never, make([]byte, 1), 0); err != io.ErrNoProgress {
		t.Errorf("a file that reads nothing: %v", err)
	}
}

func TestShortAndInterruptedWritesAreContinued(t *testing.T) {
	want := counted(3000)
	for _, m := range []int{1, 2, 100, 4096} {
		s := &stutter{data: make([]byte, 5000), max: m}
		if n, err := writeFull(s.writeAt, want, 1000); n != 3000 || err != nil {
			t.Fatalf("max %d: %d, %v", m, n, err)
		}
		if !bytes.Equal(s.data[1000:4000], want) || bytes.Count(s.data[4000:], []byte{0}) != 1000 {
			t.Errorf("max %d: bytes are not where they belong", m)
		}
	}
	s := &stutter{data: make([]byte, 5000), max: 100, limit: 250, err: syscall.EIO}
	if n, err := writeFull(s.writeAt, want, 0); n != 250 || err != syscall.EIO {
		t.Errorf("EIO after 250 bytes: %d, %v", n, err)
	}
	never := func([]byte, int64) (int, error) { return 0, nil }
	if _, err := writeFull(never, make([]byte, 1), 0); err != io.ErrShortWrite {
		t.Errorf("a file that writes nothing: %v", err)
	}
}

func TestShortVectorWritesAreContinued(t *testing.T) {
	want := counted(3000)
	for _, cuts := range [][]int{{}, {0}, {1}, {0, 0, 500, 500, 2999, 3000}, {100, 200, 300, 1700}} {
		var bufs [][]byte
		at := 0
		for _, c := range append(cuts, 3000) {
			bufs = append(bufs, want[at:c])
			at = c
		}
		for _, m := range []int{1, 99, 100, 101, 4096} {
			for _, limit := range []int{1, 2, 1024} {
				s := &stutter{data: make([]byte, 5000), max: m}
				n, err := writeVecFull(s.writev, bufs, 1000, limit)
				if n != 3000 || err != nil || !bytes.Equal(s.data[1000:4000], want) {
					t.Fatalf("cuts %v, max %d, %d buffers a call: %d, %v, or bytes at the wrong place", cuts, m, limit, n, err)
				}
			}
		}
	}
	s := &stutter{data: make([]byte, 5000), max: 70, limit: 1234, err: syscall.EIO}
	if n, err := writeVecFull(s.writev, [][]byte{want[:1000], want[1000:]}, 0, 1024); n != 1234 || err != syscall.EIO {
		t.Errorf("EIO after 1234 bytes: %d, %v", n, err)
	}
	never := func([][]byte, int64) (int, error) { return 0, nil }
	if _, err := writeVecFull(never, [][]byte{want}, 0, 8); err != io.ErrShortWrite {
		t.Errorf("a file that writes nothing: %v", err)
	}
}

// fileOf returns a File around something of which the kernel makes the operations fail.
func fileOf(t *testing.T, f *os.File) *File {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	d := &File{f: f, path: "bad.img"}
	d.size.Store(1 << 40)
	return d
}

func TestFailedWriteMakesEverySyncFail(t *testing.T) {
	for _, vec := range []bool{false, true} {
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Skipf("needs /dev/full: %v", err)
		}
		d := fileOf(t, full)
		p := make([]byte, 512)
		if vec {
			err = d.WriteVec([][]byte{p, p}, 4096)
		} else {
			_, err = d.WriteAt(p, 4096)
		}
		var oe *OpError
		if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &oe) || oe.Op != "write" || oe.Off != 4096 || oe.Path != "bad.img" {
			t.Fatalf("write: %v; want ENOSPC with operation, path and offset", err)
		}
		if !strings.Contains(err.Error(), "bad.img") || !strings.Contains(err.Error(), "4096") {
			t.Errorf("error text %q lacks the place", err)
		}
		good(t, d)
		for range 2 {
			if serr := d.Sync(); !errors.Is(serr, syscall.ENOSPC) {
				t.Errorf("Sync after a failed write: %v", serr)
			}
		}
	}
}

func TestFailedSyncIsNeverTakenBack(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d := fileOf(t, w)
	first := d.Sync()
	if !errors.Is(first, syscall.EINVAL) {
		t.Fatalf("Sync of a pipe: %v", first)
	}
	good(t, d)
	for range 2 {
		if err := d.Sync(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Sync after a failed Sync: %v", err)
		}
	}
}

// good puts a file that works under d, as a disk that is well again.
func good(t *testing.T, d *File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "good"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	d.f = f
	if err := d.datasync(); err != nil {
		t.Fatalf("the good file is not: %v", err)
	}
}

func TestRefusedWriteLosesNothing(t *testing.T) {
	f, err := CreateFile(filepath.Join(t.TempDir(), "disk"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 512), 4096); err == nil {
		t.Fatal("a write past the end was accepted")
	}
	if err := f.Sync(); err != nil {
		t.Errorf("Sync after a refused write: %v", err)
	}
}

func TestDiscardGivesSpaceBack(t *testing.T) {
	f, err := CreateFile(filepath.Join(t.TempDir(), "disk"), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	used := func() int64 {
		st, err := f.f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if _, err := f.WriteAt(counted(4<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	before := used()
	if err := f.Discard(1<<20, 2<<20); err != nil {
		t.Fatal(err)
	}
	if f.noDiscard.Load() {
		t.Skip("this file system cannot punch holes")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if after := used(); after > before-1<<20 {
		t.Errorf("a discard of 2 MiB took the file from %d to %d bytes", before, after)
	}
	p := make([]byte, 2<<20)
	if _, err := f.ReadAt(p, 1<<20); err != nil || bytes.Count(p, []byte{0}) != len(p) {
		t.Errorf("the hole does not read as zeros, or %v", err)
	}
}
