package blkstore

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

var cutsFlag = flag.Int("cuts", 400, "random power cuts that the crash test looks at")

// stage names what is written at an address.
func stage(y *toy, a blkfmt.Addr) string {
	first, second := headers(y.st.arenas.Stat())
	switch {
	case a == 0:
		return "super"
	case a == blkfmt.BackupAddr(y.st.devSize.Load()):
		return "backup"
	case slices.Contains(first, a):
		return "header"
	case slices.Contains(second, a):
		return "footer"
	}
	for i := range first {
		if slices.Contains(y.st.arenas.Log(i), a) {
			return "log"
		}
	}
	return "block"
}

// story sums up calls as names of stages, repetitions left out; sync is "|".
func story(y *toy, calls []call) string {
	var s []string
	for _, c := range calls {
		name := "|"
		if c.op == blkdev.OpWrite {
			name = stage(y, blkfmt.Addr(c.off))
		}
		if len(s) == 0 || s[len(s)-1] != name || name == "|" {
			s = append(s, name)
		}
	}
	return strings.Join(s, " ")
}

// Every step of a commit is on stable storage before the next begins.
func TestCommitWritesInTheOrderThatIsDocumented(t *testing.T) {
	dev := &spy{Device: blkdev.NewMem(diskSize)}
	y := newToy(t, dev, Options{})
	y.must(y.commit())
	// A new disk: what was there before must not be taken for a disk half way.
	if got, want := story(y, dev.take()), "super backup | block log header | super | backup | footer |"; got != want {
		t.Errorf("first commit:\n%s, want\n%s", got, want)
	}
	for range 3 {
		y.must(y.set(1, 5))
		y.must(y.commit())
		if got, want := story(y, dev.take()), "block log header | super | backup | footer |"; got != want {
			t.Errorf("commit:\n%s, want\n%s", got, want)
		}
	}
	y.must(y.commit())
	if got, want := story(y, dev.take()), "log header | super | backup | footer |"; got != want {
		t.Errorf("commit of nothing:\n%s, want\n%s", got, want)
	}
}

