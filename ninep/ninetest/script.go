package ninetest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// RunFiles plays every conversation whose file matches pattern, each as a subtest with connections of
// its own, which dial makes. See Run.
func RunFiles(t *testing.T, pattern string, dial func(t testing.TB) io.ReadWriteCloser) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations in %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			Run(t, file, string(text), func() io.ReadWriteCloser { return dial(t) })
		})
	}
}

// Run plays a conversation against a server. Each line is one of
//
//	# …            a comment
//	Tread tag 1 …  a message to send, as ninep.Format prints it
//	Rread tag 1 …  a reply that must come
//	then           the replies above must have come before any of those below
//	batch … end    what is between the two is sent in one write
//	raw 00ff…      bytes to send, in hexadecimal
//	quiet 50ms     nothing may come for so long
//	hangup         the server must close the connection, sending nothing more
//	close          the client closes the connection
//	conn NAME      from here on talk on another connection, made when its name first appears
//
// The fields of a message may come in any order. A field left out of a T-message is zero, except tag
// (NOTAG for Tversion), afid (NOFID), msize (8192), version (9P2000), the fields of stat (do not
// touch) and the numbers of users (NOUID). A tag left out of an R-message is zero too; any other field left out is not compared.
// Replies on lines that follow each other may come in any order.
//
// Where an Rversion has agreed on 9P2000.u messages have its fields too, as ninep.FormatUnix prints them.
//
// Values: numbers in Go's notation, ~0 for all bits set; NOTAG, NOFID and NOUID; strings, in single quotes
// where needed; 0x… for data that is no text, 10*'ab' for a string that repeats; lists of names or
// qids in brackets; open modes as OREAD|OTRUNC; modes as letters and octal digits (d755); a stat
// record as pairs in parentheses, a directory's data as a list of them. In a reply, * stands for any
// value.
func Run(t testing.TB, name, text string, dial func() io.ReadWriteCloser) {
	s := &script{t: t, name: name, dial: dial, peers: make(map[string]*Peer)}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		s.line = i + 1
		s.do(strings.TrimSpace(line))
	}
	s.expect()
	if s.batching {
		s.fatalf("batch without end")
	}
	for conn, p := range s.peers {
		p.Conn.Close()
		delete(s.peers, conn)
	}
}

type script struct {
	t    testing.TB
	name string
	line int
	dial func() io.ReadWriteCloser

	peers    map[string]*Peer
	conn     string
	batching bool
	batch    []byte
	want     []want // replies of a run of R lines
}

// A want is an expected reply.
type want struct {
	line int
	text string
	msg  pairs
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s:%d: %s", s.name, s.line, fmt.Sprintf(format, args...))
}

// peer is the current connection.
func (s *script) peer() *Peer {
	p := s.peers[s.conn]
	if p == nil {
		p = NewPeer(s.t, s.dial())
		s.peers[s.conn] = p
	}
	return p
}

func (s *script) send(b []byte) {
	if s.batching {
		s.batch = append(s.batch, b...)
		return
	}
	if _, err := s.peer().Conn.Write(b); err != nil {
		s.fatalf("write: %v", err)
	}
}

// do carries out one line. Anything but an R line first waits for the replies above it.
func (s *script) do(line string) {
	if line == "" || line[0] == '#' {
		return
	}
	verb, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	if verb[0] == 'R' {
		msg, err := parsePairs(line)
		if err != nil {
			s.fatalf("%v", err)
		}
		s.want = append(s.want, want{s.line, line, msg})
		return
	}
	s.expect()
	switch {
	case verb[0] == 'T':
		d := s.peer().Dialect
		m, u, err := ParseTIn(line, d)
		if err != nil {
			s.fatalf("%v", err)
		}
		b, err := appendIn(nil, d, m, &u)
		if err != nil {
			s.fatalf("%v", err)
		}
		s.send(b)
		s.peer().sent(m)
	case verb == "raw":
		b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err != nil {
			s.fatalf("%v", err)
		}
		s.send(b)
	case verb == "batch":
		s.batching, s.batch = true, nil
	case verb == "end":
		s.batching = false
		s.send(s.batch)
	case verb == "then":
	case verb == "quiet":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.fatalf("%v", err)
		}
		f, err := s.peer().read(d)
		if err == nil {
			s.fatalf("got %s, want nothing", s.text(f))
		} else if !isTimeout(err) {
			s.fatalf("got %v, want nothing", err)
		}
	case verb == "hangup":
		f, err := s.peer().read(Patience)
		if err == nil {
			s.fatalf("got %s, want a hangup", s.text(f))
		} else if isTimeout(err) {
			s.fatalf("no hangup")
		}
	case verb == "close":
		s.peer().Conn.Close()
		delete(s.peers, s.conn)
	case verb == "conn":
		s.conn = rest
	default:
		s.fatalf("unknown line %q", line)
	}
}

// text is a reply on the current connection.
func (s *script) text(f *ninep.Fcall) string { return f.Text(s.peer().Dialect) }

