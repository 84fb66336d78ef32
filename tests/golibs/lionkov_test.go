package golibs

import (
	"io"
	"net"

	"github.com/lionkov/go9p/p"
	"github.com/lionkov/go9p/p/clnt"
)

type lionkov struct{ c *clnt.Clnt }

// lionUser is a user as that library wants one.
type lionUser string

func (u lionUser) Name() string          { return string(u) }
func (u lionUser) Id() int               { return 0 }
func (u lionUser) Groups() []p.Group     { return nil }
func (u lionUser) IsMember(p.Group) bool { return false }

func attachLionkov(network, addr, uname, aname string) (tree, error) {
	return lionAttach(network, addr, uname, aname, false)
}

// attachLionkovU offers 9P2000.u, and would take less.
func attachLionkovU(network, addr, uname, aname string) (tree, error) {
	return lionAttach(network, addr, uname, aname, true)
}

func lionAttach(network, addr, uname, aname string, dotu bool) (tree, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c, err := clnt.Connect(nc, 64<<10, dotu)
	if err != nil {
		nc.Close()
		return nil, err
	}
	if c.Root, err = c.Attach(nil, lionUser(uname), aname); err != nil {
		c.Unmount()
		return nil, lionErr(err)
	}
	return lionkov{c}, nil
}

// lionErr returns the text that the server said: the library adds a number that it has made up in 9P2000.
func lionErr(err error) error {
	if e, ok := err.(*p.Error); ok {
		return errText(e.Err)
	}
	return err
}

// errText is an error that a server said.
type errText string

func (e errText) Error() string { return string(e) }

func (t lionkov) Close() { t.c.Unmount() }

func lionInfo(d *p.Dir) info {
	return info{d.Name, d.Mode&p.DMDIR != 0, d.Mode & 0o777, d.Length, d.Qid.Path, d.Qid.Version, d.Uid}
}

func (t lionkov) Create(path string, perm uint32, data []byte) error {
	f, err := t.c.FCreate(path, perm, p.OWRITE)
	if err != nil {
		return lionErr(err)
	}
	defer f.Close()
	if len(data) == 0 {
		return nil
	}
	_, err = f.Writen(data, 0)
	return lionErr(err)
}

func (t lionkov) WriteAt(path string, data []byte, off int64, trunc bool) error {
	mode := uint8(p.OWRITE)
	if trunc {
		mode |= p.OTRUNC
	}
	f, err := t.c.FOpen(path, mode)
	if err != nil {
		return lionErr(err)
	}
	defer f.Close()
	_, err = f.Writen(data, uint64(off))
	return lionErr(err)
}

func (t lionkov) ReadAll(path string) ([]byte, error) {
	f, err := t.c.FOpen(path, p.OREAD)
	if err != nil {
		return nil, lionErr(err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (t lionkov) Stat(path string) (info, error) {
	d, err := t.c.FStat(path)
	if err != nil {
		return info{}, lionErr(err)
	}
	return lionInfo(d), nil
}

func (t lionkov) List(path string) (all []info, err error) {
	f, err := t.c.FOpen(path, p.OREAD)
	if err != nil {
		return nil, lionErr(err)
	}
	defer f.Close()
	ds, err := f.Readdir(0)
	if err == io.EOF {
		err = nil
	}
	for _, d := range ds {
		all = append(all, lionInfo(d))
	}
	return all, lionErr(err)
}

func (t lionkov) Mkdir(path string, perm uint32) error {
	f, err := t.c.FCreate(path, p.DMDIR|perm, p.OREAD)
	if err != nil {
		return lionErr(err)
	}
	return f.Close()
}

func (t lionkov) wstat(path string, set func(*p.Dir)) error {
	fid, err := t.c.FWalk(path)
	if err != nil {
		return lionErr(err)
	}
	defer t.c.Clunk(fid)
	d := p.NewWstatDir()
	set(d)
	return lionErr(t.c.Wstat(fid, d))
}

func (t lionkov) Rename(path, name string) error {
	return t.wstat(path, func(d *p.Dir) { d.Name = name })
}

func (t lionkov) Chmod(path string, perm uint32) error {
	return t.wstat(path, func(d *p.Dir) { d.Mode = perm })
}

func (t lionkov) Truncate(path string, n uint64) error {
	return t.wstat(path, func(d *p.Dir) { d.Length = n })
}

func (t lionkov) Remove(path string) error { return lionErr(t.c.FRemove(path)) }
