package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Errors of streams that are none for us.
var (
	ErrNoStream = errors.New("this is no stream of a snapshot")
	ErrVersion  = errors.New("a stream of another version")
	ErrCut      = errors.New("the stream is cut off")
)

// A DamagedError says that bytes of a stream are not those that were sent.
type DamagedError struct {
	Off  int64 // of the frame in which they are
	What string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the stream is damaged at byte %d or behind it: %s", e.Off, e.What)
}

// An Op says what a change does.
type Op uint8

// The ops.
const (
	Set    Op = 1 // the key has the value
	Remove Op = 2 // the key is no more
)

// A Change is one key that is set or removed.
type Change struct {
	Op  Op
	Key []byte
	Val []byte // of a data key: the block's bytes, without the zeros at its end
	// Chain is the chain behind the change. A Writer ignores it.
	Chain Digest
}

const (
	frameGoal = 256 << 10                          // bytes of changes
	changeMax = 1 + 2 + kvfmt.KeyMax + 2 + dataMax // bytes of one
	frameMax  = frameGoal + changeMax
	dataMax   = blkfmt.BlkSize

	tagFrame = 'F'
	tagEnd   = 'E'
)

func (c *Change) append(p []byte) []byte {
	p = append(p, byte(c.Op))
	p = append(binary.BigEndian.AppendUint16(p, uint16(len(c.Key))), c.Key...)
	return append(binary.BigEndian.AppendUint16(p, uint16(len(c.Val))), c.Val...)
}

// Check says whether the change is one that a stream may have: a key of a file system's tree, not one that a
// server keeps for itself, and a value that can be what the key says.
func (c *Change) Check() error {
	if err := kvfmt.CheckKey(c.Key); err != nil {
		return err
	}
	switch kind := c.Key[0]; {
	case kind != kvfmt.Kdat && kind != kvfmt.Kent && kind != kvfmt.Kup && kind != kvfmt.Kconf, kvfmt.IsOwn(c.Key):
		return fmt.Errorf("key %x is none of what a snapshot holds", c.Key)
	case c.Op == Remove && len(c.Val) == 0:
		return nil
	case c.Op != Set:
		return fmt.Errorf("op %d with a value of %d bytes", c.Op, len(c.Val))
	}
	var err error
	switch c.Key[0] {
	case kvfmt.Kdat:
		_, off, _ := kvfmt.GetDat(c.Key)
		if n := len(c.Val); n > dataMax || n > 0 && c.Val[n-1] == 0 || off%blkfmt.BlkSize != 0 {
			err = fmt.Errorf("block of data of %d bytes at %d", n, off)
		}
	case kvfmt.Kent:
		_, err = kvfmt.GetDir(c.Val)
	case kvfmt.Kup:
		_, err = kvfmt.GetEnt(c.Val)
	case kvfmt.Kconf:
		if len(c.Val) > kvfmt.ValMax {
			err = fmt.Errorf("configuration value of %d bytes", len(c.Val))
		}
	}
	return err
}

// Trim returns a block of file data as it is sent: without the zeros at its end.
func Trim(p []byte) []byte {
	n := len(p)
	for n >= 8 && binary.NativeEndian.Uint64(p[n-8:]) == 0 {
		n -= 8
	}
	for n > 0 && p[n-1] == 0 {
		n--
	}
	return p[:n]
}

// A chain computes digests.
type chain struct {
	now Digest
	h   hash.Hash
}

// add adds an encoded change.
func (c *chain) add(change []byte) {
	if c.h == nil {
		c.h = sha256.New()
	}
	c.h.Reset()
	c.h.Write(c.now[:])
	c.h.Write(change)
	c.h.Sum(c.now[:0])
}

// readFull reads all of p, which begins at byte off of the stream.
func readFull(r io.Reader, p []byte, off int64) error {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w behind byte %d", ErrCut, off+int64(n))
	}
	return err
}
