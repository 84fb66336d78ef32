package snap

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A dirt is what differs from the snapshot tree: the keys of records that changed, came or went since
// the last Seal. The value says whether the tree has a record under the key. What is to stand there is
// found in the forest's tables when it is written. The mutation lock guards it.
type dirt struct {
	snaps  map[blkfmt.Gen]bool
	labels map[string]bool
	lists  map[listKey]bool
}

type listKey struct{ gen, bgen blkfmt.Gen }

func (k listKey) compare(o listKey) int {
	return cmp.Or(cmp.Compare(k.gen, o.gen), cmp.Compare(k.bgen, o.bgen))
}

func newDirt() dirt {
	return dirt{make(map[blkfmt.Gen]bool), make(map[string]bool), make(map[listKey]bool)}
}

// mark notes that the record of s differs from what the tree has, or is about to go. f.changed is for
// the caller to set: not every difference is worth a commit.
func (f *Forest) mark(s *snapshot) {
	if _, ok := f.dirt.snaps[s.rec.Gen]; !ok {
		f.dirt.snaps[s.rec.Gen] = s.onDisk
	}
}

// markLabel is mark for the label called name. It is called before the label is entered or taken out.
func (f *Forest) markLabel(name string) {
	if _, ok := f.dirt.labels[name]; !ok {
		l := f.labels[name]
		f.dirt.labels[name] = l != nil && l.onDisk
	}
}

// markList is mark for a deadlist. It is called before the list changes its key.
func (f *Forest) markList(d *deadlist) {
	k := listKey{d.gen, d.bgen}
	if _, ok := f.dirt.lists[k]; !ok {
		f.dirt.lists[k] = d.onDisk
	}
}

// Seal brings everything that changed to the snapshot tree, and returns what the superblock is to
// say of the forest. It takes time for what changed, whatever the number of snapshots. The caller has
// the mutation lock, is inside an epoch, and hands the result to blkstore.Store.Seal before anything
// else changes. After an error the disk must not be committed.
func (f *Forest) Seal(g *epoch.Guard) (blkstore.Root, error) {
	f.mu.Lock()
	for _, t := range f.open {
		t.settle()
	}
	f.mu.Unlock()

	var msgs []kvfmt.Msg
	write := func(key, val []byte, is, was bool) {
		switch {
		case is:
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: val})
		case was:
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: key})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(f.dirt.lists), listKey.compare) {
		d, was := f.list(k), f.dirt.lists[k]
		is := d != nil && !d.empty()
		var val []byte
		if is {
			if err := d.flush(g, f.st); err != nil {
				return blkstore.Root{}, err
			}
			d.onDisk, val = true, d.disk.Append(nil)
		} else if d != nil {
			delete(f.snaps[k.gen].lists, k.bgen)
		}
		write(kvfmt.AppendDlistKey(nil, k.gen, k.bgen), val, is, was)
	}
	for gen, was := range f.dirt.snaps {
		s := f.snaps[gen]
		var val []byte
		if s != nil {
			s.onDisk, val = true, s.rec.Append(nil)
		}
		write(kvfmt.AppendSnapKey(nil, gen), val, s != nil, was)
	}
	for name, was := range f.dirt.labels {
		l := f.labels[name]
		var val []byte
		if l != nil {
			l.onDisk, val = true, l.val.Append(nil)
		}
		write(kvfmt.AppendLabelKey(nil, name), val, l != nil, was)
	}
	f.dirt = newDirt()
	if err := f.write(g, msgs); err != nil {
		return blkstore.Root{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = false
	root, ht := f.tree.Root()
	return blkstore.Root{Snap: root, SnapHt: ht, NextQid: f.nextQid.Load(), NextGen: f.nextGen}, nil
}

// write upserts the messages, one for each key, in order, so that those for one leaf go together and
// what is written does not depend on chance.
func (f *Forest) write(g *epoch.Guard, msgs []kvfmt.Msg) error {
	slices.SortFunc(msgs, func(a, b kvfmt.Msg) int { return bytes.Compare(a.Key, b.Key) })
	for len(msgs) > 0 {
		n, size := 0, 0
		for n < len(msgs) && size+msgs[n].Size() <= betree.BatchMax {
			size += msgs[n].Size()
			n++
		}
		if err := f.tree.Upsert(g, 0, msgs[:n]); err != nil {
			return err
		}
		msgs = msgs[n:]
	}
	return nil
}
