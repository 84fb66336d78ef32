package auth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const testDom = "example.com"

func newKey(t testing.TB, user string) *Key {
	t.Helper()
	k, err := NewKey(user, testDom)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A wire records what a client writes and can change what it reads and writes.
type wire struct {
	*Conv
	wrote         [][]byte
	write, answer func(n int, b []byte) []byte // the nth message
	reads         int
}

func (w *wire) Write(p []byte) (int, error) {
	b := bytes.Clone(p)
	if w.write != nil {
		b = w.write(len(w.wrote), b)
	}
	w.wrote = append(w.wrote, b)
	if _, err := w.Conv.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conv.Read(p)
	if w.answer != nil && err == nil {
		n = copy(p, w.answer(w.reads, bytes.Clone(p[:n])))
	}
	w.reads++
	return n, err
}

// The client's messages in a wire's wrote.
const (
	sentChoice = iota
	sentChal
	sentPoint
	sentTicket
)

// A site is a server, an authentication server and a user.
type site struct {
	server, user *Key
	keys         []*Key
}

func newSite(t testing.TB) *site {
	s := &site{server: newKey(t, "bootes"), user: newKey(t, "glenda")}
	s.keys = []*Key{s.server, s.user}
	return s
}

func (s *site) key(user string) *Key {
	for _, k := range s.keys {
		if k.User == user {
			return k
		}
	}
	return nil
}

// dial connects to the site's authentication server.
func (s *site) dial(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	go (&TicketServer{Key: s.key}).ServeConn(b) // ends when a is closed
	return a, nil
}

func (s *site) source() *AuthServer { return &AuthServer{Key: s.user, Dial: s.dial} }

func TestClientProvesWhoItIs(t *testing.T) {
	s := newSite(t)
	for name, from := range map[string]TicketSource{"authentication server": s.source(), "the server's key": ServerKey{s.server}} {
		c := NewConv(s.server, "glenda")
		if err := Prove(t.Context(), c, "glenda", from); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Proved() != "glenda" {
			t.Errorf("%s: proved to be %q", name, c.Proved())
		}
		if n, err := c.Read(make([]byte, 10)); n != 0 || err != nil {
			t.Errorf("%s: behind the end: %d, %v", name, n, err)
		}
		if _, err := c.Write([]byte{0}); !errors.Is(err, ErrProtocol) || c.Proved() != "" {
			t.Errorf("%s: writing behind the end: %v, and %q", name, err, c.Proved())
		}
	}
	// The server's own user too.
	c := NewConv(s.server, "bootes")
	if err := Prove(t.Context(), c, "bootes", &AuthServer{Key: s.server, Dial: s.dial}); err != nil || c.Proved() != "bootes" {
		t.Errorf("proved to be %q: %v", c.Proved(), err)
	}
}

// bytewise cuts everything into single bytes.
type bytewise struct{ *Conv }

func (b bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conv.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (b bytewise) Read(p []byte) (int, error) { return b.Conv.Read(p[:1]) }

func TestWhereMessagesAreCutDoesNotMatter(t *testing.T) {
	s := newSite(t)
	c := NewConv(s.server, "glenda")
	if err := Prove(t.Context(), bytewise{c}, "glenda", ServerKey{s.server}); err != nil || c.Proved() != "glenda" {
		t.Fatalf("%q: %v", c.Proved(), err)
	}
}

// TestConversationsThatProveNothing changes one thing in conversations that would go well.
func TestConversationsThatProveNothing(t *testing.T) {
	s := newSite(t)
	stranger := newKey(t, "bootes")
	// What the client of an earlier conversation has said.
	old := &wire{Conv: NewConv(s.server, "glenda")}
	if err := Prove(t.Context(), old, "glenda", ServerKey{s.server}); err != nil {
		t.Fatal(err)
	}
	instead := func(msg int, f func(b []byte) []byte) func(int, []byte) []byte {
		return func(n int, b []byte) []byte {
			if n == msg {
				return f(b)
			}
			return b
		}
	}
	becomes := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	for name, test := range map[string]struct {
		from   TicketSource
		as     string // the conversation is about, glenda if empty
		write  func(int, []byte) []byte
		answer func(int, []byte) []byte
	}{
		"ticket made with another key":     {from: ServerKey{stranger}},
		"ticket for another user":          {from: ServerKey{s.server}, as: "rsc"},
		"ticket of an earlier time":        {from: ServerKey{s.server}, write: instead(sentTicket, func([]byte) []byte { return old.wrote[sentTicket] })},
		"point of an earlier time":         {from: ServerKey{s.server}, write: instead(sentPoint, func([]byte) []byte { return old.wrote[sentPoint] })},
		"authenticator of an earlier time": {from: ServerKey{s.server}, write: instead(sentTicket, func(b []byte) []byte { return append(b[:ticketSize], old.wrote[sentTicket][ticketSize:]...) })},
		"all of an earlier time":           {from: ServerKey{s.server}, write: func(n int, _ []byte) []byte { return old.wrote[n] }},
		"no authenticator":                 {from: ServerKey{s.server}, write: instead(sentTicket, func(b []byte) []byte { return b[:ticketSize] })},
		"part of a ticket":                 {from: ServerKey{s.server}, write: instead(sentTicket, func(b []byte) []byte { return b[:ticketSize-1] })},
		"one byte more":                    {from: ServerKey{s.server}, write: instead(sentTicket, func(b []byte) []byte { return append(b, 0) })},
		"a point that is none":             {from: ServerKey{s.server}, write: instead(sentPoint, func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, eltSize) })},
		"the identity for a point":         {from: ServerKey{s.server}, write: instead(sentPoint, func(b []byte) []byte { return make([]byte, eltSize) })},
		"another protocol":                 {from: ServerKey{s.server}, write: instead(sentChoice, becomes("p9sk1 "+testDom+"\x00"))},
		"another domain":                   {from: ServerKey{s.server}, write: instead(sentChoice, becomes("dp9ik elsewhere\x00"))},
		"no domain":                        {from: ServerKey{s.server}, write: instead(sentChoice, becomes("dp9ik\x00"))},
		"an empty choice":                  {from: ServerKey{s.server}, write: instead(sentChoice, becomes("\x00"))},
		"a choice that does not end":       {from: ServerKey{s.server}, write: instead(sentChoice, becomes(strings.Repeat("x", 1000)))},
		"more behind the choice":           {from: ServerKey{s.server}, write: instead(sentChoice, func(b []byte) []byte { return append(b, "12345678"...) })},
		"a challenge that is too long":     {from: ServerKey{s.server}, write: instead(sentChal, func(b []byte) []byte { return append(b, 0) })},

		// These are for the client to find out.
		"another version of p9any":            {from: ServerKey{s.server}, answer: instead(0, becomes("v.3 dp9ik@"+testDom+"\x00"))},
		"no protocol the client speaks":       {from: ServerKey{s.server}, answer: instead(0, becomes("v.2 p9sk1@"+testDom+"\x00"))},
		"no agreement":                        {from: ServerKey{s.server}, answer: instead(1, becomes("KO\x00"))},
		"a request of another type":           {from: ServerKey{s.server}, answer: instead(2, func(b []byte) []byte { b[0] = authTreq; return b })},
		"a request for another server":        {from: ServerKey{s.server}, answer: instead(2, func(b []byte) []byte { b[1] = 'r'; return b })},
		"another challenge":                   {from: ServerKey{s.server}, answer: instead(2, func(b []byte) []byte { b[1+nameField+domField]++; return b })},
		"a server that does not know the key": {from: ServerKey{s.server}, answer: instead(3, func(b []byte) []byte { return make([]byte, len(b)) })},
		"a proof with a bit changed":          {from: ServerKey{s.server}, answer: instead(3, func(b []byte) []byte { b[20]++; return b })},
	} {
		t.Run(name, func(t *testing.T) {
			as := test.as
			if as == "" {
				as = "glenda"
			}
			w := &wire{Conv: NewConv(s.server, as), write: test.write, answer: test.answer}
			err := Prove(t.Context(), w, "glenda", test.from)
			if err == nil {
				t.Fatal("the client is satisfied")
			}
			if test.answer == nil && w.Proved() != "" {
				t.Errorf("the client has proved to be %q", w.Proved())
			}
		})
	}
}

