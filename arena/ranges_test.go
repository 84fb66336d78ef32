package arena

import (
	"maps"
	"slices"
	"testing"

	"gefs9p/blkfmt"
)

// checkRanges compares r with the bitmap in.
func checkRanges(t *testing.T, r *ranges, in []bool) {
	t.Helper()
	got := make([]bool, len(in))
	count, total := int64(0), int64(0)
	last := blkfmt.Addr(-1)
	for b, n := range r.all() {
		if b == last {
			t.Fatalf("ranges touch at %v", b)
		}
		for i := range n / blk {
			got[number(b)+i] = true
		}
		last = b + blkfmt.Addr(n)
		count, total = count+1, total+n
	}
	if !slices.Equal(got, in) {
		t.Fatalf("ranges are\n%v, want\n%v", got, in)
	}
	if count != r.count() || total != r.total {
		t.Fatalf("count %d, total %d; there are %d of %d bytes", r.count(), r.total, count, total)
	}
}

func TestModelOfRanges(t *testing.T) {
	rnd := newRand(t)
	const size = 200
	for range 20 {
		r, in := newRanges(), make([]bool, size)
		for range 400 {
			i := rnd.IntN(size)
			n := min(1+rnd.IntN(1+rnd.IntN(20)), size-i)
			span := in[i : i+n]
			a, bytes := blkfmt.Addr(i*blk), int64(n*blk)
			switch rnd.IntN(6) {
			case 0, 1:
				want := !slices.Contains(span, true)
				if got := r.insert(a, bytes); got != want {
					t.Fatalf("insert of %d at %d = %v", n, i, got)
				}
				if want {
					for j := range span {
						span[j] = true
					}
				}
			case 2:
				want := !slices.Contains(span, false)
				if got := r.remove(a, bytes); got != want {
					t.Fatalf("remove of %d at %d = %v", n, i, got)
				}
				if want {
					clear(span)
				}
			case 3:
				b, ok := r.takeFirst()
				if want := slices.Index(in, true); ok != (want >= 0) || ok && number(b) != int64(want) {
					t.Fatalf("takeFirst = %v, %v; want block %d", b, ok, want)
				}
				if ok {
					in[number(b)] = false
				}
			case 4:
				b, ok := r.takeLast()
				want := size - 1
				for want >= 0 && !in[want] {
					want--
				}
				if ok != (want >= 0) || ok && number(b) != int64(want) {
					t.Fatalf("takeLast = %v, %v; want block %d", b, ok, want)
				}
				if ok {
					in[want] = false
				}
			case 5:
				b, ok := r.takeRun(bytes)
				want := -1
				for j, run := 0, 0; j < size && want < 0; j++ {
					if run++; !in[j] {
						run = 0
					}
					if run == n {
						want = j - n + 1
					}
				}
				if ok != (want >= 0) || ok && number(b) != int64(want) {
					t.Fatalf("takeRun(%d) = %v, %v; want block %d", n, b, ok, want)
				}
				if ok {
					clear(in[want : want+n])
				}
			}
			checkRanges(t, r, in)
		}
	}
}

func TestModelOfBlockSet(t *testing.T) {
	rnd := newRand(t)
	// Blocks around the edges of words and chunks, and some far away.
	var near []int64
	for _, edge := range []int64{0, 64, chunkBlocks, 2 * chunkBlocks, 1 << 30} {
		for i := max(0, edge-3); i < edge+3; i++ {
			near = append(near, i)
		}
	}
	for range 20 {
		var s blockSet
		in := map[int64]bool{}
		for range 500 {
			i := near[rnd.IntN(len(near))]
			a := blkfmt.Addr(i * blk)
			if s.has(a) != in[i] {
				t.Fatalf("has(%d) = %v", i, s.has(a))
			}
			if rnd.IntN(2) == 0 {
				if s.add(a) == in[i] {
					t.Fatalf("add(%d) = %v", i, in[i])
				}
				in[i] = true
			} else {
				if s.remove(a) != in[i] {
					t.Fatalf("remove(%d) = %v", i, !in[i])
				}
				delete(in, i)
			}
			var got []int64
			runs := int64(0)
			for b, n := range s.all() {
				for j := range n / blk {
					got = append(got, number(b)+j)
				}
				runs++
			}
			if want := slices.Sorted(maps.Keys(in)); !slices.Equal(got, want) {
				t.Fatalf("set is %v, want %v", got, want)
			}
			if runs != s.runs || int64(len(in)) != s.n {
				t.Fatalf("%d blocks in %d runs; there are %d in %d", s.n, s.runs, len(in), runs)
			}
		}
	}
}

func TestBlockSetJoinsRunsOverWholeChunks(t *testing.T) {
	var s blockSet
	const n = 3*chunkBlocks + 100
	s.addRange(50*blk, n*blk)
	for b, length := range s.all() {
		if b != 50*blk || length != n*blk {
			t.Errorf("run of %d bytes at %v", length, b)
		}
	}
	if s.runs != 1 || s.n != n {
		t.Errorf("%d blocks in %d runs", s.n, s.runs)
	}
}

func TestMergedJoinsWhatTouches(t *testing.T) {
	rnd := newRand(t)
	for range 300 {
		x, y, all := newRanges(), newRanges(), newRanges()
		for i := range 40 {
			a := blkfmt.Addr(i * blk)
			switch rnd.IntN(3) {
			case 0:
				x.insert(a, blk)
				all.insert(a, blk)
			case 1:
				y.insert(a, blk)
				all.insert(a, blk)
			}
		}
		got, want := maps.Collect(merged(x.all(), y.all())), maps.Collect(all.all())
		if !maps.Equal(got, want) {
			t.Fatalf("merged ranges are %v, want %v", got, want)
		}
		for range merged(x.all(), y.all()) {
			break // must not hang or panic
		}
	}
}
