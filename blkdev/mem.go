package blkdev

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// Memory is kept in chunks, and chunks in leaves. A chunk is as large as a block of gefs, so that a
// block written takes the place of a chunk without the rest of it being copied.
const (
	chunkSize = 16 << 10
	leafLen   = 64 // chunks in a leaf
	leafSize  = leafLen * chunkSize
)

type chunk [chunkSize]byte

// An owner is what makes chunks and leaves somebody's own. Its address is what counts.
type owner struct{ _ byte }

// A leaf is 1 MiB of the image. Absent chunks read as zeros.
//
//   - Only the Mem whose owner this is may change the leaf.
//   - own has a bit for each chunk that this owner made and nobody else sees; the bytes of other
//     chunks never change again.
type leaf struct {
	owner  *owner
	own    uint64
	chunks [leafLen]*chunk
}

// A Mem is a disk in memory. What was never written reads as zeros and takes no memory.
//
// Clones share what they have in common: Clone takes time and memory for one pointer for each MiB
// of size, and a write after it for what it changes. Mem is safe for concurrent use.
type Mem struct {
	mu     sync.RWMutex
	name   string
	size   int64
	closed bool
	owner  *owner  // renewed by Clone, which makes everything shared
	dir    []*leaf // by offset / leafSize; nil is all zeros
	ownDir bool    // nobody else has dir
}

var _ Device = (*Mem)(nil)

// NewMem returns a disk of size bytes, all zero. It panics if size is negative.
func NewMem(size int64) *Mem {
	if size < 0 {
		panic(fmt.Sprintf("blkdev: NewMem(%d)", size))
	}
	return &Mem{name: "memory", size: size, owner: new(owner), dir: make([]*leaf, leaves(size)), ownDir: true}
}

// ReadMem returns a disk that holds what r yields up to its end and is just as large. Runs of zeros
// take no memory. The error is that of r.
func ReadMem(r io.Reader) (*Mem, error) {
	m := NewMem(0)
	c := new(chunk)
	for {
		n, err := io.ReadFull(r, c[:])
		if n > 0 {
			at := m.size
			m.resize(at + int64(n))
			if *c != (chunk{}) {
				m.setChunk(at/chunkSize, c, true)
				c = new(chunk)
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return m, nil
		default:
			return nil, opErr("read", m.name, m.size, 0, fmt.Errorf("load: %w", err))
		}
	}
}

// leaves returns how many leaves size bytes take.
func leaves(size int64) int64 { return (size + leafSize - 1) / leafSize }

// Clone returns a disk with the same contents and size, open even when m is closed. What is
// written to one is not seen in the other.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owner, m.ownDir = new(owner), false
	return &Mem{name: "memory", size: m.size, owner: new(owner), dir: m.dir}
}

