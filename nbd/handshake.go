package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net"
	"strings"
	"unicode"
)

// An export is what the server says of the disk.
type export struct {
	size  int64 // bytes, a multiple of min
	flags uint16
	min   int64 // offsets and lengths are multiples of it; a power of two
	max   int64 // longest read and write; a multiple of min
}

func (e export) has(flag uint16) bool { return e.flags&flag != 0 }

// writable returns why nothing may be written, nil if it may.
func (e export) writable() error {
	switch {
	case e.has(flagReadOnly):
		return errors.New("the server exports it read-only")
	case !e.has(flagFlush) && !e.has(flagFUA):
		return errors.New("the server can neither flush nor write through, so nothing written would ever be safe")
	}
	return nil
}

// handshake negotiates on a fresh connection until the export can be used. It returns the connection to
// use from then on, which is another one with TLS. Deadlines are the caller's.
func handshake(ctx context.Context, nc net.Conn, a Address, cfg *tls.Config) (net.Conn, export, error) {
	if err := greet(nc); err != nil {
		return nil, export{}, err
	}
	if cfg != nil {
		if err := startTLS(nc); err != nil {
			return nil, export{}, err
		}
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, export{}, fmt.Errorf("TLS: %w", err)
		}
		nc = tc
	}
	exp, err := enter(nc, a.Export)
	return nc, exp, err
}

// greet exchanges the first words.
func greet(nc net.Conn) error {
	var b [18]byte
	if err := readWord(nc, b[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(b[0:]) != magicServer {
		return fmt.Errorf("this is no NBD server: it begins with %q", b[:8])
	}
	switch m := binary.BigEndian.Uint64(b[8:]); m {
	case magicOption:
	case magicOld:
		return errors.New("the server speaks the old negotiation of NBD only, which is not supported")
	default:
		return fmt.Errorf("%w: it begins with %#x", ErrProtocol, m)
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&flagFixed == 0 {
		return errors.New("the server does not speak NBD's fixed newstyle negotiation, and no other is supported")
	}
	var reply [4]byte
	binary.BigEndian.PutUint32(reply[:], uint32(flags&(flagFixed|flagNoZeroes)))
	_, err := nc.Write(reply[:])
	return err
}

// readWord fills b; a connection that ends there ended in the middle of the negotiation.
func readWord(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the server hung up during the negotiation")
	}
	return err
}

func sendOption(nc net.Conn, opt uint32, data []byte) error {
	b := make([]byte, 16, 16+len(data))
	binary.BigEndian.PutUint64(b[0:], magicOption)
	binary.BigEndian.PutUint32(b[8:], opt)
	binary.BigEndian.PutUint32(b[12:], uint32(len(data)))
	_, err := nc.Write(append(b, data...))
	return err
}

// readOptReply reads one reply to the option opt. A refusal is an *optError.
func readOptReply(nc net.Conn, opt uint32) (kind uint32, data []byte, err error) {
	var b [optReplySize]byte
	if err := readWord(nc, b[:]); err != nil {
		return 0, nil, err
	}
	if m := binary.BigEndian.Uint64(b[0:]); m != magicOptReply {
		return 0, nil, fmt.Errorf("%w: the reply to an option begins with %#x", ErrProtocol, m)
	}
	if o := binary.BigEndian.Uint32(b[8:]); o != opt {
		return 0, nil, fmt.Errorf("%w: a reply to option %d, and %d was asked for", ErrProtocol, o, opt)
	}
	kind = binary.BigEndian.Uint32(b[12:])
	n := binary.BigEndian.Uint32(b[16:])
	if n > maxOptReply {
		return 0, nil, fmt.Errorf("%w: a reply of %d bytes to an option", ErrProtocol, n)
	}
	data = make([]byte, n)
	if err := readWord(nc, data); err != nil {
		return 0, nil, err
	}
	if kind&repErr != 0 {
		return 0, nil, &optError{kind &^ repErr, printable(data)}
	}
	return kind, data, nil
}

// An optError is a refused option.
type optError struct {
	code uint32
	text string // of the server; may be empty
}

func (e *optError) Error() string {
	what := "the server refuses"
	switch e.code {
	case 1:
		what = "the server is too old: it does not know NBD_OPT_GO or NBD_OPT_STARTTLS"
	case 2:
		what = "the server's rules forbid it"
	case 3:
		what = "the server finds the request invalid"
	case 5:
		what = "the server wants TLS: use an address with nbds:// or nbds+unix://"
	case 6:
		what = "there is no such export"
	case 7:
		what = "the server is shutting down"
	case 8:
		what = "the server insists on telling the block size"
	}
	if e.text != "" {
		what += fmt.Sprintf(" (it says: %s)", e.text)
	}
	return what
}

// printable returns what of a server's words can be shown in a line.
func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, string(b[:min(len(b), 200)]))
	return strings.TrimSpace(s)
}

