package blkstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

// grow grows the toy's disk by so many bytes, without a commit.
func (y *toy) grow(by int64) (Growth, error) {
	y.t.Helper()
	size, err := y.st.dev.Size()
	y.must(err)
	return y.st.Grow(new(sync.Mutex), size+by)
}

// reopen opens a copy of the disk and compares it with what is there and the number of arenas.
func reopen(t *testing.T, img *blkdev.Mem, want map[uint64]byte, arenas int) {
	t.Helper()
	y, err := openToy(t, img, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.close()
	if n := y.st.Arenas().Len(); n != arenas {
		t.Errorf("%d arenas, want %d", n, arenas)
	}
	if err := y.audit(); err != nil {
		t.Error(err)
	}
	got, err := y.content()
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("holds %v, want %v; %v", got, want, err)
	}
}

// A grown disk is the larger one after the next commit, and the smaller one before; both superblocks lead to
// it, and what is in the new arenas can be read.
func TestGrownDiskIsThereAfterTheNextCommit(t *testing.T) {
	dev := blkdev.NewMem(diskSize)
	y := newToy(t, dev, Options{})
	y.must(y.set(1, 1))
	y.must(y.commit())
	before, err := y.content()
	y.must(err)

	room := y.st.Arenas().Room()
	done, err := y.grow(blkfmt.MinGrow + 1<<20)
	y.must(err)
	if done.First != 8 || done.Arenas.Count != 4 || done.Length != diskSize+blkfmt.MinGrow+1<<20 {
		t.Errorf("grown by %+v", done)
	}
	if more := y.st.Arenas().Room() - room; more < blkfmt.MinGrow/blkfmt.BlkSize*9/10 {
		t.Errorf("room for only %d blocks more", more)
	}
	if !y.st.NeedsCommit() {
		t.Error("no commit is asked for")
	}
	for k := range uint64(600) {
		y.must(y.set(k%40+2, byte(k%200)+1))
	}
	for _, q := range y.st.allQueues() {
		y.must(q.drain(y.st.qgen.Load()))
	}
	reopen(t, dev.Clone(), before, 8)
	y.must(y.commit())
	after, err := y.content()
	y.must(err)
	if y.st.NeedsCommit() {
		t.Error("a commit is asked for after the commit")
	}
	reopen(t, dev.Clone(), after, 12)
	one := dev.Clone()
	_, err = one.WriteAt(make([]byte, blkfmt.BlkSize), 0)
	y.must(err)
	reopen(t, one, after, 12)
	two := dev.Clone()
	_, err = two.WriteAt(make([]byte, blkfmt.BlkSize), int64(done.Arenas.Backup))
	y.must(err)
	reopen(t, two, after, 12)

	// And on: each time when the first copy of everything is lost.
	for range 5 {
		_, err = y.grow(blkfmt.MinGrow + 2*blkfmt.BlkSize)
		y.must(err)
		y.must(y.set(7, 7))
		y.must(y.commit())
	}
	if after, err = y.content(); err != nil {
		t.Fatal(err)
	}
	reopen(t, dev.Clone(), after, 32)
	y.quiet()
}

func TestGrowRefusesWhatItCannotDo(t *testing.T) {
	dev := blkdev.NewMem(diskSize)
	y := newToy(t, dev, Options{})
	y.must(y.commit())
	img := dev.Clone()
	var growth *blkfmt.GrowthError
	if _, err := y.grow(0); !errors.As(err, &growth) || growth.Length != diskSize {
		t.Errorf("a device that did not grow: %v", err)
	}
	least := growth.Least
	if _, err := y.st.PlanGrow(least - 1); !errors.Is(err, blkfmt.ErrNoGrowth) || !strings.Contains(err.Error(), fmt.Sprint(least)) {
		t.Errorf("too little: %v", err)
	}
	if _, err := y.grow(-blkfmt.BlkSize); err == nil || !strings.Contains(err.Error(), "cannot shrink") {
		t.Errorf("smaller: %v", err)
	}
	if same, _ := img.Equal(dev); !same || y.st.NeedsCommit() {
		t.Error("what was refused has written something")
	}
	fixed := struct{ blkdev.Device }{dev}
	y.st.dev = fixed
	if _, err := y.grow(blkfmt.MinGrow * 2); !errors.Is(err, ErrFixedSize) {
		t.Errorf("a device of fixed size: %v", err)
	}
	y.st.dev = dev
	if done, err := y.st.Grow(new(sync.Mutex), least); err != nil || done.Arenas.Size <= 0 {
		t.Errorf("the least: %+v, %v", done, err)
	}
	y.must(y.commit())
	y.close()

	ro, err := Open(dev, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if _, err := ro.Grow(new(sync.Mutex), 1<<40); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
}

// The format has room for 255 arenas.
func TestGrowUntilTheFormatIsFull(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, many arenas: not under the race detector")
	}
	dev := blkdev.NewMem(diskSize)
	y := newToy(t, dev, Options{})
	n := 8
	for ; ; n += 4 {
		_, err := y.grow(blkfmt.MinGrow + 2*blkfmt.BlkSize)
		if n+4 > blkfmt.MaxArenas {
			if err == nil || !strings.Contains(err.Error(), "252 arenas") {
				t.Errorf("with %d arenas: %v", n, err)
			}
			break
		}
		if n == 8 { // nothing was committed yet
			if err == nil {
				t.Fatal("a disk without a commit has grown")
			}
			y.must(y.commit())
			_, err = y.grow(blkfmt.MinGrow + 2*blkfmt.BlkSize)
		}
		y.must(err)
		y.must(y.set(uint64(n), byte(n)))
		y.must(y.commit())
	}
	want, err := y.content()
	y.must(err)
	y.close()
	reopen(t, dev, want, n)
}

