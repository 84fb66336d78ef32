package kvfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// FuzzKey decodes bytes as a key of every kind; what decodes is written again as it was.
func FuzzKey(f *testing.F) {
	for _, k := range [][]byte{
		kvfmt.AppendDatKey(nil, 2, 0x4000), kvfmt.AppendEntKey(nil, 1, "users"), kvfmt.AppendEntKey(nil, kvfmt.RootPqid, ""),
		kvfmt.AppendUpKey(nil, 0), kvfmt.AppendLabelKey(nil, "main"), kvfmt.AppendSnapKey(nil, 2),
		kvfmt.AppendDlistKey(nil, 11, 9), kvfmt.AppendConfKey(nil, "retain"),
	} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, k []byte) {
		again, errs := [][]byte(nil), 0
		note := func(k []byte, err error) {
			if err == nil {
				again = append(again, k)
			} else if errs++; !errors.Is(err, kvfmt.ErrKey) {
				t.Errorf("error %v", err)
			}
		}
		qid, off, err := kvfmt.GetDat(k)
		note(kvfmt.AppendDatKey(nil, qid, off), err)
		e, err := kvfmt.GetEnt(k)
		note(kvfmt.AppendEntKey(nil, e.Pqid, e.Name), err)
		qid, err = kvfmt.GetUp(k)
		note(kvfmt.AppendUpKey(nil, qid), err)
		gen, err := kvfmt.GetSnapKey(k)
		note(kvfmt.AppendSnapKey(nil, gen), err)
		gen, bgen, err := kvfmt.GetDlistKey(k)
		note(kvfmt.AppendDlistKey(nil, gen, bgen), err)
		if len(again) > 1 || len(again) == 1 && !bytes.Equal(again[0], k) {
			t.Errorf("%x is written again as %x", k, again)
		}
		err = kvfmt.CheckKey(k)
		name := len(k) > 0 && (k[0] == kvfmt.Klabel || k[0] == kvfmt.Kconf)
		if good := len(k) <= kvfmt.KeyMax && (len(again) == 1 || name); good != (err == nil) {
			t.Errorf("%x: CheckKey says %v, decoding says %v", k, err, good)
		}
	})
}

// FuzzValue does the same with values.
func FuzzValue(f *testing.F) {
	f.Add(usersDir.Append(nil))
	f.Add(mainTree.Append(nil))
	f.Add(kvfmt.Label{Gen: 2, Flags: 1}.Append(nil))
	f.Add(kvfmt.Dlist{Hd: blkfmt.NoPtr, Tl: blkfmt.NoPtr}.Append(nil))
	f.Add(blkfmt.NoPtr.Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		note := func(again []byte, err error) {
			if err == nil && !bytes.Equal(again, p) {
				t.Errorf("%x is written again as %x", p, again)
			}
			if err != nil && !errors.Is(err, kvfmt.ErrValue) {
				t.Errorf("error %v", err)
			}
		}
		d, err := kvfmt.GetDir(p)
		note(d.Append(nil), err)
		tr, err := kvfmt.GetTree(p)
		note(tr.Append(nil), err)
		l, err := kvfmt.GetLabel(p)
		note(l.Append(nil), err)
		dl, err := kvfmt.GetDlist(p)
		note(dl.Append(nil), err)
		bp, err := kvfmt.GetDatVal(p)
		note(bp.Append(nil), err)
	})
}