// expect reads the replies wanted so far.
func (s *script) expect() {
	wants := s.want
	s.want = nil
	for len(wants) > 0 {
		f, err := s.peer().read(Patience)
		if err != nil {
			s.fatalf("waiting for %s (line %d): %v", wants[0].text, wants[0].line, err)
		}
		var why error
		found := -1
		for i, w := range wants {
			if why = w.msg.match(f, s.peer().Dialect); why == nil {
				found = i
				break
			}
		}
		if found < 0 {
			got := s.text(f)
			if len(wants) == 1 {
				s.fatalf("\ngot  %s\nwant %s (line %d)\n%v", got, wants[0].text, wants[0].line, why)
			}
			var all strings.Builder
			for _, w := range wants {
				fmt.Fprintf(&all, "\n     %s (line %d)", w.text, w.line)
			}
			s.fatalf("\ngot  %s\nwant one of%s", got, all.String())
		}
		wants = append(wants[:found], wants[found+1:]...)
	}
}

// match says why f, in the dialect d, is not the message that p describes.
func (p pairs) match(f *ninep.Fcall, d ninep.Dialect) error {
	got, err := parsePairs(f.Text(d))
	if err != nil {
		return fmt.Errorf("cannot read back the reply: %w", err)
	}
	if p.verb != got.verb {
		return fmt.Errorf("%s instead of %s", got.verb, p.verb)
	}
	if p.get("tag") == nil {
		p.fields = append(p.fields, field{name: "tag", value: value{word: "0"}})
	}
	for _, w := range p.fields {
		if w.name == "data" && f.Type == ninep.Rread {
			if err := matchData(w.value, f.Rread.Data, d); err != nil {
				return err
			}
			continue
		}
		g := got.get(w.name)
		if g == nil {
			return fmt.Errorf("no field %s", w.name)
		}
		if err := w.value.match(g); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// matchData compares bytes, or the records of a directory in the dialect d.
func matchData(w value, data []byte, d ninep.Dialect) error {
	if w.isWild() {
		return nil
	}
	if !w.list {
		b, err := w.bytes()
		if err != nil {
			return err
		}
		if string(b) != string(data) {
			return fmt.Errorf("data: %d bytes %.100q, want %d bytes %.100q", len(data), data, len(b), b)
		}
		return nil
	}
	dirs, err := records(data, d)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if len(dirs) != len(w.elems) {
		return fmt.Errorf("data: %d stat records, want %d: %v", len(dirs), len(w.elems), dirs)
	}
	for i := range dirs {
		g, err := parsePairs("stat " + strings.Trim(dirs[i], "()"))
		if err != nil {
			return err
		}
		if err := w.elems[i].match(&value{group: g.fields}); err != nil {
			return fmt.Errorf("stat record %d: %w", i, err)
		}
	}
	return nil
}

// records prints the records of a directory in the dialect d.
func records(data []byte, d ninep.Dialect) (list []string, err error) {
	if d == ninep.Unix {
		dirs, err := ninep.DecodeUnixDirs(data)
		for i := range dirs {
			list = append(list, dirs[i].String())
		}
		return list, err
	}
	dirs, err := ninep.DecodeDirs(data)
	for i := range dirs {
		list = append(list, dirs[i].String())
	}
	return list, err
}

// match says why g is not what w describes.
func (w value) match(g *value) error {
	switch {
	case w.isWild():
		return nil
	case w.list != g.list || (w.group == nil) != (g.group == nil):
		return fmt.Errorf("%v is not like %v", g, w)
	case w.list:
		if len(w.elems) != len(g.elems) {
			return fmt.Errorf("%d elements, want %d", len(g.elems), len(w.elems))
		}
		for i := range w.elems {
			if err := w.elems[i].match(&g.elems[i]); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		return nil
	case w.group != nil:
		have := pairs{fields: g.group}
		for _, f := range w.group {
			v := have.get(f.name)
			if v == nil {
				return fmt.Errorf("no field %s", f.name)
			}
			if err := f.value.match(v); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		return nil
	}
	a, aerr := w.bytes()
	b, berr := g.bytes()
	if err := errors.Join(aerr, berr); err != nil {
		return err
	}
	if string(a) == string(b) {
		return nil
	}
	if x, err := w.num(64); err == nil && !w.quoted {
		if y, err := g.num(64); err == nil && x == y {
			return nil
		}
	}
	return fmt.Errorf("got %q, want %q", b, a)
}

// ParseT reads a T-message in the notation of Run.
func ParseT(line string) (proto.FCall, error) {
	m, _, err := ParseTIn(line, ninep.Plan9)
	return m, err
}

// ParseTIn is ParseT for a message of 9P2000 in the dialect d, with what 9P2000.u has beside it.
func ParseTIn(line string, d ninep.Dialect) (m proto.FCall, u ninep.UnixPart, err error) {
	p, err := parsePairs(line)
	if err != nil {
		return nil, u, err
	}
	if m, u, err = p.message(d); err != nil {
		return nil, u, fmt.Errorf("%s: %w", line, err)
	}
	for _, f := range p.fields {
		if !f.used {
			return nil, u, fmt.Errorf("%s: unknown field %s", line, f.name)
		}
	}
	return m, u, nil
}
