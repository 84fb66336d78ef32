//go:build linux || darwin

package mount

import (
	"container/list"
	"sync"

	"gefs9p/client"
)

// maxDirs is how many directories are held by fids, beside those in use.
const maxDirs = 4096

// dirs has the fids of the directories that were used last.
//
//   - A held whose refs are not 0 is never clunked.
//   - Every held with a fid is in order, the last used first, except the root, which is for ever.
type dirs struct {
	mu    sync.Mutex
	most  int
	order list.List // of *held
}

// A held is a directory's fid.
type held struct {
	fid  *client.Fid // nil if there is none now
	root bool        // never taken away
	refs int
	dead bool          // to be clunked when refs is 0
	at   *list.Element // in dirs.order
}

// take returns h's fid, if it has one, for use until give.
func (d *dirs) take(h *held) *client.Fid {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.fid == nil || h.dead {
		return nil
	}
	h.refs++
	if h.at != nil {
		d.order.MoveToFront(h.at)
	}
	return h.fid
}

// put makes fid h's, for use until give, and returns it. If h has one already, that is returned and fid is not needed.
func (d *dirs) put(h *held, fid *client.Fid) *client.Fid {
	d.mu.Lock()
	spare := fid
	if h.fid == nil {
		h.fid, h.dead, spare = fid, false, nil
		h.at = d.order.PushFront(h)
	}
	h.refs++
	got := h.fid
	old := d.trimLocked()
	d.mu.Unlock()
	clunk(append(old, spare)...)
	return got
}

// give ends a use.
func (d *dirs) give(h *held) {
	d.mu.Lock()
	var gone *client.Fid
	if h.refs--; h.refs == 0 && h.dead {
		gone = d.removeLocked(h)
	}
	old := d.trimLocked()
	d.mu.Unlock()
	clunk(append(old, gone)...)
}

// drop gives h's fid up, as soon as nobody uses it.
func (d *dirs) drop(h *held) {
	d.mu.Lock()
	var gone *client.Fid
	if h.fid != nil && !h.root {
		if h.dead = true; h.refs == 0 {
			gone = d.removeLocked(h)
		}
	}
	d.mu.Unlock()
	clunk(gone)
}

// trimLocked takes the fids away from those not used for the longest time, until there are not too many.
func (d *dirs) trimLocked() (old []*client.Fid) {
	for e := d.order.Back(); e != nil && d.order.Len() > d.most; {
		h := e.Value.(*held)
		e = e.Prev()
		if h.refs == 0 {
			old = append(old, d.removeLocked(h))
		}
	}
	return old
}

func (d *dirs) removeLocked(h *held) *client.Fid {
	fid := h.fid
	d.order.Remove(h.at)
	h.fid, h.at, h.dead = nil, nil, false
	return fid
}

// clunk gives fids up. An error would mean that the connection is at its end, and then there are none.
func clunk(fids ...*client.Fid) {
	for _, f := range fids {
		if f != nil {
			f.Clunk()
		}
	}
}
