package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// A Fid is the client's name for a file of the server.
//
// Reading, writing and asking may be done by many goroutines at once. What changes the fid itself
// (Open, Create, Remove, Clunk) must not run beside anything else on it. Every Fid ends with one
// Clunk or Remove; the connection's end ends it too.
//
// Errors that the server sent are an Error, with nothing around it.
type Fid struct {
	conn   *Conn
	num    uint32
	qid    ninep.Qid
	iounit uint32 // as the server said when the file was opened
}

// Attach returns a fid for the root of the tree aname, as uname. Source: attach(5).
func (c *Conn) Attach(uname, aname string) (*Fid, error) {
	f := c.newFid()
	var r ninep.Fcall
	err := c.rpc(&proto.TAttach{Fid: f.num, Afid: ninep.NOFID, Uname: uname, Aname: aname}, &r)
	if err != nil {
		f.forget()
		return nil, err
	}
	f.qid = r.Rattach.Qid
	return f, nil
}

// Qid returns the file's qid, as it was when the fid was walked to, opened or created.
func (f *Fid) Qid() ninep.Qid { return f.qid }

// IsDir reports whether the file is a directory.
func (f *Fid) IsDir() bool { return f.qid.Qtype&ninep.QTDIR != 0 }

// Num returns the number that stands for the fid on the wire, for messages of one's own.
func (f *Fid) Num() uint32 { return f.num }

// Walk returns a new fid for the file that is reached from f's by names, one after the other; for a copy of f,
// without any. More names than fit into one message are walked in several.
//
// If the server stops on the way, the error wraps ErrNotFound and names what was not reached; if
// it does not take even the first step, the error is the server's. Source: walk(5).
func (f *Fid) Walk(names ...string) (*Fid, error) {
	to := f.conn.newFid()
	to.qid = f.qid
	from, done := f.num, 0
	for {
		n := min(len(names)-done, ninep.MaxWalk)
		var r ninep.Fcall
		err := f.conn.rpc(&proto.TWalk{Fid: from, Newfid: to.num, Wname: names[done : done+n]}, &r)
		got := len(r.Rwalk.Wqid)
		switch {
		case err != nil:
		case got > n:
			err = f.conn.violated("%d qids for %d names", got, n)
		case got < n:
			err = fmt.Errorf("walk %s: %w", strings.Join(names[:done+got+1], "/"), ErrNotFound)
		}
		if err != nil {
			if from == to.num { // a step before has made it
				to.Clunk()
			} else {
				to.forget()
			}
			return nil, err
		}
		if n > 0 {
			to.qid = r.Rwalk.Wqid[n-1]
		}
		if done += n; done == len(names) {
			return to, nil
		}
		from = to.num
	}
}

// WalkPath is Walk to a path of names with slashes between them. Slashes more than needed, and
// elements that are a dot, are skipped.
func (f *Fid) WalkPath(path string) (*Fid, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return f.Walk(names...)
}

// Open opens the file for mode, which is OREAD, OWRITE, ORDWR or OEXEC of package ninep, and bits of
// OTRUNC and ORCLOSE. Source: open(5).
func (f *Fid) Open(mode uint8) error {
	var r ninep.Fcall
	if err := f.conn.rpc(&proto.TOpen{Fid: f.num, Mode: proto.Mode(mode)}, &r); err != nil {
		return err
	}
	f.qid, f.iounit = r.Ropen.Qid, r.Ropen.Iounit
	return nil
}

// Create creates name in the directory f with permissions perm and opens it for mode; f is then the new
// file. Source: open(5).
func (f *Fid) Create(name string, perm uint32, mode uint8) error {
	var r ninep.Fcall
	if err := f.conn.rpc(&proto.TCreate{Fid: f.num, Name: name, Perm: perm, Mode: mode}, &r); err != nil {
		return err
	}
	f.qid, f.iounit = r.Rcreate.Qid, r.Rcreate.Iounit
	return nil
}

// Stat returns what the server says of the file. Source: stat(5).
func (f *Fid) Stat() (ninep.Dir, error) {
	var r ninep.Fcall
	if err := f.conn.rpc(&proto.TStat{Fid: f.num}, &r); err != nil {
		return ninep.Dir{}, err
	}
	return ninep.Dir(r.Rstat.Stat), nil
}

// Wstat changes of the file what d says, all of it or nothing. Start with ninep.NullDir and set what is to change.
// Source: stat(5).
func (f *Fid) Wstat(d ninep.Dir) error {
	var r ninep.Fcall
	return f.conn.rpc(&proto.TWstat{Fid: f.num, Stat: proto.Stat(d)}, &r)
}

// Fsync asks the server to put the file on stable storage: a Wstat that changes nothing, which
// servers may take for that. gefs9p does, for the whole tree. Source: stat(5).
func (f *Fid) Fsync() error { return f.Wstat(ninep.NullDir()) }

// Remove removes the file. Whether that works or not, the fid is gone. Source: remove(5).
func (f *Fid) Remove() error {
	var r ninep.Fcall
	err := f.conn.rpc(&proto.TRemove{Fid: f.num}, &r)
	f.forget()
	return err
}

// Clunk gives the fid up. Even after an error it is gone. Source: clunk(5).
func (f *Fid) Clunk() error {
	var r ninep.Fcall
	err := f.conn.rpc(&proto.TClunk{Fid: f.num}, &r)
	f.forget()
	return err
}

// rpc is RPC that only the connection's end ends.
func (c *Conn) rpc(m proto.FCall, r *ninep.Fcall) error {
	return c.RPC(context.Background(), m, r)
}

func (c *Conn) newFid() *Fid {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Fid{conn: c, num: c.fids.take()}
}

// forget gives back the number of a fid that the server does not know (any more).
func (f *Fid) forget() {
	f.conn.mu.Lock()
	defer f.conn.mu.Unlock()
	f.conn.fids.give(f.num)
}
