package ninep

// An FS is what a Server serves. Its methods, and those of the Files it returns, run on a worker
// that has been entered (Ctx.Worker), many at a time.
//
// Any error's text goes to the client, see Error. What a handler must check for itself: names
// (lengths, characters other than NUL, "." and ".."), modes, permissions, offsets, whether a file is
// open. What it need not: everything about fids, tags, counts and the form of messages, and that
// strings are UTF-8 without NUL.
//
// Strings and AttachArgs passed to a handler may be kept. Buffers and *Dirs are the server's again
// when the handler returns.
type FS interface {
	// Auth starts an authentication of uname for the tree aname and returns what the client
	// will read from and write to. The qid's type should be QTAUTH. Where there is no
	// authentication, the error is ErrNoAuth; one that wraps it is a refusal.
	// If the client's afid turns out to be in use, the AuthFile is clunked and the client told.
	Auth(c *Ctx, uname, aname string) (AuthFile, Qid, error)

	// Attach returns the root of the tree a.Aname for the user a.Uname. A failed Attach leaves
	// a.Afid as it was. If the client's fid turns out to be in use, the File is clunked and the
	// client told.
	// Source: attach(5).
	Attach(c *Ctx, a AttachArgs) (File, Qid, error)
}

// AttachArgs is what a Tattach says.
type AttachArgs struct {
	Uname, Aname string

	// Afid is the conversation that has to prove Uname, nil if the client gave NOFID. The fid
	// exists and is an auth fid; whether the conversation has ended well, and for whom, is for
	// Attach to find out. It is not clunked while Attach runs.
	Afid AuthFile

	// Dialect is what the client speaks: the File should be a UnixFile or a LinuxFile accordingly.
	Dialect Dialect

	// Authenticated says that an earlier attach of this connection, since its last Tversion,
	// succeeded with an Afid.
	Authenticated bool
}

// A File is what a fid stands for: a place in a tree, open or not. Each fid has a File of its own.
//
// Methods of one File are called concurrently only if one of them blocked (Ctx.Block) or the client
// uses the fid in a request while an earlier one has not been answered.
//
// A File returned by Attach or Walk belongs to the server, which calls Clunk exactly once, as the
// last call: when the client clunks or removes the fid, walks it to itself, sends Tversion, hangs
// up, or gave a number in use; and not before every other method of the File has returned.
type File interface {
	// Walk follows names from this file, at most MaxWalk, and reports how many it could follow;
	// their qids go to qids, which has the length of names. Only if it followed all of them it
	// returns a File, the one that newfid will be; it must be a new one, even when the client
	// walks a fid to itself. Then the server clunks this File after the walk.
	//
	//	n == len(names)           nf is the new File; with no names, a second fid of this file
	//	0 < n < len(names)        nf is nil, err is nil: the client sees that it did not arrive
	//	0 == n < len(names)       err says why (ErrNotFound if nil)
	//	err is not nil            the client gets that, whatever n is: for a name of which nothing
	//	                          can be known, as clients take an early end for its absence
	//
	// The walk is refused by Walk if the file is open: walk(5).
	Walk(c *Ctx, names []string, qids []Qid) (nf File, n int, err error)

	// Open prepares the file for reading or writing by mode (OREAD…). Nothing has been checked
	// of mode, nor that the file is not open already. The iounit is clamped to msize − IOHDRSZ,
	// which is also what 0 becomes; see Ctx.Msize.
	// Source: open(5).
	Open(c *Ctx, mode uint8) (q Qid, iounit uint32, err error)

	// Create makes name in this directory and this File becomes the new file, open by mode.
	// Nothing has been checked of name, perm, mode, nor that this is a directory, not open.
	// On error the File stays what it was.
	Create(c *Ctx, name string, perm uint32, mode uint8) (q Qid, iounit uint32, err error)

	// Read reads at byte off into p, which is already part of the reply; n less than len(p)
	// means the end of the file. len(p) is what the client asked for, or msize − IOHDRSZ if that
	// is less; it may be 0. A directory gives whole stat records (Dir.Append, and UnixDir.Append where
	// 9P2000.u is spoken). The offset may be
	// anything, and the file not open.
	Read(c *Ctx, p []byte, off uint64) (n int, err error)

	// Write writes p at byte off. p is part of the request, may be empty, and must neither be
	// kept nor changed. The offset may be anything, and the file not open.
	Write(c *Ctx, p []byte, off uint64) (n int, err error)

	// Stat fills d, which holds leftovers.
	Stat(c *Ctx, d *Dir) error

	// Wstat changes the file. d is a well-formed record with UTF-8 strings, nothing else is
	// known of it; see Dir.IsNull for the one that means sync.
	// Source: stat(5).
	Wstat(c *Ctx, d *Dir) error

	// Remove removes the file. The fid is already gone, whatever Remove returns, and Clunk
	// follows.
	// Source: remove(5).
	Remove(c *Ctx) error

	// Clunk is the last call: the File gives back what it holds; a file open with ORCLOSE is
	// removed. It cannot fail; the client is told that it succeeded.
	Clunk(c *Ctx)
}

// An AuthFile is what an auth fid stands for, an authentication under way. Its methods are called as
// a File's are; Clunk is again the last call, and comes exactly once. All other messages with an
// auth fid are answered with ErrFidType.
type AuthFile interface {
	// Read gives what the server has to say next. Offsets mean nothing in a conversation.
	Read(c *Ctx, p []byte, off uint64) (int, error)

	// Write takes what the client says. p must not be kept.
	Write(c *Ctx, p []byte, off uint64) (int, error)

	// Clunk ends the conversation.
	Clunk(c *Ctx)
}

// A Worker is a seat in the file system's epochs. The server enters it before each call of a
// handler and leaves it after, never has one entered while it reads from or writes to the network,
// and gives each to one request at a time.
type Worker interface {
	Enter()
	Leave()
}

// A Ctx is a request as its handler sees it. It is the server's again when the handler returns.
// The zero Ctx stands for a caller that is no request: tests, and whoever uses a File directly.
type Ctx struct {
	// Worker is the request's, entered; nil if the server has no NewWorker. A handler that
	// sleeps may leave it meanwhile, and must have it entered when it returns.
	Worker Worker

	// Msize is what the connection agreed on, 0 in a zero Ctx.
	Msize uint32

	// Conn is the connection, nil in a zero Ctx.
	Conn *Conn

	req *request
}

// Block says that the handler is about to sleep: wait for a lock that may be held for long, for the
// disk, for another request. The other requests of the connection then go on without it, and its
// place among the workers goes to others. Calls after the first do nothing. Block itself never
// sleeps and may be called with locks held; it neither leaves nor enters the Worker.
func (c *Ctx) Block() {
	if c.req != nil {
		c.req.block()
	}
}

// Sleep is Block and wait, with the Worker left meanwhile: what the handler knew from inside its epoch
// is stale afterwards.
func (c *Ctx) Sleep(wait func()) {
	if c.Worker != nil {
		c.Worker.Leave()
		defer c.Worker.Enter()
	}
	c.Block()
	wait()
}

// Cancelled is closed when nobody waits for the reply any more: the client flushed the request, sent
// Tversion, or hung up. A handler that sleeps for long should watch it and return ErrInterrupted; one
// that finishes its work is answered as if nothing had happened. The channel is made by the first
// call; in a zero Ctx it is nil, never closed.
func (c *Ctx) Cancelled() <-chan struct{} {
	if c.req == nil {
		return nil
	}
	return c.req.cancelled()
}
