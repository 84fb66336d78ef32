package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// usersText are the users of the tests. glenda may administer, alice leads staff and sys has no leader.
const usersText = `-1:adm::glenda
0:none::
1:glenda:glenda:
2:alice:alice:
3:bob:bob:
4:sys::glenda,alice
5:staff:alice:alice,bob,carol
6:carol:carol:
8:mallory:mallory:
9999:nogroup::mallory
`

// A world is a small disk being served.
type world struct {
	t   *testing.T
	dev blkdev.Device
	opt gefs.Options
	fs  *gefs.FS
	srv *gefstest.Server
}

// newWorld reams a small disk with the users of usersText.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, gefstest.Ream(t), gefs.Options{})
}

func newWorldOn(t *testing.T, dev blkdev.Device, opt gefs.Options) *world {
	t.Helper()
	w := &world{t: t, dev: dev, opt: opt}
	w.start()
	if !opt.ReadOnly {
		w.setUsers(usersText)
	}
	return w
}

func (w *world) start() {
	w.t.Helper()
	w.fs = gefstest.Open(w.t, w.dev, w.opt)
	w.srv = gefstest.Serve(w.t, w.fs, 0)
}

// stop ends the service in good order.
func (w *world) stop() {
	w.t.Helper()
	w.srv.Stop()
	if err := w.fs.Close(); err != nil {
		w.t.Fatalf("close: %v", err)
	}
}

// restart stops the service and starts it again.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// end stops the service and checks the disk, on which nothing may be lost.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	gefstest.CheckStrict(w.t, w.dev)
}

func (w *world) setUsers(text string) {
	w.t.Helper()
	adm := w.as("glenda", "%adm")
	f := adm.open("users", ninep.OWRITE|ninep.OTRUNC)
	f.write(text, 0)
	f.clunk()
	if err := w.fs.ReloadUsers(); err != nil {
		w.t.Fatal(err)
	}
	adm.hangUp()
}

// snapshot gives the snapshot old another name.
func (w *world) snapshot(old, name string, mutable bool) {
	w.t.Helper()
	c, end := w.fs.Background()
	defer end()
	if err := w.fs.Label(c, old, name, mutable); err != nil {
		w.t.Fatal(err)
	}
}

// sync commits, and waits until nothing is written any more.
func (w *world) sync() {
	w.t.Helper()
	if err := w.fs.Sync(context.Background()); err != nil {
		w.t.Fatalf("sync: %v", err)
	}
	w.fs.CommitEnds()
}

// A session is somebody attached somewhere, on a connection of their own. Methods that end in Err
// return the server's error; the others fail the test.
type session struct {
	w    *world
	conn *client.Conn
	root *client.Fid
}

func (w *world) as(uname, aname string) *session {
	w.t.Helper()
	s := &session{w: w, conn: w.srv.Dial()}
	var err error
	if s.root, err = s.conn.Attach(uname, aname); err != nil {
		w.t.Fatalf("attach to %q as %s: %v", aname, uname, err)
	}
	return s
}

func (s *session) hangUp() { s.conn.Close() }

// A file is a fid of a session.
type file struct {
	*client.Fid
	w    *world
	name string
}

func (s *session) must(what string, err error) {
	s.w.t.Helper()
	if err != nil {
		s.w.t.Fatalf("%s: %v", what, err)
	}
}

func (s *session) walkErr(p string) (*file, error) {
	f, err := s.root.WalkPath(p)
	return &file{f, s.w, p}, err
}

func (s *session) walk(p string) *file {
	s.w.t.Helper()
	f, err := s.walkErr(p)
	s.must("walk "+p, err)
	return f
}

func (s *session) openErr(p string, mode uint8) (*file, error) {
	f, err := s.walkErr(p)
	if err != nil {
		return nil, err
	}
	if err := f.Open(mode); err != nil {
		f.Clunk()
		return nil, err
	}
	return f, nil
}

func (s *session) open(p string, mode uint8) *file {
	s.w.t.Helper()
	f, err := s.openErr(p, mode)
	s.must(fmt.Sprintf("open %s by %#x", p, mode), err)
	return f
}

func (s *session) createErr(p string, perm uint32, mode uint8) (*file, error) {
	f, err := s.walkErr(path.Dir(p))
	if err != nil {
		return nil, err
	}
	if err := f.Create(path.Base(p), perm, mode); err != nil {
		f.Clunk()
		return nil, err
	}
	f.name = p
	return f, nil
}

func (s *session) create(p string, perm uint32, mode uint8) *file {
	s.w.t.Helper()
	f, err := s.createErr(p, perm, mode)
	s.must("create "+p, err)
	return f
}

// mkdir makes a directory with just these permissions, as put makes files: what the permissions of
// the directory around it take away is given back.
func (s *session) mkdir(p string, perm uint32) {
	s.w.t.Helper()
	s.create(p, ninep.DMDIR|perm, ninep.OREAD).clunk()
	s.chmod(p, ninep.DMDIR|perm)
}

