package blkfmt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gefs9p/blkfmt"
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

// pad returns p with zeros up to a block.
func pad(p []byte) []byte { return append(p, make([]byte, blkfmt.BlkSize-len(p))...) }

// golden returns a block of the reference; see testdata/README.md.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return pad(p)
}

// superBytes are the superblock of a 256 MiB disk that the reference reamed for glenda.
const superBytes = `
	67656673 392e3030 00004000 00001ffb 00000008 00000001 00000000 01fec000
	4c689004 6db4e32a ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff
	ffffffff ffffffff 00000000 00000000 00000000 00000003 00000000 00000003
	00000000 00000000
	00000000 00004000 5df9afbd 40e0807d 00000000 02000000 9313c66e 6bd24988
	00000000 03ffc000 6c55aeb6 3ada3e65 00000000 05ff8000 6b379469 2bf9803a
	00000000 07ff4000 4174c2c7 37934473 00000000 09ff0000 4048d63d a4bb8412
	00000000 0bfec000 4c9bf023 f0f2015d 00000000 0dfe8000 9bce0e97 c31e22c3
	73eedf60 fdbefc49`

var noPtr = blkfmt.Bptr{Addr: blkfmt.NoAddr, Hash: blkfmt.NoHash, Gen: blkfmt.NoGen}

func reamedSuper() *blkfmt.Super {
	return &blkfmt.Super{
		SnapHt:   1,
		Snap:     blkfmt.Bptr{Addr: 0x1fec000, Hash: 0x4c6890046db4e32a, Gen: blkfmt.NoGen},
		SnapDead: [2]blkfmt.Bptr{noPtr, noPtr},
		NextQid:  3,
		NextGen:  3,
		Arenas: []blkfmt.ArenaRef{
			{Addr: 0x4000, Hash: 0x5df9afbd40e0807d}, {Addr: 0x2000000, Hash: 0x9313c66e6bd24988},
			{Addr: 0x3ffc000, Hash: 0x6c55aeb63ada3e65}, {Addr: 0x5ff8000, Hash: 0x6b3794692bf9803a},
			{Addr: 0x7ff4000, Hash: 0x4174c2c737934473}, {Addr: 0x9ff0000, Hash: 0x4048d63da4bb8412},
			{Addr: 0xbfec000, Hash: 0x4c9bf023f0f2015d}, {Addr: 0xdfe8000, Hash: 0x9bce0e97c31e22c3},
		},
	}
}

