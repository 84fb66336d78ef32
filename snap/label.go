package snap

import (
	"fmt"
	"unicode/utf8"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// CheckName says whether name may be given to a new label. Errors wrap ErrReserved or ErrName.
func CheckName(name string) error {
	switch name {
	case Dump, Empty, Adm:
		return fmt.Errorf("snap: '%s': %w", name, ErrReserved)
	}
	if name == "" || len(name) > NameMax || !utf8.ValidString(name) || name == "." || name == ".." {
		return fmt.Errorf("snap: '%s': %w: 1 to %d bytes of UTF-8 are needed", name, ErrName, NameMax)
	}
	for _, r := range name {
		if r < ' ' || r == '/' || r == '%' || r == 0x7f {
			return fmt.Errorf("snap: '%s': %w: bad character %q", name, ErrName, r)
		}
	}
	return nil
}

// Label gives the snapshot that the label old names now, with everything written so far, a second
// name. With mutable the new label names a fork, a snapshot of its own that can be written. Errors
// wrap ErrNoLabel, ErrExists, ErrReserved, ErrName; nothing has changed then. The caller has the
// mutation lock; the label is durable after the next commit. Source: tagsnap.
func (f *Forest) Label(old, name string, mutable bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.labels[old]
	if l == nil {
		return fmt.Errorf("snap: open '%s': %w", old, ErrNoLabel)
	}
	if f.labels[name] != nil {
		return fmt.Errorf("snap: %w '%s'", ErrExists, name)
	}
	if t := f.open[old]; t != nil {
		t.settle()
	}
	s := f.snaps[l.val.Gen]
	if !mutable {
		s.rec.Nlbl++
		f.mark(s)
		f.addLabel(name, kvfmt.Label{Gen: s.rec.Gen})
		return nil
	}
	succ := s.rec.Succ
	n := f.child(s, s.rec.Gen)
	if succ != blkfmt.NoGen {
		s.rec.Succ = succ // the line goes on where it went
	}
	f.addLabel(name, kvfmt.Label{Gen: n.rec.Gen, Flags: kvfmt.LabelMutable})
	return nil
}

// addLabel enters a label. f.mu is held.
func (f *Forest) addLabel(name string, val kvfmt.Label) {
	f.markLabel(name)
	f.labels[name] = &label{val: val}
	f.changed = true
}

// Delete removes the label. If nothing else needs the snapshot it named, Reclaim gives its space back,
// bit by bit; Delete itself reads nothing and takes the same time for any snapshot. Errors wrap ErrNoLabel,
// ErrMounted, ErrReserved; nothing has changed then. The caller has the mutation lock; it is durable after
// the next commit. Source: delsnap.
func (f *Forest) Delete(name string) error {
	switch name {
	case Dump, Empty, Adm:
		return fmt.Errorf("snap: '%s': %w", name, ErrReserved)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.labels[name]
	switch {
	case l == nil:
		return fmt.Errorf("snap: open '%s': %w", name, ErrNoLabel)
	case f.open[name] != nil:
		return fmt.Errorf("snap: %w: '%s'", ErrMounted, name)
	}
	s := f.snaps[l.val.Gen]
	f.markLabel(name)
	delete(f.labels, name)
	s.rec.Nlbl--
	f.mark(s)
	f.judge(s)
	f.changed = true
	return nil
}
