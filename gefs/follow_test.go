package gefs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/stream"
)

// round brings to b what a's main is now, and returns what was received. cut, if positive, is how many bytes come.
func round(t *testing.T, a, b *world, label string, cut int) (gefs.Moved, error) {
	t.Helper()
	h, err := b.fs.Have(label)
	if err == nil {
		h, err = gefs.ParseHaving(h.Token())
	}
	if err != nil {
		t.Fatal(err)
	}
	var p bytes.Buffer
	sum, err := a.fs.SendLatest(context.Background(), &p, label, h, nil)
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	if sum.Already != (p.Len() == 0) {
		t.Fatalf("sent %d bytes: %+v", p.Len(), sum)
	}
	if sum.Already {
		return sum, nil
	}
	var r io.Reader = &p
	if cut > 0 {
		r = io.LimitReader(r, int64(cut))
	}
	return b.fs.Follow(context.Background(), r, label, nil)
}

// TestADiskFollowsAnother has one that follows, over connections that are cut and after it was away, promotes it,
// and has the first one follow that.
func TestADiskFollowsAnother(t *testing.T) {
	rng := sendRand(t)
	a, b := newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	c := newChurn(rng, s, 0)
	c.do(80)
	for i := range 25 {
		c.do(rng.IntN(15))
		cut := 0
		if rng.IntN(3) == 0 {
			cut = 1 + rng.IntN(100000)
		}
		if _, err := round(t, a, b, "main", cut); err != nil && !errors.Is(err, stream.ErrCut) {
			t.Fatalf("round %d: %v", i, err)
		}
		for _, w := range []*world{a, b} {
			if l := w.labels(); strings.Count(l, "@follow.") > 4 {
				t.Fatalf("labels are %s", l)
			}
		}
	}
	for _, label := range []string{"main", "adm"} {
		if _, err := round(t, a, b, label, 0); err != nil {
			t.Fatal(err)
		}
		if sum, err := round(t, a, b, label, 0); err != nil || !sum.Already {
			t.Errorf("%s: nothing has changed, and there came %+v, %v", label, sum, err)
		}
	}
	want := a.digest("main")
	s.put("not sent", 0644, "lost with the first disk")
	list, err := b.fs.Promote(context.Background(), "now")
	if err != nil || len(list) != 2 {
		t.Fatalf("promoted %v: %v", list, err)
	}
	b.restart()
	if got := b.digest("main"); got != want {
		t.Errorf("main has digest %v, want %v", got, want)
	}
	if l := b.labels(); !strings.Contains(l, "main@before.now") || strings.Contains(l, "receiving") {
		t.Errorf("labels are %s", l)
	}

	// Back: a is the one that follows now. Only what has changed goes.
	g := newChurn(rng, b.as("glenda", "%main"), 1000)
	g.do(10)
	h, err := a.fs.Have("main")
	if err != nil {
		t.Fatal(err)
	}
	var p bytes.Buffer
	sum, err := b.fs.SendLatest(context.Background(), &p, "main", h, nil)
	if err != nil || sum.Base == "" {
		t.Fatalf("sent back %+v, %v", sum, err)
	}
	if _, err := a.fs.Follow(context.Background(), &p, "main", nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		g.do(10)
		if _, err := round(t, b, a, "main", 0); err != nil {
			t.Fatal(err)
		}
	}
	a.stop()
	a.start()
	if _, err := a.fs.Promote(context.Background(), "later"); err != nil {
		t.Fatal(err)
	}
	sameSnapshot(t, b, a, "main", "main")
	a.end()
	b.end()
}

func TestNothingToPromoteIsRefused(t *testing.T) {
	w := newWorld(t)
	if _, err := w.fs.Promote(context.Background(), "now"); !errors.Is(err, gefs.ErrNothingFollowed) {
		t.Errorf("promoted: %v", err)
	}
	if _, err := gefs.ParseHaving("rubbish!"); err == nil {
		t.Error("rubbish is a token")
	}
	w.end()
}

// TestFollowingGoesOnWithoutItsSnapshots deletes on the first disk what was made to be followed.
func TestFollowingGoesOnWithoutItsSnapshots(t *testing.T) {
	rng := sendRand(t)
	a, b := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: 10 * time.Millisecond}), newWorld(t)
	c := newChurn(rng, a.as("glenda", "%main"), 0)
	for range 4 {
		c.do(20)
		if _, err := round(t, a, b, "main", 0); err != nil {
			t.Fatal(err)
		}
		for _, l := range a.fs.Labels() {
			if !strings.Contains(l.Name, "@follow.") {
				continue
			}
			ctx, end := a.fs.Background()
			err := a.fs.DeleteLabel(ctx, l.Name)
			end()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.fs.Promote(context.Background(), "now"); err != nil {
		t.Fatal(err)
	}
	sameSnapshot(t, a, b, "main", "main")
	a.end()
	b.end()
}

// TestFollowingGoesOnWithThePartThatHasCome cuts a connection in the middle of a large difference, has others make
// files before the next round, and that brings only the rest.
func TestFollowingGoesOnWithThePartThatHasCome(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	s.put("small", 0644, "text")
	if _, err := round(t, a, b, "main", 0); err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	s.put("large", 0644, strings.Repeat("0123456789abcde\n", size/16))
	if _, err := round(t, a, b, "main", size*3/4); !errors.Is(err, stream.ErrCut) {
		t.Fatal(err)
	}
	s.put("more", 0644, "text")
	rest, err := round(t, a, b, "main", 0)
	if err != nil || rest.Already || rest.Bytes > size/2 {
		t.Errorf("behind three quarters of %d bytes came %+v, %v", size, rest, err)
	}
	if last, err := round(t, a, b, "main", 0); err != nil || last.Already || last.Bytes > size/100 {
		t.Errorf("what was made meanwhile: %+v, %v", last, err)
	}
	if _, err := b.fs.Promote(context.Background(), "now"); err != nil {
		t.Fatal(err)
	}
	sameSnapshot(t, a, b, "main", "main")
	a.end()
	b.end()
}
