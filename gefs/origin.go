package gefs

import (
	"errors"
	"fmt"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/snap"
	"gefs9p/stream"
)

// An origin is what a disk remembers of a snapshot that was received: which one it is here, and which it
// is where it came from. It is kept as a configuration value of the whole disk:
//
//	key    Kconf "gefs9p.from." gen in 16 hexadecimal digits
//	value  here[28] there[28]
type origin struct{ here, there stream.Ident }

const originPrefix = "gefs9p.from."

func originKey(gen blkfmt.Gen) string { return fmt.Sprintf("%s%016x", originPrefix, uint64(gen)) }

// identOf names a snapshot for good.
func identOf(rec kvfmt.Tree) stream.Ident {
	return stream.Ident{Gen: rec.Gen, Ht: rec.Ht, Addr: rec.Root.Addr, Hash: rec.Root.Hash}
}

// origin returns who the snapshot is here and, if it was received, there. The mutation lock is held, and
// the caller is inside an epoch.
func (fs *FS) origin(g *epoch.Guard, rec kvfmt.Tree) (o origin, err error) {
	o.here = identOf(rec)
	val, err := fs.forest.Conf(g, originKey(rec.Gen))
	if errors.Is(err, betree.ErrNotFound) {
		return o, nil
	}
	// A mutable snapshot that was received and then changed is another now.
	if err == nil && len(val) == 2*stream.IdentSize && stream.GetIdent(val) == o.here {
		o.there = stream.GetIdent(val[stream.IdentSize:])
	}
	return o, err
}

// setOrigin remembers where the snapshot was received from, and forgets that of snapshots without a label.
// The mutation lock is held, and the caller is inside an epoch.
func (fs *FS) setOrigin(g *epoch.Guard, rec kvfmt.Tree, there stream.Ident) error {
	keep := make(map[string]bool)
	for _, l := range fs.forest.Labels() {
		keep[originKey(l.Gen)] = true
	}
	var old []string
	err := fs.forest.ScanConf(g, originPrefix, func(key string, _ []byte) bool {
		if !keep[key] {
			old = append(old, key)
		}
		return true
	})
	for _, key := range old {
		if err == nil {
			err = fs.forest.SetConf(g, kvfmt.Msg{Op: kvfmt.Delete, Key: kvfmt.AppendConfKey(nil, key)})
		}
	}
	if err != nil {
		return err
	}
	val := there.Append(identOf(rec).Append(nil))
	return fs.forest.SetConf(g, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendConfKey(nil, originKey(rec.Gen)), Val: val})
}

// record returns the record of the snapshot that the label names. The mutation lock is held.
func (fs *FS) record(label string) (kvfmt.Tree, error) {
	h, err := fs.forest.Hold(label)
	if err != nil {
		return kvfmt.Tree{}, err
	}
	defer h.Release()
	return h.Rec, nil
}

// same reports whether a snapshot of this disk is the one that a stream knows by the two names.
func (o origin) same(there, from stream.Ident) bool {
	for _, a := range []stream.Ident{o.here, o.there} {
		if !a.IsZero() && (a == there || a == from) {
			return true
		}
	}
	return false
}

// baseOf returns the label of the snapshot that the stream is the difference to, "" if this disk has none.
// The mutation lock is held, and the caller is inside an epoch.
func (fs *FS) baseOf(g *epoch.Guard, h *stream.Header) (string, error) {
	if h.Whole() {
		return snap.Empty, nil
	}
	for _, l := range fs.forest.Labels() {
		rec, err := fs.record(l.Name)
		if err != nil {
			return "", err
		}
		o, err := fs.origin(g, rec)
		if err != nil {
			return "", err
		}
		if o.same(h.Base, h.BaseFrom) {
			return l.Name, nil
		}
	}
	return "", nil
}
