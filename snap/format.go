package snap

import (
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// What ream writes: qids of the two roots and of the users file.
const (
	mainQid  = 0
	admQid   = 1
	usersQid = 2
)

const dmdir = 0x80000000

// rootDir returns the entries of a tree that holds only its root directory.
func rootDir(qid uint64) []kvfmt.Msg {
	d := kvfmt.Dir{
		Qid:  kvfmt.Qid{Path: qid, Type: dmdir >> 24},
		Mode: dmdir | 0775,
		Uid:  -1, Gid: -1,
	}
	key := kvfmt.AppendEntKey(nil, kvfmt.RootPqid, "")
	return []kvfmt.Msg{
		{Op: kvfmt.Insert, Key: key, Val: d.Append(nil)},
		{Op: kvfmt.Insert, Key: kvfmt.AppendUpKey(nil, qid), Val: key},
	}
}

// admTree returns the entries of the tree that holds the users file, whose data it writes.
func admTree(g *epoch.Guard, st *blkstore.Store, users []byte) ([]kvfmt.Msg, error) {
	b, err := st.NewData(g, 0, 0, true)
	if err != nil {
		return nil, err
	}
	defer st.Drop(b)
	clear(b.Bytes()[copy(b.Bytes(), users):])
	st.Enqueue(b)
	d := kvfmt.Dir{
		Qid:    kvfmt.Qid{Path: usersQid},
		Mode:   0664,
		Length: uint64(len(users)),
		Uid:    -1, Gid: -1,
	}
	return append([]kvfmt.Msg{
		{Op: kvfmt.Insert, Key: kvfmt.AppendDatKey(nil, usersQid, 0), Val: b.Ptr().Append(nil)},
		{Op: kvfmt.Insert, Key: kvfmt.AppendEntKey(nil, admQid, "users"), Val: d.Append(nil)},
	}, rootDir(admQid)...), nil
}

// plant writes a tree of one leaf, born in generation 0, and returns the pointer to it. The
// entries are in key order.
func plant(g *epoch.Guard, st *blkstore.Store, kvs []kvfmt.Msg) (blkfmt.Bptr, error) {
	b, err := st.New(g, blkfmt.Leaf, 0)
	if err != nil {
		return blkfmt.Bptr{}, err
	}
	defer st.Drop(b)
	n := b.Node()
	n.InitLeaf()
	for _, kv := range kvs {
		n.AddVal(kv.Key, kv.Val)
	}
	st.Enqueue(b)
	return b.Ptr(), nil
}
