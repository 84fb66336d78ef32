// Package blkstore keeps a disk's blocks in memory: the cache, the references to its buffers, the
// ordered write queue, limbo, and the commit.
//
// # The life of a block
//
// New allocates an address and a buffer; the caller fills it. Enqueue makes it final: from here its
// bytes never change, it is in the cache, and the write queue of its arena holds a reference until
// it is on the device. Get finds it again, in the cache or on the device, where its hash is checked.
// Free says that the state being prepared no longer reaches it:
//
//   - A block allocated since the last Seal was never part of a state on disk. Its write is
//     cancelled, it waits in limbo until no reader can have its pointer, and its address is free.
//     FreeOwn does without the wait, for blocks that nobody reads but who frees them.
//   - Any other block is part of the committed state. The next Seal logs it as free before its
//     barrier, and it is handed out only after that commit is durable and its readers have left.
//
// A write to a part of a block that is still in the queue makes a new block all the same, and does not
// change the queued one. The pointer in the tree has the queued one's hash. Readers copy from it without a
// lock, and a write with its length and time becomes visible in one moment only because its bytes are nowhere
// before. And a tree that was forked since may point at it. What the new block costs is a copy in memory: the old
// one's write is cancelled when it is freed, and as messages reach their leaf long before the queue is
// full, few are written that need not be.
//
// # The commit
//
// Seal, with all mutations held off, fixes what the commit holds. Commit.Run, while mutations go on,
// brings it to the device in four steps, each ended by a flush:
//
//  1. the queued blocks of the generation, the logs, the first copies of the arena headers
//  2. the first superblock: now the commit is durable
//  3. the second superblock
//  4. the second copies of the arena headers
//
// Whatever the power does between two writes, one superblock leads to a whole state: until step 2
// is done the old one does, with the second header copies, which still match it.
//
// Two cases need a step before these. If Open found that copies differ, the bad ones are first made
// equal to the good, superblocks before headers, as the good ones are about to be overwritten. And the
// first commit of a new disk first erases both superblocks: the old disk's second one, younger by its
// generation, must not lead to what the first step has half overwritten.
//
// # Reading the device meanwhile
//
// A View shows the device as one commit left it, to a checker or a scrubber, while mutations and commits
// go on. Nobody waits for it longer than it takes to make it: it copies what commits write in place, and
// asks the arenas to hand out no block of its state until it is closed (arena.Pin). A commit logs such
// a block as free like any other; it only comes back later. When the disk gets full the View gives way:
// its reads fail from then on, and who reads begins again or gives up.
//
// # Discarding
//
// Trim tells the device what it need not keep, so that a sparse file shrinks and a flash disk knows what it
// may erase. It borrows free ranges of the arenas (arena.Lend), one at a time, discards them and gives
// them back. A block is free there when no committed state, no pinned one, no log and no reader needs it: so
// that a discard that is done late, or in part, or undone by a power cut, changes nothing that anybody
// reads. It comes after the commit that released the blocks, never before. A write that was under way
// when its block was freed may end after the discard; then the bytes stay, and nobody reads them.
//
// # Failure
//
// The first failed write or flush latches the store: no write follows, Err says why, mutations and
// commits return it; blocks that did not reach the device stay in memory so that reads go on.
//
// # Locks
//
// shard.mu, pool.mu and queue.mu are leaves: nothing is called with one held, and nobody holds one
// while waiting for a buffer, a block's fill, the device or an epoch. The caller's mutation lock
// orders Seal against New, Enqueue and Free. trimMu is held over a discard, and only those who wait for its end
// wait for it: with nothing else held.
//
// # Buffers
//
// There are a fixed number. A worker may wait for one inside an epoch, and with the mutation lock
// held, so what it waits for must come without either: the queues write what is unwritten. Only what
// was never written stays in memory for limbo. A mutation waits in WaitRoom, outside, while half of
// the buffers are pinned in one of these ways, and one mutation must not need the other half.
//
// Units: addresses are bytes on the device, sizes of the cache are counted in blocks.
//
// Source: blk.c and cache.c of 9front's gefs, and sync in its fs.c.
package blkstore