// ReadAt implements Device.
func (m *Mem) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return 0, opErr("read", m.name, off, int64(len(p)), os.ErrClosed)
	}
	if off < 0 {
		return 0, opErr("read", m.name, off, int64(len(p)), ErrRange)
	}
	n := len(p)
	if off >= m.size {
		n = 0
	} else if int64(n) > m.size-off {
		n = int(m.size - off)
	}
	m.read(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read fills p, which lies inside.
func (m *Mem) read(p []byte, off int64) {
	for len(p) > 0 {
		i, o := off/chunkSize, int(off%chunkSize)
		n := min(len(p), chunkSize-o)
		if c := m.chunk(i); c != nil {
			copy(p[:n], c[o:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// WriteAt implements Device.
func (m *Mem) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayWrite("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	m.write(p, off)
	return len(p), nil
}

// WriteVec implements Device. To others using m it happens at once.
func (m *Mem) WriteVec(bufs [][]byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayWrite("write", off, vecLen(bufs)); err != nil {
		return err
	}
	for _, b := range bufs {
		m.write(b, off)
		off += int64(len(b))
	}
	return nil
}

// Discard implements Device: the range reads as zeros afterwards.
func (m *Mem) Discard(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayWrite("discard", off, n); err != nil {
		return err
	}
	m.zero(off, n)
	return nil
}

// mayWrite refuses what does not fit.
func (m *Mem) mayWrite(op string, off, n int64) error {
	if m.closed {
		return opErr(op, m.name, off, n, os.ErrClosed)
	}
	if !inside(off, n, m.size) {
		return opErr(op, m.name, off, n, fmt.Errorf("%w of %d bytes", ErrRange, m.size))
	}
	return nil
}

// write copies p to off, inside.
func (m *Mem) write(p []byte, off int64) {
	for len(p) > 0 {
		i, o := off/chunkSize, int(off%chunkSize)
		n := min(len(p), chunkSize-o)
		if n == chunkSize && !m.owns(i) {
			c := new(chunk)
			copy(c[:], p)
			m.setChunk(i, c, true)
		} else {
			copy(m.ownChunk(i)[o:], p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// writeShared is write of bytes that never change again: whole chunks are taken as they are.
func (m *Mem) writeShared(p []byte, off int64) {
	for len(p) > 0 {
		i, o := off/chunkSize, int(off%chunkSize)
		n := min(len(p), chunkSize-o)
		if n == chunkSize {
			m.setChunk(i, (*chunk)(p), false)
		} else {
			copy(m.ownChunk(i)[o:], p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// zero clears n bytes at off, inside. Whole chunks are dropped.
func (m *Mem) zero(off, n int64) {
	for n > 0 {
		i, o := off/chunkSize, off%chunkSize
		k := min(n, chunkSize-o)
		if m.chunk(i) != nil {
			if k == chunkSize {
				m.setChunk(i, nil, false)
			} else {
				clear(m.ownChunk(i)[o : o+k])
			}
		}
		off, n = off+k, n-k
	}
}

// chunk returns chunk i for reading, nil if it is all zeros.
func (m *Mem) chunk(i int64) *chunk {
	if l := m.dir[i/leafLen]; l != nil {
		return l.chunks[i%leafLen]
	}
	return nil
}

// owns reports whether chunk i may be changed in place.
func (m *Mem) owns(i int64) bool {
	l := m.dir[i/leafLen]
	return m.ownDir && l != nil && l.owner == m.owner && l.own>>(i%leafLen)&1 != 0
}

// ownLeaf returns the leaf of chunk i for changing.
func (m *Mem) ownLeaf(i int64) *leaf {
	if !m.ownDir {
		m.dir, m.ownDir = append([]*leaf(nil), m.dir...), true
	}
	l := m.dir[i/leafLen]
	switch {
	case l == nil:
		l = &leaf{owner: m.owner}
	case l.owner != m.owner:
		l = &leaf{owner: m.owner, chunks: l.chunks}
	default:
		return l
	}
	m.dir[i/leafLen] = l
	return l
}

// setChunk puts c in place i; own says that c may be changed later.
func (m *Mem) setChunk(i int64, c *chunk, own bool) {
	l, bit := m.ownLeaf(i), uint64(1)<<(i%leafLen)
	l.chunks[i%leafLen] = c
	if own {
		l.own |= bit
	} else {
		l.own &^= bit
	}
}

// ownChunk returns chunk i for changing.
func (m *Mem) ownChunk(i int64) *chunk {
	l, k := m.ownLeaf(i), i%leafLen
	if l.own>>k&1 == 0 {
		c := new(chunk)
		if l.chunks[k] != nil {
			*c = *l.chunks[k]
		}
		l.chunks[k] = c
		l.own |= 1 << k
	}
	return l.chunks[k]
}

// Sync implements Device; memory has nothing to wait for.
func (m *Mem) Sync() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return opErr("sync", m.name, 0, 0, os.ErrClosed)
	}
	return nil
}

// Size implements Device.
func (m *Mem) Size() (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return 0, opErr("size", m.name, 0, 0, os.ErrClosed)
	}
	return m.size, nil
}

// Resize changes the size, as a user does who makes an image larger before "grow". What is cut off
// is gone; what is added reads as zeros. It panics if size is negative.
func (m *Mem) Resize(size int64) {
	if size < 0 {
		panic(fmt.Sprintf("blkdev: Resize(%d)", size))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resize(size)
}

// Enlarge is Resize for a size that is not below the present one, which is refused with ErrRange.
func (m *Mem) Enlarge(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return opErr("enlarge", m.name, 0, 0, os.ErrClosed)
	case size < m.size:
		return opErr("enlarge", m.name, 0, 0, ErrRange)
	}
	m.resize(size)
	return nil
}

func (m *Mem) resize(size int64) {
	if size < m.size {
		m.zero(size, m.size-size) // or it would be there again after growing
	}
	n := leaves(size)
	if have := int64(len(m.dir)); n < have {
		m.dir = m.dir[:n:n] // a later append must not write into a clone's array
	} else if n > have {
		if !m.ownDir {
			m.dir, m.ownDir = append([]*leaf(nil), m.dir...), true
		}
		m.dir = append(m.dir, make([]*leaf, n-have)...)
	}
	m.size = size
}

// Close implements Device. The contents stay for Clone, so that a test can look at what a server
// left behind.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return opErr("close", m.name, 0, 0, os.ErrClosed)
	}
	m.closed = true
	return nil
}

// WriteTo writes the whole image to w, closed or not, as a file to look at with other tools.
func (m *Mem) WriteTo(w io.Writer) (int64, error) {
	c := m.Clone()
	zeros := new(chunk)
	var done int64
	for done < c.size {
		b := zeros
		if have := c.chunk(done / chunkSize); have != nil {
			b = have
		}
		n, err := w.Write(b[:min(chunkSize, c.size-done)])
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Equal reports whether both disks have the same size and contents, closed or not. Parts that are
// shared are not compared. Where they differ, off is the first byte that does, or the smaller size.
func (m *Mem) Equal(other *Mem) (same bool, off int64) {
	a, b := m.Clone(), other.Clone()
	zeros := new(chunk)
	size := min(a.size, b.size)
	for at := int64(0); at < size; at += chunkSize {
		if i := at / leafSize; a.dir[i] == b.dir[i] {
			at = (i+1)*leafSize - chunkSize
			continue
		}
		x, y := a.chunk(at/chunkSize), b.chunk(at/chunkSize)
		if x == y {
			continue
		}
		if x == nil {
			x = zeros
		}
		if y == nil {
			y = zeros
		}
		for i := range min(chunkSize, size-at) {
			if x[i] != y[i] {
				return false, at + i
			}
		}
	}
	return a.size == b.size, size
}