// FuzzClear decodes the records of files to be cleared.
func FuzzClear(f *testing.F) {
	c := kvfmt.Clear{Qid: 0xfeedbeef, Gen: 7, From: 0x4000, To: 0x8000}
	f.Add(c.AppendKey(nil), c.AppendValue(nil))
	f.Fuzz(func(t *testing.T, key, val []byte) {
		c, err := kvfmt.GetClear(key, val)
		if err != nil {
			if !errors.Is(err, kvfmt.ErrKey) && !errors.Is(err, kvfmt.ErrValue) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !kvfmt.IsClear(key) || !bytes.Equal(c.AppendKey(nil), key) || !bytes.Equal(c.AppendValue(nil), val) {
			t.Errorf("%x = %x is written again as %x = %x", key, val, c.AppendKey(nil), c.AppendValue(nil))
		}
	})
}

// FuzzWstat applies bytes to a directory entry, which holds the same field values afterwards, so
// that the payload can be written again from it.
func FuzzWstat(f *testing.F) {
	f.Add([]byte{0})
	f.Add(kvfmt.AppendWstat(nil, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid, &kvfmt.Dir{Length: 5}))
	f.Add(kvfmt.AppendWstat(nil, 0x7f, &usersDir))
	f.Fuzz(func(t *testing.T, p []byte) {
		d := usersDir
		if err := kvfmt.ApplyWstat(&d, p); err != nil {
			if !errors.Is(err, kvfmt.ErrMsg) || d != usersDir {
				t.Errorf("error %v, made %+v", err, d)
			}
			return
		}
		if again := kvfmt.AppendWstat(nil, p[0], &d); !bytes.Equal(again, p) {
			t.Errorf("%x is written again as %x", p, again)
		}
		if d.Qid.Vers != usersDir.Qid.Vers+1 || d.Qid.Path != usersDir.Qid.Path || d.Flag != usersDir.Flag {
			t.Errorf("made %+v", d)
		}
	})
}

// FuzzApply applies a message of arbitrary bytes to a value of arbitrary bytes.
func FuzzApply(f *testing.F) {
	f.Add(uint8(5), kvfmt.AppendEntKey(nil, 1, "a"), []byte{0}, usersDir.Append(nil), true)
	f.Add(uint8(6), kvfmt.AppendSnapKey(nil, 1), kvfmt.AppendLink(nil, 9, -1, 1), mainTree.Append(nil), true)
	f.Add(uint8(7), kvfmt.AppendSnapKey(nil, 1), kvfmt.AppendLink(nil, 9, 0, 127), mainTree.Append(nil), true)
	f.Add(uint8(2), []byte{3, 'x'}, []byte{0}, []byte{}, false)
	f.Add(uint8(4), []byte{2}, []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, op uint8, key, payload, cur []byte, present bool) {
		m := kvfmt.Msg{Op: kvfmt.Op(op), Key: key, Val: payload}
		before := bytes.Clone(cur)
		val, there, err := kvfmt.Apply(nil, m, cur, present)
		if !bytes.Equal(before, cur) {
			t.Error("the value was changed")
		}
		if err != nil {
			if there || val != nil {
				t.Errorf("%x, %v with error %v", val, there, err)
			}
			if !errors.Is(err, kvfmt.ErrMissing) && !errors.Is(err, kvfmt.ErrMsg) && !errors.Is(err, kvfmt.ErrValue) {
				t.Errorf("error %v of an unknown kind", err)
			}
			return
		}
		switch m.Op {
		case kvfmt.Insert:
			if !there || !bytes.Equal(val, payload) {
				t.Errorf("insert made %x, %v", val, there)
			}
		case kvfmt.Delete, kvfmt.Clearb, kvfmt.Clobber:
			if there || val != nil || m.Op == kvfmt.Delete && !present {
				t.Errorf("%v made %x, %v", m.Op, val, there)
			}
		default:
			if !there || !present || len(val) != len(cur) {
				t.Errorf("%v made %d bytes of %d", m.Op, len(val), len(cur))
			}
		}
	})
}

