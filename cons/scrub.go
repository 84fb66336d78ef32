package cons

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
)

func scrubCommands() []Command {
	return []Command{
		{Name: "scrub", Args: "[status | start [rate] | stop | wait]", max: 2, run: (*call).scrub,
			Help: "read every block in use from the disk, slowly and in the background, and say what is damaged",
			Long: "start begins, or goes on with what was stopped; rate is in bytes a second, with K, M or G behind it,\n" +
				"20M at first. stop stops in its place. The place is kept on the disk: a scrub goes on after a\n" +
				"restart. Superblocks and arena headers, which are there twice, are healed. wait returns when it has\n" +
				"ended, and fails if a block is damaged and was not healed."},
	}
}

// scrubPoll is how often wait looks.
const scrubPoll = 100 * time.Millisecond

func (k *call) scrub() error {
	what := "status"
	if len(k.args) > 0 {
		what = k.args[0]
	}
	switch {
	case what == "start":
		rate := int64(0)
		if len(k.args) == 2 {
			var ok bool
			if rate, ok = parseRate(k.args[1]); !ok {
				return k.misuse()
			}
		}
		if _, err := k.FS.StartScrub(rate); err != nil {
			return err
		}
		k.did = true
	case len(k.args) == 2:
		return k.misuse()
	case what == "stop":
		if !k.FS.StopScrub() {
			return fmt.Errorf("there is no scrub under way")
		}
		k.did = true
	case what == "wait":
		for k.FS.Scrub().State == gefs.ScrubRunning {
			select {
			case <-time.After(scrubPoll):
			case <-k.ctx.Done():
				return k.ctx.Err()
			}
		}
		st := k.FS.Scrub()
		if err := k.scrubStatus(st); err != nil {
			return err
		}
		if st.Bad > st.Healed {
			return ErrReported
		}
		return nil
	case what != "status":
		return k.misuse()
	}
	return k.scrubStatus(k.FS.Scrub())
}

// parseRate reads a number of bytes, with K, M or G for multiples of 1024.
func parseRate(s string) (int64, bool) {
	digits, shift := s, 0
	if i := strings.IndexAny(s, "KMGkmg"); i >= 0 && i == len(s)-1 {
		shift = map[byte]int{'k': 10, 'm': 20, 'g': 30}[s[i]|0x20]
		digits = s[:i]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return int64(n << shift), err == nil && n > 0
}

func (k *call) scrubStatus(st gefs.ScrubStatus) error {
	var b strings.Builder
	stamp := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
	done := percent(min(st.Read, st.Used), st.Used)
	switch st.State {
	case gefs.ScrubRunning, gefs.ScrubPaused:
		fmt.Fprintf(&b, "scrub: %s, %s of about %s (%.0f%%), %s/s", st.State, scaled(st.Read), scaled(st.Used), done, scaled(st.Rate))
		if left := st.Used - st.Read; left > 0 && st.State == gefs.ScrubRunning {
			fmt.Fprintf(&b, ", %v left", (time.Duration(left/st.Rate) * time.Second))
		}
		fmt.Fprintf(&b, "\nbegan:\t%s\n", stamp(st.Began))
	default:
		fmt.Fprintf(&b, "scrub: %s\n", st.State)
	}
	if st.Waiting != "" {
		fmt.Fprintf(&b, "waiting:\t%s\n", oneLine(st.Waiting))
	}
	if !st.Ended.IsZero() {
		fmt.Fprintf(&b, "ended:\t%s\n", stamp(st.Ended))
	}
	if !st.Began.IsZero() {
		fmt.Fprintf(&b, "read:\t%d (%s)\ndamaged:\t%d\nhealed:\t%d\n", st.Read, scaled(st.Read), st.Bad, st.Healed)
	}
	for _, p := range st.Problems {
		fmt.Fprintf(&b, "%v: %s: ", p.Severity, p.Kind)
		if p.Addr != blkfmt.NoAddr {
			fmt.Fprintf(&b, "%s block at %v: ", p.Block, p.Addr)
		}
		fmt.Fprintf(&b, "%s\n", oneLine(p.Text))
		for _, path := range p.Paths {
			fmt.Fprintf(&b, "\t%s\n", oneLine(path))
		}
		if p.MorePaths > 0 {
			fmt.Fprintf(&b, "\tand %d more\n", p.MorePaths)
		}
	}
	return k.answer(st, "%s", b.String())
}
