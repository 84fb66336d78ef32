package ninep

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Error is an error whose text is sent to the client as it is. Anywhere in a chain of wrapped
// errors it decides what the client sees; the rest of the chain is for the log.
type Error string

func (e Error) Error() string { return string(e) }

// What the server says for itself, in Plan 9's words.
const (
	ErrUnknownFid  = Error("unknown fid")
	ErrFidInUse    = Error("fid in use")
	ErrFidType     = Error("invalid fid type")
	ErrBotch       = Error("protocol botch")
	ErrNoAuth      = Error("authentication failed")
	ErrNotFound    = Error("directory entry not found")
	ErrBadDir      = Error("invalid directory")
	ErrBadName     = Error("create/wstat -- bad character in file name")
	ErrMsize       = Error("version: message size too small")
	ErrTooManyFids = Error("too many fids")
	ErrTooManyConn = Error("too many connections")
	ErrInternal    = Error("internal error")
	ErrStatSize    = Error("stat record does not fit into a message")

	// ErrInterrupted is what a handler returns when it gave up because the request was
	// cancelled. If it was flushed, only the Rflush is sent.
	ErrInterrupted = Error("interrupted")
)

// What can be wrong with a frame; a DecodeError wraps one of these.
var (
	ErrFrameSize   = errors.New("frame size out of range")
	ErrUnknownType = errors.New("unknown message type")
	ErrShort       = errors.New("frame ends inside the field")
	ErrTrailing    = errors.New("bytes after the last field")
	ErrCount       = errors.New("count does not match the frame")
	ErrTooManyElem = errors.New("more than 16 elements")
	ErrBadString   = errors.New("string is not UTF-8 without NUL")
	ErrBadStat     = errors.New("malformed stat record")
	ErrTooLong     = errors.New("too long for the wire")
)

// A DecodeError says what is wrong with a message and where.
type DecodeError struct {
	Type  uint8  // of the message, 0 if not even that was there
	Tag   uint16 // of the message, NOTAG if there was none
	Field string // as in the manual: "wname[3]", "stat.uid"
	Off   int    // byte of the frame at which the field starts
	Err   error  // one of the errors above
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("%s: %s at byte %d: %v", typeName(e.Type), e.Field, e.Off, e.Err)
}

// Unwrap gives the class of the error.
func (e *DecodeError) Unwrap() error { return e.Err }

// answer gives the text with which a malformed request can be answered, if the damage is inside one
// field and the stream is still in step: a name that is no UTF-8 (Unix clients send them) and a stat
// record that is none. Everything else ends the connection.
func (e *DecodeError) answer() (Error, bool) {
	switch {
	case e.Err == ErrBadStat && e.Type == Twstat:
		return ErrBadDir, true
	case e.Err != ErrBadString:
		return "", false
	case e.Type == Twalk:
		return ErrNotFound, true // no file can have such a name
	case e.Type == Tcreate || e.Type == Twstat:
		return ErrBadName, true
	case e.Type == Tunlinkat, e.Field == "oldname":
		return ErrNotFound, true
	case e.Field == "name", e.Field == "newname", e.Field == "symtgt": // of 9P2000.L
		return ErrBadName, true
	}
	return "", false
}

// wireText is what the client is told for err: the text of the first Error in its chain, or else
// all of it. plain says that err was nothing but an Error, or an Errno, so that there is nothing to log.
func wireText(err error) (text string, plain, known bool) {
	if e, ok := err.(Error); ok {
		return string(e), true, true
	}
	var e Error
	if errors.As(err, &e) {
		return string(e), false, true
	}
	if no, ok := err.(Errno); ok {
		return no.Error(), true, true
	}
	return err.Error(), false, false
}

// clip cuts s to at most n bytes, at a boundary between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
