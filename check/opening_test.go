package check

import (
	"strings"
	"testing"

	"gefs9p/blkfmt"
)

// TestTheReportSaysWhatOpeningDoes with what is damaged.
func TestTheReportSaysWhatOpeningDoes(t *testing.T) {
	logOf := func(d *disk, i int) blkfmt.Addr { return d.header(i, nil).Log.Addr }
	for _, tt := range []struct {
		name   string
		damage func(d *disk)
		want   string
	}{
		{"nothing", func(*disk) {}, ""},
		{"a log", func(d *disk) { d.flip(logOf(d, 1), 5) }, "the free ranges of arena 1 are found again from all trees"},
		{"logs", func(d *disk) { d.flip(logOf(d, 1), 5); d.flip(logOf(d, 3), 5) }, "the free ranges of arenas 1, 3 are found again"},
		{"a log and a tree", func(d *disk) { d.flip(logOf(d, 1), 5); d.flip(d.rootOf(5), 700) }, "not all of those can be read"},
		{"a header", func(d *disk) { d.flip(superOf(t, d).Arenas[0].Addr, 5) }, "makes both copies"},
		{"both headers", func(d *disk) {
			a := superOf(t, d).Arenas[0].Addr
			d.flip(a, 5)
			d.flip(a+blk, 5)
		}, "fails"},
		{"a superblock", func(d *disk) { d.flip(d.backup(), 5) }, "makes both copies"},
	} {
		d := sample()
		tt.damage(d)
		if got := d.check(t).Opening; !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s damaged: %q, want %q", tt.name, got, tt.want)
		}
	}
}
