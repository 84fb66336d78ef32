// Package blkfmt says what a block is on disk: pointers, block types and headers, the superblock,
// the arena header and the hashes that guard them.
//
// Everything here is pure: bytes in, values out. Nothing does I/O, takes a lock or panics on bad
// bytes. All integers on disk are big-endian and packed. Addresses and lengths are bytes from the
// start of the device and multiples of BlkSize.
//
// A disk starts and ends with the same superblock, and is cut into arenas between the two:
//
//	0                    superblock
//	BlkSize              arena 0: header, its copy, body
//	...                  further arenas, back to back
//	R-BlkSize            superblock copy          (R = device length rounded down to a block)
//
// What stands inside log and deadlist blocks is in logfmt, what stands inside tree blocks in kvfmt.
//
// Source: the format of 9front's gefs as of November 2025 (dat.h, pack.c, hash.c).
package blkfmt
