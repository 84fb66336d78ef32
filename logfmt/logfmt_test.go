package logfmt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gefs9p/blkfmt"
	"gefs9p/logfmt"
)

// unhex returns the bytes written in s, blanks aside.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// golden returns the entries in a block of the reference; see testdata/README.md.
func golden(t testing.TB, name string, typ blkfmt.Type) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	p = append(p, make([]byte, blkfmt.BlkSize-len(p))...)
	h, err := blkfmt.DecodeLogHdr(p, typ, blkfmt.Metro{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p[blkfmt.LogHdSize : blkfmt.LogHdSize+h.Size]
}

// entries reads all of p.
func entries(p []byte) ([]logfmt.Entry, error) {
	var all []logfmt.Entry
	for len(p) > 0 {
		e, n, err := logfmt.Next(p)
		if err != nil {
			return all, err
		}
		all = append(all, e)
		p = p[n:]
	}
	return all, nil
}

const blk = blkfmt.BlkSize

func TestEntriesOfTheReference(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes []byte
		want  []logfmt.Entry
	}{
		{"alloc of a block", unhex(t, `0000000001ff4001`), []logfmt.Entry{{Op: logfmt.Alloc1, Addr: 0x1ff4000, Len: blk}}},
		{"free of a block", unhex(t, `0000000001ff4002`), []logfmt.Entry{{Op: logfmt.Free1, Addr: 0x1ff4000, Len: blk}}},
		{"barrier", unhex(t, `0000000000000603`), []logfmt.Entry{{Op: logfmt.Sync, Qgen: 6}}},
		{"free of a range", unhex(t, `000000000000c005 0000000001fec000`), []logfmt.Entry{{Op: logfmt.Free, Addr: 0xc000, Len: 0x1fec000}}},
		{"alloc of a range", unhex(t, `000000000000c004 0000000000004000`), []logfmt.Entry{{Op: logfmt.Alloc, Addr: 0xc000, Len: blk}}},
		{"arena 0 of a reamed 256 MiB disk", unhex(t, `
			000000000000c005 0000000001fec000
			000000000000c004 0000000000004000
			0000000001ff4001 0000000001ff0001 0000000001fec001`), []logfmt.Entry{
			{Op: logfmt.Free, Addr: 0xc000, Len: 0x1fec000},
			{Op: logfmt.Alloc, Addr: 0xc000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0x1ff4000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0x1ff0000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0x1fec000, Len: blk},
		}},
		{"golden log after ream", golden(t, "fresh-log0.blk", blkfmt.Log), []logfmt.Entry{
			{Op: logfmt.Free, Addr: 0xc000, Len: 0xfec000},
			{Op: logfmt.Alloc, Addr: 0xc000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xff4000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xff0000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfec000, Len: blk},
		}},
		{"golden log after a crash", golden(t, "crash-log0.blk", blkfmt.Log), []logfmt.Entry{
			{Op: logfmt.Free, Addr: 0x18000, Len: 0xfa4000},
			{Op: logfmt.Free1, Addr: 0x14000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfb8000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfb4000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfb0000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfac000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfa8000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfa4000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xfa0000, Len: blk},
			{Op: logfmt.Alloc1, Addr: 0xf9c000, Len: blk},
			{Op: logfmt.Sync, Qgen: 16},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := entries(tt.bytes)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			var again []byte
			for _, e := range tt.want {
				n := len(again)
				if again = logfmt.Append(again, e); len(again)-n != e.Size() {
					t.Errorf("%v took %d bytes, Size says %d", e, len(again)-n, e.Size())
				}
			}
			if !bytes.Equal(again, tt.bytes) {
				t.Errorf("written again as %x, want %x", again, tt.bytes)
			}
		})
	}
}

func TestBadEntriesAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, bytes string }{
		{"nothing", ``},
		{"cut word", `0000000001ff40`},
		{"nop", `0000000001ff4000`},
		{"op 6", `0000000001ff4006`},
		{"op 255", `0000000001ff40ff`},
		{"range without length", `000000000000c005`},
		{"range with a cut length", `000000000000c004 00000000000040`},
		{"alloc in the superblock", `0000000000000001`},
		{"free in the superblock", `0000000000000005 0000000000004000`},
		{"address askew", `0000000000008102`},
		{"address before the disk", `8000000000000001`},
		{"no address", `ffffffffffffff01`},
		{"no length", `000000000000c005 0000000000000000`},
		{"length -1 block", `000000000000c005 ffffffffffffc000`},
		{"length askew", `000000000000c004 0000000000004001`},
		{"end that overflows", `000000000000c004 7fffffffffffc000`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, n, err := logfmt.Next(unhex(t, tt.bytes))
			if !errors.Is(err, logfmt.ErrEntry) || n != 0 || e != (logfmt.Entry{}) {
				t.Errorf("%+v of %d bytes, error %v", e, n, err)
			}
		})
	}
}

func TestRangeTakesTheShortFormForABlock(t *testing.T) {
	for _, tt := range []struct {
		op   logfmt.Op
		n    int64
		want logfmt.Op
		size int
	}{
		{logfmt.Alloc, blk, logfmt.Alloc1, 8}, {logfmt.Free, blk, logfmt.Free1, 8},
		{logfmt.Alloc, 2 * blk, logfmt.Alloc, 16}, {logfmt.Free, 2 * blk, logfmt.Free, 16},
	} {
		e := logfmt.Range(tt.op, 0x8000, tt.n)
		if e.Op != tt.want || e.Addr != 0x8000 || e.Len != tt.n || e.Size() != tt.size {
			t.Errorf("%v of %d bytes: %+v of %d bytes", tt.op, tt.n, e, e.Size())
		}
	}
}

// A writer that starts a new block at LogFull has room for any entry and the allocation of the new
// block behind it, and cannot be stopped one entry earlier by either.
func TestALogBlockKeepsRoomForTheChain(t *testing.T) {
	const last = blkfmt.LogFull - 8 + blkfmt.LogFull%8 // longest block that is not full
	if last%8 != 0 || last >= blkfmt.LogFull || last+8 < blkfmt.LogFull {
		t.Fatalf("%d is not the last length below %d", last, blkfmt.LogFull)
	}
	if got := last + 16 + 8; got != 16328 || got > blkfmt.LogSpc {
		t.Errorf("a block reaches %d bytes, the format says 16328", got)
	}
}

func TestOpsHaveNames(t *testing.T) {
	for op, want := range map[logfmt.Op]string{
		logfmt.Alloc1: "alloc1", logfmt.Free1: "free1", logfmt.Sync: "sync", logfmt.Alloc: "alloc", logfmt.Free: "free", 9: "op 9",
	} {
		if op.String() != want {
			t.Errorf("%q, want %q", op, want)
		}
	}
}

