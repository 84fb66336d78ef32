// Package salvage reads what can still be read from a damaged gefs disk, and hands it to a Sink.
//
// It only reads, shares nothing with the writers but the formats, and never invents data: every byte it
// hands out stands in a block whose hash some pointer promised, and whatever it cannot vouch for it
// says. Addresses and lengths are bytes.
//
// # What can be believed
//
// A pointer carries the hash of the block it leads to. So a tree is proved from its root downwards: with
// a root, all that hangs from it is one state of the file system, however old. The other direction is
// weak. Of the blocks themselves
//
//	superblocks             check themselves, by a hash
//	log blocks              check their entries by a hash; not what follows them in the chain
//	arena headers           have their hash in the superblock; without one, the two copies vouch for each other
//	tree nodes              have a type and a strict structure, but their hash is in the parent
//	data blocks             have nothing; without a pointer they are lost
//
// A node does not say when it was written, and earlier versions of it lie about until their place is
// used again. The allocation logs tell: what is free in them is not of the committed state.
//
// # How it works
//
//	super.go    the newest superblock that verifies; arenas and their logs, as far as they can be read
//	forest.go   labels and snapshots; every tree is walked once, to find what is missing (mark)
//	index.go    only if something is missing: reads the whole device, and keeps of every block that
//	            has the form of a node its address, hash, first and last key, and its pointers
//	hole.go     what is to stand in the place of a node that cannot be read
//	scan.go     goes through the keys of a tree, with messages applied and holes patched
//	copy.go     directories and files of a label, to the Sink
//	lost.go     entries without a directory and data without an entry
//
// A hole is a node that cannot be read: a range of keys of one tree, below a level. It is patched with
// nodes found by the scan whose keys begin in that range and that do not overlap: first those that are in use by
// the logs and that no readable tree has (the children of the lost node, exactly, as long as nothing else
// is missing), then those of other snapshots that this one can share by their generations, then those of
// which the logs say nothing, last those that are free: older versions. Among equals the one that mentions the
// newest generation and time comes first. The messages that were buffered in a lost node are lost. Nobody can
// know which files they were about; so everything found through a patch is Unsure. What
// an insert in an intact buffer says is certain whatever is below.
//
// A file may be the image of another gefs disk. Its blocks are known to be data as long as the
// pointers to them are there. Without these, a leaf of it is told by its own pointers, which are right only on
// the disk that it comes from; one without any is not, and may put its names into a patch.
//
// Without a superblock the tree of snapshots is a hole itself. If its patch is one whole tree then each
// of its snapshots is proved again, and only not to be the newest: Label.Proven is false.
//
// # What a file is called
//
//	Whole     the entry and all data are proved from the label's record: one state
//	Unsure    all of it was found, some through a patch: changes may be missing, or it was removed; after
//	          a crash, changes may be in it that were never committed
//	Damaged   parts are missing, and listed
//
// Memory: 150 bytes and two keys for each node found, and 24 for each pointer from node to node; one bit for each
// block of an arena; a set of the qids of a tree that has holes; a record for each file that is not
// whole; CacheBlocks blocks. For a GiB of disk that is commonly some 100 KiB, as one block in a hundred is a
// node; 12 MiB if all of it is leaves; 300 MiB if all of it is pivots, which only malice can make. Depth is
// bounded by levels that only become less, directories by MaxDepth and by visiting each once.
package salvage