// FuzzNode checks a block of arbitrary bytes: what is good can be walked and added to. head is put at
// the start of the block, vals at the end of the value half, msgs at that of the message half, so
// that small inputs reach everything.
func FuzzNode(f *testing.F) {
	add := func(n kvfmt.Node) {
		if n.Leaf() {
			f.Add([]byte(n[:6+2*n.Nval()]), []byte(nil), []byte(nil), []byte(n[blkfmt.BlkSize-int(binary.BigEndian.Uint16(n[4:])):]))
			return
		}
		f.Add([]byte(n[:10+2*n.Nval()]), []byte(n[8197-int(binary.BigEndian.Uint16(n[4:])):8197]),
			[]byte(n[8197:8197+2*n.Nbuf()]), []byte(n[blkfmt.BlkSize-int(binary.BigEndian.Uint16(n[8:])):]))
	}
	add(smallLeaf())
	add(smallPivot())
	add(newNode(true))
	for _, name := range goldenNames() {
		add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, head, vals, tab, msgs []byte) {
		kvfmt.CheckNode(head)
		p := make([]byte, blkfmt.BlkSize)
		if len(head) > 8197 || len(vals) > 8187 || len(tab) > 8187 || len(msgs) > blkfmt.BlkSize {
			return
		}
		copy(p[8197:], tab)
		copy(p[blkfmt.BlkSize-len(msgs):], msgs)
		copy(p[8197-len(vals):8197], vals)
		copy(p, head)
		if err := kvfmt.CheckNode(p); err != nil {
			if !errors.Is(err, kvfmt.ErrNode) {
				t.Errorf("error %v", err)
			}
			return
		}
		before := bytes.Clone(p)
		walk(t, p)
		addTo(t, p)
		if !bytes.Equal(p, before) {
			t.Error("reading changed the node")
		}
	})
}

// FuzzBuild takes bytes as a script: sizes of entries and messages to build a node of. Whatever
// fits makes a good node, and what was put in comes out.
func FuzzBuild(f *testing.F) {
	f.Add(true, []byte{1, 2, 3, 200, 255, 0, 9, 9})
	f.Add(false, []byte{1, 2, 3, 200, 255, 0, 9, 9})
	f.Fuzz(func(t *testing.T, leaf bool, script []byte) {
		n := newNode(leaf)
		space := blkfmt.PivSpc
		if leaf {
			space = blkfmt.LeafSpc
		}
		var msgs []kvfmt.Msg
		entries := 0
		for i := 0; i+2 <= len(script); i += 2 {
			a, b := script[i], script[i+1]
			key := append(binary.BigEndian.AppendUint16(nil, uint16(entries)), make([]byte, a)...)
			key = key[:min(len(key), kvfmt.KeyMax)]
			if leaf || b%4 == 0 || entries == 0 {
				val := make([]byte, kvfmt.ChildSize)
				if leaf {
					val = make([]byte, 2*int(b))
				}
				if n.ValSize()+kvfmt.EntrySize(key, val) <= space {
					n.AddVal(key, val)
					entries++
				}
				continue
			}
			m := kvfmt.Msg{Op: kvfmt.Insert, Key: []byte{kvfmt.Kconf, a}, Val: bytes.Repeat([]byte{byte(i)}, int(b))}
			if n.BufSize()+m.Size() <= blkfmt.BufSpc {
				n.InsertMsg(m)
				at := len(msgs)
				for at > 0 && kvfmt.Compare(msgs[at-1].Key, m.Key) > 0 {
					at--
				}
				msgs = append(msgs[:at:at], append([]kvfmt.Msg{m}, msgs[at:]...)...)
			}
		}
		if err := kvfmt.CheckNode(n); err != nil {
			if !leaf && entries == 0 && errors.Is(err, kvfmt.ErrNode) {
				return
			}
			t.Fatal(err)
		}
		if n.Nval() != entries || n.Nbuf() != len(msgs) {
			t.Fatalf("%d entries and %d messages, want %d and %d", n.Nval(), n.Nbuf(), entries, len(msgs))
		}
		for i, want := range msgs {
			if m := n.Msg(i); m.Op != want.Op || !bytes.Equal(m.Key, want.Key) || !bytes.Equal(m.Val, want.Val) {
				t.Fatalf("message %d is %v, want %v", i, m, want)
			}
		}
		walk(t, n)
		addTo(t, n)
	})
}
