package gefs_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// A tripwire is a reader that calls trip before it goes on behind n bytes.
type tripwire struct {
	r    io.Reader
	n    int
	trip func()
}

func (w *tripwire) Read(p []byte) (int, error) {
	if w.n == 0 && w.trip != nil {
		w.trip()
		w.trip = nil
	}
	if w.trip != nil {
		p = p[:min(len(p), w.n)]
	}
	n, err := w.r.Read(p)
	w.n -= n
	return n, err
}

// TestReceivingGoesOnWhenItsStorageHadVanished receives onto a disk at the other end of a network whose server goes
// away for longer than one waits for it, and forgets what it was not told to flush. Receive ends and says so; on the
// disk as it is then nothing can be seen of the snapshot, and it goes on with all of the stream or with the rest.
func TestReceivingGoesOnWhenItsStorageHadVanished(t *testing.T) {
	rng := sendRand(t)
	a := newBulkSource(t, rng)
	disk := nbdtest.NewVolatile(gefstest.SmallDisk)
	s := &nbdtest.Server{Dev: disk}
	s.Start(t)
	addr, err := nbd.Parse("nbd://" + s.Addr() + "/disk")
	if err != nil {
		t.Fatal(err)
	}
	open := func() *nbd.Disk {
		t.Helper()
		d, err := nbd.Open(context.Background(), addr, nbd.Options{Patience: 200 * time.Millisecond, Unflushed: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	if err := gefs.Ream(d, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	parts := 0
	for _, x := range []struct {
		label, base string
		all         []byte
	}{{"one", "", a.whole}, {"two", "one", a.part}} {
		const times = 4
		for i := range times + 1 {
			d := open()
			fs := gefstest.Open(t, d, gefs.Options{CommitEvery: 2 * time.Millisecond})
			m, ok, err := fs.Where(x.label)
			if err != nil {
				t.Fatal(err)
			}
			p := x.all
			if ok && m.Place.N > 0 {
				parts++
				if rng.IntN(2) == 0 {
					p = a.send(x.label, x.base, &m)
				}
			}
			if i == times {
				if _, err := fs.Receive(context.Background(), bytes.NewReader(p), gefs.ReceiveOptions{}); err != nil {
					t.Fatal(err)
				}
				got, err := fs.Digest(context.Background(), x.label, nil)
				if want := a.digest(x.label); err != nil || got.Digest != want {
					t.Errorf("%s: digest %v, %v, want %v", x.label, got.Digest, err, want)
				}
				if err := fs.Close(); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				gefstest.CheckStrict(t, disk)
				break
			}
			at := rng.IntN(len(p))
			r := io.MultiReader(pause{}, bytes.NewReader(p[:at/2]), pause{}, bytes.NewReader(p[at/2:at]), pause{}, bytes.NewReader(p[at:]))
			_, err = fs.Receive(context.Background(), &tripwire{r, at, func() {
				s.Leave()
				disk = disk.Crash(rng, float64(rng.IntN(3))/2)
			}}, gefs.ReceiveOptions{})
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), s.Addr()) {
				t.Errorf("the storage has gone, and what is said is %q", err)
			}
			fs.Close() // which cannot succeed
			d.Close()
			gefstest.CheckStrict(t, disk)
			s.Return(disk)
			after := gefstest.Open(t, open(), gefs.Options{ReadOnly: true})
			for _, l := range after.Labels() {
				if l.Name == x.label {
					t.Fatalf("%s is there after a part of it", x.label)
				}
			}
			after.Close()
		}
	}
	if parts == 0 {
		t.Error("nothing was ever left of what had come: this proves nothing")
	}
	a.end()
}
