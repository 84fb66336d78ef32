package kvfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

func TestBadKeysAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, key string }{
		{"nothing", ``},
		{"unknown kind", `07 0000000000000001`},
		{"data key cut", `00 0000000000000002 00000000000040`},
		{"data key longer", `00 0000000000000002 0000000000004000 00`},
		{"entry cut in its parent", `01 00000000000000`},
		{"entry without name", `01 0000000000000001`},
		{"entry cut in its length", `01 0000000000000001 00`},
		{"entry without zero", `01 0000000000000001 0005 7573657273`},
		{"entry with something else for zero", `01 0000000000000001 0005 7573657273 01`},
		{"entry said to be shorter", `01 0000000000000001 0004 7573657273 00`},
		{"entry said to be longer", `01 0000000000000001 0006 7573657273 00`},
		{"entry said to be as long as it gets", `01 0000000000000001 ffff 7573657273 00`},
		{"up key cut", `02 00000000000000`},
		{"up key longer", `02 000000000000000000`},
		{"snapshot key cut", `04 00000000000000`},
		{"snapshot key longer", `04 000000000000000000`},
		{"deadlist key cut", `05 0000000000000002 00000000000040`},
		{"deadlist key longer", `05 0000000000000002 0000000000004000 00`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := unhex(t, tt.key)
			if err := kvfmt.CheckKey(key); !errors.Is(err, kvfmt.ErrKey) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, k := range [][]byte{kvfmt.AppendLabelKey(nil, strings.Repeat("x", 256)), kvfmt.AppendEntKey(nil, 1, strings.Repeat("x", 245))} {
		if err := kvfmt.CheckKey(k); !errors.Is(err, kvfmt.ErrKey) {
			t.Errorf("key of %d bytes: error %v", len(k), err)
		}
	}
	if err := kvfmt.CheckKey(kvfmt.AppendEntKey(nil, 1, strings.Repeat("x", kvfmt.NameMax))); err != nil {
		t.Errorf("longest name: %v", err)
	}
}

func TestKeysOfAnotherKindAreRefused(t *testing.T) {
	keys := [][]byte{
		kvfmt.Kdat: kvfmt.AppendDatKey(nil, 1, 2), kvfmt.Kent: kvfmt.AppendEntKey(nil, 1, "a"), kvfmt.Kup: kvfmt.AppendUpKey(nil, 1),
		kvfmt.Klabel: kvfmt.AppendLabelKey(nil, "a"), kvfmt.Ksnap: kvfmt.AppendSnapKey(nil, 1),
		kvfmt.Kdlist: kvfmt.AppendDlistKey(nil, 1, 2), kvfmt.Kconf: kvfmt.AppendConfKey(nil, "a"),
	}
	for kind, get := range map[byte]func([]byte) error{
		kvfmt.Kdat:   func(k []byte) error { _, _, err := kvfmt.GetDat(k); return err },
		kvfmt.Kent:   func(k []byte) error { _, err := kvfmt.GetEnt(k); return err },
		kvfmt.Kup:    func(k []byte) error { _, err := kvfmt.GetUp(k); return err },
		kvfmt.Ksnap:  func(k []byte) error { _, err := kvfmt.GetSnapKey(k); return err },
		kvfmt.Kdlist: func(k []byte) error { _, _, err := kvfmt.GetDlistKey(k); return err },
	} {
		for other, k := range keys {
			if err := get(k); (err == nil) != (byte(other) == kind) || err != nil && !errors.Is(err, kvfmt.ErrKey) {
				t.Errorf("key %x as one of kind %d: error %v", k, kind, err)
			}
		}
		if err := get(nil); !errors.Is(err, kvfmt.ErrKey) {
			t.Errorf("no key as one of kind %d: error %v", kind, err)
		}
	}
}

func TestDirectoriesAreOrderedByNameLengthFirst(t *testing.T) {
	names := []string{"", "a", "b", "\xff", "aa", "ab", "zz", "aaa"}
	for i := range names[1:] {
		a, b := kvfmt.AppendEntKey(nil, 7, names[i]), kvfmt.AppendEntKey(nil, 7, names[i+1])
		if kvfmt.Compare(a, b) >= 0 {
			t.Errorf("%q is not below %q", names[i], names[i+1])
		}
	}
	if kvfmt.Compare([]byte{1, 2}, []byte{1, 2, 0}) >= 0 || kvfmt.Compare([]byte{0x80}, []byte{0x7f, 1}) <= 0 || kvfmt.Compare([]byte{5}, []byte{5}) != 0 {
		t.Error("keys do not compare as unsigned bytes, a prefix first")
	}
}

func TestValuesOfAnotherLengthAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		good []byte
		get  func([]byte) error
	}{
		{"directory entry", usersDir.Append(nil), func(p []byte) error { _, err := kvfmt.GetDir(p); return err }},
		{"block pointer", make([]byte, blkfmt.PtrSize), func(p []byte) error { _, err := kvfmt.GetDatVal(p); return err }},
		{"tree", mainTree.Append(nil), func(p []byte) error { _, err := kvfmt.GetTree(p); return err }},
		{"label", kvfmt.Label{Gen: 1}.Append(nil), func(p []byte) error { _, err := kvfmt.GetLabel(p); return err }},
		{"deadlist", kvfmt.Dlist{}.Append(nil), func(p []byte) error { _, err := kvfmt.GetDlist(p); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.get(tt.good); err != nil {
				t.Error(err)
			}
			long := append(bytes.Clone(tt.good), 0)
			for n := range len(long) + 1 {
				if err := tt.get(long[:n]); n != len(tt.good) && !errors.Is(err, kvfmt.ErrValue) {
					t.Errorf("%d bytes: error %v", n, err)
				}
			}
		})
	}
}

func TestValuesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, ht := range []int32{0, -1, blkfmt.MaxHeight + 1, math.MaxInt32, math.MinInt32} {
		tr := mainTree
		tr.Ht = ht
		if _, err := kvfmt.GetTree(tr.Append(nil)); !errors.Is(err, kvfmt.ErrValue) {
			t.Errorf("tree of height %d: error %v", ht, err)
		}
	}
	l := kvfmt.Label{Gen: 1}.Append(nil)
	for _, kind := range []byte{0, kvfmt.Klabel, 0xff} {
		l[0] = kind
		if _, err := kvfmt.GetLabel(l); !errors.Is(err, kvfmt.ErrValue) {
			t.Errorf("label of kind %d: error %v", kind, err)
		}
	}
}

func TestLabelKeepsFlagsItDoesNotKnow(t *testing.T) {
	p := kvfmt.Label{Gen: 1, Flags: 0xfffffffe}.Append(nil)
	if l, err := kvfmt.GetLabel(p); err != nil || l.Flags != 0xfffffffe || !bytes.Equal(l.Append(nil), p) {
		t.Errorf("%+v, error %v", l, err)
	}
}

func drawBytes(t *rapid.T, n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes") }

// Any bytes of the right length are a value, and are written as they were read.
func TestValuesAreWrittenAsTheyWereRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawBytes(t, kvfmt.DirSize)
		if d, err := kvfmt.GetDir(p); err != nil || !bytes.Equal(d.Append(nil), p) {
			t.Fatalf("directory entry: %v", err)
		}
		p = drawBytes(t, blkfmt.PtrSize)
		if bp, err := kvfmt.GetDatVal(p); err != nil || !bytes.Equal(bp.Append(nil), p) {
			t.Fatalf("block pointer: %v", err)
		}
		p = drawBytes(t, kvfmt.DlistSize)
		if d, err := kvfmt.GetDlist(p); err != nil || !bytes.Equal(d.Append(nil), p) {
			t.Fatalf("deadlist: %v", err)
		}
		p = append([]byte{kvfmt.Ksnap}, drawBytes(t, kvfmt.LabelSize-1)...)
		if l, err := kvfmt.GetLabel(p); err != nil || !bytes.Equal(l.Append(nil), p) {
			t.Fatalf("label: %v", err)
		}
		p = drawBytes(t, kvfmt.TreeSize)
		binary.BigEndian.PutUint32(p[8:], rapid.Uint32Range(1, blkfmt.MaxHeight).Draw(t, "height"))
		if tr, err := kvfmt.GetTree(p); err != nil || !bytes.Equal(tr.Append(nil), p) {
			t.Fatalf("tree: %v", err)
		}
	})
}

func TestKeysAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		name := string(rapid.SliceOfN(rapid.Byte(), 0, kvfmt.NameMax).Draw(t, "name"))
		if qid, off, err := kvfmt.GetDat(kvfmt.AppendDatKey(nil, a, b)); err != nil || qid != a || off != b {
			t.Fatalf("data key: %d %d, error %v", qid, off, err)
		}
		key := kvfmt.AppendEntKey(nil, a, name)
		if e, err := kvfmt.GetEnt(key); err != nil || e.Pqid != a || e.Name != name {
			t.Fatalf("entry key: %+v, error %v", e, err)
		}
		if !bytes.HasPrefix(key, kvfmt.AppendEntPrefix(nil, a)) {
			t.Fatal("an entry does not have its directory's prefix")
		}
		if qid, err := kvfmt.GetUp(kvfmt.AppendUpKey(nil, a)); err != nil || qid != a {
			t.Fatalf("up key: %d, error %v", qid, err)
		}
		if gen, err := kvfmt.GetSnapKey(kvfmt.AppendSnapKey(nil, blkfmt.Gen(a))); err != nil || gen != blkfmt.Gen(a) {
			t.Fatalf("snapshot key: %d, error %v", gen, err)
		}
		gen, bgen, err := kvfmt.GetDlistKey(kvfmt.AppendDlistKey(nil, blkfmt.Gen(a), blkfmt.Gen(b)))
		if err != nil || gen != blkfmt.Gen(a) || bgen != blkfmt.Gen(b) {
			t.Fatalf("deadlist key: %d %d, error %v", gen, bgen, err)
		}
		// Numbers are in order; signed ones are not, they stand as they are stored.
		if c := kvfmt.Compare(kvfmt.AppendDatKey(nil, 1, a), kvfmt.AppendDatKey(nil, 1, b)); (c < 0) != (a < b) || (c == 0) != (a == b) {
			t.Fatalf("offsets %d and %d compare as %d", a, b, c)
		}
	})
}

func TestBadMessagesAreRefused(t *testing.T) {
	ent, dat, snap := kvfmt.AppendEntKey(nil, 1, "a"), kvfmt.AppendDatKey(nil, 1, 0), kvfmt.AppendSnapKey(nil, 1)
	link := kvfmt.AppendLink(nil, 1, 0, 0)
	for _, tt := range []struct {
		name string
		m    kvfmt.Msg
	}{
		{"nop", kvfmt.Msg{Op: 0, Key: ent}},
		{"op 8", kvfmt.Msg{Op: 8, Key: ent}},
		{"no key", kvfmt.Msg{Op: kvfmt.Insert}},
		{"long key", kvfmt.Msg{Op: kvfmt.Insert, Key: make([]byte, 257)}},
		{"long payload", kvfmt.Msg{Op: kvfmt.Insert, Key: ent, Val: make([]byte, 513)}},
		{"clearb of an entry", kvfmt.Msg{Op: kvfmt.Clearb, Key: ent}},
		{"clobber of data", kvfmt.Msg{Op: kvfmt.Clobber, Key: dat}},
		{"clobber of a snapshot", kvfmt.Msg{Op: kvfmt.Clobber, Key: snap}},
		{"wstat of data", kvfmt.Msg{Op: kvfmt.Wstat, Key: dat, Val: []byte{0}}},
		{"wstat without payload", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent}},
		{"wstat with an unknown field", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{0x80}}},
		{"wstat with less than it says", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{kvfmt.WMode, 0, 0, 0}}},
		{"wstat with more than it says", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{kvfmt.WMode, 0, 0, 0, 0, 0}}},
		{"relink of an entry", kvfmt.Msg{Op: kvfmt.Relink, Key: ent, Val: link}},
		{"relink cut", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: link[:9]}},
		{"reprev of a label", kvfmt.Msg{Op: kvfmt.Reprev, Key: kvfmt.AppendLabelKey(nil, "x"), Val: link}},
		{"reprev longer", kvfmt.Msg{Op: kvfmt.Reprev, Key: snap, Val: append(link[:10:10], 0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := kvfmt.CheckMsg(tt.m); !errors.Is(err, kvfmt.ErrMsg) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, m := range []kvfmt.Msg{
		{Op: kvfmt.Insert, Key: ent, Val: make([]byte, 512)},
		{Op: kvfmt.Delete, Key: snap},
		{Op: kvfmt.Delete, Key: ent, Val: []byte{0}}, // as the reference wrote until April 2025
		{Op: kvfmt.Clearb, Key: dat},
		{Op: kvfmt.Clobber, Key: ent},
		{Op: kvfmt.Clobber, Key: kvfmt.AppendUpKey(nil, 1)},
		{Op: kvfmt.Wstat, Key: ent, Val: []byte{0}},
		{Op: kvfmt.Wstat, Key: ent, Val: append([]byte{0x7f}, make([]byte, 40)...)},
		{Op: kvfmt.Relink, Key: snap, Val: link},
		{Op: kvfmt.Reprev, Key: snap, Val: link},
	} {
		if err := kvfmt.CheckMsg(m); err != nil {
			t.Errorf("%v of %x: %v", m.Op, m.Key, err)
		}
	}
}

func TestApplyRefusesWhatItCannotDo(t *testing.T) {
	ent, snap := kvfmt.AppendEntKey(nil, 1, "a"), kvfmt.AppendSnapKey(nil, 1)
	dir, tree := usersDir.Append(nil), mainTree.Append(nil)
	full := mainTree
	full.Nref, full.Nlbl = math.MaxInt32, math.MaxInt32
	for _, tt := range []struct {
		name    string
		m       kvfmt.Msg
		cur     []byte
		present bool
		want    error
	}{
		{"delete of nothing", kvfmt.Msg{Op: kvfmt.Delete, Key: ent}, nil, false, kvfmt.ErrMissing},
		{"wstat of nothing", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{0}}, dir, false, kvfmt.ErrMissing},
		{"relink of nothing", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: make([]byte, 10)}, tree, false, kvfmt.ErrMissing},
		{"reprev of nothing", kvfmt.Msg{Op: kvfmt.Reprev, Key: snap, Val: make([]byte, 10)}, tree, false, kvfmt.ErrMissing},
		{"nop", kvfmt.Msg{Op: 0, Key: ent}, dir, true, kvfmt.ErrMsg},
		{"op 8 of nothing", kvfmt.Msg{Op: 8, Key: ent}, nil, false, kvfmt.ErrMsg},
		{"wstat of no directory entry", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{0}}, dir[:60], true, kvfmt.ErrValue},
		{"wstat cut", kvfmt.Msg{Op: kvfmt.Wstat, Key: ent, Val: []byte{1}}, dir, true, kvfmt.ErrMsg},
		{"relink of no tree", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: make([]byte, 10)}, dir, true, kvfmt.ErrValue},
		{"relink cut", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: make([]byte, 9)}, tree, true, kvfmt.ErrMsg},
		{"one reference too few", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: kvfmt.AppendLink(nil, 1, 0, -1)}, tree, true, kvfmt.ErrMsg},
		{"two labels less than one", kvfmt.Msg{Op: kvfmt.Reprev, Key: snap, Val: kvfmt.AppendLink(nil, 1, -2, 0)}, tree, true, kvfmt.ErrMsg},
		{"too many references", kvfmt.Msg{Op: kvfmt.Relink, Key: snap, Val: kvfmt.AppendLink(nil, 1, 0, 1)}, full.Append(nil), true, kvfmt.ErrMsg},
		{"too many labels", kvfmt.Msg{Op: kvfmt.Reprev, Key: snap, Val: kvfmt.AppendLink(nil, 1, 1, 0)}, full.Append(nil), true, kvfmt.ErrMsg},
	} {
		t.Run(tt.name, func(t *testing.T) {
			val, present, err := kvfmt.Apply(nil, tt.m, tt.cur, tt.present)
			if !errors.Is(err, tt.want) || val != nil || present {
				t.Errorf("%x, %v, error %v, want %v", val, present, err, tt.want)
			}
		})
	}
}

