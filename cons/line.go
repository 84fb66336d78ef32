package cons

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// What goes over a console's socket.
//
//	server   gefs#␣                  the prompt, once when the connection begins, and after each line
//	person   snap -l                 a line
//	server   snap adm [mutable]      its output, and the error if it failed, on a line by itself
//	program  =snap -l                a request: words as Join puts them
//	server   |snap adm [mutable]     each line of output behind a bar
//	server   =ok                     how it ended: =ok, =failed if all has been said,
//	                                 or =error and the text of the error
//
// A request is answered without a prompt. The program's hanging up cancels the command that runs for it;
// a person may close the sending side and still gets what was asked for.
const (
	prompt    = "gefs# "
	request   = '='
	outLine   = '|'
	endOK     = "=ok"
	endFailed = "=failed"
	endError  = "=error "
)

const (
	lineMax   = 64 << 10         // bytes of a line
	connsMax  = 32               // people and programs at a time
	writeTime = time.Minute      // for which a client may take nothing of what is said to it
	endTime   = 5 * time.Second  // the same while the server ends
	retryTime = time.Millisecond // after which accepting is tried again if it failed for now
)

// Serve answers those who connect to l until ctx ends or accepting fails. l should be a socket to which
// only administrators can connect: nobody is asked who they are. When ctx ends, running commands are
// cancelled; Serve returns when all connections are closed, and closes l. The error is nil unless
// accepting failed.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	c.init()
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	seats := make(chan struct{}, connsMax)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, or the client went away again.
			select {
			case <-time.After(retryTime):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case seats <- struct{}{}:
			conns.Go(func() {
				defer func() { <-seats }()
				c.talk(ctx, nc)
			})
		default:
			nc.SetWriteDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(nc, "gefs: %d consoles are open already\n", connsMax)
			nc.Close()
		}
	}
}

// A talker is one connection.
type talker struct {
	ctx context.Context // the server's
	nc  net.Conn
	err error // of the first write that failed
}

// Write writes p; whoever takes nothing for writeTime is given up.
func (t *talker) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	d := writeTime
	if t.ctx.Err() != nil {
		d = endTime
	}
	t.nc.SetWriteDeadline(time.Now().Add(d))
	n, err := t.nc.Write(p)
	t.err = err
	return n, err
}

// talk serves a connection and closes it.
func (c *Console) talk(ctx context.Context, nc net.Conn) {
	t := &talker{ctx: ctx, nc: nc}
	lines := make(chan string)
	quit, gone := make(chan struct{}), make(chan struct{}) // we leave; nothing more will come
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(gone)
		defer close(lines)
		r := bufio.NewReaderSize(nc, lineMax)
		for {
			line, err := r.ReadSlice('\n')
			if err == bufio.ErrBufferFull || err != nil && (err != io.EOF || len(line) == 0) {
				return
			}
			select {
			case lines <- string(line):
			case <-quit:
				return
			}
		}
	})
	defer reader.Wait()
	defer nc.Close()
	defer close(quit)
	io.WriteString(t, prompt)
	for t.err == nil {
		select {
		case line, ok := <-lines:
			if !ok {
				return
			}
			if line[0] == request {
				c.answerProgram(ctx, t, gone, line[1:])
			} else {
				c.answerPerson(ctx, t, line)
			}
		case <-ctx.Done():
			return
		}
	}
}

// answerPerson runs a line and prompts for the next.
func (c *Console) answerPerson(ctx context.Context, t *talker, line string) {
	words, err := Split(line)
	if err == nil {
		err = c.Exec(ctx, words, t)
	}
	if err != nil && err != ErrReported {
		fmt.Fprintln(t, oneLine(err.Error()))
	}
	io.WriteString(t, prompt)
}

// answerProgram runs a request; when gone is closed meanwhile, nobody wants the answer.
func (c *Console) answerProgram(ctx context.Context, t *talker, gone <-chan struct{}, line string) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	})
	out := &barWriter{w: t}
	words, err := Split(line)
	if err == nil {
		err = c.Exec(ctx, words, out)
	}
	cancel()
	watch.Wait()
	out.end()
	switch {
	case err == nil:
		fmt.Fprintln(t, endOK)
	case err == ErrReported:
		fmt.Fprintln(t, endFailed)
	default:
		fmt.Fprintf(t, "%s%s\n", endError, oneLine(err.Error()))
	}
}

// A barWriter puts a bar before each line.
type barWriter struct {
	w    io.Writer
	open bool // in the middle of a line
}

func (b *barWriter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+bytes.Count(p, []byte{'\n'})+1)
	for line := range bytes.Lines(p) {
		if !b.open {
			out = append(out, outLine)
		}
		out = append(out, line...)
		b.open = line[len(line)-1] != '\n'
	}
	if len(out) == 0 {
		return 0, nil
	}
	if _, err := b.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end ends a line that has none.
func (b *barWriter) end() {
	if b.open {
		io.WriteString(b.w, "\n")
		b.open = false
	}
}
