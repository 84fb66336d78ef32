package damage

import (
	"encoding/binary"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// StepSize is the number of bytes of a script that say one thing to do.
const StepSize = 8

// Play damages the disk on dev as the script says, StepSize bytes to a step, and makes all hashes good
// again, so that the damage is one of meaning. blocks are those of the disk, as Survey gives them. Every
// script means something, and the same to every copy of a disk. It fails only if the device does.
func Play(dev *blkdev.Mem, blocks []Block, script []byte) error {
	p := &player{walk: newWalk(dev), blocks: blocks}
	for ; len(script) >= StepSize; script = script[StepSize:] {
		p.step(script)
	}
	if err := Repair(dev); err != nil {
		return err
	}
	return p.err
}

type player struct {
	*walk
	blocks []Block
}

func (p *player) pick(n uint16) Block { return p.blocks[int(n)%len(p.blocks)] }

// step does what one step says: what, a block, a place in it, a value.
func (p *player) step(s []byte) {
	be := binary.BigEndian
	what, b, at, val := s[0], p.pick(be.Uint16(s[1:])), int(be.Uint16(s[3:])), s[5]
	other := p.pick(be.Uint16(s[6:]))
	if b.Type == blkfmt.SuperBlk {
		p.super(at, val, other)
		return
	}
	buf := p.read(b.Addr)
	if buf == nil {
		return
	}
	n := kvfmt.Node(buf)
	node := (b.Type == blkfmt.Pivot || b.Type == blkfmt.Leaf) && kvfmt.CheckNode(n) == nil
	switch what % 8 {
	case 0: // a byte, where the header and the first entries are
		buf[at%300] = val
	case 1: // a bit anywhere
		buf[at%len(buf)] ^= 1 << (val % 8)
	case 2: // a whole field
		for i := at % 300; i < at%300+8; i++ {
			buf[i] = -(val & 1)
		}
	case 3: // a block is a copy of another
		if q := p.read(other.Addr); q != nil {
			copy(buf, q)
		}
	case 4: // an address leads elsewhere
		if slot := p.slot(n, node, at); slot != nil {
			be.PutUint64(slot, uint64(other.Addr))
		} else {
			be.PutUint64(buf[at%40*8+int(val%8):], uint64(other.Addr))
		}
	default: // a byte of an entry
		if part := p.part(n, node, at); len(part) > 0 {
			part[int(val>>3)%len(part)] ^= 1 << (val % 8)
		} else {
			buf[at%100] += val
		}
	}
	p.write(buf, b.Addr)
}

// slot returns a pointer in a node, nil if the entry that at names has none.
func (p *player) slot(n kvfmt.Node, node bool, at int) []byte {
	if !node || n.Nval() == 0 {
		return nil
	}
	k, v := n.Val(at % n.Nval())
	switch {
	case len(v) == kvfmt.TreeSize && k[0] == kvfmt.Ksnap:
		return v[rootAt:]
	case len(v) >= blkfmt.PtrSize && (!n.Leaf() || k[0] == kvfmt.Kdat || k[0] == kvfmt.Kdlist):
		return v
	}
	return nil
}

// part returns a key or value, of an entry or a message.
func (p *player) part(n kvfmt.Node, node bool, at int) []byte {
	if !node || n.Nval()+n.Nbuf() == 0 {
		return nil
	}
	i := at / 2 % (n.Nval() + n.Nbuf())
	var k, v []byte
	if i < n.Nval() {
		k, v = n.Val(i)
	} else {
		m := n.Msg(i - n.Nval())
		k, v = m.Key, m.Val
	}
	if at%2 == 0 && len(v) > 0 {
		return v
	}
	return k
}

// super changes a field of the superblock to something that can be encoded.
func (p *player) super(at int, val byte, other Block) {
	buf := p.read(0)
	if buf == nil {
		return
	}
	s, err := blkfmt.DecodeSuper(buf, nil, 0)
	if err != nil {
		p.bad("%w", err)
		return
	}
	switch val % 8 {
	case 0:
		s.SnapHt = 1 + at%blkfmt.MaxHeight
	case 1:
		s.Snap.Addr = other.Addr
	case 2:
		s.NextGen = blkfmt.Gen(at % 64)
	case 3:
		s.NextQid = uint64(at)
	case 4:
		s.Qgen += int64(at%64) - 32
	case 5:
		s.Arenas[at%len(s.Arenas)].Addr = other.Addr
	case 6:
		s.Arenas = s.Arenas[:1+at%len(s.Arenas)]
	case 7:
		s.NextGen = blkfmt.Gen(int64(uint64(at) << 48))
	}
	if s.Encode(buf) == nil {
		p.write(buf, 0)
	}
}
