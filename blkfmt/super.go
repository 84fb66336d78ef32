package blkfmt

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The superblock's versions, its first eight bytes.
const (
	VersionMetro = "gefs9.00" // shared with 9front
	VersionSip   = "gefs9.sh" // the same, hashed with Sip
)

// MaxArenas is the largest number of arenas a disk may have.
const MaxArenas = 255

// FlagKeyInside is set in the flags of a VersionSip disk that carries its own key.
const FlagKeyInside = 1

const superFixed = 104 // bytes before the arena table

// A Super is the superblock: the root of everything. It is written at both ends of the device,
// and a commit is done when the first copy is on stable storage.
//
//	  0  version[8] blksz[4] bufspc[4]
//	 16  narena[4] snap.ht[4] snap.addr[8] snap.hash[8]
//	 40  deadlist of the snapshot tree: head addr[8] hash[8], tail addr[8] hash[8]; all ones
//	 72  flag[8] nextqid[8] nextgen[8] qgen[8]
//	104  narena times: header addr[8] hash[8]
//	     key[16]    only in gefs9.sh with FlagKeyInside
//	     hash[8]    of all bytes before it
type Super struct {
	Sip    bool           // VersionSip rather than VersionMetro
	Key    *[KeySize]byte // of a Sip disk: its key; written into the block only with FlagKeyInside
	SnapHt int            // height of the snapshot tree, at least 1
	Snap   Bptr           // root of the snapshot tree; Gen is not stored and reads as NoGen
	// SnapDead are the head and tail of a deadlist of the snapshot tree, as read. The reference
	// empties the list before it packs the block, and Encode always writes an empty one.
	SnapDead [2]Bptr
	Flag     uint64
	NextQid  uint64 // next qid path to hand out
	NextGen  Gen    // next generation to hand out
	Qgen     int64  // write-queue generation of the commit; equals the barrier in every arena's log
	Arenas   []ArenaRef
}

// An ArenaRef finds one arena: where its header is and what it hashes to. A Hash of NoHash means
// that the header is not to be verified (disks grown by the reference have such).
type ArenaRef struct {
	Addr Addr
	Hash uint64
}

// Errors of DecodeSuper that are not corruption.
var (
	ErrNotGefs = errors.New("not a gefs disk: no gefs superblock")
	ErrNoKey   = errors.New("disk is hashed with a secret key: name its key file with --keyfile")

	// ErrForeignKey says that a key file was named for a disk that is not hashed with its key but
	// with none, or with one that everybody can read on it. Taking such a disk would let whoever
	// stores the blocks replace it by one of their own making.
	ErrForeignKey = errors.New("disk is not hashed with the secret key of the key file")
)

// A VersionError says that the disk is a gefs disk of a version this program does not know.
type VersionError struct{ Version string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("unknown fs version %q (this program knows %s and %s)", e.Version, VersionMetro, VersionSip)
}

// Hasher returns the hash that guards the disk's blocks. A Sip disk must have its Key.
func (s *Super) Hasher() Hasher {
	if s.Sip {
		return NewSip(*s.Key)
	}
	return Metro{}
}

// Encode writes s to the block p and zeros what it does not use. SnapDead is not written. It fails
// if a Sip disk has no key, and on anything else that DecodeSuper would refuse to read.
func (s *Super) Encode(p []byte) error {
	if len(p) != BlkSize {
		return fmt.Errorf("superblock: buffer of %d bytes, not %d", len(p), BlkSize)
	}
	if s.Sip && s.Key == nil {
		return errors.New("superblock: hash needs a key and there is none")
	}
	if what := s.problem(); what != "" {
		return fmt.Errorf("superblock: %s", what)
	}
	clear(p)
	version := VersionMetro
	if s.Sip {
		version = VersionSip
	}
	be := binary.BigEndian
	b := append(p[:0], version...)
	b = be.AppendUint32(b, BlkSize)
	b = be.AppendUint32(b, BufSpc)
	b = be.AppendUint32(b, uint32(len(s.Arenas)))
	b = be.AppendUint32(b, uint32(s.SnapHt))
	b = be.AppendUint64(b, uint64(s.Snap.Addr))
	b = be.AppendUint64(b, s.Snap.Hash)
	for range 4 { // SnapDead: empty
		b = be.AppendUint64(b, ^uint64(0))
	}
	b = be.AppendUint64(b, s.Flag)
	b = be.AppendUint64(b, s.NextQid)
	b = be.AppendUint64(b, uint64(s.NextGen))
	b = be.AppendUint64(b, uint64(s.Qgen))
	for _, a := range s.Arenas {
		b = be.AppendUint64(b, uint64(a.Addr))
		b = be.AppendUint64(b, a.Hash)
	}
	if s.Sip && s.Flag&FlagKeyInside != 0 {
		b = append(b, s.Key[:]...)
	}
	be.AppendUint64(b, s.Hasher().Sum(b))
	return nil
}

