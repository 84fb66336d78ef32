package gefs

import (
	"crypto/sha256"
	"encoding/binary"

	"gefs9p/kvfmt"
	"gefs9p/ninep"
)

// On the disk a file has the same qid in all snapshots. Programs on Linux take what has the same number on the
// same mount for the same file: diff does not read it, cp refuses to copy it, and the kernel, with cache=loose,
// shows the contents of one for the other, and moves a directory that it knows to where it finds it
// next. So on connections of 9P2000.L and 9P2000.u what is reached through the dump directory has other qid paths, which
// are the snapshot's own. Who attaches to one snapshot sees the disk's.

// The roots that ream makes. Every tree has one of them, and neither is anything else.
const (
	mainRoot = 0
	admRoot  = 1
)

// salt is what the qid paths of a snapshot are changed by. It hangs on the name, as a tree that changes
// has one generation after the other. The root's path is the salt itself.
//
// Two snapshots could share a path only if their salts differed in nothing but what paths differ in: with
// 2^32 files made and 1,000 snapshots, one chance in 10,000 that there are two such snapshots.
func salt(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:])
}

// apart returns the qid of a file of m for a client that sees other snapshots beside it.
func (m *Mount) apart(q kvfmt.Qid) ninep.Qid {
	if q.Path == admRoot {
		q.Path = mainRoot
	}
	q.Path ^= m.salt
	return wireQid(q)
}

// wireQid is the qid of a file of f's mount, as f's client is told it.
func (f *File) wireQid(q kvfmt.Qid) ninep.Qid {
	if f.fromDump && f.forUnix() {
		return f.mount.apart(q)
	}
	return wireQid(q)
}

// wireQid is the qid of a file of m, as the walker's client is told it.
func (w *walker) wireQid(m *Mount, q kvfmt.Qid) ninep.Qid {
	if w.fromDump && w.dialect != ninep.Plan9 {
		return m.apart(q)
	}
	return wireQid(q)
}
