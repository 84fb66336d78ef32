package cli

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A stdio is a 9P connection on standard input and output, or what stands for them in a test.
type stdio struct {
	io.Reader
	io.Writer
}

// newStdio makes a connection of in and out, which belong to it from then on.
func newStdio(in io.Reader, out io.Writer) (*stdio, error) {
	for _, x := range []any{in, out} {
		if f, ok := x.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return nil, errors.New("-s speaks 9P on standard input and output, but one of them is a terminal: connect them to a client, as socat or ssh do")
		}
	}
	s := &stdio{in, out}
	if f, ok := in.(*os.File); ok {
		s.Reader = interruptible(f)
	}
	if f, ok := out.(*os.File); ok {
		s.Writer = interruptible(f)
	}
	return s, nil
}

// Close closes both ends, and so ends a Read or Write that waits.
func (s *stdio) Close() error {
	var errs []error
	for _, x := range []any{s.Reader, s.Writer} {
		if c, ok := x.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// SetReadDeadline implements net.Conn's method where the input has it.
func (s *stdio) SetReadDeadline(t time.Time) error {
	if d, ok := s.Reader.(interface{ SetReadDeadline(time.Time) error }); ok {
		return d.SetReadDeadline(t)
	}
	return os.ErrNoDeadline
}

// SetWriteDeadline implements net.Conn's method where the output has it.
func (s *stdio) SetWriteDeadline(t time.Time) error {
	if d, ok := s.Writer.(interface{ SetWriteDeadline(time.Time) error }); ok {
		return d.SetWriteDeadline(t)
	}
	return os.ErrNoDeadline
}
