package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

const (
	magic      = "gefs9pst"
	version    = 1
	headerMax  = 4096 // bytes of the body
	labelMax   = 255
	fixedSize  = 4*IdentSize + 8
	placeFixed = 8 + sha256.Size + 2
)

// A Digest is a chain of hashes, see the package documentation.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText is String, for JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (d *Digest) UnmarshalText(p []byte) error {
	b, err := hex.DecodeString(string(p))
	if err == nil && len(b) != len(d) {
		err = fmt.Errorf("digest of %d bytes, not %d", len(b), len(d))
	}
	if err == nil {
		copy(d[:], b)
	}
	return err
}

// IdentSize is the length of an encoded Ident.
const IdentSize = 28

// An Ident names a snapshot for good: its generation and the root of its tree. A snapshot never changes,
// so neither does its root; and as the root's hash covers hashes of all that is below, no other snapshot
// has the same. The zero Ident names none.
type Ident struct {
	Gen  blkfmt.Gen
	Ht   int32
	Addr blkfmt.Addr
	Hash uint64
}

// IsZero reports whether the Ident names no snapshot.
func (i Ident) IsZero() bool { return i == Ident{} }

// String is for people.
func (i Ident) String() string { return fmt.Sprintf("%d:%x:%016x", i.Gen, int64(i.Addr), i.Hash) }

// Append appends the Ident's IdentSize bytes to p.
func (i Ident) Append(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint64(p, uint64(i.Gen))
	p = be.AppendUint32(p, uint32(i.Ht))
	p = be.AppendUint64(p, uint64(i.Addr))
	return be.AppendUint64(p, i.Hash)
}

// GetIdent decodes the first IdentSize bytes of p, which must have so many.
func GetIdent(p []byte) Ident {
	be := binary.BigEndian
	return Ident{blkfmt.Gen(be.Uint64(p)), int32(be.Uint32(p[8:])), blkfmt.Addr(be.Uint64(p[12:])), be.Uint64(p[20:])}
}

// A Header says what a stream brings.
type Header struct {
	Snap     Ident // the snapshot, on the disk it is sent from
	SnapFrom Ident // the one that was received there as Snap, if it was; a disk may hold that itself
	Base     Ident // the snapshot that the stream changes into Snap; zero if the stream is whole
	BaseFrom Ident // as SnapFrom, of Base
	NextQid  uint64

	// Names on the disk it is sent from.
	Label     string
	BaseLabel string

	From Place // what was sent before; zero if the stream begins at its beginning
}

// Whole reports whether the stream has all of the snapshot, and needs no other.
func (h *Header) Whole() bool { return h.Base.IsZero() }

// ID names what is sent: streams with the same ID bring the same, from wherever they go on. NextQid is no part of it:
// it grows with each file that others make before the rest is sent.
func (h *Header) ID() Digest { return sha256.Sum256(h.appendIdents(nil)) }

func (h *Header) appendIdents(p []byte) []byte {
	for _, i := range []Ident{h.Snap, h.SnapFrom, h.Base, h.BaseFrom} {
		p = i.Append(p)
	}
	return p
}

func (h *Header) appendFixed(p []byte) []byte {
	return binary.BigEndian.AppendUint64(h.appendIdents(p), h.NextQid)
}

// append appends the header with all that belongs to it.
func (h *Header) append(p []byte) []byte {
	be := binary.BigEndian
	body := h.appendFixed(nil)
	for _, s := range []string{h.Label, h.BaseLabel} {
		body = append(be.AppendUint16(body, uint16(len(s))), s...)
	}
	body = h.From.append(body)
	start := len(p)
	p = append(p, magic...)
	p = be.AppendUint16(p, version)
	p = be.AppendUint32(p, uint32(len(body)))
	p = append(p, body...)
	sum := sha256.Sum256(p[start:])
	return append(p, sum[:]...)
}

