package arena

import "gefs9p/blkfmt"

// What streams know and how far they look.
const (
	nstreams   = 16  // files written at once in one arena, each in its own stretch
	minWindow  = 4   // blocks of a file's first stretch
	maxWindow  = 256 // blocks of its later ones, each twice as long as the one before
	searchGaps = 64  // free ranges looked at for a new stretch
)

// streams keeps blocks that will be read one after the other together on disk, also when several
// files grow at the same time. Each file works in a stretch, its window, which the others leave
// alone as long as there is room elsewhere. Windows start small and double, so that small files lie
// close together and the stretches of long files are long. A window is a wish: it owns no blocks, and
// is forgotten when more files come than there are streams.
type streams struct {
	s     [nstreams + 1]stream // the first one is the log's
	clock uint64
}

type stream struct {
	hint      uint64
	next, end blkfmt.Addr // the window is what is left of it; both zero: unused
	window    int64       // blocks of the window when it was new
	used      uint64      // clock of the last use
}

// take removes from free the block in which the file called hint is best continued. It returns
// false if nothing is free.
func (t *streams) take(free *ranges, hint uint64) (blkfmt.Addr, bool) {
	t.clock++
	st := &t.s[1]
	for i := 1; i < len(t.s); i++ {
		s := &t.s[i]
		if s.end != 0 && s.hint == hint {
			st = s
			break
		}
		if s.used < st.used {
			st = s
		}
	}
	if st.end == 0 || st.hint != hint {
		*st = stream{hint: hint}
	}
	st.used = t.clock
	if st.next < st.end && free.remove(st.next, blkfmt.BlkSize) {
		st.next += blkfmt.BlkSize
		return st.next - blkfmt.BlkSize, true
	}
	st.window = min(max(2*st.window, minWindow), maxWindow)
	a, ok := t.start(free, st)
	if !ok {
		return blkfmt.NoAddr, false
	}
	free.remove(a, blkfmt.BlkSize)
	st.next = a + blkfmt.BlkSize
	st.end = a + blkfmt.Addr(st.window*blkfmt.BlkSize)
	return a, true
}

// keep makes n blocks from a on the window of the log, which grows by a block with each commit and
// is best written in one piece.
func (t *streams) keep(a blkfmt.Addr, n int64) {
	t.s[0] = stream{next: a, end: a + blkfmt.Addr(n*blkfmt.BlkSize)}
}

// start returns where st's next window begins: behind the last one if that is free, else at the
// lowest gap that is long enough for it, else at the longest one found.
func (t *streams) start(free *ranges, st *stream) (blkfmt.Addr, bool) {
	want := blkfmt.Addr(st.window * blkfmt.BlkSize)
	if st.next != 0 && t.owner(st.next, st) == nil && free.holding(st.next) != nil {
		return st.next, true
	}
	n := free.tree.Left()
	if n == nil {
		return blkfmt.NoAddr, false
	}
	best, length := n.Key, blkfmt.Addr(0)
	for i := 0; n != nil && i < searchGaps; i++ {
		for a := n.Key; a < n.Value; {
			if o := t.owner(a, st); o != nil {
				a = o.end
				continue
			}
			end := n.Value
			for j := range t.s {
				if o := &t.s[j]; o != st && o.next > a && o.next < end && o.next < o.end {
					end = o.next
				}
			}
			if end-a > length {
				best, length = a, end-a
			}
			if length >= want {
				return best, true
			}
			a = end
		}
		n = n.Next()
	}
	return best, true
}

// owner returns the stream other than st in whose window a is.
func (t *streams) owner(a blkfmt.Addr, st *stream) *stream {
	for i := range t.s {
		if o := &t.s[i]; o != st && a >= o.next && a < o.end {
			return o
		}
	}
	return nil
}
