package ninep_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

func TestConversations(t *testing.T) {
	ninetest.RunFiles(t, "testdata/*.txt", func(t testing.TB) io.ReadWriteCloser {
		return newRig(t, nil).dial().Conn
	})
}

func TestConversationsIn9P2000u(t *testing.T) {
	ninetest.RunFiles(t, "testdata/unix/*.txt", func(t testing.TB) io.ReadWriteCloser {
		return newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.FS = ninetest.Numbered{FS: fs} }).dial().Conn
	})
}

func TestConversationsWithAuthentication(t *testing.T) {
	ninetest.RunFiles(t, "testdata/auth/*.txt", func(t testing.TB) io.ReadWriteCloser {
		return newRig(t, func(fs *ninetest.FS, s *ninep.Server) { fs.Secret = "sesame" }).dial().Conn
	})
}

// unixPair is the two ends of a Unix socket.
func unixPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// plain hides that a connection has deadlines, as standard input and output have none.
type plain struct{ io.ReadWriteCloser }

func TestConversationsOnOtherTransports(t *testing.T) {
	t.Run("no deadlines", func(t *testing.T) {
		ninetest.RunFiles(t, "testdata/*.txt", func(t testing.TB) io.ReadWriteCloser {
			r := newRig(t, nil)
			client, server := unixPair(t)
			done := make(chan error, 1)
			go func() { done <- r.s.ServeConn(t.Context(), plain{server}) }()
			t.Cleanup(func() { <-done })
			return client
		})
	})
	t.Run("unix", func(t *testing.T) {
		ninetest.RunFiles(t, "testdata/*.txt", func(t testing.TB) io.ReadWriteCloser {
			r := newRig(t, nil)
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- r.s.Serve(t.Context(), l) }()
			t.Cleanup(func() { <-done })
			c, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	})
}
