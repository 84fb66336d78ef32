package watch

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"gefs9p/ninep"
)

func TestNumbersForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{size(0), "0 B"}, {size(1023), "1023 B"}, {size(1024), "1 KiB"}, {size(1536), "1.5 KiB"},
		{size(1<<20 - 1), "1 MiB"}, {size(167 << 20), "167 MiB"}, {size(10 << 40), "10 TiB"}, {size(-2048), "-2 KiB"}, {size(1 << 62), "4 EiB"},
		{count(0), "0"}, {count(7), "7"}, {count(0.25), "0.2"}, {count(9999), "9999"}, {count(12345), "12.3 k"}, {count(2.5e6), "2500 k"},
		{percent(1, 3), "33.3 %"}, {percent(0, 0), "–"}, {percent(1, 1e6), "< 0.1 %"}, {percent(0, 5), "0.0 %"},
		{short(0), "0"}, {short(1500), "1.5 µs"}, {short(20 * time.Millisecond), "20 ms"}, {short(90 * time.Second), "90 s"}, {short(time.Hour), "60 min"},
		{long(-1), "0 s"}, {long(3 * time.Hour), "3 h"}, {long(100 * time.Hour), "4 d"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestPlainShowsWhatDoesNotShow(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"main@day", "main@day"}, {"Grüße 世界", "Grüße 世界"}, {"a\nb\tc", `a\u000ab\u0009c`},
		{"x\u202egnp.exe", `x\u202egnp.exe`}, {"a\u200bb", `a\u200bb`}, {"bad\xff", `bad\xff`}, {"\uFFFD", "\uFFFD"},
		{"e\u0301\u0308", "e\u0301\u0308"}, {"e\u0301\u0301\u0301a\u0301", "e\u0301\u0301\\u0301a\u0301"}, {"\u0301", `\u0301`}, {"हिन्दी", "हिन्दी"}, {"\x00", `\u0000`}, {"\U000e0041", `\U000e0041`}, {"a\u00a0b", `a\u00a0b`},
	} {
		if got := plain(tt.in); got != tt.want {
			t.Errorf("%q is shown as %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNamesSayWhenASnapshotWasMade(t *testing.T) {
	for _, tt := range []struct{ name, kind, made string }{
		{"main@minute.2026.01.31_23:59:00", "minute", "2026-01-31 23:59"},
		{"a@b@day.2026.01.31_00:00:00", "day", "2026-01-31 00:00"},
		{"main@before.2026.01.31_12:30:00", "by hand", "2026-01-31 12:30"},
		{"main@day", "by hand", ""}, {"@", "by hand", ""}, {"main@day.yesterday", "by hand", ""}, {"day.2026.01.31_00:00:00", "by hand", ""},
	} {
		kind, at := madeAt(tt.name)
		s := snapshot{Made: at}
		if kind != tt.kind || s.made() != tt.made {
			t.Errorf("%s: %s, made %q", tt.name, kind, s.made())
		}
	}
}

func TestQuantiles(t *testing.T) {
	var took [ninep.TimeBuckets]uint64
	if q := quantile(&took, 0.5); q != 0 {
		t.Errorf("of nothing, half are below %v", q)
	}
	took[3], took[10] = 90, 10
	for _, tt := range []struct {
		q      float64
		bucket int
	}{{0.01, 3}, {0.5, 3}, {0.9, 3}, {0.91, 10}, {0.99, 10}, {1, 10}} {
		got := quantile(&took, tt.q)
		if got < ninep.TimeBound(tt.bucket-1) || got > ninep.TimeBound(tt.bucket) {
			t.Errorf("a share of %v is below %v, want a time of class %d", tt.q, got, tt.bucket)
		}
	}
	took = [ninep.TimeBuckets]uint64{ninep.TimeBuckets - 1: 1}
	if q := quantile(&took, 0.5); q != ninep.TimeBound(ninep.TimeBuckets-2) {
		t.Errorf("what took longer than all bounds is below %v", q)
	}
}

// TestBinsShareOutWhatHappened: what the samples count is in the bins, each request once, also where samples are late.
func TestBinsShareOutWhatHappened(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 3, 0, time.UTC)
	var list []sample
	n := uint64(0)
	for at := now.Add(-11 * time.Minute); !at.After(now); at = at.Add(time.Second) {
		if s := at.Second(); s >= 20 && s < 33 {
			n += 10
			continue // a hole: nobody could take a sample
		}
		list = append(list, sample{at: at, reads: n})
		n += 10
	}
	known := 0
	for i, b := range binned(list, now) {
		if !b.known {
			continue
		}
		known++
		if b.reads < 9.9 || b.reads > 10.1 {
			t.Errorf("bin %d: %v reads a second, want 10", i, b.reads)
		}
	}
	if known < bins*3/4 {
		t.Errorf("%d of %d bins are known", known, bins)
	}
	if b := binned(nil, now); len(b) != bins || b[0].known {
		t.Errorf("without samples there are %d bins", len(b))
	}
}

// TestChartsOfAnything: no numbers make a path that is none.
func TestChartsOfAnything(t *testing.T) {
	lists := map[string][]bin{"nothing": make([]bin, bins), "gaps": make([]bin, bins), "large": make([]bin, bins)}
	for i := range bins {
		lists["gaps"][i] = bin{known: i%3 == 0, reads: float64(i), p50: time.Duration(i), p99: time.Duration(i)}
		lists["large"][i] = bin{known: true, reads: 1e12, sent: 1e15, p50: time.Microsecond, p99: 10 * time.Minute}
	}
	for name, list := range lists {
		for _, c := range charts(list) {
			if c.Empty != (name == "nothing" && c.ID == "latency" || name == "nothing") {
				t.Errorf("%s, %s: empty is %v", name, c.ID, c.Empty)
			}
			for _, l := range c.Lines {
				for _, bad := range []string{"NaN", "Inf", "e+"} {
					if strings.Contains(l.Area+l.Line, bad) {
						t.Errorf("%s, %s: %s in %s", name, c.ID, bad, l.Line)
					}
				}
			}
			for _, g := range c.Grid {
				if !(g.At >= plotTop-.1 && g.At <= plotBottom+.1) || g.Text == "" {
					t.Errorf("%s, %s: a line at %v for %q", name, c.ID, g.At, g.Text)
				}
			}
		}
	}
}

func TestEventsRememberTheLast(t *testing.T) {
	e := NewEvents(3)
	var b strings.Builder
	log := slog.New(e.Handler(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})))
	log.Debug("not wanted")
	log.Info("one")
	log.With("disk", "a b").WithGroup("g").Warn("two", "n", 3, slog.Group("sub", "x", "y"))
	log.Error("three", "err", strings.Repeat("é", 1000))
	log.Info("four")
	list := e.Last()
	if len(list) != 3 || list[0].Message != "four" || list[1].Message != "three" || list[2].Message != "two" {
		t.Fatalf("remembered: %+v", list)
	}
	if got, want := list[2].Attrs, `disk="a b" g.n=3 g.sub.x=y`; got != want || list[2].Level != slog.LevelWarn {
		t.Errorf("%v %s, want %s", list[2].Level, got, want)
	}
	if n := len(list[1].Attrs); n > attrsMax+10 {
		t.Errorf("%d bytes are kept of a long line", n)
	}
	if got := strings.Count(b.String(), "\n"); got != 4 {
		t.Errorf("%d lines were handed on, want 4:\n%s", got, b.String())
	}
	if (*Events)(nil).Last() != nil {
		t.Error("nobody remembers something")
	}
}
