package betree

import (
	"fmt"

	"gefs9p/epoch"
)

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
	var p path
	v.root.Hold()
	p.push(v.root)
	val, ok, err := p.lookup(v.t, g, v.ht, key)
	if err == nil && ok {
		dst = append(dst[:0], val...)
	}
	for _, s := range p.step[:p.n] {
		v.t.st.Drop(s.b)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("lookup of key %x: %w", key, err)
	case !ok:
		return nil, ErrNotFound
	}
	return dst, nil
}

// ScanRange is Tree.ScanRange.
func (v View) ScanRange(g *epoch.Guard, from, to []byte, fn func(key, val []byte) (more bool)) error {
	c := cursor{t: v.t, g: g, to: to}
	v.root.Hold()
	return c.scan(v.root, v.ht, from, false, fn)
}