// put makes a file with the text in it.
func (s *session) put(p string, perm uint32, text string) {
	s.w.t.Helper()
	f := s.create(p, perm, ninep.OWRITE)
	if text != "" {
		f.write(text, 0)
	}
	f.clunk()
	if s.stat(p).Mode != perm {
		s.chmod(p, perm)
	}
}

// get returns what is in a file.
func (s *session) get(p string) string {
	s.w.t.Helper()
	f := s.open(p, ninep.OREAD)
	defer f.clunk()
	return f.read()
}

func (s *session) stat(p string) ninep.Dir {
	s.w.t.Helper()
	f := s.walk(p)
	defer f.clunk()
	return f.stat()
}

// wstatErr changes what change sets in a record that says "don't touch" everywhere.
func (s *session) wstatErr(p string, change func(*ninep.Dir)) error {
	f, err := s.walkErr(p)
	if err != nil {
		return err
	}
	defer f.Clunk()
	return f.wstatErr(change)
}

func (s *session) wstat(p string, change func(*ninep.Dir)) {
	s.w.t.Helper()
	s.must("wstat "+p, s.wstatErr(p, change))
}

func (s *session) truncate(p string, length uint64) {
	s.w.t.Helper()
	s.wstat(p, func(d *ninep.Dir) { d.Length = length })
}

func (s *session) chmod(p string, mode uint32) {
	s.w.t.Helper()
	s.wstat(p, func(d *ninep.Dir) { d.Mode = mode })
}

func (s *session) removeErr(p string) error {
	f, err := s.walkErr(p)
	if err != nil {
		return err
	}
	return f.Remove()
}

func (s *session) remove(p string) {
	s.w.t.Helper()
	s.must("remove "+p, s.removeErr(p))
}

// list returns the names in a directory, in the server's order.
func (s *session) list(p string) []string {
	s.w.t.Helper()
	f := s.open(p, ninep.OREAD)
	defer f.clunk()
	dirs, err := f.ReadDir()
	s.must("list "+p, err)
	names := make([]string, len(dirs))
	for i := range dirs {
		names[i] = dirs[i].Name
	}
	return names
}

func (f *file) must(what string, err error) {
	f.w.t.Helper()
	if err != nil {
		f.w.t.Fatalf("%s %s: %v", what, f.name, err)
	}
}

func (f *file) clunk() {
	f.w.t.Helper()
	f.must("clunk", f.Clunk())
}

func (f *file) writeErr(text string, off int64) error {
	_, err := f.WriteAt([]byte(text), off)
	return err
}

func (f *file) write(text string, off int64) {
	f.w.t.Helper()
	f.must("write", f.writeErr(text, off))
}

func (f *file) readErr() (string, error) {
	var b strings.Builder
	p := make([]byte, 100000)
	for {
		n, err := f.ReadAt(p, int64(b.Len()))
		b.Write(p[:n])
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
	}
}

func (f *file) read() string {
	f.w.t.Helper()
	text, err := f.readErr()
	f.must("read", err)
	return text
}

// at returns n bytes at off, fewer at the end of the file.
func (f *file) at(off int64, n int) string {
	f.w.t.Helper()
	p := make([]byte, n)
	n, err := f.ReadAt(p, off)
	if err != io.EOF {
		f.must("read", err)
	}
	return string(p[:n])
}

func (f *file) stat() ninep.Dir {
	f.w.t.Helper()
	d, err := f.Stat()
	f.must("stat", err)
	return d
}

func (f *file) wstatErr(change func(*ninep.Dir)) error {
	d := ninep.NullDir()
	change(&d)
	return f.Wstat(d)
}

func (f *file) wstat(change func(*ninep.Dir)) {
	f.w.t.Helper()
	f.must("wstat", f.wstatErr(change))
}

// raw sends one message and returns the reply.
func (s *session) raw(m proto.FCall) (*ninep.Fcall, error) {
	r := new(ninep.Fcall)
	return r, s.conn.RPC(context.Background(), m, r)
}

// refused fails the test if err is not what the server says in these words.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: done, want %q", what, want)
		return
	}
	var e ninep.Error
	if !errors.As(err, &e) || string(e) != want {
		t.Errorf("%s: %q, want %q", what, err, want)
	}
}

// What the server says.
const (
	eperm     = "permission denied"
	einuse    = "resource in use"
	enotfound = "directory entry not found"
	erdonly   = "file system read only"
	ephase    = "phase error -- use after remove"
	elocked   = "open/create -- file is locked"
	eexist    = "create/wstat -- file exists"
	efull     = "file system full"
	emode     = "open/create -- unknown mode"
	ename     = "create/wstat -- bad character in file name"
	elength   = "name too long"
	enotempty = "directory is not empty"
	efid      = "unknown fid"
	etype     = "invalid fid type"
	escan     = "invalid dir scan offset"
	ebotch    = "protocol botch"
	efsize    = "file too big"
	espec     = "attach -- bad specifier"
)

func rawWrite(f *file, off uint64, text string) proto.FCall {
	return &proto.TWrite{Fid: f.Num(), Offset: off, Data: []byte(text)}
}

func rawRead(f *file, off uint64, count uint32) proto.FCall {
	return &proto.TRead{Fid: f.Num(), Offset: off, Count: count}
}
