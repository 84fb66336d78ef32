package ninep_test

import (
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// randomSource is seeded by the flag -seed.
func randomSource(t *testing.T) *rand.Rand {
	seed := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64)
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 9))
}

// TestManyClientsDoAnything lets clients send random requests, pipelined, flushed, over new sessions,
// and hang up at random, against handlers that block at random. Every request of a connection that
// stays must be answered exactly once unless it was flushed, each Rflush must come after the reply,
// and in the end no File and no goroutine may be left.
func TestManyClientsDoAnything(t *testing.T) {
	rnd := randomSource(t)
	var mu sync.Mutex
	hook := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Limits = ninep.Limits{Workers: 3, Outstanding: 6, Msize: 4096}
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			mu.Lock()
			n := hook.IntN(100)
			mu.Unlock()
			switch {
			case n < 10:
				c.Block()
			case n < 20:
				c.Sleep(func() { time.Sleep(time.Duration(n) * 10 * time.Microsecond) })
			case n < 25:
				c.Block()
				select {
				case <-c.Cancelled():
					return ninep.ErrInterrupted
				case <-time.After(time.Duration(n) * 50 * time.Microsecond):
				}
			case n < 27:
				return ninep.Error("no luck")
			}
			return nil
		}
	})
	var wg sync.WaitGroup
	for range 8 {
		seed := rnd.Uint64()
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 2))
			for range 5 {
				randomClient(t, r, rnd)
			}
		})
	}
	wg.Wait()
}

// randomClient is one connection of TestManyClientsDoAnything. It is not the test's goroutine.
func randomClient(t *testing.T, r *rig, rnd *rand.Rand) {
	c := dialQuietly(t, r)
	if c == nil {
		return
	}
	defer c.Close()
	out := map[uint16]proto.FCall{} // not answered yet
	flushed := map[uint16]bool{}    // by a Tflush that is not answered yet
	free := func() uint16 {
		for {
			if tag := uint16(rnd.IntN(200)); out[tag] == nil && !flushed[tag] {
				return tag
			}
		}
	}
	recv := func() bool {
		b, err := ninep.ReadFrame(c, nil, 1<<20)
		var f ninep.Fcall
		if err == nil {
			err = f.Decode(b)
		}
		if err != nil {
			t.Errorf("with %d requests outstanding: %v", len(out), err)
			return false
		}
		m := out[f.Tag]
		if m == nil {
			t.Errorf("unasked for: %s", ninep.Format(f.Msg()))
			return false
		}
		delete(out, f.Tag)
		if fl, ok := m.(*proto.TFlush); ok {
			if f.Type != ninep.Rflush {
				t.Errorf("%s: %s", ninep.Format(m), ninep.Format(f.Msg()))
			}
			delete(out, fl.Oldtag) // never to be answered now
			delete(flushed, fl.Oldtag)
		}
		return true
	}
	version := func() bool {
		b := ninetest.Frames(t, &proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 1 << 20, Version: "9P2000"},
			&proto.TAttach{Header: tag(999), Fid: 0, Afid: ninep.NOFID, Uname: "glenda"})
		if _, err := c.Write(b); err != nil {
			t.Error(err)
			return false
		}
		for {
			b, err := ninep.ReadFrame(c, nil, 1<<20)
			var f ninep.Fcall
			if err == nil {
				err = f.Decode(b)
			}
			if err != nil {
				t.Error(err)
				return false
			}
			switch {
			case f.Type == ninep.Rversion:
				clear(out)
				clear(flushed)
				out[999] = &proto.TAttach{}
				return recv()
			case out[f.Tag] == nil:
				t.Errorf("before Rversion: %s", ninep.Format(f.Msg()))
				return false
			}
			delete(out, f.Tag)
		}
	}
	if !version() {
		return
	}
	for range 300 {
		switch n := rnd.IntN(300); {
		case n == 0:
			return // hangs up
		case n == 1:
			if !version() {
				return
			}
		case n < 120 && len(out) > 0 || len(out) > 60:
			if !recv() {
				return
			}
			continue
		}
		var b []byte
		for range 1 + rnd.IntN(4) {
			m := randomRequest(rnd, free())
			if fl, ok := m.(*proto.TFlush); ok {
				if out[fl.Oldtag] == nil {
					continue
				}
				if _, ok := out[fl.Oldtag].(*proto.TFlush); ok || flushed[fl.Oldtag] {
					continue
				}
				flushed[fl.Oldtag] = true
			}
			out[m.GetTag()] = m
			b = append(b, ninetest.Frames(t, m)...)
		}
		if _, err := c.Write(b); err != nil {
			t.Error(err)
			return
		}
	}
	for len(out) > 0 {
		if !recv() {
			return
		}
	}
}

