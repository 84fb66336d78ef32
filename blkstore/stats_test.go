package blkstore

import (
	"errors"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

func TestQueuedBlocksAreThoseNotYetWritten(t *testing.T) {
	y := newToy(t, blkdev.NewMem(diskSize), Options{})
	before := y.st.Stats().Queued
	for k := range 20 {
		y.must(y.set(uint64(k), 1))
	}
	st := y.st.Stats()
	if st.Queued < before+20 || st.Queued > st.Dirty {
		t.Errorf("after 20 blocks %d are queued, %d dirty", st.Queued, st.Dirty)
	}
	y.must(y.commit())
	if st := y.st.Stats(); st.Queued != 0 {
		t.Errorf("after a commit %d are queued", st.Queued)
	}
	epoch := y.st.Stats().Epoch
	y.must(y.set(1, 2))
	y.st.Tick()
	if now := y.st.Stats().Epoch; now <= epoch {
		t.Errorf("the epoch is %d, and was %d", now, epoch)
	}
}

func TestBadBlocksAndRefusedReadsAreCounted(t *testing.T) {
	mem := blkdev.NewMem(diskSize)
	dev := blkdev.NewFault(mem)
	y := filled(t, dev, 3)
	buf := make([]byte, blkfmt.BlkSize)
	at := int64(y.data[0].Addr)
	if _, err := mem.ReadAt(buf, at); err != nil {
		t.Fatal(err)
	}
	buf[77] ^= 1
	if err := mem.WriteVec([][]byte{buf}, at); err != nil {
		t.Fatal(err)
	}
	refuse := errors.New("refused")
	dev.Hook(func(op blkdev.Op, off, n int64) error {
		if op == blkdev.OpRead && off == int64(y.data[1].Addr) {
			return refuse
		}
		return nil
	})
	g := y.st.Guard()
	defer y.st.FreeGuard(g)
	g.Enter()
	defer g.Leave()
	for k, want := range map[uint64]func(error) bool{
		0: func(err error) bool { return corrupt(err) != nil },
		1: func(err error) bool { return errors.Is(err, refuse) },
		2: func(err error) bool { return err == nil },
	} {
		b, err := y.st.Get(g, y.data[k], blkfmt.Data)
		if !want(err) {
			t.Errorf("block %d: %v", k, err)
		}
		y.st.Drop(b)
	}
	if st := y.st.Stats(); st.Corrupt != 1 || st.Unreadable != 1 {
		t.Errorf("%d bad blocks and %d refused reads, want one each", st.Corrupt, st.Unreadable)
	}
}
