package gefs

import (
	"fmt"

	"gefs9p/betree"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// Limits of configuration keys and values, in bytes. Source: the console's set.
const (
	ConfKeyMax = 31
	ConfValMax = 127
)

// RetainKey is the configuration key of the schedule of automatic snapshots, see ParseSchedule.
const RetainKey = "retain"

// checkConf says whether the configuration key may be set to the value.
func checkConf(key, val string) error {
	if key == "" || len(key) > ConfKeyMax {
		return fmt.Errorf("key '%s': 1 to %d bytes are allowed", key, ConfKeyMax)
	}
	if len(val) > ConfValMax {
		return fmt.Errorf("set %s: value of %d bytes, at most %d are allowed", key, len(val), ConfValMax)
	}
	if key == RetainKey {
		if _, err := ParseSchedule(val); err != nil {
			return fmt.Errorf("set %s: %w", key, err)
		}
	}
	return nil
}

// SetConf stores a configuration value in the snapshot that the label names, or for the whole disk
// if the label is empty. A value that does not parse is refused. It is durable after the next
// Sync. Errors: snap.ErrNoLabel, snap.ErrNotMutable, errReadOnly.
func (fs *FS) SetConf(c *ninep.Ctx, label, key, val string) error {
	if err := checkConf(key, val); err != nil {
		return err
	}
	return fs.changeConf(c, label, 1, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendConfKey(nil, key), Val: []byte(val)})
}

// ClearConf removes a configuration value; errors are those of SetConf, and one that says so if
// there is none.
func (fs *FS) ClearConf(c *ninep.Ctx, label, key string) error {
	return fs.changeConf(c, label, 0, kvfmt.Msg{Op: kvfmt.Delete, Key: kvfmt.AppendConfKey(nil, key)})
}

func (fs *FS) changeConf(c *ninep.Ctx, label string, blocks int, m kvfmt.Msg) error {
	if err := fs.begin(c, blocks); err != nil {
		return err
	}
	defer fs.end(c)
	g := guard(c)
	if label == "" {
		if m.Op == kvfmt.Delete {
			if _, err := fs.forest.Conf(g, string(m.Key[1:])); err != nil {
				return confError(err, m.Key)
			}
		}
		return fs.forest.SetConf(g, m)
	}
	t, err := fs.forest.Open(label)
	if err != nil {
		return err
	}
	defer t.Close()
	if !t.Mutable() {
		return fmt.Errorf("snap: '%s': %w", label, snap.ErrNotMutable)
	}
	if m.Op == kvfmt.Delete {
		if _, err := t.Lookup(g, m.Key, nil); err != nil {
			return confError(err, m.Key)
		}
	}
	return t.Upsert(g, []kvfmt.Msg{m})
}

func confError(err error, key []byte) error {
	if err == betree.ErrNotFound {
		return fmt.Errorf("'%s': not set", key[1:])
	}
	return err
}

// Conf returns the configuration value of the label's snapshot, or of the whole disk if the label
// is empty. ok is false if it is not set there.
func (fs *FS) Conf(c *ninep.Ctx, label, key string) (val string, ok bool, err error) {
	g := guard(c)
	var v []byte
	fs.lockMut(c)
	if label == "" {
		v, err = fs.forest.Conf(g, key)
	} else {
		var t *snap.Tree
		if t, err = fs.forest.Open(label); err == nil {
			v, err = t.Lookup(g, kvfmt.AppendConfKey(nil, key), nil)
			t.Close()
		}
	}
	fs.mutMu.Unlock()
	if err == betree.ErrNotFound {
		return "", false, nil
	}
	return string(v), err == nil, err
}
