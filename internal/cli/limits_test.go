package cli

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// dialRaw connects to a server's socket.
func dialRaw(t *testing.T, addr string) *ninetest.Peer {
	t.Helper()
	c, err := net.Dial("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ninetest.NewPeer(t, c)
}

// TestLimitsAreFlags sets every limit of serve, goes beyond it, and has the answer that the flag promises.
func TestLimitsAreFlags(t *testing.T) {
	t.Run("connections and fids", func(t *testing.T) {
		disk := newDisk(t)
		start(t, 1, "serve", "-m", "16M", "--max-conns", "2", "--max-fids", "3", disk)
		p := dialRaw(t, disk+".sock")
		p.Version(8192)
		p.Attach(0, "glenda")
		p.Walk(0, 1)
		p.Walk(0, 2)
		p.Send(&proto.TWalk{Header: proto.Header{Tag: 1}, Fid: 0, Newfid: 3})
		p.WantError(1, ninep.ErrTooManyFids)
		dialRaw(t, disk+".sock").Version(8192)
		third := dialRaw(t, disk+".sock")
		third.WantError(ninep.NOTAG, ninep.ErrTooManyConn)
		third.WantHangup()
	})
	t.Run("idle", func(t *testing.T) {
		disk := newDisk(t)
		start(t, 1, "serve", "-m", "16M", "--idle-time", "300ms", disk)
		began := time.Now()
		half := dialRaw(t, disk+".sock") // never says a word
		p := dialRaw(t, disk+".sock")
		p.Version(8192)
		half.WantHangup()
		p.WantHangup()
		if d := time.Since(began); d < 250*time.Millisecond {
			t.Errorf("hung up after %v", d)
		}
	})
	t.Run("frame", func(t *testing.T) {
		disk := newDisk(t)
		start(t, 1, "serve", "-m", "16M", "--frame-time", "300ms", disk)
		p := dialRaw(t, disk+".sock")
		p.Version(8192)
		p.WantQuiet(500 * time.Millisecond) // between messages there is time
		p.Write([]byte{100, 0, 0})
		p.WantHangup()
	})
	t.Run("write and output", func(t *testing.T) {
		disk := newDisk(t)
		l := start(t, 1, "serve", "-m", "16M", "--write-time", "300ms", "--max-output", "64K", "--max-held", "256K", "--max-requests", "4", disk)
		p := dialRaw(t, disk+".sock")
		p.Version(64 << 10)
		p.Attach(0, "glenda")
		p.Walk(0, 1)
		if f := p.RPC(&proto.TCreate{Fid: 1, Name: "big", Perm: 0600, Mode: ninep.ORDWR}); f.Type != ninep.Rcreate {
			t.Fatal(ninep.Format(f.Msg()))
		}
		p.RPC(&proto.TWrite{Fid: 1, Count: 60000, Data: make([]byte, 60000)})
		frame := ninetest.Frames(t, &proto.TRead{Fid: 1, Count: 60000})
		for began := time.Now(); ; {
			if _, err := p.Conn.Write(frame); err != nil {
				break // who reads nothing is hung up on
			}
			if time.Since(began) > ninetest.Patience {
				t.Fatal("a client that reads nothing is served for ever")
			}
		}
		l.attach(l.addrs[0])
	})
	dir := t.TempDir()
	for flag, say := range map[string]string{
		"--max-conns=-1": "fewer than none", "--max-fids=-1": "fewer than none", "--max-requests=-1": "fewer than none",
		"--max-held=2G": "more than 1G", "--max-output=2G": "more than 1G", "--max-held=x": "max-held",
		"--frame-time=-1s": "negative", "--write-time=-1s": "negative", "--idle-time=-1s": "negative",
	} {
		refused(t, dir, exitUsage, []string{say, strings.Split(flag, "=")[0]}, "serve", flag, "disk")
	}
}

// TestLimitsThatAreGivenCount: a flag overrides what little memory makes of the limits, all others stay.
func TestLimitsThatAreGivenCount(t *testing.T) {
	given := limitFlags{conns: 1, fids: 2, requests: 3, held: 4, output: 5, frameTime: 6, writeTime: 7, idle: 8}
	l := connLimits(64<<20, 16<<20)
	before := l
	new(limitFlags).apply(&l)
	if l != before {
		t.Errorf("without flags the limits are %+v, want %+v", l, before)
	}
	given.apply(&l)
	want := ninep.Limits{Msize: before.Msize, Conns: 1, Fids: 2, Outstanding: 3, Held: 4, Output: 5, FrameTime: 6, WriteTime: 7, IdleTime: 8}
	if l != want {
		t.Errorf("the limits are %+v, want %+v", l, want)
	}
}
