package cons

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"gefs9p/blkfmt"
)

func growCommands() []Command {
	return []Command{
		{Name: "grow", Args: "[size]", max: 1, run: (*call).grow,
			Help: "make the disk as large as its device has become; with a size, first the file so large",
			Long: "Four new arenas follow the old ones and share what the device has gained, at least 64 MiB. Clients go\n" +
				"on meanwhile, and whoever found the disk full has room. size is in bytes, with K, M, G or T behind it,\n" +
				"and for files only: make a partition or volume larger first, and then grow without a size. The\n" +
				"answer comes when the larger disk is on stable storage; a power cut before that finds the disk as it was."},
		{Name: "trim", run: (*call).trim,
			Help: "tell the device all that is free, so that it need not keep it",
			Long: "A sparse file gives its room back to the host, a flash disk knows what it may erase. Clients go on\n" +
				"meanwhile. With serve --discard this is done all the time, for what becomes free."},
		{Name: "shrink", Args: "[size]", max: 1, run: (*call).shrink,
			Help: "disks do not shrink; says what to do instead"},
	}
}

// growth is the JSON form of grow.
type growth struct {
	Bytes  int64      `json:"bytes"` // of the device
	Arenas []newArena `json:"arenas"`
}

type newArena struct {
	Arena  int   `json:"arena"`
	Blocks int64 `json:"blocks"`
	Addr   int64 `json:"addr"` // of its header
}

func (k *call) grow() error {
	size := int64(0)
	if len(k.args) == 1 {
		var ok bool
		if size, ok = parseBytes(k.args[0]); !ok {
			return k.misuse()
		}
	}
	done, err := k.FS.Grow(k.ctx, size)
	if err != nil {
		return err
	}
	k.did = true
	out := growth{Bytes: done.Length}
	var b strings.Builder
	for i := range done.Arenas.Count {
		a := newArena{done.First + i, done.Arenas.Size / blkfmt.BlkSize, int64(done.Arenas.Header(i))}
		out.Arenas = append(out.Arenas, a)
		fmt.Fprintf(&b, "new arena %d: adding %d blocks at %x\n", a.Arena, a.Blocks, a.Addr)
	}
	return k.answer(out, "%s", b.String())
}

var errShrink = errors.New("a gefs disk does not shrink: blocks stay where they are, and the format has no arena that ends; " +
	"ream a smaller disk, serve both and copy the files; trim gives the host back what is free")

func (k *call) trim() error {
	n, err := k.FS.Trim(k.ctx)
	if err != nil {
		if n > 0 {
			err = fmt.Errorf("%d bytes were discarded, but then: %w", n, err)
		}
		return err
	}
	k.did = true
	return k.answer(map[string]int64{"trimmed": n}, "trimmed:\t%d (%s)\n", n, scaled(n))
}

func (k *call) shrink() error { return errShrink }

// parseBytes reads a number of bytes, with K, M, G or T for multiples of 1024.
func parseBytes(s string) (int64, bool) {
	digits, unit := s, int64(1)
	if i := strings.IndexAny(s, "KMGTkmgt"); i > 0 && i == len(s)-1 {
		unit = 1 << map[byte]int{'k': 10, 'm': 20, 'g': 30, 't': 40}[s[i]|0x20]
		digits = s[:i]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/unit {
		return 0, false
	}
	return int64(n) * unit, true
}
