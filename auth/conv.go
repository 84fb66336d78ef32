package auth

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
)

// Names of protocols where they are negotiated.
const (
	dp9ik = "dp9ik"
	p9sk1 = "p9sk1"
)

// maxChoice bounds what a client answers to the offer, its NUL included. Both names are as long.
const maxChoice = len(dp9ik) + 1 + domField

// A Conv is a server's side of one conversation: what a client reads from and writes to an auth fid.
//
//	client                  server
//	                  ←     v.2 dp9ik@dom NUL
//	dp9ik dom NUL     →
//	                  ←     OK NUL
//	chal[8]           →
//	                  ←     ticketreq[141] point[56]
//	point[56]         →
//	ticket[124]       →
//	authenticator[68] →
//	                  ←     authenticator[68]
//
// If p9sk1 is offered too and the client chooses it, it goes on otherwise behind the client's challenge:
//
//	                  ←     ticketreq[141]
//	ticket[72]        →
//	authenticator[13] →
//	                  ←     authenticator[13]
//
// Where messages are cut into reads and writes does not matter. After the first error there are only
// errors. A Conv is safe for concurrent use.
type Conv struct {
	key   *Key
	des   *DESKey // nil if p9sk1 is not offered
	uname string

	mu     sync.Mutex
	err    error
	out    []byte // not read yet
	in     []byte // of a message that is not complete
	step   step
	sk1    bool // the client has chosen p9sk1
	pak    *pak
	req    ticketReq
	chal   [chalSize]byte // the client's
	ks     [32]byte
	kn     [kernSize]byte
	proved string
}

// A step of a conversation is what has to be written next.
type step int

const (
	wantChoice step = iota
	wantChal
	wantPoint
	wantTicket
	wantDESTicket
	wantNothing
)

// NewConv begins a conversation in which a client is to prove that it is uname to the server whose key
// is k.
func NewConv(k *Key, uname string) *Conv {
	return &Conv{key: k, uname: uname, out: []byte("v.2 " + dp9ik + "@" + k.Dom + "\x00")}
}

// NewDESConv begins a conversation in which the client may use p9sk1 instead of dp9ik. The server's key for that is
// d.
func NewDESConv(k *Key, d *DESKey, uname string) *Conv {
	c := NewConv(k, uname)
	c.des = d
	c.out = []byte("v.2 " + dp9ik + "@" + k.Dom + " " + p9sk1 + "@" + d.Dom + "\x00")
	return c
}

// Protocol returns the protocol that the client has chosen, dp9ik before it has.
func (c *Conv) Protocol() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sk1 {
		return p9sk1
	}
	return dp9ik
}

// Proved returns the user the client has proved to be, once it has read all the server had to say; or
// "". It is the user NewConv was told.
func (c *Conv) Proved() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.step != wantNothing || len(c.out) > 0 {
		return ""
	}
	return c.proved
}

