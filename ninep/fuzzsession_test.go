package ninep_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// FuzzSession sends what the bytes say, as requests: each takes a byte that selects it and three more for
// its numbers, so that fids, tags, flushes, new versions and auth fids collide; 0xff sends the rest as it
// is. Handlers block where the bytes say so, and the session may change the dialect. Whatever it is, there is
// one reply to a request at most, every reply is one of the dialect, the connection ends when the client hangs
// up, and every File is clunked once.
func FuzzSession(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b := make([]byte, 40+rnd.IntN(200))
		for i := range b {
			b[i] = byte(rnd.Uint32()) & 0x7f
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x00\x00\x00\xff\x19\x00\x00\x00\x76\x01\x00"))
	f.Add([]byte{13, 1, 9, 0, 8, 2, 9, 0, 9, 3, 9, 0, 12, 4, 1, 9})
	// 9P2000.u: attach by number, create, stat, special files, wstat by number, list; then 9P2000 again.
	f.Add([]byte{
		15, 0, 0, 84, 15, 1, 64, 1, 3, 2, 8, 4, 8, 3, 4, 4, 15, 4, 36, 0, 3, 5, 8, 1, 15, 6, 65, 3, 15, 7, 65, 0,
		3, 8, 8, 10, 15, 9, 66, 0, 15, 10, 66, 1, 15, 11, 66, 32, 3, 12, 0, 3, 15, 13, 67, 1, 15, 14, 67, 0,
		6, 15, 0, 0, 9, 16, 0, 5, 15, 0, 0, 80, 0, 1, 0, 0, 15, 2, 32, 0,
	})
	f.Add([]byte{15, 0, 0, 81, 0, 1, 0, 0, 15, 4, 33, 0, 11, 5, 0, 0}) // 9P2000.L
	f.Fuzz(func(t *testing.T, in []byte) {
		fs := ninetest.New()
		fs.Put("hello", []byte("hello, world\n"))
		fs.Put("dir/a", []byte("a"))
		if len(in)%3 == 0 {
			fs.Secret = "x"
		}
		fs.Hook = func(c *ninep.Ctx, op, name string) error {
			if len(in) > 8 && (len(op)+len(name)+int(in[7]))%4 == 0 {
				c.Block()
			}
			return nil
		}
		s := &ninep.Server{FS: ninetest.Numbered{FS: fs}, Limits: ninep.Limits{Workers: 2, Outstanding: 3, Fids: 6, Msize: 4096, Held: 8 << 10, Output: 8 << 10}}
		pieces := sessionBytes(t, in)
		unanswered := requestsOf(slices.Concat(pieces...))
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			s.ServeConn(context.Background(), server)
			close(done)
		}()
		replies := make(chan error, 1)
		go func() {
			var b []byte
			var err error
			dialect := ninep.Plan9
			for err == nil {
				if b, err = ninep.ReadFrame(client, b, 8192); err != nil {
					break
				}
				var fc ninep.Fcall
				err = fc.DecodeAs(b, dialect)
				if err != nil && fc.Decode(b) == nil && fc.Rerror.Ename == string(ninep.ErrMsize) {
					err = nil // to a Tversion, which is of no dialect
				}
				switch {
				case err != nil:
				case fc.Type&1 == 0:
					err = fmt.Errorf("a request, of type %d", fc.Type)
				case unanswered[fc.Tag] == 0:
					err = fmt.Errorf("one reply too many, of type %d with tag %d", fc.Type, fc.Tag)
				case fc.Type == ninep.Rerror && fc.Rerror.Ename == string(ninep.ErrMsize):
					dialect = ninep.Plan9
				case fc.Type == ninep.Rversion:
					dialect = ninetest.DialectOf(fc.Version.Version)
				}
				if err != nil {
					client.Close()
					replies <- err
					return
				}
				unanswered[fc.Tag]--
			}
			replies <- nil
		}()
		client.SetWriteDeadline(time.Now().Add(ninetest.Patience))
		for _, b := range pieces {
			if _, err := client.Write(b); err != nil {
				break // hung up on
			}
		}
		client.Close()
		if err := <-replies; err != nil {
			t.Fatalf("the server sent what is no reply: %v", err)
		}
		select {
		case <-done:
		case <-time.After(ninetest.Patience):
			t.Fatal("the connection does not end")
		}
		s.Shutdown(context.Background())
		if n := fs.Live(); n != 0 {
			t.Errorf("%d Files never clunked", n)
		}
		for _, m := range fs.Misuse() {
			t.Errorf("misuse: %s", m)
		}
	})
}

