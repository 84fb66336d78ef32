// Package client talks to a 9P2000 server, in two ways.
//
// A Conn is for programs: any number of goroutines share it, each waiting for its own answers. Fids
// are of type Fid, which reads and writes like a file. Requests of all goroutines leave in few
// writes; one goroutine reads all the replies.
//
// A Pipe is for programs that measure: one goroutine owns the connection, writes frames into a
// buffer and takes replies in the order they come. There are no locks, no copies and no allocations
// between it and the socket.
//
// Sizes and offsets are bytes. A Pipe attaches where the server asks for no proof; a Conn also has
// AttachAs, for which its caller brings the protocol (package auth).
//
// The hard rule: a server is not believed. A reply that does not decode, that nobody asked for or that is
// of another type than was asked for ends the connection, with an error that says so; the replies to
// everything outstanding are that error. What a server says in an Rerror is an Error, with the
// server's text and nothing added.
//
// Locks: Conn.mu is a leaf. It is not held during I/O nor while anything is waited for, except room in
// the output buffer.
//
// Sources: section 5 of the Plan 9 manual.
package client
