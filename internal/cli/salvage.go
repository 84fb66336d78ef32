package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gefs9p/blkfmt"
	"gefs9p/nbd"
	"gefs9p/salvage"
)

// A salvager salvages one disk.
type salvager struct {
	disk    string
	out     string // empty: only report
	size    int64  // of a new disk in out; 0: it is a directory, or a disk that is there
	label   string
	all     bool
	list    bool
	json    bool
	keyFile string
	w       io.Writer
	errw    io.Writer
}

// An outlet is a salvage.Sink that is closed at the end.
type outlet interface {
	salvage.Sink
	// Close makes everything durable. With ok false the run has failed.
	Close(ok bool) error
	// Notes says what has become otherwise than it was on the disk.
	Notes() []string
}

func newSalvage() *cobra.Command {
	var s salvager
	var size sizeFlag
	cmd := &cobra.Command{
		Use:   "salvage DISK OUT",
		Short: "copy all that can be read from a damaged disk",
		Long: `Salvage copies files from a disk that cannot be served any more: superblocks, arena
headers, logs or nodes of its trees may be gone. If something is missing it reads the whole
disk for what hung from it. It writes nothing to DISK.

OUT is a directory, which is made and must be empty, or a disk: with --size a new image, without,
an empty partition or file that is there. A directory gets one folder for each label and
manifest.jsonl, a line for each file with its owner, mode, times and state. Owners are set
if root runs it and the host has users of these names. Names the host cannot hold get %XX for
a byte. A disk is made for it, with the users of the old one.

Every file is whole, or it is listed: "unsure" is complete, but changes may be missing as
a node above it is lost; "damaged" lacks parts, which are listed and read as zeros. What has
lost its directory or its name is in lost+found under its qid.

Without --label and --all the mutable labels are copied: main, adm (the users), and forks.

The exit code is like fsck's: 0 everything is there and whole, 4 something is lost or
uncertain, 8 it could not be done, 16 wrong use.

` + keyHelp,
		Example: `  gefs9p salvage --list disk.img                  what would be saved? writes nothing
  gefs9p salvage disk.img saved                   into the directory saved
  gefs9p salvage --label main /dev/sdb1 saved     only main
  gefs9p salvage --size 100G /dev/sdb1 new.img    onto a new gefs disk
  gefs9p salvage --list --json disk.img | jq '.files[] | select(.status == "damaged")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch want := 2; {
			case s.list && len(args) == 1 || !s.list && len(args) == want:
			case s.list:
				return fmt.Errorf("--list wants one disk, and no place to write to")
			default:
				return fmt.Errorf("a disk and a place to write to are wanted, not %d arguments", len(args))
			}
			for _, a := range args {
				if a == "" {
					return errors.New("a name is empty")
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s.disk, s.size, s.w, s.errw = args[0], int64(size), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if !s.list {
				s.out = args[1]
			}
			if s.label != "" && s.all {
				return usagef("--label and --all exclude each other")
			}
			if s.list && s.size != 0 {
				return usagef("--list makes no disk: leave --size out")
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.label, "label", "", "only the label `NAME`")
	f.BoolVar(&s.all, "all", false, "snapshots that do not change, too")
	f.BoolVar(&s.list, "list", false, "only read, and report")
	f.BoolVar(&s.json, "json", false, "write the report as JSON")
	f.Var(&size, "size", "make OUT a disk of SIZE bytes (suffixes K M G T)")
	f.StringVar(&s.keyFile, "keyfile", "", "the damaged disk's key `FILE`")
	return cmd
}

// run salvages. The error is an exitError, or about the use of the command.
func (s *salvager) run(ctx context.Context) error {
	whole, err := s.salvage(ctx)
	switch {
	case err != nil:
		return &exitError{exitCheckFail, err}
	case !whole:
		return &exitError{exitCheckErrors, nil}
	}
	return nil
}

// salvage writes the report and says whether everything was saved as it was.
func (s *salvager) salvage(ctx context.Context) (whole bool, err error) {
	key, err := readKey(s.keyFile)
	if err != nil {
		return false, err
	}
	dev, err := openDisk(s.disk, true)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	size, err := dev.Size()
	if err != nil {
		return false, err
	}
	var out outlet
	opt := salvage.Options{Key: key, Label: s.label, All: s.all}
	if !s.list {
		if out, err = s.open(ctx); err != nil {
			return false, err
		}
		opt.Sink = out
	}
	m := newMeter(s.errw)
	opt.Progress = func(p salvage.Progress) { m.showSalvage(p) }
	rep, err := salvage.Run(ctx, dev, size, opt)
	m.clear()
	var notes []string
	if out != nil {
		if cerr := out.Close(err == nil); err == nil && cerr != nil {
			return false, fmt.Errorf("%s: %w", s.out, cerr)
		}
		notes = out.Notes()
	}
	if err != nil {
		return false, s.explain(dev, err)
	}
	rep.Notes = append(rep.Notes, notes...)
	if s.json {
		enc := json.NewEncoder(s.w)
		enc.SetIndent("", "\t")
		err = enc.Encode(rep)
	} else {
		err = rep.WriteText(s.w)
	}
	return rep.Whole() && len(notes) == 0, err
}

// explain says what to do about the error of a run.
func (s *salvager) explain(dev disk, err error) error {
	switch {
	case errors.Is(err, salvage.ErrNoLabel):
		return fmt.Errorf("%s: %w (gefs9p salvage --list --all shows those there are)", s.disk, err)
	case errors.Is(err, salvage.ErrNothing):
		return fmt.Errorf("%s: %w: not one node of a tree was recognized", s.disk, err)
	case errors.Is(err, blkfmt.ErrNoKey), errors.Is(err, blkfmt.ErrForeignKey):
		return fmt.Errorf("%s: %w", s.disk, err)
	case s.out != "" && errors.As(err, new(*outError)):
		return err
	}
	return diskError(dev, err)
}

// An outError is a failure of the place that is written to.
type outError struct{ err error }

func (e *outError) Error() string { return e.err.Error() }
func (e *outError) Unwrap() error { return e.err }

// open looks at OUT, and refuses what it is not good for. A disk is only made when there is something to
// put on it.
func (s *salvager) open(ctx context.Context) (outlet, error) {
	if nbd.IsAddress(s.out) {
		return newDiskOutlet(ctx, s.out, s.size)
	}
	info, err := os.Stat(s.out)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, pathError(err)
	case err == nil && info.IsDir() && s.size != 0:
		return nil, fmt.Errorf("%s: is a directory; --size is for a disk", s.out)
	case s.size == 0 && (err != nil || info.IsDir()):
		return newFolder(s.out)
	}
	return newDiskOutlet(ctx, s.out, s.size)
}

// showSalvage is a salvage.Options.Progress.
func (m *meter) showSalvage(p salvage.Progress) {
	now := m.now()
	if m.w == nil || now.Sub(m.last) < meterPeriod {
		return
	}
	if p.Read == 0 {
		m.began = now // of this pass
	}
	m.last = now
	m.write(salvageLine(p, now.Sub(m.began)))
}

// salvageLine says how far a pass is that has taken the time t: part, rate and time left.
func salvageLine(p salvage.Progress, t time.Duration) string {
	const mib = 1 << 20 / blkfmt.BlkSize
	line := fmt.Sprintf("salvage, %s: %d", p.Pass, p.Read/mib)
	if p.All == 0 {
		line += " MiB"
	} else {
		line += fmt.Sprintf(" of %d MiB (%d%%)", p.All/mib, min(100*p.Read/p.All, 100))
	}
	if t < time.Second || p.Read == 0 {
		return line
	}
	rate := float64(p.Read) / t.Seconds()
	line += fmt.Sprintf(", %.0f MiB/s", rate/mib)
	if left := p.All - p.Read; left > 0 {
		line += fmt.Sprintf(", %s left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
	}
	return line
}
