package snap

import (
	"fmt"

	"gefs9p/kvfmt"
)

// Rollback makes the state of the snapshot old that of the mutable label, at once and whatever their
// size. The replaced state stays under the name keep, so that it can be undone. If the label's Tree
// is open it shows the new state from here on; blocks that readers inside an epoch may be looking at
// stay. Errors wrap ErrNoLabel, ErrExists, ErrReserved, ErrName, ErrNotMutable, ErrSame; nothing has
// changed then. The caller has the mutation lock; it is durable after the next commit.
func (f *Forest) Rollback(name, old, keep string) error {
	if err := CheckName(keep); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l, o := f.labels[name], f.labels[old]
	switch {
	case l == nil:
		return fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
	case o == nil:
		return fmt.Errorf("snap: open '%s': %w", old, ErrNoLabel)
	case f.labels[keep] != nil:
		return fmt.Errorf("snap: %w '%s'", ErrExists, keep)
	case l.val.Flags&kvfmt.LabelMutable == 0:
		return fmt.Errorf("snap: '%s': %w", name, ErrNotMutable)
	case l.val.Gen == o.val.Gen:
		return fmt.Errorf("snap: '%s' and '%s': %w", name, old, ErrSame)
	}
	for _, n := range []string{name, old} {
		if t := f.open[n]; t != nil {
			t.settle()
		}
	}
	from := f.snaps[o.val.Gen]
	n := f.child(from, from.rec.Base)
	f.addLabel(keep, kvfmt.Label{Gen: l.val.Gen})
	f.markLabel(name)
	l.val.Gen = n.rec.Gen
	if t := f.open[name]; t != nil {
		t.snap = n
		t.Tree.Reset(n.rec.Root, int(n.rec.Ht))
		t.vers.Add(1)
	}
	return nil
}