func TestCommitIsToldDurableWithTheFirstSuperblock(t *testing.T) {
	crash := blkdev.NewCrash(blkdev.NewMem(diskSize))
	y := newToy(t, crash, Options{})
	y.must(y.commit())
	y.must(y.set(1, 5))
	com := y.seal()
	told := 0
	y.must(com.Run(func(err error) {
		told++
		y.must(err)
		img, err := crash.Trace().State(crash.Trace().None(crash.Len()))
		y.must(err)
		again, err := openToy(t, img, Options{})
		y.must(err)
		if again.n != y.n {
			t.Errorf("told to be durable, but a power cut leaves state %d, not %d", again.n, y.n)
		}
		again.close()
	}))
	com.Done()
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A life is a toy's history on a device that records it.
type life struct {
	trace *blkdev.Trace
	hist  []map[uint64]byte
}

type lifeMark struct {
	begun, acked uint64
	arenas       [2]int // the fewest and the most there may be; zeros if that does not change
}

// live makes random changes and commits. Some changes come while a commit is under way.
func live(t testing.TB, image *blkdev.Mem, y0 *toy, r *rand.Rand, commits int) life {
	t.Helper()
	crash := blkdev.NewCrash(image)
	var y *toy
	if y0 == nil {
		y = newToy(t, crash, Options{})
	} else {
		var err error
		if y, err = openToy(t, crash, Options{}); err != nil {
			t.Fatal(err)
		}
		y.hist = slices.Clone(y0.hist[:y.n+1])
	}
	acked := y.n
	mark := func() { crash.Mark(lifeMark{begun: y.n + 1, acked: acked}) }
	mark()
	set := func() {
		v := byte(r.IntN(251))
		mark()
		y.must(y.set(r.Uint64N(40), v))
		y.st.Tick()
	}
	for range commits {
		for range r.IntN(12) {
			set()
		}
		com := y.seal()
		sealed := y.n
		for range r.IntN(4) {
			set()
		}
		y.must(com.Run(func(err error) {
			y.must(err)
			acked = sealed
			mark()
		}))
		com.Done()
	}
	y.close()
	return life{crash.Trace(), y.hist}
}

// revive opens the disk of a cut and compares it with the history.
func (l life) revive(t testing.TB, cut blkdev.Cut) (*blkdev.Mem, *toy, error) {
	img, err := l.trace.State(cut)
	if err != nil {
		return nil, nil, err
	}
	return l.open(t, img, cut.At)
}

// open is revive for a disk that was made of a cut at the event.
func (l life) open(t testing.TB, img *blkdev.Mem, at int) (*blkdev.Mem, *toy, error) {
	var m lifeMark
	for _, x := range l.trace.Marks(at) {
		m = x.(lifeMark)
	}
	y, err := openToy(t, img, Options{})
	if err != nil {
		return img, nil, err
	}
	y.hist = l.hist
	if n := y.st.arenas.Len(); m.arenas[1] > 0 && (n != m.arenas[0] && n != m.arenas[1]) {
		return img, y, fmt.Errorf("%d arenas, neither as many as before nor as after growing: %v", n, m.arenas)
	}
	if y.n < m.acked || y.n > m.begun || int(y.n) >= len(l.hist) {
		return img, y, fmt.Errorf("state %d, but %d was acknowledged and %d begun", y.n, m.acked, m.begun)
	}
	got, err := y.content()
	if err != nil {
		return img, y, fmt.Errorf("state %d: %w", y.n, err)
	}
	if !maps.Equal(got, l.hist[y.n]) {
		return img, y, fmt.Errorf("state %d holds %v, want %v", y.n, got, l.hist[y.n])
	}
	if err := y.audit(); err != nil {
		return img, y, fmt.Errorf("state %d: %w", y.n, err)
	}
	return img, y, nil
}

// formatted returns how many events the first commit of a life takes until there is a disk at all.
func (l life) formatted() int {
	for i := range l.trace.Len() {
		if len(l.trace.Marks(i)) > 0 && l.trace.Marks(i)[len(l.trace.Marks(i))-1].(lifeMark).acked > 0 {
			return i
		}
	}
	return l.trace.Len()
}

// TestPowerCutAnywhere: pitfalls 30, 32, 52 to 54. At every boundary between two writes, with any few
// of the last window's writes lost, and with random ones lost, reordered and torn, the disk holds the
// state of some number of changes, at least those whose commit was told to be durable; no block is
// lost, none in use and free. And from there it goes on.
func TestPowerCutAnywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	l := live(t, blkdev.NewMem(diskSize), nil, r, 12)
	from := l.formatted()
	n := 0
	look := func(cut blkdev.Cut) bool {
		if cut.At < from {
			return true
		}
		n++
		_, y, err := l.revive(t, cut)
		if err != nil {
			t.Errorf("cut %q: %v", cut, err)
			return false
		}
		// It can be written, and then is a disk again like any other.
		y.must(y.set(99, 99))
		if n%2 == 0 {
			y.must(y.set(98, 98))
		}
		y.must(y.commit())
		y.close()
		again, err := openToy(t, y.st.dev, Options{})
		if err != nil || again.n != y.n {
			t.Errorf("cut %q: written to and opened again: %v", cut, err)
			return false
		}
		if again.st.NeedsCommit() {
			t.Errorf("cut %q: a commit has not healed everything", cut)
		}
		if err := again.audit(); err != nil {
			t.Errorf("cut %q: written to and opened again: %v", cut, err)
			return false
		}
		again.close()
		return true
	}
	for cut := range l.trace.Boundaries() {
		if !look(cut) {
			return
		}
	}
	few := 1
	if testing.Short() || raceEnabled {
		few = 0
	}
	for cut := range l.trace.Subsets(few) {
		if !look(cut) {
			return
		}
	}
	cuts := *cutsFlag
	if testing.Short() || raceEnabled {
		cuts /= 10
	}
	for range cuts {
		if !look(l.trace.Random(r)) {
			return
		}
	}
	t.Logf("%d cuts", n)
}

