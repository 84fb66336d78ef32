package snap

import (
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Conf returns the configuration value of the whole disk under the key. Errors:
// betree.ErrNotFound, those of the tree. The caller is inside an epoch.
func (f *Forest) Conf(g *epoch.Guard, key string) ([]byte, error) {
	return f.tree.Lookup(g, kvfmt.AppendConfKey(nil, key), nil)
}

// SetConf applies a message for a configuration key of the whole disk. The caller has the mutation
// lock and is inside an epoch.
func (f *Forest) SetConf(g *epoch.Guard, m kvfmt.Msg) error {
	err := f.tree.Upsert(g, 0, []kvfmt.Msg{m})
	f.touch()
	return err
}
