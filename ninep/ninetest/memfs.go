// Package ninetest tests 9P2000 servers: a file system in memory to serve, a peer that sends frames
// and looks at what comes back, and a runner of conversations written down as text.
//
// FS is kept as simple as its use in tests allows; there are no permissions. Its one lock, FS.mu, is
// held for the length of an operation and never while a Hook runs.
package ninetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gefs9p/ninep"
)

// What FS says when it says no, beside ninep's own errors.
const (
	ErrPerm   = ninep.Error("permission denied")
	ErrExist  = ninep.Error("create/wstat -- file exists")
	ErrOpen   = ninep.Error("resource in use")
	ErrEmpty  = ninep.Error("directory is not empty")
	ErrGone   = ninep.Error("phase error -- use after remove")
	ErrOffset = ninep.Error("invalid dir scan offset")
	ErrDamage = ninep.Error("i/o error")
)

// An FS is a tree of files in memory. Make one with New.
type FS struct {
	// Hook, if not nil, is called at the start of every operation with its name ("walk",
	// "read", …, "authread") and the name of the file (the root's is "/"). It may block. Its
	// error is the operation's. Set it before serving.
	Hook func(c *ninep.Ctx, op, name string) error

	// Secret, if not empty, is what a client must write to an auth fid to attach with it; an
	// attach without one is refused, except of "none" on a connection that is authenticated.
	Secret string

	// Damaged, if not empty, is a name of which it cannot be known in any directory whether it is there.
	Damaged string

	mu     sync.Mutex
	root   *node
	path   uint64
	live   int
	misuse []string
}

// A node is a file.
type node struct {
	dir  ninep.Dir
	up   *node
	kids []*node // of a directory, in the order of their making
	data []byte
	gone bool
}

// New makes a tree with an empty root directory of mode 0777.
func New() *FS {
	fs := new(FS)
	fs.root = fs.node(nil, "/", ninep.DMDIR|0777, "glenda")
	fs.root.up = fs.root
	return fs
}

func (fs *FS) node(up *node, name string, perm uint32, user string) *node {
	n := &node{up: up}
	now := uint32(time.Now().Unix())
	n.dir = ninep.Dir{
		Qid:  ninep.Qid{Qtype: uint8(perm >> 24), Uid: fs.path},
		Mode: perm, Atime: now, Mtime: now, Name: name, Uid: user, Gid: user, Muid: user,
	}
	fs.path++
	return n
}

// Put makes the file at a slash-separated path, and the directories on the way to it, from outside.
func (fs *FS) Put(path string, data []byte) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.root
	elems := strings.Split(path, "/")
	for i, e := range elems {
		k := n.find(e)
		if k == nil {
			perm := uint32(ninep.DMDIR | 0777)
			if i == len(elems)-1 {
				perm = 0666
			}
			k = fs.node(n, e, perm, "glenda")
			n.kids = append(n.kids, k)
		}
		n = k
	}
	n.set(bytes.Clone(data))
}

// Get returns a copy of a file's bytes, or false if there is no such file.
func (fs *FS) Get(path string) ([]byte, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.root
	for e := range strings.SplitSeq(path, "/") {
		if n = n.find(e); n == nil {
			return nil, false
		}
	}
	return bytes.Clone(n.data), true
}

// Live is the number of Files and AuthFiles that have not been clunked.
func (fs *FS) Live() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.live
}

// Misuse lists what the server did to Files that it must not do: calls after Clunk.
func (fs *FS) Misuse() []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.Clone(fs.misuse)
}

func (n *node) find(name string) *node {
	for _, k := range n.kids {
		if k.dir.Name == name {
			return k
		}
	}
	return nil
}

func (n *node) set(data []byte) {
	n.data = data
	n.dir.Length = uint64(len(data))
	n.touch()
}

func (n *node) touch() {
	n.dir.Qid.Vers++
	n.dir.Mtime = uint32(time.Now().Unix())
}

func (n *node) isDir() bool { return n.dir.Mode&ninep.DMDIR != 0 }

// A file is what a fid of FS stands for.
type file struct {
	fs   *FS
	user string
	unix bool // the client speaks 9P2000.u

	// guarded by fs.mu
	n       *node
	mode    int // as opened, -1 before
	next    int // child that a directory read gives next
	off     uint64
	clunked bool
}

// begin runs the hook and takes the lock.
func (f *file) begin(c *ninep.Ctx, op string) error {
	f.fs.mu.Lock()
	if f.clunked {
		f.fs.misuse = append(f.fs.misuse, op+" after clunk of "+f.n.dir.Name)
	}
	name := f.n.dir.Name
	f.fs.mu.Unlock()
	if h := f.fs.Hook; h != nil {
		if err := h(c, op, name); err != nil {
			return err
		}
	}
	f.fs.mu.Lock()
	return nil
}

// newFile makes a File for a node; mu is held.
func (fs *FS) newFile(n *node, user string, unix bool) *file {
	fs.live++
	return &file{fs: fs, user: user, unix: unix, n: n, mode: -1}
}

