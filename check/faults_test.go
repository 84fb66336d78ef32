package check

import (
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// A fault is a change of the sample and what must be found.
type fault struct {
	name string
	kind Kind
	sev  Severity
	edit func(d *disk)
	path string // one of the paths of the problem, if not empty
	also []Kind // that follow from it
	raw  bool   // leave hashes and fills as the edit left them
	// unfilled leaves the fills alone.
	unfilled bool
}

// flip changes a byte in the middle of the block at a.
func (d *disk) flip(a blkfmt.Addr, off int) { d.block(a)[off] ^= 0x10 }

func (d *disk) addMsg(gen blkfmt.Gen, m kvfmt.Msg) {
	d.edit(d.rootOf(gen), func(e *nodeEdit) { e.msgs = append(e.msgs, m) })
}

func (d *disk) clearLater(gen blkfmt.Gen, c kvfmt.Clear) {
	d.addMsg(gen, kvfmt.Msg{Op: kvfmt.Insert, Key: c.AppendKey(nil), Val: c.AppendValue(nil)})
}

func (d *disk) dlist(gen, birth blkfmt.Gen) kvfmt.Dlist {
	l, err := kvfmt.GetDlist(d.val(snapTree, kvfmt.AppendDlistKey(nil, gen, birth)))
	if err != nil {
		panic(err)
	}
	return l
}

// putDead makes the deadlist block at a hold these addresses only.
func (d *disk) putDead(a blkfmt.Addr, chain blkfmt.Bptr, dead ...blkfmt.Addr) {
	var p []byte
	for _, x := range dead {
		p = logfmt.AppendDead(p, x)
	}
	b := d.block(a)
	copy(b[blkfmt.LogHdSize:], p)
	blkfmt.EncodeLogHdr(b, blkfmt.LogHdr{Type: blkfmt.Deadlist, Size: len(p), Chain: chain}, d.hash)
}

func (d *disk) datAddr(gen blkfmt.Gen, key []byte) blkfmt.Addr {
	return blkfmt.GetPtr(d.val(gen, key)).Addr
}

// shadow gives main, which shares leaf i with other snapshots, a copy of its own, as new as main.
func (d *disk) shadow(i int) blkfmt.Addr {
	a := d.alloc()
	d.edit(d.rootOf(5), func(e *nodeEdit) {
		p, fill := kvfmt.GetChild(e.pairs[i].val)
		copy(d.block(a), d.blocks[p.Addr])
		p.Addr, p.Gen = a, 5
		e.pairs[i].val = binary.BigEndian.AppendUint16(p.Append(nil), uint16(fill))
	})
	return a
}

// quotas records what the label uses as of its root, which change may alter.
func (d *disk) quotas(label string, gen blkfmt.Gen, total kvfmt.Use, users []kvfmt.UserUse, change func(*kvfmt.Used)) {
	root, ht := d.tree(gen)
	u := kvfmt.Used{Root: root, Ht: int32(ht), Total: total}
	if change != nil {
		change(&u)
	}
	d.setVal(snapTree, kvfmt.UsedKey{Label: label}.AppendKey(nil), u.Append(nil))
	if len(users) > 0 {
		d.setVal(snapTree, kvfmt.UsedKey{Label: label, Users: true, Page: kvfmt.PageOf(users[0].Uid)}.AppendKey(nil), kvfmt.AppendUsers(nil, users))
	}
}

func faults() []fault {
	dirKey, gKey, rootKey := entKey(qRoot, "dir"), entKey(qRoot, "g"), entKey(kvfmt.RootPqid, "")
	label := func(name string) []byte { return kvfmt.AppendLabelKey(nil, name) }
	return []fault{
		// Superblocks.
		{name: "backup damaged", kind: SuperBad, sev: Note, raw: true, edit: func(d *disk) { d.flip(d.backup(), 50) }},
		{name: "primary zeroed", kind: SuperBad, sev: Note, raw: true, edit: func(d *disk) { clear(d.block(0)) }},
		{name: "both damaged", kind: SuperBad, sev: Fatal, raw: true, edit: func(d *disk) { d.flip(0, 50); d.flip(d.backup(), 50) }},
		{name: "backup of an older commit", kind: SuperStale, sev: Note, raw: true, edit: func(d *disk) {
			old := slices.Clone(d.block(0))
			s := d.super(func(s *blkfmt.Super) { s.Qgen++ })
			copy(d.block(0), old)
			_ = s
		}, also: []Kind{LogNoBarrier}},
		{name: "copies of one commit differ", kind: SuperStale, sev: Note, raw: true, edit: func(d *disk) {
			old := slices.Clone(d.block(0))
			d.super(func(s *blkfmt.Super) { s.NextQid++ })
			copy(d.block(0), old)
		}},
		{name: "newer superblock does not load", kind: SuperFallback, sev: Error, raw: true, edit: func(d *disk) {
			old := slices.Clone(d.block(0))
			d.super(func(s *blkfmt.Super) { s.Qgen++; s.Arenas[2].Hash ^= 1 })
			copy(d.block(0), old)
		}, also: []Kind{SuperStale}},
		{name: "unknown feature", kind: SuperField, sev: Error, edit: func(d *disk) { d.super(func(s *blkfmt.Super) { s.Flag = 2 }) }},

		// Arenas.
		{name: "arena reaches into the next", kind: ArenaLayout, sev: Fatal, edit: func(d *disk) {
			d.header(6, func(h *blkfmt.ArenaHdr) { h.Size += blk })
		}},
		{name: "two arenas in one place", kind: ArenaLayout, sev: Fatal, raw: true, edit: func(d *disk) {
			d.super(func(s *blkfmt.Super) { s.Arenas[5].Addr = s.Arenas[4].Addr + blk })
		}, also: []Kind{HeaderBad}},
		{name: "header damaged twice", kind: HeaderBad, sev: Fatal, raw: true, edit: func(d *disk) {
			a := d.super(nil).Arenas[5].Addr
			d.flip(a, 9000)
			d.flip(a+blk, 9000)
		}},
		{name: "header damaged", kind: HeaderStale, sev: Note, raw: true, edit: func(d *disk) { d.flip(d.super(nil).Arenas[5].Addr, 9000) }},
		{name: "header copy damaged", kind: HeaderStale, sev: Note, raw: true, edit: func(d *disk) { d.flip(d.super(nil).Arenas[5].Addr+blk, 9000) }},
		{name: "header without a hash", kind: HeaderUnverified, sev: Note, raw: true, edit: func(d *disk) {
			d.super(func(s *blkfmt.Super) { s.Arenas[5].Hash = blkfmt.NoHash })
		}},
		{name: "header without a hash, first copy is none", kind: HeaderStale, sev: Note, raw: true, edit: func(d *disk) {
			s := d.super(func(s *blkfmt.Super) { s.Arenas[5].Hash = blkfmt.NoHash })
			clear(d.block(s.Arenas[5].Addr))
		}, also: []Kind{HeaderUnverified}},

		// Logs.
		{name: "log damaged", kind: LogBad, sev: Fatal, raw: true, edit: func(d *disk) { d.flip(d.header(5, nil).Log.Addr, 40) }},
		{name: "log of another type", kind: LogBad, sev: Fatal, raw: true, edit: func(d *disk) { d.block(d.header(5, nil).Log.Addr)[1] = 4 }},
		{name: "log entry of an unknown op", kind: LogBad, sev: Fatal, edit: func(d *disk) { d.block(d.header(5, nil).Log.Addr)[36+7] = 9 }},
		{name: "log elsewhere", kind: LogBad, sev: Fatal, edit: func(d *disk) {
			d.header(5, func(h *blkfmt.ArenaHdr) { h.Log.Addr = d.super(nil).Arenas[4].Addr + 2*blk })
		}},
		{name: "log comes back to itself", kind: LogBad, sev: Fatal, edit: func(d *disk) {
			at := d.header(5, nil).Log.Addr
			d.putLog(at, []logfmt.Entry{{Op: logfmt.Free, Addr: at, Len: blk}}, blkfmt.Bptr{Addr: at})
		}},
		{name: "allocated twice", kind: LogRange, sev: Fatal, edit: func(d *disk) {
			at := d.header(5, nil).Log.Addr
			d.log(5, before(logfmt.Entry{Op: logfmt.Alloc1, Addr: at, Len: blk}))
		}},
		{name: "freed twice", kind: LogRange, sev: Fatal, edit: func(d *disk) {
			at := d.header(5, nil).Log.Addr
			d.log(5, before(logfmt.Entry{Op: logfmt.Free, Addr: at, Len: 3 * blk}))
		}},
		{name: "allocation across a hole", kind: LogRange, sev: Fatal, edit: func(d *disk) {
			at := d.header(5, nil).Log.Addr
			d.log(5, before(logfmt.Entry{Op: logfmt.Alloc1, Addr: at + 9*blk, Len: blk}))
			d.log(5, before(logfmt.Entry{Op: logfmt.Alloc, Addr: at + 5*blk, Len: 9 * blk}))
		}},
		{name: "log frees the arena's last blocks", kind: LogRange, sev: Fatal, edit: func(d *disk) {
			h := d.header(5, nil)
			d.log(5, before(logfmt.Entry{Op: logfmt.Free1, Addr: h.Log.Addr + blkfmt.Addr(h.Size) - blk, Len: blk}))
		}},
		{name: "no barrier", kind: LogNoBarrier, sev: Note, edit: func(d *disk) {
			d.log(5, func(es []logfmt.Entry) []logfmt.Entry { return es[:len(es)-1] })
		}},
		{name: "barrier of a later commit only", kind: LogNoBarrier, sev: Note, edit: func(d *disk) {
			d.log(5, func(es []logfmt.Entry) []logfmt.Entry { es[len(es)-1].Qgen++; return es })
		}},
		{name: "header counts wrong", kind: UsedDiffers, sev: Note, edit: func(d *disk) {
			d.header(5, func(h *blkfmt.ArenaHdr) { h.Used += blk })
		}},

		// Blocks and their owners.
		{name: "data block cannot be read", kind: ReadFailed, sev: Error, path: "main/g", raw: true, edit: func(d *disk) {
			d.fail[d.datAddr(5, datKey(qG, 0))] = true
		}},
		{name: "data block damaged", kind: Corrupt, sev: Error, path: "adm/users", raw: true, edit: func(d *disk) {
			d.flip(d.datAddr(1, datKey(qUsers, 0)), 7)
		}},
		{name: "shared data block damaged", kind: Corrupt, sev: Error, path: "fork/dir/f", raw: true, edit: func(d *disk) {
			d.flip(d.datAddr(3, datKey(qF, 0)), 7)
		}},
		{name: "data block in a message damaged", kind: Corrupt, sev: Error, path: "main/h", raw: true, edit: func(d *disk) {
			for _, m := range d.get(d.rootOf(5)).msgs {
				if m.Key[0] == kvfmt.Kdat {
					d.flip(blkfmt.GetPtr(m.Val).Addr, 7)
				}
			}
		}},
		{name: "leaf damaged", kind: Corrupt, sev: Error, path: "main/dir/f", raw: true, edit: func(d *disk) {
			d.flip(d.leafOf(5, datKey(qF, 0)), 5000)
		}, also: []Kind{Unchecked, Leaked}},
		{name: "pivot damaged", kind: Corrupt, sev: Error, path: "f1/", raw: true, edit: func(d *disk) {
			d.flip(d.rootOf(7), 5000)
		}, also: []Kind{Unchecked}},
		{name: "snapshot tree damaged", kind: Corrupt, sev: Error, raw: true, edit: func(d *disk) {
			d.flip(d.leafOf(snapTree, label("x")), 5000)
		}, also: []Kind{Unchecked, LabelMissing, CountHigh, SnapStale}},
		{name: "deadlist damaged", kind: Corrupt, sev: Error, raw: true, edit: func(d *disk) {
			d.flip(d.dlist(9, 7).Hd.Addr, blkfmt.LogHdSize+3)
		}, also: []Kind{DeadMissing}},
		{name: "data block nowhere", kind: BadAddress, sev: Fatal, path: "adm/users", edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 0), blkfmt.Bptr{Addr: d.super(nil).Arenas[2].Addr}.Append(nil))
		}, also: []Kind{Leaked}},
		{name: "data block across two", kind: BadAddress, sev: Fatal, path: "adm/users", edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 0), blkfmt.Bptr{Addr: d.super(nil).Arenas[1].Addr + 7*blk + 512}.Append(nil))
		}, also: []Kind{Leaked}},
		{name: "data block in use is free", kind: UsedFree, sev: Fatal, path: "adm/users", edit: func(d *disk) {
			d.log(1, before(logfmt.Entry{Op: logfmt.Free1, Addr: d.datAddr(1, datKey(qUsers, 0)), Len: blk}))
		}, also: []Kind{UsedDiffers}},
		{name: "leaf in use is free", kind: UsedFree, sev: Fatal, path: "main/dir/f", edit: func(d *disk) {
			d.log(0, before(logfmt.Entry{Op: logfmt.Free1, Addr: d.leafOf(5, datKey(qF, 0)), Len: blk}))
		}, also: []Kind{UsedDiffers}},
		{name: "dead block is free", kind: UsedFree, sev: Fatal, edit: func(d *disk) {
			d.log(0, before(logfmt.Entry{Op: logfmt.Free1, Addr: d.dlist(5, 3).Tl.Addr, Len: blk}))
		}, also: []Kind{UsedDiffers}},
		{name: "one block for two files", kind: TwoOwners, sev: Fatal, path: "main/dir/f", edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 0), blkfmt.GetPtr(d.val(3, datKey(qF, 0))).Append(nil))
		}, also: []Kind{BadGen, Leaked}},
		{name: "one block for two offsets", kind: TwoOwners, sev: Fatal, path: "f1/dir/f", edit: func(d *disk) {
			d.setVal(3, datKey(qF, blk), d.val(3, datKey(qF, 0)))
		}},
		{name: "data block is a node too", kind: TwoOwners, sev: Fatal, path: "main/dir/f", edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 0), blkfmt.Bptr{Addr: d.leafOf(3, datKey(qF, 0))}.Append(nil))
		}, also: []Kind{Unchecked, Leaked}},
		{name: "data block is the log too", kind: TwoOwners, sev: Fatal, edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 0), blkfmt.Bptr{Addr: d.header(5, nil).Log.Addr}.Append(nil))
		}, also: []Kind{Leaked}},
		{name: "message replaces a block by itself", kind: TwoOwners, sev: Fatal, path: "main/g", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Insert, Key: datKey(qG, 0), Val: d.val(5, datKey(qG, 0))})
		}},
		{name: "deadlist block used twice", kind: TwoOwners, sev: Fatal, edit: func(d *disk) {
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 5), d.val(snapTree, kvfmt.AppendDlistKey(nil, 9, 7)))
		}, also: []Kind{DeadGen}},
		{name: "deadlist in a circle", kind: TwoOwners, sev: Fatal, edit: func(d *disk) {
			l := d.dlist(9, 7)
			d.putDead(l.Hd.Addr, l.Hd, d.rootOf(7))
		}},
		{name: "one empty leaf in two places", kind: TwoOwners, sev: Fatal, edit: func(d *disk) {
			a := d.alloc()
			d.put(a, &nodeEdit{leaf: true})
			d.edit(d.rootOf(9), func(e *nodeEdit) {
				for q := range uint64(2) {
					e.set(datKey(30+q, 0), binary.BigEndian.AppendUint16(blkfmt.Bptr{Addr: a, Gen: 9}.Append(nil), 0))
				}
			})
		}},
		{name: "block of nobody", kind: Leaked, sev: Leak, edit: func(d *disk) { d.alloc() }},

		// Nodes.
		{name: "node malformed", kind: BadNode, sev: Error, path: "main/dir/f", edit: func(d *disk) {
			d.block(d.leafOf(3, datKey(qF, 0)))[3]++
		}, also: []Kind{Unchecked, Leaked}},
		{name: "pivot without children", kind: BadNode, sev: Error, edit: func(d *disk) {
			d.edit(d.rootOf(9), func(e *nodeEdit) { e.pairs = nil })
		}, also: []Kind{Unchecked}},
		{name: "tree is higher than it says", kind: BadDepth, sev: Error, raw: true, edit: func(d *disk) {
			d.snapshot(9, func(s *kvfmt.Tree) { s.Ht = 1 })
			d.repair(true)
		}, also: []Kind{Unchecked}},
		{name: "tree is lower than it says", kind: BadDepth, sev: Error, raw: true, edit: func(d *disk) {
			d.snapshot(1, func(s *kvfmt.Tree) { s.Ht = 2 })
			d.repair(true)
		}, also: []Kind{Unchecked, Leaked}},
		{name: "wrong fill", kind: BadFill, sev: Error, path: "f1/dir/", unfilled: true, edit: func(d *disk) {
			d.edit(d.rootOf(7), func(e *nodeEdit) { e.pairs[2].val[25]++ })
		}},
		{name: "key below the separator", kind: BadOrder, sev: Error, edit: func(d *disk) {
			d.edit(d.rootOf(7), func(e *nodeEdit) { e.pairs[1].key = datKey(qG, 1) })
		}, also: []Kind{Unchecked, BadKey}},
		{name: "key beyond the next separator", kind: BadOrder, sev: Error, edit: func(d *disk) {
			d.edit(d.leafOf(7, datKey(qF, 0)), func(e *nodeEdit) { e.set(datKey(qG, 0), d.val(7, datKey(qG, 0))) })
		}, also: []Kind{Unchecked}},
		{name: "message beyond the next separator", kind: BadOrder, sev: Error, edit: func(d *disk) {
			// One more level: the new root says that everything from qid 20 on is elsewhere.
			a := d.alloc()
			d.snapshot(9, func(s *kvfmt.Tree) {
				e := &nodeEdit{}
				old := d.get(s.Root.Addr)
				child := binary.BigEndian.AppendUint16(s.Root.Append(nil), 0)
				e.set(old.pairs[0].key, child)
				b := d.alloc()
				d.put(b, &nodeEdit{pairs: old.pairs[2:]})
				e.set(old.pairs[2].key, binary.BigEndian.AppendUint16(blkfmt.Bptr{Addr: b, Gen: 9}.Append(nil), 0))
				d.put(s.Root.Addr, &nodeEdit{pairs: old.pairs[:2], msgs: old.msgs})
				d.put(a, e)
				s.Root.Addr, s.Ht = a, 3
			})
		}, also: []Kind{Unchecked}},
		{name: "root younger than its snapshot", kind: BadGen, sev: Error, edit: func(d *disk) {
			d.snapshot(9, func(s *kvfmt.Tree) { s.Root.Gen = 10 })
		}},
		{name: "node younger than its parent", kind: BadGen, sev: Error, edit: func(d *disk) {
			d.edit(d.rootOf(7), func(e *nodeEdit) { e.pairs[2].val[23] = 8 })
			d.edit(d.rootOf(9), func(e *nodeEdit) { e.pairs[2].val[23] = 8 })
		}, also: []Kind{DeadMissing}},
		{name: "data younger than its node", kind: BadGen, sev: Error, path: "adm/users", edit: func(d *disk) {
			v := d.val(1, datKey(qUsers, 0))
			v[23] = 1
			d.setVal(1, datKey(qUsers, 0), v)
		}},
		{name: "label in a file system", kind: BadKey, sev: Error, edit: func(d *disk) {
			d.setVal(9, label("x"), kvfmt.Label{Gen: 3}.Append(nil))
		}},
		{name: "entry in the snapshot tree", kind: BadKey, sev: Error, edit: func(d *disk) {
			d.addMsg(snapTree, kvfmt.Msg{Op: kvfmt.Clobber, Key: entKey(0, "x")})
		}},
		{name: "data inside a block", kind: BadKey, sev: Error, path: "adm/users", edit: func(d *disk) {
			d.setVal(1, datKey(qUsers, 512), d.val(1, datKey(qUsers, 0)))
		}},
		{name: "entry cut short", kind: BadValue, sev: Error, path: "adm/", edit: func(d *disk) {
			d.setVal(1, rootKey, dirVal(qAdm)[:60])
		}, also: []Kind{NoRoot, UpMismatch, OrphanEntry}},
		{name: "entry cut short in a message", kind: BadValue, sev: Error, path: "main/dir/", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Insert, Key: entKey(qDir, "y"), Val: make([]byte, 60)})
		}},
		{name: "label cut short", kind: BadValue, sev: Error, edit: func(d *disk) {
			d.setVal(snapTree, label("zz"), make([]byte, 12))
		}},
		{name: "tree record cut short", kind: BadValue, sev: Error, edit: func(d *disk) {
			d.setVal(snapTree, snapKey(9), make([]byte, 71))
		}, also: []Kind{LabelDangling, SnapSucc, CountHigh, DeadOrphan, Leaked}},
		{name: "deadlist record cut short", kind: BadValue, sev: Error, edit: func(d *disk) {
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 5), make([]byte, 47))
		}},
		{name: "parent is no entry key", kind: BadValue, sev: Error, edit: func(d *disk) { d.setVal(1, upKey(qAdm), []byte("x")) }, also: []Kind{UpMismatch}},
		{name: "delete of what is not there", kind: BadMessage, sev: Error, path: "main/dir/", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Delete, Key: entKey(qDir, "nope")})
		}},
		{name: "delete twice", kind: BadMessage, sev: Error, path: "main/", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Delete, Key: entKey(qRoot, "old")})
		}},
		{name: "wstat of what is not there", kind: BadMessage, sev: Error, path: "fork/dir/", edit: func(d *disk) {
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Wstat, Key: entKey(qDir, "x"), Val: []byte{0}})
		}},
		{name: "relink of a snapshot that is not there", kind: BadMessage, sev: Error, edit: func(d *disk) {
			d.addMsg(snapTree, kvfmt.Msg{Op: kvfmt.Relink, Key: snapKey(4), Val: make([]byte, 10)})
		}},
		{name: "counts below zero", kind: BadMessage, sev: Error, edit: func(d *disk) {
			d.addMsg(snapTree, kvfmt.Msg{Op: kvfmt.Relink, Key: snapKey(9), Val: append(snapKey(9)[1:], 0xfe, 0)})
		}},
		{name: "name with a slash", kind: BadName, sev: Note, path: "adm/a/b", edit: func(d *disk) { d.setVal(1, entKey(qAdm, "a/b"), fileVal(50, 0)) }},
		{name: "name that is not UTF-8", kind: BadName, sev: Note, path: "adm/\xff", edit: func(d *disk) {
			d.setVal(1, entKey(qAdm, "\xff"), fileVal(50, 0))
		}},

		// Files.
		{name: "no root", kind: NoRoot, sev: Error, edit: func(d *disk) { d.delVal(0, rootKey) }, also: []Kind{UpMismatch}},
		{name: "root is a file", kind: NoRoot, sev: Error, edit: func(d *disk) { d.setVal(0, rootKey, fileVal(qRoot, 0)) }, also: []Kind{UpMismatch}},
		{name: "two entries, one file", kind: QidTwice, sev: Error, path: "adm/again", edit: func(d *disk) { d.setVal(1, entKey(qAdm, "again"), fileVal(qUsers, 41)) }},
		{name: "qid of the future", kind: QidRange, sev: Error, path: "adm/x", edit: func(d *disk) { d.setVal(1, entKey(qAdm, "x"), fileVal(100, 0)) }},
		{name: "directory without a parent", kind: UpMismatch, sev: Error, path: "v1/dir", edit: func(d *disk) { d.delVal(3, upKey(qDir)) }},
		{name: "directory with another parent", kind: UpMismatch, sev: Error, path: "fork/dir", edit: func(d *disk) {
			d.edit(d.rootOf(9), func(e *nodeEdit) {
				e.msgs = append(e.msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: upKey(qDir), Val: entKey(qRoot, "dyr")})
			})
		}},
		{name: "parent of a directory that is not there", kind: UpMismatch, sev: Error, edit: func(d *disk) { d.setVal(1, upKey(77), entKey(qAdm, "x")) }},
		{name: "directories in each other", kind: DirLoop, sev: Error, edit: func(d *disk) {
			for _, v := range []struct{ qid, parent uint64 }{{60, 61}, {61, 60}} {
				d.setVal(1, entKey(v.parent, "loop"), dirVal(v.qid))
				d.setVal(1, upKey(v.qid), entKey(v.parent, "loop"))
			}
		}},
		{name: "mode without the directory bit", kind: ModeType, sev: Error, edit: func(d *disk) {
			d.dir(1, rootKey, func(v *kvfmt.Dir) { v.Mode &^= dmdir })
		}, also: []Kind{NoRoot, UpMismatch, FileEntries}},
		{name: "entry in no directory", kind: OrphanEntry, sev: Leak, edit: func(d *disk) { d.setVal(1, entKey(77, "x"), fileVal(50, 0)) }},
		{name: "directory removed, its entries not", kind: OrphanEntry, sev: Leak, edit: func(d *disk) {
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Clobber, Key: dirKey})
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Clobber, Key: upKey(qDir)})
		}},
		{name: "data of no file", kind: OrphanData, sev: Leak, edit: func(d *disk) { d.delVal(1, entKey(qAdm, "users")) }},
		{name: "file removed, its data not", kind: OrphanData, sev: Leak, path: "main/(qid 20)", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Clobber, Key: gKey})
		}},
		{name: "data of no file, while the snapshot is being received", kind: Receiving, sev: Note, edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Clobber, Key: gKey})
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendRecvKey(nil), Val: []byte("a place")})
		}},
		{name: "file cut, its data not", kind: DataBeyond, sev: Leak, path: "fork/g", edit: func(d *disk) {
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Wstat, Key: gKey, Val: kvfmt.AppendWstat(nil, kvfmt.WLength, &kvfmt.Dir{Length: blk})})
		}},
		{name: "empty file with data", kind: DataBeyond, sev: Leak, path: "adm/users", edit: func(d *disk) {
			d.dir(1, entKey(qAdm, "users"), func(v *kvfmt.Dir) { v.Length = 0 })
		}},
		{name: "file removed, to be cleared", kind: Clearing, sev: Note, path: "main/(qid 20)", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Clobber, Key: gKey})
			d.clearLater(5, kvfmt.Clear{Qid: qG, Gen: 5, To: 2 * blk})
		}},
		{name: "file removed, less to be cleared than there is", kind: OrphanData, sev: Leak, path: "main/(qid 20)", edit: func(d *disk) {
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Clobber, Key: gKey})
			d.clearLater(5, kvfmt.Clear{Qid: qG, Gen: 5, To: blk})
		}},
		{name: "file cut, to be cleared from too far on", kind: DataBeyond, sev: Leak, path: "fork/g", edit: func(d *disk) {
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Wstat, Key: gKey, Val: kvfmt.AppendWstat(nil, kvfmt.WLength, &kvfmt.Dir{})})
			d.clearLater(9, kvfmt.Clear{Qid: qG, Gen: 9, From: blk, To: 2 * blk})
		}},
		{name: "record of what is to be cleared cut short", kind: BadValue, sev: Error, edit: func(d *disk) {
			d.addMsg(9, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.Clear{Qid: qG}.AppendKey(nil), Val: make([]byte, 23)})
		}},
		{name: "entry in a plain file", kind: FileEntries, sev: Note, path: "adm/users", edit: func(d *disk) { d.setVal(1, entKey(qUsers, "x"), fileVal(50, 0)) }},
		{name: "data of a directory", kind: DirData, sev: Note, path: "main/dir", edit: func(d *disk) {
			a := d.alloc()
			d.addMsg(5, kvfmt.Msg{Op: kvfmt.Insert, Key: datKey(qDir, 0), Val: blkfmt.Bptr{Addr: a, Gen: 5}.Append(nil)})
			d.edit(d.rootOf(5), func(e *nodeEdit) { e.pairs[0].key = datKey(qDir, 0) })
		}},

		// Quotas.
		{name: "other sum recorded", kind: QuotaWrong, sev: Error, edit: func(d *disk) {
			d.quotas("main", 5, kvfmt.Use{Blocks: 7, Files: 4}, []kvfmt.UserUse{{Uid: 0, Use: mainUse}}, nil)
		}},
		{name: "files of another user recorded", kind: QuotaWrong, sev: Error, edit: func(d *disk) {
			d.quotas("main", 5, mainUse, []kvfmt.UserUse{{Uid: 0, Use: mainUse}, {Uid: 1, Use: kvfmt.Use{Files: 1}}}, nil)
		}},
		{name: "nothing recorded of the user", kind: QuotaWrong, sev: Error, edit: func(d *disk) {
			d.quotas("main", 5, mainUse, nil, nil)
		}},
		{name: "counted for another root", kind: QuotaStale, sev: Note, edit: func(d *disk) {
			d.quotas("main", 5, kvfmt.Use{Blocks: 1}, nil, func(u *kvfmt.Used) { u.Root.Hash ^= 1 })
		}},
		{name: "users counted, and not for which root", kind: QuotaStale, sev: Note, edit: func(d *disk) {
			k := kvfmt.UsedKey{Label: "main", Users: true}
			d.setVal(snapTree, k.AppendKey(nil), kvfmt.AppendUsers(nil, []kvfmt.UserUse{{Uid: 0, Use: mainUse}}))
		}},
		{name: "malformed record of use", kind: QuotaBad, sev: Note, edit: func(d *disk) {
			d.setVal(snapTree, kvfmt.UsedKey{Label: "main"}.AppendKey(nil), []byte{1, 2, 3})
		}},
		{name: "malformed quota", kind: QuotaBad, sev: Note, edit: func(d *disk) {
			d.setVal(snapTree, kvfmt.Quota{Label: "main"}.AppendKey(nil), []byte{1, 2, 3})
		}},

		// Snapshots.
		{name: "label of nothing", kind: LabelDangling, sev: Error, edit: func(d *disk) { d.setVal(snapTree, label("x"), kvfmt.Label{Gen: 4}.Append(nil)) }},
		{name: "no adm", kind: LabelMissing, sev: Error, edit: func(d *disk) { d.delVal(snapTree, label("adm")) }, also: []Kind{CountHigh, SnapStale}},
		{name: "no main", kind: LabelMissing, sev: Error, edit: func(d *disk) { d.delVal(snapTree, label("main")) }, also: []Kind{CountHigh, SnapStale}},
		{name: "no empty", kind: LabelMissing, sev: Note, edit: func(d *disk) { d.delVal(snapTree, label("empty")) }, also: []Kind{CountHigh}},
		{name: "snapshot says it is another", kind: SnapGen, sev: Error, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Gen = 8 }) }},
		{name: "snapshot of the future", kind: SnapGen, sev: Error, edit: func(d *disk) { d.super(func(s *blkfmt.Super) { s.NextGen = 9 }) }, also: []Kind{DeadGen}},
		{name: "predecessor is gone", kind: SnapPred, sev: Error, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Pred = 4 }) }, also: []Kind{SnapSucc, CountHigh}},
		{name: "predecessor is younger", kind: SnapPred, sev: Error, edit: func(d *disk) { d.snapshot(1, func(s *kvfmt.Tree) { s.Pred = 9 }) }, also: []Kind{CountHigh, DeadMissing}},
		{name: "successor is gone", kind: SnapSucc, sev: Error, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Succ = 10 }) }},
		{name: "successor is another's", kind: SnapSucc, sev: Error, edit: func(d *disk) { d.snapshot(1, func(s *kvfmt.Tree) { s.Succ = 9 }) }},
		{name: "fork point in the future", kind: SnapBase, sev: Error, edit: func(d *disk) { d.snapshot(1, func(s *kvfmt.Tree) { s.Base = 1 }) }},
		{name: "too few labels", kind: CountLow, sev: Error, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Nlbl = 0 }) }},
		{name: "too few references", kind: CountLow, sev: Error, edit: func(d *disk) { d.snapshot(7, func(s *kvfmt.Tree) { s.Nref = 0 }) }},
		{name: "too many labels", kind: CountHigh, sev: Leak, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Nlbl = 2 }) }},
		{name: "too many references", kind: CountHigh, sev: Leak, edit: func(d *disk) { d.snapshot(9, func(s *kvfmt.Tree) { s.Nref = 1 }) }},
		{name: "snapshot that should be gone", kind: SnapStale, sev: Note, edit: func(d *disk) {
			d.delVal(snapTree, label("f1"))
			d.snapshot(7, func(s *kvfmt.Tree) { s.Nlbl = 0 })
		}},
		{name: "unreadable contents", kind: Unchecked, sev: Note, raw: true, edit: func(d *disk) { d.flip(d.rootOf(0), 100) }, also: []Kind{Corrupt}},

		// Deadlists.
		{name: "deadlist ends elsewhere", kind: DeadBad, sev: Error, edit: func(d *disk) {
			l := d.dlist(5, 3)
			l.Tl = l.Hd
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 5, 3), l.Append(nil))
		}},
		{name: "deadlist without a head", kind: DeadBad, sev: Error, edit: func(d *disk) {
			l := d.dlist(9, 5)
			l.Tl = d.dlist(9, 7).Hd
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 5), l.Append(nil))
		}},
		{name: "deadlist of half an address", kind: DeadBad, sev: Error, edit: func(d *disk) { d.block(d.dlist(9, 7).Hd.Addr)[3] = 4 }, also: []Kind{DeadMissing}},
		{name: "deadlist of no block address", kind: DeadBad, sev: Error, edit: func(d *disk) { d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, 512) }, also: []Kind{DeadMissing}},
		{name: "deadlist block is a node", kind: DeadBad, sev: Error, edit: func(d *disk) { d.block(d.dlist(9, 7).Hd.Addr)[1] = 3 }, also: []Kind{DeadMissing}},
		{name: "dead block nowhere", kind: BadAddress, sev: Fatal, edit: func(d *disk) {
			d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, d.rootOf(7), d.super(nil).Arenas[3].Addr)
		}},
		{name: "deadlist of the wrong birth", kind: DeadGen, sev: Error, edit: func(d *disk) {
			v := d.val(snapTree, kvfmt.AppendDlistKey(nil, 9, 7))
			d.delVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 7))
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 6), v)
		}},
		{name: "birth after death", kind: DeadGen, sev: Error, edit: func(d *disk) {
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 9), d.val(snapTree, kvfmt.AppendDlistKey(nil, 9, 5)))
		}},
		{name: "listed as dead, in use", kind: DeadLive, sev: Error, path: "fork/dir/f", edit: func(d *disk) {
			d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, d.rootOf(7), d.leafOf(9, datKey(qF, 0)))
		}},
		{name: "data listed as dead, in use", kind: DeadLive, sev: Error, path: "main/g", edit: func(d *disk) {
			d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, d.rootOf(7), d.datAddr(5, datKey(qG, 0)))
		}},
		{name: "listed twice", kind: DeadTwice, sev: Fatal, edit: func(d *disk) {
			d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, d.rootOf(7), d.rootOf(7))
		}},
		{name: "dead block in no list", kind: DeadMissing, sev: Leak, edit: func(d *disk) {
			d.putDead(d.dlist(5, 3).Hd.Addr, d.dlist(5, 3).Tl)
		}},
		{name: "dead block in no snapshot", kind: DeadStray, sev: Leak, edit: func(d *disk) {
			d.putDead(d.dlist(9, 7).Hd.Addr, blkfmt.NoPtr, d.rootOf(7), d.alloc())
		}},
		{name: "deadlist of no snapshot", kind: DeadOrphan, sev: Leak, edit: func(d *disk) {
			v := d.val(snapTree, kvfmt.AppendDlistKey(nil, 9, 7))
			d.delVal(snapTree, kvfmt.AppendDlistKey(nil, 9, 7))
			d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 10, 7), v)
		}, also: []Kind{DeadMissing}},
		{name: "what is yet to be freed", kind: DeadWaiting, sev: Note, edit: func(d *disk) { d.waits(d.alloc(), d.alloc()) }},
		{name: "to be freed twice", kind: DeadTwice, sev: Fatal, edit: func(d *disk) {
			a := d.alloc()
			d.waits(a, a)
		}, also: []Kind{DeadWaiting}},
		{name: "to be freed and in use", kind: DeadLive, sev: Error, path: "main/g", edit: func(d *disk) {
			d.waits(d.alloc(), d.datAddr(5, datKey(qG, 0)))
		}, also: []Kind{DeadWaiting}},
		{name: "to be freed and dead", kind: DeadLive, sev: Error, edit: func(d *disk) { d.waits(d.rootOf(7)) }, also: []Kind{DeadWaiting}},
	}
}

