package arena

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/logfmt"
)

// goldenSuper returns the superblock by which the golden disk d is opened.
func goldenSuper(t *testing.T, d *golden.Disk) *blkfmt.Super {
	t.Helper()
	s, err := blkfmt.DecodeSuper(d.Block(t, 0), nil, 0)
	if err != nil {
		back := blkfmt.BackupAddr(d.Size())
		t.Logf("first superblock: %v", err)
		if s, err = blkfmt.DecodeSuper(d.Block(t, int64(back)), nil, back); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestGoldenDisksLoad(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			d := golden.Image(t, name)
			sup := goldenSuper(t, d)
			s, err := Load(d, d.Size(), sup.Hasher(), sup.Arenas, sup.Qgen)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range s.Suspects() {
				t.Logf("suspect %d: %s", x.Arena, x.Why)
			}
			for i, st := range s.Stat() {
				t.Logf("qgen %d arena %d: %+v", sup.Qgen, i, st)
			}
		})
	}
	_ = slices.Sorted[int]
	_ = fmt.Sprint
	_ = errors.New
	_ = io.EOF
	_ = cmp.Diff
	var _ logfmt.Op
	var _ iter.Seq[int]
}
