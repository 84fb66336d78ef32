package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/blkfmt"
	"gefs9p/check"
)

// A checker checks one disk.
type checker struct {
	disk    string
	keyFile string
	json    bool
	strict  bool
	out     io.Writer
	errw    io.Writer
}

func newCheck() *cobra.Command {
	var c checker
	cmd := &cobra.Command{
		Use:   "check DISK",
		Short: "read all of a disk and say what is wrong with it",
		Long: `Check reads every block of a disk that is in use, file contents included, and compares
everything with everything. It writes nothing. A disk that is being served cannot be checked this
way.

Blocks that are allocated and belong to nobody are leaks: space lost, harmless. 9front's
gefs leaves some. They are reported, and errors with --strict.

The exit code is fsck's: 0 sound, 4 errors were found, 8 the check could not be
done, 16 wrong use.

` + keyHelp,
		Example: `  gefs9p check disk.img
  gefs9p check --json disk.img | jq .counts`,
		Args: oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.disk, c.out, c.errw = args[0], cmd.OutOrStdout(), cmd.ErrOrStderr()
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.json, "json", false, "write the report as JSON")
	f.BoolVar(&c.strict, "strict", false, "leaks are errors")
	f.StringVar(&c.keyFile, "keyfile", "", "the disk's key `FILE`")
	return cmd
}

// run checks the disk. The error is an exitError.
func (c *checker) run(ctx context.Context) error {
	sound, err := c.check(ctx)
	switch {
	case err != nil:
		return &exitError{exitCheckFail, err}
	case !sound:
		return &exitError{exitCheckErrors, nil}
	}
	return nil
}

// check writes the report and says whether the disk is sound.
func (c *checker) check(ctx context.Context) (sound bool, err error) {
	key, err := readKey(c.keyFile)
	if err != nil {
		return false, err
	}
	dev, err := openDisk(c.disk, true)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	size, err := dev.Size()
	if err != nil {
		return false, err
	}
	m := newMeter(c.errw)
	rep, err := check.Run(ctx, dev, size, check.Options{Key: key, Progress: m.show})
	m.clear()
	if err != nil {
		return false, diskError(dev, err)
	}
	if c.json {
		enc := json.NewEncoder(c.out)
		enc.SetIndent("", "\t")
		err = enc.Encode(rep)
	} else {
		err = rep.WriteText(c.out)
	}
	return rep.Clean(c.strict), err
}

// A meter shows on a terminal how far a check is, in one line that is written over again and again.
// On anything else it does nothing. It belongs to the goroutine of the check.
type meter struct {
	w     io.Writer // nil if nobody sees it
	now   func() time.Time
	began time.Time
	last  time.Time // when the line was written
	width int       // of the line
}

const meterPeriod = 200 * time.Millisecond

func newMeter(w io.Writer) *meter {
	m := &meter{now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.w = w
	}
	m.began = m.now()
	return m
}

// show is a check.Options.Progress.
func (m *meter) show(p check.Progress) {
	now := m.now()
	if m.w == nil || now.Sub(m.last) < meterPeriod {
		return
	}
	m.last = now
	m.write(progressLine(p, now.Sub(m.began)))
}

// clear takes the line away.
func (m *meter) clear() {
	if m.width > 0 {
		m.write("")
		fmt.Fprint(m.w, "\r")
	}
}

func (m *meter) write(line string) {
	n := utf8.RuneCountInString(line)
	fmt.Fprintf(m.w, "\r%s%s", line, strings.Repeat(" ", max(m.width-n, 0)))
	m.width = n
}

// progressLine says how far a check is after the time t: pass, part, rate and time left.
func progressLine(p check.Progress, t time.Duration) string {
	const mib = 1 << 20 / blkfmt.BlkSize
	line := fmt.Sprintf("checking %s: %d", p.Pass, p.Read/mib)
	if p.Used > 0 {
		line += fmt.Sprintf(" of %d MiB (%d%%)", p.Used/mib, min(100*p.Read/p.Used, 100))
	} else {
		line += " MiB"
	}
	if t < time.Second || p.Read == 0 {
		return line
	}
	rate := float64(p.Read) / t.Seconds()
	line += fmt.Sprintf(", %.0f MiB/s", rate/mib)
	if left := p.Used - p.Read; left > 0 {
		line += fmt.Sprintf(", %s left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
	}
	return line
}