// A patch model of a value: fields are changed where they stand, without decoding.
type model struct {
	val     []byte
	present bool
}

func (m *model) apply(msg kvfmt.Msg) (ok bool) {
	be := binary.BigEndian
	v := msg.Val
	take := func(n int) []byte { p := v[:n]; v = v[n:]; return p }
	switch msg.Op {
	case kvfmt.Insert:
		*m = model{bytes.Clone(msg.Val), true}
		return true
	case kvfmt.Clearb, kvfmt.Clobber:
		*m = model{}
		return true
	}
	if !m.present {
		return false
	}
	switch msg.Op {
	case kvfmt.Delete:
		*m = model{}
	case kvfmt.Wstat:
		p := m.val
		be.PutUint32(p[16:], be.Uint32(p[16:])+1)
		mask := take(1)[0]
		for bit, f := range [...]struct{ at, n int }{{41, 8}, {21, 4}, {33, 8}, {25, 8}, {49, 4}, {53, 4}, {57, 4}} {
			if mask&(1<<bit) != 0 {
				copy(p[f.at:], take(f.n))
			}
		}
		if mask&2 != 0 {
			p[20] = p[21]
		}
	case kvfmt.Relink, kvfmt.Reprev:
		p := bytes.Clone(m.val)
		if msg.Op == kvfmt.Relink {
			copy(p[32:], take(8))
		} else {
			copy(p[24:], take(8))
		}
		for _, at := range []int{4, 0} {
			n := int64(int32(be.Uint32(p[at:]))) + int64(int8(take(1)[0]))
			if n < 0 || n > math.MaxInt32 {
				return false
			}
			be.PutUint32(p[at:], uint32(n))
		}
		m.val = p
	}
	return true
}

