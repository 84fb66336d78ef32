package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
)

// DESTickets are what a client got for a Request of p9sk1.
type DESTickets struct {
	server []byte // the sealed ticket for the server
	kn     [desKeySize]byte
}

// A DESTicketSource gets tickets for p9sk1.
type DESTicketSource interface {
	// DESTickets is to p9sk1 what TicketSource.Tickets is to dp9ik.
	DESTickets(ctx context.Context, r *Request) (*DESTickets, error)
}

// ProveDES is Prove with p9sk1, and with nothing else: what a server offers does not decide whether a key is
// exposed to those who listen.
func ProveDES(ctx context.Context, rw io.ReadWriter, user string, from DESTicketSource) error {
	dom, err := negotiate(rw, p9sk1, user)
	if err != nil {
		return err
	}
	var chal [chalSize]byte
	rand.Read(chal[:])
	if err := write(rw, chal[:]); err != nil {
		return err
	}
	var b [treqSize]byte
	if _, err := io.ReadFull(reader{rw}, b[:]); err != nil {
		return fmt.Errorf("the server's ticket request: %w", err)
	}
	r, err := asked(&b, authTreq, user, dom)
	if err != nil {
		return err
	}
	t, err := from.DESTickets(ctx, r)
	if err != nil {
		return fmt.Errorf("tickets for %s on %s@%s: %w", user, r.ID, r.Dom, err)
	}
	defer clear(t.kn[:])
	if err := write(rw, append(bytes.Clone(t.server), desProof(authAc, &t.kn, &r.chal)...)); err != nil {
		return err
	}
	var proof [desProofSize]byte
	if _, err := io.ReadFull(reader{rw}, proof[:]); err != nil {
		return fmt.Errorf("the server's proof: %w", err)
	}
	if err := checkDESProof(authAs, &t.kn, &chal, proof[:]); err != nil {
		return failed(nil, "the server does not have the key of %s@%s", r.ID, r.Dom)
	}
	return nil
}

// A DESAuthServer is a DESTicketSource: an authentication server, Plan 9's or a TicketServer with DESKey.
type DESAuthServer struct {
	Key  *DESKey // of the user
	Dial func(context.Context) (net.Conn, error)
}

// DESTickets implements DESTicketSource.
func (s *DESAuthServer) DESTickets(ctx context.Context, r *Request) (t *DESTickets, err error) {
	if r.Dom != s.Key.Dom {
		return nil, fmt.Errorf("the key of %v is for another domain than %q", s.Key, r.Dom)
	}
	err = withServer(ctx, s.Dial, func(conn io.ReadWriter) error {
		t, err = s.ask(conn, r)
		return err
	})
	return t, err
}

func (s *DESAuthServer) ask(conn io.ReadWriter, r *Request) (*DESTickets, error) {
	req := ticketReq{typ: authTreq, authid: r.ID, authdom: r.Dom, hostid: s.Key.User, uid: r.User, chal: r.chal}
	if _, err := conn.Write(req.append(nil)); err != nil {
		return nil, err
	}
	var pair [2 * desTicketSize]byte
	if err := readAnswer(conn, pair[:]); err != nil {
		return nil, err
	}
	mine, err := openDESTicket(authTc, &s.Key.secret, &r.chal, pair[:desTicketSize])
	if err != nil {
		return nil, fmt.Errorf("%w %q", ErrKey, s.Key.User)
	}
	if mine.suid != r.User {
		return nil, failed(nil, "the ticket is for somebody else")
	}
	return &DESTickets{server: pair[desTicketSize:], kn: mine.kn}, nil
}

// A DESServerKey is a DESTicketSource for those who have the key of the server itself, as ServerKey is.
type DESServerKey struct{ Key *DESKey }

// DESTickets implements DESTicketSource.
func (s DESServerKey) DESTickets(_ context.Context, r *Request) (*DESTickets, error) {
	if s.Key.User != r.ID || s.Key.Dom != r.Dom {
		return nil, fmt.Errorf("the key is that of %v", s.Key)
	}
	t := newDESTicket(r.chal, r.User)
	return &DESTickets{server: t.seal(authTs, &s.Key.secret), kn: t.kn}, nil
}

// newDESTicket makes a ticket with a fresh key in it.
func newDESTicket(chal [chalSize]byte, user string) *desTicket {
	t := &desTicket{chal: chal, cuid: user, suid: user}
	rand.Read(t.kn[:])
	return t
}
