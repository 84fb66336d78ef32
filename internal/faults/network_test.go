package faults

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// throughNetwork puts a network between the file system and the disk, on which connections end now and then: before a
// request is done, or before its reply.
func throughNetwork(t *testing.T, every int64) func(*blkdev.Crash) (blkdev.Device, error) {
	return func(disk *blkdev.Crash) (blkdev.Device, error) {
		var requests atomic.Int64
		s := &nbdtest.Server{Dev: disk, Hook: func(nbdtest.Request) nbdtest.Fault {
			n := requests.Add(1)
			return nbdtest.Fault{Lost: n%every == every-1, Mute: n%every == every/2}
		}}
		s.Start(t)
		a, err := nbd.Parse("nbd://" + s.Addr() + "/disk")
		if err != nil {
			return nil, err
		}
		d, err := nbd.Open(context.Background(), a, nbd.Options{Unflushed: 1 << 20})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			conns, again := d.Stats()
			t.Logf("%d connections, %d writes made again", conns, again)
			if conns < 2 {
				t.Error("no connection was lost")
			}
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return d, nil
	}
}

// TestPowerCutOfAStorage is TestPowerCutAtEveryWrite and TestUnsyncedWritesLostTornReordered with the disk at the other
// end of a network: the power of the storage goes, and with it ours.
func TestPowerCutOfAStorage(t *testing.T) {
	row := flags.Row(t, 14, Size{Ordinary: 300, Short: 60})
	ops := powerOps / 20
	if testing.Short() && !row.Long() {
		ops /= 4
	}
	disk, err := NewDisk(1500)
	if err != nil {
		t.Fatal(err)
	}
	script := (&Source{R: row.Rand(1), Full: true}).Ops(disk.Oracle, ops)
	h, err := RecordThrough(disk, script, row.Seed()%2 == 0, throughNetwork(t, 100+row.Rand(2).Int64N(100)))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %d refused by a full disk; %d events", len(h.Ops), h.Refused, h.Trace.Len())
	boundaries := slices.Collect(h.Trace.Boundaries())
	row.Each(h.names(inTurn(Apart(boundaries), WindowCuts(h.Trace, row.Seed()))), h.Try)
}

// inTurn takes one of each in turn, as long as there are any.
func inTurn[E any](a, b iter.Seq[E]) iter.Seq[E] {
	return func(yield func(E) bool) {
		next, stop := iter.Pull(b)
		defer stop()
		for e := range a {
			if !yield(e) {
				return
			}
			if e, ok := next(); ok && !yield(e) {
				return
			}
		}
		for e, ok := next(); ok; e, ok = next() {
			if !yield(e) {
				return
			}
		}
	}
}