// Messages for one key in a row, some of them for a value that is not there.
func TestApplyIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]byte{kvfmt.Kdat, kvfmt.Kent, kvfmt.Ksnap}).Draw(t, "kind")
		drawMsg := func() kvfmt.Msg {
			m := kvfmt.Msg{}
			switch kind {
			case kvfmt.Kdat:
				m.Key = kvfmt.AppendDatKey(nil, 1, 0)
				if m.Op = rapid.SampledFrom([]kvfmt.Op{kvfmt.Insert, kvfmt.Delete, kvfmt.Clearb}).Draw(t, "op"); m.Op == kvfmt.Insert {
					m.Val = drawBytes(t, blkfmt.PtrSize)
				}
			case kvfmt.Kent:
				m.Key = kvfmt.AppendEntKey(nil, 1, "a")
				switch m.Op = rapid.SampledFrom([]kvfmt.Op{kvfmt.Insert, kvfmt.Delete, kvfmt.Clobber, kvfmt.Wstat, kvfmt.Wstat, kvfmt.Wstat}).Draw(t, "op"); m.Op {
				case kvfmt.Insert:
					m.Val = drawBytes(t, kvfmt.DirSize)
				case kvfmt.Wstat:
					d, err := kvfmt.GetDir(drawBytes(t, kvfmt.DirSize))
					if err != nil {
						t.Fatal(err)
					}
					m.Val = kvfmt.AppendWstat(nil, rapid.Uint8Range(0, 0x7f).Draw(t, "mask"), &d)
				}
			case kvfmt.Ksnap:
				m.Key = kvfmt.AppendSnapKey(nil, 1)
				switch m.Op = rapid.SampledFrom([]kvfmt.Op{kvfmt.Insert, kvfmt.Delete, kvfmt.Relink, kvfmt.Relink, kvfmt.Reprev, kvfmt.Reprev}).Draw(t, "op"); m.Op {
				case kvfmt.Insert:
					m.Val = drawBytes(t, kvfmt.TreeSize)
					be := binary.BigEndian
					be.PutUint32(m.Val, uint32(rapid.Int32Range(0, math.MaxInt32).Draw(t, "nref")))
					be.PutUint32(m.Val[4:], uint32(rapid.Int32Range(0, math.MaxInt32).Draw(t, "nlbl")))
					be.PutUint32(m.Val[8:], rapid.Uint32Range(1, blkfmt.MaxHeight).Draw(t, "height"))
				case kvfmt.Relink, kvfmt.Reprev:
					m.Val = kvfmt.AppendLink(nil, blkfmt.Gen(rapid.Int64().Draw(t, "link")), rapid.Int8().Draw(t, "nlbl"), rapid.Int8().Draw(t, "nref"))
				}
			}
			return m
		}
		var want model
		var cur []byte
		var bufs [2][kvfmt.TreeSize]byte
		present, spare := false, 0 // spare is the buffer that cur is not in
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			m := drawMsg()
			if err := kvfmt.CheckMsg(m); err != nil {
				t.Fatal(err)
			}
			before := slices.Clone(cur)
			val, there, err := kvfmt.Apply(bufs[spare][:0], m, cur, present)
			if !bytes.Equal(cur, before) {
				t.Fatalf("%v changed the value it was given", m.Op)
			}
			if ok := want.apply(m); ok != (err == nil) {
				t.Fatalf("%v: error %v, the model says %v", m.Op, err, ok)
			}
			if err != nil {
				continue
			}
			if there != want.present || there && !bytes.Equal(val, want.val) {
				t.Fatalf("%v made %x, %v of %x, %v; the model says %x, %v", m.Op, val, there, before, present, want.val, want.present)
			}
			cur, present, spare = val, there, 1-spare
		}
	})
}

func TestApplyDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, kvfmt.TreeSize)
	dir, tree := usersDir.Append(nil), mainTree.Append(nil)
	wstat := kvfmt.Msg{Op: kvfmt.Wstat, Key: kvfmt.AppendEntKey(nil, 1, "a"), Val: kvfmt.AppendWstat(nil, 0x7f, &usersDir)}
	relink := kvfmt.Msg{Op: kvfmt.Relink, Key: kvfmt.AppendSnapKey(nil, 1), Val: kvfmt.AppendLink(nil, 1, 0, 0)}
	if n := testing.AllocsPerRun(100, func() {
		kvfmt.Apply(dst, wstat, dir, true)
		kvfmt.Apply(dst, relink, tree, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
