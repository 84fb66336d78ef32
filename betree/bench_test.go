package betree

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// entry of a directory, and the touch of the directory itself: what creating a file upserts.
func createBatch(msgs []kvfmt.Msg, qid uint64, dir int) []kvfmt.Msg {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: qid}, Mode: 0644, Mtime: int64(qid)}
	parent := kvfmt.AppendEntKey(nil, 0, fmt.Sprintf("dir%d", dir))
	return append(msgs[:0],
		kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendEntKey(nil, uint64(dir)+1, fmt.Sprintf("file%06d", qid)), Val: d.Append(nil)},
		kvfmt.Msg{Op: kvfmt.Wstat, Key: parent, Val: kvfmt.AppendWstat(nil, kvfmt.WMtime|kvfmt.WMuid, &d)})
}

// newDirs returns a tree with n directories.
func newDirs(b testing.TB, s *memStore, n int) *Tree {
	tree := create(b, s)
	for i := range n {
		d := kvfmt.Dir{Mode: 1 << 31}
		m := kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendEntKey(nil, 0, fmt.Sprintf("dir%d", i)), Val: d.Append(nil)}
		if err := tree.Upsert(nil, 1, []kvfmt.Msg{m}); err != nil {
			b.Fatal(err)
		}
	}
	return tree
}

// stats reports blocks per op that cannot be saved: a root that is replaced at once need not be
// written.
func stats(b *testing.B, s *memStore, writes, gets int) {
	b.ReportMetric(float64(s.writes-writes-b.N)/float64(b.N), "nodes/op")
	b.ReportMetric(float64(s.gets-gets)/float64(b.N), "gets/op")
	b.ReportMetric(float64(s.held), "held")
	b.ReportAllocs()
}

func BenchmarkCreate(b *testing.B) {
	for _, dirs := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d dirs", dirs), func(b *testing.B) {
			s := newStore(b)
			s.fast = true
			tree := newDirs(b, s, dirs)
			rng := rand.New(rand.NewPCG(1, 0))
			var msgs []kvfmt.Msg
			writes, gets := s.writes, s.gets
			b.ResetTimer()
			for i := range b.N {
				msgs = createBatch(msgs, uint64(i), rng.IntN(dirs))
				if err := tree.Upsert(nil, 1, msgs); err != nil {
					b.Fatal(err)
				}
			}
			stats(b, s, writes, gets)
		})
	}
}

// dataBatch is what a write of one block to a file upserts.
func dataBatch(msgs []kvfmt.Msg, s *memStore, off uint64) []kvfmt.Msg {
	d := kvfmt.Dir{Mtime: int64(off), Length: off}
	return append(msgs[:0],
		kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendDatKey(nil, 7, off), Val: s.data(1).Append(nil)},
		kvfmt.Msg{Op: kvfmt.Wstat, Key: kvfmt.AppendEntKey(nil, 0, "dir0"), Val: kvfmt.AppendWstat(nil, kvfmt.WMtime|kvfmt.WMuid, &d)})
}

func BenchmarkWrite(b *testing.B) {
	for _, order := range []string{"sequential", "random"} {
		b.Run(order, func(b *testing.B) {
			s := newStore(b)
			s.fast = true
			tree := newDirs(b, s, 1)
			rng := rand.New(rand.NewPCG(1, 0))
			var msgs []kvfmt.Msg
			writes, gets := s.writes, s.gets
			b.ResetTimer()
			for i := range b.N {
				off := uint64(i)
				if order == "random" {
					off = rng.Uint64N(1 << 20)
				}
				msgs = dataBatch(msgs, s, off*blkfmt.BlkSize)
				if err := tree.Upsert(nil, 1, msgs); err != nil {
					b.Fatal(err)
				}
			}
			stats(b, s, writes, gets)
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := newStore(b)
	s.fast = true
	tree := newDirs(b, s, 1)
	const n = 100000
	var msgs []kvfmt.Msg
	for i := range n {
		msgs = createBatch(msgs, uint64(i), 0)
		if err := tree.Upsert(nil, 1, msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	rng := rand.New(rand.NewPCG(1, 0))
	var key, dst []byte
	for b.Loop() {
		var err error
		key = kvfmt.AppendEntKey(key[:0], 1, fmt.Sprintf("file%06d", rng.IntN(n)))
		if dst, err = tree.Lookup(nil, key, dst); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	s := newStore(b)
	s.fast = true
	tree := newDirs(b, s, 1)
	const n = 100000
	var msgs []kvfmt.Msg
	for i := range n {
		msgs = createBatch(msgs, uint64(i), 0)
		if err := tree.Upsert(nil, 1, msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		pairs := 0
		if err := tree.Scan(nil, kvfmt.AppendEntPrefix(nil, 1), nil, func(_, _ []byte) bool { pairs++; return true }); err != nil || pairs != n {
			b.Fatal(pairs, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/pair")
}
