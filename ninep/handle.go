package ninep

import (
	"encoding/binary"
	"fmt"
)

// rreadHeader is the size of an Rread before its data.
const rreadHeader = HeaderSize + 4

// replySize is the room that the reply may take; of all but Rread and Rstat a rough bound.
func (r *request) replySize() int {
	switch r.fc.Type {
	case Tread:
		return rreadHeader + r.readCount()
	case Treaddir:
		return rreadHeader + r.readCount()
	case Tstat:
		return 1024
	}
	return linuxReply
}

// readCount is what a Tread or a Treaddir asks for, as far as it fits into a frame.
func (r *request) readCount() int {
	count := r.fc.Tread.Count
	if m, ok := r.fc.Linux.(*LReaddir); ok {
		count = m.Count
	}
	return int(min(count, r.maxData()))
}

// maxData is the most that a read or write can carry.
func (r *request) maxData() uint32 { return r.ctx.Msize - IOHDRSZ }

// handle runs the handler of the request and appends the reply. It is called with the worker
// entered.
//
// In each of the functions below appending the reply is the last thing, after fids are dropped:
// dropping may clunk, clunking may block, and once a reply lies in the leader's buffer its request
// must not be found outstanding any more.
func (r *request) handle() {
	var err error
	if r.fc.Linux != nil {
		if err = r.linux(); err != nil {
			r.fail(err)
		}
		return
	}
	dialect := r.c.speaks()
	if dialect == Linux && notLinux(r.fc.Type) {
		r.fail(EOPNOTSUPP)
		return
	}
	switch r.fc.Type {
	case Tauth:
		err = r.auth()
	case Tattach:
		err = r.attach()
	case Twalk:
		err = r.walk()
	case Topen:
		err = r.open()
	case Tcreate:
		err = r.create()
	case Tread:
		err = r.read()
	case Twrite:
		err = r.write()
	case Tclunk:
		err = r.clunk()
	case Tremove:
		err = r.remove()
	case Tstat:
		if dialect == Unix {
			err = r.statUnix()
		} else {
			err = r.stat()
		}
	case Twstat:
		if dialect == Unix {
			err = r.wstatUnix()
		} else {
			err = r.wstat()
		}
	default:
		err = fmt.Errorf("no handler for %s: %w", typeName(r.fc.Type), ErrInternal)
	}
	if err != nil {
		r.fail(err)
	}
}

// notLinux says which messages of 9P2000 are not part of 9P2000.L.
func notLinux(typ uint8) bool {
	return typ == Topen || typ == Tcreate || typ == Tstat || typ == Twstat
}

