package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/blkdev"
	"gefs9p/cons"
	"gefs9p/gefs"
	"gefs9p/snap"
	"gefs9p/stream"
)

// A mover is what send, recv and digest have in common.
type mover struct {
	disk    string
	label   string
	keyFile string
	json    bool
	in      io.Reader
	out     io.Writer
	errw    io.Writer
}

// A sender sends a snapshot.
type sender struct {
	mover
	base   string
	file   string // empty: standard output
	resume string
	follow bool
	have   string // what the disk has that follows
}

func newSend() *cobra.Command {
	var s sender
	cmd := &cobra.Command{
		Use:   "send [-i OLD] DISK|SERVER SNAP | send --follow DISK|SERVER LABEL [TOKEN]",
		Short: "write a snapshot as a stream, whole or as the difference to another",
		Long: `Send writes what the snapshot SNAP holds to standard output, or to a file, as a stream from
which recv makes the same snapshot on another disk: every name, byte, mode, owner, time, qid and
version. With -i it writes only what differs from the snapshot OLD, which the other disk must have, and
reads hardly more than that.

The stream is verified as it is received. It may be cut anywhere. A FILE that holds a part of it is
gone on with when the same command is given again. Over a connection, recv --where says how far it
came, and --resume goes on from there.

A disk that is served is asked on its console, and what is sent stays as it is while others work: a
mutable label is sent as it is at the beginning. SERVER is such a console's socket.

With --follow, LABEL is sent as it is now to a disk that follows: see 'gefs9p help recv'. TOKEN says
what that has.

The last line says the digest of what was sent: of a whole stream it is
the snapshot's own, which 'gefs9p digest' computes on any disk.

` + keyHelp,
		Example: `  gefs9p send -o monday.gefs disk.img monday
  gefs9p send -i monday -o tuesday.gefs disk.img tuesday
  gefs9p send disk.img monday | ssh backup gefs9p recv /dev/sdb1
  gefs9p send --resume "$(ssh backup gefs9p recv --where /dev/sdb1 monday)" disk.img monday |
      ssh backup gefs9p recv /dev/sdb1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if s.follow && len(args) == 3 {
				args = args[:2] // the token may be empty
			}
			return diskAnd("snapshot", true)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s.take(cmd, args)
			if s.follow && (s.base != "" || s.file != "" || s.resume != "") {
				return usagef("--follow finds out by itself what to send: leave -i, -o and --resume out")
			}
			if len(args) == 3 {
				s.have = args[2]
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.base, "base", "i", "", "send only what differs from the snapshot `OLD`")
	f.StringVarP(&s.file, "output", "o", "", "write to `FILE`, behind the part of the stream that it has")
	f.StringVar(&s.resume, "resume", "", "go on where recv --where says, `TOKEN`; empty for the beginning")
	f.BoolVar(&s.follow, "follow", false, "send what LABEL is now to a disk that has what TOKEN says")
	s.flags(cmd)
	return cmd
}

// diskAnd is what a command's Args are if it takes a disk, and behind it something that may be optional.
func diskAnd(what string, must bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for _, a := range args {
			if a == "" {
				return errors.New("a name is empty")
			}
		}
		switch n := len(args); {
		case n == 0:
			return errors.New("no disk named")
		case n == 1 && must:
			return fmt.Errorf("no %s named", what)
		case n > 2:
			return fmt.Errorf("a disk and a %s are wanted, not %d arguments: %q is too many", what, n, args[2])
		}
		return nil
	}
}

func (m *mover) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&m.json, "json", false, "write the summary as JSON")
	f.StringVar(&m.keyFile, "keyfile", "", "the disk's key `FILE`")
}

func (m *mover) take(cmd *cobra.Command, args []string) {
	m.disk, m.in, m.out, m.errw = args[0], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if len(args) > 1 {
		m.label = args[1]
	}
}

// with opens the disk for as long as f runs. What f does is on the disk when with returns nil.
func (m *mover) with(readOnly bool, f func(fsys *gefs.FS) error) (err error) {
	key, err := readKey(m.keyFile)
	if err != nil {
		return err
	}
	dev, err := openDisk(m.disk, readOnly)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dev.Close(); err == nil {
			err = cerr
		}
	}()
	fsys, err := gefs.Open(dev, gefs.Options{Key: key, ReadOnly: readOnly, Permissive: true})
	if err != nil {
		return diskError(dev, err)
	}
	err = f(fsys)
	if cerr := fsys.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("%s: %w", m.disk, cerr)
	}
	return m.explain(dev, err)
}

// explain puts the disk's name before an error, and says what to do.
func (m *mover) explain(dev disk, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, snap.ErrNoLabel):
		return fmt.Errorf("%s: %w (gefs9p salvage --list --all %s shows the snapshots there are)", dev.Path(), err, dev.Path())
	case errors.As(err, new(*outError)):
		return err
	}
	return fmt.Errorf("%s: %w", dev.Path(), err)
}

// summary writes what was moved to w.
func (m *mover) summary(w io.Writer, what string, sum gefs.Moved) error {
	if m.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "\t")
		return enc.Encode(sum)
	}
	from := ""
	if sum.Base != "" {
		from = " from " + sum.Base
	}
	_, err := fmt.Fprintf(w, "%s: %s%s, %d changes, %d bytes, digest %v\n", what, sum.Label, from, sum.Changes, sum.Bytes, sum.Digest)
	return err
}

func (s *sender) run(ctx context.Context) error {
	opt := gefs.SendOptions{Snap: s.label, Base: s.base}
	if s.resume != "" {
		if s.file != "" {
			return usagef("--resume is for a connection: a file says itself how far it is")
		}
		at, err := stream.ParseToken(s.resume)
		if err != nil {
			return usagef("--resume: %w", err)
		}
		opt.From = &at
	}
	if s.file != "" {
		return s.toFile(ctx, opt)
	}
	if f, ok := s.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usagef("a stream is nothing for a terminal: send it to a file with -o, or through a pipe")
	}
	sum, err := s.send(ctx, s.out, opt)
	if err != nil || s.follow && sum.Already {
		return err
	}
	return s.summary(s.errw, "sent", sum)
}

// send sends to w.
func (s *sender) send(ctx context.Context, w io.Writer, opt gefs.SendOptions) (sum gefs.Moved, err error) {
	m := newMeter(s.errw)
	defer m.clear()
	opt.Progress = func(p gefs.Moved) { m.showMoved("sending", p) }
	w = outlets{w}
	if info, serr := os.Stat(s.disk); serr == nil && info.Mode()&fs.ModeSocket != 0 {
		return s.live(ctx, s.disk, w, opt)
	}
	err = s.with(!s.follow, func(fsys *gefs.FS) (err error) {
		if s.follow {
			h, err := gefs.ParseHaving(s.have)
			if err == nil {
				sum, err = fsys.SendLatest(ctx, w, opt.Snap, h, opt.Progress)
			}
			return err
		}
		sum, err = fsys.Send(ctx, w, opt)
		return err
	})
	var locked *blkdev.LockedError
	if errors.As(err, &locked) {
		path := localName(s.disk) + ".ctl"
		if _, serr := os.Stat(path); serr == nil {
			return s.live(ctx, path, w, opt)
		}
	}
	return sum, err
}

// live has the server send whose console's socket path is.
func (s *sender) live(ctx context.Context, path string, w io.Writer, opt gefs.SendOptions) (gefs.Moved, error) {
	console, err := dialConsole(ctx, path)
	if err != nil {
		return gefs.Moved{}, err
	}
	defer console.Close()
	words := []string{"send"}
	switch {
	case s.follow:
		words = append(words, "-f", opt.Snap, s.have)
	default:
		if opt.Base != "" {
			words = append(words, "-i", opt.Base)
		}
		if opt.From != nil {
			words = append(words, "-r", opt.From.Token())
		}
		if opt.Append {
			words = append(words, "-a")
		}
		words = append(words, opt.Snap)
	}
	in := &cons.StreamReader{W: w}
	err = console.Run(ctx, words, in)
	var failure cons.Failure
	switch {
	case errors.As(err, &failure) && strings.Contains(string(failure), gefs.ErrOtherPart.Error()):
		err = gefs.ErrOtherPart
	case errors.As(err, &failure):
		err = fmt.Errorf("%s: %w", s.disk, err)
	}
	return in.Sum, err
}

// outlets is a Writer whose errors are outErrors.
type outlets struct{ w io.Writer }

func (o outlets) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		err = &outError{fmt.Errorf("write the stream: %w", pathError(err))}
	}
	return n, err
}

// toFile sends to the file, behind what it has of the stream.
func (s *sender) toFile(ctx context.Context, opt gefs.SendOptions) (err error) {
	made := false
	f, err := os.OpenFile(s.file, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		f, err = os.OpenFile(s.file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return pathError(err)
	}
	defer f.Close()
	at, off, whole, err := partOf(f)
	if err != nil {
		return fmt.Errorf("%s: %w; name another file, or remove it", s.file, err)
	}
	if off > 0 {
		opt.From, opt.Append = &at, true
	}
	if whole { // is it what is to be sent?
		opt.Append = false
		if _, err := s.send(ctx, io.Discard, opt); err != nil {
			return s.other(err)
		}
		_, err := fmt.Fprintf(s.out, "%s has all of it already\n", s.file)
		return err
	}
	if err := f.Truncate(off); err != nil {
		return pathError(err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return pathError(err)
	}
	sum, err := s.send(ctx, f, opt)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		if info, serr := os.Stat(s.file); made && serr == nil && info.Size() == 0 {
			os.Remove(s.file)
		}
		return s.other(err)
	}
	return s.summary(s.out, "sent", sum)
}

// other says that the file holds something else, if that is what err says.
func (s *sender) other(err error) error {
	if errors.Is(err, gefs.ErrOtherPart) {
		return fmt.Errorf("%s: holds another stream; name another file, or remove it", s.file)
	}
	return err
}

// partOf returns how far the stream in f has come, where its last whole frame ends, and whether it is whole.
// Of an empty file all is zero.
func partOf(f *os.File) (at stream.Mark, off int64, whole bool, err error) {
	r, err := stream.NewReader(f)
	if errors.Is(err, stream.ErrCut) {
		return at, 0, false, nil
	}
	if err != nil {
		return at, 0, false, err
	}
	if r.Header.From.N > 0 {
		return at, 0, false, errors.New("it holds a later part of a stream")
	}
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF && !errors.Is(err, stream.ErrCut) {
		return at, 0, false, err
	}
	return stream.Mark{ID: r.Header.ID(), Place: r.Place()}, r.Off(), err == io.EOF, nil
}

// showMoved shows how much was moved.
func (m *meter) showMoved(what string, p gefs.Moved) {
	now := m.now()
	if m.w == nil || now.Sub(m.last) < meterPeriod {
		return
	}
	m.last = now
	line := fmt.Sprintf("%s %s: %d MiB", what, p.Label, p.Bytes>>20)
	if t := now.Sub(m.began); t >= time.Second {
		line += fmt.Sprintf(", %.0f MiB/s", float64(p.Bytes)/(1<<20)/t.Seconds())
	}
	m.write(line)
}
