package watch

import (
	"context"
	"time"

	"gefs9p/gefs"
)

// Pulse calls beat at once and then every so often, each time after the file system could have been changed: after
// it had the lock of those who change something. While a request, a commit or the device holds that up there is
// no beat. It is what /healthz goes by, for those whose watchdog wants to hear that all is well. It returns when
// ctx has ended and nothing holds it up; the file system must not be closed before.
func Pulse(ctx context.Context, fs *gefs.FS, every time.Duration, beat func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		fs.Backlog() // for the sake of waiting
		beat()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
