package gefs_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// allocated returns the bytes that the file really takes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestSparseFileShrinks: what is removed gives its room back to the host, at once with Discard and otherwise when
// Trim is called; what a snapshot holds stays, and can be read.
func TestSparseFileShrinks(t *testing.T) {
	quick(t)
	for _, always := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "disk")
		dev, err := blkdev.CreateFile(path, gefstest.SmallDisk)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
			t.Fatal(err)
		}
		w := newWorldOn(t, dev, gefs.Options{Discard: always})
		s := w.as("glenda", "")
		text := func(n uint64) string {
			p := make([]byte, 1<<20)
			rand.NewChaCha8([32]byte{byte(n)}).Read(p)
			return string(p)
		}
		put := func(name string, mib int) {
			f, err := s.createErr(name, 0644, ninep.OWRITE)
			if err != nil {
				t.Fatal(err)
			}
			for i := range mib {
				f.write(text(uint64(i)), int64(i)<<20)
			}
			f.clunk()
		}
		put("held", 4)
		w.snapshot("main", "before", false)
		put("large", 32)
		w.sync()
		full := allocated(t, path)
		if full < 36<<20 {
			t.Fatalf("the file takes only %d bytes: the test sees nothing", full)
		}
		began := time.Now()
		s.remove("large")
		s.remove("held")
		w.sync()
		if !always {
			time.Sleep(100 * time.Millisecond)
			if n := allocated(t, path); n < full {
				t.Errorf("without Discard %d bytes have become %d", full, n)
			}
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			if !always {
				if _, err := w.fs.Trim(t.Context()); errors.Is(err, blkstore.ErrNoDiscard) {
					t.Skip("the file system below cannot")
				} else if err != nil {
					t.Fatal(err)
				}
			}
			n := allocated(t, path)
			if n < full-30<<20 {
				t.Logf("%d bytes have become %d after %v", full, n, time.Since(began))
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes have become %d", full, n)
			}
			time.Sleep(10 * time.Millisecond)
			s.put("x", 0644, "something to commit")
			s.remove("x")
			w.sync()
		}
		before := w.as("glenda", "before")
		f := before.open("held", ninep.OREAD)
		for i := range 4 {
			if f.at(int64(i)<<20, 1<<20) != text(uint64(i)) {
				t.Errorf("MiB %d of what a snapshot holds has other bytes", i)
			}
		}
		f.clunk()
		w.end()
	}
}
