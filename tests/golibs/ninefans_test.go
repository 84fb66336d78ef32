package golibs

import (
	"io"
	"net"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"
)

type nineFans struct {
	conn *client.Conn
	fs   *client.Fsys
}

func attachNineFans(network, addr, uname, aname string) (tree, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	conn, err := client.NewConn(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	fs, err := conn.Attach(nil, uname, aname)
	if err != nil {
		conn.Release()
		return nil, err
	}
	return nineFans{conn, fs}, nil
}

func (t nineFans) Close() {
	t.fs.Close()
	t.conn.Release()
}

func nineInfo(d *plan9.Dir) info {
	return info{d.Name, d.Mode&plan9.DMDIR != 0, uint32(d.Mode) & 0o777, d.Length, d.Qid.Path, d.Qid.Vers, d.Uid}
}

func (t nineFans) Create(path string, perm uint32, data []byte) error {
	f, err := t.fs.Create(path, plan9.OWRITE, plan9.Perm(perm))
	if err != nil {
		return err
	}
	defer f.Close()
	if len(data) == 0 {
		return nil
	}
	_, err = f.Write(data)
	return err
}

func (t nineFans) WriteAt(path string, data []byte, off int64, trunc bool) error {
	mode := uint8(plan9.OWRITE)
	if trunc {
		mode |= plan9.OTRUNC
	}
	f, err := t.fs.Open(path, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(data, off)
	return err
}

func (t nineFans) ReadAll(path string) ([]byte, error) {
	f, err := t.fs.Open(path, plan9.OREAD)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (t nineFans) Stat(path string) (info, error) {
	d, err := t.fs.Stat(path)
	if err != nil {
		return info{}, err
	}
	return nineInfo(d), nil
}

func (t nineFans) List(path string) (all []info, err error) {
	f, err := t.fs.Open(path, plan9.OREAD)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ds, err := f.Dirreadall()
	for _, d := range ds {
		all = append(all, nineInfo(d))
	}
	return all, err
}

func (t nineFans) Mkdir(path string, perm uint32) error {
	f, err := t.fs.Create(path, plan9.OREAD, plan9.DMDIR|plan9.Perm(perm))
	if err != nil {
		return err
	}
	return f.Close()
}

func (t nineFans) wstat(path string, set func(*plan9.Dir)) error {
	var d plan9.Dir
	d.Null()
	set(&d)
	return t.fs.Wstat(path, &d)
}

func (t nineFans) Rename(path, name string) error {
	return t.wstat(path, func(d *plan9.Dir) { d.Name = name })
}

func (t nineFans) Chmod(path string, perm uint32) error {
	return t.wstat(path, func(d *plan9.Dir) { d.Mode = plan9.Perm(perm) })
}

func (t nineFans) Truncate(path string, n uint64) error {
	return t.wstat(path, func(d *plan9.Dir) { d.Length = n })
}

func (t nineFans) Remove(path string) error { return t.fs.Remove(path) }
