package kvfmt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// unhex returns the bytes written in s, blanks aside.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// golden returns a node of the reference; see testdata/README.md.
func golden(t testing.TB, name string) kvfmt.Node {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	p = append(p, make([]byte, blkfmt.BlkSize-len(p))...)
	if err := kvfmt.CheckNode(p); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

func goldenNames() []string {
	return []string{"fresh-adm.blk", "snaps-snap.blk", "tree-pivot.blk", "tree-leaf.blk"}
}

func TestSizesOfTheFormat(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"KeyMax", kvfmt.KeyMax, 256}, {"ValMax", kvfmt.ValMax, 512}, {"NameMax", kvfmt.NameMax, 244},
		{"DirSize", kvfmt.DirSize, 61}, {"DatKeySize", kvfmt.DatKeySize, 17}, {"EntPrefix", kvfmt.EntPrefix, 9},
		{"UpKeySize", kvfmt.UpKeySize, 9}, {"SnapKeySize", kvfmt.SnapKeySize, 9}, {"DlistKeySize", kvfmt.DlistKeySize, 17},
		{"DlistSize", kvfmt.DlistSize, 48}, {"TreeSize", kvfmt.TreeSize, 72}, {"LabelSize", kvfmt.LabelSize, 13},
		{"ChildSize", kvfmt.ChildSize, 26}, {"LinkSize", kvfmt.LinkSize, 10},
		{"MsgMax", kvfmt.MsgMax, 2 + 1 + 2 + 256 + 2 + 512}, {"EntryMax", kvfmt.EntryMax, 2 + 2 + 256 + 2 + 512},
		{"ChildMax", kvfmt.ChildMax, 288},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %d, the format says %d", tt.name, tt.got, tt.want)
		}
	}
}

func TestKeysOfTheReference(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  []byte
		want string
	}{
		{"entry", kvfmt.AppendEntKey(nil, 1, "users"), `01 0000000000000001 0005 7573657273 00`},
		{"root", kvfmt.AppendEntKey(nil, kvfmt.RootPqid, ""), `01 ffffffffffffffff 0000 00`},
		{"data", kvfmt.AppendDatKey(nil, 2, 0x4000), `00 0000000000000002 0000000000004000`},
		{"up", kvfmt.AppendUpKey(nil, 0), `02 0000000000000000`},
		{"label", kvfmt.AppendLabelKey(nil, "main"), `03 6d61696e`},
		{"snapshot", kvfmt.AppendSnapKey(nil, 2), `04 0000000000000002`},
		{"deadlist", kvfmt.AppendDlistKey(nil, 11, 9), `05 000000000000000b 0000000000000009`},
		{"config", kvfmt.AppendConfKey(nil, "retain"), `06 72657461696e`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if want := unhex(t, tt.want); !bytes.Equal(tt.key, want) {
				t.Errorf("%x, want %x", tt.key, want)
			}
			if err := kvfmt.CheckKey(tt.key); err != nil {
				t.Error(err)
			}
		})
	}
	if got, want := kvfmt.AppendEntPrefix(nil, 1), kvfmt.AppendEntKey(nil, 1, "x")[:kvfmt.EntPrefix]; !bytes.Equal(got, want) {
		t.Errorf("prefix %x, want %x", got, want)
	}
}

// The values of a disk reamed by the reference.
var (
	usersDir = kvfmt.Dir{Qid: kvfmt.Qid{Path: 2}, Mode: 0o664, Length: 41, Uid: -1, Gid: -1}
	mainTree = kvfmt.Tree{Nlbl: 1, Ht: 1, Gen: 2, Succ: blkfmt.NoGen, Root: blkfmt.Bptr{Addr: 0x1ff4000, Hash: 0x6fe6f157eb324dbd}}
)

func TestValuesOfTheReference(t *testing.T) {
	p := unhex(t, `0000000000000000 0000000000000002 00000000 00 000001b4 0000000000000000 0000000000000000
		0000000000000029 ffffffff ffffffff 00000000`)
	if d, err := kvfmt.GetDir(p); err != nil || d != usersDir || !bytes.Equal(d.Append(nil), p) {
		t.Errorf("entry of the users file: %+v, error %v", d, err)
	}
	p = unhex(t, `00000000 00000001 00000001 00000000 0000000000000002 0000000000000000 ffffffffffffffff 0000000000000000
		0000000001ff4000 6fe6f157eb324dbd 0000000000000000`)
	if tr, err := kvfmt.GetTree(p); err != nil || tr != mainTree || !bytes.Equal(tr.Append(nil), p) {
		t.Errorf("tree of main: %+v, error %v", tr, err)
	}
	p = unhex(t, `04 0000000000000002 00000001`)
	want := kvfmt.Label{Gen: 2, Flags: kvfmt.LabelMutable}
	if l, err := kvfmt.GetLabel(p); err != nil || l != want || !bytes.Equal(l.Append(nil), p) {
		t.Errorf("label main: %+v, error %v", l, err)
	}
}