func encode(t testing.TB, s *blkfmt.Super) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize)
	if err := s.Encode(p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuperblockOfTheReference(t *testing.T) {
	want := pad(unhex(t, superBytes))
	s, err := blkfmt.DecodeSuper(want, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reamedSuper(), s); d != "" {
		t.Errorf("decoded (-want +got):\n%s", d)
	}
	if got := encode(t, reamedSuper()); !bytes.Equal(got, want) {
		t.Errorf("encoded\n%x, want\n%x", got[:240], want[:240])
	}

	fresh := golden(t, "fresh-super.blk")
	if s, err = blkfmt.DecodeSuper(fresh, nil, 0); err != nil {
		t.Fatal(err)
	}
	if got := encode(t, s); !bytes.Equal(got, fresh) {
		t.Errorf("the golden block is written again as\n%x, not\n%x", got[:240], fresh[:240])
	}
	g, err := blkfmt.ReamGeometry(134234112)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range s.Arenas {
		if a.Addr != g.Header(i) {
			t.Errorf("arena %d at %v, ReamGeometry says %v", i, a.Addr, g.Header(i))
		}
	}
	if hdr := golden(t, "fresh-arena0.blk"); s.Hasher().Sum(hdr) != s.Arenas[0].Hash {
		t.Error("the header of arena 0 does not have the superblock's hash")
	}
}

func TestSuperIgnoresWhatIsNotCovered(t *testing.T) {
	p := encode(t, reamedSuper())
	for i := 240; i < len(p); i++ {
		p[i] = 0x5a
	}
	s, err := blkfmt.DecodeSuper(p, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reamedSuper(), s); d != "" {
		t.Error(d)
	}
}

func TestSuperWritesTheSnapshotTreesDeadlistEmpty(t *testing.T) {
	s := reamedSuper()
	s.SnapDead = [2]blkfmt.Bptr{} // the zero value would be a list at address 0
	if p := encode(t, s); !bytes.Equal(p[40:72], bytes.Repeat([]byte{0xff}, 32)) {
		t.Errorf("written as %x", p[40:72])
	}
}

var (
	secret = [blkfmt.KeySize]byte{0: 0x11, 7: 0x22, 8: 0x33, 15: 0x44}
	other  = [blkfmt.KeySize]byte{0: 0x11, 7: 0x22, 8: 0x33, 15: 0x45}
)

// sipSuper returns a superblock of a keyed disk.
func sipSuper(inside bool) *blkfmt.Super {
	s := reamedSuper()
	s.Sip = true
	s.Key = &secret
	if inside {
		s.Flag = blkfmt.FlagKeyInside
	}
	return s
}

func TestSipKeyStandsBetweenArenasAndHash(t *testing.T) {
	for _, inside := range []bool{false, true} {
		p := encode(t, sipSuper(inside))
		end := 104 + 16*8
		if string(p[:8]) != "gefs9.sh" {
			t.Errorf("version %q", p[:8])
		}
		if inside {
			if !bytes.Equal(p[end:end+16], secret[:]) {
				t.Errorf("key is written as %x", p[end:end+16])
			}
			end += 16
		} else if bytes.Contains(p, secret[:]) {
			t.Error("the secret key is in the block")
		}
		if got, want := binary.BigEndian.Uint64(p[end:]), blkfmt.NewSip(secret).Sum(p[:end]); got != want {
			t.Errorf("hash %016x, want %016x", got, want)
		}
		if rest := p[end+8:]; !bytes.Equal(rest, make([]byte, len(rest))) {
			t.Error("the rest of the block is not zero")
		}
	}
}

func TestSipDiskOpensWithItsKeyOnly(t *testing.T) {
	keyed, open, metro := encode(t, sipSuper(false)), encode(t, sipSuper(true)), encode(t, reamedSuper())
	// Whoever stores a keyed disk replaces it by one that hashes well under a key of their own.
	swapped := sipSuper(true)
	swapped.Key = &other
	var corrupt *blkfmt.CorruptError
	for _, tt := range []struct {
		name  string
		block []byte
		key   *[blkfmt.KeySize]byte
		want  any // nil, a sentinel, or what errors.As takes
	}{
		{"key file", keyed, &secret, nil},
		{"no key file", keyed, nil, blkfmt.ErrNoKey},
		{"wrong key file", keyed, &other, &corrupt},
		{"key inside", open, nil, nil},
		{"key inside and the same key file", open, &secret, nil},
		{"key inside and another key file", open, &other, blkfmt.ErrForeignKey},
		{"key file, disk replaced by one with its key inside", encode(t, swapped), &secret, blkfmt.ErrForeignKey},
		{"key file, disk replaced by one without key", metro, &secret, blkfmt.ErrForeignKey},
		{"no key at all", metro, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := blkfmt.DecodeSuper(tt.block, tt.key, 0)
			switch want := tt.want.(type) {
			case nil:
				if err != nil {
					t.Fatal(err)
				}
				if s.Sip && *s.Key != secret {
					t.Errorf("key %x", *s.Key)
				}
				if got := encode(t, s); !bytes.Equal(got, tt.block) {
					t.Errorf("written again it differs")
				}
			case error:
				if !errors.Is(err, want) || s != nil {
					t.Errorf("error %v, want %v", err, want)
				}
			default:
				if !errors.As(err, want) || s != nil {
					t.Fatalf("error %v", err)
				}
				if !strings.Contains(err.Error(), "key file") {
					t.Errorf("error %q does not tell of the key file", err)
				}
			}
		})
	}
}

func TestDecodedKeyIsNotTheCallers(t *testing.T) {
	key := secret
	p := encode(t, sipSuper(false))
	s, err := blkfmt.DecodeSuper(p, &key, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := s.Hasher().Sum(p)
	clear(key[:])
	if s.Hasher().Sum(p) != want {
		t.Error("the superblock's hash changed with the caller's key")
	}
}

// One flipped bit anywhere in what is covered is an error of a fitting type.
func TestSuperWithAFlippedBitIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		sup  *blkfmt.Super
		key  *[blkfmt.KeySize]byte
		size int
	}{
		{"metro", reamedSuper(), nil, 240},
		{"key file", sipSuper(false), &secret, 240},
		{"key inside", sipSuper(true), nil, 256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := encode(t, tt.sup)
			for bit := range 8 * tt.size {
				p[bit/8] ^= 1 << (bit % 8)
				s, err := blkfmt.DecodeSuper(p, tt.key, 0x4000)
				p[bit/8] ^= 1 << (bit % 8)

				var corrupt *blkfmt.CorruptError
				var version *blkfmt.VersionError
				ok := errors.As(err, &corrupt) && corrupt.Type == blkfmt.SuperBlk && corrupt.Addr == 0x4000
				switch {
				case bit < 4*8: // "gefs"
					ok = errors.Is(err, blkfmt.ErrNotGefs)
				case bit < 8*8: // the rest of the version
					ok = errors.As(err, &version)
				case bit == 79*8 && tt.name == "key file": // FlagKeyInside
					ok = errors.Is(err, blkfmt.ErrForeignKey)
				case bit == 79*8 && tt.name == "key inside":
					ok = errors.Is(err, blkfmt.ErrNoKey)
				}
				if !ok || s != nil {
					t.Errorf("bit %d of byte %d: error %v", bit%8, bit/8, err)
				}
			}
		})
	}
}

