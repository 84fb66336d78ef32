package watch_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/watch"
)

// TestNoPulseWhileTheDeviceHangs: a change waits for a read that does not come back, and nobody else can change
// anything.
func TestNoPulseWhileTheDeviceHangs(t *testing.T) {
	dev := blkdev.NewFault(gefstest.Ream(t))
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()

	const every = 5 * time.Millisecond
	var beats atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := make(chan struct{})
	go func() {
		watch.Pulse(ctx, fs, every, func() { beats.Add(1) })
		close(over)
	}()
	alive := func() {
		t.Helper()
		for n, end := beats.Load(), time.Now().Add(patience); beats.Load() < n+3; time.Sleep(every) {
			if time.Now().After(end) {
				t.Fatal("no pulse")
			}
		}
	}
	alive()

	hanging, hang := make(chan struct{}, 1000), make(chan struct{})
	dev.Hook(func(op blkdev.Op, off, n int64) error {
		if op == blkdev.OpRead {
			hanging <- struct{}{}
			<-hang
		}
		return nil
	})
	changed := make(chan error, 1)
	go func() {
		c, end := fs.Background()
		defer end()
		changed <- fs.SetConf(c, "main", "retain", "@h")
	}()
	select {
	case <-hanging:
	case err := <-changed:
		t.Fatalf("the change reads nothing: %v", err)
	case <-time.After(patience):
		t.Fatal("the change does not begin")
	}
	time.Sleep(2 * every) // for a beat that was on its way
	n := beats.Load()
	time.Sleep(40 * every)
	if got := beats.Load(); got != n {
		t.Errorf("%d beats while nothing can be changed", got-n)
	}
	dev.Hook(nil)
	close(hang)
	if err := <-changed; err != nil {
		t.Error(err)
	}
	alive()
	cancel()
	select {
	case <-over:
	case <-time.After(patience):
		t.Error("it does not end")
	}
}
