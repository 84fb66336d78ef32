package client

import (
	"io"

	"gefs9p/ninep"
)

// A frames cuts what comes from a stream into frames. It belongs to one goroutine.
type frames struct {
	from  io.Reader
	msize uint32
	buf   []byte // bytes received and not yet handed out are buf[r:w]
	r, w  int
}

func newFrames(from io.Reader, msize uint32) frames {
	// Two frames at least, so that a read can take the end of one and the start of the next.
	return frames{from: from, msize: msize, buf: make([]byte, max(64<<10, 2*int(msize)))}
}

// take returns the next frame if all of it has been received, nil if not. It is valid until fill.
func (f *frames) take() ([]byte, error) {
	n, err := ninep.FrameSize(f.buf[f.r:f.w], f.msize)
	if err != nil {
		return nil, protocolError("%w", err)
	}
	if n == 0 || f.w-f.r < n {
		return nil, nil
	}
	frame := f.buf[f.r : f.r+n : f.r+n]
	f.r += n
	return frame, nil
}

// fill waits for more bytes. The error is io.EOF at the end of the stream between two frames, and
// io.ErrUnexpectedEOF inside one.
func (f *frames) fill() error {
	if f.r > 0 { // so that a whole frame has room
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	n, err := f.from.Read(f.buf[f.w:])
	f.w += n
	switch {
	case n > 0:
		return nil // an error comes again
	case err == io.EOF && f.w > 0:
		return io.ErrUnexpectedEOF
	}
	return err
}
