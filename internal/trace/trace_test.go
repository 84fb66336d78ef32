package trace

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"gefs9p/blkfmt"
)

func TestRingKeepsTheNewest(t *testing.T) {
	r := New(4000)
	n := len(r.slots)
	if n < 10 {
		t.Fatalf("%d records in 4000 bytes", n)
	}
	if got := r.Records(blkfmt.NoAddr); len(got) != 0 {
		t.Errorf("an empty ring has %v", got)
	}
	for i := range 3*n + 5 {
		r.Add(Record{Qgen: 7, Tag: "tick", Addr: blkfmt.Addr(i%3) << blkfmt.BlkShift, Gen: 2, V: int64(i)})
	}
	all := r.Records(blkfmt.NoAddr)
	if len(all) != n {
		t.Fatalf("%d records, want %d", len(all), n)
	}
	for i, rec := range all {
		if want := int64(2*n + 5 + i); rec.V != want || rec.Seq != uint64(want+1) {
			t.Fatalf("record %d is %v", i, rec)
		}
	}
	one := r.Records(1 << blkfmt.BlkShift)
	if len(one) < n/3 || len(one) > n/3+1 {
		t.Errorf("%d records of one block", len(one))
	}
	for _, rec := range one {
		if rec.Addr != 1<<blkfmt.BlkShift {
			t.Errorf("among them %v", rec)
		}
	}
}

func TestRecordsAreLines(t *testing.T) {
	r := New(1 << 12)
	r.Add(Record{Qgen: 3, Tag: "blkalloc", Addr: 0x4000, Gen: 5, V: 255})
	r.Add(Record{Qgen: 3, Tag: "freeb", Addr: 0x4000, Gen: None, V: None})
	r.Add(Record{Qgen: 4, Tag: "seal", Addr: blkfmt.NoAddr, Gen: None, V: None})
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "[1@3] blkalloc (0x4000,5) ff\n[2@3] freeb (0x4000)\n[3@4] seal\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if err := r.Write(fullWriter{}); err != errFull {
		t.Errorf("a writer that fails: %v", err)
	}
}

var errFull = errors.New("full")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestNilRing(t *testing.T) {
	for _, size := range []int64{0, -1, 10} {
		r := New(size)
		r.Add(Record{Tag: "x"})
		var b strings.Builder
		if r != nil || r.Records(blkfmt.NoAddr) != nil || r.Write(&b) != nil || b.Len() > 0 {
			t.Errorf("a ring of %d bytes is no nil ring", size)
		}
	}
}

func TestRingInParallel(t *testing.T) {
	r := New(4000)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				r.Add(Record{Tag: "tick", V: int64(g<<32 | i)})
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			last := uint64(0)
			for _, rec := range r.Records(blkfmt.NoAddr) {
				if rec.Seq <= last || rec.Tag != "tick" {
					t.Errorf("%v behind %d", rec, last)
				}
				last = rec.Seq
			}
		}
	})
	wg.Wait()
	all := r.Records(blkfmt.NoAddr)
	if len(all) != len(r.slots) || all[0].Seq != uint64(20000-len(all)+1) {
		t.Errorf("%d records from %v on", len(all), all[0])
	}
}

func BenchmarkAdd(b *testing.B) {
	r := New(1 << 20)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Add(Record{Tag: "tick"})
		}
	})
}
