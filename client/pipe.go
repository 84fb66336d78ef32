package client

import (
	"context"
	"fmt"
	"io"
	"net"

	"gefs9p/dial"
	"gefs9p/ninep"
)

// A Pipe is a connection that one goroutine keeps full of requests.
//
// To send, append frames to Out with the Append functions of package ninep; tags and fids are the
// caller's business. To receive, call Next. As long as replies are at hand Next returns them without
// a system call, and requests appended meanwhile gather in Out, so that a busy connection makes few
// and large writes.
//
// Requests are written whole before more replies are read. So what is outstanding must not fill the
// socket buffers in both directions at once; requests whose questions or whose answers together have
// less than 64 KiB are safe, in any number.
type Pipe struct {
	Out []byte // frames that are not yet written

	rwc   io.ReadWriteCloser
	msize uint32
	in    frames
}

// DialPipe connects to addr, which is in any form that dial.Parse reads, and agrees on the protocol.
// It asks for frames of msize bytes at most.
func DialPipe(ctx context.Context, addr string, msize uint32) (*Pipe, error) {
	rwc, err := connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	p, err := NewPipe(ctx, rwc, msize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return p, nil
}

// NewPipe agrees on the protocol over rwc, which it closes if that fails.
func NewPipe(ctx context.Context, rwc io.ReadWriteCloser, msize uint32) (*Pipe, error) {
	got, err := version(ctx, rwc, msize)
	if err != nil {
		return nil, err
	}
	return &Pipe{rwc: rwc, msize: got, in: newFrames(rwc, got)}, nil
}

// Msize returns the size of the largest frame the server agreed to.
func (p *Pipe) Msize() uint32 { return p.msize }

// Iounit returns how many bytes a Tread or Twrite can carry.
func (p *Pipe) Iounit() int { return int(p.msize) - ninep.IOHDRSZ }

// Close ends the connection. It may be called from another goroutine, to end a Next that waits.
func (p *Pipe) Close() error { return p.rwc.Close() }

// Flush writes what is in Out.
func (p *Pipe) Flush() error {
	if len(p.Out) == 0 {
		return nil
	}
	_, err := p.rwc.Write(p.Out)
	p.Out = p.Out[:0]
	return err
}

// Next returns the frame of the next reply, valid until Next is called again. If it is not at hand, it
// writes what is in Out and waits. The error is io.EOF if the server hung up between two replies.
func (p *Pipe) Next() ([]byte, error) {
	for {
		frame, err := p.in.take()
		if frame != nil || err != nil {
			return frame, err
		}
		if err := p.Flush(); err != nil {
			return nil, err
		}
		if err := p.in.fill(); err != nil {
			return nil, err
		}
	}
}

// connect opens a connection to addr.
func connect(ctx context.Context, addr string) (net.Conn, error) {
	network, address, err := dial.Parse(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// version agrees on 9P2000 and the size of frames. It closes rwc on failure, and to give up when ctx
// ends. Source: version(5).
func version(ctx context.Context, rwc io.ReadWriteCloser, msize uint32) (uint32, error) {
	stop := context.AfterFunc(ctx, func() { rwc.Close() })
	got, err := negotiate(rwc, msize)
	if !stop() && ctx.Err() != nil {
		return 0, ctx.Err() // rwc is closed, or about to be
	}
	if err != nil {
		rwc.Close()
		return 0, err
	}
	return got, nil
}

func negotiate(rw io.ReadWriter, msize uint32) (uint32, error) {
	if msize < ninep.MinMsize {
		return 0, fmt.Errorf("msize %d is below %d", msize, ninep.MinMsize)
	}
	out, err := ninep.AppendTversion(nil, ninep.NOTAG, msize, ninep.Version)
	if err != nil {
		return 0, err
	}
	if _, err := rw.Write(out); err != nil {
		return 0, fmt.Errorf("Tversion: %w", err)
	}
	frame, err := ninep.ReadFrame(rw, nil, msize)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, fmt.Errorf("Rversion: %w", err)
	}
	var r ninep.Fcall
	if err := decodeReply(&r, frame, ninep.Tversion); err != nil {
		return 0, err
	}
	switch v := &r.Version; {
	case r.Tag != ninep.NOTAG:
		return 0, protocolError("Rversion with tag %d", r.Tag)
	case v.Version != ninep.Version:
		return 0, fmt.Errorf("the server does not speak %s: it answers %q", ninep.Version, v.Version)
	case v.Msize > msize || v.Msize < ninep.MinMsize:
		return 0, protocolError("msize %d, asked for %d", v.Msize, msize)
	default:
		return v.Msize, nil
	}
}

// decodeReply decodes frame into r. It returns the server's Error if that is what it is, and an
// ErrProtocol if it is no answer to a message of type typ.
func decodeReply(r *ninep.Fcall, frame []byte, typ uint8) error {
	if err := r.Decode(frame); err != nil {
		return protocolError("%w", err)
	}
	switch r.Type {
	case typ + 1:
		return nil
	case ninep.Rerror:
		return Error(r.Rerror.Ename)
	}
	return protocolError("message of type %d answered by type %d", typ, r.Type)
}