func drawEntry(t *rapid.T) logfmt.Entry {
	op := rapid.SampledFrom([]logfmt.Op{logfmt.Alloc1, logfmt.Free1, logfmt.Sync, logfmt.Alloc, logfmt.Free}).Draw(t, "op")
	if op == logfmt.Sync {
		return logfmt.Entry{Op: op, Qgen: rapid.Int64Range(0, 1<<56-1).Draw(t, "qgen")}
	}
	const blocks = math.MaxInt64 / blk
	e := logfmt.Entry{Op: op, Len: blk}
	n := int64(1)
	if op == logfmt.Alloc || op == logfmt.Free {
		n = rapid.Int64Range(1, blocks-1).Draw(t, "blocks")
		e.Len = n * blk
	}
	e.Addr = blkfmt.Addr(rapid.Int64Range(1, blocks-n).Draw(t, "addr")) * blk
	return e
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Custom(drawEntry)).Draw(t, "entries")
		var p []byte
		for _, e := range want {
			p = logfmt.Append(p, e)
		}
		got, err := entries(p)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestDeadlistOfTheReference(t *testing.T) {
	p := golden(t, "snaps-dead.blk", blkfmt.Deadlist)
	got, err := logfmt.Dead(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 20 || got[0] != 0x6fdc000 || got[1] != 0x7fd8000 || got[2] != 0x1ff0000 {
		t.Errorf("%v", got)
	}
	var again []byte
	for _, a := range got {
		again = logfmt.AppendDead(again, a)
	}
	if !bytes.Equal(again, p) {
		t.Errorf("written again as %x, want %x", again, p)
	}
	more, err := logfmt.Dead(got[:1:1], p[8:])
	if err != nil || !slices.Equal(more, got) {
		t.Errorf("appended: %v, error %v", more, err)
	}
}

// The reference starts a new block once less than LogSlop bytes are left.
func TestDeadMaxIsTheReferences(t *testing.T) {
	n := 0
	for size := 0; blkfmt.LogSpc-size >= blkfmt.LogSlop; size += 8 {
		n++
	}
	if n != 2039 {
		t.Errorf("%d addresses fit, the format says 2039", n)
	}
	if logfmt.DeadMax != n {
		t.Errorf("DeadMax is %d, %d addresses fit", logfmt.DeadMax, n)
	}
}

func TestBadDeadlistsAreRefused(t *testing.T) {
	good := logfmt.AppendDead(nil, 0x8000)
	for _, n := range []int{1, 7} {
		if got, err := logfmt.Dead(nil, append(good[:8:8], make([]byte, n)...)); !errors.Is(err, logfmt.ErrEntry) || len(got) != 0 {
			t.Errorf("%d bytes more: %v, error %v", n, got, err)
		}
	}
	for _, a := range []blkfmt.Addr{0, blkfmt.NoAddr, 1, 0x8008, -blk, math.MinInt64, math.MaxInt64} {
		got, err := logfmt.Dead(nil, logfmt.AppendDead(good[:8:8], a))
		if !errors.Is(err, logfmt.ErrEntry) || !slices.Equal(got, []blkfmt.Addr{0x8000}) {
			t.Errorf("address %v: %v, error %v", a, got, err)
		}
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(golden(f, "fresh-log0.blk", blkfmt.Log))
	f.Add(golden(f, "crash-log0.blk", blkfmt.Log))
	f.Add(unhex(f, `000000000000c004 7fffffffffffc000 0000000000000603`))
	f.Fuzz(func(t *testing.T, p []byte) {
		for len(p) > 0 {
			e, n, err := logfmt.Next(p)
			if err != nil {
				if !errors.Is(err, logfmt.ErrEntry) {
					t.Errorf("error %v", err)
				}
				return
			}
			if n != e.Size() {
				t.Fatalf("%+v took %d bytes, Size says %d", e, n, e.Size())
			}
			if again := logfmt.Append(nil, e); !bytes.Equal(again, p[:n]) {
				t.Errorf("%x is written again as %x", p[:n], again)
			}
			if e.Op != logfmt.Sync && (!e.Addr.Block() || e.Len <= 0 || e.Len%blk != 0 || int64(e.Addr)+e.Len < 0) {
				t.Errorf("%+v is no range of blocks", e)
			}
			p = p[n:]
		}
	})
}

func FuzzDead(f *testing.F) {
	f.Add(golden(f, "snaps-dead.blk", blkfmt.Deadlist))
	f.Add(binary.BigEndian.AppendUint64(nil, 0x4001))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := logfmt.Dead(nil, p)
		var again []byte
		for _, a := range got {
			if !a.Block() {
				t.Errorf("%v is no block's address", a)
			}
			again = logfmt.AppendDead(again, a)
		}
		if !bytes.HasPrefix(p, again) || err == nil && len(again) != len(p) {
			t.Errorf("%x is written again as %x", p, again)
		}
		if err != nil && !errors.Is(err, logfmt.ErrEntry) {
			t.Errorf("error %v", err)
		}
	})
}
