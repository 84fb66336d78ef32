package ninep

import "github.com/knusbaum/go9p/proto"

// Sizes of things on the wire, in bytes.
const (
	HeaderSize = 7      // size[4] type[1] tag[2], the smallest frame
	QidSize    = 13     // type[1] vers[4] path[8]
	DirSize    = 49     // a stat record with empty strings, its own size[2] included
	IOHDRSZ    = 24     // room that read(5) and write(5) leave for a message's fixed part
	MaxWalk    = 16     // names in a Twalk, qids in an Rwalk
	MaxError   = 127    // bytes of an Rerror's text
	MinMsize   = 256    // smallest msize a server agrees to
	MaxString  = 0xffff // bytes of a string
)

// NOTAG is Tversion's tag; NOFID is the afid of an attach without authentication.
const (
	NOTAG = ^uint16(0)
	NOFID = ^uint32(0)
)

// Qid types, the top byte of a file's mode.
const (
	QTDIR    = 0x80
	QTAPPEND = 0x40
	QTEXCL   = 0x20
	QTMOUNT  = 0x10
	QTAUTH   = 0x08
	QTTMP    = 0x04
	QTFILE   = 0x00
)

// Mode bits of Tcreate and of stat records; the low nine are permissions.
const (
	DMDIR    = 1 << 31
	DMAPPEND = 1 << 30
	DMEXCL   = 1 << 29
	DMMOUNT  = 1 << 28
	DMAUTH   = 1 << 27
	DMTMP    = 1 << 26
	DMREAD   = 4
	DMWRITE  = 2
	DMEXEC   = 1
)

// Open modes: one of the first four, and bits.
const (
	OREAD   = 0
	OWRITE  = 1
	ORDWR   = 2
	OEXEC   = 3
	OTRUNC  = 16
	OCEXEC  = 32
	ORCLOSE = 64
)

// Qid is go9p's qid: Qtype, Vers and, under the name Uid, the path.
type Qid = proto.Qid
