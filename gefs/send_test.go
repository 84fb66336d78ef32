package gefs_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/stream"
)

var (
	sendSeed = flag.Uint64("send.seed", 0, "`seed` of the tests of streams; 0 takes one from the clock")
	sendCuts = flag.Int("send.cuts", 0, "at how many places streams are cut, and damaged; 0 is what an ordinary run does")
)

func sendRand(t *testing.T) *rand.Rand {
	seed := *sendSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-send.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// churn makes n random changes in a tree, and knows which files there are.
type churn struct {
	rng   *rand.Rand
	s     *session
	dirs  []string
	files []string
	n     int
}

// newChurn returns one whose new names are from the number first on.
func newChurn(rng *rand.Rand, s *session, first int) *churn {
	return &churn{rng: rng, s: s, dirs: []string{"."}, n: first}
}

func (c *churn) pick(list []string) string { return list[c.rng.IntN(len(list))] }

func (c *churn) text() string {
	n := c.rng.IntN(3000)
	if c.rng.IntN(8) == 0 {
		n = c.rng.IntN(5 * blkfmt.BlkSize)
	}
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(c.rng.Uint32() >> 8)
		if c.rng.IntN(40) == 0 {
			i += 500 // zeros
		}
	}
	return string(p)
}

func (c *churn) do(n int) {
	for range n {
		c.n++
		switch k := c.rng.IntN(20); {
		case k == 0 && len(c.dirs) < 40:
			d := c.pick(c.dirs) + fmt.Sprintf("/d%d", c.n)
			c.s.mkdir(d, 0750)
			c.dirs = append(c.dirs, d)
		case k < 8 || len(c.files) == 0:
			f := c.pick(c.dirs) + fmt.Sprintf("/f%d%s", c.n, strings.Repeat("x", c.rng.IntN(30)))
			c.s.put(f, []uint32{0644, 0600, 0444 | ninep.DMAPPEND}[c.rng.IntN(3)], c.text())
			c.files = append(c.files, f)
		case k < 12:
			f := c.s.open(c.pick(c.files), ninep.OWRITE)
			f.write(c.text(), c.rng.Int64N(4*blkfmt.BlkSize))
			f.clunk()
		case k < 14:
			c.s.truncate(c.pick(c.files), c.rng.Uint64N(3*blkfmt.BlkSize))
		case k < 17:
			i := c.rng.IntN(len(c.files))
			c.s.remove(c.files[i])
			c.files = slices.Delete(c.files, i, i+1)
		default:
			mtime := c.rng.Uint32()
			c.s.wstat(c.pick(c.files), func(d *ninep.Dir) { d.Mtime = mtime })
		}
	}
}

func (w *world) send(snap, base string, from *stream.Mark) []byte {
	w.t.Helper()
	var b bytes.Buffer
	if _, err := w.fs.Send(context.Background(), &b, gefs.SendOptions{Snap: snap, Base: base, From: from}); err != nil {
		w.t.Fatalf("send %s from %q: %v", snap, base, err)
	}
	return b.Bytes()
}

func (w *world) recvErr(p []byte, name string) (gefs.Moved, error) {
	return w.fs.Receive(context.Background(), bytes.NewReader(p), gefs.ReceiveOptions{Name: name})
}

func (w *world) recv(p []byte, name string) gefs.Moved {
	w.t.Helper()
	m, err := w.recvErr(p, name)
	if err != nil {
		w.t.Fatalf("receive %s: %v", name, err)
	}
	return m
}

func (w *world) digest(label string) stream.Digest {
	w.t.Helper()
	m, err := w.fs.Digest(context.Background(), label, nil)
	if err != nil {
		w.t.Fatalf("digest of %s: %v", label, err)
	}
	return m.Digest
}

// labels returns the names of all labels.
func (w *world) labels() string {
	var names []string
	for _, l := range w.fs.Labels() {
		names = append(names, l.Name)
	}
	return strings.Join(names, " ")
}

