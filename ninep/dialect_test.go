package ninep_test

import (
	"net"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// numberedRig is newRig with a file system that can be spoken to in all dialects.
func numberedRig(t *testing.T) (*rig, func() net.Conn) {
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.FS = ninetest.Numbered{FS: fs} })
	return r, func() net.Conn {
		c, err := net.Dial(r.addr.Network(), r.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestOneServerSpeaksAllDialects(t *testing.T) {
	_, dial := numberedRig(t)
	for version, want := range map[string]string{
		"9P2000": "9P2000", "9P2000.L": "9P2000.L", "9P2000.L.Google.7": "9P2000.L", "9P2000.u": "9P2000.u",
		"9P2000.Lx": "9P2000", "9P2000.u.7": "9P2000.u", "9P2000.U": "9P2000", "9P2000.ux": "9P2000", "9P2000..u": "9P2000", "9P2000.": "9P2000", "9P2000L": "unknown",
	} {
		p := ninetest.NewPeer(t, dial())
		p.Send(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: version})
		if f := p.Want(ninep.Rversion, ninep.NOTAG); f.Version.Version != want {
			t.Errorf("%s: %s, want %s", version, f.Version.Version, want)
		}
	}
	l := ninetest.NewLinux(t, dial(), 8192)
	root, err := l.Attach("glenda", "", ninep.NOUID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Attach("", "", 1000); err != nil {
		t.Errorf("attach by number: %v", err)
	}
	// Linux' superuser is who attached first, by name; on a connection where nobody has, he is nobody.
	if _, err := l.Attach("", "", 0); err != nil {
		t.Errorf("attach by number 0: %v", err)
	}
	other := ninetest.NewLinux(t, dial(), 8192)
	for _, x := range []struct {
		uname string
		uid   uint32
		want  error
	}{{"", 0, ninep.EACCES}, {"", 1000, nil}, {"", 0, ninep.EACCES}, {"glenda", ninep.NOUID, nil}, {"", 0, nil}} {
		if _, err := other.Attach(x.uname, "", x.uid); err != x.want {
			t.Errorf("attach as %q %d: %v, want %v", x.uname, x.uid, err, x.want)
		}
	}
	other.Close()
	for _, x := range []struct {
		what string
		do   func() error
		want ninep.Errno
	}{
		{"attach by a number that nobody has", func() error { _, err := l.Attach("", "", 5); return err }, ninep.EACCES},
		{"Tauth where nobody has to prove anything", func() error { _, err := l.Auth("", "", 1000); return err }, ninep.ENOENT},
		{"walk to nothing", func() error { _, err := l.Walk(root, "nothing"); return err }, ninep.ENOENT},
		{"no fid", func() error { _, err := l.Walk(99); return err }, ninep.EBADF},
		{"Topen", func() error { _, err := l.Common(&proto.TOpen{Fid: root}); return err }, ninep.EOPNOTSUPP},
		{"Tcreate", func() error { _, err := l.Common(&proto.TCreate{Fid: root}); return err }, ninep.EOPNOTSUPP},
		{"Tlopen of a file that is none of Linux", func() error {
			_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: root})
			return err
		}, ninep.EOPNOTSUPP},
		{"Tmkdir with a name that is no UTF-8", func() error {
			_, err := l.RPC(ninep.Tmkdir, &ninep.LMkdir{Dfid: root, Name: "\xff"})
			return err
		}, ninep.EINVAL},
		{"Tunlinkat with a name that is no UTF-8", func() error {
			_, err := l.RPC(ninep.Tunlinkat, &ninep.LUnlinkat{Dfid: root, Name: "\xff"})
			return err
		}, ninep.ENOENT},
		{"Trename into no directory", func() error {
			_, err := l.RPC(ninep.Trename, &ninep.LRename{Fid: root, Dfid: 77, Name: "x"})
			return err
		}, ninep.EBADF},
		{"an error without a number", func() error { _, err := l.Read(root, 0, 10); return err }, ninep.EIO},
	} {
		if err := x.do(); err != x.want {
			t.Errorf("%s: %v, want %v", x.what, err, x.want)
		}
	}
	// The same file system without numbers is 9P2000's alone.
	plain := newRig(t, nil)
	c, err := net.Dial(plain.addr.Network(), plain.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	p := ninetest.NewPeer(t, c)
	for _, v := range []string{ninep.VersionL, ninep.VersionU} {
		p.Send(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: v})
		if f := p.Want(ninep.Rversion, ninep.NOTAG); f.Version.Version != ninep.Version {
			t.Errorf("%s without a LinuxFS: %s", v, f.Version.Version)
		}
	}
}
