package ninep

// What a connection that speaks 9P2000.u asks for otherwise. As in handle, the reply comes last.

// openMode is the mode of a Topen or a Tcreate as a File is to see it.
func (r *request) openMode(mode uint8) uint8 {
	if r.c.speaks() == Unix {
		mode &^= OAPPEND
	}
	return mode
}

// createPerm is the mode that a Tcreate asks for as a File is to see it.
func (r *request) createPerm(perm uint32) (uint32, error) {
	if r.c.speaks() != Unix {
		return perm, nil
	}
	return plainPerm(perm)
}

// plainPerm makes of a mode of 9P2000.u one of 9P2000. The error is that of a kind of file that nothing
// served can hold.
func plainPerm(perm uint32) (uint32, error) {
	if perm&dmSpecial != 0 {
		return 0, EOPNOTSUPP
	}
	return perm &^ dmSetID, nil
}

// unixFile finds the fid n, which must be a UnixFile. The caller drops it.
func (r *request) unixFile(n uint32) (*fid, UnixFile, error) {
	f, err := r.file(n)
	if err != nil {
		return nil, nil, err
	}
	uf, ok := f.file.(UnixFile)
	if !ok {
		f.drop(&r.ctx)
		return nil, nil, EOPNOTSUPP
	}
	return f, uf, nil
}

func (r *request) statUnix() error {
	f, uf, err := r.unixFile(r.fc.Tstat.Fid)
	if err != nil {
		return err
	}
	err = uf.StatUnix(&r.ctx, &r.dir)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b, err := r.statRoom(r.dir.Size())
	if err != nil {
		return err
	}
	b.b, err = AppendRstatU(b.b, r.fc.Tag, &r.dir)
	return err
}

func (r *request) wstatUnix() error {
	m := &r.fc.Twstat
	f, uf, err := r.unixFile(m.Fid)
	if err != nil {
		return err
	}
	r.dir = UnixDir{Dir(m.Stat), r.fc.UnixStat}
	if d := &r.dir; d.Mode != ^uint32(0) {
		d.Mode, err = plainPerm(d.Mode)
	}
	if r.dir.Extension != "" {
		err = EOPNOTSUPP // what a special file is
	}
	if err == nil {
		err = uf.WstatUnix(&r.ctx, &r.dir)
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize)
	b.b = AppendRwstat(b.b, m.Tag)
	return nil
}