func TestMessagesOfTheReference(t *testing.T) {
	const now = 0x0123456789abcdef
	d := kvfmt.Dir{Length: 5, Mtime: now, Muid: 1}
	if got, want := kvfmt.AppendWstat(nil, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid, &d), unhex(t, `45 0000000000000005 0123456789abcdef 00000001`); !bytes.Equal(got, want) {
		t.Errorf("write that extends: %x, want %x", got, want)
	}
	if got := kvfmt.AppendWstat(nil, 0, &d); !bytes.Equal(got, []byte{0}) {
		t.Errorf("version only: %x", got)
	}
	if got, want := kvfmt.AppendLink(nil, 9, -1, 1), unhex(t, `0000000000000009 ff 01`); !bytes.Equal(got, want) {
		t.Errorf("relink: %x, want %x", got, want)
	}
	for op, want := range map[kvfmt.Op]string{
		0: "nop", 1: "insert", 2: "delete", 3: "clearb", 4: "clobber", 5: "wstat", 6: "relink", 7: "reprev", 8: "op 8", 255: "op 255",
	} {
		if op.String() != want {
			t.Errorf("op %d is called %q, want %q", uint8(op), op, want)
		}
	}
	for op := range kvfmt.Op(9) {
		if want := op == 3 || op == 4; op.Clears() != want {
			t.Errorf("%v.Clears() is %v", op, !want)
		}
	}
}

// The root leaf of main after ream.
func TestLeafOfTheReference(t *testing.T) {
	root := kvfmt.AppendEntKey(nil, kvfmt.RootPqid, "")
	dir := (&kvfmt.Dir{Qid: kvfmt.Qid{Type: 0x80}, Mode: 0x800001fd, Uid: -1, Gid: -1}).Append(nil)
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitLeaf()
	n.AddVal(root, dir)
	n.AddVal(kvfmt.AppendUpKey(nil, 0), root)
	for _, tt := range []struct {
		at   int
		want string
	}{
		{0, `0002 0002 0066 3fad 3f94`},
		{0x3fb3, `000c 01 ffffffffffffffff 0000 00 003d`},
		{0x3f9a, `0009 02 0000000000000000 000c 01ffffffffffffffff000000`},
	} {
		if want := unhex(t, tt.want); !bytes.Equal(n[tt.at:tt.at+len(want)], want) {
			t.Errorf("at %#x: %x, want %x", tt.at, n[tt.at:tt.at+len(want)], want)
		}
	}
	if got := (blkfmt.Metro{}).Sum(n); got != mainTree.Root.Hash {
		t.Errorf("hash %016x, the reference's is %016x", got, mainTree.Root.Hash)
	}
	if n.ValSize() != 4+0x66 || n.Fill() != n.ValSize() || n.Nbuf() != 0 || n.BufSize() != 0 {
		t.Errorf("sizes %d %d, %d messages of %d bytes", n.ValSize(), n.Fill(), n.Nbuf(), n.BufSize())
	}
}

// A root pivot that the reference wrote: its first child and its first message.
func TestPivotOfTheReference(t *testing.T) {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitPivot()
	bp := blkfmt.Bptr{Addr: 0x7ea8000, Hash: 0x4915307f3f22c17e, Gen: 5}
	n.AddChild(kvfmt.AppendEntKey(nil, 0, "file000000"), bp, 0x12c6)
	n.InsertMsg(kvfmt.Msg{Op: kvfmt.Delete, Key: kvfmt.AppendEntKey(nil, 0, "file000093")})
	for _, tt := range []struct {
		at   int
		want string
	}{
		{0, `0001 0001 0034 0001 001b 1fc7`},
		{8145, `0016 01 0000000000000000 000a 66696c65303030303030 00 001a 0000000007ea8000 4915307f3f22c17e 0000000000000005 12c6`},
		{8197, `1fe0`},
		{16357, `02 0016 01 0000000000000000 000a 66696c65303030303933 00 0000`},
	} {
		if want := unhex(t, tt.want); !bytes.Equal(n[tt.at:tt.at+len(want)], want) {
			t.Errorf("at %d: %x, want %x", tt.at, n[tt.at:tt.at+len(want)], want)
		}
	}
	if got, fill := n.Child(0); got != bp || fill != 0x12c6 {
		t.Errorf("child %v of %d bytes", got, fill)
	}
	if n.ValSize() != 2+0x34 || n.BufSize() != 2+0x1b || n.Fill() != 4+0x34+0x1b {
		t.Errorf("sizes %d %d %d", n.ValSize(), n.BufSize(), n.Fill())
	}
}