func TestNobodyIsProvedBeforeTheEnd(t *testing.T) {
	s := newSite(t)
	w := &wire{Conv: NewConv(s.server, "glenda")}
	check := func() {
		if got := w.Proved(); got != "" {
			t.Errorf("after %d writes and %d reads it is %q", len(w.wrote), w.reads, got)
		}
	}
	w.write = func(_ int, b []byte) []byte { check(); return b }
	w.answer = func(n int, b []byte) []byte {
		if n < 3 {
			check()
		}
		return b
	}
	if err := Prove(t.Context(), w, "glenda", ServerKey{s.server}); err != nil {
		t.Fatal(err)
	}
	if w.Proved() == "" {
		t.Error("at the end there is nobody")
	}
	// What the server says last has to be read to its end.
	c := NewConv(s.server, "glenda")
	part := &lazy{Conv: c}
	if err := Prove(t.Context(), part, "glenda", ServerKey{s.server}); err == nil {
		t.Fatal("the client has not seen the proof")
	}
	if c.Proved() != "" {
		t.Error("the client was not told all")
	}
}

// A lazy client stops in the middle of the server's last message.
type lazy struct {
	*Conv
	n int
}

func (l *lazy) Read(p []byte) (int, error) {
	if len(p) == proofSize {
		if l.n++; l.n > 1 {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:proofSize-1]
	} else if l.n > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return l.Conv.Read(p)
}

