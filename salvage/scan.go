package salvage

import (
	"bytes"
	"errors"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A tree is what keys are looked up in.
type tree struct {
	kind kind
	top  child
	snap *snapshot // nil for the tree of snapshots
}

// A child is a node as something above it knows it.
type child struct {
	ptr   blkfmt.Bptr // Addr is NoAddr if nobody knows what is there
	level int
	sure  bool // everything above is intact
}

// A message is one in a pivot's buffer.
type message struct {
	kvfmt.Msg
	sure bool
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// A walk goes through the keys of a tree from lo on, up to but without hi; nil for hi is the end.
type walk struct {
	x *run
	t *tree
	// each gets every key with its value, valid during the call only. sure says that this is the
	// state of the tree; otherwise a part of it was found elsewhere.
	each func(key, val []byte, sure bool) error
	// hole, if not nil, gets every range in which keys may be missing or wrong, before the keys in it.
	hole func(c child, lo, hi []byte, p *patch) error
	tmp  [2][]byte
}

// scan walks through [lo, hi) of t.
func (x *run) scan(t *tree, lo, hi []byte, each func(key, val []byte, sure bool) error, hole func(c child, lo, hi []byte, p *patch) error) error {
	if hi != nil && kvfmt.Compare(lo, hi) >= 0 {
		return nil
	}
	w := walk{x: x, t: t, each: each, hole: hole}
	err := w.visit(t.top, nil, nil, nil, lo, hi)
	if err == errEnough {
		err = nil
	}
	if err == nil {
		err = x.stop
	}
	return err
}

// lookup returns the value of key, nil if there is none, and whether that is certain.
func (x *run) lookup(t *tree, key []byte) (val []byte, sure bool) {
	sure = true
	x.scan(t, key, after(key), func(k, v []byte, s bool) error {
		val, sure = bytes.Clone(v), s
		return errEnough
	}, func(child, []byte, []byte, *patch) error {
		sure = false
		return nil
	})
	return val, sure
}

// after returns the least key above key.
func after(key []byte) []byte { return append(bytes.Clone(key), 0) }

// next returns the least key that has not the prefix p, nil if there is none.
func next(p []byte) []byte {
	p = bytes.Clone(p)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p[:i+1]
		}
	}
	return nil
}

// below reports whether key is below hi, where nil is the end.
func below(key, hi []byte) bool { return hi == nil || kvfmt.Compare(key, hi) < 0 }

// visit goes through the keys from lo up to hi below c, whose own range is [clo, chi). up are the messages from
// above, for keys from lo up to hi, in order.
func (w *walk) visit(c child, up []message, clo, chi, lo, hi []byte) error {
	if w.x.stop != nil {
		return w.x.stop
	}
	n, ok := w.x.node(c.ptr, c.level)
	switch {
	case !ok:
		return w.visitHole(c, up, clo, chi, lo, hi)
	case n.Leaf():
		return w.visitLeaf(n, c.sure, up, lo, hi)
	}
	up = merge(n, c.sure, up, lo, hi)
	i, _ := n.Search(lo)
	for i = max(i, 0); i < n.Nval(); i++ {
		from, to := clo, chi
		if i > 0 {
			from = n.Key(i)
			if !below(from, hi) {
				break
			}
		}
		if i+1 < n.Nval() {
			to = n.Key(i + 1)
		}
		sublo, subhi := lo, hi
		if i > 0 && kvfmt.Compare(from, lo) > 0 {
			sublo = from
		}
		if to != nil && below(to, hi) {
			subhi = to
		}
		if subhi != nil && kvfmt.Compare(sublo, subhi) >= 0 {
			continue
		}
		p, _ := n.Child(i)
		var mine []message
		mine, up = cut(up, subhi)
		if err := w.visit(child{p, c.level - 1, c.sure}, mine, from, to, sublo, subhi); err != nil {
			return err
		}
	}
	return w.apply(nil, nil, false, c.sure, up) // none are left, unless the order of keys is not what it should be
}

