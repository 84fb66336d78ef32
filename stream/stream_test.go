package stream

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes the time")

func newRand(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// randomChanges returns changes that a stream may have.
func randomChanges(rng *rand.Rand, n int) []Change {
	var list []Change
	for i := range n {
		c := Change{Op: Set}
		switch rng.IntN(5) {
		case 0:
			c.Key = kvfmt.AppendEntKey(nil, rng.Uint64N(50), fmt.Sprintf("file%d", i))
			c.Val = (&kvfmt.Dir{Qid: kvfmt.Qid{Path: uint64(i)}, Mode: 0644, Length: rng.Uint64()}).Append(nil)
		case 1:
			c.Key = kvfmt.AppendUpKey(nil, uint64(i))
			c.Val = kvfmt.AppendEntKey(nil, 3, "dir")
		case 2:
			c.Key = kvfmt.AppendConfKey(nil, fmt.Sprintf("key%d", i))
			c.Val = []byte("value")
		default:
			c.Key = kvfmt.AppendDatKey(nil, uint64(i), rng.Uint64N(100)*blkfmt.BlkSize)
			c.Val = make([]byte, rng.IntN(blkfmt.BlkSize+1))
			for i := range c.Val {
				c.Val[i] = byte(rng.Uint32())
			}
			c.Val = Trim(c.Val)
		}
		if rng.IntN(6) == 0 {
			c.Op, c.Val = Remove, nil
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Change) int { return kvfmt.Compare(a.Key, b.Key) })
	return slices.CompactFunc(list, func(a, b Change) bool { return bytes.Equal(a.Key, b.Key) })
}

func testHeader() Header {
	return Header{
		Snap: Ident{7, 2, 0x4000, 1234}, Base: Ident{5, 1, 0x8000, 99}, NextQid: 77, Label: "monday", BaseLabel: "sunday",
	}
}

// write returns a stream of the changes.
func write(t testing.TB, h Header, list []Change) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		due, err := w.Add(c)
		if err == nil && due {
			err = w.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Sent() != int64(b.Len()) {
		t.Fatalf("sent %d bytes, says %d", b.Len(), w.Sent())
	}
	return b.Bytes()
}

// read returns all changes that a stream has before its end or an error.
func read(p []byte) (r *Reader, list []Change, err error) {
	if r, err = NewReader(bytes.NewReader(p)); err != nil {
		return nil, nil, err
	}
	for {
		part, err := r.Next()
		for _, c := range part {
			list = append(list, Change{c.Op, bytes.Clone(c.Key), bytes.Clone(c.Val), c.Chain})
		}
		if err != nil {
			return r, list, err
		}
	}
}

func sameChanges(t *testing.T, got, want []Change) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d changes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Op != want[i].Op || !bytes.Equal(got[i].Key, want[i].Key) || !bytes.Equal(got[i].Val, want[i].Val) {
			t.Fatalf("change %d is %v of %x, want %v of %x", i, got[i].Op, got[i].Key, want[i].Op, want[i].Key)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rng := newRand(t)
	for _, n := range []int{0, 1, 10, 200} {
		list := randomChanges(rng, n)
		h := testHeader()
		r, got, err := read(write(t, h, list))
		if err != io.EOF {
			t.Fatal(err)
		}
		if r.Header.ID() != h.ID() || r.Header.Label != h.Label || r.Header.BaseLabel != h.BaseLabel || r.Header.Whole() {
			t.Errorf("header is %+v, want %+v", r.Header, h)
		}
		sameChanges(t, got, list)
	}
}

// TestCutAnywhere cuts a stream at every byte of its beginning and end, and in between at some: what is given is the beginning, and a
// stream that goes on from there has the rest and the same chain.
func TestCutAnywhere(t *testing.T) {
	rng := newRand(t)
	list := randomChanges(rng, 60)
	h := testHeader()
	p := write(t, h, list)
	whole, _, _ := read(p)
	for cut := range len(p) {
		if cut > 300 && cut < len(p)-80 && rng.IntN(3000) > 0 {
			continue
		}
		r, got, err := read(p[:cut])
		if !errors.Is(err, ErrCut) {
			t.Fatalf("cut at %d of %d: %v", cut, len(p), err)
		}
		sameChanges(t, got, list[:len(got)])
		if r == nil {
			continue
		}
		at := r.Place()
		m := Mark{h.ID(), at}
		if back, err := ParseToken(m.Token()); err != nil || back.ID != m.ID || back.Place.N != at.N || back.Place.Chain != at.Chain || !bytes.Equal(back.Place.Key, at.Key) {
			t.Fatalf("token %q: %+v, %v; want %+v", m.Token(), back, err, m)
		}
		next := h
		next.From = at
		r, rest, err := read(write(t, next, list[at.N:]))
		if err != io.EOF || r.Place().Chain != whole.Place().Chain || r.Header.ID() != h.ID() {
			t.Fatalf("going on at %d: %v", at.N, err)
		}
		sameChanges(t, rest, list[at.N:])
	}
}

func TestEveryDamagedByteIsFound(t *testing.T) {
	rng := newRand(t)
	list := randomChanges(rng, 5)
	p := write(t, testHeader(), list)
	for at := range p {
		bad := bytes.Clone(p)
		bad[at] ^= 1 << rng.IntN(8)
		_, got, err := read(bad)
		var damaged *DamagedError
		if !errors.As(err, &damaged) && !errors.Is(err, ErrCut) && !errors.Is(err, ErrNoStream) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d of %d: %v", at, len(p), err)
		}
		sameChanges(t, got, list[:len(got)])
	}
}