// readHeader reads a header, and returns how many bytes that were.
func readHeader(r io.Reader) (h Header, size int64, err error) {
	be := binary.BigEndian
	buf := make([]byte, len(magic)+2+4)
	if err := readFull(r, buf, 0); err != nil {
		return h, 0, err
	}
	if string(buf[:len(magic)]) != magic {
		return h, 0, ErrNoStream
	}
	if v := be.Uint16(buf[len(magic):]); v != version {
		return h, 0, fmt.Errorf("%w: version %d, this program reads %d", ErrVersion, v, version)
	}
	n := be.Uint32(buf[len(magic)+2:])
	damaged := func(what string) error { return &DamagedError{0, "header: " + what} }
	if n < fixedSize+2*2+placeFixed || n > headerMax {
		return h, 0, damaged(fmt.Sprintf("%d bytes long", n))
	}
	head := len(buf)
	buf = append(buf, make([]byte, int(n)+sha256.Size)...)
	if err := readFull(r, buf[head:], int64(head)); err != nil {
		return h, 0, err
	}
	body := buf[head : head+int(n)]
	if sum := sha256.Sum256(buf[:head+int(n)]); !bytes.Equal(sum[:], buf[head+int(n):]) {
		return h, 0, damaged("it has another hash than it says")
	}
	for _, i := range []*Ident{&h.Snap, &h.SnapFrom, &h.Base, &h.BaseFrom} {
		*i = GetIdent(body)
		body = body[IdentSize:]
	}
	h.NextQid = be.Uint64(body)
	body = body[8:]
	for _, s := range []*string{&h.Label, &h.BaseLabel} {
		if len(body) < 2 || len(body)-2 < int(be.Uint16(body)) || be.Uint16(body) > labelMax {
			return h, 0, damaged("a name does not fit")
		}
		k := int(be.Uint16(body))
		*s = string(body[2 : 2+k])
		body = body[2+k:]
	}
	if h.From, err = getPlace(body); err != nil || h.Snap.IsZero() {
		return h, 0, damaged("it does not decode")
	}
	return h, int64(len(buf)), nil
}

// A Place is how far a stream has come: how many changes there were, the key of the last, and the chain
// behind it. The zero Place is the beginning.
type Place struct {
	N     uint64
	Chain Digest
	Key   []byte
}

// errPlace says that bytes are no Place.
var errPlace = errors.New("malformed place in a stream")

// PlaceMax is the length of the longest encoded Place.
const PlaceMax = placeFixed + kvfmt.KeyMax

func (p Place) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.N)
	b = append(b, p.Chain[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Key)))
	return append(b, p.Key...)
}

// getPlace decodes a Place, which is all of b.
func getPlace(b []byte) (p Place, err error) {
	if len(b) < placeFixed || len(b) > PlaceMax || len(b)-placeFixed != int(binary.BigEndian.Uint16(b[placeFixed-2:])) {
		return p, errPlace
	}
	p.N = binary.BigEndian.Uint64(b)
	copy(p.Chain[:], b[8:])
	if len(b) > placeFixed {
		p.Key = bytes.Clone(b[placeFixed:])
	}
	if (p.N == 0) != (p.Key == nil) || p.N == 0 && p.Chain != (Digest{}) {
		return p, errPlace
	}
	return p, nil
}

// A Mark is a Place in the stream with the ID.
type Mark struct {
	ID    Digest
	Place Place
}

// Append appends the mark's bytes to b, at most MarkMax.
func (m Mark) Append(b []byte) []byte { return m.Place.append(append(b, m.ID[:]...)) }

// MarkMax is the length of the longest encoded Mark.
const MarkMax = sha256.Size + PlaceMax

// GetMark decodes a Mark, which is all of b.
func GetMark(b []byte) (m Mark, err error) {
	if len(b) < sha256.Size {
		return m, errPlace
	}
	copy(m.ID[:], b)
	m.Place, err = getPlace(b[sha256.Size:])
	return m, err
}

// Token returns the mark as one word that people can carry from the receiver to the sender.
func (m Mark) Token() string { return base64.RawURLEncoding.EncodeToString(m.Append(nil)) }

// ParseToken is the reverse of Token.
func ParseToken(s string) (Mark, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil {
		var m Mark
		if m, err = GetMark(b); err == nil {
			return m, nil
		}
	}
	return Mark{}, fmt.Errorf("%q is not what recv --where prints: %w", s, err)
}
