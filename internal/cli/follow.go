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
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gefs9p/gefs"
	"gefs9p/stream"
)

// followTell is for how long the same failure is said once.
const followTell = time.Minute

// A follower keeps a disk seconds behind another.
type follower struct {
	mover
	labels  []string
	every   time.Duration
	command []string // prints what send --follow prints, with the label and the token behind it

	told   string // the failure that was said last
	toldAt time.Time
}

// run follows until ctx ends or a signal comes.
func (f *follower) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return f.with(false, func(fsys *gefs.FS) error {
		for {
			for _, label := range f.labels {
				sum, err := f.once(ctx, fsys, label)
				switch {
				case ctx.Err() != nil:
					return nil
				case fsys.Err() != nil:
					return fmt.Errorf("follow %s: %w", label, errors.Join(err, fsys.Err()))
				case errors.Is(err, gefs.ErrFull):
					return err // it will not get better by itself
				case err != nil:
					f.tell(label, err)
				case !sum.Already:
					f.told = ""
					if err := f.line(sum); err != nil {
						return err
					}
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(f.every):
			}
		}
	})
}

// line says what was received, in one line.
func (f *follower) line(sum gefs.Moved) error {
	if f.json {
		return json.NewEncoder(f.out).Encode(sum)
	}
	return f.summary(f.out, "received", sum)
}

// tell says why a round has failed; the next may not.
func (f *follower) tell(label string, err error) {
	text := oneLine(err.Error())
	if now := time.Now(); text != f.told || now.Sub(f.toldAt) > followTell {
		f.told, f.toldAt = text, now
		fmt.Fprintf(f.errw, "gefs9p: follow %s: %s; trying again\n", label, text)
	}
}

// once receives what there is to be received of the label. Moved.Already is set if that is nothing.
func (f *follower) once(ctx context.Context, fsys *gefs.FS, label string) (sum gefs.Moved, err error) {
	have, err := fsys.Have(label)
	if err != nil {
		return sum, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := append(append([]string{}, f.command[1:]...), label, have.Token())
	cmd := exec.CommandContext(ctx, f.command[0], args...)
	var said bytes.Buffer
	cmd.Stderr = &lastBytes{b: &said}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return sum, err
	}
	in := bufio.NewReaderSize(out, 1<<20)
	_, empty := in.Peek(1)
	if empty == nil {
		sum, err = fsys.Follow(ctx, in, label, nil)
	}
	if err == nil {
		io.Copy(io.Discard, in) // to its end, or Wait would fail
	} else {
		cancel()
	}
	werr := cmd.Wait()
	switch {
	case err != nil && !errors.Is(err, stream.ErrCut):
		return sum, err
	case werr != nil:
		return sum, fmt.Errorf("%s: %w: %s", f.command[0], werr, strings.TrimSpace(said.String()))
	case err != nil:
		return sum, err
	}
	sum.Already = sum.Already || empty != nil
	return sum, nil
}

// A lastBytes keeps the last bytes that are written to it.
type lastBytes struct{ b *bytes.Buffer }

func (l *lastBytes) Write(p []byte) (int, error) {
	const most = 2000
	l.b.Write(p)
	if n := l.b.Len(); n > most {
		l.b.Next(n - most)
	}
	return len(p), nil
}

func newPromote() *cobra.Command {
	var m mover
	cmd := &cobra.Command{
		Use:   "promote DISK",
		Short: "make a disk that followed another take its place",
		Long: `Promote makes every label that was followed ('gefs9p recv --follow') what was received of it last,
at once and whatever its size. What it was before keeps the name LABEL@before.TIME. Then the disk can
be served in the place of the one that it followed; what that one had not sent yet is lost.

End recv --follow first.

` + keyHelp,
		Example: `  gefs9p promote standby.img && gefs9p serve standby.img`,
		Args:    oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			m.take(cmd, args)
			var list []gefs.Promoted
			err := m.with(false, func(fsys *gefs.FS) (err error) {
				list, err = fsys.Promote(cmd.Context(), time.Now().UTC().Format("2006.01.02_15:04:05"))
				return err
			})
			if err != nil {
				return err
			}
			if m.json {
				enc := json.NewEncoder(m.out)
				enc.SetIndent("", "\t")
				return enc.Encode(list)
			}
			for _, p := range list {
				fmt.Fprintf(m.out, "promoted: %s is %s; before it was %s\n", p.Label, p.From, p.Keep)
			}
			return nil
		},
	}
	m.flags(cmd)
	return cmd
}
