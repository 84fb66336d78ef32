package cli

import (
	"math/bits"
	"os"
	"runtime/debug"

	"gefs9p/nbd"
	"gefs9p/ninep"
)

const (
	plenty  = 512 << 20 // of memory, with which nobody has to be sparing
	besides = 24 << 20  // what a server takes besides its cache and its connections: code, tables, trace
)

// limitGarbage sets how much garbage may gather before it is collected, in a process that can hope for total
// bytes of memory (0 if that is unknown) and has a cache of so many. The cache is a few large
// pieces of memory that live as long as the process and hold no pointers: a collection does not
// scan them, but Go's rule, garbage as large as what lives, would give the process twice the
// memory it was granted. So the percentage is such that about garbageRoom gathers beside a full cache.
// Where there is little memory, it is collected more often as that comes to its end.
// Whoever sets GOGC or GOMEMLIMIT knows better.
func limitGarbage(total, cache int64) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	const garbageRoom = 128 << 20
	debug.SetGCPercent(int(min(max(100*garbageRoom/max(cache, 1), 5), 100)))
	if total > 0 && total < plenty {
		debug.SetMemoryLimit(total / 4 * 3) // the rest is for the kernel's copy of code and disk
	}
}

// unflushed returns how many bytes of writes may be unflushed on a disk on NBD, where there are total bytes of memory.
// They are kept besides the cache.
func unflushed(total int64) int64 {
	if total <= 0 {
		return nbd.DefaultUnflushed
	}
	return min(max(total/16, 1<<20), nbd.DefaultUnflushed)
}

// connLimits returns what connections may take where there are total bytes of memory, so many of them for
// the cache: the usual, or as much less as it takes for 64 connections that are all as full as they can
// be to fit into what is left; and then there are no more than 64. Frames never become smaller than what
// Plan 9 asks for.
func connLimits(total, cache int64) ninep.Limits {
	if total <= 0 || total >= plenty {
		return ninep.Limits{}
	}
	const conns, buffers = 64, 6 // of a connection: request, reply, replies that wait, what blocked requests hold
	room := max(total-cache-besides, 0) / (conns * buffers)
	msize := 1 << max(bits.Len64(uint64(room))-1, 0)
	msize = min(max(msize, 16<<10), 1<<20)
	return ninep.Limits{Msize: uint32(msize), Output: msize, Held: 2 * msize, Conns: conns}
}