// user is whom a Tauth or a Tattach means: by name, or in 9P2000.u and 9P2000.L by number if there is no name.
//
// Linux before 6.4 writes what is in its cache back as its superuser, whoever wrote it, and attaches by that one's
// number for it. If he is nobody here, he is who has attached first, which gives the client nothing it did not
// have.
func (r *request) user(name string) (string, error) {
	l, ok := r.c.s.FS.(LinuxFS)
	if !ok || name != "" || r.fc.NUname == NOUID {
		return name, nil
	}
	name, err := l.UserOf(r.fc.NUname)
	if err == nil || r.fc.NUname != 0 {
		return name, err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.first == "" {
		return "", err
	}
	return r.c.first, nil
}

// file finds the fid n, which must not be an auth fid. The caller drops it.
func (r *request) file(n uint32) (*fid, error) {
	f, err := r.c.use(n)
	if err != nil {
		return nil, err
	}
	if f.auth != nil {
		f.drop(&r.ctx)
		return nil, ErrFidType
	}
	return f, nil
}

func (r *request) auth() error {
	m := &r.fc.Tauth
	uname, err := r.user(m.Uname)
	if err != nil {
		return err
	}
	af, qid, err := r.c.s.FS.Auth(&r.ctx, uname, m.Aname)
	switch {
	case err == ErrNoAuth && r.c.speaks() == Linux:
		return ENOENT // diod's clients attach without, then; at any other number they give up
	case err != nil:
		return err
	case af == nil:
		return fmt.Errorf("Auth returned nothing: %w", ErrInternal)
	}
	f := &fid{auth: af}
	if err := r.c.enter(m.Afid, f); err != nil {
		f.drop(&r.ctx)
		return err
	}
	b := r.room(HeaderSize + QidSize)
	b.b = AppendRauth(b.b, m.Tag, qid)
	return nil
}

func (r *request) attach() error {
	c, m := r.c, &r.fc.Tattach
	uname, err := r.user(m.Uname)
	if err != nil {
		return err
	}
	args := AttachArgs{Uname: uname, Aname: m.Aname, Dialect: c.speaks()}
	var af *fid
	if m.Afid != NOFID {
		if af, err = c.use(m.Afid); err != nil {
			return err
		}
		if af.auth == nil {
			af.drop(&r.ctx)
			return ErrFidType
		}
		args.Afid = af.auth
	}
	c.mu.Lock()
	args.Authenticated = c.authed
	c.mu.Unlock()
	file, qid, err := c.s.FS.Attach(&r.ctx, args)
	if af != nil {
		af.drop(&r.ctx)
	}
	if err != nil {
		return err
	}
	if file == nil {
		return fmt.Errorf("Attach returned nothing: %w", ErrInternal)
	}
	c.mu.Lock()
	if args.Afid != nil {
		c.authed = true
	}
	if c.first == "" {
		c.first = m.Uname
	}
	c.mu.Unlock()
	f := &fid{file: file}
	if err := c.enter(m.Fid, f); err != nil {
		f.drop(&r.ctx)
		return err
	}
	c.attached(uname)
	b := r.room(HeaderSize + QidSize)
	b.b = AppendRattach(b.b, m.Tag, qid)
	return nil
}

func (r *request) walk() error {
	c, m := r.c, &r.fc.Twalk
	f, err := r.file(m.Fid)
	if err != nil {
		return err
	}
	qids := r.qids[:len(m.Wname)]
	nf, n, err := f.file.Walk(&r.ctx, m.Wname, qids)
	switch {
	case err == nil && (n == len(qids)) == (nf != nil) && n >= 0 && n <= len(qids):
		if n == 0 && nf == nil {
			err = ErrNotFound
		}
	case err == nil:
		err = fmt.Errorf("Walk returned %v and %d of %d: %w", nf, n, len(qids), ErrInternal)
	}
	if nf != nil {
		g := &fid{file: nf}
		g.refs.Store(1)
		switch {
		case err != nil:
		case m.Newfid != m.Fid:
			err = c.enter(m.Newfid, g)
		default:
			if err = c.exchange(m.Fid, f, g); err == nil {
				f.refs.Add(-1) // the table's; ours is still there
			}
		}
		if err != nil {
			g.drop(&r.ctx)
		}
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize + 2 + n*QidSize)
	b.b, err = AppendRwalk(b.b, m.Tag, qids[:n]...)
	return err
}

// iounit is what the client is told of the iounit u that a File wants.
func (r *request) iounit(u uint32) uint32 {
	if most := r.maxData(); u == 0 || u > most {
		return most
	}
	return u
}

func (r *request) open() error {
	m := &r.fc.Topen
	f, err := r.file(m.Fid)
	if err != nil {
		return err
	}
	qid, iounit, err := f.file.Open(&r.ctx, r.openMode(uint8(m.Mode)))
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize + QidSize + 4)
	b.b = AppendRopen(b.b, m.Tag, qid, r.iounit(iounit))
	return nil
}

func (r *request) create() error {
	m := &r.fc.Tcreate
	f, err := r.file(m.Fid)
	if err != nil {
		return err
	}
	var qid Qid
	var iounit uint32
	perm, err := r.createPerm(m.Perm)
	if err == nil {
		qid, iounit, err = f.file.Create(&r.ctx, m.Name, perm, r.openMode(m.Mode))
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize + QidSize + 4)
	b.b = AppendRcreate(b.b, m.Tag, qid, r.iounit(iounit))
	return nil
}

