package gefs

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"gefs9p/betree"
	"gefs9p/kvfmt"
	"gefs9p/snap"
)

// countKeys is how many entries are counted in one epoch.
const countKeys = 2048

// countLoop counts the files of labels whose use is not known, until the file system is closed.
func (fs *FS) countLoop() {
	for {
		select {
		case <-fs.quotas.kick:
		case <-fs.ctx.Done():
			return
		}
		for fs.ctx.Err() == nil {
			t := fs.toCount()
			if t == nil {
				break
			}
			fs.countFiles(t)
		}
	}
}

// toCount returns a tally that is to be counted, nil if there is none.
func (fs *FS) toCount() *tally {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	for _, label := range slices.Sorted(maps.Keys(fs.quotas.tallies)) {
		if t := fs.quotas.tallies[label]; !t.counted && t.err == nil {
			return t
		}
	}
	return nil
}

// countFiles counts what the files of a label use, in the tree as it is now. What changes meanwhile the tally
// has heard of itself. If the label becomes another tree meanwhile, this count is worth nothing, and there will be
// another.
func (fs *FS) countFiles(t *tally) {
	g := fs.st.Guard()
	defer fs.st.FreeGuard(g)
	fs.mutMu.Lock()
	g.Enter()
	t.restart()
	run := t.run
	h, err := fs.forest.Hold(t.label)
	g.Leave()
	if err != nil {
		t.err = err
	}
	fs.mutMu.Unlock()
	if err != nil {
		if !errors.Is(err, snap.ErrNoLabel) {
			fs.log.Error("the files of a label cannot be counted; its quotas are not in force", "label", t.label, "err", err)
		}
		return
	}

	sums := make(map[int32]kvfmt.Use)
	from := []byte{kvfmt.Kent}
	for err == nil && from != nil {
		if err = fs.ctx.Err(); err != nil {
			break
		}
		g.Enter()
		from, err = countSome(func(f func(k, v []byte) bool) error {
			return h.ScanRange(g, from, []byte{kvfmt.Kent + 1}, f)
		}, sums)
		g.Leave()
	}

	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	g.Enter()
	defer g.Leave()
	h.Release()
	fs.reclaimer.wake() // it may have waited for the snapshot
	switch {
	case t.run != run || fs.quotas.tallies[t.label] != t:
	case err != nil && fs.ctx.Err() == nil:
		t.err = err
		fs.log.Error("the files of a label cannot be counted; its quotas are not in force", "label", t.label, "err", err)
	case err == nil:
		t.complete(sums)
		if err := fs.saveQuota(g, t); err != nil {
			var free *betree.FreeError
			if errors.As(err, &free) {
				fs.st.Latch(err)
			}
			fs.log.Error("what the files of a label use could not be saved", "label", t.label, "err", err)
		}
		fs.unsynced.changed(fs)
		fs.log.Info("the files of a label are counted; its quotas are in force", "label", t.label, "bytes", bytesOf(t.total.Blocks), "files", t.total.Files)
	}
}

// countSome adds up some entries of a tree, in the order in which scan finds them, and returns where to go on;
// nil if that was all.
func countSome(scan func(func(k, v []byte) bool) error, sums map[int32]kvfmt.Use) (next []byte, err error) {
	n := 0
	var bad error
	err = scan(func(k, v []byte) bool {
		if n++; n > countKeys {
			next = bytes.Clone(k)
			return false
		}
		var d kvfmt.Dir
		if d, bad = kvfmt.GetDir(v); bad != nil {
			return false
		}
		if !kvfmt.IsRoot(k) {
			u := sums[d.Uid]
			u.Add(kvfmt.UseOf(&d))
			sums[d.Uid] = u
		}
		return true
	})
	if err == nil {
		err = bad
	}
	return next, err
}