// startTLS asks for TLS; the next byte is its.
func startTLS(nc net.Conn) error {
	if err := sendOption(nc, optStartTLS, nil); err != nil {
		return err
	}
	kind, data, err := readOptReply(nc, optStartTLS)
	var refused *optError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("the server offers no TLS: %w", err)
	case err != nil:
		return err
	case kind != repAck || len(data) != 0:
		return fmt.Errorf("%w: a reply of kind %d to STARTTLS", ErrProtocol, kind)
	}
	return nil
}

// enter asks for the export and leaves the negotiation.
func enter(nc net.Conn, name string) (export, error) {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	data = append(data, name...)
	data = binary.BigEndian.AppendUint16(data, 1)
	data = binary.BigEndian.AppendUint16(data, infoBlockSize)
	if err := sendOption(nc, optGo, data); err != nil {
		return export{}, err
	}
	exp := export{size: -1, min: 1, max: defaultMax}
	for range maxOptReplies {
		kind, data, err := readOptReply(nc, optGo)
		if err != nil {
			return exp, fmt.Errorf("export %q: %w", name, err)
		}
		switch kind {
		case repAck:
			if exp.size < 0 {
				return exp, fmt.Errorf("%w: it did not say how large the export is", ErrProtocol)
			}
			exp.size -= exp.size % exp.min
			return exp, nil
		case repInfo:
			if err := exp.info(data); err != nil {
				return exp, err
			}
		default:
			return exp, fmt.Errorf("%w: a reply of kind %d to NBD_OPT_GO", ErrProtocol, kind)
		}
	}
	return exp, fmt.Errorf("%w: no end of its replies to NBD_OPT_GO", ErrProtocol)
}

// info takes what one reply says of the export.
//
//	export        0 (2)   size 8   flags 2
//	block size    3 (2)   smallest 4   preferred 4   largest 4
func (e *export) info(data []byte) error {
	if len(data) < 2 {
		return fmt.Errorf("%w: information of %d bytes", ErrProtocol, len(data))
	}
	kind, data := binary.BigEndian.Uint16(data), data[2:]
	switch kind {
	case infoExport:
		if len(data) != 10 {
			return fmt.Errorf("%w: the size of the export in %d bytes", ErrProtocol, len(data))
		}
		size := binary.BigEndian.Uint64(data)
		if size > math.MaxInt64 {
			return fmt.Errorf("%w: an export of %d bytes", ErrProtocol, size)
		}
		e.size, e.flags = int64(size), binary.BigEndian.Uint16(data[8:])
		if !e.has(flagHasFlags) {
			return fmt.Errorf("%w: flags %#x of the export", ErrProtocol, e.flags)
		}
	case infoBlockSize:
		if len(data) != 12 {
			return fmt.Errorf("%w: block sizes in %d bytes", ErrProtocol, len(data))
		}
		least, most := binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[8:])
		if bits.OnesCount32(least) != 1 || least > maxMinBlock || most < least || most%least != 0 && most != math.MaxUint32 {
			return fmt.Errorf("%w: blocks of %d to %d bytes", ErrProtocol, least, most)
		}
		e.min = int64(least)
		e.max = int64(most) - int64(most)%e.min
	}
	return nil // what was not asked for is left alone
}
