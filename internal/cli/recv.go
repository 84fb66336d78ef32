package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/snap"
	"gefs9p/stream"
)

// A taker receives a snapshot.
type taker struct {
	mover
	file  string // empty: standard input
	where bool
	abort bool
}

func newRecv() *cobra.Command {
	var r taker
	fo := follower{}
	follow := false
	cmd := &cobra.Command{
		Use:   "recv DISK [NAME] | recv --follow DISK -- COMMAND...",
		Short: "make the snapshot of a stream that send wrote",
		Long: `Recv reads a stream from standard input, or from a file, and makes the snapshot of it on
DISK, under the name that it had where it was sent from, or NAME. The name appears when all of it has
come and was verified, and not before.

The stream of a difference needs the snapshot that it is the difference to; recv finds that by itself,
whatever its name is here. What was received is what was sent: see 'gefs9p digest'.

If the stream is cut off, or the machine goes down, what has come stays, unseen. Give recv the whole
stream again, or go on from where it ended: --where prints the word for send's --resume, nothing if
nothing has come; it wants NAME. --abort gives up what has come. On a disk that gets full nothing stays.

Owners are kept as numbers: send the snapshot adm as well, which has the users file. A received snapshot
does not change. To work in it: 'gefs9p ctl snap -m NAME work', or 'snap rollback main NAME'.

With --follow the disk becomes a standby, seconds behind another: every two seconds, or as --every says, COMMAND is run
with a label and what the disk has of it behind it, and is to print what 'send --follow' prints on the other
machine. The two newest snapshots of each label are kept. It goes on, whatever fails there, until it is
ended. 'gefs9p promote' makes the disk take the other's place.

The disk must not be served.

` + keyHelp,
		Example: `  gefs9p recv --input monday.gefs backup.img
  gefs9p recv --follow standby.img -- ssh server gefs9p send --follow /srv/disk.img
  gefs9p recv --input monday.gefs backup.img main.monday
  ssh server gefs9p send -i monday disk.img tuesday | gefs9p recv backup.img
  gefs9p recv --where backup.img tuesday`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !follow {
				return diskAnd("name", false)(cmd, args)
			}
			if n := cmd.ArgsLenAtDash(); n != 1 || len(args) < 2 || args[0] == "" {
				return errors.New("--follow wants a disk, and behind -- a command")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow {
				if r.where || r.abort || r.file != "" || fo.every <= 0 {
					return usagef("--follow goes with --label, --every, --json and --keyfile, and --every is a time")
				}
				fo.mover = r.mover
				fo.take(cmd, args[:1])
				fo.command = args[1:]
				return fo.run(cmd.Context())
			}
			r.take(cmd, args)
			switch {
			case r.where && r.abort:
				return usagef("--where and --abort exclude each other")
			case (r.where || r.abort) && r.file != "":
				return usagef("--where and --abort read no stream: leave --input out")
			case (r.where || r.abort) && r.label == "":
				return usagef("which snapshot? Name it behind the disk")
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.file, "input", "", "read the stream from `FILE`")
	f.BoolVar(&r.where, "where", false, "only print how far NAME has come")
	f.BoolVar(&r.abort, "abort", false, "give up what has come of NAME")
	f.BoolVar(&follow, "follow", false, "receive what COMMAND prints, again and again")
	f.StringSliceVar(&fo.labels, "label", []string{snap.Main, snap.Adm}, "follow the label `NAME`; may be given many times")
	f.DurationVar(&fo.every, "every", 2*time.Second, "time between two rounds")
	r.flags(cmd)
	return cmd
}

func (r *taker) run(ctx context.Context) error {
	switch {
	case r.where:
		return r.with(true, func(fsys *gefs.FS) error {
			at, ok, err := fsys.Where(r.label)
			if err != nil || !ok {
				return err
			}
			_, err = fmt.Fprintln(r.out, at.Token())
			return err
		})
	case r.abort:
		return r.with(false, func(fsys *gefs.FS) error { return fsys.GiveUp(ctx, r.label) })
	}
	in := r.in
	if r.file != "" {
		f, err := os.Open(r.file)
		if err != nil {
			return pathError(err)
		}
		defer f.Close()
		in = f
	} else if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usagef("a stream is wanted: name a file with --input, or connect a pipe")
	}
	m := newMeter(r.errw)
	defer m.clear()
	var sum gefs.Moved
	err := r.with(false, func(fsys *gefs.FS) (err error) {
		sum, err = fsys.Receive(ctx, bufio.NewReaderSize(in, 1<<20), gefs.ReceiveOptions{
			Name:     r.label,
			Progress: func(p gefs.Moved) { m.showMoved("receiving", p) },
		})
		return r.advise(fsys, sum, err)
	})
	m.clear()
	if err != nil {
		return err
	}
	if sum.Already && !r.json {
		_, err := fmt.Fprintf(r.out, "%s is there already\n", sum.Label)
		return err
	}
	return r.summary(r.out, "received", sum)
}

// advise says what can be done about the error of a stream.
func (r *taker) advise(fsys *gefs.FS, sum gefs.Moved, err error) error {
	var damaged *stream.DamagedError
	switch {
	case errors.Is(err, gefs.ErrFull):
		return fmt.Errorf("%w; nothing of it was kept", err)
	case errors.Is(err, gefs.ErrHalf):
		return fmt.Errorf("%w (gefs9p recv --abort %s %s)", err, r.disk, sum.Label)
	case errors.Is(err, snap.ErrExists):
		return fmt.Errorf("%w; choose another name", err)
	case errors.Is(err, stream.ErrCut), errors.As(err, &damaged), errors.Is(err, io.ErrUnexpectedEOF):
		if at, ok, werr := fsys.Where(sum.Label); werr == nil && ok {
			return fmt.Errorf("%w; %d changes were received and are kept: give the whole stream again, or go on with send --resume \"$(gefs9p recv --where %s %s)\"",
				err, at.Place.N, r.disk, sum.Label)
		}
	}
	return err
}

func newDigest() *cobra.Command {
	var m mover
	cmd := &cobra.Command{
		Use:   "digest DISK SNAP",
		Short: "print the digest of what a snapshot holds",
		Long: `Digest reads all that the snapshot holds and prints a digest of it: a chain of SHA-256 over
every name, byte, mode, owner, time, qid and version, but nothing of where it lies. Two snapshots with
the same digest hold the same, on whatever disks. A disk that is served is asked on its console.

` + keyHelp,
		Example: `  gefs9p digest disk.img monday
  gefs9p digest --json disk.img monday | jq -r .digest`,
		Args: diskAnd("snapshot", true),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.take(cmd, args)
			meter := newMeter(m.errw)
			defer meter.clear()
			var sum gefs.Moved
			err := m.with(true, func(fsys *gefs.FS) (err error) {
				sum, err = fsys.Digest(cmd.Context(), m.label, func(p gefs.Moved) { meter.showMoved("reading", p) })
				return err
			})
			meter.clear()
			var locked *blkdev.LockedError
			if _, serr := os.Stat(localName(m.disk) + ".ctl"); errors.As(err, &locked) && serr == nil {
				err = m.liveDigest(cmd.Context(), &sum)
			}
			if err != nil {
				return err
			}
			if m.json {
				return m.summary(m.out, "", sum)
			}
			_, err = fmt.Fprintln(m.out, sum.Digest)
			return err
		},
	}
	m.flags(cmd)
	return cmd
}

// liveDigest asks the server of the disk.
func (m *mover) liveDigest(ctx context.Context, sum *gefs.Moved) error {
	console, err := dialConsole(ctx, localName(m.disk)+".ctl")
	if err != nil {
		return err
	}
	defer console.Close()
	var b bytes.Buffer
	if err := console.Run(ctx, []string{"--json", "digest", m.label}, &b); err != nil {
		return fmt.Errorf("%s: %w", m.disk, err)
	}
	return json.Unmarshal(b.Bytes(), sum)
}