// cut divides messages at hi.
func cut(ms []message, hi []byte) (before, rest []message) {
	for i := range ms {
		if !below(ms[i].Key, hi) {
			return ms[:i], ms[i:]
		}
	}
	return ms, nil
}

// merge returns the messages of n for keys in [lo, hi) and those from above, in the order in which they are
// to be applied.
func merge(n kvfmt.Node, sure bool, up []message, lo, hi []byte) []message {
	i := n.BufSearch(lo)
	var ms []message
	for ; i < n.Nbuf(); i++ {
		m := n.Msg(i)
		if !below(m.Key, hi) {
			break
		}
		for len(up) > 0 && kvfmt.Compare(up[0].Key, m.Key) < 0 {
			ms = append(ms, up[0])
			up = up[1:]
		}
		ms = append(ms, message{m, sure})
	}
	if ms == nil {
		return up
	}
	return append(ms, up...)
}

func (w *walk) visitLeaf(n kvfmt.Node, sure bool, up []message, lo, hi []byte) error {
	i, exact := n.Search(lo)
	if !exact {
		i++
	}
	for ; i < n.Nval(); i++ {
		key, val := n.Val(i)
		if !below(key, hi) {
			break
		}
		j := 0
		for j < len(up) && kvfmt.Compare(up[j].Key, key) < 0 {
			j++
		}
		if err := w.apply(nil, nil, false, sure, up[:j]); err != nil {
			return err
		}
		up = up[j:]
		for j = 0; j < len(up) && bytes.Equal(up[j].Key, key); {
			j++
		}
		if err := w.apply(key, val, true, sure, up[:j]); err != nil {
			return err
		}
		up = up[j:]
	}
	return w.apply(nil, nil, false, sure, up)
}

// visitHole goes on with what stands in for a node that cannot be read.
func (w *walk) visitHole(c child, up []message, clo, chi, lo, hi []byte) error {
	if w.x.stop != nil {
		return w.x.stop
	}
	p := w.x.patch(w.t, c, clo, chi)
	if w.hole != nil {
		if err := w.hole(c, lo, hi, p); err != nil {
			return err
		}
	}
	for i, t := range p.tiles {
		sublo, subhi := lo, hi
		if i > 0 && kvfmt.Compare(t.first, lo) > 0 {
			sublo = t.first
		}
		to := chi
		if i+1 < len(p.tiles) {
			to = p.tiles[i+1].first
		}
		if to != nil && below(to, hi) {
			subhi = to
		}
		if subhi != nil && kvfmt.Compare(sublo, subhi) >= 0 {
			continue
		}
		var mine []message
		mine, up = cut(up, subhi)
		if err := w.visit(child{t.ptr, t.level, false}, mine, t.first, to, sublo, subhi); err != nil {
			return err
		}
	}
	return w.apply(nil, nil, false, false, up)
}

// apply applies messages to the value of key, or, if key is nil, messages for any keys in order to nothing, and passes
// on what comes of it. sure says whether the value, or that there is none, is certain. Messages that
// need a value where there is none are about something that is lost.
func (w *walk) apply(key, val []byte, present, sure bool, ms []message) error {
	for {
		if key == nil {
			if len(ms) == 0 {
				return nil
			}
			key = ms[0].Key
		}
		ok := sure
		for len(ms) > 0 && bytes.Equal(ms[0].Key, key) {
			m := ms[0]
			ms = ms[1:]
			w.tmp[0], w.tmp[1] = w.tmp[1], w.tmp[0]
			v, is, err := kvfmt.Apply(w.tmp[0], m.Msg, val, present)
			if err != nil {
				ok = false
				continue
			}
			if ok = ok && m.sure; m.Op == kvfmt.Insert || m.Op == kvfmt.Delete || m.Op.Clears() {
				ok = m.sure // whatever was there before
			} else if is {
				w.tmp[0] = v
			}
			val, present = v, is
		}
		if present {
			if err := w.each(key, val, ok); err != nil {
				return err
			}
		}
		key, val, present = nil, nil, false
	}
}
