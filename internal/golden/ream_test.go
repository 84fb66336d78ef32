package golden_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/logfmt"
)

// TestReamedDiskIsTheReferencesBitByBit writes what the reference's ream writes, with nothing but the
// format packages. It needs no golden disk: the sums are those of disks that 9front's gefs made.
func TestReamedDiskIsTheReferencesBitByBit(t *testing.T) {
	for _, tt := range []struct {
		length int64
		want   string
	}{
		{134234112, "3126d34f539ec37d8d23958d1b9134e6f6426c379f999adf4d05d7d5daa5d729"}, // fresh
		{268435456, "7cf24cddc6cf20bfee3a39e084d1ef2cb199b1a7d2b649dc50b361a51884ce23"},
	} {
		t.Run(fmt.Sprint(tt.length), func(t *testing.T) {
			blocks := ream(t, tt.length, "glenda")
			h := sha256.New()
			zero := make([]byte, blkfmt.BlkSize)
			for a := blkfmt.Addr(0); int64(a) < tt.length; a += blkfmt.BlkSize {
				if p := blocks[a]; p != nil {
					h.Write(p)
				} else {
					h.Write(zero)
				}
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != tt.want {
				t.Errorf("sha256 is %s, want %s", got, tt.want)
				t.Logf("superblock %x", blocks[0][:240])
				t.Logf("arena header %x", blocks[blkfmt.BlkSize][:34])
			}
		})
	}
}

// ream returns the blocks of a disk that are not zeros.
func ream(t *testing.T, length int64, user string) map[blkfmt.Addr][]byte {
	g, err := blkfmt.ReamGeometry(length)
	if err != nil {
		t.Fatal(err)
	}
	var hash blkfmt.Metro
	blocks := make(map[blkfmt.Addr][]byte)
	block := func(a blkfmt.Addr) []byte {
		p := make([]byte, blkfmt.BlkSize)
		blocks[a] = p
		return p
	}

	// The trees, from the leaves up. All blocks but the data are taken from arena 0, the highest first.
	top := g.Header(0) + blkfmt.Addr(g.Size)
	mainAddr, admAddr, snapAddr := top-blkfmt.BlkSize, top-2*blkfmt.BlkSize, top-3*blkfmt.BlkSize
	usersAddr := g.Header(1) + blkfmt.ArenaOverhead + blkfmt.BlkSize

	users := fmt.Sprintf("-1:adm::%s\n0:none::\n1:%s:%s:\n", user, user, user)
	data := block(usersAddr)
	copy(data, users)
	dir := func(qid uint64, mode uint32, length int) []byte {
		d := kvfmt.Dir{Qid: kvfmt.Qid{Path: qid, Type: uint8(mode >> 24)}, Mode: mode, Length: uint64(length), Uid: -1, Gid: -1}
		return d.Append(nil)
	}
	root := kvfmt.AppendEntKey(nil, kvfmt.RootPqid, "")

	leaf := kvfmt.Node(block(mainAddr))
	leaf.InitLeaf()
	leaf.AddVal(root, dir(0, 0x800001fd, 0))
	leaf.AddVal(kvfmt.AppendUpKey(nil, 0), root)
	mainRoot := blkfmt.Bptr{Addr: mainAddr, Hash: hash.Sum(leaf)}

	leaf = block(admAddr)
	leaf.InitLeaf()
	leaf.AddVal(kvfmt.AppendDatKey(nil, 2, 0), blkfmt.Bptr{Addr: usersAddr, Hash: hash.Sum(data)}.Append(nil))
	leaf.AddVal(kvfmt.AppendEntKey(nil, 1, "users"), dir(2, 0o664, len(users)))
	leaf.AddVal(root, dir(1, 0x800001fd, 0))
	leaf.AddVal(kvfmt.AppendUpKey(nil, 1), root)
	admRoot := blkfmt.Bptr{Addr: admAddr, Hash: hash.Sum(leaf)}

	leaf = block(snapAddr)
	leaf.InitLeaf()
	leaf.AddVal(kvfmt.AppendLabelKey(nil, "adm"), kvfmt.Label{Gen: 1, Flags: kvfmt.LabelMutable}.Append(nil))
	leaf.AddVal(kvfmt.AppendLabelKey(nil, "empty"), kvfmt.Label{Gen: 0}.Append(nil))
	leaf.AddVal(kvfmt.AppendLabelKey(nil, "main"), kvfmt.Label{Gen: 2, Flags: kvfmt.LabelMutable}.Append(nil))
	for _, tree := range []kvfmt.Tree{
		{Nref: 2, Nlbl: 1, Ht: 1, Gen: 0, Succ: 2, Root: mainRoot},
		{Nlbl: 1, Ht: 1, Gen: 1, Succ: blkfmt.NoGen, Root: admRoot},
		{Nlbl: 1, Ht: 1, Gen: 2, Succ: blkfmt.NoGen, Root: mainRoot},
	} {
		leaf.AddVal(kvfmt.AppendSnapKey(nil, tree.Gen), tree.Append(nil))
	}
	for _, a := range []blkfmt.Addr{mainAddr, admAddr, snapAddr} {
		if err := kvfmt.CheckNode(blocks[a]); err != nil {
			t.Fatal(err)
		}
	}

	super := blkfmt.Super{
		SnapHt: 1, Snap: blkfmt.Bptr{Addr: snapAddr, Hash: hash.Sum(leaf)},
		NextQid: 3, NextGen: 3,
	}
	for i := range g.Count {
		// The reference first writes a log that ends in a barrier, keeps the hash of that block in
		// the header, then loads the log, which drops the barrier, and appends.
		body := g.Header(i) + blkfmt.ArenaOverhead
		size := g.Size - blkfmt.ArenaUnused
		ents := logfmt.Append(nil, logfmt.Entry{Op: logfmt.Free, Addr: body, Len: size})
		ents = logfmt.Append(ents, logfmt.Entry{Op: logfmt.Alloc, Addr: body, Len: blkfmt.BlkSize})
		used := g.Size - size + blkfmt.BlkSize
		p := block(body)
		copy(p[blkfmt.LogHdSize:], logfmt.Append(ents, logfmt.Entry{Op: logfmt.Sync}))
		blkfmt.EncodeLogHdr(p, blkfmt.LogHdr{Type: blkfmt.Log, Size: len(ents) + 8, Chain: blkfmt.NoPtr}, hash)
		first := hash.Sum(p)

		var taken []blkfmt.Addr
		switch i {
		case 0:
			taken = []blkfmt.Addr{mainAddr, admAddr, snapAddr}
		case 1:
			taken = []blkfmt.Addr{usersAddr}
		}
		for _, a := range taken {
			ents = logfmt.Append(ents, logfmt.Range(logfmt.Alloc, a, blkfmt.BlkSize))
			used += blkfmt.BlkSize
		}
		copy(p[blkfmt.LogHdSize:], ents)
		blkfmt.EncodeLogHdr(p, blkfmt.LogHdr{Type: blkfmt.Log, Size: len(ents), Chain: blkfmt.NoPtr}, hash)

		hdr := blkfmt.ArenaHdr{Log: blkfmt.Bptr{Addr: body, Hash: first}, Size: g.Size, Used: used}
		hdr.Encode(block(g.Header(i)))
		hdr.Encode(block(g.Header(i) + blkfmt.BlkSize))
		super.Arenas = append(super.Arenas, blkfmt.ArenaRef{Addr: g.Header(i), Hash: hash.Sum(blocks[g.Header(i)])})
	}
	for _, a := range []blkfmt.Addr{0, g.Backup} {
		if err := super.Encode(block(a)); err != nil {
			t.Fatal(err)
		}
	}
	return blocks
}