// sameSnapshot compares the snapshot of two disks, by digest and as a client sees it.
func sameSnapshot(t *testing.T, a, b *world, label, label2 string) {
	t.Helper()
	if x, y := a.digest(label), b.digest(label2); x != y {
		t.Errorf("%s: digest %v, and %v on the other disk", label, x, y)
	}
	ra, rb := a.as("glenda", "%"+label), b.as("glenda", "%"+label2)
	gefstest.SameTree(t, label, gefstest.Tree(t, rb.root), gefstest.Tree(t, ra.root))
	ra.hangUp()
	rb.hangUp()
}

// TestReceivedSnapshotsEqualTheSent sends a whole snapshot and chains of differences of random histories, with
// forks and a rollback, to another disk, and on from there.
func TestReceivedSnapshotsEqualTheSent(t *testing.T) {
	rng := sendRand(t)
	for range 3 {
		a, b := newWorld(t), newWorld(t)
		s := a.as("glenda", "%main")
		c := newChurn(rng, s, 0)
		c.do(60)
		a.snapshot("main", "s0", false)
		whole := a.send("s0", "", nil)
		m := b.recv(whole, "")
		if m.Label != "s0" || m.Digest != a.digest("s0") || m.Bytes != int64(len(whole)) {
			t.Errorf("received %+v, want s0 with digest %v of %d bytes", m, a.digest("s0"), len(whole))
		}
		sameSnapshot(t, a, b, "s0", "s0")
		last := "s0"
		for i := 1; i <= 4; i++ {
			c.do(rng.IntN(40))
			name := fmt.Sprintf("s%d", i)
			a.snapshot("main", name, false)
			if i == 3 { // what is still to be cleared when it is sent
				c.s.put("./large", 0644, strings.Repeat("large", 400000))
				a.snapshot("main", "full", false)
				c.s.remove("./large")
				a.snapshot("main", "cleared", false)
				b.recv(a.send("full", last, nil), "")
				part := a.send("cleared", "full", nil)
				if len(part) > 100<<10 {
					t.Errorf("a removal is %d bytes", len(part))
				}
				b.recv(part, "")
				sameSnapshot(t, a, b, "cleared", "cleared")
			}
			part := a.send(name, last, nil)
			b.recv(part, "")
			sameSnapshot(t, a, b, name, name)
			last = name
		}
		// Between snapshots that are not derived from each other.
		a.snapshot("s1", "fork", true)
		f := a.as("glenda", "%fork")
		newChurn(rng, f, 10000).do(20)
		a.snapshot("fork", "forked", false)
		b.recv(a.send("forked", last, nil), "")
		sameSnapshot(t, a, b, "forked", "forked")

		// And back: what was received and changed there is a difference to what was sent.
		b.snapshot(last, "work", true)
		g := b.as("glenda", "%work")
		newChurn(rng, g, 20000).do(20)
		b.snapshot("work", "worked", false)
		a.recv(b.send("worked", last, nil), "back")
		sameSnapshot(t, b, a, "worked", "back")

		// Half a tree does not get in the way of others.
		for _, w := range []*world{a, b} {
			w.end()
		}
	}
}

func TestADifferenceReadsOnlyWhatDiffers(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	s := a.as("glenda", "%main")
	for i := range 1500 {
		s.put(fmt.Sprintf("file%d", i), 0644, strings.Repeat("data", 100))
	}
	a.snapshot("main", "one", false)
	s.put("more", 0644, "text")
	a.snapshot("main", "two", false)
	a.sync()
	whole, part := a.send("two", "", nil), a.send("two", "one", nil)
	if len(part) > len(whole)/100 {
		t.Errorf("the difference is %d bytes, everything %d", len(part), len(whole))
	}
	same := a.send("two", "two", nil)
	if len(same) > 1000 {
		t.Errorf("the difference to itself is %d bytes", len(same))
	}
	// And it is all that differs, although it waits in the buffer of the root.
	b.recv(a.send("one", "", nil), "")
	b.recv(part, "")
	sameSnapshot(t, a, b, "two", "two")
	b.end()
	a.end()
}