func (r *request) read() error {
	m := &r.fc.Tread
	f, err := r.c.use(m.Fid)
	if err != nil {
		return err
	}
	count := r.readCount()
	b := r.room(max(rreadHeader+count, errorReply))
	r.at = len(b.b)
	data := r.at + rreadHeader
	p := b.b[data : data+count : data+count]
	var n int
	if f.auth != nil {
		n, err = f.auth.Read(&r.ctx, p, m.Offset)
	} else {
		n, err = f.file.Read(&r.ctx, p, m.Offset)
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	if n < 0 || n > count {
		return fmt.Errorf("Read of %d bytes returned %d: %w", count, n, ErrInternal)
	}
	// Whether or not the request has blocked, its reply is at this place of this buffer.
	b.b = begin(b.b, Rread, m.Tag)
	b.b = binary.LittleEndian.AppendUint32(b.b, uint32(n))
	b.b = end(b.b[:data+n], r.at)
	return nil
}

func (r *request) write() error {
	m := &r.fc.Twrite
	f, err := r.c.use(m.Fid)
	if err != nil {
		return err
	}
	var n int
	if f.auth != nil {
		n, err = f.auth.Write(&r.ctx, m.Data, m.Offset)
	} else {
		n, err = f.file.Write(&r.ctx, m.Data, m.Offset)
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	if n < 0 || n > len(m.Data) {
		return fmt.Errorf("Write of %d bytes returned %d: %w", len(m.Data), n, ErrInternal)
	}
	b := r.room(HeaderSize + 4)
	b.b = AppendRwrite(b.b, m.Tag, uint32(n))
	return nil
}

func (r *request) clunk() error {
	m := &r.fc.Tclunk
	f, err := r.c.take(m.Fid)
	if err != nil {
		return err
	}
	f.drop(&r.ctx)
	b := r.room(HeaderSize)
	b.b = AppendRclunk(b.b, m.Tag)
	return nil
}

func (r *request) remove() error {
	m := &r.fc.Tremove
	f, err := r.c.take(m.Fid) // the fid is gone even if the file stays
	if err != nil {
		return err
	}
	if f.auth != nil {
		err = ErrFidType
	} else {
		err = f.file.Remove(&r.ctx)
	}
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize)
	b.b = AppendRremove(b.b, m.Tag)
	return nil
}

func (r *request) stat() error {
	m := &r.fc.Tstat
	f, err := r.file(m.Fid)
	if err != nil {
		return err
	}
	d := &r.dir.Dir
	err = f.file.Stat(&r.ctx, d)
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b, err := r.statRoom(d.Size())
	if err != nil {
		return err
	}
	b.b, err = AppendRstat(b.b, m.Tag, d)
	return err
}

// statRoom is room for an Rstat with a record of so many bytes.
func (r *request) statRoom(size int) (*buffer, error) {
	n := HeaderSize + 2 + size
	if size > 0xffff || n > int(r.ctx.Msize) {
		return nil, fmt.Errorf("stat record of %d bytes: %w", size, ErrStatSize)
	}
	return r.room(n), nil
}

func (r *request) wstat() error {
	m := &r.fc.Twstat
	f, err := r.file(m.Fid)
	if err != nil {
		return err
	}
	err = f.file.Wstat(&r.ctx, (*Dir)(&m.Stat))
	f.drop(&r.ctx)
	if err != nil {
		return err
	}
	b := r.room(HeaderSize)
	b.b = AppendRwstat(b.b, m.Tag)
	return nil
}

// version starts the session anew: what is outstanding is cancelled and waited for, all fids are
// clunked, and only then the client is answered. A msize below MinMsize gets ErrMsize, a protocol
// other than 9P2000, with or without a dot and what follows, gets "unknown"; after either the
// connection is as it was in the beginning. 9P2000.u and 9P2000.L, and what extends them, get that if
// the file system is a LinuxFS, all else of 9P2000 gets 9P2000.
// Source: version(5).
func (c *Conn) version(r *request) {
	// Sent at once: the reply to a later request that blocks must not come first.
	defer c.flush()
	l := &c.lead
	m := &r.fc.Version
	c.unseat()
	c.flush()
	c.mu.Lock()
	c.abortLocked()
	for c.blocked > 0 {
		c.fewer.Wait()
	}
	c.mu.Unlock()
	c.clunkAll()

	l.msize = 0
	c.dialect.Store(int32(Plan9))
	b := r.room(errorReply)
	if m.Msize < MinMsize {
		b.b = AppendRerror(b.b, m.Tag, string(ErrMsize))
		return
	}
	msize := min(m.Msize, c.s.Limits.Msize)
	answer := "unknown"
	_, numbers := c.s.FS.(LinuxFS)
	if dialect, ok := dialectOf(m.Version, numbers); ok {
		l.msize = msize
		c.dialect.Store(int32(dialect))
		answer = dialect.String()
	}
	b.b, _ = AppendRversion(b.b, m.Tag, msize, answer) // both are short
}
