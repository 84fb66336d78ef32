package cli

import (
	"context"
	"encoding/json"
	"errors"
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
	"gefs9p/gefs"
)

// A checker checks one disk.
type checker struct {
	disk    string
	keyFile string
	json    bool
	strict  bool
	repair  bool
	out     io.Writer
	errw    io.Writer
}

func newCheck() *cobra.Command {
	var c checker
	cmd := &cobra.Command{
		Use:   "check DISK",
		Short: "read all of a disk and say what is wrong with it",
		Long: `Check reads every block of a disk that is in use, file contents included, and compares
everything with everything. It writes nothing. A disk that is being served is checked on its console:
gefs9p ctl -s DISK check.

Blocks that are allocated and belong to nobody are leaks: space lost, harmless. 9front's
gefs leaves some. They are reported, and errors with --strict.

With --repair it then does what is safe: gives leaked blocks back, makes damaged copies of superblocks
and arena headers good, finds the free ranges of an arena again whose log is damaged, and corrects
the numbers of labels and references of snapshots. It refuses if blocks are used twice or in use and
free. Files are not repaired: nothing is invented. What was damaged before is reported first, what
is left after that.

The exit code is fsck's: 0 sound, 1 repaired and sound now, 4 errors are left, 8 the check could not be
done, 16 wrong use.

` + keyHelp,
		Example: `  gefs9p check disk.img
  gefs9p check --json disk.img | jq .counts
  gefs9p check --repair disk.img`,
		Args: oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.disk, c.out, c.errw = args[0], cmd.OutOrStdout(), cmd.ErrOrStderr()
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.json, "json", false, "write the report as JSON")
	f.BoolVar(&c.strict, "strict", false, "leaks are errors")
	f.BoolVar(&c.repair, "repair", false, "repair what can be repaired safely, and check again")
	f.StringVar(&c.keyFile, "keyfile", "", "the disk's key `FILE`")
	return cmd
}

// run checks the disk. The error is an exitError.
func (c *checker) run(ctx context.Context) error {
	sound, repaired, err := c.check(ctx)
	switch {
	case errors.Is(err, gefs.ErrNoRepair):
		return &exitError{exitCheckErrors, err}
	case err != nil:
		return &exitError{exitCheckFail, err}
	case !sound:
		return &exitError{exitCheckErrors, nil}
	case repaired:
		return &exitError{exitCheckRepaired, nil}
	}
	return nil
}

// check writes the report, repairs if that is asked for, and says whether the disk is sound and whether it
// has written to it.
func (c *checker) check(ctx context.Context) (sound, repaired bool, err error) {
	key, err := readKey(c.keyFile)
	if err != nil {
		return false, false, err
	}
	dev, err := openDisk(c.disk, !c.repair)
	if err != nil {
		return false, false, err
	}
	defer dev.Close()
	rep, err := c.read(ctx, dev, key)
	if err != nil {
		return false, false, err
	}
	if !c.repair {
		return rep.Clean(c.strict), false, c.print(rep)
	}
	if !c.json { // whatever becomes of the repair
		if err := c.print(rep); err != nil {
			return false, false, err
		}
	}
	done, err := gefs.Repair(ctx, dev, gefs.Options{Key: key}, rep)
	if err != nil {
		return false, done.Any(), fmt.Errorf("%s: %w", c.disk, err)
	}
	before := rep
	if done.Any() {
		if rep, err = c.read(ctx, dev, key); err != nil {
			return false, true, err
		}
	}
	if c.json {
		err = c.encode(struct {
			Before   *check.Report `json:"before"`
			Repaired gefs.Repaired `json:"repaired"`
			After    *check.Report `json:"after"`
		}{before, done, rep})
	} else if _, err = fmt.Fprint(c.out, repairText(done)); err == nil && done.Any() {
		err = c.print(rep)
	}
	return rep.Clean(c.strict), done.Any(), err
}

// read checks the disk and shows how far it is.
func (c *checker) read(ctx context.Context, dev disk, key *[blkfmt.KeySize]byte) (*check.Report, error) {
	size, err := dev.Size()
	if err != nil {
		return nil, err
	}
	m := newMeter(c.errw)
	rep, err := check.Run(ctx, dev, size, check.Options{Key: key, Progress: m.show})
	m.clear()
	if err != nil {
		return nil, diskError(dev, err)
	}
	return rep, nil
}

func (c *checker) print(rep *check.Report) error {
	if c.json {
		return c.encode(rep)
	}
	return rep.WriteText(c.out)
}

func (c *checker) encode(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "\t")
	return enc.Encode(v)
}

// repairText says what a repair has done, a line for each thing.
func repairText(r gefs.Repaired) string {
	var b strings.Builder
	if !r.Any() {
		return "repair: nothing that can be repaired safely\n"
	}
	if r.Freed > 0 {
		fmt.Fprintf(&b, "repaired: %d leaked blocks are free\n", r.Freed)
	}
	if r.Copies > 0 {
		fmt.Fprintf(&b, "repaired: %d superblocks and arena headers, from their other copies\n", r.Copies)
	}
	for _, i := range r.Rebuilt {
		fmt.Fprintf(&b, "repaired: the free ranges of arena %d, from all trees\n", i)
	}
	if r.Counts {
		b.WriteString("repaired: the numbers of labels and references of snapshots\n")
	}
	if r.Quotas {
		b.WriteString("repaired: what was counted wrongly for quotas is forgotten; who serves the disk counts anew\n")
	}
	return b.String()
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
