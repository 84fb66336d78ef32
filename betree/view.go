package betree

import "gefs9p/epoch"

// A View is a tree as it was at one moment, whatever becomes of it meanwhile. It is for the goroutine
// that took it, and ends with Close. The caller stays inside the epoch in which it took it.
type View struct {
	t    *Tree
	root Block
	ht   int
}

// View returns the tree as it is now. It reads the root if that was never used. Errors are those of
// Store.GetNode. Safe for concurrent use.
func (t *Tree) View(g *epoch.Guard) (View, error) {
	root, ht, err := t.acquire(g)
	if err != nil {
		return View{}, err
	}
	return View{t, root, ht}, nil
}

// Close gives back what the View holds.
func (v View) Close() { v.t.st.Drop(v.root) }

// Lookup is Tree.Lookup.
func (v View) Lookup(g *epoch.Guard, key, dst []byte) ([]byte, error) {
	v.root.Hold()
	return v.t.lookup(g, v.root, v.ht, key, dst)
}

// ScanRange is Tree.ScanRange.
func (v View) ScanRange(g *epoch.Guard, from, to []byte, fn func(key, val []byte) (more bool)) error {
	c := cursor{t: v.t, g: g, to: to}
	v.root.Hold()
	return c.scan(v.root, v.ht, from, false, fn)
}
