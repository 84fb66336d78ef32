package client

import (
	"errors"
	"fmt"
	"io"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// readAhead is how many requests ReadFull keeps outstanding.
const readAhead = 8

// Iounit returns how many bytes one Tread or Twrite of the fid carries at most: what the server said at
// Open or Create, and never more than fits into a frame.
func (f *Fid) Iounit() int {
	n := f.conn.msize - ninep.IOHDRSZ
	if f.iounit > 0 {
		n = min(n, f.iounit)
	}
	return int(n)
}

// ReadAt fills p with the file's bytes from off on, one request after the other. It returns how many it
// got; if that is less than asked for, also the reason, which is io.EOF at the end of the file.
func (f *Fid) ReadAt(p []byte, off int64) (int, error) {
	var r ninep.Fcall
	for n := 0; n < len(p); {
		got, err := f.read(p[n:], off+int64(n), &r)
		if err != nil {
			return n, err
		}
		n += got
	}
	return len(p), nil
}

// read is one Tread of as much of p as one can ask for.
func (f *Fid) read(p []byte, off int64, r *ninep.Fcall) (int, error) {
	p = p[:min(len(p), f.Iounit())]
	k, err := f.startRead(len(p), off)
	if err != nil {
		return 0, err
	}
	return waitRead(k, p, r)
}

func (f *Fid) startRead(n int, off int64) (*Call, error) {
	if off < 0 {
		return nil, fmt.Errorf("read at offset %d: %w", off, errNegative)
	}
	return f.conn.Start(&proto.TRead{Fid: f.num, Offset: uint64(off), Count: uint32(n)})
}

// waitRead takes the answer to a read of len(p) bytes into p. No bytes are io.EOF.
func waitRead(k *Call, p []byte, r *ninep.Fcall) (int, error) {
	if err := k.Wait(r); err != nil {
		return 0, err
	}
	data := r.Rread.Data
	switch {
	case len(data) > len(p):
		return 0, k.conn.violated("%d bytes read, asked for %d", len(data), len(p))
	case len(data) == 0:
		return 0, io.EOF
	}
	return copy(p, data), nil
}

var errNegative = errors.New("negative offset")

// WriteAt writes p from off on, in pieces of Iounit bytes, one after the other. It returns how many the
// server took; if that is less than all, also the reason.
func (f *Fid) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("write at offset %d: %w", off, errNegative)
	}
	var r ninep.Fcall
	for n := 0; ; {
		piece := p[n:min(len(p), n+f.Iounit())]
		err := f.conn.rpc(&proto.TWrite{Fid: f.num, Offset: uint64(off + int64(n)), Data: piece}, &r)
		if err != nil {
			return n, err
		}
		count := int64(r.Rwrite.Count)
		if count > int64(len(piece)) {
			return n, f.conn.violated("%d bytes written, asked for %d", count, len(piece))
		}
		n += int(count)
		switch {
		case n == len(p):
			return n, nil
		case count == 0:
			return n, io.ErrShortWrite
		}
	}
}

// ReadFull is ReadAt with several requests outstanding.
func (f *Fid) ReadFull(p []byte, off int64) (int, error) {
	r, err := f.NewReader(off, readAhead)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	r.limit(off + int64(len(p)))
	n, err := io.ReadFull(r, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// ReadDir returns the entries of the directory, which is open for reading, from the start.
// Source: read(5).
func (f *Fid) ReadDir() ([]ninep.Dir, error) {
	var (
		r    ninep.Fcall
		dirs []ninep.Dir
		buf  = make([]byte, f.Iounit())
	)
	for off := int64(0); ; {
		n, err := f.read(buf, off, &r)
		if err == io.EOF {
			return dirs, nil
		}
		if err != nil {
			return dirs, err
		}
		off += int64(n)
		more, err := ninep.DecodeDirs(buf[:n])
		if err != nil {
			return dirs, f.conn.violated("directory: %w", err)
		}
		dirs = append(dirs, more...)
	}
}

// A Reader reads a file from front to back and asks for what comes next before it is wanted. It is for
// one goroutine.
type Reader struct {
	f     *Fid
	depth int
	off   int64 // of the next byte to ask for
	end   int64 // ask for nothing from here on
	ahead []ask // oldest first
	data  []byte
	err   error
	r     ninep.Fcall
}

// An ask is an outstanding Tread.
type ask struct {
	call *Call
	off  int64
	n    int
}

// NewReader returns a Reader from off on that keeps depth requests outstanding. Not for directories,
// whose reads must not run ahead.
func (f *Fid) NewReader(off int64, depth int) (*Reader, error) {
	switch {
	case off < 0:
		return nil, fmt.Errorf("read at offset %d: %w", off, errNegative)
	case depth < 1 || depth > maxTags:
		return nil, fmt.Errorf("%d reads outstanding: want 1 to %d", depth, maxTags)
	case f.IsDir():
		return nil, errors.New("read-ahead in a directory")
	}
	return &Reader{f: f, depth: depth, off: off, end: 1<<63 - 1}, nil
}

// limit keeps the Reader from asking for what is behind end.
func (r *Reader) limit(end int64) { r.end = end }

// Read returns the next bytes of the file; io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.data) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.next()
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

// next takes the oldest answer, or the reason why there will be none, after having sent what can be sent.
func (r *Reader) next() {
	for len(r.ahead) < r.depth && r.off < r.end {
		n := int(min(int64(r.f.Iounit()), r.end-r.off))
		call, err := r.f.startRead(n, r.off)
		if err != nil {
			r.fail(err)
			return
		}
		r.ahead = append(r.ahead, ask{call, r.off, n})
		r.off += int64(n)
	}
	if len(r.ahead) == 0 {
		r.fail(io.EOF)
		return
	}
	a := r.ahead[0]
	r.ahead = r.ahead[1:]
	if err := a.call.Wait(&r.r); err != nil {
		r.fail(err)
		return
	}
	r.data = r.r.Rread.Data
	switch got := len(r.data); {
	case got > a.n:
		r.data = nil
		r.fail(r.f.conn.violated("%d bytes read, asked for %d", got, a.n))
	case got == 0:
		r.fail(io.EOF)
	case got < a.n:
		// The server may just have felt like it: what is outstanding starts too far on.
		r.drain()
		r.off = a.off + int64(got)
	}
}

func (r *Reader) fail(err error) {
	r.drain()
	r.err = err
}

// drain waits for what is outstanding: the answers are of no use, but the fid must not be clunked
// before they are there.
func (r *Reader) drain() {
	for _, a := range r.ahead {
		<-a.call.Done()
	}
	r.ahead = r.ahead[:0]
}

// Close waits for what is outstanding. The fid stays open.
func (r *Reader) Close() error {
	r.fail(errClosed)
	r.data = nil
	return nil
}

var errClosed = errors.New("reader is closed")
