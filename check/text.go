package check

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gefs9p/blkfmt"
)

// WriteText writes the report for people: what is wrong, worst first, then what there is. It
// returns the error of w.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%v: %s: ", p.Severity, p.Kind)
		if p.Addr != blkfmt.NoAddr {
			fmt.Fprintf(&b, "%s block at %v: ", p.Block, p.Addr)
		}
		b.WriteString(p.Text)
		b.WriteByte('\n')
		for _, path := range p.Paths {
			fmt.Fprintf(&b, "\t%s\n", printable(path))
		}
		if p.MorePaths > 0 {
			fmt.Fprintf(&b, "\tand %d more\n", p.MorePaths)
		}
	}
	shown := map[Kind]int{}
	for _, p := range r.Problems {
		shown[p.Kind]++
	}
	for _, p := range r.Problems {
		if n := r.ByKind[p.Kind] - shown[p.Kind]; n > 0 {
			fmt.Fprintf(&b, "%v: %s: %d more\n", p.Severity, p.Kind, n)
			shown[p.Kind] += n
		}
	}
	if r.Opening != "" {
		fmt.Fprintf(&b, "opening the disk: %s\n", r.Opening)
	}
	if r.Version != "" {
		c := r.Counts
		fmt.Fprintf(&b, "%s, commit %d, %d arenas, %d snapshots\n", r.Version, r.Qgen, len(r.Arenas), len(r.Snaps))
		fmt.Fprintf(&b, "%d blocks of %d: %d used, %d free\n", c.Total, blkfmt.BlkSize, c.Used, c.Free)
		fmt.Fprintf(&b, "used: %d data, %d leaves, %d pivots, %d snapshot tree, %d log, %d deadlists, %d dead, %d leaked\n",
			c.Data, c.Leaves, c.Pivots, c.SnapNodes, c.Log, c.Deadlist, c.Dead, c.Leaked)
	}
	fmt.Fprintf(&b, "%d fatal, %d errors, %d leaks, %d notes\n", r.Found[Fatal], r.Found[Error], r.Found[Leak], r.Found[Note])
	_, err := io.WriteString(w, b.String())
	return err
}

// printable returns s, quoted if a terminal would not show it as it is.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
