package blkstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"gefs9p/blkdev"
)

// free returns the bytes that are free, and above what is kept of each arena.
func (y *toy) free() (n int64) {
	for _, st := range y.st.Arenas().Stat() {
		n += st.Free
	}
	return n
}

// TestPowerCutWhileDiscarding discards what is free at any moment of commits: after a power cut anywhere, with
// discards lost, torn or in another order like any writes, the disk holds a whole state. Nothing that was
// discarded is needed.
func TestPowerCutWhileDiscarding(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	crash := blkdev.NewCrash(blkdev.NewMem(diskSize))
	y := newToy(t, crash, Options{})
	y.st.NoteStale()
	y.must(y.commit())
	from := crash.Len()
	acked := y.n
	mark := func() { crash.Mark(lifeMark{begun: y.n + 1, acked: acked}) }
	trim := func() {
		opt := TrimOptions{Stale: r.IntN(4) != 0}
		if !opt.Stale {
			opt.Least = 1 << 20 // or it is all discards and nothing else
		}
		_, err := y.st.Trim(t.Context(), opt)
		y.must(err)
	}
	set := func(n int) {
		for range n {
			mark()
			y.must(y.set(r.Uint64N(40), byte(r.IntN(251))))
			if y.st.Tick(); r.IntN(3) == 0 {
				trim()
			}
		}
	}
	for range 12 {
		set(r.IntN(12))
		com := y.seal()
		sealed := y.n
		set(r.IntN(4))
		trim()
		y.must(com.Run(func(err error) {
			y.must(err)
			acked = sealed
			mark()
			trim()
		}))
		com.Done()
		if r.IntN(2) == 0 {
			trim()
		}
	}
	y.close()
	l := life{crash.Trace(), y.hist}
	discards, n := 0, 0
	for i := range l.trace.Len() {
		if l.trace.Event(i).Kind == blkdev.EventDiscard {
			discards++
		}
	}
	if discards < 50 {
		t.Errorf("only %d discards", discards)
	}
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
		y.close()
		return true
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
	cuts := *cutsFlag
	if testing.Short() || raceEnabled {
		cuts /= 10
	}
	for range cuts {
		if !look(l.trace.Random(r)) {
			return
		}
	}
	t.Logf("%d cuts, %d discards", n, discards)
}

// TestNobodyGetsWhatIsBeingDiscarded takes many blocks while a range is discarded: none of them lies in it.
func TestNobodyGetsWhatIsBeingDiscarded(t *testing.T) {
	dev := blkdev.NewFault(blkdev.NewMem(diskSize))
	y := newToy(t, dev, Options{})
	y.must(y.commit())
	want := map[uint64]byte{}
	k, each := uint64(0), 20
	if raceEnabled {
		each = 3
	}
	dev.Hook(func(op blkdev.Op, off, n int64) error {
		if op != blkdev.OpDiscard {
			return nil
		}
		for range each {
			k++
			want[k%200] = byte(k%250) + 1
			y.must(y.set(k%200, want[k%200]))
			if a := int64(y.data[k%200].Addr); a >= off && a < off+n {
				t.Errorf("block %#x was handed out while %d bytes at %#x were discarded", a, n, off)
			}
		}
		for _, q := range y.st.allQueues() {
			y.must(q.drain(y.st.qgen.Load()))
		}
		return nil
	})
	before := y.free()
	n, err := y.st.Trim(t.Context(), TrimOptions{})
	y.must(err)
	if n < before*9/10 || n > before || y.st.Trimmed() != n {
		t.Errorf("%d bytes were discarded of %d that were free, Trimmed says %d", n, before, y.st.Trimmed())
	}
	if k < 70 {
		t.Errorf("only %d blocks were taken", k)
	}
	dev.Hook(nil)
	y.must(y.commit())
	drainLimbo(y.st)
	shrink(y.st, 16)
	got, err := y.content()
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("holds %v, want %v; %v", got, want, err)
	}
	y.quiet()
	reopen(t, mem(t, dev), want, 8)
}

// mem reads a whole device.
func mem(t *testing.T, dev blkdev.Device) *blkdev.Mem {
	t.Helper()
	size, err := dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	m := blkdev.NewMem(size)
	p, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(p)) {
		p = p[:min(int64(len(p)), size-off)]
		if _, err := dev.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, zeros[:len(p)]) {
			if _, err := m.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

// A vain device says that its discards do nothing.
type vain struct {
	blkdev.Device
	did int // discards until it finds that out
}

func (p *vain) Discard(off, n int64) error { p.did++; return nil }
func (p *vain) Discards() bool             { return p.did < 1 }

func TestTrimEnds(t *testing.T) {
	fault := blkdev.NewFault(blkdev.NewMem(diskSize))
	y := newToy(t, fault, Options{})
	y.must(y.commit())
	free := y.free()
	lent := func(what string) {
		t.Helper()
		if y.st.Arenas().Lent() || y.free() != free {
			t.Errorf("%s: something is still lent", what)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	fault.Hook(func(op blkdev.Op, off, n int64) error { cancel(); return nil })
	if n, err := y.st.Trim(ctx, TrimOptions{}); !errors.Is(err, context.Canceled) || n == 0 || n > TrimMost {
		t.Errorf("cancelled: %d, %v", n, err)
	}
	lent("cancelled")
	fault.Hook(nil)
	fault.Fail(blkdev.Rule{Op: blkdev.OpDiscard, Nth: 2})
	if n, err := y.st.Trim(t.Context(), TrimOptions{}); !errors.Is(err, blkdev.ErrInjected) || n == 0 {
		t.Errorf("a discard fails: %d, %v", n, err)
	}
	lent("failed")
	y.must(y.st.Err())
	y.must(y.set(1, 1)) // a discard that failed does no harm
	y.must(y.commit())
	free = y.free()

	began := time.Now()
	if n, err := y.st.Trim(t.Context(), TrimOptions{Rate: 1 << 30}); err != nil || time.Since(began) < time.Duration(n)*time.Second>>30 {
		t.Errorf("%d bytes at 1 GiB a second in %v: %v", n, time.Since(began), err)
	}

	p := &vain{Device: y.st.dev}
	y.st.dev = p
	for range 2 {
		if n, err := y.st.Trim(t.Context(), TrimOptions{}); !errors.Is(err, ErrNoDiscard) || n != 0 || p.did != 1 {
			t.Errorf("a device that cannot: %d, %v", n, err)
		}
	}
	lent("cannot")
	y.st.dev = fault

	fault.Fail(blkdev.Rule{Op: blkdev.OpWrite, Forever: true})
	y.must(y.set(2, 2))
	if err := y.commit(); err == nil {
		t.Fatal("the commit did not fail")
	}
	n := fault.Count(blkdev.OpDiscard)
	if _, err := y.st.Trim(t.Context(), TrimOptions{}); !errors.Is(err, ErrIO) || fault.Count(blkdev.OpDiscard) != n {
		t.Errorf("after a failure: %v, %d discards", err, fault.Count(blkdev.OpDiscard)-n)
	}

	clean := blkdev.NewMem(diskSize)
	z := newToy(t, clean, Options{})
	z.must(z.commit())
	z.close()
	ro, err := Open(clean, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if _, err := ro.Trim(t.Context(), TrimOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
}
