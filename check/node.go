package check

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A tree is one of the trees of the disk.
type tree struct {
	name string // of the first snapshot that has it; "snapshot tree" for that
	snap bool   // it is the snapshot tree
	gen  blkfmt.Gen
	root blkfmt.Bptr
	ht   int
}

// A nodeInfo is what later visits need to know of a node that was checked.
type nodeInfo struct {
	hash  uint64
	gen   blkfmt.Gen
	level int // 0 is a leaf
	snap  bool
	bad   bool // it, or a node below it, cannot be read or has keys where they should not be
	empty bool // no keys at all
	fill  int
	min   string // least key of the node, its messages included
	max   string // greatest key of the subtree, messages included
}

// errLevel says that a node is not of the type that its level in the tree wants.
var errLevel = errors.New("wrong level")

// nodeAt returns the node that p points at, which must be a leaf exactly at level 0.
func (x *run) nodeAt(p blkfmt.Bptr, level int) (kvfmt.Node, error) {
	n, err := x.node(p)
	if err != nil {
		return nil, err
	}
	if n.Leaf() != (level == 0) {
		t := blkfmt.Pivot
		if n.Leaf() {
			t = blkfmt.Leaf
		}
		return nil, fmt.Errorf("%w: a %v %d levels above the bottom", errLevel, t, level)
	}
	return n, nil
}

// bounds are what the way from the root says about the keys below: lo <= key < hi. A nil bound
// does not bound.
type bounds struct{ lo, hi []byte }

func (b bounds) String() string {
	s := "from the start"
	if b.lo != nil {
		s = "from " + keyText(b.lo)
	}
	if b.hi != nil {
		return s + " to before " + keyText(b.hi)
	}
	return s + " to the end"
}

// checkTree visits the nodes of t that no other tree has shown yet. It reports whether all of t can
// be read.
func (x *run) checkTree(t *tree) bool {
	if !t.snap && t.root.Gen > t.gen {
		x.sayAt(BadGen, Error, t.root.Addr, nodeType(t.ht-1), "%s: root of generation %d in a snapshot of %d", t.name, t.root.Gen, t.gen)
	}
	info := x.visit(t, t.root, t.ht-1, bounds{}, -1)
	return info != nil && !info.bad
}

func nodeType(level int) blkfmt.Type {
	if level == 0 {
		return blkfmt.Leaf
	}
	return blkfmt.Pivot
}

// visit checks the node at p with all below it, or, if that has been done before, only what p and
// the nodes above say of it. fill is the one recorded with p, -1 if there is none. It returns nil
// if there is no such node.
func (x *run) visit(t *tree, p blkfmt.Bptr, level int, b bounds, fill int) *nodeInfo {
	typ := nodeType(level)
	info := x.nodes[p.Addr]
	if info == nil || info.hash != p.Hash || info.gen != p.Gen || info.snap != t.snap {
		u := ownNode
		if t.snap {
			u = ownSnapNode
		}
		if x.claim(p.Addr, u, x.nodePrint(p), typ, t.name, b.lo) != claimFirst {
			x.rep.Complete = false
			return nil
		}
		info = &nodeInfo{hash: p.Hash, gen: p.Gen, level: level, snap: t.snap}
		x.nodes[p.Addr] = info
		x.fillIn(t, info, p, b)
	}
	switch {
	case info.level != level:
		if x.once(BadDepth, p.Addr, fmt.Sprint(level)) {
			x.sayAt(BadDepth, Error, p.Addr, typ, "%s: a node is %d and also %d levels above the bottom", t.name, level, info.level)
		}
		return nil
	case info.fill < 0:
		return info // could not be read
	case fill >= 0 && fill != info.fill && x.once(BadFill, p.Addr, fmt.Sprint(fill)):
		x.sayAt(BadFill, Error, p.Addr, typ, "%s: filled with %d bytes, its parent says %d", t.name, info.fill, fill)
	}
	if !info.empty {
		if b.lo != nil && info.min < string(b.lo) && x.once(BadOrder, p.Addr, string(b.lo)) {
			x.sayAt(BadOrder, Error, p.Addr, typ, "%s: %s in a node that holds keys %v", t.name, keyText([]byte(info.min)), b)
			info.bad = true
		}
		if b.hi != nil && info.max >= string(b.hi) && x.once(BadOrder, p.Addr, string(b.hi)) {
			x.sayAt(BadOrder, Error, p.Addr, typ, "%s: %s in a node that holds keys %v", t.name, keyText([]byte(info.max)), b)
			info.bad = true
		}
	}
	return info
}

