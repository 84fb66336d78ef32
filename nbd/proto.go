package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
)

// Magic numbers, all big-endian on the wire.
const (
	magicServer   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption   = 0x49484156454f5054 // "IHAVEOPT"
	magicOld      = 0x0000420281861253 // in its place: the negotiation of before 2011
	magicOptReply = 0x0003e889045565a9
	magicRequest  = 0x25609513
	magicReply    = 0x67446698
)

// Flags of the handshake, the server's and ours alike.
const (
	flagFixed    = 1 << 0
	flagNoZeroes = 1 << 1
)

// Options, and replies to them.
const (
	optGo       = 7
	optStartTLS = 5

	repAck  = 1
	repInfo = 3
	repErr  = 1 << 31

	infoExport    = 0
	infoBlockSize = 3
)

// Flags of an export.
const (
	flagHasFlags = 1 << 0
	flagReadOnly = 1 << 1
	flagFlush    = 1 << 2
	flagFUA      = 1 << 3
	flagTrim     = 1 << 5
)

// Commands and their flags.
const (
	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3
	cmdTrim  = 4

	cmdFlagFUA = 1 << 0
)

// Sizes and limits.
const (
	requestSize  = 28
	replySize    = 16
	optReplySize = 20

	maxOptReply   = 64 << 10 // bytes of one reply to an option
	maxOptReplies = 64       // replies to one option; no server has half as many to give
	maxMinBlock   = 64 << 10 // the protocol's limit for the smallest block
	defaultMax    = 32 << 20 // of a request, where the server names none
)

// ErrProtocol is what every error wraps that says of a server that it does not keep the protocol.
var ErrProtocol = errors.New("the server does not keep the NBD protocol")

// A ServerError is an error that a server replied with.
type ServerError struct {
	Code uint32 // of the protocol, which takes most of them from Linux; unknown ones are possible
}

// Codes of a ServerError.
const (
	CodePerm     = 1
	CodeIO       = 5
	CodeNoMem    = 12
	CodeInvalid  = 22
	CodeNoSpace  = 28
	CodeOverflow = 75
	CodeNotSup   = 95
	CodeShutdown = 108
)

// Error returns what the code means.
func (e *ServerError) Error() string {
	what := "error of unknown kind"
	switch e.Code {
	case CodePerm:
		what = "operation not permitted"
	case CodeIO:
		what = "input/output error"
	case CodeNoMem:
		what = "out of memory"
	case CodeInvalid:
		what = "invalid argument"
	case CodeNoSpace:
		what = "no space left"
	case CodeOverflow:
		what = "value too large"
	case CodeNotSup:
		what = "operation not supported"
	case CodeShutdown:
		what = "shutting down"
	}
	return fmt.Sprintf("the NBD server says: %s (%d)", what, e.Code)
}

// Is makes errors.Is(e, fs.ErrPermission) hold for CodePerm.
func (e *ServerError) Is(target error) bool {
	return e.Code == CodePerm && target == fs.ErrPermission
}

// putRequest encodes the head of a request.
//
//	magic 4   flags 2   command 2   handle 8   offset 8   length 4
func putRequest(b *[requestSize]byte, flags, cmd uint16, handle, off uint64, n uint32) {
	binary.BigEndian.PutUint32(b[0:], magicRequest)
	binary.BigEndian.PutUint16(b[4:], flags)
	binary.BigEndian.PutUint16(b[6:], cmd)
	binary.BigEndian.PutUint64(b[8:], handle)
	binary.BigEndian.PutUint64(b[16:], off)
	binary.BigEndian.PutUint32(b[24:], n)
}

// parseReply decodes the head of a simple reply.
//
//	magic 4   error 4   handle 8
func parseReply(b *[replySize]byte) (code uint32, handle uint64, err error) {
	if m := binary.BigEndian.Uint32(b[0:]); m != magicReply {
		return 0, 0, fmt.Errorf("%w: a reply begins with %#x", ErrProtocol, m)
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:]), nil
}
