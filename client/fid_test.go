package client

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"gefs9p/ninep"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 chooses one")

// newRand returns a source for a random test, and prints how to repeat it.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// A disk is the one file of a fake that reads and writes.
type disk struct {
	mu     sync.Mutex
	data   []byte
	iounit uint32
	least  int        // of the bytes asked for, answer at least so many: 0 means all
	r      *rand.Rand // how many, and whether to answer now
	reads  int
	most   int // bytes of one request
}

func (d *disk) handle(f *fake, m *ninep.Fcall) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m.Type {
	case ninep.Topen:
		f.send(ninep.AppendRopen(nil, m.Tag, ninep.Qid{}, d.iounit))
	case ninep.Tread:
		d.reads++
		d.most = max(d.most, int(m.Tread.Count))
		off := min(m.Tread.Offset, uint64(len(d.data)))
		p := d.data[off:]
		p = p[:d.some(min(len(p), int(m.Tread.Count)))]
		f.send(ninep.AppendRread(nil, m.Tag, p))
	case ninep.Twrite:
		d.most = max(d.most, len(m.Twrite.Data))
		p := m.Twrite.Data[:d.some(len(m.Twrite.Data))]
		off := int(m.Twrite.Offset)
		if off+len(p) > len(d.data) {
			d.data = append(d.data, make([]byte, off+len(p)-len(d.data))...)
		}
		copy(d.data[off:], p)
		f.send(ninep.AppendRwrite(nil, m.Tag, uint32(len(p))))
	default:
		f.ok(m)
	}
}

// some returns how many of n bytes to take or give.
func (d *disk) some(n int) int {
	if d.least == 0 || n <= d.least {
		return n
	}
	return d.least + d.r.IntN(n-d.least+1)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestReadsAndWritesAreSplit(t *testing.T) {
	for _, c := range []struct {
		name   string
		iounit uint32
		least  int // 0: the server takes all it is given
		most   int
	}{
		{"by msize", 0, 0, 8192},
		{"by iounit", 1000, 0, 1000},
		{"iounit beyond msize", 1 << 20, 0, 8192},
		{"server answers short", 0, 100, 8192},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRand(t)
			d := &disk{iounit: c.iounit, least: c.least, r: r}
			_, f := dialFake(t, d.handle)
			if err := f.Open(ninep.ORDWR); err != nil {
				t.Fatal(err)
			}
			if f.Iounit() != c.most {
				t.Errorf("iounit %d", f.Iounit())
			}
			want := randomBytes(r, 100_003)
			if n, err := f.WriteAt(want[50_000:], 50_000); n != 50_003 || err != nil {
				t.Fatalf("WriteAt: %d, %v", n, err)
			}
			if n, err := f.WriteAt(want[:50_000], 0); n != 50_000 || err != nil {
				t.Fatalf("WriteAt: %d, %v", n, err)
			}
			if !bytes.Equal(d.data, want) {
				t.Fatal("what was written is not there")
			}
			for name, read := range map[string]func([]byte, int64) (int, error){"ReadAt": f.ReadAt, "ReadFull": f.ReadFull} {
				for range 20 {
					off := r.IntN(len(want) + 10)
					p := make([]byte, r.IntN(40_000))
					n, err := read(p, int64(off))
					exp := want[min(off, len(want)):min(off+len(p), len(want))]
					if !bytes.Equal(p[:n], exp) {
						t.Fatalf("%s(%d bytes at %d) = %d bytes, or wrong ones; want %d", name, len(p), off, n, len(exp))
					}
					if short := n < len(p); short && err != io.EOF || !short && err != nil {
						t.Fatalf("%s(%d bytes at %d) = %d, %v", name, len(p), off, n, err)
					}
				}
			}
			if d.most > c.most {
				t.Errorf("a request for %d bytes", d.most)
			}
		})
	}
}

func TestReadFullAsksForNothingBehindTheEnd(t *testing.T) {
	d := &disk{data: make([]byte, 1<<20)}
	_, f := dialFake(t, d.handle)
	if _, err := f.ReadFull(make([]byte, 10), 0); err == nil {
		t.Error("read ahead in a directory")
	}
	if err := f.Open(ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFull(make([]byte, 3*8192+1), 5); err != nil {
		t.Fatal(err)
	}
	if d.reads != 4 {
		t.Errorf("%d reads", d.reads)
	}
}

func TestReaderReadsLikeAFile(t *testing.T) {
	r := newRand(t)
	for _, least := range []int{0, 1} {
		want := randomBytes(r, 3*8192+77)
		d := &disk{data: want, least: least, r: r, iounit: 2000}
		_, f := dialFake(t, d.handle)
		if err := f.Open(ninep.OREAD); err != nil {
			t.Fatal(err)
		}
		rd, err := f.NewReader(0, 4)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(rd, want); err != nil {
			t.Errorf("least %d: %v", least, err)
		}
		rd.Close()
		if _, err := rd.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read after Close: %v", err)
		}
	}
}

func TestReaderKeepsRequestsOutstanding(t *testing.T) {
	// The fake answers only when there are four.
	var held []*ninep.Fcall
	_, f := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if held = append(held, m); len(held) == 4 {
			for _, m := range slices.Backward(held) {
				f.ok(m)
			}
			held = nil
		}
	})
	f.qid.Qtype = ninep.QTFILE
	rd, err := f.NewReader(0, 4)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := rd.Read(make([]byte, 100)); n != 100 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, depth := range []int{0, -1, maxTags + 1} {
		if _, err := f.NewReader(0, depth); err == nil {
			t.Errorf("depth %d", depth)
		}
	}
	if _, err := f.NewReader(-1, 1); err == nil {
		t.Error("negative offset")
	}
	f.qid.Qtype = ninep.QTDIR
	if _, err := f.NewReader(0, 1); err == nil {
		t.Error("read-ahead in a directory")
	}
}

