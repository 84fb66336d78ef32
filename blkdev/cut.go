package blkdev

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// All returns the cut at at that loses nothing.
func (t *Trace) All(at int) Cut { return Cut{At: at, Full: at} }

// None returns the cut at at that loses everything since the last Sync before it.
func (t *Trace) None(at int) Cut { return Cut{At: at, Full: t.window(at)} }

// Only returns the cut at at that keeps, of the window's writes, those with the given event indices,
// whole and in the given order.
func (t *Trace) Only(at int, kept ...int) Cut {
	c := t.None(at)
	for _, e := range kept {
		c.Then = append(c.Then, Part{Event: e})
	}
	return c
}

// Without returns the cut at at that loses, of the window's writes, only those with the given event
// indices.
func (t *Trace) Without(at int, lost ...int) Cut {
	w := t.writes(t.window(at), at)
	kept := make([]bool, len(w))
	for i, e := range w {
		kept[i] = !slices.Contains(lost, e)
	}
	return t.choose(at, w, kept)
}

// writes returns the indices of the events in [from, to) that change the disk. It is shared.
func (t *Trace) writes(from, to int) []int {
	return t.changes[sort.SearchInts(t.changes, from):sort.SearchInts(t.changes, to)]
}

// choose returns the cut that keeps those of w, the writes of the window of at, that are kept.
func (t *Trace) choose(at int, w []int, kept []bool) Cut {
	c := Cut{At: at, Full: at}
	for i, e := range w {
		switch {
		case c.Full == at && !kept[i]:
			c.Full = e
		case c.Full < at && kept[i]:
			c.Then = append(c.Then, Part{Event: e})
		}
	}
	return c
}

// Boundaries yields a cut before each write and one at the end, with all that was written before on
// the disk. Each comes as late as it can without another write, so that as many marks as possible
// are before it.
func (t *Trace) Boundaries() iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for _, e := range t.changes {
			if !yield(t.All(e)) {
				return
			}
		}
		yield(t.All(len(t.events)))
	}
}

// Windows yields for each window with writes in it the index of the Sync that ends it, or Len for
// the last, and the indices of the writes, which are shared and must not be changed.
func (t *Trace) Windows() iter.Seq2[int, []int] {
	return func(yield func(int, []int) bool) {
		from := 0
		for i := 0; i <= len(t.syncs); i++ {
			end := len(t.events)
			if i < len(t.syncs) {
				end = t.syncs[i]
			}
			if w := t.writes(from, end); len(w) > 0 && !yield(end, w) {
				return
			}
			from = end + 1
		}
	}
}

// Subsets yields, at the end of each window and just before the Sync that ends it, the cuts that
// lose at most k of the window's writes and those that keep at most k. For windows of up to 2k+1
// writes that is every subset. None comes twice.
func (t *Trace) Subsets(k int) iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for end, w := range t.Windows() {
			n := len(w)
			set := make([]bool, n)
			for r := 0; r <= n; r++ {
				if r > k && n-r > k {
					continue
				}
				ok := combinations(set, 0, r, func() bool { return yield(t.choose(end, w, set)) })
				if !ok {
					return
				}
			}
		}
	}
}

// combinations calls fn with every set of r elements from i on, until fn returns false.
func combinations(set []bool, i, r int, fn func() bool) bool {
	if r == 0 {
		return fn()
	}
	for ; i <= len(set)-r; i++ {
		set[i] = true
		ok := combinations(set, i+1, r-1, fn)
		set[i] = false
		if !ok {
			return false
		}
	}
	return true
}

// Tears yields for each write of two or more sectors the cuts that find it torn, with all before it
// on the disk and nothing after: only its first sector written, only its last, all but one of these,
// either half.
func (t *Trace) Tears() iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for i, e := range t.changes {
			n := t.events[e].Sectors()
			at := len(t.events)
			if i+1 < len(t.changes) {
				at = t.changes[i+1]
			}
			if s := sort.SearchInts(t.syncs, e); s < len(t.syncs) {
				at = min(at, t.syncs[s])
			}
			var seen [][2]int
			for _, r := range [][2]int{{0, 1}, {n - 1, n}, {0, n - 1}, {1, n}, {0, n / 2}, {n / 2, n}} {
				if n < 2 || slices.Contains(seen, r) {
					continue
				}
				seen = append(seen, r)
				if !yield(Cut{At: at, Full: e, Then: []Part{{Event: e, Sectors: span(r[0], r[1])}}}) {
					return
				}
			}
		}
	}
}

// span returns lo, lo+1, … hi-1.
func span(lo, hi int) []int {
	s := make([]int, 0, hi-lo)
	for ; lo < hi; lo++ {
		s = append(s, lo)
	}
	return s
}

// Overtakes yields for each two writes of one window that overlap the cut at the window's end that
// finds both on the disk, the older one on top, and all other writes of the window too.
func (t *Trace) Overtakes() iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for end, w := range t.Windows() {
			for j := range w {
				for i := range j {
					a, b := &t.events[w[i]], &t.events[w[j]]
					if a.Off >= b.Off+b.Len || b.Off >= a.Off+a.Len {
						continue
					}
					c := Cut{At: end, Full: w[i]}
					for k := i + 1; k < len(w); k++ {
						c.Then = append(c.Then, Part{Event: w[k]})
						if k == j {
							c.Then = append(c.Then, Part{Event: w[i]})
						}
					}
					if !yield(c) {
						return
					}
				}
			}
		}
	}
}