func dialQuietly(t *testing.T, r *rig) net.Conn {
	c, err := net.Dial(r.addr.Network(), r.addr.String())
	if err != nil {
		t.Error(err)
		return nil
	}
	c.SetDeadline(time.Now().Add(ninetest.Patience))
	return c
}

// randomRequest makes a request with some small fid.
func randomRequest(rnd *rand.Rand, tag uint16) proto.FCall {
	h := proto.Header{Tag: tag}
	fid := func() uint32 { return uint32(rnd.IntN(8)) }
	names := []string{"hello", "dir", "a", "b", "..", "nothing", "new"}
	switch rnd.IntN(14) {
	case 0:
		return &proto.TAttach{Header: h, Fid: fid(), Afid: ninep.NOFID, Uname: "glenda"}
	case 1, 2, 3:
		var path []string
		for range rnd.IntN(4) {
			path = append(path, names[rnd.IntN(len(names))])
		}
		return &proto.TWalk{Header: h, Fid: fid(), Newfid: fid(), Wname: path}
	case 4:
		return &proto.TOpen{Header: h, Fid: fid(), Mode: proto.Mode([]uint8{0, 1, 2, ninep.OWRITE | ninep.OTRUNC, ninep.ORCLOSE}[rnd.IntN(5)])}
	case 5:
		return &proto.TCreate{Header: h, Fid: fid(), Name: names[rnd.IntN(len(names))], Perm: 0666, Mode: ninep.ORDWR | uint8(rnd.IntN(2))*ninep.ORCLOSE}
	case 6, 7:
		return &proto.TRead{Header: h, Fid: fid(), Offset: uint64(rnd.IntN(20)), Count: uint32(rnd.IntN(8000))}
	case 8, 9:
		return &proto.TWrite{Header: h, Fid: fid(), Offset: uint64(rnd.IntN(20)), Data: make([]byte, rnd.IntN(4000))}
	case 10:
		return &proto.TClunk{Header: h, Fid: fid()}
	case 11:
		return &proto.TRemove{Header: h, Fid: 1 + fid()}
	case 12:
		return &proto.TFlush{Header: h, Oldtag: uint16(rnd.IntN(200))}
	}
	return &proto.TStat{Header: h, Fid: fid()}
}

// TestRandomBytesEndOnlyTheirConnection feeds the server valid sessions whose bytes are then changed,
// dropped or made up.
func TestRandomBytesEndOnlyTheirConnection(t *testing.T) {
	rnd := randomSource(t)
	r := newRig(t, nil)
	good := r.session()
	for i := range 300 {
		b := ninetest.Frames(t, &proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: "9P2000"},
			&proto.TAttach{Fid: 0, Afid: ninep.NOFID, Uname: "glenda"})
		for range 20 {
			b = append(b, ninetest.Frames(t, randomRequest(rnd, uint16(rnd.Uint32())))...)
		}
		for range rnd.IntN(8) {
			at := rnd.IntN(len(b))
			switch rnd.IntN(3) {
			case 0:
				b[at] = byte(rnd.Uint32())
			case 1:
				b = append(b[:at], b[min(len(b), at+rnd.IntN(5)):]...)
			case 2:
				b[at] ^= 1 << rnd.IntN(8)
			}
		}
		c := dialQuietly(t, r)
		if c == nil {
			return
		}
		go func() {
			c.Write(b)
			if i%2 == 0 {
				time.Sleep(time.Millisecond)
				c.Close()
			} else {
				c.(*net.TCPConn).CloseWrite()
			}
		}()
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Fatalf("no hangup for %x", b)
		}
		c.Close()
		if i%50 == 0 {
			good.RPC(&proto.TStat{Header: tag(i)})
		}
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
