package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"gefs9p/kvfmt"
)

// A Writer writes a stream. After an error it is of no use.
type Writer struct {
	w     io.Writer
	at    Place
	chain chain
	buf   []byte // 'F' len changes
	sent  int64
}

const frameHead = 1 + 4

// NewWriter writes the header to w and returns a Writer that goes on at h.From.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	s := Append(w, h.From)
	if err := s.write(h.append(nil)); err != nil {
		return nil, err
	}
	return s, nil
}

// Append returns a Writer that goes on at the place, behind the last whole frame that a stream already has.
func Append(w io.Writer, from Place) *Writer {
	s := &Writer{w: w, at: Place{from.N, from.Chain, bytes.Clone(from.Key)}}
	s.chain.now = from.Chain
	s.buf = make([]byte, frameHead, frameHead+frameMax+len(s.chain.now))
	return s
}

func (s *Writer) write(p []byte) error {
	n, err := s.w.Write(p)
	s.sent += int64(n)
	return err
}

// Add adds a change, whose key must be above that of the one before, and says whether so much has piled
// up that Flush is due. It writes nothing by itself. Errors: a change that may not be in a stream.
func (s *Writer) Add(c Change) (due bool, err error) {
	if err := c.Check(); err != nil {
		return false, fmt.Errorf("key %x cannot be sent: %w", c.Key, err)
	}
	if s.at.Key != nil && kvfmt.Compare(c.Key, s.at.Key) <= 0 {
		return false, fmt.Errorf("key %x comes behind %x", c.Key, s.at.Key)
	}
	start := len(s.buf)
	s.buf = c.append(s.buf)
	s.chain.add(s.buf[start:])
	s.at.N++
	s.at.Chain = s.chain.now
	s.at.Key = append(s.at.Key[:0], c.Key...)
	return len(s.buf) >= frameHead+frameGoal, nil
}

// Flush writes what was added.
func (s *Writer) Flush() error {
	n := len(s.buf) - frameHead
	if n == 0 {
		return nil
	}
	s.buf[0] = tagFrame
	binary.BigEndian.PutUint32(s.buf[1:], uint32(n))
	s.buf = append(s.buf, s.at.Chain[:]...)
	err := s.write(s.buf)
	s.buf = s.buf[:frameHead]
	return err
}

// Place returns how far the stream has come, with what is not flushed yet. Its key is the Writer's.
func (s *Writer) Place() Place { return s.at }

// Sent returns how many bytes were written.
func (s *Writer) Sent() int64 { return s.sent }

// Close flushes and ends the stream. It does not close what it writes to.
func (s *Writer) Close() error {
	if err := s.Flush(); err != nil {
		return err
	}
	p := binary.BigEndian.AppendUint64([]byte{tagEnd}, s.at.N)
	return s.write(append(p, s.at.Chain[:]...))
}
