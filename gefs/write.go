package gefs

import (
	"math"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// maxOffset bounds the length of a file, so that no offset in it overflows.
const maxOffset = math.MaxInt64 - blkfmt.BlkSize

// Write writes p at off, or at the end of an append-only file. All of p becomes visible at once.
// Source: write(5); fswrite.
func (f *File) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	f.mu.RLock()
	mode := f.mode
	f.mu.RUnlock()
	if mode == notOpen || mode&3 == ninep.OREAD || mode&3 == ninep.OEXEC {
		return 0, errInUse
	}
	err := f.fs.settled(c, f, len(p)/blkfmt.BlkSize+2, func() error { return f.write(guard(c), p, off) })
	if err != nil {
		return 0, f.fs.wire(err, "write", f)
	}
	return len(p), nil
}

// write changes the tree. The mutation lock is held, and nothing of the file is to be cleared.
func (f *File) write(g *epoch.Guard, p []byte, off uint64) error {
	de := f.dent
	de.mu.RLock()
	d, removed, kept := de.dir, de.gone, de.kept()
	de.mu.RUnlock()
	switch {
	case removed && !kept:
		return errPhase
	case !f.mount.tree.Mutable():
		return errReadOnly
	case d.Mode&dmDir != 0:
		return errPerm
	}
	if d.Mode&dmAppend != 0 {
		off = d.Length
	}
	if off > maxOffset || uint64(len(p)) > maxOffset-off {
		return errFileSize
	}
	end := off + uint64(len(p))
	if len(p) > 0 && end > d.Length {
		if err := f.mount.mayBecome(&d, end, removed); err != nil {
			return err
		}
	}
	ch := f.fs.newChange(g, f.mount)
	if len(p) > 0 && end > d.Length {
		if err := ch.extend(de, d.Length, off); err != nil {
			return ch.done(err)
		}
	}
	for at := off; at < end; {
		base := at &^ (blkfmt.BlkSize - 1)
		n := min(end, base+blkfmt.BlkSize) - at
		if err := ch.piece(de.qid, base, at-base, p[at-off:][:n], d.Length); err != nil {
			return ch.done(err)
		}
		at += n
	}
	set := kvfmt.Dir{Length: end, Mtime: f.fs.now().UnixNano(), Muid: f.uid}
	mask := kvfmt.WMtime | kvfmt.WMuid
	if len(p) > 0 && end > d.Length {
		mask |= kvfmt.WLength
	}
	ch.wstat(de, kvfmt.AppendWstat(nil, mask, &set))
	return ch.apply()
}

// piece adds the new version of the block at base, with p from byte skip on. What p does not cover
// comes from the old version, as far as the file's length goes, and is zero elsewhere.
func (ch *change) piece(qid, base, skip uint64, p []byte, length uint64) error {
	end := skip + uint64(len(p))
	var old *blkstore.Blk
	keep := uint64(0) // bytes of the old version that count
	if base < length {
		keep = min(length-base, blkfmt.BlkSize)
	}
	if keep > 0 && (skip > 0 || end < keep) {
		bp, ok, err := ch.m.dataPtr(ch.g, qid, base)
		if err != nil {
			return err
		}
		if ok {
			if old, err = ch.fs.st.Get(ch.g, bp, blkfmt.Data); err != nil {
				return err
			}
			defer ch.fs.st.Drop(old)
		}
	}
	return ch.data(qid, base, end == blkfmt.BlkSize, func(b []byte) {
		n := uint64(0)
		if old != nil {
			n = uint64(copy(b, old.Bytes()[:keep]))
		}
		if n < skip {
			clear(b[n:skip])
		}
		copy(b[skip:], p)
		if n < end {
			n = end
		}
		clear(b[n:])
	})
}

// extend makes sure that what lies beyond the file's end, at length, is zeros, before a write or a
// wstat lets it become part of the file. from is where the write begins, for the block it lies in is
// written anyway; it is behind everything if there is none. Our own files never have anything there; those written by the reference may.
func (ch *change) extend(de *Dent, length, from uint64) error {
	de.mu.RLock()
	clean := de.clean
	de.mu.RUnlock()
	if clean {
		return nil
	}
	if base := length &^ (blkfmt.BlkSize - 1); base != length && base != from&^(blkfmt.BlkSize-1) {
		if err := ch.zeroTail(de.qid, length); err != nil {
			return err
		}
	}
	const few = 64
	start := roundUp(length)
	for {
		msgs, more, err := ch.m.clears(ch.g, kvfmt.Clear{Qid: de.qid, Gen: ch.gen, From: start, To: math.MaxUint64}, few)
		if err != nil {
			return err
		}
		if !more {
			ch.msgs = append(ch.msgs, msgs...)
			break
		}
		if err := ch.fs.upsert(ch.g, ch.m, msgs); err != nil {
			return err
		}
	}
	de.mu.Lock()
	de.clean = len(ch.msgs) == 0
	de.mu.Unlock()
	return nil
}

// zeroTail adds a version of the block that holds byte length-1 in which everything from length on
// is zero, if it is not so already.
func (ch *change) zeroTail(qid, length uint64) error {
	base := length &^ (blkfmt.BlkSize - 1)
	if base == length {
		return nil
	}
	bp, ok, err := ch.m.dataPtr(ch.g, qid, base)
	if err != nil || !ok {
		return err
	}
	old, err := ch.fs.st.Get(ch.g, bp, blkfmt.Data)
	if err != nil {
		return err
	}
	defer ch.fs.st.Drop(old)
	keep := length - base
	if isZero(old.Bytes()[keep:]) {
		return nil
	}
	return ch.data(qid, base, false, func(b []byte) {
		clear(b[copy(b, old.Bytes()[:keep]):])
	})
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func roundUp(n uint64) uint64 { return (n + blkfmt.BlkSize - 1) &^ (blkfmt.BlkSize - 1) }
