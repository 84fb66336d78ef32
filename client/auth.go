package client

import (
	"fmt"
	"io"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// AttachAs returns a fid for the root of the tree aname, as uname, which prove proves over an auth fid:
// each of its Reads and Writes is a request, a Read that brings nothing fails with
// io.ErrUnexpectedEOF. If the server says that nothing need be proved, prove is not called. Errors are
// the server's and those of prove. Source: attach(5).
func (c *Conn) AttachAs(uname, aname string, prove func(io.ReadWriter) error) (*Fid, error) {
	af := c.newFid()
	var r ninep.Fcall
	err := c.rpc(&proto.TAuth{Afid: af.num, Uname: uname, Aname: aname}, &r)
	if _, said := err.(Error); said {
		// Whether that means "no need" or "no way", the attach tells.
		af.forget()
		return c.Attach(uname, aname)
	}
	if err != nil {
		af.forget()
		return nil, err
	}
	defer af.Clunk()
	if err := prove(authFid{af}); err != nil {
		return nil, fmt.Errorf("proving to be %s: %w", uname, err)
	}
	f := c.newFid()
	err = c.rpc(&proto.TAttach{Fid: f.num, Afid: af.num, Uname: uname, Aname: aname}, &r)
	if err != nil {
		f.forget()
		return nil, err
	}
	f.qid = r.Rattach.Qid
	return f, nil
}

// An authFid is a conversation: there are no offsets in it.
type authFid struct{ f *Fid }

func (a authFid) Read(p []byte) (int, error) {
	var r ninep.Fcall
	n, err := a.f.read(p, 0, &r)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (a authFid) Write(p []byte) (int, error) { return a.f.WriteAt(p, 0) }
