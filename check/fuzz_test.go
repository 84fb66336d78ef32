package check

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")
	turns = flag.Int("turns", 60*effort, "disks that TestDamagedDisksNeverPanic makes")
)

// random returns a source of randomness whose seed is printed if the test fails.
func random(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

// damage changes d as the script says, four bytes to a step: what to do, the block, and where in
// it. All hashes are good afterwards, so that the damage is not found by them alone.
func damage(d *disk, addrs []blkfmt.Addr, script []byte) {
	be := binary.BigEndian
	for ; len(script) >= 6; script = script[6:] {
		a := addrs[int(be.Uint16(script[1:]))%len(addrs)]
		b := d.block(a)
		off := int(be.Uint16(script[3:])) % blk
		v := script[5]
		if !hasNode(d, a) {
			off %= 200 // the rest of most other blocks means nothing
		}
		switch script[0] % 7 {
		case 0:
			b[off] = v
		case 1:
			b[off%64] ^= v
		case 2:
			b[off] ^= 1 << (v % 8)
		case 3: // a field becomes all ones or zeros
			for i := off; i < min(off+8, blk); i++ {
				b[i] = -(v & 1)
			}
		case 4: // a pointer leads to another block of the disk
			if n := kvfmt.Node(b); hasNode(d, a) && n.Nval() > 0 {
				_, p := n.Val(int(v) % n.Nval())
				if len(p) >= blkfmt.PtrSize {
					be.PutUint64(p, uint64(addrs[off%len(addrs)]))
				}
			}
		case 5: // a block becomes a copy of another
			copy(b, d.blocks[addrs[off%len(addrs)]])
		case 6: // the superblock says something else
			s := d.super(nil)
			switch v % 6 {
			case 0:
				s.SnapHt = int(v/6)%blkfmt.MaxHeight + 1
			case 1:
				s.Snap.Addr = a
			case 2:
				s.NextGen = blkfmt.Gen(off)
			case 3:
				s.Qgen = int64(off)
			case 4:
				s.Arenas[off%len(s.Arenas)].Addr = a
			case 5:
				s.Arenas = s.Arenas[:1+off%len(s.Arenas)]
			}
			if s.Encode(make([]byte, blk)) == nil {
				d.super(func(t *blkfmt.Super) { *t = *s })
			}
		}
	}
	d.repair(len(script)%2 == 0)
}

func hasNode(d *disk, a blkfmt.Addr) bool { return kvfmt.CheckNode(d.blocks[a]) == nil }

// used returns the blocks of d but for the superblocks, in order.
func (d *disk) used() []blkfmt.Addr {
	var as []blkfmt.Addr
	for a, b := range d.blocks {
		if a != 0 && a != d.backup() && slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			as = append(as, a)
		}
	}
	slices.Sort(as)
	return as
}

// survive checks d: whatever is on it, the run must end, and the report be of one piece.
func survive(t *testing.T, d *disk) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d.reads = 0
	r, err := Run(ctx, d, d.size, Options{CacheBlocks: 7})
	if err != nil {
		t.Fatal(err)
	}
	if d.reads > 4000+400*len(d.blocks) {
		t.Errorf("%d reads for %d blocks", d.reads, len(d.blocks))
	}
	if err := r.WriteText(io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	n := 0
	for _, k := range r.ByKind {
		n += k
	}
	if f := r.Found; n != f[Note]+f[Leak]+f[Error]+f[Fatal] {
		t.Errorf("%d problems by kind, %v by severity", n, f)
	}
	if r.Clean(false) && !r.Complete {
		t.Errorf("clean, though not everything could be read:\n%s", text(t, r))
	}
}

func TestDamagedDisksNeverPanic(t *testing.T) {
	rnd := random(t)
	bases := []*disk{sample()}
	if !testing.Short() && !raceEnabled {
		for _, name := range []string{"snaps", "tree"} {
			t.Run(name, func(t *testing.T) { bases = append(bases, fromGolden(t, name)) }) // skips without the disks
		}
	}
	for i := range *turns {
		base := bases[0]
		if i%8 == 0 {
			base = bases[i/8%len(bases)]
		}
		script := make([]byte, 6*(1+rnd.IntN(4)))
		for j := range script {
			script[j] = byte(rnd.Uint32())
		}
		d := base.clone()
		damage(d, base.used(), script)
		if survive(t, d); t.Failed() {
			t.Fatalf("disk %d, script %x", i, script)
		}
	}
}

func FuzzDamagedDisk(f *testing.F) {
	base := sample()
	addrs := base.used()
	f.Add([]byte{0, 0, 9, 0, 3, 7})
	f.Add([]byte{4, 0, 20, 0, 3, 1, 4, 0, 21, 0, 5, 0})
	f.Add([]byte{6, 0, 20, 0, 3, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		d := base.clone()
		damage(d, addrs, script[:min(len(script), 60)])
		survive(t, d)
	})
}