// seal gives a superblock, whatever it says, the hash that it asks for.
func seal(p []byte, key *[blkfmt.KeySize]byte) {
	be := binary.BigEndian
	end := 104 + 16*int(min(be.Uint32(p[16:]), blkfmt.MaxArenas))
	var h blkfmt.Hasher = blkfmt.Metro{}
	if string(p[:8]) == blkfmt.VersionSip {
		if be.Uint64(p[72:])&blkfmt.FlagKeyInside != 0 {
			key = (*[blkfmt.KeySize]byte)(p[end:])
			end += blkfmt.KeySize
		}
		if key == nil {
			return
		}
		h = blkfmt.NewSip(*key)
	}
	be.PutUint64(p[end:], h.Sum(p[:end]))
}

// Under a good hash every field must still make sense.
func TestSuperWithABadFieldIsRefused(t *testing.T) {
	be := binary.BigEndian
	for _, tt := range []struct {
		name string
		bad  func(p []byte)
	}{
		{"block size", func(p []byte) { be.PutUint32(p[8:], 8192) }},
		{"buffer space", func(p []byte) { be.PutUint32(p[12:], 8188) }},
		{"no arena", func(p []byte) { be.PutUint32(p[16:], 0) }},
		{"256 arenas", func(p []byte) { be.PutUint32(p[16:], 256) }},
		{"2^32-1 arenas", func(p []byte) { be.PutUint32(p[16:], 1<<32-1) }},
		{"height 0", func(p []byte) { be.PutUint32(p[20:], 0) }},
		{"height -1", func(p []byte) { be.PutUint32(p[20:], 1<<32-1) }},
		{"height 49", func(p []byte) { be.PutUint32(p[20:], blkfmt.MaxHeight+1) }},
		{"snapshot tree nowhere", func(p []byte) { be.PutUint64(p[24:], ^uint64(0)) }},
		{"snapshot tree at 0", func(p []byte) { be.PutUint64(p[24:], 0) }},
		{"snapshot tree askew", func(p []byte) { be.PutUint64(p[24:], 0x1fec001) }},
		{"arena nowhere", func(p []byte) { be.PutUint64(p[104:], ^uint64(0)) }},
		{"arena at 0", func(p []byte) { be.PutUint64(p[104:], 0) }},
		{"arena askew", func(p []byte) { be.PutUint64(p[104:], 0x4800) }},
		{"arena twice", func(p []byte) { be.PutUint64(p[120:], 0x4000) }},
		{"arenas out of order", func(p []byte) { be.PutUint64(p[216:], 0x8000) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := encode(t, reamedSuper())
			tt.bad(p)
			seal(p, nil)
			s, err := blkfmt.DecodeSuper(p, nil, 0)
			var corrupt *blkfmt.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Type != blkfmt.SuperBlk || corrupt.What == "" || s != nil {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOtherVersionsAreNamed(t *testing.T) {
	for _, version := range []string{"gefs0001", "gefs9.01", "gefs9.SH"} {
		p := encode(t, reamedSuper())
		copy(p, version)
		_, err := blkfmt.DecodeSuper(p, nil, 0)
		var v *blkfmt.VersionError
		if !errors.As(err, &v) || v.Version != version || !strings.Contains(err.Error(), "unknown fs version") {
			t.Errorf("version %s: error %v", version, err)
		}
	}
	for _, p := range [][]byte{make([]byte, blkfmt.BlkSize), bytes.Repeat([]byte{0xff}, blkfmt.BlkSize)} {
		if _, err := blkfmt.DecodeSuper(p, nil, 0); !errors.Is(err, blkfmt.ErrNotGefs) {
			t.Errorf("block of %x: error %v", p[:8], err)
		}
	}
}

func TestSuperNeedsAWholeBlock(t *testing.T) {
	whole := encode(t, reamedSuper())
	for _, n := range []int{0, 1, 7, 8, 103, 104, 240, blkfmt.BlkSize - 1, blkfmt.BlkSize + 1} {
		p := append(whole[:min(n, len(whole)):min(n, len(whole))], make([]byte, max(0, n-len(whole)))...)
		var corrupt *blkfmt.CorruptError
		if _, err := blkfmt.DecodeSuper(p, nil, 0); !errors.As(err, &corrupt) {
			t.Errorf("%d bytes: error %v", n, err)
		}
		if err := reamedSuper().Encode(p); err == nil {
			t.Errorf("Encode took a buffer of %d bytes", n)
		}
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  func(s *blkfmt.Super)
	}{
		{"no arenas", func(s *blkfmt.Super) { s.Arenas = nil }},
		{"256 arenas", func(s *blkfmt.Super) {
			for len(s.Arenas) < 256 {
				last := s.Arenas[len(s.Arenas)-1]
				s.Arenas = append(s.Arenas, blkfmt.ArenaRef{Addr: last.Addr + blkfmt.BlkSize})
			}
		}},
		{"arenas out of order", func(s *blkfmt.Super) { s.Arenas[3] = s.Arenas[0] }},
		{"no height", func(s *blkfmt.Super) { s.SnapHt = 0 }},
		{"too high", func(s *blkfmt.Super) { s.SnapHt = blkfmt.MaxHeight + 1 }},
		{"no snapshot tree", func(s *blkfmt.Super) { s.Snap.Addr = blkfmt.NoAddr }},
		{"no key", func(s *blkfmt.Super) { s.Sip = true }},
		{"no key to put inside", func(s *blkfmt.Super) { s.Sip = true; s.Flag = blkfmt.FlagKeyInside }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := reamedSuper()
			tt.bad(s)
			p := bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize)
			if err := s.Encode(p); err == nil {
				t.Error("no error")
			}
			if !bytes.Equal(p, bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize)) {
				t.Error("the block was changed")
			}
		})
	}
}

// drawSuper draws any superblock that can be written.
func drawSuper(t *rapid.T) *blkfmt.Super {
	addr := rapid.Custom(func(t *rapid.T) blkfmt.Addr {
		return blkfmt.Addr(rapid.Int64Range(1, 1<<40).Draw(t, "block")) * blkfmt.BlkSize
	})
	s := &blkfmt.Super{
		Sip:      rapid.Bool().Draw(t, "sip"),
		SnapHt:   rapid.IntRange(1, blkfmt.MaxHeight).Draw(t, "height"),
		Snap:     blkfmt.Bptr{Addr: addr.Draw(t, "snap"), Hash: rapid.Uint64().Draw(t, "hash"), Gen: blkfmt.NoGen},
		SnapDead: [2]blkfmt.Bptr{noPtr, noPtr},
		Flag:     rapid.Uint64().Draw(t, "flag"),
		NextQid:  rapid.Uint64().Draw(t, "nextqid"),
		NextGen:  blkfmt.Gen(rapid.Int64().Draw(t, "nextgen")),
		Qgen:     rapid.Int64().Draw(t, "qgen"),
	}
	at := blkfmt.Addr(0)
	for range rapid.IntRange(1, blkfmt.MaxArenas).Draw(t, "arenas") {
		at += addr.Draw(t, "stride")
		s.Arenas = append(s.Arenas, blkfmt.ArenaRef{Addr: at, Hash: rapid.Uint64().Draw(t, "hash")})
	}
	if s.Sip {
		s.Key = (*[blkfmt.KeySize]byte)(rapid.SliceOfN(rapid.Byte(), blkfmt.KeySize, blkfmt.KeySize).Draw(t, "key"))
	}
	return s
}

func TestSuperIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSuper(t)
		p := make([]byte, blkfmt.BlkSize)
		if err := want.Encode(p); err != nil {
			t.Fatal(err)
		}
		got, err := blkfmt.DecodeSuper(p, want.Key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		i := rapid.IntRange(0, 104+16*len(want.Arenas)+7).Draw(t, "flipped")
		p[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := blkfmt.DecodeSuper(p, want.Key, 0); err == nil {
			t.Fatal("a flipped bit was not seen")
		}
	})
}
