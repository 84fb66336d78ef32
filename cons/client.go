package cons

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// A Failure is what a console says when a command has failed.
type Failure string

func (f Failure) Error() string { return string(f) }

// A Client gives commands to a console over its socket. It is for one goroutine.
type Client struct {
	nc net.Conn
	r  *bufio.Reader
}

// NewClient takes over nc, which is connected to a console, and waits for the prompt. If there comes
// something else it closes nc and fails.
func NewClient(ctx context.Context, nc net.Conn) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := &Client{nc, bufio.NewReaderSize(nc, lineMax)}
	var p [len(prompt)]byte
	_, err := io.ReadFull(c.r, p[:])
	if err == nil && string(p[:]) != prompt {
		rest, _ := c.r.ReadString('\n') // whatever it is, it is not the prompt
		err = fmt.Errorf("that is no console of gefs: it says %q", string(p[:])+strings.TrimSpace(rest))
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// Run gives a command and writes what it says to out, as it comes. If the command failed the error is a
// Failure, or ErrReported if out has it all. When ctx ends, or out fails, the connection is closed and
// the command cancelled.
func (c *Client) Run(ctx context.Context, words []string, out io.Writer) error {
	line := Join(words)
	if strings.ContainsAny(line, "\r\n") || len(line) >= lineMax-2 {
		return errors.New("a command is one line, and not a long one")
	}
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	fail := func(err error) error {
		c.nc.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := fmt.Fprintf(c.nc, "%c%s\n", request, line); err != nil {
		return fail(err)
	}
	bol := true
	for {
		p, err := c.r.ReadSlice('\n')
		full := err == bufio.ErrBufferFull
		if err != nil && !full {
			return fail(err)
		}
		if bol {
			switch {
			case p[0] == outLine:
				p = p[1:]
			case full:
				return fail(fmt.Errorf("the console says %q", p[:40]))
			default:
				return c.ended(strings.TrimSuffix(string(p), "\n"), fail)
			}
		}
		bol = !full
		if _, err := out.Write(p); err != nil {
			return fail(err)
		}
	}
}

// ended reads the last line of an answer.
func (c *Client) ended(line string, fail func(error) error) error {
	switch text, isError := strings.CutPrefix(line, endError); {
	case line == endOK:
		return nil
	case line == endFailed:
		return ErrReported
	case isError:
		return Failure(text)
	}
	return fail(fmt.Errorf("the console says %q", line))
}

// Close hangs up.
func (c *Client) Close() error { return c.nc.Close() }