// waits makes a list of the blocks that our server is yet to free.
func (d *disk) waits(list ...blkfmt.Addr) {
	at := d.alloc()
	d.putDead(at, blkfmt.NoPtr, list...)
	bp := blkfmt.Bptr{Addr: at}
	d.setVal(snapTree, kvfmt.AppendDlistKey(nil, 0, 1), kvfmt.Dlist{Hd: bp, Tl: bp}.Append(nil))
}

// mainUse is what the files of the sample's snapshot main use: dir, dir/f, g and h.
var mainUse = kvfmt.Use{Blocks: 3 + 2 + 1, Files: 4}

func TestWhatIsRightlyCountedForQuotasIsFine(t *testing.T) {
	d := sample()
	users := []kvfmt.UserUse{{Uid: 0, Use: mainUse}}
	d.quotas("main", 5, mainUse, users, nil)
	d.quotas("fork", 9, mainUse, users, nil)
	q := kvfmt.Quota{Label: "main", Who: kvfmt.EachUser, Limit: kvfmt.Use{Blocks: 1}}
	d.setVal(snapTree, q.AppendKey(nil), q.AppendValue(nil))
	d.repair(true)
	if r := d.check(t); len(r.Problems) > 0 {
		t.Errorf("problems:\n%s", text(t, r))
	}
}

