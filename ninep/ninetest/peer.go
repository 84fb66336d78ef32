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

	// Dialect is what the last Rversion has agreed on; none since a Tversion, whose answer is in no dialect.
	// In 9P2000.u and 9P2000.L messages that are sent have no numbers of users.
	Dialect ninep.Dialect
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
	p.Write(FramesIn(p.T, p.Dialect, ms...))
	for _, m := range ms {
		p.sent(m)
	}
}

// sent takes note of a message that was sent.
func (p *Peer) sent(m proto.FCall) {
	if _, ok := m.(*proto.TRVersion); ok {
		p.Dialect = ninep.Plan9
	}
}

// Frames encodes messages one after the other.
func Frames(t testing.TB, ms ...proto.FCall) []byte {
	t.Helper()
	return FramesIn(t, ninep.Plan9, ms...)
}

// FramesIn is Frames in a dialect, without numbers of users.
func FramesIn(t testing.TB, d ninep.Dialect, ms ...proto.FCall) []byte {
	t.Helper()
	var b []byte
	nothing := ninep.NullUnixPart()
	for _, m := range ms {
		var err error
		if b, err = appendIn(b, d, m, &nothing); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// appendIn adds the frame of a message of 9P2000 in a dialect.
func appendIn(b []byte, d ninep.Dialect, m proto.FCall, u *ninep.UnixPart) ([]byte, error) {
	switch m.(type) {
	case *proto.TAuth, *proto.TAttach:
		if d != ninep.Plan9 { // 9P2000.L has the same
			return ninep.AppendUnix(b, m, u)
		}
	default:
		if d == ninep.Unix {
			return ninep.AppendUnix(b, m, u)
		}
	}
	return ninep.Append(b, m)
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
	if err := f.DecodeAs(b, p.Dialect); err != nil {
		return nil, fmt.Errorf("server sent %x: %w", b, err)
	}
	if f.Type == ninep.Rversion {
		p.Dialect = DialectOf(f.Version.Version)
	}
	return f, nil
}

// DialectOf is the dialect of an Rversion.
func DialectOf(version string) ninep.Dialect {
	for _, d := range []ninep.Dialect{ninep.Unix, ninep.Linux} {
		if version == d.String() {
			return d
		}
	}
	return ninep.Plan9
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
		p.T.Fatalf("got %s, want type %d tag %d", f.Text(p.Dialect), typ, tag)
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
		p.T.Fatalf("sent %s, got %s", ninep.Format(m), f.Text(p.Dialect))
	}
	return f
}

// WantHangup reads until the server closes the connection, failing on any reply.
func (p *Peer) WantHangup() {
	p.T.Helper()
	f, err := p.read(Patience)
	switch {
	case err == nil:
		p.T.Fatalf("got %s, want a hangup", f.Text(p.Dialect))
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
		p.T.Fatalf("got %s, want nothing", f.Text(p.Dialect))
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
		p.T.Fatalf("version: %s", f.Text(p.Dialect))
	}
	return f.Version.Msize
}

// Attach makes fid the root, without authentication.
func (p *Peer) Attach(fid uint32, uname string) {
	p.T.Helper()
	if f := p.RPC(&proto.TAttach{Fid: fid, Afid: ninep.NOFID, Uname: uname}); f.Type != ninep.Rattach {
		p.T.Fatalf("attach: %s", f.Text(p.Dialect))
	}
}

// Walk walks newfid from fid all the way.
func (p *Peer) Walk(fid, newfid uint32, names ...string) {
	p.T.Helper()
	f := p.RPC(&proto.TWalk{Fid: fid, Newfid: newfid, Wname: names})
	if f.Type != ninep.Rwalk || len(f.Rwalk.Wqid) != len(names) {
		p.T.Fatalf("walk: %s", f.Text(p.Dialect))
	}
}

// Open opens fid.
func (p *Peer) Open(fid uint32, mode uint8) {
	p.T.Helper()
	if f := p.RPC(&proto.TOpen{Fid: fid, Mode: proto.Mode(mode)}); f.Type != ninep.Ropen {
		p.T.Fatalf("open: %s", f.Text(p.Dialect))
	}
}
