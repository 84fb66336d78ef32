package check

import (
	"bytes"
	"errors"
	"fmt"

	"gefs9p/blkfmt"
)

// loadSuper finds the superblock that an opener must choose: the newest valid one of the two whose
// arenas load. It leaves x.super nil, with a problem reported, if there is a gefs disk but neither
// copy can be used. It fails if there is none.
func (x *run) loadSuper() error {
	type copyOf struct {
		addr   blkfmt.Addr
		s      *blkfmt.Super
		err    error
		as     []*arena
		ps     []Problem
		loaded bool
	}
	copies := [2]copyOf{{addr: 0}, {addr: blkfmt.BackupAddr(x.size)}}
	if copies[1].addr <= 0 {
		return fmt.Errorf("%w: %d bytes", blkfmt.ErrNotGefs, x.size)
	}
	var raw [2][]byte
	for i := range copies {
		c := &copies[i]
		raw[i] = x.c.block()
		defer func() { x.c.pool = append(x.c.pool, raw[i]) }()
		if c.err = x.read(raw[i], c.addr); c.err == nil {
			c.s, c.err = blkfmt.DecodeSuper(raw[i], x.opt.Key, c.addr)
		}
	}
	if x.stop != nil {
		return x.stop
	}
	if copies[0].s == nil && copies[1].s == nil {
		for _, c := range copies {
			var ve *blkfmt.VersionError
			if errors.As(c.err, &ve) || errors.Is(c.err, blkfmt.ErrNoKey) || errors.Is(c.err, blkfmt.ErrForeignKey) {
				return c.err
			}
		}
		var ce *blkfmt.CorruptError
		if !errors.As(copies[0].err, &ce) && !errors.As(copies[1].err, &ce) {
			return copies[0].err
		}
		x.rep.Complete = false
		x.sayAt(SuperBad, Fatal, 0, blkfmt.SuperBlk, "no superblock: %v; backup: %v", copies[0].err, copies[1].err)
		return nil
	}

	first, second := &copies[0], &copies[1]
	if first.s == nil || second.s != nil && second.s.Qgen > first.s.Qgen {
		first, second = second, first
	}
	switch {
	case second.s == nil:
		x.sayAt(SuperBad, Note, second.addr, blkfmt.SuperBlk, "the other copy is good: %v", second.err)
	case first.s.Qgen != second.s.Qgen:
		x.sayAt(SuperStale, Note, second.addr, blkfmt.SuperBlk, "of commit %d, the other copy is of %d", second.s.Qgen, first.s.Qgen)
	case !sameSuper(raw[0], raw[1], first.s):
		x.sayAt(SuperStale, Note, copies[1].addr, blkfmt.SuperBlk, "both copies are of commit %d, but differ", first.s.Qgen)
	}
	use := first
	x.hash = first.s.Hasher()
	first.as, first.ps, first.loaded = x.loadArenas(first.s)
	if !first.loaded && second.s != nil {
		x.hash = second.s.Hasher()
		if second.as, second.ps, second.loaded = x.loadArenas(second.s); second.loaded {
			use = second
			x.sayAt(SuperFallback, Error, first.addr, blkfmt.SuperBlk, "the arenas of commit %d do not load, those of %d do: %s",
				first.s.Qgen, second.s.Qgen, worst(first.ps))
		}
	}
	x.super, x.arenas = use.s, use.as
	x.hash = use.s.Hasher()
	if !use.loaded {
		x.rep.Complete = false
	}
	for _, p := range use.ps {
		x.problem(p)
	}
	for _, a := range use.as {
		if !a.loaded {
			x.rep.Complete = false
		}
	}
	s := use.s
	x.rep.Version = blkfmt.VersionMetro
	if s.Sip {
		x.rep.Version = blkfmt.VersionSip
	}
	x.rep.Super, x.rep.Qgen, x.rep.NextQid, x.rep.NextGen = use.addr, s.Qgen, s.NextQid, s.NextGen
	known := uint64(0)
	if s.Sip {
		known = blkfmt.FlagKeyInside
	}
	if s.Flag&^known != 0 {
		x.sayAt(SuperField, Error, use.addr, blkfmt.SuperBlk, "unknown feature flags %#x", s.Flag&^known)
	}
	if s.Qgen < 0 || s.NextGen < 0 {
		x.sayAt(SuperField, Error, use.addr, blkfmt.SuperBlk, "qgen %d, next generation %d", s.Qgen, s.NextGen)
	}
	return nil
}

// sameSuper compares the parts of two superblocks that mean something.
func sameSuper(a, b []byte, s *blkfmt.Super) bool {
	n := 104 + 16*len(s.Arenas) // the hash behind covers the rest
	return bytes.Equal(a[:n], b[:n])
}

// worst returns the text of the first problem that is an error.
func worst(ps []Problem) string {
	for _, p := range ps {
		if p.Severity >= Error {
			return p.Text
		}
	}
	return ""
}
