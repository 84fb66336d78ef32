package faults

import (
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// flags is for the rows of this package.
var flags = NewFlags()

// A recorder is a test that notes what it is told.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	log      []string
	failed   atomic.Bool
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Name() string     { return "TestIt" }
func (r *recorder) Skipped() bool    { return false }
func (r *recorder) Failed() bool     { return r.failed.Load() }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) {
	r.Logf("%s", fmt.Sprint(args...))
	r.failed.Store(true)
}
func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed.Store(true)
}

// finish ends the test and returns the lines that match.
func (r *recorder) finish(part string) (lines []string) {
	for _, f := range r.cleanups {
		f()
	}
	for _, l := range r.log {
		if strings.Contains(l, part) {
			lines = append(lines, l)
		}
	}
	return lines
}

// testFlags are flags with values that a test sets.
func testFlags() *Flags {
	return &Flags{seed: new(uint64), states: new(int), long: new(time.Duration), one: new(string), tell: new(time.Duration),
		shrink: new(time.Duration), script: new(string)}
}

func numbers(n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprint("case ", i)) {
				return
			}
		}
	}
}

func TestRowTriesEachCaseOnce(t *testing.T) {
	for _, c := range []struct {
		have, want int
		tried      int
		end        string
	}{{10, 20, 10, "all"}, {20, 10, 10, "enough"}, {10, 10, 10, "all"}} {
		rec := &recorder{TB: t}
		f := testFlags()
		*f.states, *f.seed = c.want, 7
		row := f.Row(rec, 3, Size{})
		var mu sync.Mutex
		var tried []string
		row.Each(numbers(c.have), func(name string) error {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, name)
			return nil
		})
		slices.Sort(tried)
		if n := len(slices.Compact(tried)); n != c.tried || len(tried) != n {
			t.Errorf("%d cases, %d wanted: %d tried, %d of them different", c.have, c.want, len(tried), n)
		}
		line := fmt.Sprintf("faults: row=3 states=%d failures=0 seed=7 ", c.tried)
		if got := rec.finish("faults: row="); len(got) != 1 || !strings.HasPrefix(got[0], line) || !strings.HasSuffix(got[0], "end="+c.end) {
			t.Errorf("%d cases, %d wanted: reports %q", c.have, c.want, got)
		}
	}
}

func TestRowSaysHowToTryAFailureAgain(t *testing.T) {
	rec := &recorder{TB: t}
	f := testFlags()
	*f.states, *f.seed = 1000, 9
	row := f.Row(rec, 3, Size{})
	row.Each(numbers(1000), func(name string) error {
		if strings.HasSuffix(name, "7") {
			return errors.New("lost")
		}
		return nil
	})
	if !rec.failed.Load() {
		t.Error("a failure does not fail the test")
	}
	again := rec.finish("faults: again: ")
	// Several are tried at once, so any may be the first.
	form := regexp.MustCompile(`go test ./internal/faults -run '\^TestIt\$' -faults.seed=9 -faults.case='case \d*7'$`)
	if len(again) != maxFailures || !form.MatchString(again[0]) {
		t.Errorf("%d failures, which say %q", len(again), again)
	}

	rec = &recorder{TB: t}
	*f.one = "case 7"
	var tried []string
	f.Row(rec, 3, Size{}).Each(numbers(1000), func(name string) error {
		tried = append(tried, name)
		return nil
	})
	if len(tried) != 1 || tried[0] != "case 7" {
		t.Errorf("one case asked for, %q tried", tried)
	}
}

func TestRowWithoutCasesFails(t *testing.T) {
	rec := &recorder{TB: t}
	testFlags().Row(rec, 3, Size{Ordinary: 5}).Each(numbers(0), func(string) error { return nil })
	if rec.finish(""); !rec.failed.Load() {
		t.Error("a row that tried nothing passes")
	}
}

func TestRowEndsInTime(t *testing.T) {
	rec := &recorder{TB: t}
	f := testFlags()
	*f.long = 20 * time.Millisecond
	row := f.Row(rec, 3, Size{Ordinary: 5})
	row.Each(func(yield func(string) bool) {
		for yield("again and again") {
		}
	}, func(string) error { time.Sleep(time.Millisecond); return nil })
	if got := rec.finish("end=time"); len(got) != 1 {
		t.Errorf("reports %q", rec.log)
	}
	if got := rec.finish("faults: progress: row 3, "); len(got) == 0 {
		t.Error("says nothing while it goes on")
	}
}

// TestRowWithoutTimeTriesSomething holds: what was prepared for a row is not for nothing, and several rows judge
// what they have seen in all.
func TestRowWithoutTimeTriesSomething(t *testing.T) {
	rec := &recorder{TB: t}
	f := testFlags()
	*f.long = time.Nanosecond
	f.Row(rec, 3, Size{Ordinary: 5}).Each(numbers(5), func(string) error { return nil })
	if got := rec.finish("states=2 "); rec.failed.Load() || len(got) != 1 {
		t.Errorf("reports %q", rec.log)
	}
}
