// Package check reads a device with nothing but the formats and says what is wrong with it.
//
// It is the oracle of the crash tests, so it shares no code with what writes disks: it replays the
// allocation logs, walks the trees and follows the deadlists on its own, and trusts no field that
// it can compute. It only reads.
//
// A run goes through these passes, each a file:
//
//	super.go    the superblock an opener must choose
//	arena.go    arena headers, replay of the allocation logs up to the committed barrier
//	node.go     every node of every tree once: hash, structure, order, fill, generations; every
//	            data block once; each address gets an owner (own.go)
//	forest.go   labels and snapshots against each other, their counts
//	files.go    what each snapshot holds once all buffered messages are applied: entries, parents,
//	            data within the file. Only what differs from the snapshot before is looked at
//	quota.go    what was counted for the quotas of labels, against the entries
//	dead.go     deadlists, against what the predecessor has and the snapshot has not
//	own.go      blocks that are allocated and have no owner: leaks
//	opening.go  what a server will do that opens the disk
//	explain.go  the paths of the files that the problems concern
//
// A scan (scan.go) reads the same blocks in pieces, and compares each with the pointer to it only.
//
// A disk that is being written to is checked through a reader that shows one committed state for as long
// as the run takes, see blkstore.View; the run knows nothing of it, but ends when its context does.
//
// Snapshots share most of their blocks. A node is visited once, whatever the number of trees it
// belongs to, and later visits only compare what the pointer to it says; so a run costs about what
// the blocks in use cost, not their number times the number of snapshots.
//
// Addresses and lengths are bytes from the start of the device. Whatever the bytes on the disk are,
// a run ends and does not panic: addresses are bounded before they are read, depth by the height
// that a tree claims and blkfmt.MaxHeight, and no block is walked twice.
package check
