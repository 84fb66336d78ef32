package ninetest

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// Patience is how long a Peer waits for the server.
const Patience = 20 * time.Second

// A Peer is the client's end of a connection, for tests: it sends frames, whole or broken, and reads
// replies one by one. Its methods end the test when they fail; use it from the test's goroutine.
type Peer struct {
	T    testing.TB
	Conn io.ReadWriteCloser

	buf []byte
}

// NewPeer makes a Peer of a connection and closes it when the test ends.
func NewPeer(t testing.TB, conn io.ReadWriteCloser) *Peer {
	t.Cleanup(func() { conn.Close() })
	return &Peer{T: t, Conn: conn}
}

// Write sends bytes as they are.
func (p *Peer) Write(b []byte) {
	p.T.Helper()
	if _, err := p.Conn.Write(b); err != nil {
		p.T.Fatalf("write: %v", err)
	}
}

// Send sends messages in one write.
func (p *Peer) Send(ms ...proto.FCall) {
	p.T.Helper()
	p.Write(Frames(p.T, ms...))
}

// Frames encodes messages one after the other.
func Frames(t testing.TB, ms ...proto.FCall) []byte {
	t.Helper()
	var b []byte
	for _, m := range ms {
		var err error
		if b, err = ninep.Append(b, m); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// read reads one frame, waiting no longer than d.
func (p *Peer) read(d time.Duration) (*ninep.Fcall, error) {
	if dl, ok := p.Conn.(interface{ SetReadDeadline(time.Time) error }); ok {
		dl.SetReadDeadline(time.Now().Add(d))
	}
	b, err := ninep.ReadFrame(p.Conn, nil, 1<<31)
	if err != nil {
		return nil, err
	}
	f := new(ninep.Fcall)
	if err := f.Decode(b); err != nil {
		return nil, fmt.Errorf("server sent %x: %w", b, err)
	}
	return f, nil
}

// Recv reads the next reply.
func (p *Peer) Recv() *ninep.Fcall {
	p.T.Helper()
	f, err := p.read(Patience)
	if err != nil {
		p.T.Fatalf("waiting for a reply: %v", err)
	}
	return f
}

// Want reads the next reply, which must be of this type and tag.
func (p *Peer) Want(typ uint8, tag uint16) *ninep.Fcall {
	p.T.Helper()
	f := p.Recv()
	if f.Type != typ || f.Tag != tag {
		p.T.Fatalf("got %s, want type %d tag %d", ninep.Format(f.Msg()), typ, tag)
	}
	return f
}

// WantError reads the next reply, which must be this error.
func (p *Peer) WantError(tag uint16, err ninep.Error) {
	p.T.Helper()
	if f := p.Want(ninep.Rerror, tag); f.Rerror.Ename != string(err) {
		p.T.Fatalf("got error %q, want %q", f.Rerror.Ename, err)
	}
}

// RPC sends a message and returns the reply, which must have its tag.
func (p *Peer) RPC(m proto.FCall) *ninep.Fcall {
	p.T.Helper()
	p.Send(m)
	f := p.Recv()
	if f.Tag != m.GetTag() {
		p.T.Fatalf("sent %s, got %s", ninep.Format(m), ninep.Format(f.Msg()))
	}
	return f
}

// WantHangup reads until the server closes the connection, failing on any reply.
func (p *Peer) WantHangup() {
	p.T.Helper()
	f, err := p.read(Patience)
	switch {
	case err == nil:
		p.T.Fatalf("got %s, want a hangup", ninep.Format(f.Msg()))
	case isTimeout(err):
		p.T.Fatalf("no hangup: %v", err)
	}
}

// WantQuiet fails if the server sends anything within d.
func (p *Peer) WantQuiet(d time.Duration) {
	p.T.Helper()
	f, err := p.read(d)
	switch {
	case err == nil:
		p.T.Fatalf("got %s, want nothing", ninep.Format(f.Msg()))
	case !isTimeout(err):
		p.T.Fatalf("got %v, want nothing", err)
	}
}

func isTimeout(err error) bool {
	var te interface{ Timeout() bool }
	return errors.As(err, &te) && te.Timeout()
}

// Version makes the connection ready for attaching.
func (p *Peer) Version(msize uint32) uint32 {
	p.T.Helper()
	f := p.RPC(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: msize, Version: ninep.Version})
	if f.Type != ninep.Rversion || f.Version.Version != ninep.Version {
		p.T.Fatalf("version: %s", ninep.Format(f.Msg()))
	}
	return f.Version.Msize
}

// Attach makes fid the root, without authentication.
func (p *Peer) Attach(fid uint32, uname string) {
	p.T.Helper()
	if f := p.RPC(&proto.TAttach{Fid: fid, Afid: ninep.NOFID, Uname: uname}); f.Type != ninep.Rattach {
		p.T.Fatalf("attach: %s", ninep.Format(f.Msg()))
	}
}

// Walk walks newfid from fid all the way.
func (p *Peer) Walk(fid, newfid uint32, names ...string) {
	p.T.Helper()
	f := p.RPC(&proto.TWalk{Fid: fid, Newfid: newfid, Wname: names})
	if f.Type != ninep.Rwalk || len(f.Rwalk.Wqid) != len(names) {
		p.T.Fatalf("walk: %s", ninep.Format(f.Msg()))
	}
}

// Open opens fid.
func (p *Peer) Open(fid uint32, mode uint8) {
	p.T.Helper()
	if f := p.RPC(&proto.TOpen{Fid: fid, Mode: proto.Mode(mode)}); f.Type != ninep.Ropen {
		p.T.Fatalf("open: %s", ninep.Format(f.Msg()))
	}
}
