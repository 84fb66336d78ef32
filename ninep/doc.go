// Package ninep is a server of 9P2000, and of 9P2000.u and 9P2000.L for Unix and Linux, that knows
// nothing of the file system it serves: the strict codec, frames and msize, tags and flush, fids, auth
// fids, limits and hangup. What the messages mean is up to the FS and its Files.
//
// Units: sizes and counts are bytes; a frame is one message including its size[4] field, and msize
// bounds a frame.
//
// The hard rule: what comes off the network is decoded by (*Fcall).DecodeAs alone, which accepts
// exactly the messages of intro(5), byte for byte, and never panics. The message structs are those
// of go9p's proto package; its parser is never used.
//
// # How a request runs
//
// One goroutine per connection, the leader, reads frames and runs each request itself, on a worker
// taken from a pool that all connections share. Replies gather in the leader's output buffer and
// leave in one write when no whole frame is left in the input buffer. A worker is never held across
// a read from or a write to the network.
//
// A handler about to sleep calls (*Ctx).Block. The connection's input and the replies not yet
// written pass to a new leader, the worker's place in the pool is filled by another, and the request
// goes on alone; its reply is sent when it is ready, with the leader's if that is busy. So requests
// cost no change of goroutine until one has to wait, and one that waits stops no other.
//
// Only requests that blocked can be outstanding while another message is read. They alone are in
// the tag table, and they alone can be flushed.
//
// # What ends a connection, and what does not
//
// A frame that is not exactly a T-message of the dialect, anything before Tversion, and a tag that an
// outstanding request has (an Rerror would be taken for that one's answer) end the connection, and
// nothing else. The replies to what came before are sent. Forgiven, with an Rerror, is damage inside
// a single field that Unix clients cause without malice: a file name that is not UTF-8, a stat record
// that is none; and a Tversion with too small an msize, after which there is no session.
//
// When the client closes its sending side, or hangs up, its requests are cancelled, but one that
// completes is still answered.
//
// # 9P2000.L
//
// A connection speaks the dialect that its last Tversion asked for: 9P2000.u or 9P2000.L if the FS is a
// LinuxFS, else 9P2000. Frames, tags, flush, fids, limits and the order of replies are the same in all. What
// differs in 9P2000.L:
//
//   - Every error is an Rlerror. Its number is looked up by the identity of errors (LinuxFS.Errno), never
//     by text; what nobody knows is EIO.
//   - Tauth and Tattach carry a number, which LinuxFS.UserOf makes a name where there is none. Number 0,
//     Linux' superuser, is who was the first to attach by name, if it is not somebody's.
//   - Files that are LinuxFiles answer Linux's messages. For others they are EOPNOTSUPP, as are
//     symbolic and hard links, devices and extended attributes always, and the messages of 9P2000 that
//     the dialect has replaced.
//   - Locks are advisory, on ranges of bytes, in memory, of a process of a connection. They go with the fid
//     by which they came. Who finds a range taken is told so at once, also if it wanted to wait: Linux
//     asks again. A connection can have 65,536 ranges.
//
// The form of each message is described once (LinuxMsg); decoding, encoding and printing follow from it.
// A Tread, a Treaddir and a Twrite carry at most msize − IOHDRSZ bytes in any dialect.
//
// # 9P2000.u
//
// Has the messages of 9P2000, some with more fields (UnixPart), for Files that are UnixFiles:
//
//   - Every Rerror has the number that an Rlerror has, beside the text.
//   - Tauth and Tattach carry a number, as in 9P2000.L.
//   - Stat records have numbers of users, also in directories (UnixDir). They are only passed on.
//   - Symbolic and hard links, devices, pipes and sockets are EOPNOTSUPP here too. Set-id bits and OAPPEND,
//     which clients take care of themselves, are taken off.
//
// # Ownership
//
// Every File and AuthFile that the FS returned is clunked exactly once, by its last user: after
// Clunk no method of it is called. See File.
//
// # Locks
//
//	Server.mu      listeners and connections; nothing is taken inside
//	lockTable.mu   locks of 9P2000.L; nothing is taken inside
//	Conn.out.mu    order of the bytes on the wire; held without I/O
//	  Conn.mu      fids, tags, outstanding requests
//	    pool.mu    spare workers
//
// No lock is held while an FS or a File is called, except that Server.NewWorker and
// Server.FreeWorker must not call back into the server.
//
// Sources: section 5 of the Plan 9 manual (intro, version, attach, walk, open, read, clunk, remove,
// stat, flush, error). Not here: authentication's messages (package auth), permissions, names
// (package gefs).
package ninep