// A crash leaves copies that do not agree; the commit after it heals them, and may itself be cut
// short anywhere, and so may the one after that.
func TestPowerCutWhileHealing(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	l := live(t, blkdev.NewMem(diskSize), nil, r, 3)
	from := l.formatted()
	var cuts []blkdev.Cut
	for cut := range l.trace.Boundaries() {
		if cut.At >= from {
			cuts = append(cuts, cut)
		}
	}
	r.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	part := 3
	if testing.Short() || raceEnabled {
		part = 16
	}
	cuts = cuts[:len(cuts)/part]
	seconds := 0
	for _, cut := range cuts {
		img, y, err := l.revive(t, cut)
		if err != nil {
			t.Fatalf("cut %q: %v", cut, err)
		}
		y.close()
		second := live(t, img, y, r, 2)
		i := 0
		for again := range second.trace.Boundaries() {
			if i++; (i+cut.At)%3 != 0 {
				continue
			}
			seconds++
			_, y2, err := second.revive(t, again)
			if err != nil {
				t.Fatalf("cut %q, and then cut %q: %v", cut, again, err)
			}
			y2.must(y2.set(99, 1))
			y2.must(y2.commit())
			y2.close()
			y3, err := openToy(t, y2.st.dev, Options{})
			if err != nil || y3.n != y2.n || y3.st.NeedsCommit() {
				t.Fatalf("cut %q, cut %q, and then a commit: %v", cut, again, err)
			}
			y3.must(y3.audit())
			y3.close()
		}
	}
	t.Logf("%d disks cut off twice", seconds)
}

// Before a good copy is overwritten there must be another one.
func TestStaleCopiesAreHealedBeforeAnythingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	l := live(t, blkdev.NewMem(diskSize), nil, r, 4)
	seen := map[string]bool{}
	for cut := range l.trace.Boundaries() {
		if cut.At < l.formatted() {
			continue
		}
		img, err := l.trace.State(cut)
		if err != nil {
			t.Fatal(err)
		}
		dev := &spy{Device: img}
		y, err := openToy(t, dev, Options{})
		if err != nil {
			t.Fatal(err)
		}
		needs := y.st.NeedsCommit()
		y.must(y.set(1, 1))
		y.must(y.commit())
		got := story(y, dev.take())
		seen[got] = true
		const plain = "block log header | super | backup | footer |"
		switch got {
		case plain:
			// The headers may be those of a commit that never was; their copies serve then, and
			// overwriting the headers takes nothing away.
		case "backup | footer | " + plain, "footer | " + plain:
			if !needs {
				t.Errorf("cut %q: healing although no commit was asked for", cut)
			}
		default:
			t.Errorf("cut %q: %s", cut, got)
		}
		y.close()
	}
	if len(seen) != 3 {
		t.Errorf("not all cases were met: %q", slices.Collect(maps.Keys(seen)))
	}
}

// Reaming an old disk, cut short anywhere, leaves the new disk or none, and never the old one half
// overwritten.
func TestPowerCutWhileFormatting(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	old := blkdev.NewMem(diskSize)
	y := newToy(t, old, Options{})
	for range 30 {
		y.must(y.set(r.Uint64N(40), byte(1+r.IntN(250))))
		y.must(y.commit())
	}
	y.close()

	crash := blkdev.NewCrash(old)
	y = newToy(t, crash, Options{})
	y.must(y.commit())
	y.close()
	trace := crash.Trace()
	states := map[string]int{}
	look := func(cut blkdev.Cut) {
		img, err := trace.State(cut)
		if err != nil {
			t.Fatal(err)
		}
		y, err := openToy(t, img, Options{})
		switch {
		case err != nil:
			states["none"]++
		case y.n == 0:
			states["new"]++
			if err := y.audit(); err != nil {
				t.Errorf("cut %q: %v", cut, err)
			}
			y.close()
		default: // good only as long as it is whole
			states["old"]++
			if _, err := y.content(); err != nil {
				t.Errorf("cut %q: %v", cut, err)
			}
			if err := y.audit(); err != nil {
				t.Errorf("cut %q: %v", cut, err)
			}
			y.close()
		}
	}
	for cut := range trace.Boundaries() {
		look(cut)
	}
	for cut := range trace.Subsets(2) {
		look(cut)
	}
	if states["none"] == 0 || states["new"] == 0 || states["old"] == 0 {
		t.Errorf("states found: %v", states)
	}
}

