// Package nbd is a disk at the other end of a network: a blkdev.Device that is an export of a server
// which speaks the protocol of the NBD project.
//
// Offsets and lengths are bytes, as in blkdev; ranges that the server's block size does not allow are
// read and written by way of the blocks around them.
//
// One connection carries many requests at a time. Requests are sent by the goroutines that make them; replies
// come to one goroutine of the connection. Another, the keeper, owns connections: when one ends it makes
// the next, and nobody who waits for a reply notices more than that it takes long.
//
// The hard rule: what was acknowledged is not lost while this process lives. A server that is killed may
// forget what it acknowledged since it last flushed. So every write is kept in memory until a flush that
// was sent after its acknowledgement has succeeded; on a new connection all of these are written again, in
// their order, before anything else is asked. When they are too many, a flush is made. A process that ends
// takes them along, as a power cut does with the cache of any disk: what a Sync returned nil for is
// with the server, and no more is promised.
//
// The server need not be trusted to keep the protocol: every length it names has a limit, what
// it must not say ends the connection, and a reply that does not come is not waited for longer than Stall.
// What it returns for a read is believed here. Who distrusts the storage needs a disk with a keyed
// hash; see docs/storage.md.
//
// NBD has no locks. Two clients that write to one export destroy what is on it, unless the server admits
// only one. When a connection was lost and what is found afterwards in the first sector is nothing that this
// client had left there, nothing more is written.
//
// Spoken: fixed newstyle negotiation with NBD_OPT_GO, NBD_OPT_STARTTLS, block sizes, flush, FUA where there is
// no flush, trim, simple replies. Not spoken: the old negotiation, structured replies, several
// connections for one disk. Source: doc/proto.md and doc/uri.md of the NBD project.
package nbd
