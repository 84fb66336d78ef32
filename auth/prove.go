package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A Request is what a client asks tickets for: to be User on the server ID@Dom.
type Request struct {
	ID, Dom string
	User    string

	chal [chalSize]byte
	y    [eltSize]byte // the server's point
}

// Tickets are what a client got for a Request.
type Tickets struct {
	y      [eltSize]byte  // the authentication server's point for the server
	server []byte         // the sealed ticket for the server
	kn     [kernSize]byte // the key in both
}

// A TicketSource gets tickets.
type TicketSource interface {
	// Tickets returns those for r, whose strings have come from the server. It must give up when
	// ctx ends.
	Tickets(ctx context.Context, r *Request) (*Tickets, error)
}

// maxOffer bounds the list of protocols that a server offers.
const maxOffer = 2048

// Prove is the client's side of a conversation: it proves to the server at the other end of rw, usually
// an auth fid, that the client is user, and makes sure that it is a server that the authentication
// server knows. Errors of the conversation wrap ErrProtocol. rw is left open.
//
// When ctx ends, getting tickets does; reading and writing ends as rw does it.
func Prove(ctx context.Context, rw io.ReadWriter, user string, from TicketSource) error {
	dom, err := negotiate(rw, dp9ik, user)
	if err != nil {
		return err
	}
	var chal [chalSize]byte
	rand.Read(chal[:])
	if err := write(rw, chal[:]); err != nil {
		return err
	}

	var b [treqSize + eltSize]byte
	if _, err := io.ReadFull(reader{rw}, b[:]); err != nil {
		return fmt.Errorf("the server's ticket request: %w", err)
	}
	r, err := asked((*[treqSize]byte)(b[:treqSize]), authPAK, user, dom)
	if err != nil {
		return err
	}
	r.y = [eltSize]byte(b[treqSize:])
	t, err := from.Tickets(ctx, r)
	if err != nil {
		return fmt.Errorf("tickets for %s on %s@%s: %w", user, r.ID, r.Dom, err)
	}
	defer clear(t.kn[:])

	if err := write(rw, t.y[:]); err != nil {
		return err
	}
	a := authenticator{chal: r.chal}
	rand.Read(a.rand[:])
	if err := write(rw, append(bytes.Clone(t.server), a.seal(authAc, &t.kn)...)); err != nil {
		return err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(reader{rw}, proof[:]); err != nil {
		return fmt.Errorf("the server's proof: %w", err)
	}
	if err := checkAuthenticator(authAs, &t.kn, &chal, proof[:]); err != nil {
		return failed(nil, "the server does not have the key of %s@%s", r.ID, r.Dom)
	}
	return nil
}

// negotiate has the server agree to the protocol, in the domain that it offers it for. user is to prove
// something with it.
func negotiate(rw io.ReadWriter, proto, user string) (dom string, err error) {
	if err := checkName("user", user, MaxName); err != nil {
		return "", err
	}
	offer, err := readString(rw, maxOffer)
	if err != nil {
		return "", fmt.Errorf("the protocols that the server offers: %w", err)
	}
	dom, v2, err := choose(offer, proto)
	if err != nil {
		return "", err
	}
	if err := write(rw, []byte(proto+" "+dom+"\x00")); err != nil {
		return "", err
	}
	if v2 {
		if s, err := readString(rw, 16); err != nil || s != "OK" {
			return "", failed(err, "the server does not agree to %s", proto)
		}
	}
	return dom, nil
}

// asked is what the server's ticket request asks for, which must be of that type and for the domain.
func asked(b *[treqSize]byte, typ byte, user, dom string) (*Request, error) {
	req, err := parseTicketReq(b)
	if err != nil || req.typ != typ || req.authid == "" || req.authdom != dom {
		return nil, failed(err, "the server's ticket request is none")
	}
	return &Request{ID: req.authid, Dom: req.authdom, User: user, chal: req.chal}, nil
}

// failed is an error that wraps ErrProtocol and perhaps another.
func failed(err error, format string, args ...any) error {
	s := fmt.Sprintf(format, args...)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProtocol, s, err)
	}
	return fmt.Errorf("%w: %s", ErrProtocol, s)
}

// choose finds the protocol among what the server offers; v2 says that it will confirm the choice.
func choose(offer, want string) (dom string, v2 bool, err error) {
	words := strings.Fields(offer)
	if len(words) > 0 && strings.HasPrefix(words[0], "v.") {
		if words[0] != "v.2" {
			return "", false, failed(nil, "the server speaks version %q of p9any", words[0])
		}
		v2, words = true, words[1:]
	}
	for _, w := range words {
		if proto, dom, ok := strings.Cut(w, "@"); ok && proto == want {
			if err := checkName("authentication domain", dom, MaxDom); err != nil {
				return "", false, failed(err, "the server's offer %q", offer)
			}
			return dom, v2, nil
		}
	}
	return "", false, failed(nil, "the server offers %q, and %s is what is wanted here", offer, want)
}

