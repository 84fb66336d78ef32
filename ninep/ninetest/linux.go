package ninetest

import (
	"io"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// A Linux is the client's end of a connection that speaks 9P2000.L, for tests. One request is outstanding
// at a time. It ends the test if the server does not speak the dialect or says what is none of it.
type Linux struct {
	t    testing.TB
	conn io.ReadWriteCloser
	buf  []byte
	fid  uint32 // the last one used
}

// NewLinux agrees on 9P2000.L, with frames of at most msize bytes. The connection is closed when the test
// ends, if not before.
func NewLinux(t testing.TB, conn io.ReadWriteCloser, msize uint32) *Linux {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	l := &Linux{t: t, conn: conn}
	b, _ := ninep.AppendTversion(nil, ninep.NOTAG, msize, ninep.VersionL)
	if f := l.exchange(b); f.Type != ninep.Rversion || f.Version.Version != ninep.VersionL {
		t.Fatalf("asked for %s: %s", ninep.VersionL, ninep.Format(f.Msg()))
	}
	return l
}

// Close hangs up.
func (l *Linux) Close() { l.conn.Close() }

// Fid returns a fid that was never used.
func (l *Linux) Fid() uint32 {
	l.fid++
	return l.fid
}

// exchange sends a frame and reads one.
func (l *Linux) exchange(b []byte) *ninep.Fcall {
	l.t.Helper()
	if _, err := l.conn.Write(b); err != nil {
		l.t.Fatalf("write: %v", err)
	}
	if dl, ok := l.conn.(interface{ SetReadDeadline(time.Time) error }); ok {
		dl.SetReadDeadline(time.Now().Add(Patience))
	}
	var err error
	if l.buf, err = ninep.ReadFrame(l.conn, l.buf, 1<<31); err != nil {
		l.t.Fatalf("waiting for the answer to message type %d: %v", b[4], err)
	}
	f := new(ninep.Fcall)
	if err := f.DecodeLinux(l.buf); err != nil {
		l.t.Fatalf("server sent %x: %v", l.buf, err)
	}
	return f
}

// reply makes an Rlerror an error, and ends the test if the reply is not of the type that belongs to
// the request.
func (l *Linux) reply(f *ninep.Fcall, request uint8) (*ninep.Fcall, error) {
	l.t.Helper()
	if e, ok := f.Linux.(*ninep.LError); ok {
		return f, e.Errno
	}
	if f.Type != request+1 || f.Tag != 1 {
		l.t.Fatalf("request of type %d: answer of type %d, tag %d", request, f.Type, f.Tag)
	}
	return f, nil
}

// RPC sends a message that only 9P2000.L has. The error is the Errno of an Rlerror.
func (l *Linux) RPC(typ uint8, m ninep.LinuxMsg) (ninep.LinuxMsg, error) {
	l.t.Helper()
	b, err := ninep.AppendLinux(nil, typ, 1, m)
	if err != nil {
		l.t.Fatal(err)
	}
	f, err := l.reply(l.exchange(b), typ)
	return f.Linux, err
}

// Common sends a message that 9P2000 has as well, but no Tauth and no Tattach.
func (l *Linux) Common(m proto.FCall) (*ninep.Fcall, error) {
	l.t.Helper()
	b, err := ninep.Append(nil, m)
	if err != nil {
		l.t.Fatal(err)
	}
	b[5], b[6] = 1, 0
	return l.reply(l.exchange(b), b[4])
}

// Attach attaches a new fid as uname, or if that is empty as the user with the number.
func (l *Linux) Attach(uname, aname string, nuname uint32) (uint32, error) {
	l.t.Helper()
	fid := l.Fid()
	b, err := ninep.AppendTattachL(nil, 1, fid, ninep.NOFID, uname, aname, nuname)
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = l.reply(l.exchange(b), ninep.Tattach)
	return fid, err
}

// Auth asks for a new auth fid, for uname, or if that is empty for the user with the number.
func (l *Linux) Auth(uname, aname string, nuname uint32) (uint32, error) {
	l.t.Helper()
	fid := l.Fid()
	b, err := ninep.AppendTauthL(nil, 1, fid, uname, aname, nuname)
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = l.reply(l.exchange(b), ninep.Tauth)
	return fid, err
}

// Walk walks a new fid along names. A walk that ends on the way is ENOENT.
func (l *Linux) Walk(fid uint32, names ...string) (uint32, error) {
	l.t.Helper()
	nf := l.Fid()
	f, err := l.Common(&proto.TWalk{Fid: fid, Newfid: nf, Nwname: uint16(len(names)), Wname: names})
	if err == nil && len(f.Rwalk.Wqid) < len(names) {
		err = ninep.ENOENT
	}
	return nf, err
}

// Clunk clunks a fid.
func (l *Linux) Clunk(fid uint32) {
	l.t.Helper()
	if _, err := l.Common(&proto.TClunk{Fid: fid}); err != nil {
		l.t.Fatalf("clunk: %v", err)
	}
}

// Read reads n bytes.
func (l *Linux) Read(fid uint32, off uint64, n uint32) (string, error) {
	l.t.Helper()
	f, err := l.Common(&proto.TRead{Fid: fid, Offset: off, Count: n})
	return string(f.Rread.Data), err
}

// Write writes text.
func (l *Linux) Write(fid uint32, off uint64, text string) error {
	l.t.Helper()
	_, err := l.Common(&proto.TWrite{Fid: fid, Offset: off, Count: uint32(len(text)), Data: []byte(text)})
	return err
}
