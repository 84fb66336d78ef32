package gefs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// A MountInfo describes a label that somebody is attached to.
type MountInfo struct {
	Name    string     `json:"name"`
	Refs    int        `json:"refs"` // fids, walks and background work that have it
	Mutable bool       `json:"mutable"`
	Files   []FileInfo `json:"files"` // in use, ordered by qid path
}

// A FileInfo describes a file that some fid stands for.
type FileInfo struct {
	Qid    uint64 `json:"qid"`
	Parent uint64 `json:"parent"` // qid path of the directory
	Name   string `json:"name"`   // empty for a root
	Mode   uint32 `json:"mode"`
	Length uint64 `json:"length"`
	Refs   int    `json:"refs"`
	Opens  int    `json:"opens"` // fids that have it open
	Gone   bool   `json:"gone"`  // removed
}

// Mounts describes all mounts and the files in use, ordered by label. Safe for concurrent use; what it
// says of different files may be of different moments.
func (fs *FS) Mounts() []MountInfo {
	fs.mountMu.Lock()
	var list []MountInfo
	var mounts []*Mount
	for _, m := range fs.mounts {
		mounts = append(mounts, m)
		list = append(list, MountInfo{Name: m.name, Refs: m.refs, Mutable: m.tree.Mutable()})
	}
	fs.mountMu.Unlock()
	for i, m := range mounts {
		m.dentMu.Lock()
		dents := make(map[*Dent]int, len(m.dents))
		for _, de := range m.dents {
			dents[de] = de.refs
		}
		m.dentMu.Unlock()
		files := make([]FileInfo, 0, len(dents))
		for de, refs := range dents {
			de.mu.RLock()
			files = append(files, FileInfo{
				Qid: de.qid, Parent: de.pqid, Name: de.name, Mode: de.dir.Mode, Length: de.dir.Length,
				Refs: refs, Opens: de.opens, Gone: de.gone,
			})
			de.mu.RUnlock()
		}
		slices.SortFunc(files, func(a, b FileInfo) int { return cmp.Compare(a.Qid, b.Qid) })
		list[i].Files = files
	}
	slices.SortFunc(list, func(a, b MountInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Permitted reports whether every user may attach with %.
func (fs *FS) Permitted() bool { return fs.permit.Load() }

// Reserved reports whether ordinary requests leave the reserve alone.
func (fs *FS) Reserved() bool { return !fs.spendReserve.Load() }

// SnapTree is the name under which DumpTree shows the tree of snapshots itself.
const SnapTree = "snap"

// errLong ends a dump that has become too long.
var errLong = errors.New("the dump is long enough")

// DumpTree describes every node of a label's tree, or of the tree of snapshots, with keys and messages,
// each node before what is below it, for people who debug. It is cut off, with a line that says so,
// behind about max bytes, as it lies in memory while readers and writers wait for nothing but the
// epoch. Errors: snap.ErrNoLabel, ctx's, corruption. The caller is inside an epoch.
func (fs *FS) DumpTree(ctx context.Context, c *ninep.Ctx, name string, max int) ([]byte, error) {
	g := guard(c)
	var b bytes.Buffer
	visit := betree.Visit{
		Skip: func(bp blkfmt.Bptr, level int) bool {
			if b.Len() > max || ctx.Err() != nil {
				return true
			}
			blk, err := fs.st.GetNode(g, bp)
			if err != nil {
				return false // Walk will say what is wrong with it
			}
			defer fs.st.Drop(blk)
			dumpNode(&b, bp, blk.Node(), level)
			return false
		},
		Node: func(blkfmt.Bptr, int) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case b.Len() > max:
				return errLong
			}
			return nil
		},
	}
	var err error
	if name == SnapTree {
		err = fs.forest.DumpWalk(g, visit, func(root blkfmt.Bptr, ht int) { fmt.Fprintf(&b, "=== [%s] %v @%d\n", name, root, ht) })
	} else {
		fs.lockMut(c)
		var t *snap.Tree
		t, err = fs.forest.Open(name)
		fs.mutMu.Unlock()
		if err != nil {
			return nil, err
		}
		root, ht := t.Root()
		fmt.Fprintf(&b, "=== [%s] %v @%d\n", name, root, ht)
		err = t.Walk(g, visit)
		fs.lockMut(c)
		t.Close()
		fs.mutMu.Unlock()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == errLong || err == nil && b.Len() > max {
		fmt.Fprintf(&b, "... cut off behind %d bytes\n", max)
		err = nil
	}
	return b.Bytes(), err
}

// dumpNode writes what is in a node, indented by its distance from the leaves.
func dumpNode(b *bytes.Buffer, bp blkfmt.Bptr, n kvfmt.Node, level int) {
	kind := "pivot"
	if n.Leaf() {
		kind = "leaf"
	}
	fmt.Fprintf(b, "%s %v level=%d nval=%d nbuf=%d\n", kind, bp, level, n.Nval(), n.Nbuf())
	for i := range n.Nval() {
		if n.Leaf() {
			k, v := n.Val(i)
			fmt.Fprintf(b, "\t[%d] %s = %s\n", i, keyText(k), valText(k, v))
			continue
		}
		child, fill := n.Child(i)
		fmt.Fprintf(b, "\t[%d] %s -> %v fill=%d\n", i, keyText(n.Key(i)), child, fill)
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		fmt.Fprintf(b, "\t<%d> %v %s = %s\n", i, m.Op, keyText(m.Key), msgText(m))
	}
}

func msgText(m kvfmt.Msg) string {
	if m.Op == kvfmt.Insert {
		return valText(m.Key, m.Val)
	}
	return fmt.Sprintf("%x", m.Val)
}

// keyText is a key for people; one that is of no known kind, in hex.
func keyText(k []byte) string {
	if len(k) == 0 {
		return "''"
	}
	switch k[0] {
	case kvfmt.Kdat:
		if qid, off, err := kvfmt.GetDat(k); err == nil {
			return fmt.Sprintf("dat qid=%d off=%d", qid, off)
		}
	case kvfmt.Kent:
		if e, err := kvfmt.GetEnt(k); err == nil {
			return fmt.Sprintf("ent dir=%d %q", int64(e.Pqid), e.Name)
		}
	case kvfmt.Kup:
		if qid, err := kvfmt.GetUp(k); err == nil {
			return fmt.Sprintf("up qid=%d", qid)
		}
	case kvfmt.Klabel:
		return fmt.Sprintf("label %q", k[1:])
	case kvfmt.Ksnap:
		if gen, err := kvfmt.GetSnapKey(k); err == nil {
			return fmt.Sprintf("snap gen=%d", gen)
		}
	case kvfmt.Kdlist:
		if gen, bgen, err := kvfmt.GetDlistKey(k); err == nil {
			return fmt.Sprintf("dlist gen=%d birth=%d", gen, bgen)
		}
	case kvfmt.Kconf:
		return fmt.Sprintf("conf %q", k[1:])
	}
	return fmt.Sprintf("%x", k)
}

// valText is a value for people.
func valText(k, v []byte) string {
	if len(k) > 0 {
		switch k[0] {
		case kvfmt.Kdat:
			if bp, err := kvfmt.GetDatVal(v); err == nil {
				return bp.String()
			}
		case kvfmt.Kent:
			if d, err := kvfmt.GetDir(v); err == nil {
				return fmt.Sprintf("qid=(%d,%d,%d) mode=%o length=%d uid=%d gid=%d muid=%d",
					d.Qid.Path, d.Qid.Vers, d.Qid.Type, d.Mode, d.Length, d.Uid, d.Gid, d.Muid)
			}
		case kvfmt.Kup:
			return keyText(v)
		case kvfmt.Klabel:
			if l, err := kvfmt.GetLabel(v); err == nil {
				return fmt.Sprintf("gen=%d flags=%x", l.Gen, l.Flags)
			}
		case kvfmt.Ksnap:
			if t, err := kvfmt.GetTree(v); err == nil {
				return fmt.Sprintf("gen=%d pred=%d succ=%d base=%d nlbl=%d nref=%d ht=%d root=%v",
					t.Gen, t.Pred, t.Succ, t.Base, t.Nlbl, t.Nref, t.Ht, t.Root)
			}
		case kvfmt.Kdlist:
			if d, err := kvfmt.GetDlist(v); err == nil {
				return fmt.Sprintf("head=%v tail=%v", d.Hd, d.Tl)
			}
		case kvfmt.Kconf:
			return fmt.Sprintf("%q", v)
		}
	}
	return fmt.Sprintf("%x", v)
}
