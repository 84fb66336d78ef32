package blkfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"gefs9p/blkfmt"
)

// block returns p as a whole block, cut or padded.
func block(p []byte) []byte {
	q := make([]byte, blkfmt.BlkSize)
	copy(q, p)
	return q
}

func FuzzPtr(f *testing.F) {
	f.Add(blkfmt.NoPtr.Append(nil))
	f.Add(make([]byte, blkfmt.PtrSize))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < blkfmt.PtrSize {
			return
		}
		if again := blkfmt.GetPtr(p).Append(nil); !bytes.Equal(again, p[:blkfmt.PtrSize]) {
			t.Errorf("%x is written again as %x", p[:blkfmt.PtrSize], again)
		}
	})
}

// FuzzSuper decodes a block as it is, and again under a hash made good, so that the fields behind
// the hash are reached.
func FuzzSuper(f *testing.F) {
	for _, p := range [][]byte{
		encode(f, reamedSuper()), encode(f, sipSuper(false)), encode(f, sipSuper(true)), golden(f, "fresh-super.blk"),
	} {
		f.Add(p[:272], []byte(nil))
		f.Add(p[:272], secret[:])
	}
	f.Fuzz(func(t *testing.T, p, k []byte) {
		var key *[blkfmt.KeySize]byte
		if len(k) >= blkfmt.KeySize {
			key = (*[blkfmt.KeySize]byte)(k)
		}
		blkfmt.DecodeSuper(p, key, 0)
		p = block(p)
		for range 2 {
			s, err := blkfmt.DecodeSuper(p, key, 0)
			var corrupt *blkfmt.CorruptError
			var version *blkfmt.VersionError
			switch {
			case err == nil:
				again := make([]byte, blkfmt.BlkSize)
				if err := s.Encode(again); err != nil {
					t.Fatalf("decoded and not encoded: %v", err)
				}
				n := 104 + 16*len(s.Arenas)
				if s.Sip && s.Flag&blkfmt.FlagKeyInside != 0 {
					n += blkfmt.KeySize
				}
				want := bytes.Clone(p)
				copy(want[40:72], bytes.Repeat([]byte{0xff}, 32)) // SnapDead is written empty
				if !bytes.Equal(again[:n], want[:n]) {
					t.Errorf("%x is written again as %x", want[:n], again[:n])
				}
				if same := bytes.Equal(p[40:72], want[40:72]); same && !bytes.Equal(again[n:n+8], p[n:n+8]) {
					t.Errorf("hash %x is written again as %x", p[n:n+8], again[n:n+8])
				}
			case s != nil:
				t.Errorf("a superblock with error %v", err)
			case errors.As(err, &corrupt), errors.As(err, &version), errors.Is(err, blkfmt.ErrNotGefs),
				errors.Is(err, blkfmt.ErrNoKey), errors.Is(err, blkfmt.ErrForeignKey):
				_ = err.Error()
			default:
				t.Errorf("error %v of an unknown kind", err)
			}
			seal(p, key)
		}
	})
}

func FuzzArenaHdr(f *testing.F) {
	f.Add(unhex(f, arenaBytes))
	f.Fuzz(func(t *testing.T, p []byte) {
		blkfmt.DecodeArenaHdr(p, 0)
		p = block(p)
		h, err := blkfmt.DecodeArenaHdr(p, 0)
		if err != nil {
			var corrupt *blkfmt.CorruptError
			if !errors.As(err, &corrupt) {
				t.Errorf("error %v", err)
			}
			return
		}
		clear(p[34:])
		again := bytes.Repeat([]byte{0xa5}, blkfmt.BlkSize)
		if h.Encode(again); !bytes.Equal(again, p) {
			t.Errorf("%x is written again as %x", p[:34], again[:34])
		}
	})
}

func FuzzLogHdr(f *testing.F) {
	f.Add(unhex(f, logBytes), false)
	f.Add(golden(f, "snaps-dead.blk")[:256], true)
	f.Fuzz(func(t *testing.T, p []byte, dead bool) {
		typ := blkfmt.Log
		if dead {
			typ = blkfmt.Deadlist
		}
		blkfmt.DecodeLogHdr(p, typ, blkfmt.Metro{}, 0)
		p = block(p)
		for range 2 {
			h, err := blkfmt.DecodeLogHdr(p, typ, blkfmt.Metro{}, 0)
			var corrupt *blkfmt.CorruptError
			if err == nil {
				again := bytes.Clone(p)
				clear(again[:blkfmt.LogHdSize])
				if blkfmt.EncodeLogHdr(again, h, blkfmt.Metro{}); !bytes.Equal(again, p) {
					t.Errorf("%x is written again as %x", p[:blkfmt.LogHdSize], again[:blkfmt.LogHdSize])
				}
				return
			}
			if !errors.As(err, &corrupt) {
				t.Fatalf("error %v", err)
			}
			if corrupt.What != "" {
				return
			}
			// It is only the hash: make it good.
			binary.BigEndian.PutUint64(p[4:], corrupt.Got)
		}
		t.Error("refused with a good hash")
	})
}
