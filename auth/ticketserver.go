package auth

import (
	"crypto/rand"
	"io"
	"net"
	"time"
)

// A TicketServer hands out tickets on connections: the part of Plan 9's authentication server that dp9ik
// needs. Users speak for themselves only. The fields are not changed while it serves.
//
// Who asks for a user, or for a server, that is not there gets tickets made with random keys: that is
// not to be told apart from a wrong password, so that nobody can find out who is there.
type TicketServer struct {
	// Key returns the key of a user or server, nil if there is none.
	Key func(user string) *Key
	// DESKey returns the key for p9sk1 of a user or server, nil if there is none. If it is nil itself, p9sk1 is not
	// spoken: everybody who asks gets something to try passwords on, for any user.
	DESKey func(user string) *DESKey
	// Time is how long a connection may take for each request; 0 means a minute.
	Time time.Duration
}

// maxTicketRequests is how many requests a connection has: an exchange, and tickets. With p9sk1 it has one.
const maxTicketRequests = 2

// ServeConn answers the requests that bring one pair of tickets, until the client hangs up, says what
// is none, or takes too long, and closes conn. The error is nil if the client hung up between requests.
// Each connection is one guess at the key of one user: how many there may be is for the caller to say.
func (s *TicketServer) ServeConn(conn net.Conn) error {
	defer conn.Close()
	limit := s.Time
	if limit <= 0 {
		limit = time.Minute
	}
	var keys pakKeys
	last := false
	for n := 0; n < maxTicketRequests && !last; n++ {
		conn.SetDeadline(time.Now().Add(limit))
		var b [treqSize]byte
		if _, err := io.ReadFull(conn, b[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		req, err := parseTicketReq(&b)
		if err != nil {
			return failed(err, "bad request")
		}
		var reply []byte
		switch req.typ {
		case authPAK:
			var ys [2 * eltSize]byte
			if req.authid == "" || req.hostid == "" {
				return failed(nil, "a request without the names of two users")
			}
			if _, err := io.ReadFull(conn, ys[:]); err != nil {
				return err
			}
			reply, keys, err = s.exchange(&req, &ys)
		case authTreq:
			if last = s.DESKey != nil && !keys.ok; last {
				reply, err = s.desTickets(&req)
				break
			}
			reply, err = s.tickets(&req, &keys)
		default:
			err = failed(nil, "a request of type %d", req.typ)
		}
		if err != nil {
			conn.Write(errorReply(err))
			return err
		}
		if _, err := conn.Write(reply); err != nil {
			return err
		}
	}
	return nil
}

// errorReply is what a client is told when there is no answer.
func errorReply(error) []byte {
	return appendField([]byte{authErr}, ErrProtocol.Error(), errSize)
}

// pakKeys are what one exchange has brought, for one ticket request about the same.
type pakKeys struct {
	req    ticketReq
	ok     bool
	ks, kc [32]byte
}

// exchange answers the points of a server and a client.
func (s *TicketServer) exchange(req *ticketReq, ys *[2 * eltSize]byte) (reply []byte, keys pakKeys, err error) {
	ps := newPak(s.key(req.authid, req.authdom), false)
	pc := newPak(s.key(req.hostid, req.authdom), false)
	if keys.ks, err = ps.finish((*[eltSize]byte)(ys[:eltSize])); err != nil {
		return nil, pakKeys{}, failed(nil, "the server's point is none")
	}
	if keys.kc, err = pc.finish((*[eltSize]byte)(ys[eltSize:])); err != nil {
		return nil, pakKeys{}, failed(nil, "the client's point is none")
	}
	keys.req, keys.ok = *req, true
	return append(append([]byte{authOK}, ps.y[:]...), pc.y[:]...), keys, nil
}

// key returns the key of somebody in the domain, or one nobody has.
func (s *TicketServer) key(user, dom string) *Key {
	decoy := &Key{User: user, Dom: dom}
	rand.Read(decoy.secret[:])
	decoy.points() // in any case: the time it takes is not to tell who is there
	if k := s.Key(user); k != nil && k.Dom == dom {
		return k
	}
	return decoy
}

// tickets makes a pair of tickets. The keys are good for one: what they seal, they seal once.
func (s *TicketServer) tickets(req *ticketReq, keys *pakKeys) ([]byte, error) {
	k := *keys
	*keys = pakKeys{}
	k.req.typ = authTreq
	if !k.ok || *req != k.req {
		return nil, failed(nil, "a ticket request without an exchange of keys for it")
	}
	if req.uid != req.hostid || req.uid == "none" {
		rand.Read(k.kc[:]) // may not speak for that user
		rand.Read(k.ks[:])
	}
	t := newTicket(req.chal, req.uid)
	defer clear(t.kn[:])
	return append(append([]byte{authOK}, t.seal(authTc, &k.kc)...), t.seal(authTs, &k.ks)...), nil
}

// desTickets makes a pair of tickets for p9sk1.
func (s *TicketServer) desTickets(req *ticketReq) ([]byte, error) {
	if req.authid == "" || req.hostid == "" {
		return nil, failed(nil, "a request without the names of two users")
	}
	ks, kc := s.desKey(req.authid, req.authdom), s.desKey(req.hostid, req.authdom)
	if req.uid != req.hostid || req.uid == "none" {
		rand.Read(kc[:]) // may not speak for that user
		rand.Read(ks[:])
	}
	t := newDESTicket(req.chal, req.uid)
	defer clear(t.kn[:])
	return append(append([]byte{authOK}, t.seal(authTc, &kc)...), t.seal(authTs, &ks)...), nil
}

// desKey returns a copy of the key of somebody in the domain, or of one nobody has.
func (s *TicketServer) desKey(user, dom string) (key [desKeySize]byte) {
	rand.Read(key[:])
	if k := s.DESKey(user); k != nil && k.Dom == dom {
		key = k.secret
	}
	return key
}
