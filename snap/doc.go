// Package snap is the forest of trees on a disk: snapshots, the labels that name them, their
// generations, and the deadlists that say when a block of theirs may go.
//
// # Words
//
// A snapshot is a file-system tree, identified by a generation. A label is a name for one; a
// mutable label's snapshot is written to, an immutable one's never changes. Snapshots form a tree
// in time: pred is the one a snapshot was derived from. All of this is kept in the snapshot tree,
// which the superblock points at, as keys Klabel, Ksnap and Kdlist.
//
// # One rule for a block's birth and death
//
// A block is born with the generation of the snapshot for which it is written. A mutable label
// keeps its snapshot, and its generation, from commit to commit for as long as nobody shares that
// snapshot. When a label or a fork does, the first write after it moves the mutable label on to a
// new snapshot, derived from the shared one. So a block of snapshot s is
//
//   - only s's, if it is younger than s's pred: when s drops it, it is free;
//   - pred's too, if not: when s drops it, it goes on the deadlist (s, birth), and is free when the
//     last snapshot that is at least as old as the drop and not older than the birth goes.
//
// The reference takes a new generation at every commit instead, and replaces the old snapshot by
// the new one: more generations, more and longer deadlists, the same meaning. Neither sees the
// difference on a disk of the other.
//
// Blocks of the snapshot tree and of deadlists are born in generation 0. They belong to the state
// that the superblock names and to no snapshot, so they are simply free in the next commit.
//
// # Deleting
//
// When the last label of snapshot s goes:
//
//	no snapshot derived from s:  the tree is walked; what is younger than pred is free. The blocks
//	                             on s's deadlists are pred's; only the lists go.
//	one derived from s, c:       lists (c, b) with b > pred: only s had these blocks; they are free.
//	                             lists (s, b): appended to (c, b), as now c lies next to pred.
//	more:                        s stays, without a name, as the point where they part.
//
// Delete only takes the label away. The rest is done piece by piece (Reclaim), each of them a whole
// state that may be committed. What is to be done can be seen on the disk: snapshots without a label and
// with at most one heir, and the deadlists of snapshot 0, on which the lists (c, b) above are put, as what
// stands on them is nobody's (garbage).
//
// Lists found on a disk may be the reference's, who keeps none of what a fork drops that is older than
// itself. So they are not believed to be complete, until the server that found them has made all itself
// (snapshot.doubtful): where that matters the trees are compared.
//
// # Locks
//
// Everything that changes the forest is called under the file system's mutation lock, and inside an
// epoch. Reading a tree (Lookup, Scan) needs only the epoch. What takes long (Reclaim.Read, Survey.Count)
// goes on without the lock, about snapshots that are pinned, or that nobody can see any more. Functions
// for listings take Forest.mu, a leaf lock around the tables of labels and snapshots.
//
// Source: snap.c of 9front's gefs.
package snap