// requestsOf counts the frames in b by their tags, as far as sizes lead.
func requestsOf(b []byte) map[uint16]int {
	count := map[uint16]int{}
	for len(b) >= ninep.HeaderSize {
		size := binary.LittleEndian.Uint32(b)
		if size < ninep.HeaderSize || uint64(size) > uint64(len(b)) {
			break
		}
		count[binary.LittleEndian.Uint16(b[5:])]++
		b = b[size:]
	}
	return count
}

// sessionBytes makes of the bytes what is written, piece by piece.
func sessionBytes(t *testing.T, in []byte) (out [][]byte) {
	dialect := ninep.Plan9
	frame := func(m proto.FCall) { out = append(out, ninetest.FramesIn(t, dialect, m)) }
	version := func(v string, msize uint32) {
		frame(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: msize, Version: v})
		dialect = ninetest.DialectOf(v)
	}
	// special adds what only 9P2000.u has.
	special := func(h proto.Header, fid, x, y uint32) {
		u := ninep.NullUnixPart()
		var m proto.FCall
		switch x % 4 {
		case 0:
			m, u.NUname = &proto.TAttach{Header: h, Fid: fid, Afid: ninep.NOFID}, 999+y%3
		case 1:
			m = &proto.TCreate{Header: h, Fid: fid, Name: "special", Perm: 0666 | (y&0x3f)<<20, Mode: ninep.OAPPEND}
			u.Extension = "to"[:y%3]
		case 2:
			d := ninep.NullDir()
			d.Mode = y << 16
			m, u.Nuid = &proto.TWstat{Header: h, Fid: fid, Stat: proto.Stat(d)}, 999+y%3
		case 3:
			m = &proto.TWstat{Header: h, Fid: fid, Stat: proto.Stat(ninep.NullDir())}
			u.Extension = "to"[:y%3]
		}
		b, err := ninep.AppendUnix(nil, m, &u)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	version("9P2000", 4096)
	names := []string{"hello", "dir", "a", "..", "new", ""}
	modes := []uint8{ninep.OREAD, ninep.OWRITE, ninep.ORDWR, ninep.OWRITE | ninep.OTRUNC, ninep.ORDWR | ninep.ORCLOSE, 0xff}
	for ; len(in) >= 4; in = in[4:] {
		x, y := uint32(in[2]), uint32(in[3])
		h, fid, newfid := proto.Header{Tag: uint16(in[1] % 32)}, x%8, y%8
		switch in[0] % 16 {
		case 0, 1:
			frame(&proto.TAttach{Header: h, Fid: fid, Afid: ninep.NOFID, Uname: "glenda"})
		case 2:
			frame(&proto.TAttach{Header: h, Fid: fid, Afid: newfid, Uname: "glenda"})
		case 3, 4, 5:
			wname := []string{names[x/8%6], names[y/8%6]}[:(x+y)%3]
			frame(&proto.TWalk{Header: h, Fid: fid, Newfid: newfid, Nwname: uint16(len(wname)), Wname: wname})
		case 6, 7:
			frame(&proto.TOpen{Header: h, Fid: fid, Mode: proto.Mode(modes[y%6])})
		case 8:
			frame(&proto.TCreate{Header: h, Fid: fid, Name: names[y%6], Perm: 0666 | x&1*ninep.DMDIR, Mode: modes[x%6]})
		case 9:
			frame(&proto.TRead{Header: h, Fid: fid, Offset: uint64(x), Count: y * y * y * 300})
		case 10:
			frame(&proto.TWrite{Header: h, Fid: fid, Offset: uint64(x), Count: y * 10, Data: make([]byte, y*10)})
		case 11:
			frame(&proto.TClunk{Header: h, Fid: fid})
		case 12:
			frame(&proto.TFlush{Header: h, Oldtag: uint16(y % 32)})
		case 13:
			frame(&proto.TAuth{Header: h, Afid: fid, Uname: "glenda"})
		case 14:
			frame(&proto.TRemove{Header: h, Fid: fid})
		case 15:
			switch {
			case in[0] == 0xff:
				return append(out, in[1:])
			case x < 32:
				version([]string{"9P2000", "9P2000.L", "9P1999", "", "9P2000.u"}[y%5], 100*y)
			case x >= 64 && dialect == ninep.Unix:
				special(h, fid, x, y)
			default:
				frame(&proto.TStat{Header: h, Fid: fid})
			}
		}
	}
	return out
}
