package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"gefs9p/kvfmt"
)

// A Reader reads a stream and believes nothing that it has not verified.
type Reader struct {
	Header Header

	r     io.Reader
	off   int64 // of the next frame
	at    Place
	chain chain
	buf   []byte
	list  []Change
	err   error
}

// NewReader reads the header. Errors: ErrNoStream, ErrVersion, ErrCut, *DamagedError, those of r.
func NewReader(r io.Reader) (*Reader, error) {
	h, n, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	s := &Reader{Header: h, r: r, off: n, at: h.From}
	s.chain.now = h.From.Chain
	return s, nil
}

// Next returns the changes of the next frame, which are good until the next call; io.EOF when the stream
// has come to its proper end. Other errors: ErrCut, *DamagedError, those of the underlying reader; they
// stay.
func (s *Reader) Next() ([]Change, error) {
	if s.err != nil {
		return nil, s.err
	}
	list, err := s.next()
	s.err = err
	return list, err
}

func (s *Reader) damaged(format string, arg ...any) error {
	return &DamagedError{s.off, fmt.Sprintf(format, arg...)}
}

func (s *Reader) next() ([]Change, error) {
	var head [frameHead]byte
	if err := readFull(s.r, head[:1], s.off); err != nil {
		return nil, err
	}
	switch head[0] {
	case tagEnd:
		return nil, s.end()
	case tagFrame:
	default:
		return nil, s.damaged("neither a frame nor the end begins with %#x", head[0])
	}
	if err := readFull(s.r, head[1:], s.off+1); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[1:]))
	if n == 0 || n > frameMax {
		return nil, s.damaged("a frame of %d bytes", n)
	}
	if cap(s.buf) < frameMax+len(s.chain.now) {
		s.buf = make([]byte, frameMax+len(s.chain.now))
	}
	buf := s.buf[:n+len(s.chain.now)]
	if err := readFull(s.r, buf, s.off+frameHead); err != nil {
		return nil, err
	}
	at := s.at
	s.list = s.list[:0]
	for p := buf[:n]; len(p) > 0; {
		c, size, ok := getChange(p)
		if !ok {
			return nil, s.damaged("a change that does not end")
		}
		s.chain.add(p[:size])
		p = p[size:]
		c.Chain = s.chain.now
		s.list = append(s.list, c)
	}
	if !bytes.Equal(s.chain.now[:], buf[n:]) {
		return nil, s.damaged("its hash is another than it says")
	}
	for i := range s.list {
		c := &s.list[i]
		if err := c.Check(); err != nil {
			return nil, s.damaged("%v", err)
		}
		if at.Key != nil && kvfmt.Compare(c.Key, at.Key) <= 0 {
			return nil, s.damaged("key %x comes behind %x", c.Key, at.Key)
		}
		at = Place{at.N + 1, c.Chain, c.Key}
	}
	s.at = Place{at.N, at.Chain, bytes.Clone(at.Key)}
	s.off += int64(frameHead + len(buf))
	return s.list, nil
}

// getChange decodes the first change in p, and returns its length.
func getChange(p []byte) (c Change, size int, ok bool) {
	be := binary.BigEndian
	if len(p) < 3 {
		return c, 0, false
	}
	k := int(be.Uint16(p[1:]))
	if len(p) < 3+k+2 {
		return c, 0, false
	}
	v := int(be.Uint16(p[3+k:]))
	if len(p) < 3+k+2+v {
		return c, 0, false
	}
	return Change{Op: Op(p[0]), Key: p[3 : 3+k : 3+k], Val: p[5+k : 5+k+v : 5+k+v]}, 5 + k + v, true
}

// end reads the end, and returns io.EOF if it is as it should be.
func (s *Reader) end() error {
	var p [8 + len(Digest{})]byte
	if err := readFull(s.r, p[:], s.off+1); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint64(p[:]); n != s.at.N {
		return s.damaged("it ends with change %d, and says %d", s.at.N, n)
	}
	if !bytes.Equal(p[8:], s.chain.now[:]) {
		return s.damaged("its hash is another than its end says")
	}
	s.off += int64(1 + len(p))
	return io.EOF
}

// Place returns how far the stream has come: behind what Next returned last.
func (s *Reader) Place() Place { return s.at }

// Off returns how many bytes of the stream were read and found good.
func (s *Reader) Off() int64 { return s.off }
