package gefs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A bare file system is one whose operations are called without a connection, so that a benchmark measures
// nothing else.
type bare struct {
	b  testing.TB
	fs *gefs.FS
	c  *ninep.Ctx
}

func newBare(b testing.TB) *bare {
	dev := blkdev.NewMem(2 << 30)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		b.Fatal(err)
	}
	r, end := bareOn(b, gefstest.Open(b, dev, gefs.Options{}))
	b.Cleanup(end)
	return r
}

// bareOn is bare on a file system that the caller closes, after end.
func bareOn(b testing.TB, fs *gefs.FS) (r *bare, end func()) {
	c, end := fs.Background()
	return &bare{b, fs, c}, end
}

// step leaves the epoch and enters it again, as between two requests.
func (r *bare) step() {
	r.c.Worker.Leave()
	r.c.Worker.Enter()
}

func (r *bare) must(what string, err error) {
	if err != nil {
		r.b.Fatalf("%s: %v", what, err)
	}
}

// walk returns the file, which is to be clunked; the root for no names.
func (r *bare) walk(names ...string) ninep.File {
	root, _, err := r.fs.Attach(r.c, ninep.AttachArgs{Uname: gefstest.User})
	r.must("attach", err)
	defer root.Clunk(r.c)
	qids := make([]ninep.Qid, len(names))
	f, n, err := root.Walk(r.c, names, qids)
	r.must(fmt.Sprint("walk to ", names), err)
	if n < len(names) {
		r.b.Fatalf("walk to %q ended after %d", names, n)
	}
	return f
}

// fill makes a directory with n empty files.
func (r *bare) fill(dir string, n int) {
	d := r.walk()
	_, _, err := d.Create(r.c, dir, ninep.DMDIR|0755, ninep.OREAD)
	r.must("create "+dir, err)
	d.Clunk(r.c)
	for i := range n {
		f := r.walk(dir)
		_, _, err := f.Create(r.c, fmt.Sprintf("f%06d", i), 0644, ninep.OWRITE)
		r.must("create", err)
		f.Clunk(r.c)
		r.step()
	}
}

// file makes a file of size bytes and returns it open for reading and writing.
func (r *bare) file(size int) ninep.File {
	f := r.walk()
	_, _, err := f.Create(r.c, "file", 0644, ninep.ORDWR)
	r.must("create", err)
	p := make([]byte, 128<<10)
	for i := range p {
		p[i] = byte(i)
	}
	for at := 0; at < size; at += len(p) {
		_, err := f.Write(r.c, p[:min(len(p), size-at)], uint64(at))
		r.must("write", err)
		r.step()
	}
	r.must("sync", r.sync())
	return f
}

func (r *bare) sync() error {
	r.c.Worker.Leave()
	defer r.c.Worker.Enter()
	return r.fs.Sync(context.Background())
}

// BenchmarkReadDirectory reads a directory of 10,000 files, 128 KiB at a time.
func BenchmarkReadDirectory(b *testing.B) {
	const files = 10_000
	r := newBare(b)
	r.fill("d", files)
	f := r.walk("d")
	_, _, err := f.Open(r.c, ninep.OREAD)
	r.must("open", err)
	p := make([]byte, 128<<10)
	b.ReportAllocs()
	for b.Loop() {
		off := uint64(0)
		for {
			got, err := f.Read(r.c, p, off)
			r.must("read", err)
			if got == 0 {
				break
			}
			off += uint64(got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/entry")
	f.Clunk(r.c)
}

// BenchmarkWalkStatClunk walks to one of 10,000 files, asks for its entry and gives it back.
func BenchmarkWalkStatClunk(b *testing.B) {
	const files = 10_000
	r := newBare(b)
	r.fill("d", files)
	root := r.walk()
	names, qids := []string{"d", ""}, make([]ninep.Qid, 2)
	list := make([]string, files)
	for i := range list {
		list[i] = fmt.Sprintf("f%06d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		names[1] = list[rng.IntN(files)]
		f, n, err := root.Walk(r.c, names, qids)
		if err != nil || n != 2 {
			b.Fatal(n, err)
		}
		var d ninep.Dir
		r.must("stat", f.Stat(r.c, &d))
		f.Clunk(r.c)
		r.step()
	}
	root.Clunk(r.c)
}

// BenchmarkReadRandom reads 8 KiB somewhere in a file of 64 MiB.
func BenchmarkReadRandom(b *testing.B) {
	const size = 64 << 20
	r := newBare(b)
	f := r.file(size)
	p := make([]byte, 8<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		_, err := f.Read(r.c, p, uint64(rng.IntN(size/len(p))*len(p)))
		r.must("read", err)
		r.step()
	}
	f.Clunk(r.c)
}

// BenchmarkOverwrite writes to a file of 64 MiB: 8 KiB somewhere, or 512 bytes after the other. "written/byte"
// is how many bytes the device is given for each of them.
func BenchmarkOverwrite(b *testing.B) {
	const size = 64 << 20
	for _, how := range []struct {
		name string
		n    int
		next func(i int, rng *rand.Rand) int
	}{
		{"random-8k", 8 << 10, func(_ int, rng *rand.Rand) int { return rng.IntN(size/(8<<10)) * (8 << 10) }},
		{"sequential-512", 512, func(i int, _ *rand.Rand) int { return i * 512 % size }},
	} {
		b.Run(how.name, func(b *testing.B) {
			r := newBare(b)
			f := r.file(size)
			p := make([]byte, how.n)
			rng := rand.New(rand.NewPCG(1, 2))
			before := r.fs.Store().Stats().Written
			b.ReportAllocs()
			b.SetBytes(int64(how.n))
			i := 0
			for b.Loop() {
				_, err := f.Write(r.c, p, uint64(how.next(i, rng)))
				r.must("write", err)
				r.step()
				i++
			}
			r.must("sync", r.sync())
			blocks := r.fs.Store().Stats().Written - before
			b.ReportMetric(float64(blocks)*(16<<10)/float64(i*how.n), "written/byte")
			f.Clunk(r.c)
		})
	}
}

// TestReadingAndWalkingAllocateLittle: a read of one block that is cached allocates nothing, nor does a
// stat; a walk makes the fid and the Dent of what it leads to and no key or value of a lookup.
func TestReadingAndWalkingAllocateLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := newBare(t)
	r.fill("d", 3)
	f := r.file(64 << 10)
	defer f.Clunk(r.c)
	root := r.walk()
	defer root.Clunk(r.c)
	var d ninep.Dir
	p, names, qids := make([]byte, 8<<10), []string{"d", "f000001"}, make([]ninep.Qid, 2)
	for _, tt := range []struct {
		what string
		most float64
		do   func()
	}{
		{"a read", 0, func() {
			_, err := f.Read(r.c, p, 20<<10)
			r.must("read", err)
		}},
		{"a stat", 0, func() {
			r.must("stat", f.Stat(r.c, &d))
		}},
		{"a walk", 4, func() {
			f, _, err := root.Walk(r.c, names, qids)
			r.must("walk", err)
			f.Clunk(r.c)
		}},
	} {
		if n := testing.AllocsPerRun(100, tt.do); n > tt.most {
			t.Errorf("%s allocates %v times, want at most %v", tt.what, n, tt.most)
		}
	}
}
