package salvage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/internal/gefstest"
	"gefs9p/kvfmt"
	"gefs9p/salvage"
)

// An image is a disk in memory of which only blocks that hold something are kept.
type image struct {
	size   int64
	blocks map[blkfmt.Addr][]byte
	reads  int
}

func (d *image) ReadAt(p []byte, off int64) (int, error) {
	d.reads++
	clear(p)
	copy(p, d.blocks[blkfmt.Addr(off)])
	return len(p), nil
}

func (d *image) clone() *image {
	e := &image{size: d.size, blocks: map[blkfmt.Addr][]byte{}}
	for a, b := range d.blocks {
		e.blocks[a] = slices.Clone(b)
	}
	return e
}

// imageOf returns what is on dev, cut short so that a scan is quick: nothing in use lies behind.
func imageOf(t testing.TB, dev *blkdev.Mem) (*image, []blkfmt.Addr) {
	size, _ := dev.Size()
	d := &image{size: size, blocks: map[blkfmt.Addr][]byte{}}
	var addrs []blkfmt.Addr
	for a := blkfmt.Addr(0); int64(a)+blkfmt.BlkSize <= size; a += blkfmt.BlkSize {
		b := make([]byte, blkfmt.BlkSize)
		if _, err := dev.ReadAt(b, int64(a)); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			d.blocks[a] = b
			addrs = append(addrs, a)
		}
	}
	return d, addrs
}

// damage changes the disk as the script says, six bytes to a step, and repairs all hashes afterwards so that the
// damage is not found by them alone.
func (d *image) damage(addrs []blkfmt.Addr, script []byte) {
	be := binary.BigEndian
	backup := blkfmt.BackupAddr(d.size)
	repair := true
	var gone []blkfmt.Addr
	for ; len(script) >= 6; script = script[6:] {
		a := addrs[int(be.Uint16(script[1:]))%len(addrs)]
		b := d.blocks[a]
		off := int(be.Uint16(script[3:])) % blkfmt.BlkSize
		v := script[5]
		n := kvfmt.Node(b)
		isNode := kvfmt.CheckNode(b) == nil
		switch script[0] % 9 {
		case 0:
			b[off] = v
		case 1:
			b[off%64] ^= v
		case 2:
			for i := off; i < min(off+8, len(b)); i++ {
				b[i] = -(v & 1)
			}
		case 3: // a pointer leads to another block
			if isNode && n.Nval() > 0 {
				if _, p := n.Val(int(v) % n.Nval()); len(p) >= blkfmt.PtrSize {
					be.PutUint64(p[max(len(p)-blkfmt.PtrSize, 0)/48*48:], uint64(addrs[off%len(addrs)]))
				}
			}
		case 4: // a block is a copy of another
			copy(b, d.blocks[addrs[off%len(addrs)]])
		case 5: // a value says something else
			if isNode && n.Nval() > 0 {
				if _, p := n.Val(int(v) % n.Nval()); len(p) > 0 {
					p[off%len(p)] = script[2]
				}
			}
		case 6: // a key does
			if isNode && n.Nval() > 0 {
				if k := n.Key(int(v) % n.Nval()); len(k) > 1 {
					k[1+off%(len(k)-1)] = script[2]
				}
			}
		case 7: // lost, and so found by nobody
			gone = append(gone, a)
		case 8: // no superblocks
			gone = append(gone, 0, backup)
			repair = v%2 == 0
		}
	}
	if s, err := blkfmt.DecodeSuper(d.blocks[0], nil, 0); err == nil && repair {
		s.Snap.Hash = d.repair(s.Snap.Addr, map[blkfmt.Addr]bool{})
		if s.Encode(d.blocks[0]) == nil {
			d.blocks[backup] = slices.Clone(d.blocks[0])
		}
	}
	for _, a := range gone {
		delete(d.blocks, a)
	}
}

