package faults

import (
	"slices"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// quotaOps is how many operations are in the trace of the power cuts with quotas.
const quotaOps = 2000

// limited returns the disk after main got quotas, which nobody reaches.
func limited(t *testing.T, d *Disk) *Disk {
	t.Helper()
	e := &Disk{Image: d.Image.Clone(), leaked: d.leaked}
	r := d.Runner()
	if err := r.Open(e.Image, false); err != nil {
		t.Fatal(err)
	}
	c, end := r.FS.Background()
	for _, user := range []string{"", gefs.EachUser, gefstest.User} {
		if err := r.FS.SetQuota(c, "main", user, gefs.Usage{Bytes: 1 << 50}); err != nil {
			t.Fatal(err)
		}
	}
	end()
	for began := time.Now(); r.FS.Quotas(false)[0].State != gefs.QuotaCounted; time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("not counted: %+v", r.FS.Quotas(false))
		}
	}
	if err := e.settle(r); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestPowerCutWithQuotas cuts the power at writes, and between them, of a trace on a disk with quotas. What
// stands there of what the files use, for the state that is found, is right: that is what the checker looks at in
// each of them.
func TestPowerCutWithQuotas(t *testing.T) {
	row := flags.Row(t, 1, Size{Ordinary: 1000, Short: 100})
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	ops := quotaOps
	if testing.Short() && !row.Long() {
		ops /= 10
	}
	h := historyOn(t, row, limited(t, disk), ops)
	h.cuts(t, row, Apart(slices.Collect(h.Trace.Boundaries())))
}