// TestForeignChangesAreRefused makes streams that are sound in themselves.
func TestForeignChangesAreRefused(t *testing.T) {
	dat := kvfmt.AppendDatKey(nil, 1, 0)
	for name, list := range map[string][]Change{
		"zeros at the end":        {{Op: Set, Key: dat, Val: []byte{1, 0}}},
		"a block not on a block":  {{Op: Set, Key: kvfmt.AppendDatKey(nil, 1, 5), Val: []byte{1}}},
		"a label":                 {{Op: Set, Key: kvfmt.AppendLabelKey(nil, "main"), Val: kvfmt.Label{}.Append(nil)}},
		"a short entry":           {{Op: Set, Key: kvfmt.AppendEntKey(nil, 1, "x"), Val: []byte("short")}},
		"a parent that is none":   {{Op: Set, Key: kvfmt.AppendUpKey(nil, 1), Val: []byte("x")}},
		"a key of the server's":   {{Op: Set, Key: kvfmt.AppendRecvKey(nil), Val: []byte("x")}},
		"a removal of such a key": {{Op: Remove, Key: kvfmt.AppendRecvKey(nil)}},
		"a removal with a value":  {{Op: Remove, Key: dat, Val: []byte("x")}},
		"another op":              {{Op: 9, Key: dat}},
		"no key":                  {{Op: Set}},
		"the same key twice":      {{Op: Set, Key: dat}, {Op: Set, Key: dat}},
	} {
		var b bytes.Buffer
		w, err := NewWriter(&b, testHeader())
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range list {
			if _, err := w.Add(c); err == nil && i == len(list)-1 {
				t.Errorf("%s: can be written", name)
			}
		}
		w = &Writer{w: &b, buf: make([]byte, frameHead)}
		for _, c := range list { // as another program would
			start := len(w.buf)
			w.buf = c.append(w.buf)
			w.chain.add(w.buf[start:])
			w.at = Place{w.at.N + 1, w.chain.now, c.Key}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err = read(b.Bytes())
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%s: can be read: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	f.Add(write(f, testHeader(), randomChanges(rng, 5)))
	f.Add(write(f, Header{Snap: Ident{1, 1, 1, 1}}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, list, err := read(p)
		if err != io.EOF {
			return
		}
		// What is taken is what would be written.
		if again := write(t, r.Header, list); len(list) < 10 && !bytes.Equal(again, p[:r.Off()]) && r.Off() == int64(len(again)) {
			t.Errorf("%x is read, and %x would be written", p, again)
		}
	})
}
