// Package arena hands out disk blocks and takes them back.
//
// The device is cut into arenas. An arena keeps its free ranges in memory, ordered by address, and
// remembers on disk which blocks are free in its allocation log: a chain of log blocks inside the
// arena, found through the arena's header. Replaying the log rebuilds the free ranges; nothing else
// on disk says what is free.
//
// Addresses are bytes from the start of the device, and name whole blocks of blkfmt.BlkSize.
//
// The hard rule: a block that a committed superblock can reach, log blocks included, is neither
// rewritten nor handed out before the commit that forgets it is on stable storage. So
//
//   - nothing here writes. Seal returns finished log blocks and headers, and the store's commit
//     writes them in the order that [Sealed] asks for;
//   - between two Seals nothing is logged. Each arena keeps the net change since its last barrier as
//     two sparse bitmaps, and Seal turns them into entries. A block that came and went costs nothing;
//   - a log block is written once it is part of a barrier and never again. Each Seal ends with a
//     barrier and chains one more block behind it, empty until the next Seal;
//   - what a commit no longer reaches is logged as free before its barrier, and handed out after
//     Release. A crash in between finds either the old state or the new one, and no block is lost.
//
// Blocks are given back in three ways. Retire is for all that trees drop: a reader may be on its way
// there. Free is for a block that nobody but the caller ever knew of, FreeLater for whole lists that
// the last commit needs.
//
// When a log has grown long, or was written by somebody else, Seal writes it anew from the free
// ranges, in a new chain, and gives the old chain back like any other blocks.
//
// The room of an arena has three parts. Ordinary requests leave the reserve alone; their callers ask
// Room first. Alloc itself, which serves the tree nodes of removes too, stops at the log floor, half
// of the reserve. What is under the floor is for log blocks. That suffices for every Seal if a
// commit follows when LogPressure says so: a Seal needs no more than one block for 2039 changed
// blocks, or for 1020 free ranges, whichever is less.
//
// A log whose barrier is missing, that contradicts its header or cannot be read makes its arena
// suspect: no block of it is handed out or taken back until Rebuild has been told what is in use.
//
// Whoever wants to read a committed state while commits go on, without any of its blocks being used
// anew, takes a Pin. What the pinned state has in use and later states do not is then logged as free as
// ever, but kept back when it would be handed out. That costs room, so the Pin gives way: when a
// request would have to dig into the reserve, or a log has no room, it is broken, its blocks are free at
// once, and whoever reads under it finds out before believing what was read last.
//
// Whoever wants to tell the device what it need not keep borrows free ranges (Lend): what is free here is
// free in the committed state too, in a pinned one and in every log, and nobody is handed it, nor writes to it,
// until it is given back. So a discard that the device does late, or not at all, or keeps over a
// power cut, changes only bytes that nothing leads to. What waits for a commit or for readers, what is
// kept back for a Pin and what belongs to a log is not free and is never lent.
//
// Locks: one mutex for each arena, a leaf. Only Seal holds more than one, in order of address. One
// more, taken before them, makes Seal and Release one at a time.
//
// Which blocks may be freed is decided in snap, and when in blkstore. Source: blk.c and load.c of
// 9front's gefs, whose logs are rewritten in place; every byte written here is legal there.
package arena
