package gefs_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// scrub scrubs the disk as fast as it can be read.
func (w *world) scrub() gefs.ScrubStatus {
	w.t.Helper()
	if _, err := w.fs.StartScrub(1 << 40); err != nil {
		w.t.Fatal(err)
	}
	return w.scrubbed()
}

// scrubbed waits until the scrub has ended.
func (w *world) scrubbed() gefs.ScrubStatus {
	w.t.Helper()
	eventually(w.t, "the end of the scrub", func() bool { return w.fs.Scrub().State == gefs.ScrubIdle })
	return w.fs.Scrub()
}

// scrubWorld has files, snapshots and a fork.
func scrubWorld(t *testing.T, dev blkdev.Device, opt gefs.Options) (*world, *session) {
	opt.CommitEvery = time.Hour
	w := newWorldOn(t, dev, opt)
	s := w.as("glenda", "")
	s.mkdir("d", 0755)
	for i := range 40 {
		s.put(fmt.Sprint("d/f", i), 0644, strings.Repeat(fmt.Sprintf("%6d", i), 5000))
	}
	w.snapshot("main", "first", false)
	for i := range 10 {
		f := s.open(fmt.Sprint("d/f", i), ninep.OWRITE)
		f.write("changed", 20000)
		f.clunk()
	}
	w.snapshot("main", "fork", true)
	s.put("last", 0644, strings.Repeat("last", 10000))
	w.sync()
	return w, s
}

// TestScrubFindsDamage on the device, whatever is in the cache, and names the file; also a write that
// was lost, in whose place something stands that was good before.
func TestScrubFindsDamage(t *testing.T) {
	dev := gefstest.Ream(t)
	w, s := scrubWorld(t, dev, gefs.Options{})
	if st := w.scrub(); st.Bad != 0 || st.Read < 100*blkfmt.BlkSize || len(st.Problems) > 0 {
		t.Errorf("a good disk: %+v", st)
	}
	damaged, lost := dataOf(t, w, "main", "d/f33"), dataOf(t, w, "main", "last")
	if _, err := dev.WriteAt([]byte{1, 2, 3}, int64(damaged)+5000); err != nil {
		t.Fatal(err)
	}
	older := make([]byte, blkfmt.BlkSize)
	if _, err := dev.ReadAt(older, int64(dataOf(t, w, "first", "d/f1"))); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.WriteAt(older, int64(lost)); err != nil {
		t.Fatal(err)
	}
	if text := s.get("last"); text != strings.Repeat("last", 10000) {
		t.Error("it is not in the cache") // or the test is not worth much
	}
	st := w.scrub()
	want := map[blkfmt.Addr][]string{damaged: {"main/d/f33", "fork/d/f33", "first/d/f33"}, lost: {"main/last"}}
	if st.Bad != 2 || len(st.Problems) != 2 {
		t.Errorf("%d damaged blocks: %+v", st.Bad, st.Problems)
	}
	for _, p := range st.Problems {
		got := slices.Clone(p.Paths)
		slices.Sort(got)
		slices.Sort(want[p.Addr])
		if p.Kind != check.Corrupt || !slices.Equal(got, want[p.Addr]) || p.MorePaths != 0 {
			t.Errorf("%v: %+v, want %q", p.Addr, p, want[p.Addr])
		}
	}
	for _, p := range st.Problems {
		if p.Addr == damaged && p.Paths[2] != "first/d/f33" {
			t.Errorf("the snapshot comes before what people work on: %q", p.Paths)
		}
	}
	// Who removes the files gets rid of it.
	s.remove("last")
	w.sync()
	if st := w.scrub(); st.Bad != 1 {
		t.Errorf("after a removal: %+v", st)
	}
}