// repair makes the hashes below the block at a right, and returns its own.
func (d *image) repair(a blkfmt.Addr, seen map[blkfmt.Addr]bool) uint64 {
	b := d.blocks[a]
	if b == nil {
		return blkfmt.Metro{}.Sum(make([]byte, blkfmt.BlkSize))
	}
	n := kvfmt.Node(b)
	if !seen[a] && kvfmt.CheckNode(n) == nil {
		seen[a] = true
		fix := func(p []byte) {
			if bp := blkfmt.GetPtr(p); d.blocks[bp.Addr] != nil {
				bp.Hash = d.repair(bp.Addr, seen)
				bp.Put(p)
			}
		}
		look := func(k, v []byte) {
			switch {
			case len(v) == kvfmt.TreeSize && k[0] == kvfmt.Ksnap:
				fix(v[48:])
			case len(v) == blkfmt.PtrSize && k[0] == kvfmt.Kdat:
				fix(v)
			case len(v) == kvfmt.ChildSize && !n.Leaf():
				fix(v)
			}
		}
		for i := range n.Nval() {
			k, v := n.Val(i)
			if len(k) > 0 {
				look(k, v)
			}
		}
		for i := range n.Nbuf() {
			m := n.Msg(i)
			look(m.Key, m.Val)
		}
	}
	return blkfmt.Metro{}.Sum(b)
}

// survive salvages the disk: whatever is on it, the run must end, and the report be of one piece.
func survive(t *testing.T, d *image) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	d.reads = 0
	m := newMemory()
	r, err := salvage.Run(ctx, d, d.size, salvage.Options{All: true, Sink: m, CacheBlocks: 9})
	if ctx.Err() != nil {
		t.Fatalf("does not end: %d reads", d.reads)
	}
	if err != nil {
		return
	}
	if limit := int(4*d.size/blkfmt.BlkSize) + 4000*len(d.blocks); d.reads > limit {
		t.Errorf("%d reads for %d blocks", d.reads, len(d.blocks))
	}
	if err := r.WriteText(io.Discard); err != nil {
		t.Error(err)
	}
	p, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back salvage.Report
	if err := json.Unmarshal(p, &back); err != nil {
		t.Fatal(err)
	}
	if q, err := json.Marshal(&back); err != nil || !bytes.Equal(p, q) {
		t.Errorf("JSON that is read and written again is other JSON: %v", err)
	}
	for _, f := range r.Files {
		for i, l := range f.Lost {
			if l.Len == 0 || l.Off+l.Len > f.Length || i > 0 && l.Off <= f.Lost[i-1].Off {
				t.Errorf("%s%s of %d bytes: lost %v", f.Label, f.Path, f.Length, f.Lost)
			}
		}
		if f.Status == salvage.Whole {
			t.Errorf("%s%s is whole, and listed", f.Label, f.Path)
		}
	}
}

// tinyImage is a disk with little on it, but a snapshot, and old nodes.
func tinyImage(t testing.TB) (*image, []blkfmt.Addr) {
	size := int64(gefstest.SmallDisk)
	r := newRig(t, random(t), size)
	r.fill(20)
	r.label("then")
	r.fill2()
	return imageOf(t, r.end())
}

// fill2 makes one directory full of files, so that there are pivots.
func (r *rig) fill2() {
	r.mkdir("more")
	for i := range 250 {
		r.put("more/"+string(rune('a'+i%26))+string(rune('a'+i/26)), r.bytes(20))
		if i%100 == 99 {
			r.sync()
		}
	}
}

func TestDamagedDisksNeverPanic(t *testing.T) {
	rnd := random(t)
	base, addrs := tinyImage(t)
	n := 15 * *turns
	if raceEnabled {
		n = *turns
	}
	for i := range n {
		script := make([]byte, 6*(1+rnd.IntN(5)))
		for j := range script {
			script[j] = byte(rnd.Uint32())
		}
		d := base.clone()
		d.damage(addrs, script)
		if survive(t, d); t.Failed() {
			t.Fatalf("disk %d, script %x", i, script)
		}
	}
}

func FuzzDamagedDisk(f *testing.F) {
	base, addrs := tinyImage(f)
	f.Add([]byte{7, 0, 30, 0, 0, 0, 8, 0, 0, 0, 0, 1})
	f.Add([]byte{3, 0, 9, 0, 3, 7, 8, 0, 0, 0, 0, 0})
	f.Add([]byte{5, 0, 20, 0, 3, 1, 6, 0, 21, 0, 5, 0, 7, 0, 22, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		d := base.clone()
		d.damage(addrs, script[:min(len(script), 60)])
		survive(t, d)
	})
}
