package gefs

import (
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// StopSweeping ends clearing in the background, so that a test can look at what is still to be done.
func (fs *FS) StopSweeping() { fs.sweeper.wake() }

// CommitEnds waits until no commit is under way: the last steps of one come after those who waited for
// it have been told.
func (fs *FS) CommitEnds() {
	fs.commitMu.Lock()
	defer fs.commitMu.Unlock()
}

// ToClear returns the number of files of which something is still to be cleared.
func (fs *FS) ToClear() int {
	fs.sweeper.mu.Lock()
	defer fs.sweeper.mu.Unlock()
	return len(fs.sweeper.jobs)
}

// DataBlocks returns the number of data blocks of the file with this qid path.
func (fs *FS) DataBlocks(label string, qid uint64) (n int, err error) {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return 0, err
	}
	defer fs.unmount(c, m)
	from, to := kvfmt.AppendDatKey(nil, qid, 0), kvfmt.AppendDatKey(nil, qid, ^uint64(0))
	err = m.tree.ScanRange(guard(c), from, to, func(_, _ []byte) bool { n++; return true })
	return n, err
}

// DataAddr returns the address of the first data block of the file with this qid path.
func (fs *FS) DataAddr(label string, qid uint64) (at blkfmt.Addr, err error) {
	c, end := fs.Background()
	defer end()
	m, err := fs.mount(c, label)
	if err != nil {
		return 0, err
	}
	defer fs.unmount(c, m)
	v, err := m.tree.Lookup(guard(c), kvfmt.AppendDatKey(nil, qid, 0), nil)
	if err != nil {
		return 0, err
	}
	bp, err := kvfmt.GetDatVal(v)
	return bp.Addr, err
}
