package golibs

import (
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/knusbaum/go9p/proto"
)

// protoConn is a client of our own around go9p's codec, which is all that is used of go9p: one goroutine hands
// the replies to those who wait.
type protoConn struct {
	nc    net.Conn
	msize uint32
	done  chan struct{} // the reader has ended

	mu    sync.Mutex
	err   error
	calls map[uint16]chan proto.FCall
	tag   uint16
	fid   uint32
}

const protoRoot = 0

func attachProto(network, addr, uname, aname string) (tree, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c := &protoConn{nc: nc, done: make(chan struct{}), calls: make(map[uint16]chan proto.FCall), fid: protoRoot}
	v := proto.TRVersion{Header: proto.Header{Type: proto.Tversion, Tag: 0xffff}, Msize: 60000, Version: "9P2000"}
	if _, err := nc.Write(v.Compose()); err != nil {
		nc.Close()
		return nil, err
	}
	m, err := proto.ParseCall(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	r, ok := m.(*proto.TRVersion)
	if !ok || r.Version != "9P2000" || r.Msize > v.Msize || r.Msize < 256 {
		nc.Close()
		return nil, fmt.Errorf("version answered by %v", m)
	}
	c.msize = r.Msize
	go c.read()
	_, err = c.rpc(&proto.TAttach{Header: proto.Header{Type: proto.Tattach}, Fid: protoRoot, Afid: 0xffffffff, Uname: uname, Aname: aname})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *protoConn) Close() {
	c.nc.Close()
	<-c.done
}

func (c *protoConn) read() {
	defer close(c.done)
	for {
		m, err := proto.ParseCall(c.nc)
		c.mu.Lock()
		if err != nil {
			c.err = err
			for _, ch := range c.calls {
				close(ch)
			}
			c.calls = nil
			c.mu.Unlock()
			return
		}
		if ch := c.calls[m.GetTag()]; ch != nil {
			delete(c.calls, m.GetTag())
			ch <- m
		}
		c.mu.Unlock()
	}
}

// rpc sends m, with a tag of its own, and returns the answer.
func (c *protoConn) rpc(m proto.FCall) (proto.FCall, error) {
	ch := make(chan proto.FCall, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	for c.tag++; c.tag == 0xffff || c.calls[c.tag] != nil; {
		c.tag++
	}
	c.calls[c.tag] = ch
	b := m.Compose()
	b[5], b[6] = byte(c.tag), byte(c.tag>>8)
	_, err := c.nc.Write(b)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r, ok := <-ch
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	if e, ok := r.(*proto.RError); ok {
		return nil, errText(e.Ename)
	}
	return r, nil
}

func head(typ uint8) proto.Header { return proto.Header{Type: typ} }

func (c *protoConn) walk(path string) (uint32, error) {
	c.mu.Lock()
	c.fid++
	fid := c.fid
	c.mu.Unlock()
	names := split(path)
	r, err := c.rpc(&proto.TWalk{Header: head(proto.Twalk), Fid: protoRoot, Newfid: fid, Nwname: uint16(len(names)), Wname: names})
	if err != nil {
		return 0, err
	}
	if w := r.(*proto.RWalk); len(w.Wqid) < len(names) {
		return 0, errText("directory entry not found")
	}
	return fid, nil
}

func (c *protoConn) clunk(fid uint32) {
	c.rpc(&proto.TClunk{Header: head(proto.Tclunk), Fid: fid})
}

func (c *protoConn) open(path string, mode uint8) (uint32, error) {
	fid, err := c.walk(path)
	if err != nil {
		return 0, err
	}
	if _, err := c.rpc(&proto.TOpen{Header: head(proto.Topen), Fid: fid, Mode: proto.Mode(mode)}); err != nil {
		c.clunk(fid)
		return 0, err
	}
	return fid, nil
}

func (c *protoConn) create(path string, perm uint32, mode uint8) (uint32, error) {
	dir, name := dirAndName(path)
	fid, err := c.walk(dir)
	if err != nil {
		return 0, err
	}
	if _, err := c.rpc(&proto.TCreate{Header: head(proto.Tcreate), Fid: fid, Name: name, Perm: perm, Mode: mode}); err != nil {
		c.clunk(fid)
		return 0, err
	}
	return fid, nil
}

func (c *protoConn) write(fid uint32, data []byte, off int64) error {
	for len(data) > 0 {
		p := data[:min(len(data), int(c.msize)-24)]
		r, err := c.rpc(&proto.TWrite{Header: head(proto.Twrite), Fid: fid, Offset: uint64(off), Count: uint32(len(p)), Data: p})
		if err != nil {
			return err
		}
		n := r.(*proto.RWrite).Count
		if n == 0 || int(n) > len(p) {
			return fmt.Errorf("%d of %d bytes written", n, len(p))
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func (c *protoConn) Create(path string, perm uint32, data []byte) error {
	fid, err := c.create(path, perm, 1)
	if err != nil {
		return err
	}
	defer c.clunk(fid)
	return c.write(fid, data, 0)
}

func (c *protoConn) WriteAt(path string, data []byte, off int64, trunc bool) error {
	mode := uint8(1)
	if trunc {
		mode |= 16
	}
	fid, err := c.open(path, mode)
	if err != nil {
		return err
	}
	defer c.clunk(fid)
	return c.write(fid, data, off)
}

func (c *protoConn) ReadAll(path string) (all []byte, err error) {
	fid, err := c.open(path, 0)
	if err != nil {
		return nil, err
	}
	defer c.clunk(fid)
	for {
		r, err := c.rpc(&proto.TRead{Header: head(proto.Tread), Fid: fid, Offset: uint64(len(all)), Count: c.msize - 24})
		if err != nil {
			return all, err
		}
		d := r.(*proto.RRead).Data
		if len(d) == 0 {
			return all, nil
		}
		all = append(all, d...)
	}
}

func protoInfo(d *proto.Stat) info {
	return info{d.Name, d.Mode&proto.DMDIR != 0, d.Mode & 0o777, d.Length, d.Qid.Uid, d.Qid.Vers, d.Uid}
}

func (c *protoConn) Stat(path string) (info, error) {
	fid, err := c.walk(path)
	if err != nil {
		return info{}, err
	}
	defer c.clunk(fid)
	r, err := c.rpc(&proto.TStat{Header: head(proto.Tstat), Fid: fid})
	if err != nil {
		return info{}, err
	}
	return protoInfo(&r.(*proto.RStat).Stat), nil
}

func (c *protoConn) List(path string) (all []info, err error) {
	b, err := c.ReadAll(path)
	if err != nil {
		return nil, err
	}
	stats, err := proto.ParseStats(b)
	for i := range stats {
		all = append(all, protoInfo(&stats[i]))
	}
	return all, err
}

func (c *protoConn) Mkdir(path string, perm uint32) error {
	fid, err := c.create(path, proto.DMDIR|perm, 0)
	if err == nil {
		c.clunk(fid)
	}
	return err
}

func (c *protoConn) wstat(path string, set func(*proto.Stat)) error {
	fid, err := c.walk(path)
	if err != nil {
		return err
	}
	defer c.clunk(fid)
	st := proto.Stat{
		Type: ^uint16(0), Dev: ^uint32(0), Qid: proto.Qid{Qtype: ^uint8(0), Vers: ^uint32(0), Uid: ^uint64(0)},
		Mode: ^uint32(0), Atime: ^uint32(0), Mtime: ^uint32(0), Length: ^uint64(0),
	}
	set(&st)
	_, err = c.rpc(&proto.TWstat{Header: head(proto.Twstat), Fid: fid, Stat: st})
	return err
}

func (c *protoConn) Rename(path, name string) error {
	return c.wstat(path, func(st *proto.Stat) { st.Name = name })
}

func (c *protoConn) Chmod(path string, perm uint32) error {
	return c.wstat(path, func(st *proto.Stat) { st.Mode = perm })
}

func (c *protoConn) Truncate(path string, n uint64) error {
	return c.wstat(path, func(st *proto.Stat) { st.Length = n })
}

func (c *protoConn) Remove(path string) error {
	fid, err := c.walk(path)
	if err != nil {
		return err
	}
	_, err = c.rpc(&proto.TRemove{Header: head(proto.Tremove), Fid: fid})
	return err
}
