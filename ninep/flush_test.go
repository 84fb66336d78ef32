package ninep_test

import (
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// readGate makes a session in which reads of fid 1 wait at a gate, giving up when cancelled unless
// stubborn.
func readGate(t testing.TB, stubborn bool) (*rig, *ninetest.Peer, *gate) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error {
			if stubborn {
				return g.waitStubborn(c, name)
			}
			return g.wait(c, name)
		})
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	return r, p, g
}

func TestFlushedRequestThatGivesUpIsNotAnswered(t *testing.T) {
	_, p, g := readGate(t, false)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
	g.entered(t, 1)
	p.Send(&proto.TFlush{Header: tag(2), Oldtag: 1})
	p.Want(ninep.Rflush, 2)
	// Both tags are free again.
	p.Send(&proto.TStat{Header: tag(1), Fid: 1}, &proto.TStat{Header: tag(2), Fid: 1})
	p.Want(ninep.Rstat, 1)
	p.Want(ninep.Rstat, 2)
	p.WantQuiet(20 * time.Millisecond)
}

func TestFlushedRequestThatCompletesIsAnsweredFirst(t *testing.T) {
	_, p, g := readGate(t, true)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
	g.entered(t, 1)
	// Several flushes of one request, and a flush of a flush, keep their order.
	p.Send(&proto.TFlush{Header: tag(2), Oldtag: 1}, &proto.TFlush{Header: tag(3), Oldtag: 1},
		&proto.TFlush{Header: tag(4), Oldtag: 2}, &proto.TFlush{Header: tag(5), Oldtag: 77})
	p.Want(ninep.Rflush, 5) // of nothing: at once
	p.WantQuiet(20 * time.Millisecond)
	close(g.open)
	p.Want(ninep.Rread, 1)
	p.Want(ninep.Rflush, 2)
	p.Want(ninep.Rflush, 3)
	p.Want(ninep.Rflush, 4)
	p.WantQuiet(20 * time.Millisecond)
}

// One that was flushed and fails for another reason than the flush is answered with that.
func TestFlushedRequestThatFailsIsAnswered(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("stat", func(c *ninep.Ctx, name string) error {
			g.waitStubborn(c, name)
			return ninep.Error("i/o error")
		})
	})
	p := r.session()
	p.Send(&proto.TStat{Header: tag(1)})
	g.entered(t, 1)
	p.Send(&proto.TFlush{Header: tag(2), Oldtag: 1}, &proto.TFlush{Header: tag(3), Oldtag: 4})
	p.Want(ninep.Rflush, 3)
	close(g.open)
	p.WantError(1, "i/o error")
	p.Want(ninep.Rflush, 2)
}

// A request that says it was interrupted without having been is answered so.
func TestInterruptedWithoutFlushIsAnError(t *testing.T) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("stat", func(c *ninep.Ctx, name string) error {
			if name == "/" {
				c.Block()
			}
			return ninep.ErrInterrupted
		})
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	for fid := range uint32(2) {
		p.Send(&proto.TStat{Header: tag(1), Fid: fid})
		p.WantError(1, ninep.ErrInterrupted)
	}
}

func TestTagOfAnOutstandingRequestEndsTheConnection(t *testing.T) {
	for _, again := range []proto.FCall{
		&proto.TStat{Header: tag(1), Fid: 1},
		&proto.TFlush{Header: tag(1), Oldtag: 1},
		&proto.TStat{Header: tag(2), Fid: 1}, // a Tflush's
		&proto.TFlush{Header: tag(2), Oldtag: 1},
	} {
		t.Run(ninep.Format(again), func(t *testing.T) {
			_, p, g := readGate(t, true)
			defer close(g.open)
			p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5})
			g.entered(t, 1)
			p.Send(&proto.TFlush{Header: tag(2), Oldtag: 1}, &proto.TStat{Header: tag(3)}, again)
			p.Want(ninep.Rstat, 3)
			p.WantHangup()
		})
	}
}

func TestCancelledIsClosedBeforeAndAfterAsking(t *testing.T) {
	asked := make(chan bool)
	g := newGate(t)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error {
			if <-asked {
				c.Cancelled() // before Block
			}
			c.Block()
			g.in <- name
			<-g.open // flushed by now
			select {
			case <-c.Cancelled():
			case <-time.After(ninetest.Patience):
				t.Error("not cancelled")
			}
			if c.Cancelled() != c.Cancelled() {
				t.Error("two channels")
			}
			return ninep.ErrInterrupted
		})
		fs.Hook = both(fs.Hook, on("stat", func(c *ninep.Ctx, name string) error {
			select {
			case <-c.Cancelled():
				t.Error("cancelled, but nobody did")
			default:
			}
			return nil
		}))
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TRead{Header: tag(2), Fid: 1, Count: 5})
	asked <- true
	asked <- false
	g.entered(t, 2)
	p.Send(&proto.TFlush{Header: tag(11), Oldtag: 1}, &proto.TFlush{Header: tag(12), Oldtag: 2}, &proto.TStat{Header: tag(3)}, &proto.TStat{Header: tag(4)})
	p.Want(ninep.Rstat, 3)
	p.Want(ninep.Rstat, 4)
	close(g.open)
	got := map[uint16]uint8{}
	for range 2 {
		f := p.Recv()
		got[f.Tag] = f.Type
	}
	if got[11] != ninep.Rflush || got[12] != ninep.Rflush {
		t.Error(got)
	}
}

func both(a, b func(*ninep.Ctx, string, string) error) func(*ninep.Ctx, string, string) error {
	return func(c *ninep.Ctx, op, name string) error {
		if err := a(c, op, name); err != nil {
			return err
		}
		return b(c, op, name)
	}
}

func TestVersionCancelsAndWaits(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		r, p, g := readGate(t, stubborn)
		p.Send(&proto.TRead{Header: tag(1), Fid: 1, Count: 5}, &proto.TRead{Header: tag(2), Fid: 1, Count: 5})
		g.entered(t, 2)
		p.Send(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 4096, Version: "9P2000"})
		if stubborn {
			p.WantQuiet(20 * time.Millisecond)
			if n := r.fs.Live(); n != 2 {
				t.Errorf("%d Files while requests run, want 2", n)
			}
			close(g.open)
			p.Recv()
			p.Recv()
		}
		if f := p.Want(ninep.Rversion, ninep.NOTAG); f.Version.Msize != 4096 {
			t.Error(ninep.Format(f.Msg()))
		}
		if n := r.fs.Live(); n != 0 {
			t.Errorf("%d Files after Rversion", n)
		}
		p.Attach(0, "glenda")
		p.WantQuiet(10 * time.Millisecond)
	}
}