// fillIn reads the node at p and everything below it.
func (x *run) fillIn(t *tree, info *nodeInfo, p blkfmt.Bptr, b bounds) {
	typ := nodeType(info.level)
	n, err := x.nodeAt(p, info.level)
	if err != nil {
		info.bad, info.fill = true, -1
		x.rep.Complete = false
		if errors.Is(err, errLevel) {
			x.sayAt(BadDepth, Error, p.Addr, typ, "%s: %v", t.name, err)
		} else {
			x.sayErr(err, p.Addr, typ, fmt.Sprintf("%s: keys %v", t.name, b))
		}
		return
	}
	c := &x.rep.Counts
	switch {
	case t.snap:
		c.SnapNodes++
	case n.Leaf():
		c.Leaves++
	default:
		c.Pivots++
	}
	info.fill = n.Fill()
	info.min = string(n.FirstKey())
	info.empty = n.Nval()+n.Nbuf() == 0
	if k := n.Nbuf(); k > 0 {
		info.max = string(n.Msg(k - 1).Key)
	}
	if n.Leaf() {
		for i := range n.Nval() {
			k, v := n.Val(i)
			x.checkPair(t, p, k, v)
			if i == n.Nval()-1 {
				info.max = string(k)
			}
		}
		return
	}
	for i := range n.Nbuf() {
		m := n.Msg(i)
		if m.Op == kvfmt.Insert {
			x.checkPair(t, p, m.Key, m.Val)
		} else if m.Op != kvfmt.Clearb || t.snap {
			// The reference clears at offsets inside of blocks when it truncates to a length
			// inside of one. That hits nothing and does no harm.
			x.checkKey(t, p, m.Key)
		}
	}
	for i := range n.Nval() {
		k := n.Key(i)
		child, fill := n.Child(i)
		x.checkKey(t, p, k)
		cb := bounds{lo: k, hi: b.hi}
		if i+1 < n.Nval() {
			cb.hi = n.Key(i + 1)
		}
		if !t.snap && child.Gen > p.Gen {
			x.sayAt(BadGen, Error, child.Addr, nodeType(info.level-1), "%s: of generation %d in a node of %d", t.name, child.Gen, p.Gen)
		}
		ci := x.visit(t, child, info.level-1, cb, fill)
		if ci == nil || ci.bad {
			info.bad = true
		}
		switch {
		case ci == nil:
		case ci.empty: // no key says that it is here twice
			for j := range i {
				if c, _ := n.Child(j); c.Addr == child.Addr && x.once(TwoOwners, child.Addr, string(k)) {
					x.sayAt(TwoOwners, Fatal, child.Addr, nodeType(info.level-1), "%s: %s: an empty node that the node at %v has twice", t.name, keyText(k), p.Addr)
				}
			}
		case i == n.Nval()-1:
			info.max = max(info.max, ci.max)
		}
	}
}

// checkKey says whether k is a key that t may have.
func (x *run) checkKey(t *tree, p blkfmt.Bptr, k []byte) bool {
	err := kvfmt.CheckKey(k)
	if err == nil {
		switch k[0] {
		case kvfmt.Klabel, kvfmt.Ksnap, kvfmt.Kdlist:
			if !t.snap {
				err = errors.New("it belongs in the snapshot tree")
			}
		case kvfmt.Kdat, kvfmt.Kent, kvfmt.Kup:
			if t.snap {
				err = errors.New("it belongs in a file system")
			}
			if k[0] == kvfmt.Kdat && binary.BigEndian.Uint64(k[9:])%blkfmt.BlkSize != 0 {
				err = errors.New("its offset is not that of a block")
			}
		}
	}
	if err != nil && x.once(BadKey, p.Addr, string(k)) {
		x.sayKey(BadKey, Error, t, p.Addr, k, "%v", err)
	}
	return err == nil
}

// checkPair checks a value that p's node holds, in a leaf or in a message on its way there. A data
// block that it points at is claimed and read.
func (x *run) checkPair(t *tree, p blkfmt.Bptr, k, v []byte) {
	if !x.checkKey(t, p, k) {
		return
	}
	var err error
	switch k[0] {
	case kvfmt.Kdat:
		var bp blkfmt.Bptr
		if bp, err = kvfmt.GetDatVal(v); err == nil {
			x.checkData(t, p, k, bp)
		}
	case kvfmt.Kent:
		var d kvfmt.Dir
		if d, err = kvfmt.GetDir(v); err == nil {
			x.checkDir(t, p, k, d)
		}
	case kvfmt.Kup:
		_, err = kvfmt.GetEnt(v)
	case kvfmt.Klabel:
		_, err = kvfmt.GetLabel(v)
	case kvfmt.Ksnap:
		_, err = kvfmt.GetTree(v)
	case kvfmt.Kdlist:
		_, err = kvfmt.GetDlist(v)
	case kvfmt.Kconf:
		if kvfmt.IsClear(k) && !t.snap {
			_, err = kvfmt.GetClear(k, v)
		}
	}
	if err != nil {
		x.sayKey(BadValue, Error, t, p.Addr, k, "%v", err)
	}
}

