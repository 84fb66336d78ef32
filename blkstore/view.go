package blkstore

import (
	"errors"
	"fmt"
	"sync"

	"gefs9p/arena"
	"gefs9p/blkfmt"
)

// ErrGaveWay says that what was being read of a committed state had to be given up, because the disk
// had no more room to keep it beside what was written meanwhile.
var ErrGaveWay = errors.New("given up, because the disk became too full to keep what was being read; there is room for it when less is written, or more is free")

// A View is the device as the last commit left it, for who reads it while commits go on. It is an
// io.ReaderAt.
//
//   - What commits write in place, superblocks and arena headers with their copies, is read once, when
//     the View is made.
//   - All else is read from the device, never from the cache, and stays there: see arena.Pin.
type View struct {
	st     *Store
	pin    *arena.Pin // nil: nothing is written anyway
	super  blkfmt.Super
	size   int64
	copies map[blkfmt.Addr]copied

	mu     sync.Mutex
	onLost func() // called once when the View has given way and somebody read on
	lost   bool
}

type copied struct {
	data []byte
	err  error // of reading it
}

// View makes a View. No commit may be under way, or begin before View returns; it reads two blocks, and
// two for each arena. There is one View at a time, another is refused with arena.ErrPinned. It must be
// closed.
func (s *Store) View() (*View, error) {
	v := &View{st: s, super: s.super, size: s.devSize.Load(), copies: make(map[blkfmt.Addr]copied)}
	if !s.readOnly && s.Err() == nil {
		var err error
		if v.pin, err = s.arenas.Pin(); err != nil {
			return nil, err
		}
	}
	for _, a := range s.fixed(&s.super) {
		c := copied{data: make([]byte, blkfmt.BlkSize)}
		_, c.err = s.dev.ReadAt(c.data, int64(a))
		v.copies[a] = c
	}
	return v, nil
}

// fixed returns the addresses of what is written in place: superblocks, then the headers of the arenas,
// each right before its copy.
func (s *Store) fixed(super *blkfmt.Super) []blkfmt.Addr {
	list := []blkfmt.Addr{0, blkfmt.BackupAddr(s.devSize.Load())}
	for _, ref := range super.Arenas {
		list = append(list, ref.Addr, ref.Addr+blkfmt.BlkSize)
	}
	return list
}

// Super returns the superblock of the View's state, as the store knows it.
func (v *View) Super() blkfmt.Super { return v.super }

// OnLost has fn called, once, when a read is refused with ErrGaveWay. It is set before the first read.
func (v *View) OnLost(fn func()) { v.onLost = fn }

// Lost reports whether a read was refused: then what was made of the View is not of one state.
func (v *View) Lost() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lost
}

// ReadAt reads the device. What it returns without an error is of the View's state. Errors: ErrGaveWay,
// the device's. Safe for concurrent use.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if c, ok := v.copies[blkfmt.Addr(off)]; ok && len(p) == blkfmt.BlkSize {
		if c.err != nil {
			return 0, c.err
		}
		return copy(p, c.data), nil
	}
	n, err := v.st.dev.ReadAt(p, off)
	for at := blkfmt.Addr(off) &^ (blkfmt.BlkSize - 1); at < blkfmt.Addr(off)+blkfmt.Addr(n); at += blkfmt.BlkSize {
		c, ok := v.copies[at]
		switch {
		case !ok:
		case c.err != nil:
			return 0, c.err
		case int64(at) < off:
			copy(p[:n], c.data[off-int64(at):])
		default:
			copy(p[int64(at)-off:n], c.data)
		}
	}
	if v.pin != nil && v.pin.Broken() { // after the read: before, it might break meanwhile
		v.mu.Lock()
		first := !v.lost
		v.lost = true
		v.mu.Unlock()
		if first && v.onLost != nil {
			v.onLost()
		}
		return 0, fmt.Errorf("read at %v: %w", blkfmt.Addr(off), ErrGaveWay)
	}
	return n, err
}

// Size returns the length in bytes that the device had, as far as the store knew, when the View was made: the
// second superblock of its state is where it is on a device of that length.
func (v *View) Size() int64 { return v.size }

// Close ends the View. A second call does nothing.
func (v *View) Close() {
	if v.pin != nil {
		v.pin.Unpin()
	}
}

// GiveWay gives a View up, if there is one for which blocks are kept back, and reports whether there is
// more room now. Whoever would have to say that the disk is full calls it first.
func (s *Store) GiveWay() bool { return s.arenas.GiveWay() }
