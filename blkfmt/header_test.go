package blkfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gefs9p/blkfmt"
)

func TestPointerOfTheReference(t *testing.T) {
	want := unhex(t, `00000000 0200c000 6d41f053 c56e878d 00000000 00000000`) // to the users file
	bp := blkfmt.Bptr{Addr: 0x200c000, Hash: 0x6d41f053c56e878d}
	if got := blkfmt.GetPtr(want); got != bp {
		t.Errorf("read as %v", got)
	}
	if got := bp.Append([]byte("x")); !bytes.Equal(got[1:], want) || got[0] != 'x' {
		t.Errorf("appended as %x", got)
	}
	p := make([]byte, blkfmt.PtrSize+1)
	if bp.Put(p); !bytes.Equal(p[:blkfmt.PtrSize], want) || p[blkfmt.PtrSize] != 0 {
		t.Errorf("put as %x", p)
	}
	if got := blkfmt.NoPtr.Append(nil); !bytes.Equal(got, bytes.Repeat([]byte{0xff}, blkfmt.PtrSize)) {
		t.Errorf("NoPtr is %x", got)
	}
}

func TestOnlyPositiveMultiplesAreBlocks(t *testing.T) {
	for a, want := range map[blkfmt.Addr]bool{
		blkfmt.NoAddr: false, 0: false, 1: false, 16383: false, 16384: true, 16385: false, 1 << 40: true,
		-16384: false, math.MinInt64: false,
	} {
		if a.Block() != want {
			t.Errorf("%v: %v", a, !want)
		}
	}
}

func TestSizesOfTheFormat(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"BlkSize", blkfmt.BlkSize, 16384}, {"1<<BlkShift", 1 << blkfmt.BlkShift, 16384}, {"PtrSize", blkfmt.PtrSize, 24},
		{"BufSpc", blkfmt.BufSpc, 8187}, {"PivSpc", blkfmt.PivSpc, 8187}, {"LeafSpc", blkfmt.LeafSpc, 16378},
		{"LogSpc", blkfmt.LogSpc, 16348}, {"LogFull", blkfmt.LogFull, 16308}, {"LogSlop", blkfmt.LogSlop, 40},
		{"PivHdSize", blkfmt.PivHdSize, 10}, {"LeafHdSize", blkfmt.LeafHdSize, 6}, {"LogHdSize", blkfmt.LogHdSize, 36},
		{"MaxArenas", blkfmt.MaxArenas, 255}, {"SuperBlk", int(blkfmt.SuperBlk), 'g'<<8 | 'e'},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %d, the format says %d", tt.name, tt.got, tt.want)
		}
	}
}

// arenaBytes start the header of arena 0 of a 256 MiB disk reamed by the reference.
const arenaBytes = `0005 000000000000c000 27a8a395bb38147d 0000000001ff4000 0000000000018000`

func reamedArena() *blkfmt.ArenaHdr {
	return &blkfmt.ArenaHdr{
		Log:  blkfmt.Bptr{Addr: 0xc000, Hash: 0x27a8a395bb38147d, Gen: blkfmt.NoGen},
		Size: 0x1ff4000,
		Used: 6 * blkfmt.BlkSize,
	}
}

func TestArenaHeaderOfTheReference(t *testing.T) {
	want := pad(unhex(t, arenaBytes))
	h, err := blkfmt.DecodeArenaHdr(want, 0x4000)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reamedArena(), h); d != "" {
		t.Error(d)
	}
	p := bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize)
	if h.Encode(p); !bytes.Equal(p, want) {
		t.Errorf("encoded as %x", p[:40])
	}
	fresh := golden(t, "fresh-arena0.blk")
	if h, err = blkfmt.DecodeArenaHdr(fresh, 0x4000); err != nil {
		t.Fatal(err)
	}
	if h.Encode(p); !bytes.Equal(p, fresh) {
		t.Errorf("the golden block is written again as %x", p[:40])
	}
}

