// Package stream is the bytes in which a snapshot travels from one disk to another: through a file, a
// pipe, or a connection.
//
// A stream says what a snapshot holds, or how it differs from another one, as keys and values of its
// tree, in the order of keys. Where the tree has a pointer to a block of file data, the stream has the
// data. So nothing in it depends on where blocks lie or when they were born, and the snapshot that is made
// of it on another disk has the same names, bytes, modes, owners (as numbers), times, qids and versions.
//
// # Digest
//
// The digest of a snapshot is a chain of SHA-256 over its keys and values in order:
//
//	C₀ = 32 zero bytes    Cᵢ = SHA-256(Cᵢ₋₁ ‖ changeᵢ)
//
// where changeᵢ is encoded as below. Two snapshots have the same digest if and only if they hold the
// same. What a server only notes for itself (keys that begin with "gefs9p."), and data that is still to be
// cleared of files that were removed, is not part of what a snapshot holds. The chain of a whole stream is
// the digest of its snapshot; that of an incremental one is the digest of the difference.
//
// # Format
//
// Integers are big-endian.
//
//	header   "gefs9pst" version[2] len[4] body[len] sha256[32]       the hash is of all before it
//	frame    'F' len[4] changes[len] chain[32]                       the chain behind the last change
//	end      'E' n[8] chain[32]                                      how many changes there were
//
//	change   op[1] klen[2] key vlen[2] value                         op 1 set, 2 remove (no value)
//	body     snap[28] from[28] base[28] basefrom[28] nextqid[8]      see Header
//	         label base-label: len[2] bytes
//	         place: n[8] chain[32] klen[2] key                       where the stream goes on
//	ident    gen[8] ht[4] addr[8] hash[8]                            see Ident
//
// The value of a data key is its block, without the zeros at its end. Keys ascend. Everything is checked
// before it is given to anybody: a frame's changes are those that the sender wrote, or the frame is
// refused.
//
// # Going on
//
// A stream may be cut at any byte. Its beginning, up to the last whole frame, is good. The receiver knows
// its Place; a sender that is given it makes a stream that begins there, with the same chain. A receiver
// can as well be given the whole stream again.
package stream