// sayKey adds a problem about the key k in the node at a.
func (x *run) sayKey(kind Kind, sev Severity, t *tree, a blkfmt.Addr, k []byte, format string, arg ...any) {
	x.sayFiles(kind, sev, t, a, k, keyRange(k), fmt.Sprintf(format, arg...))
}

// sayFiles is sayKey for a problem that concerns the files in r.
func (x *run) sayFiles(kind Kind, sev Severity, t *tree, a blkfmt.Addr, k []byte, r qidRange, text string) {
	p := Problem{Kind: kind, Severity: sev, Addr: a, Block: "node", Text: t.name + ": " + keyText(k) + ": " + text}
	if !t.snap {
		p.refs = []fileRef{{t.gen, r}}
	}
	x.problem(p)
}

// checkData claims and reads the data block bp of key k.
func (x *run) checkData(t *tree, p blkfmt.Bptr, k []byte, bp blkfmt.Bptr) {
	if bp.Gen > p.Gen && x.once(BadGen, bp.Addr, string(k)) {
		x.sayAt(BadGen, Error, bp.Addr, blkfmt.Data, "%s: %s: of generation %d in a node of %d", t.name, keyText(k), bp.Gen, p.Gen)
	}
	if x.claim(bp.Addr, ownData, x.dataPrint(k, bp), blkfmt.Data, t.name, k) != claimFirst {
		return
	}
	x.rep.Counts.Data++
	if x.opt.NoData {
		return
	}
	err := x.read(x.buf, bp.Addr)
	if err == nil {
		if got := x.hash.Sum(x.buf); got != bp.Hash {
			err = &blkfmt.CorruptError{Addr: bp.Addr, Type: blkfmt.Data, Want: bp.Hash, Got: got}
		}
	}
	if err != nil {
		x.sayErr(err, bp.Addr, blkfmt.Data, t.name+": "+keyText(k))
	}
}

const dmdir = 1 << 31

// checkDir checks a directory entry by itself.
func (x *run) checkDir(t *tree, p blkfmt.Bptr, k []byte, d kvfmt.Dir) {
	e, err := kvfmt.GetEnt(k)
	if err != nil {
		return
	}
	say := func(kind Kind, sev Severity, format string, arg ...any) {
		x.sayFiles(kind, sev, t, p.Addr, k, qidRange{d.Qid.Path, d.Qid.Path, false}, fmt.Sprintf(format, arg...))
	}
	if d.Qid.Path >= x.super.NextQid {
		say(QidRange, Error, "qid %d, the next to be handed out is %d", d.Qid.Path, x.super.NextQid)
	}
	if d.Qid.Type&0x80 != 0 != (d.Mode&dmdir != 0) {
		say(ModeType, Error, "qid type %#x, mode %#o", d.Qid.Type, d.Mode)
	}
	if e.Pqid == kvfmt.RootPqid && e.Name == "" {
		return
	}
	switch {
	case e.Name == "" || e.Name == "." || e.Name == "..":
		say(BadName, Note, "not a name")
	case !utf8.ValidString(e.Name):
		say(BadName, Note, "not UTF-8")
	case strings.ContainsFunc(e.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' }):
		say(BadName, Note, "holds a slash or a control character")
	}
}

// keyText describes a key.
func keyText(k []byte) string {
	be := binary.BigEndian
	if kvfmt.CheckKey(k) == nil {
		switch k[0] {
		case kvfmt.Kdat:
			return fmt.Sprintf("data of qid %d at %#x", be.Uint64(k[1:]), be.Uint64(k[9:]))
		case kvfmt.Kent:
			e, _ := kvfmt.GetEnt(k)
			if e.Pqid == kvfmt.RootPqid {
				return "entry of the root"
			}
			return fmt.Sprintf("entry %.100q of directory qid %d", e.Name, e.Pqid)
		case kvfmt.Kup:
			return fmt.Sprintf("parent of directory qid %d", be.Uint64(k[1:]))
		case kvfmt.Klabel:
			return fmt.Sprintf("label %.100q", k[1:])
		case kvfmt.Ksnap:
			return fmt.Sprintf("snapshot %d", int64(be.Uint64(k[1:])))
		case kvfmt.Kdlist:
			return fmt.Sprintf("deadlist of snapshot %d, birth %d", int64(be.Uint64(k[1:])), int64(be.Uint64(k[9:])))
		case kvfmt.Kconf:
			return fmt.Sprintf("configuration key %.100q", k[1:])
		}
	}
	return fmt.Sprintf("key %.100x", bytes.Clone(k))
}
