// Package gefs is the file system: what the 9P operations do to the trees of a gefs disk, who may
// do them, and when it all reaches the disk.
//
// # Objects
//
//	FS      a disk being served: the forest of snapshots, the users table, the commit
//	Mount   a label that somebody is attached to, and the files in use below it
//	Dent    one file in use: its entry, shared by all fids on it
//	File    one fid: a ninep.File
//
// A Dent is the truth about its file's entry for as long as anybody has the file: it changes
// together with the tree, under the mutation lock. A File holds the Dent of its file and the Dent
// of the directory it lies in.
//
// # Reading and changing
//
// Requests that only read run in parallel, on whatever root they find, inside the epoch that ninep
// entered for them. Requests that change something take the mutation lock, one after the other,
// check everything, upsert one batch of messages, and then change the Dents. A request that is
// refused has changed nothing.
//
// Nothing is on the disk when a request is answered. A commit every five seconds, or at a client's
// fsync (a Twstat in which every field says "don't touch"), brings everything acknowledged so far to
// the disk, in one step.
//
// Clearing the blocks of a large file that was truncated or removed is done in the background. What
// is still to be cleared stands in the tree itself, so that a crash does not forget it.
//
// # Linux
//
// Clients that speak 9P2000.L find the rules of Linux where they differ: a rename goes to any directory
// of the snapshot and replaces what is there, in one batch; a file that is removed, or replaced, while it
// is open keeps its data until the last fid that has it open goes (Dent.orphan). Its entry is gone at
// once, and the record that has its data cleared stands in the tree from then on: after a crash the next
// mount clears it. A File can find itself in another directory than it was walked to; whoever needs
// File.dir calls home first.
//
// A check or a scrub reads the device while all this goes on: the state that was committed last is pinned
// for it (blkstore.View), and nobody waits but for the moment in which that is done.
//
// # Streams
//
// A snapshot can be sent to another disk, whole or as its difference to another one (Send), and received
// there (Receive): the bytes are package stream's. What is sent is pinned in the forest (snap.Held). What is
// received is written through the same batches as all else, into a label that nobody can mount; each batch
// notes how far it has come, so that a crash leaves a part that can be gone on with, and the last commit
// gives it its name.
//
// # Quotas
//
// A quota limits what the files of a mutable label, or those of one user in it, may use: bytes, which are the
// lengths of files in whole blocks, and files, which directories are too. Lengths and not data blocks, as a change
// of an entry says what it adds without a look at the tree, also where it fills a hole or cuts a large
// file; and what du shows is what counts. The owner of a file is charged, whoever writes to it. A request that
// would go beyond a limit is refused and has changed nothing; what does not grow is never refused. What snapshots
// hold does not count.
//
// A label with quotas has a tally, which changes with the tree, under the mutation lock. Limits stand in the
// snapshot tree (kvfmt.Quota), as rolling a label back must not change them. So does what is used (kvfmt.Used),
// with the root of the tree for which it is right: a commit writes both at once. Where the label has another root
// when the disk is opened, somebody else has changed it, and its files are counted anew, in the background. So
// they are after a rollback. Counting only adds up, so changes made meanwhile are simply added too. Until it
// is done no limit of the label is looked at. A label without quotas costs nothing but the look for a tally.
//
// # Locks
//
// Outermost first; hold downwards only.
//
//	FS.commitMu    one commit, or growing, at a time
//	FS.mutMu       the mutation lock; taken outside any epoch, then inside one
//	File.mu        the fid's own state
//	Dent.mu        the values of a Dent; two only with the mutation lock
//	Mount.dentMu   the table of Dents; FS.mountMu, the table of Mounts
//	below          those of snap, betree, blkstore, arena
//
// Nobody waits for a truncation, for room in the cache or for a commit while holding any of them or
// while inside an epoch: the request leaves, sleeps, and begins again.
//
// Source: fs.c of 9front's gefs; section 5 of the Plan 9 manual.
package gefs
