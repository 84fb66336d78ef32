package gefs

import (
	"errors"
	"fmt"

	"gefs9p/epoch"
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
	if m == nil {
		if err := fs.forest.Rollback(label, old, keep); err != nil {
			return err
		}
		fs.recount(label)
		return nil
	}
	if fs.sweeper.busy(m) {
		return fmt.Errorf("rollback %s: a removed file is still being cleared; try again", label)
	}
	if err := m.rollback(guard(c), old, keep, force); err != nil {
		return err
	}
	if t := m.tally.Load(); t != nil {
		t.noneOpen()
	}
	fs.recount(label)
	fs.mountMu.Lock()
	defer fs.mountMu.Unlock()
	fs.sweeper.resume(m)
	return nil
}

// rollback makes the change in the tree and in all Dents at once. The mutation lock is held.
func (m *Mount) rollback(g *epoch.Guard, old, keep string, force bool) error {
	dents := m.lockDents()
	defer m.unlockDents(dents)
	var open []string
	for _, de := range dents {
		if de.opens > 0 && !de.gone {
			open = append(open, de.name)
		}
	}
	if len(open) > 0 && !force {
		return fmt.Errorf("rollback %s: %w: %d of them, one is '%s'", m.name, ErrOpenFiles, len(open), open[0])
	}
	if err := m.fs.forest.Rollback(m.name, old, keep); err != nil {
		return err
	}
	for _, de := range dents {
		de.orphan, de.swept = false, false // the record that has its data cleared was the replaced state's
		d, err := m.lookup(g, de.pqid, de.name)
		if err == nil && d.Qid.Path == de.qid {
			de.dir, de.gone, de.clean = d, false, false
			continue
		}
		// It lies elsewhere in the other state, or is not there. Whoever looks for it by its name
		// finds out.
		de.gone = true
		delete(m.dents, de.qid)
	}
	return nil
}

// lockDents returns all Dents of m, with references and locked, and dentMu, so that there will be no
// others. The mutation lock is held, and nobody else locks two Dents without it.
func (m *Mount) lockDents() []*Dent {
	var dents []*Dent
	have := make(map[*Dent]bool)
	for {
		m.dentMu.Lock()
		var more []*Dent
		for _, de := range m.dents {
			if !have[de] {
				de.refs++
				more = append(more, de)
			}
		}
		if len(more) == 0 {
			return dents
		}
		m.dentMu.Unlock()
		for _, de := range more {
			de.mu.Lock()
			have[de] = true
		}
		dents = append(dents, more...)
	}
}

func (m *Mount) unlockDents(dents []*Dent) {
	for _, de := range dents {
		m.put(de)
	}
	m.dentMu.Unlock()
	for _, de := range dents {
		de.mu.Unlock()
	}
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