// newBulkSource is newSource with enough data in both streams for many frames and commits.
func newBulkSource(t *testing.T, rng *rand.Rand) *source {
	a := newWorld(t)
	s := a.as("glenda", "%main")
	c := newChurn(rng, s, 0)
	for _, name := range []string{"one", "two"} {
		c.do(60)
		bulk := make([]byte, 2<<20)
		for i := range bulk {
			bulk[i] = byte(rng.Uint32())
		}
		s.put("bulk of "+name, 0644, string(bulk))
		a.snapshot("main", name, false)
	}
	return &source{a, a.send("one", "", nil), a.send("two", "one", nil)}
}

// A source is a disk with two snapshots, and the streams of them.
type source struct {
	*world
	whole, part []byte
}

func newSource(t *testing.T, rng *rand.Rand, n int) *source {
	a := newWorld(t)
	s := a.as("glenda", "%main")
	c := newChurn(rng, s, 0)
	c.do(n)
	a.snapshot("main", "one", false)
	c.do(n / 2)
	a.snapshot("main", "two", false)
	return &source{a, a.send("one", "", nil), a.send("two", "one", nil)}
}

// TestCutStreamsGoOn cuts streams, sometimes the connection and sometimes the power, again and again, and goes on
// with all of the stream or with what is left. In between nothing can be seen of it.
func TestCutStreamsGoOn(t *testing.T) {
	rng := sendRand(t)
	cuts := max(*sendCuts, 100)
	a := newSource(t, rng, 100)
	one, two := a.digest("one"), a.digest("two")
	for n := 0; n < cuts; {
		dev := gefstest.Ream(t)
		b := newWorldOn(t, dev, gefs.Options{})
		for _, x := range []struct {
			label, base string
			bytes       []byte
			digest      stream.Digest
		}{{"one", "", a.whole, one}, {"two", "one", a.part, two}} {
			for cut := 0; ; n++ {
				p := x.bytes
				how := "all of it"
				if m, ok, err := b.fs.Where(x.label); err != nil {
					t.Fatal(err)
				} else if ok && rng.IntN(2) == 0 {
					how = fmt.Sprintf("from %d on", m.Place.N)
					m, err := stream.ParseToken(m.Token())
					if err != nil {
						t.Fatal(err)
					}
					p = a.send(x.label, x.base, &m)
				}
				cut = min(len(p), cut+1+rng.IntN(len(x.bytes)/4))
				if cut == len(p) {
					if m := b.recv(p, ""); m.Digest != x.digest && x.base == "" {
						t.Errorf("%s, %s: digest %v, want %v", x.label, how, m.Digest, x.digest)
					}
					break
				}
				if _, err := b.recvErr(p[:cut], ""); !errors.Is(err, stream.ErrCut) {
					t.Fatalf("%s, %s, cut at %d of %d: %v", x.label, how, cut, len(p), err)
				}
				if l := b.labels(); slices.Contains(strings.Fields(l), x.label) {
					t.Fatalf("%s is there after half a stream", x.label)
				}
				if len(p) < len(x.bytes) {
					cut = 0
				}
				if n%8 == 0 {
					b.stop()
					gefstest.CheckStrict(t, b.dev)
					b.start()
				}
			}
			if got := b.digest(x.label); got != x.digest {
				t.Fatalf("%s: digest %v, want %v", x.label, got, x.digest)
			}
		}
		sameSnapshot(t, a.world, b, "two", "two")
		if l := b.labels(); l != "adm empty main one two" {
			t.Errorf("labels are %s", l)
		}
		b.end()
	}
	a.end()
}

