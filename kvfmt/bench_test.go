package kvfmt_test

import (
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// fullLeaf returns a leaf of a directory, as full as it gets, and its keys.
func fullLeaf() (kvfmt.Node, [][]byte) {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitLeaf()
	var keys [][]byte
	for i := 0; ; i++ {
		key := kvfmt.AppendEntKey(nil, 7, fmt.Sprintf("file%06d", i))
		val := (&kvfmt.Dir{Qid: kvfmt.Qid{Path: uint64(i)}, Mode: 0o664}).Append(nil)
		if n.ValSize()+kvfmt.EntrySize(key, val) > blkfmt.LeafSpc {
			return n, keys
		}
		n.AddVal(key, val)
		keys = append(keys, key)
	}
}

// fullPivot returns a pivot above such leaves with both halves full, the buffer in random order of
// insertion, and the keys of its messages.
func fullPivot() (kvfmt.Node, []kvfmt.Msg) {
	n := make(kvfmt.Node, blkfmt.BlkSize)
	n.InitPivot()
	for i := 0; ; i++ {
		key := kvfmt.AppendEntKey(nil, 7, fmt.Sprintf("file%06d", 180*i))
		if n.ValSize()+2+2+len(key)+2+kvfmt.ChildSize > blkfmt.PivSpc {
			break
		}
		n.AddChild(key, blkfmt.Bptr{Addr: blkfmt.Addr(i+1) * blkfmt.BlkSize, Hash: uint64(i), Gen: 3}, 12000)
	}
	var msgs []kvfmt.Msg
	for i := 0; ; i++ {
		m := kvfmt.Msg{
			Op:  kvfmt.Wstat,
			Key: kvfmt.AppendEntKey(nil, 7, fmt.Sprintf("file%06d", i*7919%100000)),
			Val: kvfmt.AppendWstat(nil, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid, &kvfmt.Dir{}),
		}
		if n.BufSize()+m.Size() > blkfmt.BufSpc {
			return n, msgs
		}
		n.InsertMsg(m)
		msgs = append(msgs, m)
	}
}

func BenchmarkCheckLeaf(b *testing.B) {
	n, _ := fullLeaf()
	benchCheck(b, n)
}

func BenchmarkCheckPivot(b *testing.B) {
	n, _ := fullPivot()
	benchCheck(b, n)
}

func benchCheck(b *testing.B, n kvfmt.Node) {
	b.ReportAllocs()
	b.SetBytes(int64(len(n)))
	for b.Loop() {
		if err := kvfmt.CheckNode(n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearchLeaf(b *testing.B) {
	n, keys := fullLeaf()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := n.Search(keys[i%len(keys)]); !ok {
			b.Fatal("not found")
		}
		i += 37
	}
}

func BenchmarkBufSearch(b *testing.B) {
	n, msgs := fullPivot()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if n.BufSearch(msgs[i%len(msgs)].Key) == n.Nbuf() {
			b.Fatal("not found")
		}
		i += 37
	}
}

// One turn fills the buffer of a pivot.
func BenchmarkInsertMsg(b *testing.B) {
	_, msgs := fullPivot()
	n := make(kvfmt.Node, blkfmt.BlkSize)
	b.ReportAllocs()
	for b.Loop() {
		n.InitPivot()
		for _, m := range msgs {
			n.InsertMsg(m)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(msgs)), "ns/msg")
}

func BenchmarkAddVal(b *testing.B) {
	leaf, keys := fullLeaf()
	n := make(kvfmt.Node, blkfmt.BlkSize)
	b.ReportAllocs()
	for b.Loop() {
		n.InitLeaf()
		for i := range keys {
			n.AddVal(leaf.Val(i))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/entry")
}

func BenchmarkApplyWstat(b *testing.B) {
	m := kvfmt.Msg{
		Op:  kvfmt.Wstat,
		Key: kvfmt.AppendEntKey(nil, 7, "file"),
		Val: kvfmt.AppendWstat(nil, kvfmt.WLength|kvfmt.WMtime|kvfmt.WMuid, &kvfmt.Dir{}),
	}
	val, dst := (&kvfmt.Dir{}).Append(nil), make([]byte, 0, kvfmt.TreeSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := kvfmt.Apply(dst, m, val, true); err != nil {
			b.Fatal(err)
		}
	}
}
