package gefs_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var pipelineSeed = flag.Uint64("pipeline.seed", 0, "seed of the test of pipelined nonsense; 0 takes one from the clock")

// TestPipelinedNonsense has clients send messages about a few fids and names without waiting for any
// answer, whatever the fids may be at that moment, so that requests on one fid overtake each other and
// meet in every combination. Every message is answered, and the disk is in order.
func TestPipelinedNonsense(t *testing.T) {
	seed := *pipelineSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-pipeline.seed=%d", seed)
	rounds := 3000
	if raceEnabled || testing.Short() {
		rounds = 600
	}
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{CommitEvery: 10 * time.Millisecond})
	top := w.as("glenda", "%")
	top.mkdir("d0", 0777)
	top.mkdir("d1", 0777)
	w.snapshot("main", "old", false)
	var wg sync.WaitGroup
	var conns []*client.Conn
	for i, who := range []string{"glenda", "bob", "alice", "glenda"} {
		conn := w.srv.Dial()
		conns = append(conns, conn)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { nonsense(t, conn, rng, who, rounds) })
	}
	wg.Wait()
	// What they have open with ORCLOSE goes when they hang up; that must be over before we look.
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, "the end of the connections", func() bool { return w.srv.NumConns() == 1 })
	if err := w.fs.Err(); err != nil {
		t.Errorf("the file system takes no changes: %v", err)
	}
	// It still works.
	top.put("after", 0644, "after")
	if got := top.get("after"); got != "after" {
		t.Errorf("read %q", got)
	}
	before := gefstest.Tree(t, top.root)
	w.restart()
	gefstest.SameTree(t, "after a restart", gefstest.Tree(t, w.as("glenda", "%").root), before)
	w.end()
}

// nonsense sends messages, at most 64 of them unanswered at a time.
func nonsense(t *testing.T, conn *client.Conn, rng *rand.Rand, who string, rounds int) {
	if _, err := conn.Attach(who, ""); err != nil { // fid 0, which stays
		t.Error(err)
		return
	}
	fid := func() uint32 { return uint32(rng.IntN(9)) } // sometimes the root
	name := func() string {
		return []string{"d0", "d1", "a", "b", "c", "..", fmt.Sprint("n", rng.IntN(9)), "bad/name", ""}[rng.IntN(9)]
	}
	big := make([]byte, 70*blk)
	var calls []*client.Call
	for range rounds {
		var m proto.FCall
		switch rng.IntN(22) {
		case 0, 1, 2:
			var names []string
			for range rng.IntN(3) {
				names = append(names, name())
			}
			m = &proto.TWalk{Fid: fid(), Newfid: fid(), Wname: names}
		case 3, 4, 5:
			perm := []uint32{0666, 0600, ninep.DMDIR | 0777, ninep.DMAPPEND | 0666, ninep.DMEXCL | 0666}[rng.IntN(5)]
			m = &proto.TCreate{Fid: 1 + fid()%8, Name: name(), Perm: perm, Mode: uint8(rng.IntN(4)) | uint8(rng.IntN(3)/2*ninep.ORCLOSE)}
		case 6, 7:
			m = &proto.TOpen{Fid: 1 + fid()%8, Mode: proto.Mode(uint8(rng.IntN(4)) | uint8(rng.IntN(2)*ninep.OTRUNC) | uint8(rng.IntN(6)/5*ninep.ORCLOSE))}
		case 8, 9:
			m = &proto.TRead{Fid: fid(), Offset: uint64(rng.IntN(3) * rng.IntN(80*blk)), Count: uint32(rng.IntN(100000))}
		case 10, 11, 12:
			m = &proto.TWrite{Fid: fid(), Offset: uint64(rng.IntN(100 * blk)), Data: big[:rng.IntN(3*blk)]}
			if rng.IntN(8) == 0 {
				m = &proto.TWrite{Fid: fid(), Data: big[:min(len(big), int(conn.Msize())-ninep.IOHDRSZ)]}
			}
		case 13:
			m = &proto.TStat{Fid: fid()}
		case 14, 15:
			d := ninep.NullDir()
			if rng.IntN(2) == 0 {
				d.Name = name()
			}
			if rng.IntN(2) == 0 {
				d.Length = uint64(rng.IntN(90 * blk))
			}
			if rng.IntN(4) == 0 {
				d.Mode = 0666
			}
			m = &proto.TWstat{Fid: 1 + fid()%8, Stat: proto.Stat(d)}
		case 16:
			m = &proto.TRemove{Fid: 1 + fid()%8}
		case 17, 18, 19:
			m = &proto.TClunk{Fid: 1 + fid()%8}
		case 20:
			m = &proto.TAttach{Fid: 1 + fid()%8, Afid: ninep.NOFID, Uname: who, Aname: []string{"", "old", "dump", "main"}[rng.IntN(4)]}
		case 21:
			if len(calls) > 0 {
				if err := calls[rng.IntN(len(calls))].Flush(); err != nil {
					t.Errorf("flush: %v", err)
					return
				}
			}
			continue
		}
		call, err := conn.Start(m)
		if err != nil {
			t.Errorf("send %s: %v", ninep.Format(m), err)
			return
		}
		calls = append(calls, call)
		for len(calls) > 64 {
			if !answered(t, calls[0]) {
				return
			}
			calls = calls[1:]
		}
	}
	for _, call := range calls {
		answered(t, call)
	}
}

// answered waits for the answer, whatever it is, and reports whether the connection goes on.
func answered(t *testing.T, call *client.Call) bool {
	select {
	case <-call.Done():
	case <-time.After(30 * time.Second):
		t.Error("no answer for 30 s")
		return false
	}
	var r ninep.Fcall
	switch err := call.Wait(&r).(type) {
	case nil, client.Error:
		return true
	default:
		if err == client.ErrFlushed {
			return true
		}
		t.Errorf("the connection ended: %v", err)
		return false
	}
}
