package cli

import (
	"time"

	"github.com/spf13/cobra"

	"gefs9p/ninep"
)

// limitFlags are the flags that say what clients may take. Those that were not given are 0.
type limitFlags struct {
	conns, fids, requests      int
	held, output               sizeFlag
	frameTime, writeTime, idle time.Duration
}

func (l *limitFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&l.conns, "max-conns", 0, "connections at once, 1024 if not given; further ones are told so and closed")
	f.IntVar(&l.fids, "max-fids", 0, "fids of one connection, 131072 if not given; a request for more is refused")
	f.IntVar(&l.requests, "max-requests", 0, "requests of one connection that may be waiting for something, 64 if not given; then it is read no further")
	f.Var(&l.held, "max-held", "memory that those requests may hold, 8M if not given; then the same")
	f.Var(&l.output, "max-output", "replies that may wait for one client to read them, 1M if not given; then its requests wait")
	f.DurationVar(&l.frameTime, "frame-time", 0, "how long a client may take to send one message, 1m if not given; then it is hung up on")
	f.DurationVar(&l.writeTime, "write-time", 0, "how long a client may read nothing of what is sent, 1m if not given; then the same")
	f.DurationVar(&l.idle, "idle-time", 0, "how long a client may send nothing at all, for ever if not given; then the same")
}

// check refuses what cannot be a limit.
func (l *limitFlags) check() error {
	for _, x := range []struct {
		name string
		n    int
	}{{"--max-conns", l.conns}, {"--max-fids", l.fids}, {"--max-requests", l.requests}} {
		if x.n < 0 {
			return usagef("%s %d: there cannot be fewer than none; leave it out for the usual", x.name, x.n)
		}
	}
	for _, x := range []struct {
		name string
		size sizeFlag
	}{{"--max-held", l.held}, {"--max-output", l.output}} {
		if x.size > 1<<30 {
			return usagef("%s %d: more than 1G for one connection", x.name, int64(x.size))
		}
	}
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"--frame-time", l.frameTime}, {"--write-time", l.writeTime}, {"--idle-time", l.idle}} {
		if x.d < 0 {
			return usagef("%s %v: a time cannot be negative", x.name, x.d)
		}
	}
	return nil
}

// apply puts what was given in the place of what was worked out.
func (l *limitFlags) apply(to *ninep.Limits) {
	for p, n := range map[*int]int{
		&to.Conns: l.conns, &to.Fids: l.fids, &to.Outstanding: l.requests,
		&to.Held: int(l.held), &to.Output: int(l.output),
	} {
		if n != 0 {
			*p = n
		}
	}
	for p, d := range map[*time.Duration]time.Duration{
		&to.FrameTime: l.frameTime, &to.WriteTime: l.writeTime, &to.IdleTime: l.idle,
	} {
		if d != 0 {
			*p = d
		}
	}
}