// TestAfterAnErrorThereAreOnlyErrors even if the rest is right.
func TestAfterAnErrorThereAreOnlyErrors(t *testing.T) {
	s := newSite(t)
	c := NewConv(s.server, "glenda")
	if _, err := c.Write([]byte("dp9ik")); !errors.Is(err, ErrProtocol) {
		t.Fatalf("a choice before the offer was read: %v", err)
	}
	if err := Prove(t.Context(), c, "glenda", ServerKey{s.server}); !errors.Is(err, ErrProtocol) {
		t.Errorf("it goes on: %v", err)
	}
	c = NewConv(s.server, "glenda")
	if _, err := io.ReadFull(c, make([]byte, len("v.2 dp9ik@"+testDom)+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrProtocol) {
		t.Errorf("a read at the client's turn: %v", err)
	}
}

// TestChangedBitsAreFound in whatever is sealed.
func TestChangedBitsAreFound(t *testing.T) {
	var key [32]byte
	tk := newTicket([chalSize]byte{1}, "glenda")
	a := authenticator{chal: tk.chal}
	ts, ac := tk.seal(authTs, &key), a.seal(authAc, &tk.kn)
	for i := range 8 * len(ts) {
		b := bytes.Clone(ts)
		b[i/8] ^= 1 << (i % 8)
		if _, err := openTicket(authTs, &key, b); err != ErrProtocol {
			t.Fatalf("bit %d of a ticket: %v", i, err)
		}
	}
	for i := range 8 * len(ac) {
		b := bytes.Clone(ac)
		b[i/8] ^= 1 << (i % 8)
		if err := checkAuthenticator(authAc, &tk.kn, &a.chal, b); err != ErrProtocol {
			t.Fatalf("bit %d of an authenticator: %v", i, err)
		}
	}
	for n := range ts {
		if _, err := openTicket(authTs, &key, ts[:n]); err != ErrProtocol {
			t.Fatalf("%d bytes of a ticket: %v", n, err)
		}
	}
	if _, err := openTicket(authTc, &key, ts); err != ErrProtocol {
		t.Errorf("a server's ticket as a client's: %v", err)
	}
	if err := checkAuthenticator(authAs, &tk.kn, &a.chal, ac); err != ErrProtocol {
		t.Errorf("a client's authenticator as a server's: %v", err)
	}
	if err := checkAuthenticator(authAc, &tk.kn, &[chalSize]byte{2}, ac); err != ErrProtocol {
		t.Errorf("an authenticator with another challenge: %v", err)
	}
}

func TestAuthenticationServerHelpsOnlyThoseItKnows(t *testing.T) {
	s := newSite(t)
	wrong := newKey(t, "glenda")
	nobody := newKey(t, "nobody")
	strange := newKey(t, "glenda")
	strange.Dom = "elsewhere"
	for name, test := range map[string]struct {
		key  *Key
		user string
		want error
	}{
		"wrong key":      {wrong, "glenda", ErrKey},
		"unknown user":   {nobody, "nobody", ErrKey},
		"somebody else":  {s.user, "rsc", ErrKey},
		"as none":        {s.user, "none", ErrKey},
		"another domain": {strange, "glenda", nil},
		"not a name":     {s.user, "a b", ErrName},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewConv(s.server, test.user)
			err := Prove(t.Context(), c, test.user, &AuthServer{Key: test.key, Dial: s.dial})
			if err == nil || test.want != nil && !errors.Is(err, test.want) || c.Proved() != "" {
				t.Errorf("%v, and proved is %q", err, c.Proved())
			}
		})
	}
	// A server the authentication server does not know, or that does not have the key it should.
	c := NewConv(newKey(t, "bootes"), "glenda")
	if err := Prove(t.Context(), c, "glenda", s.source()); !errors.Is(err, ErrProtocol) || c.Proved() != "" {
		t.Errorf("a server with a wrong key: %v", err)
	}
	// Nobody there.
	failing := &AuthServer{Key: s.user, Dial: func(context.Context) (net.Conn, error) { return nil, io.EOF }}
	if err := Prove(t.Context(), NewConv(s.server, "glenda"), "glenda", failing); !errors.Is(err, io.EOF) {
		t.Errorf("an authentication server that is not there: %v", err)
	}
	// One that says nothing.
	ctx, cancel := context.WithCancel(t.Context())
	silent := &AuthServer{Key: s.user, Dial: func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			io.CopyN(io.Discard, b, 10)
			cancel()
			io.Copy(io.Discard, b)
		}()
		return a, nil
	}}
	if err := Prove(ctx, NewConv(s.server, "glenda"), "glenda", silent); !errors.Is(err, context.Canceled) {
		t.Errorf("an authentication server that is silent: %v", err)
	}
}