func TestReaderGivesWhatIsBeforeAnError(t *testing.T) {
	const good = 3
	_, f := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type == ninep.Tread && m.Tread.Offset >= good*8192 {
			f.fail(m, "i/o error")
			return
		}
		f.ok(m)
	})
	f.qid.Qtype = ninep.QTFILE
	p := make([]byte, 10*8192)
	if n, err := f.ReadFull(p, 0); n != good*8192 || err != Error("i/o error") {
		t.Errorf("ReadFull: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 0); n != good*8192 || err != Error("i/o error") {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
}

func TestWriteThatTakesNothingIsShort(t *testing.T) {
	_, f := dialFake(t, func(f *fake, m *ninep.Fcall) { f.send(ninep.AppendRwrite(nil, m.Tag, 0)) })
	if n, err := f.WriteAt([]byte("abc"), 0); n != 0 || err != io.ErrShortWrite {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.WriteAt(nil, 0); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
	if _, err := f.WriteAt(nil, -1); err == nil {
		t.Error("negative offset")
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset")
	}
}

func TestWalkOfManyNamesTakesSeveralMessages(t *testing.T) {
	var walks [][]string
	var fids [][2]uint32
	_, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		if m.Type == ninep.Twalk {
			walks = append(walks, slices.Clone(m.Twalk.Wname))
			fids = append(fids, [2]uint32{m.Twalk.Fid, m.Twalk.Newfid})
		}
		f.ok(m)
	})
	var names []string
	for i := range 35 {
		names = append(names, fmt.Sprint(i))
	}
	f, err := root.WalkPath("/" + strings.Join(names, "//") + "/./")
	if err != nil {
		t.Fatal(err)
	}
	if len(walks) != 3 || !slices.Equal(slices.Concat(walks...), names) {
		t.Errorf("walks %q", walks)
	}
	n := f.Num()
	if want := [][2]uint32{{root.Num(), n}, {n, n}, {n, n}}; !slices.Equal(fids, want) {
		t.Errorf("fids %v, want %v", fids, want)
	}
	walks = nil
	if _, err := root.Walk(); err != nil {
		t.Error(err)
	}
	if len(walks) != 1 || len(walks[0]) != 0 {
		t.Errorf("clone: %q", walks)
	}
}

func TestPartialWalkSaysWhatIsMissing(t *testing.T) {
	var clunked []uint32
	reached := 2
	c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
		switch m.Type {
		case ninep.Twalk:
			n := min(reached, len(m.Twalk.Wname))
			reached -= n
			b, _ := ninep.AppendRwalk(nil, m.Tag, make([]ninep.Qid, n)...)
			f.send(b)
		case ninep.Tclunk:
			clunked = append(clunked, m.Tclunk.Fid)
			f.ok(m)
		}
	})
	_, err := root.Walk("a", "b", "c", "d")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "walk a/b/c:") {
		t.Errorf("error %v", err)
	}
	if len(clunked) != 0 {
		t.Errorf("clunked %v, which no walk made", clunked)
	}
	reached = 17 // the second message fails; the first has made the fid
	if _, err = root.Walk(strings.Split(strings.Repeat("x", 20), "")...); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if len(clunked) != 1 {
		t.Errorf("clunked %v", clunked)
	}
	if inUse := int(c.fids.next) - len(c.fids.free); inUse != 1 {
		t.Errorf("%d fids in use", inUse)
	}
}

func TestFidNumbersAreUsedAgain(t *testing.T) {
	for name, gone := range map[string]func(*Fid) error{"clunk": (*Fid).Clunk, "remove": (*Fid).Remove} {
		c, root := dialFake(t, func(f *fake, m *ninep.Fcall) {
			if m.Type == ninep.Tremove {
				f.fail(m, "permission denied") // and is gone nevertheless
				return
			}
			f.ok(m)
		})
		for range 100 {
			f, err := root.Walk("x")
			if err != nil {
				t.Fatal(err)
			}
			if err := gone(f); err != nil && err != Error("permission denied") {
				t.Fatal(err)
			}
		}
		if c.fids.next > 2 {
			t.Errorf("%s: %d numbers for two fids", name, c.fids.next)
		}
	}
}

func TestReadDirReadsToTheEnd(t *testing.T) {
	var entries []byte
	var ends []int
	var want []ninep.Dir
	for i := range 500 {
		d := ninep.Dir{Name: fmt.Sprintf("file%d", i), Uid: "glenda", Gid: "glenda", Length: uint64(i)}
		var err error
		if entries, err = d.Append(entries); err != nil {
			t.Fatal(err)
		}
		want = append(want, d)
		ends = append(ends, len(entries))
	}
	_, f := dialFake(t, func(f *fake, m *ninep.Fcall) {
		off := int(m.Tread.Offset)
		end := off
		for _, e := range ends { // whole entries only
			if e > off && e-off <= int(m.Tread.Count) {
				end = e
			}
		}
		f.send(ninep.AppendRread(nil, m.Tag, entries[off:end]))
	})
	got, err := f.ReadDir()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d entries, %v; want %d", len(got), err, len(want))
	}
}

func TestFsyncTouchesNothing(t *testing.T) {
	var d ninep.Dir
	_, f := dialFake(t, func(f *fake, m *ninep.Fcall) {
		d = ninep.Dir(m.Twstat.Stat)
		f.ok(m)
	})
	if err := f.Fsync(); err != nil {
		t.Fatal(err)
	}
	if !d.IsNull() {
		t.Errorf("Twstat of %+v", d)
	}
}
