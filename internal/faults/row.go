package faults

import (
	"flag"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Flags are what the command line says about rows.
type Flags struct {
	seed   *uint64
	states *int
	long   *time.Duration
	one    *string
	tell   *time.Duration
	shrink *time.Duration
	script *string
}

// NewFlags adds the flags of rows to the command line of the test binary. A package calls it once, in the
// declaration of a variable.
func NewFlags() *Flags {
	return &Flags{
		seed:   flag.Uint64("faults.seed", 0, "seed of the rows of faults; 0 takes one from the clock"),
		states: flag.Int("faults.states", 0, "cases that each row tries at most; 0 is what it tries in an ordinary run"),
		long:   flag.Duration("faults.for", 0, "how long each row goes on instead, if it has so many cases"),
		one:    flag.String("faults.case", "", "only this case, as a failure printed it; wants -faults.seed and -run"),
		tell:   flag.Duration("faults.progress", time.Minute, "how often a row that goes on for long says how far it is"),
		shrink: flag.Duration("faults.shrink", 0, "how long to look for fewer operations that fail too, when a power cut of -faults.case fails"),
		script: flag.String("faults.script", "", "file with the operations that the rows of power cuts do instead of random ones"),
	}
}

// A Size is how many cases a row tries when no flag says otherwise.
type Size struct {
	Ordinary int
	Short    int // with -short; with that and the race detector a tenth
}

// maxFailures ends a row: what fails five times fails for one reason.
const maxFailures = 5

// A Row tries cases of one kind of fault, for one test. Its methods are for the test's own goroutine.
type Row struct {
	t      testing.TB
	flags  *Flags
	number string
	seed   uint64
	want   int
	began  time.Time
	end    time.Time // zero if there is no limit

	// Workers is how many cases are tried at the same time. Row sets it to the number of processors.
	Workers int

	states, failures atomic.Int64
	ended            string
}

// Row begins the row of that number in the table of docs/crash.md. Several tests may share a number:
// scripts/faults adds up their cases.
func (f *Flags) Row(t testing.TB, number int, size Size) *Row {
	r := &Row{
		t: t, flags: f, number: fmt.Sprint(number), seed: *f.seed, want: size.Ordinary,
		began: time.Now(), Workers: runtime.GOMAXPROCS(0), ended: "all",
	}
	if testing.Short() {
		if r.want = size.Short; raceEnabled {
			r.want = (size.Short + 9) / 10
		}
	}
	if *f.states > 0 {
		r.want = *f.states
	}
	if *f.long > 0 {
		r.end = r.began.Add(*f.long)
		if *f.states == 0 {
			r.want = math.MaxInt
		}
	}
	if r.seed == 0 {
		r.seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-faults.seed=%d", r.seed)
	t.Cleanup(r.report)
	return r
}

// Seed returns the row's seed.
func (r *Row) Seed() uint64 { return r.seed }

// Rand returns a source of random numbers: the same one for the same seed and stream.
func (r *Row) Rand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, stream)) }

// Want returns how many cases are wanted in all; math.MaxInt means as many as there are, or as there is
// time for. A row that cannot try all of its cases uses it to choose some that are far apart.
func (r *Row) Want() int { return r.want }

// Long reports whether the command line asks for more than an ordinary run.
func (r *Row) Long() bool { return *r.flags.long > 0 || *r.flags.states > 0 }

// Shrink returns how long to look for a smaller script that fails as well; 0 is not at all.
func (r *Row) Shrink() time.Duration { return *r.flags.shrink }

// Script returns the operations that the command line asks for; nil is random ones.
func (r *Row) Script() ([]Op, error) {
	if *r.flags.script == "" {
		return nil, nil
	}
	text, err := os.ReadFile(*r.flags.script)
	if err != nil {
		return nil, err
	}
	return ParseOps(string(text))
}

// One returns the case that the command line asks for, if it does.
func (r *Row) One() (name string, ok bool) { return *r.flags.one, *r.flags.one != "" }

// least is how many cases are tried even if time is over before the first.
const least = 2

// Each calls try for the cases, several at a time, until there are no more, as many as are wanted have
// been tried, time is over, or too many have failed. An error from try is a failure of the test. If
// the command line names a case, only that one is tried.
func (r *Row) Each(cases iter.Seq[string], try func(name string) error) {
	r.t.Helper()
	if name, ok := r.One(); ok {
		r.try(name, try)
		return
	}
	queue := make(chan string, r.Workers)
	var wg sync.WaitGroup
	for range r.Workers {
		wg.Go(func() {
			for name := range queue {
				r.try(name, try)
			}
		})
	}
	told := r.began
	sent := int(r.states.Load())
	for name := range cases {
		now := time.Now()
		switch {
		case r.failures.Load() >= maxFailures:
			r.ended = "failed"
		case sent >= r.want:
			r.ended = "enough"
		case sent >= least && !r.end.IsZero() && now.After(r.end):
			r.ended = "time"
		default:
			queue <- name
			if sent++; !r.end.IsZero() && now.Sub(told) >= *r.flags.tell {
				told = now
				r.t.Logf("faults: progress: row %s, %d states, %d failures, %v of %v", r.number,
					r.states.Load(), r.failures.Load(), now.Sub(r.began).Round(time.Second), *r.flags.long)
			}
			continue
		}
		break
	}
	close(queue)
	wg.Wait()
}

// try tries one case.
func (r *Row) try(name string, try func(name string) error) {
	err := try(name)
	r.states.Add(1)
	if err != nil && r.failures.Add(1) <= maxFailures {
		r.t.Errorf("%s: %v\nfaults: again: %s", name, err, r.again(name))
	}
}

// again is the command that tries one case again.
func (r *Row) again(name string) string {
	return fmt.Sprintf("go test ./%s -run '^%s$' -faults.seed=%d -faults.case='%s'", here(), r.t.Name(), r.seed, name)
}

// here returns the directory of the package that is tested, relative to the root of the module.
func here() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for root := dir; root != filepath.Dir(root); root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.ToSlash(strings.TrimPrefix(dir[len(root):], string(filepath.Separator)))
		}
	}
	return "."
}

// report writes the line of the row. A row that tried nothing has failed, unless it was skipped.
func (r *Row) report() {
	if r.t.Skipped() {
		return
	}
	if r.states.Load() == 0 && !r.t.Failed() {
		r.t.Error("not one case was tried")
	}
	r.t.Logf("faults: row=%s states=%d failures=%d seed=%d seconds=%.1f end=%s",
		r.number, r.states.Load(), r.failures.Load(), r.seed, time.Since(r.began).Seconds(), r.ended)
}
