package gefstest

import (
	"fmt"
	"hash/maphash"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Digest stands for the state of a tree, or of a whole disk. Equal states have equal digests, and
// others, but for a chance of one in 2^128, have not. Digests are comparable inside one process.
type Digest [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digest(p []byte) (d Digest) {
	for i, seed := range seeds {
		d[i] = maphash.Bytes(seed, p)
	}
	return d
}

func (d Digest) xor(e Digest) Digest { return Digest{d[0] ^ e[0], d[1] ^ e[1]} }

// NodeDigest is what the file at name contributes to the digest of its tree. The root's name is
// ".".
func NodeDigest(name string, mode uint32, mtime int64, data []byte) Digest {
	return digest(fmt.Appendf(nil, "%s\x00%o\x00%d\x00%x", name, mode, mtime, digest(data)))
}

// Sum is the digest of a tree made of files with these digests, in any order.
func Sum(files ...Digest) (d Digest) {
	for _, f := range files {
		d = d.xor(f)
	}
	return d
}

// A Node is a file or directory of an Oracle.
type Node struct {
	Dir   bool
	Mode  uint32 // permission bits
	Mtime int64  // seconds
	Data  []byte
	sum   Digest
}

// An Oracle says what a file system must look like after a sequence of operations: the state of
// the tree main, and of each label as it was when it was made. Paths have no leading slash, the
// root's is ".".
type Oracle struct {
	Nodes  map[string]*Node
	Labels map[string]Digest
	tree   Digest
	kept   map[string]map[string]*Node // the nodes of each label
}

// NewOracle returns an Oracle of a freshly reamed disk.
func NewOracle() *Oracle {
	o := &Oracle{Nodes: make(map[string]*Node), Labels: make(map[string]Digest), kept: make(map[string]map[string]*Node)}
	o.put(".", &Node{Dir: true, Mode: 0775})
	return o
}

// Clone returns a second Oracle of the same state, which from here on goes its own way.
func (o *Oracle) Clone() *Oracle {
	return &Oracle{Nodes: maps.Clone(o.Nodes), Labels: maps.Clone(o.Labels), tree: o.tree, kept: maps.Clone(o.kept)}
}

// Digest returns the digest of the whole state.
func (o *Oracle) Digest() Digest {
	d := o.tree
	for name, l := range o.Labels {
		d = d.xor(LabelDigest(name, l))
	}
	return d
}

// LabelDigest is what a label of that tree contributes to the digest of a state.
func LabelDigest(name string, tree Digest) Digest {
	return digest(fmt.Appendf(nil, "label %s %x", name, tree))
}

// Tree returns the digest of the tree main.
func (o *Oracle) Tree() Digest { return o.tree }

// Paths returns the paths of all files, or all directories, in order.
func (o *Oracle) Paths(dirs bool) []string {
	var list []string
	for p, n := range o.Nodes {
		if n.Dir == dirs {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// Empty reports whether the directory has no entries.
func (o *Oracle) Empty(dir string) bool {
	for p := range o.Nodes {
		if p != "." && path.Dir(p) == dir {
			return false
		}
	}
	return true
}

func (o *Oracle) put(p string, n *Node) {
	if old := o.Nodes[p]; old != nil {
		o.tree = o.tree.xor(old.sum)
	}
	n.sum = NodeDigest(p, n.Mode, n.Mtime, n.Data)
	o.tree = o.tree.xor(n.sum)
	o.Nodes[p] = n
}

func (o *Oracle) del(p string) {
	o.tree = o.tree.xor(o.Nodes[p].sum)
	delete(o.Nodes, p)
}

// change replaces the file at p by what f makes of a copy.
func (o *Oracle) change(p string, f func(*Node)) {
	n := *o.Nodes[p]
	f(&n)
	o.put(p, &n)
}

func (o *Oracle) touch(dir string, now int64) {
	o.change(dir, func(n *Node) { n.Mtime = now })
}

// Create makes an empty file or a directory, with the mode masked as its directory asks.
func (o *Oracle) Create(p string, dir bool, mode uint32, now int64) {
	mask := uint32(0666)
	if dir {
		mask = 0777
	}
	mode &= ^mask | o.Nodes[path.Dir(p)].Mode&mask
	o.put(p, &Node{Dir: dir, Mode: mode, Mtime: now})
	o.touch(path.Dir(p), now)
}

// Write writes data at off.
func (o *Oracle) Write(p string, off int, data []byte, now int64) {
	o.change(p, func(n *Node) {
		buf := make([]byte, max(len(n.Data), off+len(data)))
		copy(buf, n.Data)
		copy(buf[off:], data)
		n.Data, n.Mtime = buf, now
	})
}

// Truncate sets the length, as a Twstat does, which leaves the time alone.
func (o *Oracle) Truncate(p string, length int) {
	o.change(p, func(n *Node) {
		buf := make([]byte, length)
		copy(buf, n.Data)
		n.Data = buf
	})
}

// Chmod sets the permission bits.
func (o *Oracle) Chmod(p string, mode uint32) { o.change(p, func(n *Node) { n.Mode = mode }) }

// Remove removes a file or an empty directory.
func (o *Oracle) Remove(p string, now int64) {
	o.del(p)
	o.touch(path.Dir(p), now)
}

// Rename gives the file at p another name in its directory.
func (o *Oracle) Rename(p, name string, now int64) {
	o.move(p, path.Join(path.Dir(p), name))
	o.touch(path.Dir(p), now)
}

// Move gives what is at p the path q, and replaces what is there.
func (o *Oracle) Move(p, q string, now int64) {
	if o.Nodes[q] != nil {
		o.del(q)
	}
	o.move(p, q)
	o.touch(path.Dir(p), now)
	o.touch(path.Dir(q), now)
}

func (o *Oracle) move(p, q string) {
	for _, old := range slices.Sorted(maps.Keys(o.Nodes)) {
		if old == p || strings.HasPrefix(old, p+"/") {
			n := o.Nodes[old]
			o.del(old)
			o.put(q+old[len(p):], &Node{Dir: n.Dir, Mode: n.Mode, Mtime: n.Mtime, Data: n.Data})
		}
	}
}

// Label records the present tree under a name. Unlabel forgets it.
func (o *Oracle) Label(name string) {
	o.Labels[name] = o.tree
	o.kept[name] = maps.Clone(o.Nodes)
}

// Unlabel forgets a label.
func (o *Oracle) Unlabel(name string) {
	delete(o.Labels, name)
	delete(o.kept, name)
}

// Rollback makes the tree what it was when the label was made, and records the present one as keep.
func (o *Oracle) Rollback(label, keep string) {
	o.Label(keep)
	o.Nodes, o.tree = maps.Clone(o.kept[label]), o.Labels[label]
}
