// Package betree is one Bε-tree: lookup, scan, upsert, split and merge.
//
// A leaf holds pairs of key and value. A pivot holds the keys and pointers of its children in one
// half, and in the other a buffer of messages on their way down to them. An upsert puts messages
// into the root's buffer. When that is full, those for one child are moved down into its buffer,
// and so on; at a leaf they are applied to the values. So one rewritten block carries many changes.
//
// The value of a key is what its leaf holds, changed by the messages for it in the lowest pivot,
// oldest first, then by those in the pivot above, up to the root.
//
// An Insert of an entry of a directory takes the place of an older one for the same key while that
// is in the root's buffer, in the copy that becomes the new root.
//
// The hard rule: a block never changes once it is queued to be written. Every change copies, from
// the leaf up to the root, and becomes visible all at once, when the tree's root is replaced. What
// fails before that leaves no trace.
//
// Which blocks the tree no longer points at it tells its Freer. Whether anybody else still needs
// them is decided in snap.
//
// Levels are counted from the leaves: a leaf is at level 1, the root at the tree's height. Sizes
// are bytes, and those of entries and messages include their slots in the node's table.
//
// # Locks
//
// Upsert, Clone and Close belong to the holder of the mutation lock. Lookup, Scan and Walk run beside
// them and each other: they take the root under Tree.mu and hold a reference on what they read.
// Everybody is inside an epoch, so that no address below the root they took is used again.
// Tree.mu is a leaf: nothing is called with it held.
//
// Source: tree(6) and tree.c of 9front's gefs. How nodes are flushed, split and joined is our own.
package betree