// problem says what makes s no superblock of a disk, "" if nothing does.
func (s *Super) problem() string {
	if n := len(s.Arenas); n == 0 || n > MaxArenas {
		return fmt.Sprintf("%d arenas, must be 1 to %d", n, MaxArenas)
	}
	if s.SnapHt < 1 || s.SnapHt > MaxHeight {
		return fmt.Sprintf("snapshot tree of height %d", s.SnapHt)
	}
	if !s.Snap.Addr.Block() {
		return fmt.Sprintf("snapshot tree at %v", s.Snap.Addr)
	}
	prev := Addr(0)
	for i, a := range s.Arenas {
		if !a.Addr.Block() || a.Addr <= prev {
			return fmt.Sprintf("arena %d at %v, after one at %v", i, a.Addr, prev)
		}
		prev = a.Addr
	}
	return ""
}

// DecodeSuper reads the superblock p. key is the content of the key file that was named for the
// disk, nil if none was. addr is where p was read, for error texts. Errors: ErrNotGefs,
// *VersionError, ErrNoKey, ErrForeignKey, *CorruptError; the last also when the key is wrong, which
// cannot be told from a forged block.
func DecodeSuper(p []byte, key *[KeySize]byte, addr Addr) (*Super, error) {
	bad := func(format string, arg ...any) error {
		return &CorruptError{Addr: addr, Type: SuperBlk, What: fmt.Sprintf(format, arg...)}
	}
	if len(p) != BlkSize {
		return nil, bad("%d bytes, not %d", len(p), BlkSize)
	}
	version := string(p[:8])
	s := &Super{}
	switch {
	case version == VersionMetro:
	case version == VersionSip:
		s.Sip = true
	case version[:4] == "gefs":
		return nil, &VersionError{version}
	default:
		return nil, ErrNotGefs
	}
	be := binary.BigEndian
	if n := be.Uint32(p[8:]); n != BlkSize {
		return nil, bad("block size %d, only %d is known", n, BlkSize)
	}
	if n := be.Uint32(p[12:]); n != BufSpc {
		return nil, bad("buffer space %d, only %d is known", n, BufSpc)
	}
	n := be.Uint32(p[16:])
	if n == 0 || n > MaxArenas {
		return nil, bad("%d arenas, must be 1 to %d", n, MaxArenas)
	}
	s.Flag = be.Uint64(p[72:])
	end := superFixed + 16*int(n)
	switch {
	case s.Sip && s.Flag&FlagKeyInside != 0:
		inside := [KeySize]byte(p[end:])
		if key != nil && *key != inside {
			return nil, ErrForeignKey
		}
		s.Key = &inside
		end += KeySize
	case s.Sip && key == nil:
		return nil, ErrNoKey
	case s.Sip:
		secret := *key
		s.Key = &secret
	case key != nil:
		return nil, ErrForeignKey
	}
	if want, got := be.Uint64(p[end:]), s.Hasher().Sum(p[:end]); want != got {
		err := &CorruptError{Addr: addr, Type: SuperBlk, Want: want, Got: got}
		if key != nil {
			err.What = fmt.Sprintf("hash is %016x, not %016x; or it is not the disk's key file", got, want)
		}
		return nil, err
	}
	s.SnapHt = int(int32(be.Uint32(p[20:])))
	s.Snap = Bptr{Addr: Addr(be.Uint64(p[24:])), Hash: be.Uint64(p[32:]), Gen: NoGen}
	for i := range s.SnapDead {
		q := p[40+16*i:]
		s.SnapDead[i] = Bptr{Addr: Addr(be.Uint64(q)), Hash: be.Uint64(q[8:]), Gen: NoGen}
	}
	s.NextQid = be.Uint64(p[80:])
	s.NextGen = Gen(be.Uint64(p[88:]))
	s.Qgen = int64(be.Uint64(p[96:]))
	for i := range int(n) {
		q := p[superFixed+16*i:]
		s.Arenas = append(s.Arenas, ArenaRef{Addr: Addr(be.Uint64(q)), Hash: be.Uint64(q[8:])})
	}
	if what := s.problem(); what != "" {
		return nil, bad("%s", what)
	}
	return s, nil
}

// MaxHeight bounds the height of a tree that is believed. With two children a pivot, the least
// that a tree grows by, 2^48 blocks have a smaller one.
const MaxHeight = 48