// Golden nodes built anew are the same, byte by byte, outside their free space. The reference packs
// values in the order of their keys, messages in that of their arrival.
func TestGoldenNodesAreBuiltTheSame(t *testing.T) {
	be := binary.BigEndian
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) {
			n, m := golden(t, name), make(kvfmt.Node, blkfmt.BlkSize)
			var order []int
			if n.Leaf() {
				m.InitLeaf()
				clear(n[6+2*n.Nval() : blkfmt.BlkSize-int(be.Uint16(n[4:]))])
			} else {
				m.InitPivot()
				clear(n[10+2*n.Nval() : 8197-int(be.Uint16(n[4:]))])
				clear(n[8197+2*n.Nbuf() : blkfmt.BlkSize-int(be.Uint16(n[8:]))])
				for i := range n.Nbuf() {
					order = append(order, i)
				}
				slices.SortFunc(order, func(i, j int) int { return int(be.Uint16(n[8197+2*j:])) - int(be.Uint16(n[8197+2*i:])) })
			}
			for i := range n.Nval() {
				m.AddVal(n.Val(i))
			}
			for _, i := range order {
				m.InsertMsg(n.Msg(i))
			}
			if !bytes.Equal(m, n) {
				t.Error("built anew it differs")
			}
			walk(t, n)
		})
	}
}

func TestGoldenNodesHoldWhatTheyShould(t *testing.T) {
	adm := golden(t, "fresh-adm.blk")
	var keys []string
	for i := range adm.Nval() {
		keys = append(keys, hex.EncodeToString(adm.Key(i)))
	}
	want := []string{
		"0000000000000000020000000000000000", "01000000000000000100057573657273" + "00",
		"01ffffffffffffffff000000", "020000000000000001",
	}
	if d := cmp.Diff(want, keys); d != "" {
		t.Error(d)
	}
	_, v := adm.Val(1)
	if d, err := kvfmt.GetDir(v); err != nil || d != usersDir {
		t.Errorf("users file: %+v, error %v", d, err)
	}

	pivot := golden(t, "tree-pivot.blk")
	if pivot.Nval() != 36 || pivot.Nbuf() != 202 || pivot.Leaf() {
		t.Errorf("%d children, %d messages", pivot.Nval(), pivot.Nbuf())
	}
	ops := make(map[kvfmt.Op]int)
	for i := range pivot.Nbuf() {
		ops[pivot.Msg(i).Op]++
	}
	if d := cmp.Diff(map[kvfmt.Op]int{kvfmt.Insert: 47, kvfmt.Delete: 36, kvfmt.Clearb: 66, kvfmt.Clobber: 2, kvfmt.Wstat: 51}, ops); d != "" {
		t.Error(d)
	}
	leaf := golden(t, "tree-leaf.blk")
	found := false
	for i := range pivot.Nval() {
		if bp, fill := pivot.Child(i); bp.Addr == 0x2f78000 {
			found = bp.Hash == blkfmt.Metro{}.Sum(leaf) && fill == leaf.Fill() && bytes.Equal(pivot.Key(i), leaf.FirstKey())
		}
	}
	if !found {
		t.Error("the pivot does not say what the leaf holds")
	}

	kinds := make(map[byte]int)
	snap := golden(t, "snaps-snap.blk")
	for i := range snap.Nval() {
		key, val := snap.Val(i)
		kinds[key[0]]++
		var err error
		switch key[0] {
		case kvfmt.Klabel:
			_, err = kvfmt.GetLabel(val)
		case kvfmt.Ksnap:
			var gen blkfmt.Gen
			var tr kvfmt.Tree
			gen, _ = kvfmt.GetSnapKey(key)
			if tr, err = kvfmt.GetTree(val); tr.Gen != gen {
				t.Errorf("tree %d under the key of %d", tr.Gen, gen)
			}
		case kvfmt.Kdlist:
			var d kvfmt.Dlist
			if d, err = kvfmt.GetDlist(val); !d.Hd.Addr.Block() || !d.Tl.Addr.Block() {
				t.Errorf("deadlist %+v", d)
			}
		}
		if err != nil {
			t.Errorf("key %x: %v", key, err)
		}
	}
	if d := cmp.Diff(map[byte]int{kvfmt.Klabel: 26, kvfmt.Ksnap: 10, kvfmt.Kdlist: 8}, kinds); d != "" {
		t.Error(d)
	}
}
