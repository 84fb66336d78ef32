package gefs

import (
	"fmt"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/snap"
	"gefs9p/users"
)

// usersMax is the longest users file that is read, in bytes.
const usersMax = 1 << 20

// loadUsers reads /users of the snapshot adm and puts it in force. On error the old table stays.
// The caller is inside an epoch. Source: loadusers.
func (fs *FS) loadUsers(g *epoch.Guard) error {
	fs.mutMu.Lock()
	t, err := fs.forest.Open(snap.Adm)
	fs.mutMu.Unlock()
	if err != nil {
		return fmt.Errorf("no adm label: %w", err)
	}
	defer func() {
		fs.mutMu.Lock()
		t.Close()
		fs.mutMu.Unlock()
	}()
	m := &Mount{fs: fs, name: snap.Adm, tree: t}
	root, err := m.lookup(g, kvfmt.RootPqid, "")
	if err != nil {
		return fmt.Errorf("/adm: %w", err)
	}
	d, err := m.lookup(g, root.Qid.Path, "users")
	if err != nil {
		return fmt.Errorf("/adm/users: %w", err)
	}
	if d.Length > usersMax {
		return fmt.Errorf("/adm/users: %d bytes, at most %d are read", d.Length, usersMax)
	}
	f := &File{fs: fs, mount: m, dent: &Dent{mount: m, qid: d.Qid.Path, dir: d}}
	text := make([]byte, d.Length)
	if _, err := f.readAt(g, text, 0); err != nil {
		return fmt.Errorf("/adm/users: %w", err)
	}
	table, err := users.Parse(text)
	if err != nil {
		return fmt.Errorf("/adm/users:%w", err)
	}
	fs.users.Store(table)
	return nil
}

// ReloadUsers reads /adm/users again. On error the old table stays in force.
func (fs *FS) ReloadUsers() error {
	g := fs.st.Guard()
	defer fs.st.FreeGuard(g)
	g.Enter()
	defer g.Leave()
	return fs.loadUsers(g)
}