// The n-th write or flush of a life fails, for every n: nothing is acknowledged that is not on the
// disk, no write follows, and reads go on. Pitfalls 45, 46; blkstore latches on the first failure.
func TestEveryWriteAndFlushMayFail(t *testing.T) {
	s := seed(t)
	base := blkdev.NewMem(diskSize)
	y := newToy(t, base, Options{})
	y.must(y.commit())
	y.close()
	// run lives until the first error, and returns it.
	run := func(dev blkdev.Device, keep func(*toy)) (acked uint64, y *toy, err error) {
		r := rand.New(rand.NewPCG(s, 0))
		if y, err = openToy(t, dev, Options{}); err != nil {
			return 0, nil, err
		}
		y.hist = []map[uint64]byte{{}}
		for range 6 {
			for range 1 + r.IntN(6) {
				if err := y.set(r.Uint64N(20), byte(1+r.IntN(250))); err != nil {
					return acked, y, err
				}
			}
			com, err := y.st.Seal(Root{Snap: y.root, SnapHt: 1, NextQid: y.n, NextGen: 2})
			if err != nil {
				return acked, y, err
			}
			err = com.Run(func(err error) {
				if err == nil {
					acked = y.n
				}
			})
			com.Done()
			if err != nil {
				return acked, y, err
			}
		}
		return acked, y, nil
	}
	count := blkdev.NewFault(base.Clone())
	if _, y, err := run(count, nil); err != nil {
		t.Fatal(err)
	} else {
		y.close()
	}
	writes, syncs := count.Count(blkdev.OpWrite), count.Count(blkdev.OpSync)
	if writes < 50 || syncs != 24 {
		t.Fatalf("%d writes and %d flushes", writes, syncs)
	}
	step := 1
	if testing.Short() || raceEnabled {
		step = 5
	}
	for _, op := range []blkdev.Op{blkdev.OpWrite, blkdev.OpSync} {
		for n := 1; n <= count.Count(op); n += step {
			mem := base.Clone()
			crash := blkdev.NewCrash(mem)
			dev := blkdev.NewFault(crash)
			// Only one fails: a second try would succeed, and must not be made.
			dev.Fail(blkdev.Rule{Op: op, Nth: n, Short: n % 3 * 5000})
			acked, y, err := run(dev, nil)
			if !errors.Is(err, ErrIO) || y.st.Err() == nil {
				t.Fatalf("%v %d fails: %v, latched by %v", op, n, err, y.st.Err())
			}
			for _, q := range y.st.allQueues() {
				q.still() // other arenas may have been writing when it failed
			}
			seen := dev.Count(blkdev.OpWrite | blkdev.OpSync)
			if err := y.set(1, 1); err == nil {
				t.Fatalf("%v %d failed, and a change was accepted", op, n)
			}
			if got, err := y.content(); err != nil || y.n > 0 && !maps.Equal(got, y.hist[y.n]) && !errors.Is(y.st.Err(), ErrIO) {
				t.Fatalf("%v %d failed: reading in memory: %v", op, n, err)
			}
			y.close()
			if more := dev.Count(blkdev.OpWrite|blkdev.OpSync) - seen; more > 0 {
				t.Fatalf("%v %d failed, and %d writes or flushes followed", op, n, more)
			}
			// Whatever the device kept of what was not flushed.
			for _, cut := range []blkdev.Cut{crash.Trace().None(crash.Len()), crash.Trace().All(crash.Len())} {
				img, err := crash.Trace().State(cut)
				if err != nil {
					t.Fatal(err)
				}
				again, err := openToy(t, img, Options{})
				if err != nil {
					t.Fatalf("%v %d failed: %v", op, n, err)
				}
				if again.n < acked {
					t.Fatalf("%v %d failed: %d changes were acknowledged, the disk has %d", op, n, acked, again.n)
				}
				if got, err := again.content(); err != nil || !maps.Equal(got, y.hist[again.n]) {
					t.Fatalf("%v %d failed: the disk's state %d: %v", op, n, again.n, err)
				}
				if err := again.audit(); err != nil {
					t.Fatalf("%v %d failed: %v", op, n, err)
				}
				again.close()
			}
		}
	}
}

func TestSealWhileACommitRunsPanics(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	com := y.seal()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("two commits at a time")
			}
		}()
		y.st.Seal(Root{})
	}()
	y.must(com.Run(nil))
	com.Done()
	y.must(y.commit())
}
