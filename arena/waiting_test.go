package arena

import (
	"testing"

	"gefs9p/blkfmt"
)

// TestWaitingIsWhatStatCounts gives blocks back in every way, and finds each of them once until it is free.
func TestWaitingIsWhatStatCounts(t *testing.T) {
	s, err := Format(blkfmt.Geometry{First: blkfmt.BlkSize, Size: 8 << 20, Count: 2}, blkfmt.Metro{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, want map[blkfmt.Addr]bool) {
		t.Helper()
		got := map[blkfmt.Addr]bool{}
		for i, st := range s.Stat() {
			blocks := int64(0)
			for a, n := range s.Waiting(i) {
				for end := a + blkfmt.Addr(n); a < end; a += blkfmt.BlkSize {
					if got[a] {
						t.Errorf("%s: block %v comes twice", when, a)
					}
					got[a] = true
					blocks++
					if k, err := s.Index(a); err != nil || k != i {
						t.Errorf("%s: block %v is said to be of arena %d: %v", when, a, i, err)
					}
				}
			}
			if blocks*blkfmt.BlkSize != st.Waiting {
				t.Errorf("%s: %d blocks wait in arena %d, Stat says %d bytes", when, blocks, i, st.Waiting)
			}
		}
		for a := range want {
			if !got[a] {
				t.Errorf("%s: block %v does not wait", when, a)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d blocks wait, want %d", when, len(got), len(want))
		}
	}
	var blocks []blkfmt.Addr
	for range 40 {
		a, err := s.Alloc(Meta, len(blocks)%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, a)
	}
	check("at first", nil)
	want := map[blkfmt.Addr]bool{}
	for _, a := range blocks[:10] {
		if err := s.Retire(a); err != nil {
			t.Fatal(err)
		}
		want[a] = true
	}
	check("retired", want)
	if err := s.Give(blocks[0]); err != nil {
		t.Fatal(err)
	}
	delete(want, blocks[0])
	check("one given", want)
	if err := s.FreeLater(blocks[10:20]...); err != nil {
		t.Fatal(err)
	}
	for _, a := range blocks[10:20] {
		want[a] = true
	}
	check("freed for later", want)
	sealed, err := s.Seal(0)
	if err != nil {
		t.Fatal(err)
	}
	check("sealed", want)
	if err := s.Release(sealed); err != nil {
		t.Fatal(err)
	}
	for _, a := range blocks[10:20] {
		delete(want, a)
	}
	check("released", want)
	for range s.Waiting(2) {
		t.Error("there is no third arena")
	}
	for range s.Waiting(0) {
		break // a loop may end early
	}
}
