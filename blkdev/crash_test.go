package blkdev_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
)

const crashSize = 1<<18 + 777

// bytesOf returns all of a disk in memory.
func bytesOf(t testing.TB, m *blkdev.Mem) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func state(t testing.TB, tr *blkdev.Trace, c blkdev.Cut) *blkdev.Mem {
	t.Helper()
	m, err := tr.State(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// record does n random operations on a disk with random contents.
func record(t testing.TB, r *rand.Rand, n int) (image []byte, c *blkdev.Crash) {
	image = make([]byte, crashSize)
	for i := 0; i < len(image); i += 1 + r.IntN(3000) {
		image[i] = byte(r.Uint32())
	}
	m, err := blkdev.ReadMem(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	c = blkdev.NewCrash(m)
	buf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32() | 1)
		}
		return b
	}
	for i := range n {
		var err error
		switch r.IntN(8) {
		case 0:
			err = c.Sync()
		case 1:
			if c.Mark(i); r.IntN(8) == 0 {
				err = c.Discard(r.Int64N(crashSize-20_000), r.Int64N(20_000))
			}
		case 2:
			off := r.Int64N(crashSize - 5000)
			_, err = c.WriteAt(buf(r.IntN(5000)), off)
		case 3:
			err = c.WriteVec([][]byte{buf(16384), nil, buf(512), buf(16384)}, r.Int64N(8)*16384)
		default:
			_, err = c.WriteAt(buf(16384), r.Int64N(16)*16384)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return image, c
}

// naive makes the image of a cut from the definition, from the start and byte by byte.
func naive(image []byte, tr *blkdev.Trace, c blkdev.Cut) []byte {
	b := bytes.Clone(image)
	do := func(i int, sectors []int) {
		e := tr.Event(i)
		if e.Kind != blkdev.EventWrite && e.Kind != blkdev.EventDiscard {
			return
		}
		data := e.Data
		if e.Kind == blkdev.EventDiscard {
			data = make([]byte, e.Len)
		}
		if sectors == nil {
			copy(b[e.Off:], data)
			return
		}
		for k := range e.Len {
			if at := e.Off + k; slices.Contains(sectors, int(at/512-e.Off/512)) {
				b[at] = data[k]
			}
		}
	}
	durable := c.Full
	for i := range c.At {
		if tr.Event(i).Kind == blkdev.EventSync {
			durable = max(durable, i)
		}
	}
	for i := range durable {
		do(i, nil)
	}
	for _, p := range c.Then {
		do(p.Event, p.Sectors)
	}
	return b
}

func TestStateIsWhatTheCutSays(t *testing.T) {
	r := blkdevtest.Rand(t)
	image, c := record(t, r, 400)
	tr := c.Trace()
	if got := bytesOf(t, state(t, tr, tr.All(tr.Len()))); !bytes.Equal(got, bytesOf(t, c.Image())) {
		t.Error("the state with nothing lost is not what the server saw")
	}
	torn, lost, shuffled := 0, 0, 0
	for range 150 {
		cut := tr.Random(r)
		m := state(t, tr, cut)
		if !bytes.Equal(bytesOf(t, m), naive(image, tr, cut)) {
			t.Fatalf("state of %v is wrong", cut)
		}
		// States are the caller's: what he does to one is not seen in the next.
		if _, err := m.WriteAt(bytes.Repeat([]byte{0xee}, 40_000), r.Int64N(crashSize-40_000)); err != nil {
			t.Fatal(err)
		}
		for i, p := range cut.Then {
			if p.Sectors != nil {
				torn++
			}
			if i > 0 && p.Event < cut.Then[i-1].Event {
				shuffled++
			}
		}
		if cut.Full < cut.At {
			lost++
		}
	}
	if torn == 0 || lost == 0 || shuffled == 0 {
		t.Errorf("random cuts lack variety: %d torn, %d with losses, %d out of order", torn, lost, shuffled)
	}
}

func TestSystematicCutsAreWhatTheySay(t *testing.T) {
	r := blkdevtest.Rand(t)
	image, c := record(t, r, 60)
	tr := c.Trace()
	for name, cuts := range map[string]iter.Seq[blkdev.Cut]{
		"boundaries": tr.Boundaries(), "subsets": tr.Subsets(1), "tears": tr.Tears(), "overtakes": tr.Overtakes(),
	} {
		n := 0
		for cut := range cuts {
			if n++; n%7 != 0 && name != "boundaries" { // the naive way is slow
				continue
			}
			if !bytes.Equal(bytesOf(t, state(t, tr, cut)), naive(image, tr, cut)) {
				t.Fatalf("%s: state of %v is wrong", name, cut)
			}
		}
		if n == 0 {
			t.Errorf("no %s", name)
		}
		for range cuts {
			break // must stop when told
		}
	}
}

// script makes a disk of 16 blocks; "a" to "p" write 'a'… to that block, "A" writes a second thing
// to block a, "." syncs, "!" marks, "ab" in one word are adjacent and go in one call.
func script(t testing.TB, ops ...string) *blkdev.Crash {
	c := blkdev.NewCrash(blkdev.NewMem(16 * 1024))
	for i, op := range ops {
		var err error
		switch op {
		case ".":
			err = c.Sync()
		case "!":
			c.Mark(i)
		default:
			var bufs [][]byte
			for _, b := range []byte(op) {
				bufs = append(bufs, bytes.Repeat([]byte{b}, 1024))
			}
			err = c.WriteVec(bufs, int64(op[0]|0x20-'a')*1024)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// show returns what the blocks hold, "-" for nothing and "?" for a mixture.
func show(t testing.TB, m *blkdev.Mem) string {
	b := bytesOf(t, m)
	s := ""
	for i := 0; i < len(b); i += 1024 {
		switch c := b[i]; {
		case c != b[i+512]:
			s += "?"
		case c == 0:
			s += "-"
		default:
			s += string(rune(c))
		}
	}
	for len(s) > 0 && s[len(s)-1] == '-' {
		s = s[:len(s)-1]
	}
	return s
}

// states returns what all the cuts find, with the number of marks before each.
func states(t testing.TB, tr *blkdev.Trace, cuts iter.Seq[blkdev.Cut]) []string {
	var out []string
	for c := range cuts {
		out = append(out, fmt.Sprintf("%s/%d", show(t, state(t, tr, c)), len(tr.Marks(c.At))))
	}
	return out
}

func TestCutsOfASmallTrace(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []string
		cuts func(*blkdev.Trace) iter.Seq[blkdev.Cut]
		want []string
	}{
		{"a boundary takes the marks after its last write", []string{"a", "!", ".", "!", "b", "!"}, (*blkdev.Trace).Boundaries,
			[]string{"/0", "a/2", "ab/3"}},
		{"adjacent buffers are lost one by one", []string{"ab"}, (*blkdev.Trace).Boundaries, []string{"", "a", "ab"}},
		{"nothing is lost before a sync", []string{"a", ".", "b", "!"}, subsets(9), []string{"", "a", "a/1", "ab/1"}},
		{"the sync that ends a window has not happened", []string{"a", "!", ".", "!"}, subsets(9), []string{"/1", "a/1"}},
		{"small windows have all subsets", []string{"a", "b", "c"}, subsets(1),
			[]string{"", "a", "-b", "--c", "ab", "a-c", "-bc", "abc"}},
		{"large windows lose or keep few", []string{"abcd"}, subsets(1),
			[]string{"", "a", "-b", "--c", "---d", "abc", "ab-d", "a-cd", "-bcd", "abcd"}},
		{"windows are independent", []string{"a", ".", ".", "b", ".", "c"}, subsets(1), []string{"", "a", "a", "ab", "ab", "abc"}},
		{"the older of two writes may win", []string{"a", "b", "A", ".", "B", "a"}, (*blkdev.Trace).Overtakes, []string{"ab"}},
		{"it overtakes later ones too", []string{"a", "A", "b", "a"}, (*blkdev.Trace).Overtakes, []string{"ab", "ab", "Ab"}},
		{"a write is torn in two ways when it has two sectors", []string{"a", "b", "!", ".", "c"}, (*blkdev.Trace).Tears,
			[]string{"?", "?", "a?/1", "a?/1", "ab?/1", "ab?/1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := script(t, c.ops...).Trace()
			want := slices.Clone(c.want)
			for i, w := range want {
				if !bytes.ContainsRune([]byte(w), '/') {
					want[i] = w + "/0"
				}
			}
			if got := states(t, tr, c.cuts(tr)); !slices.Equal(got, want) {
				t.Errorf("states\n%q, want\n%q", got, want)
			}
		})
	}
}

func subsets(k int) func(*blkdev.Trace) iter.Seq[blkdev.Cut] {
	return func(tr *blkdev.Trace) iter.Seq[blkdev.Cut] { return tr.Subsets(k) }
}

func TestCutsMadeByHand(t *testing.T) {
	tr := script(t, "a", ".", "b", "c", "A", "d").Trace()
	for _, c := range []struct {
		cut  blkdev.Cut
		want string
	}{
		{tr.All(0), ""},
		{tr.All(4), "abc"},
		{tr.All(6), "Abcd"},
		{tr.None(6), "a"},
		{tr.None(1), ""},
		{tr.None(2), "a"},
		{tr.Only(6, 4, 5), "A--d"},
		{tr.Without(6, 2), "A-cd"},
		{tr.Without(6), "Abcd"},
		{tr.Without(6, 2, 3, 4, 5), "a"},
		{blkdev.Cut{At: 6, Full: 4, Then: []blkdev.Part{{Event: 5, Sectors: []int{1}}, {Event: 4, Sectors: []int{}}}}, "abc?"},
	} {
		if got := show(t, state(t, tr, c.cut)); got != c.want {
			t.Errorf("%v finds %q, want %q", c.cut, got, c.want)
		}
	}
}

func TestCutsThatDoNotFitAreErrors(t *testing.T) {
	tr := script(t, "a", ".", "b", "!").Trace()
	part := func(e int, s ...int) []blkdev.Part { return []blkdev.Part{{Event: e, Sectors: s}} }
	for _, c := range []blkdev.Cut{
		{At: -1, Full: -1}, {At: 5}, {At: 2, Full: 3}, {At: 2, Full: -1},
		{At: 4, Then: part(0)},                         // synced
		{At: 4, Then: part(1)}, {At: 4, Then: part(3)}, // no writes
		{At: 2, Then: part(2)}, {At: 4, Then: part(4)}, {At: 4, Then: part(-1)}, // not yet, never
		{At: 4, Full: 3, Then: part(2)}, // done already
		{At: 4, Then: part(2, 2)}, {At: 4, Then: part(2, -1)},
	} {
		if _, err := tr.State(c); err == nil {
			t.Errorf("%v was accepted", c)
		}
	}
}

func TestCutsAreParsedBack(t *testing.T) {
	r := blkdevtest.Rand(t)
	_, c := record(t, r, 200)
	tr := c.Trace()
	for range 200 {
		cut := tr.Random(r)
		back, err := blkdev.ParseCut(cut.String())
		if err != nil || back.String() != cut.String() {
			t.Fatalf("%q came back as %q, %v", cut, back, err)
		}
		if same, _ := state(t, tr, cut).Equal(state(t, tr, back)); !same {
			t.Fatalf("%q parsed is another state", cut)
		}
	}
	if s := (blkdev.Cut{At: 12, Full: 7, Then: []blkdev.Part{{Event: 9}, {Event: 8, Sectors: []int{0, 1, 2, 3, 7}}}}).String(); s != "at=12 full=7 then=9,8:0-3+7" {
		t.Errorf("String() = %q", s)
	}
}

func FuzzParseCut(f *testing.F) {
	for _, s := range []string{"at=1 full=0", "at=12 full=7 then=9,8:0-3+7", "at=2 full=1 then=1:", "at=1 full=0 then=", "full=1 at=2", "at=1 full=0 then=1:9-1", "at=1 full=0 then=1:0-99999999999"} {
		f.Add(s)
	}
	tr := script(f, "a", ".", "b", "c").Trace()
	f.Fuzz(func(t *testing.T, s string) {
		c, err := blkdev.ParseCut(s)
		if err != nil {
			return
		}
		back, err := blkdev.ParseCut(c.String())
		if err != nil || back.String() != c.String() {
			t.Errorf("%q is %q is %q, %v", s, c, back, err)
		}
		tr.State(c) // must not panic
	})
}

func TestSameSeedGivesTheSameCuts(t *testing.T) {
	_, c := record(t, blkdevtest.Rand(t), 300)
	tr := c.Trace()
	a, b := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	for range 50 {
		if x, y := tr.Random(a), tr.Random(b); x.String() != y.String() {
			t.Fatalf("%v and %v", x, y)
		}
	}
}

func TestTraceStandsStillWhileTheDiskGoesOn(t *testing.T) {
	c := script(t, "a", ".", "b")
	tr := c.Trace()
	if _, err := c.WriteAt(bytes.Repeat([]byte{'c'}, 1024), 2048); err != nil {
		t.Fatal(err)
	}
	c.Mark("late")
	if tr.Len() != 3 || len(tr.Marks(tr.Len())) != 0 || show(t, state(t, tr, tr.All(3))) != "ab" {
		t.Error("an old trace shows what came later")
	}
	if tr = c.Trace(); tr.Len() != 5 || show(t, state(t, tr, tr.All(5))) != "abc" {
		t.Error("a new trace lacks what came later")
	}
}

func TestReopenGoesOnWithTheSameTrace(t *testing.T) {
	c := script(t, "a", ".")
	if err := c.Reopen(); err == nil {
		t.Error("an open disk was opened again")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Reopen(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteAt(bytes.Repeat([]byte{'b'}, 1024), 1024); err != nil {
		t.Fatal(err)
	}
	if tr := c.Trace(); show(t, state(t, tr, tr.All(tr.Len()))) != "ab" {
		t.Error("the trace lost something over Close and Reopen")
	}
}

// TestCutsFindTheMissingSync is what all this is for: a program that writes a record and then a
// pointer to it is right with a Sync between the two, and wrong without.
func TestCutsFindTheMissingSync(t *testing.T) {
	run := func(withSync bool) (violations int) {
		c := blkdev.NewCrash(blkdev.NewMem(64 * 1024))
		for gen := uint32(1); gen <= 10; gen++ {
			rec := bytes.Repeat([]byte{byte(gen)}, 1024)
			ptr := binary.BigEndian.AppendUint32(nil, gen)
			if _, err := c.WriteAt(rec, int64(gen)*1024); err != nil {
				t.Fatal(err)
			}
			if withSync {
				if err := c.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.WriteAt(ptr, 0); err != nil {
				t.Fatal(err)
			}
			if err := c.Sync(); err != nil {
				t.Fatal(err)
			}
			c.Mark(gen)
		}
		tr := c.Trace()
		for _, cuts := range []iter.Seq[blkdev.Cut]{tr.Boundaries(), tr.Subsets(2), tr.Tears(), tr.Overtakes()} {
			for cut := range cuts {
				b := bytesOf(t, state(t, tr, cut))
				gen := binary.BigEndian.Uint32(b)
				if gen > 0 && bytes.Count(b[gen*1024:gen*1024+1024], []byte{byte(gen)}) != 1024 {
					violations++ // points at what is not there
				}
				if marks := tr.Marks(cut.At); len(marks) > 0 && gen < marks[len(marks)-1].(uint32) {
					t.Fatalf("%v: generation %d was synced, %d found", cut, marks[len(marks)-1], gen)
				}
			}
		}
		return violations
	}
	if n := run(true); n != 0 {
		t.Errorf("%d violations in a program without error", n)
	}
	if n := run(false); n == 0 {
		t.Error("the missing sync was not found")
	}
}

func BenchmarkState(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	c := blkdev.NewCrash(blkdev.NewMem(128 << 20))
	p := make([]byte, 16384)
	for i := range 20_000 {
		if _, err := c.WriteAt(p, r.Int64N(8192)*16384); err != nil {
			b.Fatal(err)
		}
		if i%200 == 0 {
			c.Sync()
		}
	}
	tr := c.Trace()
	b.Run("boundaries", func(b *testing.B) {
		b.ReportAllocs()
		next, stop := iter.Pull(tr.Boundaries())
		defer func() { stop() }()
		for b.Loop() {
			cut, ok := next()
			if !ok {
				stop()
				next, stop = iter.Pull(tr.Boundaries())
				cut, _ = next()
			}
			if _, err := tr.State(cut); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tr.State(tr.Random(r)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