func TestEveryFaultIsFound(t *testing.T) {
	base := sample()
	covered := map[string]bool{}
	for _, f := range faults() {
		covered[string(f.kind)] = true
		t.Run(f.name, func(t *testing.T) {
			d := base.clone()
			f.edit(d)
			if !f.raw {
				d.repair(!f.unfilled)
			}
			r := d.check(t)
			found, path := false, f.path == ""
			for _, p := range r.Problems {
				if p.Kind == f.kind && p.Severity == f.sev {
					found = true
					path = path || slices.Contains(p.Paths, f.path)
				}
			}
			if !found || !path {
				t.Errorf("no %v %s with path %q", f.sev, f.kind, f.path)
			}
			for k := range r.ByKind {
				if k != f.kind && !slices.Contains(f.also, k) {
					t.Errorf("%s is found too", k)
				}
			}
			for _, k := range f.also {
				if r.ByKind[k] == 0 {
					t.Errorf("%s is not found", k)
				}
			}
			if r.Clean(false) != (f.sev < Error && !slices.ContainsFunc(f.also, func(k Kind) bool { return r.worst(k) >= Error })) {
				t.Errorf("clean is %v", r.Clean(false))
			}
			if t.Failed() {
				t.Logf("report:\n%s", text(t, r))
			}
		})
	}
	for _, k := range allKinds(t) {
		if !covered[k] {
			t.Errorf("no fault shows %s", k)
		}
	}
}

// worst returns the highest severity of the problems of one kind.
func (r *Report) worst(k Kind) Severity {
	s := Note
	for _, p := range r.Problems {
		if p.Kind == k {
			s = max(s, p.Severity)
		}
	}
	return s
}

// allKinds reads the values of the Kind constants from the source.
func allKinds(t *testing.T) []string {
	f, err := parser.ParseFile(token.NewFileSet(), "report.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Kind" {
				k, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, k)
			}
		}
		return true
	})
	if len(kinds) < 40 {
		t.Fatalf("only %d kinds found in report.go", len(kinds))
	}
	return kinds
}