// TestPowerCutWhileReceiving cuts the power at random writes of a disk that receives two streams, and receives them
// again.
func TestPowerCutWhileReceiving(t *testing.T) {
	rng := sendRand(t)
	a := newSource(t, rng, 150)
	two := a.digest("two")
	crash := blkdev.NewCrash(gefstest.Ream(t))
	b := newWorldOn(t, crash, gefs.Options{CommitEvery: 2 * time.Millisecond})
	begin := crash.Len()
	for _, p := range [][]byte{a.whole, a.part} {
		slow := io.MultiReader() // so that there are commits in between
		for len(p) > 0 {
			n := min(len(p), 40000)
			slow = io.MultiReader(slow, bytes.NewReader(p[:n]), pause{})
			p = p[n:]
		}
		if _, err := b.fs.Receive(context.Background(), slow, gefs.ReceiveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	trace := crash.Trace()
	part := 0
	for range max(12, *sendCuts) {
		at := begin + rng.IntN(trace.Len()-begin)
		cut := trace.RandomAt(rng, at)
		state, err := trace.State(cut)
		if err != nil {
			t.Fatal(err)
		}
		gefstest.CheckStrict(t, state)
		w := &world{t: t, dev: state}
		w.start()
		for _, name := range []string{"one", "two"} {
			if m, ok, err := w.fs.Where(name); err != nil {
				t.Errorf("cut %v: %v", cut, err)
			} else if ok && m.Place.N > 0 {
				part++
			}
		}
		w.recv(a.whole, "")
		w.recv(a.part, "")
		if got := w.digest("two"); got != two {
			t.Errorf("cut %v: digest %v, want %v", cut, got, two)
		}
		w.end()
		if t.Failed() {
			return
		}
	}
	t.Logf("of %d writes; a part was there %d times", trace.Len()-begin, part)
	a.end()
}

// A pause is a reader that has nothing to say, and takes its time.
type pause struct{}

func (pause) Read([]byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return 0, io.EOF
}

// TestEachDamagedByteOfAStreamIsFound flips bits. Nothing of it gets a name, and the right stream goes on.
func TestEachDamagedByteOfAStreamIsFound(t *testing.T) {
	rng := sendRand(t)
	a := newSource(t, rng, 12)
	b := newWorld(t)
	check := func(p []byte, name string, at int) {
		t.Helper()
		bad := bytes.Clone(p)
		bad[at] ^= 1 << rng.IntN(8)
		m, err := b.recvErr(bad, name)
		var damaged *stream.DamagedError
		if !errors.As(err, &damaged) && !errors.Is(err, stream.ErrCut) && !errors.Is(err, stream.ErrNoStream) && !errors.Is(err, stream.ErrVersion) {
			t.Fatalf("byte %d of %d: %v, %+v", at, len(p), err, m)
		}
	}
	n := max(*sendCuts, 300)
	for i := range n {
		at := rng.IntN(len(a.whole))
		if i < 200 {
			at = i // all of the header
		}
		check(a.whole, "", at)
	}
	if l := b.labels(); l != "adm empty main" && l != "adm empty main "+gefs.Receiving("one") {
		t.Errorf("labels are %s", l)
	}
	b.recv(a.whole, "")
	sameSnapshot(t, a.world, b, "one", "one")
	for range n / 2 {
		check(a.part, "", rng.IntN(len(a.part)))
	}
	b.recv(a.part, "")
	sameSnapshot(t, a.world, b, "two", "two")
	a.end()
	b.end()
}

func TestStreamsThatDoNotFitAreRefused(t *testing.T) {
	rng := sendRand(t)
	a := newSource(t, rng, 30)
	b := newWorld(t)
	before := b.labels()
	refused := func(p []byte, name string, want error, words ...string) {
		t.Helper()
		_, err := b.recvErr(p, name)
		if !errors.Is(err, want) {
			t.Errorf("receive %s: %v, want %v", name, err, want)
		}
		for _, w := range words {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	refused(a.part, "", gefs.ErrNoBase, "one")
	refused(a.whole, "adm", snap.ErrReserved)
	refused(a.whole, "a/b", snap.ErrName)
	refused(a.whole, "main", snap.ErrExists)
	refused([]byte("not at all"), "x", stream.ErrCut)
	refused([]byte("something else that is long enough"), "x", stream.ErrNoStream)
	if l := b.labels(); l != before {
		t.Errorf("labels are %s", l)
	}
	if _, err := b.recvErr(a.whole[:len(a.whole)-1], "x"); !errors.Is(err, stream.ErrCut) {
		t.Fatal(err)
	}
	other := newSource(t, rng, 30)
	refused(other.whole, "x", gefs.ErrHalf)
	mark, ok, err := b.fs.Where("x")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	late := mark
	late.Place.N += 7
	refused(a.send("one", "", &late), "x", gefs.ErrElsewhere)
	refused(a.send("one", "", &mark), "y", gefs.ErrElsewhere)
	wrong := mark
	wrong.Place.Chain[0]++
	refused(a.send("one", "", &wrong), "x", gefs.ErrElsewhere)
	if _, err := other.fs.Send(context.Background(), io.Discard, gefs.SendOptions{Snap: "one", From: &mark}); !errors.Is(err, gefs.ErrOtherPart) {
		t.Errorf("a mark of another stream: %v", err)
	}
	// It is hidden until it is whole.
	if _, err := b.srv.Dial().Attach("glenda", gefs.Receiving("x")); err == nil {
		t.Error("what is being received can be mounted")
	}
	if _, err := b.fs.Send(context.Background(), io.Discard, gefs.SendOptions{Snap: gefs.Receiving("x")}); !errors.Is(err, gefs.ErrReceiving) {
		t.Errorf("sent on: %v", err)
	}
	if err := b.fs.GiveUp(context.Background(), "x"); err != nil {
		t.Fatal(err)
	}
	b.recv(a.whole, "x")
	if m := b.recv(a.whole, "x"); !m.Already {
		t.Errorf("received twice: %+v", m)
	}
	refused(other.whole, "x", snap.ErrExists)
	for _, w := range []*world{a.world, b, other.world} {
		w.end()
	}
}

func TestAFullDiskKeepsNothingOfAStream(t *testing.T) {
	if raceEnabled {
		t.Skip("it writes the smallest disk full, which takes a minute with the race detector")
	}
	a := newWorldOn(t, func() blkdev.Device {
		dev := blkdev.NewMem(400 << 20)
		if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
			t.Fatal(err)
		}
		return dev
	}(), gefs.Options{})
	s := a.as("glenda", "%main")
	f := s.create("large", 0644, ninep.OWRITE)
	chunk := strings.Repeat("0123456789abcdef", 1<<16)
	for i := range 140 {
		f.write(chunk, int64(i)<<20)
	}
	f.clunk()
	b := newWorld(t)
	b.sync()
	used := func() (n int64) {
		for _, x := range b.fs.Arenas() {
			n += x.Used
		}
		return n
	}
	before := used()
	p := a.send("main", "", nil)
	if _, err := b.recvErr(p, "copy"); !errors.Is(err, gefs.ErrFull) {
		t.Fatalf("a stream of %d MiB: %v", len(p)>>20, err)
	}
	if l := b.labels(); l != "adm empty main" {
		t.Errorf("labels are %s", l)
	}
	b.restart() // Close gives back the space
	b.sync()
	if after := used(); after > before+1<<20 {
		t.Errorf("%d MiB are used, %d before", after>>20, before>>20)
	}
	w := b.as("glenda", "%main")
	w.put("there is room", 0644, "text")
	b.end()
	a.end()
}

// TestSendingWhileOthersWork sends what a mutable label is, while it changes, its snapshots are deleted, and
// commits are made.
func TestSendingWhileOthersWork(t *testing.T) {
	rng := sendRand(t)
	a := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: 5 * time.Millisecond})
	b := newWorld(t)
	s := a.as("glenda", "%main")
	c := newChurn(rng, s, 0)
	c.do(200)
	a.snapshot("main", "copy", false)
	want := a.digest("copy")
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := a.fs.Send(context.Background(), w, gefs.SendOptions{Snap: "main"})
		w.CloseWithError(err)
		sent <- err
	}()
	head := make([]byte, 1)
	if _, err := io.ReadFull(r, head); err != nil { // now it has begun
		t.Fatal(err)
	}
	ctx, end := a.fs.Background()
	err := a.fs.DeleteLabel(ctx, "copy")
	end()
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		_, err := b.fs.Receive(context.Background(), io.MultiReader(bytes.NewReader(head), r), gefs.ReceiveOptions{Name: "copy"})
		r.CloseWithError(err)
		received <- err
	}()
	c.do(100)
	if err := errors.Join(<-sent, <-received); err != nil {
		t.Fatal(err)
	}
	if got := b.digest("copy"); got != want {
		t.Errorf("digest %v, want %v", got, want)
	}
	a.end()
	b.end()
}

