package snap

import (
	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// Conf returns the configuration value of the whole disk under the key. Errors:
// betree.ErrNotFound, those of the tree. The caller has the mutation lock and is inside an epoch.
func (f *Forest) Conf(g *epoch.Guard, key string) ([]byte, error) {
	return f.tree.Lookup(g, kvfmt.AppendConfKey(nil, key), nil)
}

// ScanConf calls fn for the configuration values of the whole disk whose keys begin with prefix, until it
// returns false. key and val are good only until fn returns. The caller has the mutation lock and is inside
// an epoch.
func (f *Forest) ScanConf(g *epoch.Guard, prefix string, fn func(key string, val []byte) bool) error {
	return f.tree.Scan(g, kvfmt.AppendConfKey(nil, prefix), nil, func(k, v []byte) bool { return fn(string(k[1:]), v) })
}

// SetConf applies a message for a configuration key of the whole disk. The caller has the mutation
// lock and is inside an epoch.
func (f *Forest) SetConf(g *epoch.Guard, m kvfmt.Msg) error {
	err := f.tree.Upsert(g, 0, []kvfmt.Msg{m})
	f.touch()
	return err
}

// SetConfs applies messages for configuration keys of the whole disk, one for each key. A failure may leave
// some of them applied. The caller has the mutation lock and is inside an epoch.
func (f *Forest) SetConfs(g *epoch.Guard, msgs []kvfmt.Msg) error {
	if len(msgs) == 0 {
		return nil
	}
	err := f.write(g, msgs)
	f.touch()
	return err
}

// DumpWalk shows the snapshot tree as it was sealed last and changed since: at is told its root and
// height, then v visits it. For debugging. The caller is inside an epoch.
func (f *Forest) DumpWalk(g *epoch.Guard, v betree.Visit, at func(root blkfmt.Bptr, ht int)) error {
	at(f.tree.Root())
	return f.tree.Walk(g, v)
}