// TestScrubHeals each copy of what is there twice, and the disk can be opened when the other one goes bad
// after that.
func TestScrubHeals(t *testing.T) {
	dev := gefstest.Ream(t)
	w, _ := scrubWorld(t, dev, gefs.Options{})
	super := w.fs.Store().Super()
	backup := blkfmt.BackupAddr(gefstest.SmallDisk)
	junk := []byte(strings.Repeat("junk", blkfmt.BlkSize/4))
	spots := []blkfmt.Addr{0, backup}
	for _, a := range super.Arenas[:2] {
		spots = append(spots, a.Addr, a.Addr+blkfmt.BlkSize)
	}
	for _, at := range spots {
		if _, err := dev.WriteAt(junk, int64(at)); err != nil {
			t.Fatal(err)
		}
		st := w.scrub()
		if st.Bad != 1 || st.Healed != 1 {
			t.Errorf("%v damaged: %d damaged, %d healed: %+v", at, st.Bad, st.Healed, st.Problems)
		}
		if st := w.scrub(); st.Bad != 0 {
			t.Errorf("%v healed: %+v", at, st.Problems)
		}
	}
	// Both at once: the server knows what should be there.
	for _, at := range []blkfmt.Addr{0, backup, super.Arenas[1].Addr, super.Arenas[1].Addr + blkfmt.BlkSize} {
		if _, err := dev.WriteAt(junk, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if st := w.scrub(); st.Bad != 3 || st.Healed != 3 { // both copies of a header are one problem
		t.Errorf("all damaged: %+v", st)
	}
	if st := w.scrub(); st.Bad != 0 {
		t.Errorf("all healed: %+v", st.Problems)
	}
	w.end()
}

// TestHealingSurvivesPowerCuts: a second copy has gone bad, and the power fails anywhere in the commit that
// heals it. The copy that is good is not touched before the other is.
func TestHealingSurvivesPowerCuts(t *testing.T) {
	for _, copy := range []int{0, 1, 2, 3} {
		dev := gefstest.Ream(t)
		w, _ := scrubWorld(t, dev, gefs.Options{})
		at := []blkfmt.Addr{0, blkfmt.BackupAddr(gefstest.SmallDisk)}
		at = append(at, w.fs.Store().Super().Arenas[0].Addr, w.fs.Store().Super().Arenas[0].Addr+blkfmt.BlkSize)
		w.stop()
		crash := blkdev.NewCrash(dev)
		w = newWorldOn(t, crash, gefs.Options{CommitEvery: time.Hour})
		w.sync()
		from := crash.Trace().Len()
		if _, err := crash.WriteAt(make([]byte, blkfmt.BlkSize), int64(at[copy])); err != nil {
			t.Fatal(err)
		}
		if err := crash.Sync(); err != nil {
			t.Fatal(err)
		}
		if st := w.scrub(); st.Healed != 1 {
			t.Fatalf("%+v", st)
		}
		trace := crash.Trace()
		step := 1
		if raceEnabled {
			step = 5
		}
		for n := from + 2; n <= trace.Len(); n += step {
			disk, err := trace.State(trace.None(n))
			if err == nil {
				var fs *gefs.FS
				if fs, err = gefs.Open(disk, gefs.Options{}); err == nil {
					err = fs.Close()
				}
			}
			if err != nil {
				t.Errorf("copy %d, power cut after %d of %d: %v", copy, n-from, trace.Len()-from, err)
			}
		}
		w.end()
	}
}

// TestScrubBesideWriters scrubs while clients write, truncate, remove, snapshot and sync. What is freed
// meanwhile is nobody's damage, and a block that is damaged from the start is found.
func TestScrubBesideWriters(t *testing.T) {
	dev := blkdev.NewMem(512 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	w, _ := scrubWorld(t, dev, gefs.Options{})
	at := dataOf(t, w, "main", "d/f7")
	wait := writers(w, 3)
	rounds := 4
	for i := range rounds {
		if i == rounds-1 {
			if _, err := dev.WriteAt([]byte("bad"), int64(at)+1000); err != nil {
				t.Fatal(err)
			}
		}
		st := w.scrub()
		want := int64(i / (rounds - 1))
		if st.Bad != want || st.Waiting != "" {
			t.Errorf("round %d: %+v", i, st)
		}
		if want == 1 && !slices.Contains(st.Problems[0].Paths, "main/d/f7") {
			t.Errorf("%+v", st.Problems)
		}
	}
	n, longest := wait()
	t.Logf("%d scrubs; %d fsyncs, the longest took %v", rounds, n, longest)
	rep, err := liveCheck(w.fs, func(r io.ReaderAt) io.ReaderAt { return r })
	if err != nil || rep.Found[check.Error] != 1 || rep.Found[check.Leak] != 0 {
		t.Errorf("%v\n%s", err, gefstest.Text(rep))
	}
}

// TestScrubGoesOnAfterARestart from where it was, and so it does after a stop.
func TestScrubGoesOnAfterARestart(t *testing.T) {
	dev := gefstest.Ream(t)
	w, s := scrubWorld(t, dev, gefs.Options{})
	big := 30
	if raceEnabled {
		big = 10
	}
	for i := range big {
		s.put(fmt.Sprint("big", i), 0644, strings.Repeat("big", 1<<18))
	}
	s.hangUp()
	w.sync()
	whole := w.scrub().Read
	const rate = 2 << 20
	var past atomic.Int64
	w.restart()
	w.fs.ScrubSteps(&past) // nobody waits but for the test
	if _, err := w.fs.StartScrub(rate); err != nil {
		t.Fatal(err)
	}
	read, restarts := int64(0), 0
	for {
		eventually(t, "a step", func() bool { st := w.fs.Scrub(); return st.State == gefs.ScrubIdle || st.Read > read })
		st := w.fs.Scrub()
		if st.State == gefs.ScrubIdle {
			break
		}
		if restarts++; restarts%3 == 0 {
			w.fs.StopScrub()
			if st := w.fs.Scrub(); st.State != gefs.ScrubPaused {
				t.Fatalf("stopped: %+v", st)
			}
			w.restart()
			eventually(t, "a paused scrub", func() bool { return w.fs.Scrub().State == gefs.ScrubPaused })
			w.fs.ScrubSteps(&past)
			if _, err := w.fs.StartScrub(0); err != nil {
				t.Fatal(err)
			}
		} else {
			w.restart()
			eventually(t, "a scrub that goes on", func() bool { return w.fs.Scrub().State == gefs.ScrubRunning })
			w.fs.ScrubSteps(&past)
		}
		st = w.fs.Scrub()
		if st.Rate != rate || st.Read < read {
			t.Fatalf("after restart %d: %+v, before %d were read", restarts, st, read)
		}
		read = st.Read
		past.Store(read)
	}
	st := w.fs.Scrub()
	if restarts < 2 || st.Read < whole || st.Read > whole*3/2 {
		t.Errorf("%d restarts, %d bytes read; in one piece %d", restarts, st.Read, whole)
	}
	w.restart()
	eventually(t, "the record", func() bool { return !w.fs.Scrub().Ended.IsZero() })
	w.end()
}

// TestScrubBeginsWhenItIsDue and not before.
func TestScrubBeginsWhenItIsDue(t *testing.T) {
	now := time.Unix(1e9, 0)
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{ScrubEvery: time.Hour, Now: func() time.Time { return now }})
	eventually(t, "the first scrub", func() bool { st := w.fs.Scrub(); return st.State == gefs.ScrubIdle && st.Ended.Equal(now) })
	w.stop()
	now = now.Add(30 * time.Minute)
	w.start()
	eventually(t, "the record", func() bool { return !w.fs.Scrub().Ended.IsZero() })
	if st := w.fs.Scrub(); st.State != gefs.ScrubIdle || st.Ended.Equal(now) {
		t.Errorf("half an hour later: %+v", st)
	}
	w.stop()
	now = now.Add(31 * time.Minute)
	w.start()
	eventually(t, "the second scrub", func() bool { return w.fs.Scrub().Ended.Equal(now) })
	w.end()
}

// TestTheRateOfAScrubIsBounded by a clock of its own.
func TestTheRateOfAScrubIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	began, slept := now, 0
	l := gefs.NewLimiter(func() time.Time { return now }, func(d time.Duration) { now = now.Add(d); slept++ })
	const rate = 10 << 20
	took := 0
	for i := range 5000 {
		l.Take(blkfmt.BlkSize, rate)
		took += blkfmt.BlkSize
		now = now.Add(time.Duration(i%7) * 100 * time.Microsecond) // reading takes time too
		if most := now.Sub(began).Seconds()*rate + 0.011*rate + blkfmt.BlkSize; float64(took) > most {
			t.Fatalf("%d bytes after %v", took, now.Sub(began))
		}
		if i == 2500 { // what was not used is gone
			now = now.Add(time.Hour)
			began, took = now, 0
		}
	}
	if least := now.Sub(began).Seconds() * rate * 0.9; float64(took) < least {
		t.Errorf("%d bytes in %v: it is slower than %d a second", took, now.Sub(began), rate)
	}
	if slept > 2000 {
		t.Errorf("%d sleeps for 5000 blocks", slept)
	}

	// And a whole scrub takes what it reads at its rate.
	w, _ := scrubWorld(t, gefstest.Ream(t), gefs.Options{})
	clock := w.fs.ScrubTakes()
	if _, err := w.fs.StartScrub(gefs.MinScrubRate); err != nil {
		t.Fatal(err)
	}
	st := w.scrubbed()
	want := time.Duration(float64(st.Read) / gefs.MinScrubRate * float64(time.Second))
	if got := clock(); got < want*9/10 || got > want*11/10 {
		t.Errorf("%d bytes at %d a second took %v, want %v", st.Read, st.Rate, got, want)
	}
	if _, err := w.fs.StartScrub(gefs.MinScrubRate - 1); err == nil {
		t.Error("any rate will do")
	}
}

// TestScrubOfAReadOnlyDisk works, and heals nothing.
func TestScrubOfAReadOnlyDisk(t *testing.T) {
	dev := gefstest.Ream(t)
	w, _ := scrubWorld(t, dev, gefs.Options{})
	w.stop()
	if _, err := dev.WriteAt(make([]byte, blkfmt.BlkSize), 0); err != nil {
		t.Fatal(err)
	}
	before := dev.Clone()
	w = newWorldOn(t, dev, gefs.Options{ReadOnly: true})
	st := w.scrub()
	if st.Bad != 1 || st.Healed != 0 {
		t.Errorf("%+v", st)
	}
	w.stop()
	if same, at := dev.Equal(before); !same {
		t.Errorf("the disk has changed at %#x", at)
	}
}