// Auth implements ninep.FS.
func (fs *FS) Auth(c *ninep.Ctx, uname, aname string) (ninep.AuthFile, ninep.Qid, error) {
	if h := fs.Hook; h != nil {
		if err := h(c, "auth", uname); err != nil {
			return nil, ninep.Qid{}, err
		}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.Secret == "" {
		return nil, ninep.Qid{}, ninep.ErrNoAuth
	}
	fs.live++
	fs.path++
	return &authFile{fs: fs, uname: uname}, ninep.Qid{Qtype: ninep.QTAUTH, Uid: fs.path}, nil
}

// Attach implements ninep.FS. There is one tree, for any aname.
func (fs *FS) Attach(c *ninep.Ctx, a ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	if h := fs.Hook; h != nil {
		if err := h(c, "attach", a.Uname); err != nil {
			return nil, ninep.Qid{}, err
		}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.Secret != "" {
		af, _ := a.Afid.(*authFile)
		ok := af != nil && af.ok && af.uname == a.Uname || a.Uname == "none" && a.Authenticated
		if !ok {
			return nil, ninep.Qid{}, ninep.ErrNoAuth
		}
	}
	return fs.newFile(fs.root, a.Uname, a.Dialect == ninep.Unix), fs.root.dir.Qid, nil
}

// Walk implements ninep.File.
func (f *file) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	if err := f.begin(c, "walk"); err != nil {
		return nil, 0, err
	}
	defer f.fs.mu.Unlock()
	if f.mode >= 0 {
		return nil, 0, ErrOpen
	}
	n := f.n
	for i, e := range names {
		if e == ".." {
			n = n.up
		} else if e == f.fs.Damaged && n.isDir() {
			return nil, i, ErrDamage
		} else if n = n.find(e); n == nil {
			return nil, i, nil
		}
		qids[i] = n.dir.Qid
	}
	return f.fs.newFile(n, f.user, f.unix), len(names), nil
}

// Open implements ninep.File.
func (f *file) Open(c *ninep.Ctx, mode uint8) (ninep.Qid, uint32, error) {
	if err := f.begin(c, "open"); err != nil {
		return ninep.Qid{}, 0, err
	}
	defer f.fs.mu.Unlock()
	switch {
	case f.mode >= 0:
		return ninep.Qid{}, 0, ErrOpen
	case f.n.gone:
		return ninep.Qid{}, 0, ErrGone
	case f.n.isDir() && mode != ninep.OREAD:
		return ninep.Qid{}, 0, ErrPerm
	}
	if mode&ninep.OTRUNC != 0 {
		f.n.set(nil)
	}
	f.mode = int(mode)
	return f.n.dir.Qid, 0, nil
}

// Create implements ninep.File.
func (f *file) Create(c *ninep.Ctx, name string, perm uint32, mode uint8) (ninep.Qid, uint32, error) {
	if err := f.begin(c, "create"); err != nil {
		return ninep.Qid{}, 0, err
	}
	defer f.fs.mu.Unlock()
	switch {
	case f.mode >= 0:
		return ninep.Qid{}, 0, ErrOpen
	case f.n.gone:
		return ninep.Qid{}, 0, ErrGone
	case !f.n.isDir():
		return ninep.Qid{}, 0, ErrPerm
	case name == "" || name == "." || name == ".." || strings.Contains(name, "/"):
		return ninep.Qid{}, 0, ninep.ErrBadName
	case f.n.find(name) != nil:
		return ninep.Qid{}, 0, ErrExist
	}
	k := f.fs.node(f.n, name, perm, f.user)
	f.n.kids = append(f.n.kids, k)
	f.n.touch()
	f.n, f.mode = k, int(mode)
	return k.dir.Qid, 0, nil
}

// Read implements ninep.File.
func (f *file) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	if err := f.begin(c, "read"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if f.mode < 0 || f.mode&3 == ninep.OWRITE {
		return 0, ErrOpen
	}
	if f.n.isDir() {
		return f.list(p, off)
	}
	if off >= uint64(len(f.n.data)) {
		return 0, nil
	}
	return copy(p, f.n.data[off:]), nil
}

func (f *file) list(p []byte, off uint64) (int, error) {
	if off == 0 {
		f.next, f.off = 0, 0
	}
	if off != f.off {
		return 0, ErrOffset
	}
	b := p[:0]
	for ; f.next < len(f.n.kids); f.next++ {
		d := unixDir(&f.n.kids[f.next].dir)
		size, add := d.Dir.Size, d.Dir.Append
		if f.unix {
			size, add = d.Size, d.Append
		}
		if len(b)+size() > len(p) {
			if len(b) == 0 {
				return 0, ninep.ErrBotch
			}
			break
		}
		var err error
		if b, err = add(b); err != nil {
			return 0, err
		}
	}
	f.off += uint64(len(b))
	return len(b), nil
}

// Write implements ninep.File.
func (f *file) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	if err := f.begin(c, "write"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	switch {
	case f.mode < 0 || f.mode&3 != ninep.OWRITE && f.mode&3 != ninep.ORDWR:
		return 0, ErrOpen
	case f.n.gone:
		return 0, ErrGone
	case f.n.dir.Mode&ninep.DMAPPEND != 0:
		off = uint64(len(f.n.data))
	case off > 1<<26 || off+uint64(len(p)) > 1<<26:
		return 0, ninep.Error("file too big")
	}
	data := f.n.data
	if need := int(off) + len(p); need > len(data) {
		data = append(data, make([]byte, need-len(data))...)
	}
	copy(data[off:], p)
	f.n.set(data)
	f.n.dir.Muid = f.user
	return len(p), nil
}

// Stat implements ninep.File.
func (f *file) Stat(c *ninep.Ctx, d *ninep.Dir) error {
	if err := f.begin(c, "stat"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	*d = f.n.dir
	return nil
}

// Wstat implements ninep.File: name, length, permissions and mtime can change.
func (f *file) Wstat(c *ninep.Ctx, d *ninep.Dir) error {
	if err := f.begin(c, "wstat"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	null := ninep.NullDir()
	switch {
	case f.n.gone:
		return ErrGone
	case d.Name != "" && d.Name != f.n.dir.Name && (f.n == f.fs.root || strings.Contains(d.Name, "/")):
		return ninep.ErrBadName
	case d.Name != "" && d.Name != f.n.dir.Name && f.n.up.find(d.Name) != nil:
		return ErrExist
	case d.Length != null.Length && (f.n.isDir() || d.Length > 1<<26):
		return ErrPerm
	}
	if d.Name != "" {
		f.n.dir.Name = d.Name
	}
	if d.Length != null.Length {
		data := f.n.data
		if n := int(d.Length); n <= len(data) {
			data = data[:n:n]
		} else {
			data = append(data, make([]byte, n-len(data))...)
		}
		f.n.set(data)
	}
	if d.Mode != null.Mode {
		f.n.dir.Mode = f.n.dir.Mode&^0777 | d.Mode&0777
	}
	if d.Mtime != null.Mtime {
		f.n.dir.Mtime = d.Mtime
	}
	return nil
}

// Remove implements ninep.File.
func (f *file) Remove(c *ninep.Ctx) error {
	if err := f.begin(c, "remove"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	f.mode &^= ninep.ORCLOSE
	return f.n.remove()
}

func (n *node) remove() error {
	switch {
	case n.gone:
		return ErrGone
	case n.up == n:
		return ErrPerm
	case len(n.kids) > 0:
		return ErrEmpty
	}
	n.gone = true
	n.up.kids = slices.DeleteFunc(n.up.kids, func(k *node) bool { return k == n })
	n.up.touch()
	return nil
}

// Clunk implements ninep.File.
func (f *file) Clunk(c *ninep.Ctx) {
	if err := f.begin(c, "clunk"); err != nil {
		f.fs.mu.Lock() // a clunk cannot fail
	}
	defer f.fs.mu.Unlock()
	if f.clunked {
		return // begin has made a note of it
	}
	f.clunked = true
	f.fs.live--
	if f.mode >= 0 && f.mode&ninep.ORCLOSE != 0 {
		// Clients may have put something into a directory that they asked to be removed.
		if err := f.n.remove(); err != nil && err != ErrGone && err != ErrEmpty {
			f.fs.misuse = append(f.fs.misuse, fmt.Sprintf("remove on close of %s: %v", f.n.dir.Name, err))
		}
	}
}

// An authFile is a conversation of one message: the client writes the secret.
type authFile struct {
	fs    *FS
	uname string

	// guarded by fs.mu
	ok, clunked bool
}

func (a *authFile) begin(c *ninep.Ctx, op string) error {
	a.fs.mu.Lock()
	if a.clunked {
		a.fs.misuse = append(a.fs.misuse, op+" after clunk of an auth fid")
	}
	a.fs.mu.Unlock()
	if h := a.fs.Hook; h != nil {
		if err := h(c, op, a.uname); err != nil {
			return err
		}
	}
	a.fs.mu.Lock()
	return nil
}

// Read implements ninep.AuthFile.
func (a *authFile) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	if err := a.begin(c, "authread"); err != nil {
		return 0, err
	}
	defer a.fs.mu.Unlock()
	if a.ok {
		return copy(p, "ok"), nil
	}
	return copy(p, "secret?"), nil
}

// Write implements ninep.AuthFile.
func (a *authFile) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	if err := a.begin(c, "authwrite"); err != nil {
		return 0, err
	}
	defer a.fs.mu.Unlock()
	if string(p) != a.fs.Secret {
		return 0, ninep.ErrBotch
	}
	a.ok = true
	return len(p), nil
}

// Clunk implements ninep.AuthFile.
func (a *authFile) Clunk(c *ninep.Ctx) {
	if err := a.begin(c, "authclunk"); err != nil {
		a.fs.mu.Lock()
	}
	defer a.fs.mu.Unlock()
	if !a.clunked {
		a.clunked = true
		a.fs.live--
	}
}