// TestStreamsGoOnWhileOthersMakeFiles cuts a stream of a disk on which new files are made before the rest is sent, and
// before all of it is sent again.
func TestStreamsGoOnWhileOthersMakeFiles(t *testing.T) {
	rng := sendRand(t)
	a := newBulkSource(t, rng)
	s := a.as("glenda", "%main")
	for i, all := range []bool{false, true} {
		b := newWorld(t)
		if _, err := b.recvErr(a.whole[:len(a.whole)/2], ""); !errors.Is(err, stream.ErrCut) {
			t.Fatal(err)
		}
		m, ok, err := b.fs.Where("one")
		if !ok || err != nil || m.Place.N == 0 {
			t.Fatalf("half of a stream: %+v, %v, %v", m, ok, err)
		}
		s.put(fmt.Sprint("new", i), 0644, "text")
		from := &m
		if all {
			from = nil
		}
		b.recv(a.send("one", "", from), "")
		sameSnapshot(t, a.world, b, "one", "one")
		b.end()
	}
	a.end()
}

// TestNewFilesBesideWhatWasReceivedAreOthers makes files on a disk that has received a snapshot, in a label made of
// it: none has the qid of a file that came, even if the power goes away right after that. What the stream's header says
// of qids need not be enough.
func TestNewFilesBesideWhatWasReceivedAreOthers(t *testing.T) {
	a := newWorld(t)
	s := a.as("glenda", "%main")
	qids := map[uint64]string{}
	for i := range 200 {
		p := fmt.Sprint("file", i)
		s.put(p, 0644, "text")
		qids[s.stat(p).Qid.Uid] = p
	}
	a.snapshot("main", "one", false)
	s.put("later", 0644, "text")
	qids[s.stat("later").Qid.Uid] = "later"
	a.snapshot("main", "two", false)
	whole, part := a.send("one", "", nil), a.send("two", "one", nil)
	for _, tt := range []struct {
		name    string
		streams [][]byte
	}{
		{"whole", [][]byte{whole}},
		{"difference", [][]byte{whole, part}},
		{"header of another server", [][]byte{withNextQid(t, whole, 0)}},
	} {
		for _, crash := range []bool{false, true} {
			dev := gefstest.Ream(t)
			b := newWorldOn(t, dev, gefs.Options{})
			name := ""
			for _, p := range tt.streams {
				name = b.recv(p, "").Label
			}
			if crash {
				crashed := dev.Clone()
				b.stop()
				b.dev = crashed
				b.start()
			}
			b.snapshot(name, "work", true)
			g := b.as("glenda", "%work")
			for i := range 250 {
				p := fmt.Sprint("new", i)
				g.put(p, 0644, "text")
				qid := g.stat(p).Qid.Uid
				if old, ok := qids[qid]; ok && (old != "later" || name == "two") {
					t.Fatalf("%s, crashed %v: the new file %s has the qid %d of %s, which was received", tt.name, crash, p, qid, old)
				}
			}
			b.end()
		}
	}
	a.end()
}

// withNextQid returns a whole stream with another header.
func withNextQid(t *testing.T, p []byte, next uint64) []byte {
	t.Helper()
	r, err := stream.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	h := r.Header
	h.NextQid = next
	var b bytes.Buffer
	w, err := stream.NewWriter(&b, h)
	for err == nil {
		var list []stream.Change
		if list, err = r.Next(); err != nil {
			break
		}
		for _, c := range list {
			if _, err = w.Add(c); err != nil {
				t.Fatal(err)
			}
		}
		err = w.Flush()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
