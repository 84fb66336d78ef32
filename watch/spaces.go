package watch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/snap"
)

// Bounds of what is counted in the background.
const (
	surveyEvery = time.Second
	spaceTime   = 2 * time.Second  // for what one snapshot holds; it is given up then
	spaceKept   = 10 * time.Minute // for how long that is believed while its neighbours stay
	spaceFresh  = time.Minute      // the same, if it lies beside what changes
	spaceAgain  = time.Hour        // until what could not be counted is tried again
	heldTime    = 3 * time.Second  // for what all snapshots hold
	heldEvery   = 15 * time.Second
	snapsMost   = 400 // labels that are looked at
)

// A survey is what is known of the space that snapshots hold, as it was counted in the background.
type survey struct {
	mu     sync.Mutex
	spaces map[string]holding
	held   heldBlocks
}

func (s *survey) init() { s.spaces = make(map[string]holding) }

// A holding is what would come back if one label was deleted.
type holding struct {
	gen, before, after blkfmt.Gen // of the label, and of its neighbours; NoGen for one that changes
	bytes              int64
	unknown            bool // it could not be counted in time, or at all
	at                 time.Time
}

// good reports whether the holding need not be counted again yet.
func (h holding) good(l snapshot, now time.Time) bool {
	keep := spaceKept
	switch {
	case h.at.IsZero() || h.gen != l.Gen || h.before != l.before || h.after != l.after:
		return false
	case h.unknown:
		keep = spaceAgain
	case h.after == blkfmt.NoGen:
		keep = spaceFresh
	}
	return now.Sub(h.at) < keep
}

// heldBlocks is how many blocks are kept for snapshots only, by arena and cell of the map.
type heldBlocks struct {
	cells  [][]int64
	blocks int64
	qgen   int64 // of the state that was looked at
	cut    bool  // there was no time to look at all of it
	at     time.Time
}

// A snapshot is a label, for people.
type snapshot struct {
	snap.LabelInfo
	before, after blkfmt.Gen // labels beside it, by generation; NoGen at the ends and beside what changes
	Made          time.Time  // zero if its name does not say
	Kind          string     // "can be written", "minute", "hour", "day", "by hand"
	holding       holding
}

// stamp is how the time stands in the names of automatic snapshots.
const stamp = "2006.01.02_15:04:05"

// madeAt finds out from a label's name what kind of snapshot it is and when it was made.
func madeAt(name string) (kind string, at time.Time) {
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		tag, when, ok := strings.Cut(name[i+1:], ".")
		if t, err := time.Parse(stamp, when); ok && err == nil {
			switch tag {
			case "minute", "hour", "day":
				return tag, t
			}
			return "by hand", t
		}
	}
	return "by hand", time.Time{}
}

// snapshots returns the labels of the disk, the oldest first, with what is known of each, and how many older
// ones are left out.
func (w *Watcher) snapshots() (list []snapshot, more int) {
	for _, l := range w.FS.Labels() {
		if l.Name == snap.Empty {
			continue
		}
		s := snapshot{LabelInfo: l, before: blkfmt.NoGen, after: blkfmt.NoGen}
		if s.Kind, s.Made = madeAt(l.Name); l.Mutable {
			s.Kind, s.Made = "can be written", time.Time{}
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b snapshot) int {
		if a.Mutable != b.Mutable {
			if b.Mutable {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Gen, b.Gen), a.Made.Compare(b.Made))
	})
	for i := range list {
		if i > 0 && !list[i-1].Mutable {
			list[i].before = list[i-1].Gen
		}
		if i+1 < len(list) && !list[i+1].Mutable {
			list[i].after = list[i+1].Gen
		}
	}
	if more = len(list) - snapsMost; more > 0 {
		list = list[more:]
	}
	w.survey.mu.Lock()
	defer w.survey.mu.Unlock()
	for i := range list {
		if h, ok := w.survey.spaces[list[i].Name]; ok && h.gen == list[i].Gen {
			list[i].holding = h
		}
	}
	return list, max(more, 0)
}

// count counts what somebody looks at, until ctx ends.
func (w *Watcher) count(ctx context.Context) {
	tick := time.NewTicker(surveyEvery)
	defer tick.Stop()
	for {
		if w.watched() {
			w.countHeld(ctx)
			w.countSpaces(ctx)
		}
		select {
		case <-tick.C:
			if w.watched() {
				continue
			}
			select { // nobody looks: sleep until somebody does
			case <-w.wake:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// countSpaces counts what snapshots hold, the newest first, for a second or so.
func (w *Watcher) countSpaces(ctx context.Context) {
	list, _ := w.snapshots()
	end := time.Now().Add(surveyEvery)
	keep := make(map[string]bool, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		l := list[i]
		keep[l.Name] = true
		if l.Mutable || l.holding.good(l, time.Now()) || ctx.Err() != nil || time.Now().After(end) {
			continue
		}
		bytes, err := w.space(ctx, l.Name)
		h := holding{gen: l.Gen, before: l.before, after: l.after, bytes: bytes, unknown: err != nil, at: time.Now()}
		if ctx.Err() != nil || errors.Is(err, snap.ErrNoLabel) {
			continue
		}
		w.survey.mu.Lock()
		w.survey.spaces[l.Name] = h
		w.survey.mu.Unlock()
	}
	w.survey.mu.Lock()
	defer w.survey.mu.Unlock()
	for name := range w.survey.spaces {
		if !keep[name] {
			delete(w.survey.spaces, name)
		}
	}
}

// space returns what would come back if the label was deleted, in bytes.
func (w *Watcher) space(ctx context.Context, label string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, spaceTime)
	defer cancel()
	c, end := w.FS.Background()
	defer end()
	blocks, err := w.FS.Space(ctx, c, label)
	return blocks * blkfmt.BlkSize, err
}

// countHeld finds out which blocks are kept for snapshots only, if something was committed since the last time.
func (w *Watcher) countHeld(ctx context.Context) {
	set := w.FS.Store().Arenas()
	qgen := set.Qgen()
	w.survey.mu.Lock()
	old := w.survey.held
	w.survey.mu.Unlock()
	if !old.at.IsZero() && (old.qgen == qgen && !old.cut || time.Since(old.at) < heldEvery) {
		return
	}
	grid := newGrid(w.FS.Arenas())
	h := heldBlocks{cells: grid.zero(), qgen: qgen}
	ctx, cancel := context.WithTimeout(ctx, heldTime)
	defer cancel()
	err := w.FS.Held(ctx, func(a blkfmt.Addr) bool {
		if i, err := set.Index(a); err == nil && i < len(h.cells) { // the disk may grow meanwhile
			h.blocks++
			h.cells[i][grid.arenas[i].cell(a)]++
		}
		return true
	})
	h.at = time.Now()
	if h.cut = err != nil; h.cut && h.blocks < old.blocks {
		old.at, old.cut = h.at, true // better than less of it
		h = old
	}
	w.survey.mu.Lock()
	defer w.survey.mu.Unlock()
	w.survey.held = h
}
