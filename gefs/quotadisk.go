package gefs

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"gefs9p/arena"
	"gefs9p/betree"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/snap"
)

// scanQuotas calls the functions for all records of quotas and of what is used. Malformed ones are logged, and
// left alone: no configuration keeps a disk from being served.
func (fs *FS) scanQuotas(g *epoch.Guard, quota func(kvfmt.Quota), used func(kvfmt.UsedKey, []byte)) error {
	err := fs.forest.ScanConf(g, string(kvfmt.AppendQuotaPrefix(nil)[1:]), func(key string, val []byte) bool {
		q, err := kvfmt.GetQuota(kvfmt.AppendConfKey(nil, key), val)
		if err != nil {
			fs.log.Warn("ignoring a malformed record", "err", err)
			return true
		}
		quota(q)
		return true
	})
	if err != nil {
		return err
	}
	return fs.forest.ScanConf(g, string(kvfmt.AppendUsedPrefix(nil)[1:]), func(key string, val []byte) bool {
		k, ok := kvfmt.GetUsedKey(kvfmt.AppendConfKey(nil, key))
		if !ok {
			fs.log.Warn("ignoring a malformed record", "key", key)
			return true
		}
		used(k, val)
		return true
	})
}

// loadQuotas reads the quotas and what was counted for them. What cannot be relied on is counted anew. The
// caller is inside an epoch, and nobody else uses fs yet.
func (fs *FS) loadQuotas(g *epoch.Guard) error {
	tallies := fs.quotas.tallies
	bad := make(map[string]error) // labels that have records which make no sense
	err := fs.scanQuotas(g, func(q kvfmt.Quota) {
		t := tallies[q.Label]
		if t == nil {
			t = newTally(q.Label)
			tallies[q.Label] = t
		}
		t.setLimit(q, &q.Limit)
	}, func(k kvfmt.UsedKey, val []byte) {
		t := tallies[k.Label]
		if t == nil {
			return // of no use to anybody
		}
		if !k.Users {
			var err error
			if t.saved, err = kvfmt.GetUsed(val); err != nil {
				bad[k.Label] = err
			}
			return
		}
		t.pages[k.Page] = true
		list, err := kvfmt.GetUsers(k.Page, val)
		if err != nil {
			bad[k.Label] = err
		}
		for _, u := range list {
			t.take([]charge{{u.Uid, account{Use: u.Use}}})
		}
	})
	if err != nil {
		return err
	}
	for _, label := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[label]
		clear(t.dirty)
		rec, err := fs.record(label)
		switch {
		case errors.Is(err, snap.ErrNoLabel):
			fs.log.Warn("there are quotas for a label that is not there", "label", label)
		case err != nil:
			return err
		case bad[label] != nil:
			fs.log.Warn("what the files of a label use is counted anew for its quotas, as the record of it makes no sense", "label", label, "err", bad[label])
		case t.saved == (kvfmt.Used{}):
			fs.log.Info("what the files of a label use is counted for its quotas", "label", label)
		case t.saved.Root != rec.Root || t.saved.Ht != rec.Ht:
			fs.log.Warn("what the files of a label use is counted anew for its quotas, as the label was changed by a server that does not count", "label", label)
		case t.saved.Total != t.total.Use:
			fs.log.Warn("what the files of a label use is counted anew for its quotas, as the records of it contradict each other", "label", label)
		default:
			t.counted = true
		}
		if !t.counted {
			t.restart()
			fs.quotas.count()
		}
	}
	return nil
}

// saveQuotas brings what is used to the snapshot tree, of the labels that have changed. The mutation lock is held
// and the caller is inside an epoch; Forest.Seal follows. If the disk is too full for it the labels are
// counted anew when the disk is opened next.
func (fs *FS) saveQuotas(g *epoch.Guard) error {
	for _, label := range slices.Sorted(maps.Keys(fs.quotas.tallies)) {
		if t := fs.quotas.tallies[label]; t.counted {
			if err := fs.saveQuota(g, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// saveQuota is saveQuotas for one label.
func (fs *FS) saveQuota(g *epoch.Guard, t *tally) error {
	rec, err := fs.record(t.label)
	if err != nil {
		return fmt.Errorf("save what is used: %w", err)
	}
	msgs, saved := t.records(rec.Root, rec.Ht)
	err = fs.forest.SetConfs(g, msgs)
	var free *betree.FreeError
	switch {
	case errors.As(err, &free), err != nil && !errors.Is(err, arena.ErrFull):
		return fmt.Errorf("save what is used: %w", err)
	case err != nil:
		fs.log.Warn("what the files of a label use could not be saved", "label", t.label, "err", err)
		return nil
	}
	if len(msgs) > 0 {
		t.wrote(msgs, saved)
	}
	return nil
}

// distrustQuotas removes what is saved of what files use, so that whoever serves the disk next counts anew. The caller
// has no lock and is outside any epoch. Errors: errReadOnly, those of the tree.
func (fs *FS) distrustQuotas() error {
	c, end := fs.Background()
	defer end()
	if err := fs.begin(c, 0); err != nil {
		return err
	}
	defer fs.end(c)
	var msgs []kvfmt.Msg
	err := fs.scanQuotas(guard(c), func(kvfmt.Quota) {}, func(k kvfmt.UsedKey, _ []byte) {
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: k.AppendKey(nil)})
	})
	if err == nil {
		err = fs.forest.SetConfs(guard(c), msgs)
	}
	if err != nil {
		return err
	}
	for _, t := range fs.quotas.tallies {
		t.restart()
		t.saved = kvfmt.Used{}
		clear(t.pages)
		clear(t.dirty)
	}
	return nil
}