// The power goes at any point while a disk is enlarged, by hand or not, grown and written to.
func TestPowerCutWhileGrowingFindsTheOldSizeOrTheNew(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	crash := blkdev.NewCrash(blkdev.NewMem(diskSize))
	y := newToy(t, crash, Options{})
	y.must(y.commit())
	acked, arenas := y.n, [2]int{8, 8}
	mark := func() { crash.Mark(lifeMark{y.n + 1, acked, arenas}) }
	mark()
	from := crash.Len()
	set := func(n int) {
		for range n {
			mark()
			y.must(y.set(r.Uint64N(40), byte(1+r.IntN(250))))
			y.st.Tick()
		}
	}
	commit := func() {
		com := y.seal()
		sealed := y.n
		set(r.IntN(3))
		y.must(com.Run(func(err error) {
			y.must(err)
			acked = sealed
			arenas[0] = arenas[1]
			mark()
		}))
		com.Done()
	}
	for round := range 2 {
		set(r.IntN(6))
		if round > 0 { // by hand, and commits before anybody grows
			size, err := crash.Size()
			y.must(err)
			y.must(crash.Enlarge(size + 40<<20))
			set(r.IntN(6))
			commit()
		}
		set(r.IntN(6))
		arenas[1] += 4
		mark()
		_, err := y.grow(blkfmt.MinGrow + int64(r.IntN(3))<<20 + 2*blkfmt.BlkSize)
		y.must(err)
		set(12)
		if r.IntN(2) == 0 {
			for _, q := range y.st.allQueues() {
				y.must(q.drain(y.st.qgen.Load()))
			}
		}
		commit()
		set(r.IntN(6))
		commit()
	}
	y.close()
	l := life{crash.Trace(), y.hist}
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
		defer y.close()
		if n%5 != 0 {
			return true
		}
		// It goes on, and can grow from there.
		y.must(y.set(99, 99))
		had := y.st.Arenas().Len()
		_, err = y.grow(blkfmt.MinGrow + 2*blkfmt.BlkSize)
		y.must(err)
		y.must(y.commit())
		want, err := y.content()
		y.must(err)
		reopen(t, y.st.dev.(*blkdev.Mem).Clone(), want, had+4)
		return !t.Failed()
	}
	few := 0
	for cut := range l.trace.Boundaries() {
		if few++; (testing.Short() || raceEnabled) && few%10 != 0 {
			continue
		}
		if !look(cut) {
			return
		}
	}
	// The sector being written may be unreadable afterwards: then the second superblock must be where it is
	// looked for.
	torn := 0
	for i := from; i < l.trace.Len(); i++ {
		if e := l.trace.Event(i); e.Kind != blkdev.EventWrite || e.Off != 0 {
			continue
		}
		img, err := l.trace.State(l.trace.All(i))
		y.must(err)
		_, err = img.WriteAt(make([]byte, blkdev.SectorSize), 0)
		y.must(err)
		torn++
		_, z, err := l.open(t, img, i)
		if err != nil {
			t.Errorf("first superblock destroyed at event %d: %v", i, err)
			return
		}
		z.close()
	}
	if torn < 5 {
		t.Errorf("the first superblock was written only %d times", torn)
	}
	cuts := *cutsFlag / 2
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