func TestArenaHeaderWithABadFieldIsRefused(t *testing.T) {
	be := binary.BigEndian
	for _, tt := range []struct {
		name string
		bad  func(p []byte)
	}{
		{"type", func(p []byte) { be.PutUint16(p, uint16(blkfmt.Log)) }},
		{"no log", func(p []byte) { be.PutUint64(p[2:], ^uint64(0)) }},
		{"log in the superblock", func(p []byte) { be.PutUint64(p[2:], 0) }},
		{"log askew", func(p []byte) { be.PutUint64(p[2:], 0xc008) }},
		{"no size", func(p []byte) { be.PutUint64(p[18:], 0) }},
		{"size -1", func(p []byte) { be.PutUint64(p[18:], ^uint64(0)) }},
		{"size askew", func(p []byte) { be.PutUint64(p[18:], 0x1ff4001) }},
		{"size of three blocks", func(p []byte) { be.PutUint64(p[18:], 3*blkfmt.BlkSize) }},
		{"size that overflows", func(p []byte) { be.PutUint64(p[18:], math.MaxInt64&^(blkfmt.BlkSize-1)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pad(unhex(t, arenaBytes))
			tt.bad(p)
			h, err := blkfmt.DecodeArenaHdr(p, 0x4000)
			var corrupt *blkfmt.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Addr != 0x4000 || corrupt.Type != blkfmt.Arena || h != nil {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, n := range []int{0, 1, 33, blkfmt.BlkSize - 1, blkfmt.BlkSize + 1} {
		var corrupt *blkfmt.CorruptError
		if _, err := blkfmt.DecodeArenaHdr(make([]byte, n), 0); !errors.As(err, &corrupt) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
}

func TestArenaHeaderIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &blkfmt.ArenaHdr{
			Log: blkfmt.Bptr{
				Addr: blkfmt.Addr(rapid.Int64Range(1, 1<<40).Draw(t, "log")) * blkfmt.BlkSize,
				Hash: rapid.Uint64().Draw(t, "hash"), Gen: blkfmt.NoGen,
			},
			Size: rapid.Int64Range(4, 1<<40).Draw(t, "size") * blkfmt.BlkSize,
			Used: rapid.Int64().Draw(t, "used"),
		}
		p := make([]byte, blkfmt.BlkSize)
		want.Encode(p)
		got, err := blkfmt.DecodeArenaHdr(p, 0x4000)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

// logBytes are the allocation log of arena 0 of the same disk.
const logBytes = `
	0003 0038 bedf38d2d712bef9 ffffffffffffffff ffffffffffffffff ffffffffffffffff
	000000000000c005 0000000001fec000
	000000000000c004 0000000000004000
	0000000001ff4001 0000000001ff0001 0000000001fec001`

func TestLogHeaderOfTheReference(t *testing.T) {
	for _, tt := range []struct {
		name  string
		block []byte
		want  blkfmt.LogHdr
	}{
		{"reamed log", pad(unhex(t, logBytes)), blkfmt.LogHdr{Type: blkfmt.Log, Size: 0x38, Chain: noPtr}},
		{"golden log", golden(t, "fresh-log0.blk"), blkfmt.LogHdr{Type: blkfmt.Log, Size: 0x38, Chain: noPtr}},
		{"golden deadlist", golden(t, "snaps-dead.blk"), blkfmt.LogHdr{
			Type: blkfmt.Deadlist, Size: 0xa0, Chain: blkfmt.Bptr{Addr: 0xfd4000, Hash: blkfmt.NoHash},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := blkfmt.DecodeLogHdr(tt.block, tt.want.Type, blkfmt.Metro{}, 0xc000)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			p := bytes.Clone(tt.block)
			clear(p[:blkfmt.LogHdSize])
			if blkfmt.EncodeLogHdr(p, got, blkfmt.Metro{}); !bytes.Equal(p, tt.block) {
				t.Errorf("written again as %x", p[:blkfmt.LogHdSize])
			}
		})
	}
}

// The hash covers the entries and nothing else. Of the header only what can be seen to be wrong is.
func TestLogHashCoversTheEntries(t *testing.T) {
	p := pad(unhex(t, logBytes))
	for i := range p {
		p[i] ^= 0x10
		_, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.Metro{}, 0xc000)
		p[i] ^= 0x10
		var corrupt *blkfmt.CorruptError
		if err != nil && (!errors.As(err, &corrupt) || corrupt.Addr != 0xc000 || corrupt.Type != blkfmt.Log) {
			t.Errorf("byte %d: error %v", i, err)
		}
		hashed := i >= 4 && i < 12 || i >= 36 && i < 36+0x38
		if hashed && (corrupt == nil || corrupt.Want == corrupt.Got) {
			t.Errorf("byte %d: error %v", i, err)
		}
		chain := i >= 12 && i < 20 // an address of all ones, which flipped is none
		if (i < 4 || hashed || chain) != (err != nil) {
			t.Errorf("byte %d: error %v", i, err)
		}
	}
}

func TestLogHeaderWithABadFieldIsRefused(t *testing.T) {
	be := binary.BigEndian
	for _, tt := range []struct {
		name string
		bad  func(p []byte)
	}{
		{"other type", func(p []byte) { be.PutUint16(p, uint16(blkfmt.Deadlist)) }},
		{"no type", func(p []byte) { be.PutUint16(p, 0) }},
		{"too long", func(p []byte) { be.PutUint16(p[2:], blkfmt.LogSpc+1) }},
		{"longest there is", func(p []byte) { be.PutUint16(p[2:], 0xffff) }},
		{"shorter", func(p []byte) { be.PutUint16(p[2:], 0x30) }},
		{"chain to the superblock", func(p []byte) { be.PutUint64(p[12:], 0) }},
		{"chain askew", func(p []byte) { be.PutUint64(p[12:], 0xc010) }},
		{"chain before the disk", func(p []byte) { be.PutUint64(p[12:], 1<<63) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pad(unhex(t, logBytes))
			tt.bad(p)
			_, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.Metro{}, 0xc000)
			var corrupt *blkfmt.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Addr != 0xc000 || corrupt.Type != blkfmt.Log {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, n := range []int{0, 1, 35, 36, blkfmt.BlkSize - 1, blkfmt.BlkSize + 1} {
		var corrupt *blkfmt.CorruptError
		if _, err := blkfmt.DecodeLogHdr(make([]byte, n), blkfmt.Log, blkfmt.Metro{}, 0); !errors.As(err, &corrupt) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
}

// A block forged by somebody without the key does not read on a keyed disk.
func TestLogOfAnotherKeyIsRefused(t *testing.T) {
	p := pad(unhex(t, logBytes))
	hdr := blkfmt.LogHdr{Type: blkfmt.Log, Size: 0x38, Chain: noPtr}
	blkfmt.EncodeLogHdr(p, hdr, blkfmt.NewSip(secret))
	if got, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.NewSip(secret), 0); err != nil || got != hdr {
		t.Errorf("%+v, error %v", got, err)
	}
	for _, h := range []blkfmt.Hasher{blkfmt.NewSip(other), blkfmt.Metro{}} {
		var corrupt *blkfmt.CorruptError
		if _, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, h, 0); !errors.As(err, &corrupt) {
			t.Errorf("%T: error %v", h, err)
		}
	}
}

func TestEncodeLogHdrPanicsOnAnImpossibleSize(t *testing.T) {
	for _, n := range []int{-1, blkfmt.LogSpc + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("size %d: no panic", n)
				}
			}()
			blkfmt.EncodeLogHdr(make([]byte, blkfmt.BlkSize), blkfmt.LogHdr{Type: blkfmt.Log, Size: n}, blkfmt.Metro{})
		}()
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&blkfmt.CorruptError{Addr: 0x4000, Type: blkfmt.Leaf, Want: 1, Got: 2},
			"corrupt leaf block at 0x4000: hash is 0000000000000002, not 0000000000000001"},
		{&blkfmt.CorruptError{Addr: blkfmt.NoAddr, Type: blkfmt.Type(77), What: "no such thing"},
			"corrupt type 77 block at -: no such thing"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	for typ, want := range map[blkfmt.Type]string{
		blkfmt.Data: "data", blkfmt.Pivot: "pivot", blkfmt.Leaf: "leaf", blkfmt.Log: "log",
		blkfmt.Deadlist: "deadlist", blkfmt.Arena: "arena header", blkfmt.SuperBlk: "superblock",
	} {
		if typ.String() != want {
			t.Errorf("%q, want %q", typ, want)
		}
	}
}
