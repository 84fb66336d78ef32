package gefstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
)

// A Step is one thing that happened in a recorded conversation with the reference: a message and its
// answer, a line typed at the console, or a client that hung up. Steps of an instance belong to one
// server, which starts with a fresh disk, and to as many connections as there are numbers in Conn.
type Step struct {
	Instance, Case, Step, Conn int

	Desc string // of the case
	Note string // what is wrong with the reference here, if anything is

	T []byte // the message; nil if it is none
	R []byte // the answer; empty if there was none
	// HungUp says that instead of an answer the server hung up; Dead that it answered no more, or
	// was gone.
	HungUp, Dead bool

	Console, Output string // a line typed at the console and what it printed
	Close           bool   // the client hung up
}

// String names the step, such as 17.3 for step 3 of case 17.
func (s *Step) String() string { return fmt.Sprintf("%d.%d", s.Case, s.Step) }

// Transcript reads the conversations with the reference, or skips the test if they are not here. They
// are in order.
func Transcript(t testing.TB) []*Step {
	t.Helper()
	f, err := os.Open(filepath.Join(golden.Dir(t), "transcript.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var steps []*Step
	r := bufio.NewScanner(f)
	r.Buffer(nil, 1<<20)
	for r.Scan() {
		var line struct {
			Instance, Case, Step, Conn int
			Desc, Note                 string
			T                          string
			R                          *string
			Rd                         json.RawMessage
			Console, Output            string
			Close                      bool
		}
		if err := json.Unmarshal(r.Bytes(), &line); err != nil {
			t.Fatalf("transcript: record %d: %v", len(steps)+1, err)
		}
		s := &Step{
			Instance: line.Instance, Case: line.Case, Step: line.Step, Conn: line.Conn,
			Desc: line.Desc, Note: line.Note,
			Console: line.Console, Output: line.Output, Close: line.Close,
		}
		if line.R != nil {
			var bad error
			if s.T, bad = hex.DecodeString(line.T); bad == nil {
				s.R, bad = hex.DecodeString(*line.R)
			}
			if bad != nil {
				t.Fatalf("transcript: step %v: %v", s, bad)
			}
			if len(s.R) == 0 {
				s.HungUp = string(line.Rd) == `"connection closed by server"`
				s.Dead = !s.HungUp
			}
		}
		steps = append(steps, s)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// answerTime is how long a player waits for an answer. A server that is at work takes much less; it
// only matters to a test that fails.
const answerTime = 20 * time.Second

// A Player plays the client's part of a conversation to a server.
type Player struct {
	t     testing.TB
	srv   *ninep.Server
	conns map[int]*peer
}

// A peer is one connection of a Player.
type peer struct {
	nc   net.Conn
	done chan struct{} // closed when the server has clunked everything
}

// Play returns a player for a server of fs, whose frames are as long as the reference's, 32792 bytes.
func Play(t testing.TB, fs *gefs.FS) *Player {
	return &Player{
		t: t,
		srv: &ninep.Server{
			FS: fs, NewWorker: fs.NewWorker, FreeWorker: fs.FreeWorker,
			Limits: ninep.Limits{Msize: 32768 + 24},
		},
		conns: make(map[int]*peer),
	}
}

// Stop hangs up all connections and waits until the server has ended.
func (p *Player) Stop() {
	for n := range p.conns {
		p.hangUp(n)
	}
	p.srv.Shutdown(context.Background())
}

func (p *Player) hangUp(n int) {
	if c := p.conns[n]; c != nil {
		c.nc.Close()
		<-c.done
		delete(p.conns, n)
	}
}

// Send sends the message of a step and returns the answer, nil if the server hung up. For a step that
// is a hang-up, it returns when the server has noticed and has clunked the fids.
func (p *Player) Send(s *Step) []byte {
	p.t.Helper()
	if s.Close {
		p.hangUp(s.Conn)
		return nil
	}
	c := p.conns[s.Conn]
	if c == nil {
		ours, theirs := net.Pipe()
		c = &peer{ours, make(chan struct{})}
		p.conns[s.Conn] = c
		go func() {
			p.srv.ServeConn(context.Background(), theirs)
			close(c.done)
		}()
	}
	c.nc.SetDeadline(time.Now().Add(answerTime))
	if _, err := c.nc.Write(s.T); err != nil {
		return p.gone(s, err)
	}
	r := make([]byte, 4, 256)
	if _, err := io.ReadFull(c.nc, r); err != nil {
		return p.gone(s, err)
	}
	n := binary.LittleEndian.Uint32(r)
	if n < 7 || n > 32768+24 {
		p.t.Fatalf("step %v: an answer of %d bytes", s, n)
	}
	r = append(r, make([]byte, n-4)...)
	if _, err := io.ReadFull(c.nc, r[4:]); err != nil {
		p.t.Fatalf("step %v: answer of %d bytes: %v", s, n, err)
	}
	return r
}

// gone returns nil if the connection has been closed by the server.
func (p *Player) gone(s *Step, err error) []byte {
	p.t.Helper()
	if err != io.EOF && err != io.ErrClosedPipe {
		p.t.Fatalf("step %v: no answer: %v", s, err)
	}
	return nil
}
