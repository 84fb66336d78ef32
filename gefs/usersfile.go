package gefs

import (
	"fmt"
	"math"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/users"
)

// usersMax is the longest users file that is read, in bytes.
const usersMax = 1 << 20

// loadUsers reads /users of the snapshot adm and puts it in force. On error the old table stays.
// The caller is inside an epoch and has the mutation lock. Source: loadusers.
func (fs *FS) loadUsers(g *epoch.Guard) error {
	t, err := fs.forest.Open(snap.Adm)
	if err != nil {
		return fmt.Errorf("no adm label: %w", err)
	}
	defer t.Close()
	m := &Mount{fs: fs, name: snap.Adm, tree: t}
	root, err := m.lookup(g, kvfmt.RootPqid, "")
	if err != nil {
		return fmt.Errorf("/adm: %w", err)
	}
	d, err := m.lookup(g, root.Qid.Path, "users")
	if err != nil {
		return fmt.Errorf("/adm/users: %w", err)
	}
	text, err := (&File{fs: fs, mount: m, dent: &Dent{mount: m, qid: d.Qid.Path, dir: d}}).usersText(g)
	if err != nil {
		return err
	}
	table, err := users.Parse(text)
	if err != nil {
		return fmt.Errorf("/adm/users:%w", err)
	}
	fs.users.Store(table)
	return nil
}

// usersText returns the content of f, the users file.
func (f *File) usersText(g *epoch.Guard) ([]byte, error) {
	d := f.dent.values()
	switch {
	case d.Mode&dmDir != 0:
		return nil, fmt.Errorf("/adm/users: is a directory")
	case d.Length > usersMax:
		return nil, fmt.Errorf("/adm/users: %d bytes, at most %d are read", d.Length, usersMax)
	}
	text := make([]byte, d.Length)
	if _, err := f.readAt(g, text, 0); err != nil {
		return nil, fmt.Errorf("/adm/users: %w", err)
	}
	return text, nil
}

// ReloadUsers reads /adm/users again, as it is between two changes. On error, which names the line if
// it is the text's, the old table stays in force. The caller is outside any epoch and has no lock.
func (fs *FS) ReloadUsers() error {
	c, end := fs.Background()
	defer end()
	fs.lockMut(c)
	defer fs.mutMu.Unlock()
	return fs.loadUsers(guard(c))
}

// EditUsers replaces the text of /adm/users by what edit makes of it, and puts that in force. It is one
// change: a crash finds the old text or the new, and nobody else writes in between. If edit fails or
// its result does not parse, nothing has changed. edit may be called more than once. Errors: edit's,
// a *users.ParseError with the line of the new text, errReadOnly, errFull, corruption. The new text
// is durable after the next Sync.
func (fs *FS) EditUsers(c *ninep.Ctx, edit func(text []byte) ([]byte, error)) error {
	m, err := fs.mount(c, snap.Adm)
	if err != nil {
		return err
	}
	root, err := fs.root(c, m, fs.Users().Adm())
	if err != nil {
		fs.unmount(c, m)
		return err
	}
	defer root.Clunk(c)
	root.permit = true
	var qids [1]ninep.Qid
	nf, _, err := root.Walk(c, []string{"users"}, qids[:])
	if err != nil {
		return fmt.Errorf("/adm/users: %w", err)
	}
	f := nf.(*File)
	defer f.Clunk(c)
	for {
		if err := fs.begin(c, int(f.dent.values().Length/blkfmt.BlkSize)+2); err != nil {
			return err
		}
		if waited, err := fs.waitClear(c, m, f.dent.qid); err != nil {
			return err
		} else if !waited {
			break
		}
	}
	defer fs.end(c)
	g := guard(c)
	f.dent.mu.RLock()
	gone := f.dent.gone
	f.dent.mu.RUnlock()
	if gone {
		return errPhase
	}
	text, err := f.usersText(g)
	if err != nil {
		return err
	}
	if text, err = edit(text); err != nil {
		return err
	}
	table, err := users.Parse(text)
	if err != nil {
		return fmt.Errorf("/adm/users:%w", err)
	}
	if err := f.replace(g, text); err != nil {
		return fmt.Errorf("write /adm/users: %w", err)
	}
	fs.users.Store(table)
	return nil
}

// replace makes text the file's content, in one batch. text is short enough for one. The mutation lock
// is held and nothing of the file is to be cleared.
func (f *File) replace(g *epoch.Guard, text []byte) error {
	de := f.dent
	ch := f.fs.newChange(g, f.mount)
	length := uint64(len(text))
	for off := uint64(0); off < length; off += blkfmt.BlkSize {
		piece := text[off:min(off+blkfmt.BlkSize, length)]
		err := ch.data(de.qid, off, len(piece) == blkfmt.BlkSize, func(b []byte) { clear(b[copy(b, piece):]) })
		if err != nil {
			return ch.done(err)
		}
	}
	beyond := kvfmt.Clear{Qid: de.qid, Gen: ch.gen, From: roundUp(length), To: math.MaxUint64}
	msgs, more, err := f.mount.clears(g, beyond, clearNow)
	if err != nil {
		return ch.done(err)
	}
	ch.msgs = append(ch.msgs, msgs...)
	ch.wstat(de, kvfmt.AppendWstat(nil, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid,
		&kvfmt.Dir{Length: length, Mtime: f.fs.now().UnixNano(), Muid: f.uid}))
	if err := ch.apply(); err != nil {
		return err
	}
	if more {
		// More than a users file can have lay behind its end; whoever extends it looks again.
		de.mu.Lock()
		de.clean = false
		de.mu.Unlock()
	}
	return nil
}
