package golibs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	p9p "github.com/docker/go-p9p"
)

type docker struct {
	ctx  context.Context
	nc   net.Conn
	s    p9p.Session
	next *atomic.Uint32 // fids
	end  context.CancelFunc
}

const dockerRoot = p9p.Fid(1)

func attachDocker(network, addr, uname, aname string) (tree, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := docker{ctx: ctx, nc: nc, next: new(atomic.Uint32), end: cancel}
	t.next.Store(uint32(dockerRoot))
	t.s, err = p9p.NewSession(ctx, nc)
	if err == nil {
		_, err = t.s.Attach(ctx, dockerRoot, p9p.NOFID, uname, aname)
	}
	if err != nil {
		t.Close()
		return nil, dockerErr(err)
	}
	return t, nil
}

func (t docker) Close() {
	t.end()
	t.nc.Close()
}

// dockerErr returns the text that the server said.
func dockerErr(err error) error {
	var e p9p.MessageRerror
	if errors.As(err, &e) {
		return errText(e.Ename)
	}
	return err
}

// walk returns a fid for a path.
func (t docker) walk(path string) (p9p.Fid, error) {
	fid := p9p.Fid(t.next.Add(1))
	names := split(path)
	qids, err := t.s.Walk(t.ctx, dockerRoot, fid, names...)
	if err != nil {
		return 0, dockerErr(err)
	}
	if len(qids) < len(names) { // on the way: there is no such fid
		return 0, errText("directory entry not found")
	}
	return fid, nil
}

func (t docker) open(path string, mode p9p.Flag) (p9p.Fid, error) {
	fid, err := t.walk(path)
	if err != nil {
		return 0, err
	}
	if _, _, err := t.s.Open(t.ctx, fid, mode); err != nil {
		t.s.Clunk(t.ctx, fid)
		return 0, dockerErr(err)
	}
	return fid, nil
}

func (t docker) create(path string, perm uint32, mode p9p.Flag) (p9p.Fid, error) {
	dir, name := dirAndName(path)
	fid, err := t.walk(dir)
	if err != nil {
		return 0, err
	}
	if _, _, err := t.s.Create(t.ctx, fid, name, perm, mode); err != nil {
		t.s.Clunk(t.ctx, fid)
		return 0, dockerErr(err)
	}
	return fid, nil
}

// piece is how many bytes a message carries.
func (t docker) piece() int {
	msize, _ := t.s.Version()
	return msize - 24
}

func (t docker) write(fid p9p.Fid, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := t.s.Write(t.ctx, fid, data[:min(len(data), t.piece())], off)
		if err != nil {
			return dockerErr(err)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func (t docker) Create(path string, perm uint32, data []byte) error {
	fid, err := t.create(path, perm, p9p.OWRITE)
	if err != nil {
		return err
	}
	defer t.s.Clunk(t.ctx, fid)
	return t.write(fid, data, 0)
}

func (t docker) WriteAt(path string, data []byte, off int64, trunc bool) error {
	mode := p9p.OWRITE
	if trunc {
		mode |= p9p.OTRUNC
	}
	fid, err := t.open(path, mode)
	if err != nil {
		return err
	}
	defer t.s.Clunk(t.ctx, fid)
	return t.write(fid, data, off)
}

func (t docker) ReadAll(path string) ([]byte, error) {
	fid, err := t.open(path, p9p.OREAD)
	if err != nil {
		return nil, err
	}
	defer t.s.Clunk(t.ctx, fid)
	var all []byte
	b := make([]byte, t.piece())
	for {
		n, err := t.s.Read(t.ctx, fid, b, int64(len(all)))
		if err != nil && err != io.EOF {
			return all, dockerErr(err)
		}
		if n == 0 {
			return all, nil
		}
		all = append(all, b[:n]...)
	}
}

func dockerInfo(d *p9p.Dir) info {
	return info{d.Name, d.Mode&p9p.DMDIR != 0, d.Mode & 0o777, d.Length, d.Qid.Path, d.Qid.Version, d.UID}
}

func (t docker) Stat(path string) (info, error) {
	fid, err := t.walk(path)
	if err != nil {
		return info{}, err
	}
	defer t.s.Clunk(t.ctx, fid)
	d, err := t.s.Stat(t.ctx, fid)
	return dockerInfo(&d), dockerErr(err)
}

func (t docker) List(path string) (all []info, err error) {
	b, err := t.ReadAll(path)
	if err != nil {
		return nil, err
	}
	for r := bytes.NewReader(b); r.Len() > 0; {
		var d p9p.Dir
		if err := p9p.DecodeDir(p9p.NewCodec(), r, &d); err != nil {
			return all, err
		}
		all = append(all, dockerInfo(&d))
	}
	return all, nil
}

func (t docker) Mkdir(path string, perm uint32) error {
	fid, err := t.create(path, p9p.DMDIR|perm, p9p.OREAD)
	if err != nil {
		return err
	}
	return t.s.Clunk(t.ctx, fid)
}

// The library's Twstat has one of its two counts only, so it is malformed: TestMalformedTwstat has what
// becomes of it.

func (t docker) Rename(string, string) error   { return errSkip }
func (t docker) Chmod(string, uint32) error    { return errSkip }
func (t docker) Truncate(string, uint64) error { return errSkip }

// malformedWstat sends what the library takes for a Twstat.
func (t docker) malformedWstat(path string) error {
	fid, err := t.walk(path)
	if err != nil {
		return err
	}
	never := time.Unix(0xffffffff, 0)
	return t.s.WStat(t.ctx, fid, p9p.Dir{
		Type: ^uint16(0), Dev: ^uint32(0), Qid: p9p.Qid{Type: ^p9p.QType(0), Version: ^uint32(0), Path: ^uint64(0)},
		Mode: ^uint32(0), AccessTime: never, ModTime: never, Length: ^uint64(0), Name: "other",
	})
}

func (t docker) Remove(path string) error {
	fid, err := t.walk(path)
	if err != nil {
		return err
	}
	return dockerErr(t.s.Remove(t.ctx, fid))
}
