package nbd_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// failing returns a server whose next request of kind cmd is replied to with the code in the integer.
func failing(cmd uint16) (*nbdtest.Server, *atomic.Uint32) {
	var code atomic.Uint32
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	s.Hook = func(r nbdtest.Request) nbdtest.Fault {
		if r.Cmd != cmd {
			return nbdtest.Fault{}
		}
		return nbdtest.Fault{Error: code.Swap(0)}
	}
	return s, &code
}

func TestRefusedReadHarmsNothingElse(t *testing.T) {
	s, code := failing(nbdtest.Read)
	d := open(t, serve(t, s), nbd.Options{})
	code.Store(nbd.CodeIO)
	n, err := d.ReadAt(make([]byte, 512), 4096)
	var se *nbd.ServerError
	var op *blkdev.OpError
	if n != 0 || !errors.As(err, &se) || se.Code != nbd.CodeIO || !errors.As(err, &op) || op.Off != 4096 || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if _, err := d.ReadAt(make([]byte, 512), 4096); err != nil {
		t.Errorf("read again: %v", err)
	}
	if _, err := d.WriteAt(make([]byte, 512), 0); err != nil {
		t.Errorf("write: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
}

func TestReadStopsWhereItFails(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(8 << 20)}
	s.Hook = func(r nbdtest.Request) nbdtest.Fault {
		if r.Cmd == nbdtest.Read && r.Off <= 5<<20 && 5<<20 < r.Off+r.Len {
			return nbdtest.Fault{Error: nbd.CodeIO}
		}
		return nbdtest.Fault{}
	}
	d := open(t, serve(t, s), nbd.Options{})
	n, err := d.ReadAt(make([]byte, 8<<20), 0)
	var op *blkdev.OpError
	if n != 5<<20 || !errors.As(err, &op) || op.Off != 5<<20 || op.Len != 3<<20 {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
}

func TestRefusedWriteOrFlushIsNeverTakenBack(t *testing.T) {
	for _, code := range []uint32{nbd.CodePerm, nbd.CodeIO, nbd.CodeNoMem, nbd.CodeInvalid, nbd.CodeNoSpace, nbd.CodeOverflow, nbd.CodeNotSup, 4711} {
		for _, cmd := range []uint16{nbdtest.Write, nbdtest.Flush} {
			s, inject := failing(cmd)
			d := open(t, serve(t, s), nbd.Options{})
			inject.Store(code)
			_, err := d.WriteAt(make([]byte, 512), 0)
			if cmd == nbdtest.Flush && err == nil {
				err = d.Sync()
			}
			var se *nbd.ServerError
			if !errors.As(err, &se) || se.Code != code || errors.Is(err, fs.ErrPermission) != (code == nbd.CodePerm) {
				t.Fatalf("command %d, error %d: %v", cmd, code, err)
			}
			for range 2 {
				if err := d.Sync(); !errors.As(err, &se) || se.Code != code {
					t.Errorf("command %d, error %d: Sync afterwards: %v", cmd, code, err)
				}
			}
			if _, err := d.WriteAt(make([]byte, 512), 0); err == nil {
				t.Errorf("command %d, error %d: a write afterwards", cmd, code)
			}
			s.HangUp() // which must not make it well again
			if _, err := d.ReadAt(make([]byte, 512), 0); err != nil {
				t.Errorf("command %d, error %d: a read afterwards: %v", cmd, code, err)
			}
			if err := d.Sync(); err == nil {
				t.Errorf("command %d, error %d: Sync on another connection", cmd, code)
			}
			d.Close()
		}
	}
}

func TestFlushThatWasForcedAndFailsIsToldToTheWriter(t *testing.T) {
	s, code := failing(nbdtest.Flush)
	d := open(t, serve(t, s), nbd.Options{Unflushed: 2000})
	code.Store(nbd.CodeNoSpace)
	p := make([]byte, 1000)
	for i := range 3 {
		if _, err := d.WriteAt(p, 0); (err != nil) != (i > 0) {
			t.Errorf("write %d: %v", i, err)
		}
	}
}

func TestTrimThatIsRefusedIsNotAskedForAgain(t *testing.T) {
	s, code := failing(nbdtest.Trim)
	d := open(t, serve(t, s), nbd.Options{})
	for range 3 {
		code.Store(nbd.CodeNotSup)
		if err := d.Discard(0, 1<<20); err != nil {
			t.Errorf("Discard: %v", err)
		}
	}
	if n := s.Count(nbdtest.Trim); n != 1 {
		t.Errorf("%d trims", n)
	}
}

func TestServerThatShutsDownIsLeftForTheNext(t *testing.T) {
	s, code := failing(nbdtest.Write)
	d := open(t, serve(t, s), nbd.Options{})
	code.Store(nbd.CodeShutdown)
	if _, err := d.WriteAt([]byte("x"), 5); err != nil {
		t.Fatal(err)
	}
	if n, _ := d.Stats(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// What was acknowledged, and cannot be written again, is lost; then nothing is to be believed any more.
func TestReplayThatIsRefusedEndsTheDisk(t *testing.T) {
	s, code := failing(nbdtest.Write)
	d := open(t, serve(t, s), nbd.Options{})
	if _, err := d.WriteAt([]byte("x"), 5000); err != nil {
		t.Fatal(err)
	}
	code.Store(nbd.CodeNoSpace)
	s.HangUp()
	if _, err := d.ReadAt(make([]byte, 1), 5000); err == nil || !strings.Contains(err.Error(), "could not be made again") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("read: %v", err)
	}
	if err := d.Sync(); err == nil {
		t.Error("synced")
	}
}

func TestRepliesThatAreNoneEndTheConnection(t *testing.T) {
	for name, raw := range map[string]string{
		"another magic number":      "\x12\x34\x56\x78\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"a structured reply":        "\x66\x8e\x33\xef\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\xff\xff\xff\xff",
		"a request there is not":    "\x67\x44\x66\x98\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x01",
		"a request that is over":    "\x67\x44\x66\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"half of one, then silence": "\x67\x44\x66\x98\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
			s.Hook = func(r nbdtest.Request) nbdtest.Fault {
				if r.N == 2 {
					return nbdtest.Fault{Raw: []byte(raw)}
				}
				return nbdtest.Fault{}
			}
			d := open(t, serve(t, s), nbd.Options{Stall: 200 * time.Millisecond})
			if _, err := d.WriteAt([]byte("x"), 5); err != nil {
				t.Errorf("write: %v", err)
			}
			if n, _ := d.Stats(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
		s.Hook = func(r nbdtest.Request) nbdtest.Fault {
			if r.N > 1 && r.Off > 0 {
				return nbdtest.Fault{Raw: make([]byte, 100)}
			}
			return nbdtest.Fault{}
		}
		d := open(t, serve(t, s), nbd.Options{Patience: 300 * time.Millisecond})
		if _, err := d.ReadAt(make([]byte, 9), 5); !errors.Is(err, nbd.ErrProtocol) {
			t.Errorf("read: %v", err)
		}
		if n := s.Conns(); n > 20 {
			t.Errorf("%d connections in 300 ms", n)
		}
	})
}

// FuzzServer lets a server say anything, from a place in the conversation on.
func FuzzServer(f *testing.F) {
	whole := hello + exportInfo(1<<20, 0x25) + blockInfo(1, 1<<20) + optReply(1, "")
	ok := func(handle byte) string {
		return "\x67\x44\x66\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + string(handle)
	}
	f.Add([]byte(whole))
	f.Add([]byte(whole + ok(1) + strings.Repeat("\x00", 512) + ok(3) + ok(2) + strings.Repeat("\x00", 700) + ok(4)))
	f.Add([]byte(hello + blockInfo(4096, 1<<16) + exportInfo(10_000, 0x0d) + optReply(1, "") + ok(1)))
	f.Add([]byte("NBDMAGIC"))
	f.Fuzz(func(t *testing.T, say []byte) {
		opt := nbd.Options{Stall: 10 * time.Millisecond, Patience: 5 * time.Millisecond, Unflushed: 1000}
		var sides []net.Conn
		opt.Dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			sides = append(sides, theirs)
			go io.Copy(io.Discard, theirs)
			go func() { theirs.Write(say); theirs.Close() }()
			return ours, nil
		}
		began := time.Now()
		defer func() {
			for _, s := range sides {
				s.Close()
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		d, err := nbd.Open(ctx, nbd.Address{Network: "tcp", Export: "x"}, opt)
		if err != nil {
			return
		}
		size, _ := d.Size()
		d.WriteAt(make([]byte, min(size, 700)), 0)
		d.ReadAt(make([]byte, 700), 3)
		d.Discard(0, min(size, 4096))
		d.WriteAt(make([]byte, min(size, 700)), 0)
		d.Sync()
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}
