package snap

import (
	"slices"

	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// batchBytes bounds what is upserted into the snapshot tree at a time.
const batchBytes = 4096

// Seal brings everything that changed to the snapshot tree, and returns what the superblock is to
// say of the forest. The caller has the mutation lock, is inside an epoch, and hands the result to
// blkstore.Store.Seal before anything else changes. After an error the disk must not be committed.
func (f *Forest) Seal(g *epoch.Guard) (blkstore.Root, error) {
	f.mu.Lock()
	for _, t := range f.open {
		t.settle()
	}
	f.mu.Unlock()

	w := writer{f: f, g: g}
	for _, gen := range sortedGens(f.snaps) {
		s := f.snaps[gen]
		for _, bgen := range sortedGens(s.lists) {
			w.deadlist(s, s.lists[bgen])
		}
		if s.changed {
			w.put(kvfmt.AppendSnapKey(nil, gen), s.rec.Append(nil))
			s.changed, s.onDisk = false, true
		}
	}
	for _, name := range f.labelNames() {
		if l := f.labels[name]; l.changed {
			w.put(kvfmt.AppendLabelKey(nil, name), l.val.Append(nil))
			l.changed, l.onDisk = false, true
		}
	}
	for _, m := range f.msgs {
		w.add(m)
	}
	w.flush()
	if w.err != nil {
		return blkstore.Root{}, w.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.msgs, f.changed = nil, false
	root, ht := f.tree.Root()
	return blkstore.Root{Snap: root, SnapHt: ht, NextQid: f.nextQid.Load(), NextGen: f.nextGen}, nil
}

func (f *Forest) labelNames() []string {
	names := make([]string, 0, len(f.labels))
	for name := range f.labels {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A writer collects messages for the snapshot tree.
type writer struct {
	f    *Forest
	g    *epoch.Guard
	msgs []kvfmt.Msg
	size int
	err  error
}

func (w *writer) add(m kvfmt.Msg) {
	if w.size+m.Size() > batchBytes {
		w.flush()
	}
	w.msgs = append(w.msgs, m)
	w.size += m.Size()
}

func (w *writer) put(key, val []byte) { w.add(kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: val}) }
func (w *writer) remove(key []byte)   { w.add(kvfmt.Msg{Op: kvfmt.Delete, Key: key}) }

func (w *writer) flush() {
	if w.err == nil && len(w.msgs) > 0 {
		w.err = w.f.tree.Upsert(w.g, 0, w.msgs)
	}
	w.msgs, w.size = nil, 0
}

// deadlist writes d if it changed; an empty one goes.
func (w *writer) deadlist(s *snapshot, d *deadlist) {
	if !d.changed || w.err != nil {
		return
	}
	if w.err = d.flush(w.g, w.f.st); w.err != nil {
		return
	}
	key := kvfmt.AppendDlistKey(nil, d.gen, d.bgen)
	switch {
	case !d.empty():
		w.put(key, d.disk.Append(nil))
		d.onDisk = true
	case d.onDisk:
		w.remove(key)
		d.onDisk = false
	}
	d.changed = false
	if d.empty() {
		delete(s.lists, d.bgen)
	}
}
