package cli

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/systemd"
	"gefs9p/watch"
)

// A service is a server as its service manager sees it: what it is told, and what it has given (given.go). Without
// a manager there is nothing to tell and nothing given.
type service struct {
	n        *systemd.Notifier
	watchdog time.Duration // how often the manager wants to hear that all is well; 0 for never
	given    []*given
	log      *slog.Logger

	every time.Duration // extendEvery

	deaf sync.Once     // that the manager does not listen is said once
	done atomic.Uint64 // operations of the disk
	rest func()        // ends what during has begun
}

const (
	// lookEvery is how often the server looks at how it is, without a watchdog that wants to know more often.
	lookEvery = 10 * time.Second
	// extendEvery is how often it is looked whether a disk that is opened or closed goes on, and extendBy what more
	// time is asked for then. The manager's own patience is to be more than the first.
	extendEvery = 5 * time.Second
	extendBy    = 30 * time.Second
)

// newService finds the manager in the environment. One that cannot be told anything is a warning, sockets that
// cannot be used are an error.
func newService(env func(string) string, log *slog.Logger) (*service, error) {
	v := &service{log: log, every: extendEvery, rest: func() {}}
	var err error
	if v.n, err = systemd.NewNotifier(env); err != nil {
		log.Warn("the service manager cannot be told how it goes", "err", err)
	}
	if v.watchdog, err = systemd.WatchdogTime(env); err != nil {
		log.Warn("the service manager's watchdog is not answered", "err", err)
	}
	sockets, err := systemd.Sockets(env)
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		v.given = append(v.given, &given{Socket: s})
	}
	return v, nil
}

// close says nothing more, and closes the sockets that nobody has taken.
func (v *service) close() {
	v.rest()
	for _, g := range v.given {
		if !g.taken {
			g.Close()
		}
	}
}

// tell tells the manager.
func (v *service) tell(assignments ...string) {
	if err := v.n.Send(assignments...); err != nil {
		v.deaf.Do(func() { v.log.Warn("the service manager does not listen", "err", err) })
	}
}

// meter returns dev in a form of which during sees whether it goes on.
func (v *service) meter(dev disk) disk {
	if v.n == nil {
		return dev
	}
	return metered(dev, &v.done)
}

// during tells the manager what is begun, a thing that takes as long as the disk takes, and that it be patient as long
// as the disk goes on; until rest is called, or during again. One goroutine calls these.
func (v *service) during(what string) {
	v.rest()
	if v.n == nil {
		return
	}
	v.tell(systemd.Status(what))
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(v.every)
		defer tick.Stop()
		for last := v.done.Load(); ; {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			if now := v.done.Load(); now != last {
				last = now
				v.tell(systemd.Extend(extendBy), systemd.Status(fmt.Sprintf("%s: the disk has done %d operations", what, now)))
			}
		}
	})
	v.rest = func() {
		close(over)
		wg.Wait()
		v.rest = func() {}
	}
}

// serving tells the manager that the server is ready, and from then on that it is well: as long as the file system
// can be changed, and while a storage is away that it waits for on purpose, as a restart would not bring that back.
// What is said when all is well is status. dev is the disk below everything. end waits until that has ended, after
// ctx has; nothing more is said then.
func (v *service) serving(ctx context.Context, fsys *gefs.FS, dev disk, status string) (end func()) {
	if v.n == nil {
		return func() {}
	}
	v.tell(systemd.Ready, systemd.Status(status))
	every := lookEvery
	if v.watchdog > 0 {
		every = min(every, v.watchdog/4)
	}
	ctx, cancel := context.WithCancel(ctx)
	var beats atomic.Uint64
	var wg sync.WaitGroup
	wg.Go(func() { watch.Pulse(ctx, fsys, every, func() { beats.Add(1) }) })
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		var last uint64
		said := status
		for {
			say := status
			now := beats.Load()
			since := lostSince(dev)
			well := now != last
			last = now
			switch err := fsys.Store().Err(); {
			case err != nil:
				say = "read-only since a failure: " + err.Error()
			case !well && !since.IsZero():
				say = fmt.Sprintf("waiting for the storage since %s", since.UTC().Format(time.RFC3339))
				well = true
			}
			var tell []string
			if v.watchdog > 0 && well {
				tell = append(tell, systemd.Watchdog)
			}
			if say != said {
				tell = append(tell, systemd.Status(say))
				said = say
			}
			if len(tell) > 0 {
				v.tell(tell...)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// lostSince returns since when a disk on another machine is out of reach, the zero time if it is not.
func lostSince(dev disk) time.Time {
	if d, ok := dev.(interface{ Lost() time.Time }); ok {
		return d.Lost()
	}
	return time.Time{}
}
