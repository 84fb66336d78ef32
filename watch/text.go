package watch

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// size is a number of bytes for people, in powers of 1024.
func size(n int64) string {
	v, i := float64(n), 0
	for math.Abs(v) >= 1023.5 && i < 6 {
		v /= 1024
		i++
	}
	return figures(v, i == 0) + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[i]
}

// count is a number of things for people.
func count(v float64) string {
	i := 0
	for math.Abs(v) >= 9999.5 && i < 3 {
		v /= 1000
		i++
	}
	return figures(v, i == 0 && (v == math.Trunc(v) || v >= 10)) + [...]string{"", " k", " M", " G"}[i]
}

// figures is a number with three figures, or without a fraction.
func figures(v float64, whole bool) string {
	a := math.Abs(v)
	switch {
	case whole || a >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// percent is a share for people.
func percent(part, all float64) string {
	if all <= 0 {
		return "–"
	}
	p := 100 * part / all
	if p > 0 && p < 0.1 {
		return "< 0.1 %"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + " %"
}

// short is a time that something took.
func short(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s == 0:
		return "0"
	case s < 1e-3:
		return figures(s*1e6, false) + " µs"
	case s < 1:
		return figures(s*1e3, false) + " ms"
	case s < 120:
		return figures(s, false) + " s"
	}
	return long(d)
}

// long is a time in which things happen, in its largest unit or two.
func long(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// marksShown is how many marks may stand on one letter. No script needs more; with many they cover other lines.
const marksShown = 2

// plain spells out the runes of a text that do not show, or change how others are shown. Bytes that are no
// UTF-8 are spelled out too.
func plain(s string) string {
	var b strings.Builder
	marks := marksShown // a mark at the beginning would be on what stands before
	for i, r := range s {
		if !unicode.Is(unicode.Mn, r) {
			marks = 0
		} else {
			marks++
		}
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && marks <= marksShown:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}