// Random returns a cut anywhere: any point, any subset of its window, sometimes with torn writes,
// sometimes in another order. The same r gives the same cut.
func (t *Trace) Random(r *rand.Rand) Cut {
	return t.RandomAt(r, r.IntN(len(t.events)+1))
}

// RandomAt is Random for the point before event at.
func (t *Trace) RandomAt(r *rand.Rand, at int) Cut {
	w := t.writes(t.window(at), at)
	// A bare coin for each write would hardly ever lose only one of many.
	keep := []float64{0.05, 0.5, 0.5, 0.95, 1}[r.IntN(5)]
	tear := []float64{0, 0, 0.1, 1}[r.IntN(4)]
	shuffle := r.IntN(4) == 0

	c := Cut{At: at, Full: at}
	for i, e := range w {
		part := Part{Event: e}
		kept := r.Float64() < keep
		if n := t.events[e].Sectors(); kept && n > 1 && r.Float64() < tear {
			part.Sectors = tornSectors(r, n)
		}
		if c.Full == at && (!kept || part.Sectors != nil || (shuffle && i >= len(w)/2)) {
			c.Full = e
		}
		if c.Full < at && kept {
			c.Then = append(c.Then, part)
		}
	}
	if shuffle {
		r.Shuffle(len(c.Then), func(i, j int) { c.Then[i], c.Then[j] = c.Then[j], c.Then[i] })
	}
	return c
}

// tornSectors chooses some but not all of n sectors: a prefix, a suffix, or any.
func tornSectors(r *rand.Rand, n int) []int {
	k := 1 + r.IntN(n-1)
	switch r.IntN(3) {
	case 0:
		return span(0, k)
	case 1:
		return span(k, n)
	}
	s := r.Perm(n)[:k]
	slices.Sort(s)
	return s
}

// String returns the cut as ParseCut takes it, such as "at=12 full=7 then=9,8:0-3+7": at event 12,
// events before 7 done, then 9 whole and of 8 the sectors 0 to 3 and 7.
func (c Cut) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "at=%d full=%d", c.At, c.Full)
	for i, p := range c.Then {
		sep := ","
		if i == 0 {
			sep = " then="
		}
		fmt.Fprintf(&b, "%s%d", sep, p.Event)
		if p.Sectors == nil {
			continue
		}
		sep = ":"
		for j := 0; j < len(p.Sectors); j++ {
			lo := p.Sectors[j]
			for j+1 < len(p.Sectors) && p.Sectors[j+1] == p.Sectors[j]+1 {
				j++
			}
			fmt.Fprintf(&b, "%s%d", sep, lo)
			if hi := p.Sectors[j]; hi > lo {
				fmt.Fprintf(&b, "-%d", hi)
			}
			sep = "+"
		}
		if len(p.Sectors) == 0 {
			b.WriteString(":")
		}
	}
	return b.String()
}

// maxParsedSectors bounds what one word of a cut may expand to.
const maxParsedSectors = 1 << 20

// ParseCut is the inverse of String, for a test that takes a failing cut back by a flag. Whether the
// cut fits a trace is found out by State.
func ParseCut(s string) (Cut, error) {
	var c Cut
	bad := func() (Cut, error) { return Cut{}, fmt.Errorf("bad cut %q", s) }
	f := strings.Fields(s)
	if len(f) != 2 && len(f) != 3 {
		return bad()
	}
	for i, prefix := range []string{"at=", "full=", "then="}[:len(f)] {
		word, ok := strings.CutPrefix(f[i], prefix)
		if !ok {
			return bad()
		}
		switch i {
		case 0, 1:
			n, err := strconv.Atoi(word)
			if err != nil {
				return bad()
			}
			*[]*int{&c.At, &c.Full}[i] = n
		case 2:
			for p := range strings.SplitSeq(word, ",") {
				part, err := parsePart(p)
				if err != nil {
					return bad()
				}
				c.Then = append(c.Then, part)
			}
		}
	}
	return c, nil
}

// parsePart parses "8" and "8:0-3+7".
func parsePart(s string) (Part, error) {
	ev, sectors, torn := strings.Cut(s, ":")
	n, err := strconv.Atoi(ev)
	if err != nil || !torn {
		return Part{Event: n}, err
	}
	p := Part{Event: n, Sectors: []int{}}
	if sectors == "" {
		return p, nil
	}
	for r := range strings.SplitSeq(sectors, "+") {
		a, b, isRange := strings.Cut(r, "-")
		lo, err := strconv.Atoi(a)
		if err != nil {
			return p, err
		}
		hi := lo
		if isRange {
			if hi, err = strconv.Atoi(b); err != nil {
				return p, err
			}
		}
		if hi < lo || hi-lo >= maxParsedSectors {
			return p, fmt.Errorf("bad range %q", r)
		}
		p.Sectors = append(p.Sectors, span(lo, hi+1)...)
	}
	return p, nil
}
