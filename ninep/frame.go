package ninep

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// FrameSize looks at the start of b for a frame of at most msize bytes. It returns the frame's
// length, or 0 if not even the size field is there yet, and a *DecodeError for a size that is below
// HeaderSize or above msize; nothing after such a size can be trusted.
func FrameSize(b []byte, msize uint32) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := binary.LittleEndian.Uint32(b)
	if n < HeaderSize || n > msize {
		e := &DecodeError{Tag: NOTAG, Field: "size", Err: fmt.Errorf("%w: %d, want %d to %d", ErrFrameSize, n, HeaderSize, msize)}
		if len(b) > 4 {
			e.Type = b[4]
		}
		return 0, e
	}
	return int(n), nil
}

// ReadFrame reads one frame of at most msize bytes into buf, which it grows as needed, and returns
// it. The error is io.EOF if the stream ends between frames, io.ErrUnexpectedEOF inside one, a
// *DecodeError for a bad size. No more memory is taken than has been received, twice.
func ReadFrame(r io.Reader, buf []byte, msize uint32) ([]byte, error) {
	buf = slices.Grow(buf[:0], 64)[:4]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	n, err := FrameSize(buf, msize)
	if err != nil {
		return nil, err
	}
	for len(buf) < n {
		// A size is only a claim: believe in 64 KiB at a time.
		got := len(buf)
		if cap(buf) == got {
			buf = slices.Grow(buf, min(n-got, max(got, 64<<10)))
		}
		buf = buf[:min(n, cap(buf))]
		if _, err := io.ReadFull(r, buf[got:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}
