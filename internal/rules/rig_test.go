package rules_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var budget = flag.Duration("rules.time", 2*time.Second, "how long to go on with longer sequences of requests")

// topRoot is the fid of glenda who attached with %.
const topRoot = 99

// rootOf is the fid of the root for the i-th of people.
func rootOf(i int) uint32 { return uint32(100 + i) }

// A rig is a server and the model of it, side by side.
type rig struct {
	t    *testing.T
	fs   *gefs.FS
	srv  *gefstest.Server
	conn *client.Conn
	m    *model
	n    int           // requests compared
	log  []proto.FCall // requests since the last mark
	r    ninep.Fcall
}

// newRig serves a new disk; everybody is attached, on one connection.
func newRig(t *testing.T, opt gefs.Options) *rig {
	t.Helper()
	dev := gefstest.Ream(t)
	r := &rig{t: t, fs: gefstest.Open(t, dev, opt), m: newModel()}
	c, end := r.fs.Background()
	err := r.fs.EditUsers(c, func([]byte) ([]byte, error) { return []byte(usersText), nil })
	end()
	if err != nil {
		t.Fatal(err)
	}
	r.srv = gefstest.Serve(t, r.fs, 0)
	r.conn = r.srv.Dial()
	r.do(&proto.TAttach{Fid: topRoot, Afid: ninep.NOFID, Uname: "glenda", Aname: "%"})
	for i, p := range people {
		r.do(&proto.TAttach{Fid: rootOf(i), Afid: ninep.NOFID, Uname: p.name})
	}
	t.Cleanup(func() {
		r.srv.Stop()
		if err := r.fs.Close(); err != nil {
			t.Error(err)
		}
		gefstest.CheckStrict(t, dev)
	})
	return r
}

// do makes a request of both and compares; it reports whether it was done, not refused.
func (r *rig) do(q proto.FCall) bool {
	r.t.Helper()
	r.n++
	r.log = append(r.log, q)
	want := r.m.step(q)
	r.r = ninep.Fcall{}
	err := r.conn.RPC(context.Background(), q, &r.r)
	if _, ok := err.(ninep.Error); ok {
		r.r.Type, r.r.Rerror.Ename = ninep.Rerror, err.Error()
	} else if err != nil {
		r.t.Fatalf("%s: %v", ninep.Format(q), err)
	}
	if err := want.met(&r.r); err != nil {
		for _, q := range r.log {
			r.t.Logf("%s", ninep.Format(q))
		}
		r.t.Fatalf("%v", err)
	}
	return len(want.refusals) == 0
}

// mark begins the story that a failure tells.
func (r *rig) mark() { r.log = r.log[:0] }

// must is do for requests that prepare something.
func (r *rig) must(q proto.FCall) {
	r.t.Helper()
	if !r.do(q) {
		r.t.Fatalf("refused: %s", ninep.Format(q))
	}
}

func walk(from, to uint32, names ...string) proto.FCall {
	return &proto.TWalk{Fid: from, Newfid: to, Nwname: uint16(len(names)), Wname: names}
}
func open(f uint32, mode uint8) proto.FCall { return &proto.TOpen{Fid: f, Mode: proto.Mode(mode)} }
func create(f uint32, name string, perm uint32, mode uint8) proto.FCall {
	return &proto.TCreate{Fid: f, Name: name, Perm: perm, Mode: mode}
}
func read(f uint32) proto.FCall { return &proto.TRead{Fid: f, Count: 8000} }
func write(f uint32, off uint64, text string) proto.FCall {
	return &proto.TWrite{Fid: f, Offset: off, Count: uint32(len(text)), Data: []byte(text)}
}
func clunk(f uint32) proto.FCall  { return &proto.TClunk{Fid: f} }
func remove(f uint32) proto.FCall { return &proto.TRemove{Fid: f} }
func stat(f uint32) proto.FCall   { return &proto.TStat{Fid: f} }
func wstat(f uint32, set func(*ninep.Dir)) proto.FCall {
	d := ninep.NullDir()
	set(&d)
	return &proto.TWstat{Fid: f, Stat: proto.Stat(d)}
}
func chmod(f uint32, mode uint32) proto.FCall {
	return wstat(f, func(d *ninep.Dir) { d.Mode = mode })
}