// Read gives the client what the server has to say, as much as fits. If it is the client's turn the
// conversation has failed, because the client does not speak the protocol: the error wraps
// ErrProtocol. Behind the end there is nothing more to read, and no error.
func (c *Conv) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if len(c.out) == 0 {
		if c.step == wantNothing {
			return 0, nil
		}
		return 0, c.fail("client reads when it should write")
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// Write takes what the client says: all of p, or the conversation has failed and the error, which
// wraps ErrProtocol, says for the log where. A wrong key shows here and nowhere else.
func (c *Conv) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	n := len(p)
	for len(p) > 0 {
		if len(c.out) > 0 || c.step == wantNothing {
			return 0, c.fail("client writes when it should read")
		}
		msg, k, err := c.take(p)
		if err != nil {
			return 0, err
		}
		p = p[k:]
		if msg != nil {
			if err := c.message(msg); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// fail ends the conversation and forgets its secrets. c.mu is held.
func (c *Conv) fail(format string, args ...any) error {
	c.err = fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
	c.proved, c.out, c.in, c.pak = "", nil, nil, nil
	clear(c.ks[:])
	clear(c.kn[:])
	return c.err
}

// take moves bytes of p to c.in until the message that is wanted is complete; then it returns it. k is
// how many it took.
func (c *Conv) take(p []byte) (msg []byte, k int, err error) {
	want := map[step]int{wantChoice: maxChoice, wantChal: chalSize, wantPoint: eltSize, wantTicket: ticketSize + proofSize,
		wantDESTicket: desTicketSize + desProofSize,
	}[c.step]
	k = min(want-len(c.in), len(p))
	complete := k == want-len(c.in)
	if c.step == wantChoice {
		i := bytes.IndexByte(p[:k], 0)
		if i < 0 && complete {
			return nil, 0, c.fail("choice of a protocol is longer than %d bytes", maxChoice)
		}
		if complete = i >= 0; complete {
			k = i + 1
		}
	}
	c.in = append(c.in, p[:k]...)
	if complete {
		msg, c.in = c.in, nil
	}
	return msg, k, nil
}

// message acts on a complete message.
func (c *Conv) message(m []byte) error {
	switch c.step {
	case wantChoice:
		proto, dom, ok := strings.Cut(string(m[:len(m)-1]), " ")
		c.sk1 = c.des != nil && proto == p9sk1 && dom == c.des.Dom
		if !ok || !c.sk1 && (proto != dp9ik || dom != c.key.Dom) {
			return c.fail("client chose %q", m[:len(m)-1])
		}
		c.out = []byte("OK\x00")
		c.step = wantChal

	case wantChal:
		copy(c.chal[:], m)
		if c.sk1 {
			c.req = ticketReq{typ: authTreq, authid: c.des.User, authdom: c.des.Dom}
			rand.Read(c.req.chal[:])
			c.out = c.req.append(nil)
			c.step = wantDESTicket
			return nil
		}
		c.req = ticketReq{typ: authPAK, authid: c.key.User, authdom: c.key.Dom}
		rand.Read(c.req.chal[:])
		c.pak = newPak(c.key, true)
		c.out = append(c.req.append(nil), c.pak.y[:]...)
		c.step = wantPoint

	case wantPoint:
		var err error
		if c.ks, err = c.pak.finish((*[eltSize]byte)(m)); err != nil {
			return c.fail("the authentication server's point is none")
		}
		c.pak = nil
		c.step = wantTicket

	case wantTicket:
		return c.ticket(m)
	case wantDESTicket:
		return c.desTicket(m)
	}
	return nil
}

// ticket checks a ticket and the authenticator behind it.
func (c *Conv) ticket(m []byte) error {
	t, err := openTicket(authTs, &c.ks, m[:ticketSize])
	clear(c.ks[:])
	if err != nil {
		return c.fail("the ticket cannot be opened: it was made with another key than that of %v", c.key)
	}
	defer clear(t.kn[:])
	if !equal(t.chal[:], c.req.chal[:]) {
		return c.fail("the ticket is for another conversation")
	}
	if err := checkAuthenticator(authAc, &t.kn, &c.req.chal, m[ticketSize:]); err != nil {
		return c.fail("the client does not have the key in its ticket")
	}
	if t.suid != c.uname {
		return c.fail("the ticket is for user %q", t.suid)
	}
	c.proved = t.suid
	a := authenticator{chal: c.chal}
	rand.Read(a.rand[:])
	c.out = a.seal(authAs, &t.kn)
	c.step = wantNothing
	return nil
}

// desTicket is ticket for p9sk1.
func (c *Conv) desTicket(m []byte) error {
	t, err := openDESTicket(authTs, &c.des.secret, &c.req.chal, m[:desTicketSize])
	if err != nil {
		return c.fail("the ticket cannot be opened: it is for another conversation, or was made with another key for p9sk1 than that of %v", c.des)
	}
	defer clear(t.kn[:])
	if err := checkDESProof(authAc, &t.kn, &c.req.chal, m[desTicketSize:]); err != nil {
		return c.fail("the client does not have the key in its ticket")
	}
	if t.suid != c.uname {
		return c.fail("the ticket is for user %q", t.suid)
	}
	c.proved = t.suid
	c.out = desProof(authAs, &t.kn, &c.chal)
	c.step = wantNothing
	return nil
}