// reader makes an error of reads that bring nothing: on an auth fid they do not become more.
type reader struct{ r io.Reader }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// readString reads up to a NUL, which is the last that comes: at most size bytes with it.
func readString(r io.Reader, size int) (string, error) {
	b := make([]byte, size)
	n := 0
	for n < size {
		k, err := reader{r}.Read(b[n:])
		n += k
		if i := bytes.IndexByte(b[:n], 0); i >= 0 {
			if i != n-1 {
				return "", failed(nil, "%d bytes behind the end of a string", n-1-i)
			}
			return string(b[:i]), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", failed(nil, "a string of more than %d bytes", size-1)
}

func write(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("the server refuses: %w", err)
	}
	return nil
}

// asTime is how long a conversation with an authentication server may take.
const asTime = 30 * time.Second

// An AuthServer is a TicketSource: an authentication server, Plan 9's or TicketServer. Its port is
// 567.
type AuthServer struct {
	Key  *Key // of the user
	Dial func(context.Context) (net.Conn, error)
}

// ErrKey is wrapped when an authentication server's ticket cannot be opened: the user's key or
// password is wrong, the authentication server does not know the user, or it does not let them
// speak for the one they want to be.
var ErrKey = errors.New("wrong password or unknown user")

// Tickets implements TicketSource.
func (s *AuthServer) Tickets(ctx context.Context, r *Request) (t *Tickets, err error) {
	if r.Dom != s.Key.Dom {
		return nil, fmt.Errorf("the key of %v is for another domain than %q", s.Key, r.Dom)
	}
	err = withServer(ctx, s.Dial, func(conn io.ReadWriter) error {
		t, err = s.ask(conn, r)
		return err
	})
	return t, err
}

// withServer connects to an authentication server and has ask talk to it, until ctx ends or asTime is over.
func withServer(ctx context.Context, dial func(context.Context) (net.Conn, error), ask func(io.ReadWriter) error) error {
	ctx, cancel := context.WithTimeout(ctx, asTime)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("authentication server: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := ask(conn); err != nil {
		return fmt.Errorf("authentication server %v: %w", conn.RemoteAddr(), errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

func (s *AuthServer) ask(conn io.ReadWriter, r *Request) (*Tickets, error) {
	req := ticketReq{typ: authPAK, authid: r.ID, authdom: r.Dom, hostid: s.Key.User, uid: r.User, chal: r.chal}
	p := newPak(s.Key, true)
	if _, err := conn.Write(append(append(req.append(nil), r.y[:]...), p.y[:]...)); err != nil {
		return nil, err
	}
	var ys [2 * eltSize]byte
	if err := readAnswer(conn, ys[:]); err != nil {
		return nil, err
	}
	kc, err := p.finish((*[eltSize]byte)(ys[eltSize:]))
	if err != nil {
		return nil, failed(nil, "the authentication server's point is none")
	}
	defer clear(kc[:])
	req.typ = authTreq
	if _, err := conn.Write(req.append(nil)); err != nil {
		return nil, err
	}
	var pair [2 * ticketSize]byte
	if err := readAnswer(conn, pair[:]); err != nil {
		return nil, err
	}
	mine, err := openTicket(authTc, &kc, pair[:ticketSize])
	if err != nil {
		return nil, fmt.Errorf("%w %q", ErrKey, s.Key.User)
	}
	if !equal(mine.chal[:], r.chal[:]) || mine.suid != r.User {
		return nil, failed(nil, "the ticket is for somebody else or something else")
	}
	return &Tickets{y: [eltSize]byte(ys[:eltSize]), server: pair[ticketSize:], kn: mine.kn}, nil
}

// readAnswer fills b with the answer to a request.
func readAnswer(r io.Reader, b []byte) error {
	var typ [1]byte
	if _, err := io.ReadFull(r, typ[:]); err != nil {
		return err
	}
	switch typ[0] {
	case authOK:
		_, err := io.ReadFull(r, b)
		return err
	case authErr:
		var text [errSize]byte
		if _, err := io.ReadFull(r, text[:]); err != nil {
			return err
		}
		s, _, _ := strings.Cut(string(text[:]), "\x00")
		return failed(nil, "the authentication server says %q", s)
	}
	return failed(nil, "an answer of type %d", typ[0])
}

// A ServerKey is a TicketSource for those who have the key of the server itself: they make tickets for
// themselves, as any user. So everybody who can read a server's key file is everybody there.
type ServerKey struct{ Key *Key }

// Tickets implements TicketSource. Source: mkservertickets of factotum.
func (s ServerKey) Tickets(_ context.Context, r *Request) (*Tickets, error) {
	if s.Key.User != r.ID || s.Key.Dom != r.Dom {
		return nil, fmt.Errorf("the key is that of %v", s.Key)
	}
	p := newPak(s.Key, false)
	ks, err := p.finish(&r.y)
	if err != nil {
		return nil, failed(nil, "the server's point is none")
	}
	defer clear(ks[:])
	t := newTicket(r.chal, r.User)
	return &Tickets{y: p.y, server: t.seal(authTs, &ks), kn: t.kn}, nil
}

// newTicket makes a ticket with a fresh key in it.
func newTicket(chal [chalSize]byte, user string) *ticket {
	t := &ticket{chal: chal, cuid: user, suid: user}
	rand.Read(t.kn[:])
	return t
}