// TestTicketServerAnswersOnlyWhatItShould talks to it by hand.
func TestTicketServerAnswersOnlyWhatItShould(t *testing.T) {
	s := newSite(t)
	req := ticketReq{typ: authPAK, authid: "bootes", authdom: testDom, hostid: "glenda", uid: "glenda"}
	points := func() []byte {
		return append(newPak(s.server, true).y[:], newPak(s.user, true).y[:]...)
	}
	treq := func(change func(*ticketReq)) []byte {
		r := req
		r.typ = authTreq
		change(&r)
		return r.append(nil)
	}
	asIs := func(*ticketReq) {}
	exchange := append(req.append(nil), points()...)
	tests := map[string]struct {
		send   []byte
		answer int // bytes before the end, or before an error
		fails  bool
	}{
		"exchange and tickets":          {append(bytes.Clone(exchange), treq(asIs)...), 2 + 2*eltSize + 2*ticketSize, false},
		"tickets without an exchange":   {treq(asIs), 0, true},
		"tickets twice":                 {append(append(bytes.Clone(exchange), treq(asIs)...), treq(asIs)...), 2 + 2*eltSize + 2*ticketSize, false},
		"an exchange twice":             {append(bytes.Clone(exchange), exchange...), 2 + 4*eltSize, false},
		"tickets for another server":    {append(bytes.Clone(exchange), treq(func(r *ticketReq) { r.authid = "glenda" })...), 1 + 2*eltSize, true},
		"tickets for another user":      {append(bytes.Clone(exchange), treq(func(r *ticketReq) { r.uid = "bootes" })...), 1 + 2*eltSize, true},
		"tickets with another number":   {append(bytes.Clone(exchange), treq(func(r *ticketReq) { r.chal[0]++ })...), 1 + 2*eltSize, true},
		"a change of password":          {append([]byte{3}, exchange[1:treqSize]...), 0, true},
		"a server's point that is none": {append(req.append(nil), bytes.Repeat([]byte{0xff}, 2*eltSize)...), 0, true},
		"a user's point that is none":   {append(append(req.append(nil), points()[:eltSize]...), bytes.Repeat([]byte{0xff}, eltSize)...), 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- (&TicketServer{Key: s.key}).ServeConn(server) }()
			go client.Write(test.send)
			b := make([]byte, test.answer)
			if _, err := io.ReadFull(client, b); err != nil {
				t.Fatal(err)
			}
			if test.answer > 0 && b[0] != authOK {
				t.Errorf("the answer is of type %d", b[0])
			}
			if test.fails {
				e := make([]byte, 1+errSize)
				if _, err := io.ReadFull(client, e); err != nil || e[0] != authErr {
					t.Errorf("%q: %v", e, err)
				}
			}
			if n, err := client.Read(make([]byte, 1)); len(test.send) > len(exchange)+treqSize && (n > 0 || err == nil) {
				t.Error("there are more answers")
			}
			client.Close()
			if err := <-done; (err != nil) != test.fails {
				t.Errorf("ended with %v", err)
			}
		})
	}
	t.Run("too slow", func(t *testing.T) {
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- (&TicketServer{Key: s.key, Time: 20 * time.Millisecond}).ServeConn(server) }()
		client.Write(exchange[:10])
		var timeout net.Error
		if err := <-done; !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("ended with %v", err)
		}
		client.Close()
	})
}
