package gefs

import (
	"errors"
	"fmt"

	"gefs9p/ninep"
)

// ErrOpenFiles says that a rollback would pull files from under clients that have them open.
var ErrOpenFiles = errors.New("files are open")

// Rollback makes the state of the snapshot old that of the mutable label, for everybody who has it
// mounted, and keeps the replaced state under the name keep, so that it can be undone. It takes no
// longer for a large tree than for a small one. If files of the label are open it is refused with
// ErrOpenFiles, unless force is set: then fids on files that the other state does not have are as
// after a remove. It is durable after the next Sync. Other errors: those of snap.Forest.Rollback,
// errReadOnly.
func (fs *FS) Rollback(c *ninep.Ctx, label, old, keep string, force bool) error {
	if err := fs.begin(c, 1); err != nil {
		return err
	}
	defer fs.end(c)
	fs.mountMu.Lock()
	m := fs.mounts[label]
	fs.mountMu.Unlock()
	var dents []*Dent
	if m != nil {
		m.dentMu.Lock()
		for _, de := range m.dents {
			de.refs++
			dents = append(dents, de)
		}
		m.dentMu.Unlock()
		defer func() {
			for _, de := range dents {
				de.drop()
			}
		}()
		var open []string
		for _, de := range dents {
			de.mu.RLock()
			if de.opens > 0 && !de.gone {
				open = append(open, de.name)
			}
			de.mu.RUnlock()
		}
		if len(open) > 0 && !force {
			return fmt.Errorf("rollback %s: %w: %d of them, one is '%s'", label, ErrOpenFiles, len(open), open[0])
		}
		if fs.sweeper.busy(m) {
			return fmt.Errorf("rollback %s: a removed file is still being cleared; try again", label)
		}
	}
	if err := fs.forest.Rollback(label, old, keep); err != nil {
		return err
	}
	g := guard(c)
	for _, de := range dents {
		de.mu.Lock()
		d, err := m.lookup(g, de.pqid, de.name)
		switch {
		case err == nil && d.Qid.Path == de.qid:
			de.dir, de.clean = d, false
		default:
			// It lies elsewhere in the other state, or is not there. Whoever looks for it by
			// its name finds out.
			de.gone = true
			m.dentMu.Lock()
			delete(m.dents, de.qid)
			m.dentMu.Unlock()
		}
		de.mu.Unlock()
	}
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	if m != nil {
		fs.sweeper.resume(m)
	}
	return nil
}

// busy reports whether something of m is still to be cleared.
func (s *sweeper) busy(m *Mount) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.byID {
		if id.m == m {
			return true
		}
	}
	return false
}
