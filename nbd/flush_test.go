package nbd_test

import (
	"testing"

	"gefs9p/blkdev/blkdevtest"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// A lateDisk answers a Sync only when it is told to, after it was done.
type lateDisk struct {
	*nbdtest.Volatile
	done, answer chan struct{}
}

func (l *lateDisk) Sync() error {
	err := l.Volatile.Sync()
	l.done <- struct{}{}
	<-l.answer
	return err
}

// A write that is acknowledged while a flush is under way may have come too late for it.
func TestFlushCoversOnlyWhatWasAcknowledgedBefore(t *testing.T) {
	disk := &lateDisk{nbdtest.NewVolatile(1 << 20), make(chan struct{}), make(chan struct{})}
	s := &nbdtest.Server{Dev: disk}
	d := open(t, serve(t, s), nbd.Options{})
	if _, err := d.WriteAt([]byte("before"), 1000); err != nil {
		t.Fatal(err)
	}
	synced := make(chan error, 1)
	go func() { synced <- d.Sync() }()
	<-disk.done
	if _, err := d.WriteAt([]byte("during"), 2000); err != nil {
		t.Fatal(err)
	}
	disk.answer <- struct{}{}
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	s.Leave()
	s.Return(disk.Crash(blkdevtest.Rand(t), 0))
	for off, want := range map[int64]string{1000: "before", 2000: "during"} {
		p := make([]byte, 6)
		if _, err := d.ReadAt(p, off); err != nil || string(p) != want {
			t.Errorf("%q was written at %d, and there is %q, %v", want, off, p, err)
		}
	}
	if _, again := d.Stats(); again != 1 {
		t.Errorf("%d writes were made again; one was not flushed", again)
	}
}
