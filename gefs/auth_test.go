package gefs_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/auth"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A doorman lets in whoever proves who they are.
type doorman struct{ key *auth.Key }

func (d doorman) begin(_ *ninep.Ctx, uname string) (gefs.Proof, error) {
	return conversation{auth.NewConv(d.key, uname)}, nil
}

type conversation struct{ *auth.Conv }

func (c conversation) User() string                                       { return c.Proved() }
func (c conversation) Read(_ *ninep.Ctx, p []byte, _ uint64) (int, error) { return c.Conv.Read(p) }
func (c conversation) Write(_ *ninep.Ctx, p []byte, _ uint64) (n int, err error) {
	if n, err = c.Conv.Write(p); err != nil {
		err = ninep.ErrNoAuth
	}
	return n, err
}
func (c conversation) Clunk(*ninep.Ctx) {}

// guarded has a world's file system let nobody in without proof from now on.
func (w *world) guarded(readOnly bool) auth.ServerKey {
	w.t.Helper()
	k, err := auth.NewKey("bootes", "example.com")
	if err != nil {
		w.t.Fatal(err)
	}
	w.stop()
	w.opt.ReadOnly = readOnly
	w.opt.Trust = func(*ninep.Ctx, string) bool { return false }
	w.opt.Auth = doorman{k}.begin
	w.start()
	return auth.ServerKey{Key: k}
}

// TestPitfall103AuthenticationNeedsNoWriting: on a server that writes nothing too, one can prove who one is.
func TestPitfall103AuthenticationNeedsNoWriting(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		w := newWorld(t)
		w.as("glenda", "").put("file", 0600, "hello")
		key := w.guarded(readOnly)
		c := w.srv.Dial()
		root, err := c.AttachAs("glenda", "", func(rw io.ReadWriter) error { return auth.Prove(t.Context(), rw, "glenda", key) })
		if err != nil {
			t.Fatalf("read-only %v: %v", readOnly, err)
		}
		f, err := root.Walk("file")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Open(ninep.OREAD); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "hello" {
			t.Errorf("%q: %v", b, err)
		}
		d, err := root.Walk()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Create("new", 0600, ninep.OWRITE); (err != nil) != readOnly {
			t.Errorf("read-only %v, and creating a file: %v", readOnly, err)
		}
		w.stop()
		gefstest.CheckStrict(t, w.dev)
	}
}

// TestAttachNeedsThisProof and not another one.
func TestAttachNeedsThisProof(t *testing.T) {
	const ebad = "attach -- unknown user or failed authentication"
	w := newWorld(t)
	key := w.guarded(false)
	c := w.srv.Dial()
	rpc := func(m proto.FCall) error { return c.RPC(t.Context(), m, new(ninep.Fcall)) }
	attach := func(fid, afid uint32, uname, aname string) error {
		return rpc(&proto.TAttach{Fid: fid, Afid: afid, Uname: uname, Aname: aname})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Nobody learns who or what is there.
	for _, uname := range []string{"glenda", "nobody", "none", "", "adm"} {
		for _, aname := range []string{"", "nothing", "dump", "%"} {
			refused(t, "attach without proof as "+uname+" to "+aname, attach(1, ninep.NOFID, uname, aname), ebad)
		}
	}
	refused(t, "proving to be none", rpc(&proto.TAuth{Afid: 99, Uname: "none"}), "auth -- user 'none' requires no authentication")

	must(rpc(&proto.TAuth{Afid: 100, Uname: "glenda"}))
	refused(t, "attach before a word is said", attach(1, 100, "glenda", ""), ebad)
	var r ninep.Fcall
	must(c.RPC(t.Context(), &proto.TRead{Fid: 100, Count: 100}, &r))
	refused(t, "attach before the end", attach(1, 100, "glenda", ""), ebad)
	must(rpc(&proto.TClunk{Fid: 100}))

	prove := func(afid uint32, uname, aname string) {
		t.Helper()
		must(rpc(&proto.TAuth{Afid: afid, Uname: uname, Aname: aname}))
		must(auth.Prove(t.Context(), afidOf{c, afid}, uname, key))
	}
	prove(101, "bob", "")
	for _, other := range []struct{ uname, aname string }{{"glenda", ""}, {"none", ""}, {"", ""}, {"bob", "main"}, {"bob", "%"}, {"adm", "adm"}} {
		refused(t, "attach as "+other.uname+" to "+other.aname+" with bob's proof", attach(1, 101, other.uname, other.aname), ebad)
	}
	refused(t, "none before bob", attach(2, ninep.NOFID, "none", ""), ebad)
	must(attach(1, 101, "bob", ""))
	must(attach(2, ninep.NOFID, "none", ""))
	refused(t, "glenda beside bob", attach(3, ninep.NOFID, "glenda", ""), ebad)

	// On another connection there is neither the auth fid nor a place for none.
	c2 := w.srv.Dial()
	refused(t, "another connection's auth fid", c2.RPC(t.Context(), &proto.TAttach{Fid: 1, Afid: 101, Uname: "bob"}, &r), "unknown fid")
	refused(t, "none on another connection", c2.RPC(t.Context(), &proto.TAttach{Fid: 1, Afid: ninep.NOFID, Uname: "none"}, &r), ebad)

	// A user that is not there: proved, and not let in.
	prove(102, "nobody", "")
	refused(t, "a user that is not on the disk", attach(4, 102, "nobody", ""), "user does not exist")
	// A conversation that failed stays so.
	must(rpc(&proto.TAuth{Afid: 103, Uname: "glenda"}))
	if err := rpc(&proto.TWrite{Fid: 103, Data: []byte("x")}); !errors.Is(err, ninep.ErrNoAuth) {
		t.Errorf("a write at the wrong time: %v", err)
	}
	if err := auth.Prove(t.Context(), afidOf{c, 103}, "glenda", key); err == nil {
		t.Error("a failed conversation goes on")
	}
	refused(t, "attach after a failure", attach(5, 103, "glenda", ""), ebad)
	w.end()
}

// An afidOf is an auth fid as a stream.
type afidOf struct {
	c   *client.Conn
	fid uint32
}

func (a afidOf) Read(p []byte) (int, error) {
	var r ninep.Fcall
	err := a.c.RPC(context.Background(), &proto.TRead{Fid: a.fid, Count: uint32(len(p))}, &r)
	return copy(p, r.Rread.Data), err
}

func (a afidOf) Write(p []byte) (int, error) {
	return len(p), a.c.RPC(context.Background(), &proto.TWrite{Fid: a.fid, Data: p}, new(ninep.Fcall))
}
