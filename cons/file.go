package cons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"gefs9p/ninep"
)

// A FileSystem offers the console over 9P: a directory with one file, cmd. It is a ninep.FS.
//
// Each write to cmd is a command, or several, one a line; it returns when they are done, with the error
// of the first that failed, which ends them. What they said is then read from the same fid, from the
// place where the first read after the write begins: echo df and cat work on one file descriptor, and
// so do programs that seek to the start. Only members of the group adm may attach.
type FileSystem struct {
	ctx context.Context
	c   *Console
}

// NewFileSystem returns a FileSystem whose commands are cancelled when ctx ends.
func NewFileSystem(ctx context.Context, c *Console) *FileSystem {
	c.init()
	return &FileSystem{ctx, c}
}

const (
	rootPath  = 0
	cmdPath   = 1
	cmdName   = "cmd"
	outMax    = 16 << 20 // bytes that a command may say
	readWrite = 0o600
)

const (
	errPerm = ninep.Error("permission denied")
	errOpen = ninep.Error("resource in use")
	errUser = ninep.Error("attach -- not in group adm")
	errLong = ninep.Error("the command said more than is kept")
	errScan = ninep.Error("invalid dir scan offset")
)

// Auth says that there is no authentication.
func (fs *FileSystem) Auth(*ninep.Ctx, string, string) (ninep.AuthFile, ninep.Qid, error) {
	return nil, ninep.Qid{}, ninep.ErrNoAuth
}

// Attach returns the directory.
func (fs *FileSystem) Attach(c *ninep.Ctx, a ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	t := fs.c.FS.Users()
	if uid, ok := t.ID(a.Uname); !ok || !t.InGroup(uid, t.Adm()) {
		return nil, ninep.Qid{}, errUser
	}
	f := &file{fs: fs, user: a.Uname}
	return f, f.qid(), nil
}

// A file is a fid on the directory or on cmd.
type file struct {
	fs   *FileSystem
	user string
	cmd  bool // else the directory

	mu   sync.Mutex
	open bool
	mode uint8
	out  []byte // of the last command
	base uint64 // offset that stands for the start of out
	read bool   // base is settled
}

func (f *file) qid() ninep.Qid {
	if f.cmd {
		return ninep.Qid{Uid: cmdPath}
	}
	return ninep.Qid{Qtype: ninep.QTDIR, Uid: rootPath}
}

// Walk goes to cmd and back.
func (f *file) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	f.mu.Lock()
	open := f.open
	f.mu.Unlock()
	if open {
		return nil, 0, errOpen
	}
	nf := &file{fs: f.fs, user: f.user, cmd: f.cmd}
	for i, name := range names {
		switch {
		case name == ".." && !nf.cmd:
		case name == cmdName && !nf.cmd:
			nf.cmd = true
		case i > 0:
			return nil, i, nil
		default:
			return nil, 0, ninep.ErrNotFound
		}
		qids[i] = nf.qid()
	}
	return nf, len(names), nil
}

// Open opens cmd for reading and writing, the directory for reading.
func (f *file) Open(c *ninep.Ctx, mode uint8) (ninep.Qid, uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.open:
		return ninep.Qid{}, 0, errOpen
	case mode&^(3|ninep.OTRUNC|ninep.OCEXEC) != 0, mode&3 == ninep.OEXEC, !f.cmd && mode&^ninep.OCEXEC != ninep.OREAD:
		return ninep.Qid{}, 0, errPerm
	}
	f.open, f.mode = true, mode
	return f.qid(), 0, nil
}

// Create is refused.
func (f *file) Create(*ninep.Ctx, string, uint32, uint8) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, 0, errPerm
}

// Read returns what the last command said.
func (f *file) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.open || f.mode&3 == ninep.OWRITE:
		return 0, errOpen
	case !f.cmd:
		return f.readDir(p, off)
	}
	if !f.read {
		f.base, f.read = off, true
	}
	if off < f.base || off-f.base > uint64(len(f.out)) {
		return 0, nil
	}
	return copy(p, f.out[off-f.base:]), nil
}

func (f *file) readDir(p []byte, off uint64) (int, error) {
	var d ninep.Dir
	(&file{fs: f.fs, user: f.user, cmd: true}).fill(&d)
	rec, err := d.Append(nil)
	switch {
	case err != nil:
		return 0, err
	case off == uint64(len(rec)):
		return 0, nil
	case off != 0:
		return 0, errScan
	case len(p) < len(rec):
		return 0, ninep.ErrBotch
	}
	return copy(p, rec), nil
}

// Write runs commands.
func (f *file) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	f.mu.Lock()
	ok := f.open && f.cmd && f.mode&3 != ninep.OREAD
	f.mu.Unlock()
	if !ok {
		return 0, errOpen
	}
	lines := bytes.Split(bytes.Clone(p), []byte{'\n'})
	var out limited
	var err error
	c.Sleep(func() { err = f.run(c, lines, &out) })
	f.mu.Lock()
	f.out, f.read = out.b.Bytes(), false
	f.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled):
		return 0, ninep.ErrInterrupted
	case err != nil:
		return 0, ninep.Error(oneLine(err.Error()))
	}
	return len(p), nil
}

// run runs one command after the other until one fails. A client that wants no answer any more, and the
// end of the server, cancel them.
func (f *file) run(c *ninep.Ctx, lines [][]byte, out io.Writer) error {
	ctx, cancel := context.WithCancel(f.fs.ctx)
	var watch sync.WaitGroup
	cancelled := c.Cancelled()
	watch.Go(func() {
		select {
		case <-cancelled:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel()
	for _, line := range lines {
		words, err := Split(string(line))
		if err == nil {
			err = f.fs.c.Exec(ctx, words, out)
		}
		if err == ErrReported {
			return fmt.Errorf("%s: failed; read it for what was said", words[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A limited is a buffer that does not take everything.
type limited struct{ b bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > outMax {
		return 0, errLong
	}
	return l.b.Write(p)
}

// Stat describes the file.
func (f *file) Stat(c *ninep.Ctx, d *ninep.Dir) error {
	f.fill(d)
	return nil
}

func (f *file) fill(d *ninep.Dir) {
	now := uint32(f.fs.c.Now().Unix())
	*d = ninep.Dir{
		Type: ^uint16(0), Dev: ^uint32(0), Qid: f.qid(), Mode: readWrite, Atime: now, Mtime: now,
		Name: cmdName, Uid: f.user, Gid: "adm", Muid: f.user,
	}
	if !f.cmd {
		d.Name, d.Mode = "/", ninep.DMDIR|0o500
	}
}

// Wstat is refused, but for what a shell does that truncates before it writes, and for fsync: they
// change nothing.
func (f *file) Wstat(c *ninep.Ctx, d *ninep.Dir) error {
	want := *d
	if f.cmd && want.Length == 0 {
		want.Length = ^uint64(0)
	}
	want.Mtime = ^uint32(0)
	if !want.IsNull() {
		return errPerm
	}
	return nil
}

// Remove is refused.
func (f *file) Remove(*ninep.Ctx) error { return errPerm }

// Clunk has nothing to give back.
func (f *file) Clunk(*ninep.Ctx) {}
