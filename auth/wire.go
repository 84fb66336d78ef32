package auth

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Types of messages and of what is sealed in them, as authsrv(6) names them.
const (
	authTreq = 1  // ticket request
	authOK   = 4  // an answer follows, as long as the request says
	authErr  = 5  // 64 bytes of text follow
	authPAK  = 19 // ticket request that is followed by points

	authTs = 64 // ticket for a server
	authTc = 65 // ticket for a client
	authAs = 66 // authenticator of a server
	authAc = 67 // authenticator of a client
)

const (
	nameField = MaxName + 1
	domField  = MaxDom + 1
	chalSize  = 8
	kernSize  = 32 // of the key in a ticket, and of random strings in authenticators
	errSize   = 64

	treqSize   = 1 + nameField + domField + chalSize + 2*nameField
	ticketBody = chalSize + 2*nameField + kernSize
	authBody   = chalSize + kernSize

	nonceSize  = 12
	sealSize   = nonceSize + chacha20poly1305.Overhead
	ticketSize = ticketBody + sealSize
	proofSize  = authBody + sealSize // of an authenticator
)

// A ticketReq is a ticket request:
//
//	type[1] authid[28] authdom[48] chal[8] hostid[28] uid[28]
//
// Names end in a NUL. authid@authdom is the server, hostid the user whose key asks, uid the one to be
// on the server.
type ticketReq struct {
	typ                          byte
	authid, authdom, hostid, uid string
	chal                         [chalSize]byte
}

// append appends the request, whose names must fit.
func (r *ticketReq) append(b []byte) []byte {
	b = append(b, r.typ)
	b = appendField(b, r.authid, nameField)
	b = appendField(b, r.authdom, domField)
	b = append(b, r.chal[:]...)
	b = appendField(b, r.hostid, nameField)
	return appendField(b, r.uid, nameField)
}

func appendField(b []byte, s string, size int) []byte {
	b = append(b, s...)
	return append(b, make([]byte, size-len(s))...)
}

// parseTicketReq reads a request of any type. Names may be empty; what follows their NUL is ignored,
// as Plan 9 ignores it.
func parseTicketReq(b *[treqSize]byte) (r ticketReq, err error) {
	rest := b[1:]
	take := func(n int) (f []byte) { f, rest = rest[:n], rest[n:]; return f }
	r.typ = b[0]
	authid, authdom := take(nameField), take(domField)
	copy(r.chal[:], take(chalSize))
	hostid, uid := take(nameField), take(nameField)
	for _, f := range []struct {
		to   *string
		from []byte
		name string
	}{{&r.authid, authid, "authid"}, {&r.authdom, authdom, "authdom"}, {&r.hostid, hostid, "hostid"}, {&r.uid, uid, "uid"}} {
		if *f.to, err = parseField(f.from); err != nil {
			return ticketReq{}, fmt.Errorf("ticket request: %s: %w", f.name, err)
		}
	}
	return r, nil
}

func parseField(b []byte) (string, error) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", fmt.Errorf("%w: no end", ErrName)
	}
	s := string(b[:i])
	if s == "" {
		return "", nil
	}
	return s, checkName("field", s, len(b)-1)
}

// A ticket says that whoever knows kn may be suid on the server that asked with chal:
//
//	chal[8] cuid[28] suid[28] kn[32], sealed as Ts for the server and Tc for the client
type ticket struct {
	chal       [chalSize]byte
	cuid, suid string
	kn         [kernSize]byte
}

// seal encrypts a ticket of type typ.
func (t *ticket) seal(typ byte, key *[32]byte) []byte {
	b := make([]byte, 0, ticketBody)
	b = append(b, t.chal[:]...)
	b = appendField(b, t.cuid, nameField)
	b = appendField(b, t.suid, nameField)
	return seal(typ, key, append(b, t.kn[:]...))
}

// openTicket decrypts and reads a ticket of type typ. Every error is ErrProtocol.
func openTicket(typ byte, key *[32]byte, b []byte) (*ticket, error) {
	b, err := open(typ, key, b, ticketBody)
	if err != nil {
		return nil, err
	}
	t := new(ticket)
	b = b[copy(t.chal[:], b):]
	cuid, err1 := parseField(b[:nameField])
	suid, err2 := parseField(b[nameField : 2*nameField])
	if err1 != nil || err2 != nil || suid == "" {
		return nil, ErrProtocol // not even the authentication server may say so
	}
	t.cuid, t.suid = cuid, suid
	copy(t.kn[:], b[2*nameField:])
	return t, nil
}

// An authenticator shows that who made it knows a ticket's kn:
//
//	chal[8] rand[32], sealed as Ac by the client and As by the server
//
// chal is the other side's. rand would go into a session's key, which 9P does not use.
type authenticator struct {
	chal [chalSize]byte
	rand [kernSize]byte
}

func (a *authenticator) seal(typ byte, kn *[kernSize]byte) []byte {
	return seal(typ, kn, append(a.chal[:len(a.chal):len(a.chal)], a.rand[:]...))
}

// checkAuthenticator decrypts an authenticator and compares its challenge. Every error is ErrProtocol.
func checkAuthenticator(typ byte, kn *[kernSize]byte, chal *[chalSize]byte, b []byte) error {
	b, err := open(typ, kn, b, authBody)
	if err != nil {
		return err
	}
	if !equal(b[:chalSize], chal[:]) {
		return ErrProtocol
	}
	return nil
}

// signature is how sealed bytes of a type begin.
func signature(typ byte) string {
	switch typ {
	case authTs:
		return "form1 Ts"
	case authTc:
		return "form1 Tc"
	case authAs:
		return "form1 As"
	default:
		return "form1 Ac"
	}
}

// seal encrypts b with ChaCha20-Poly1305:
//
//	signature[8] counter[4] ciphertext[len(b)] tag[16]
//
// The first twelve bytes are the nonce. Each key seals one message of each type, so the counter is 0.
// Source: form1.c.
func seal(typ byte, key *[32]byte, b []byte) []byte {
	nonce := append([]byte(signature(typ)), 0, 0, 0, 0)
	return aead(key).Seal(nonce, nonce, b, nil)
}

// open decrypts what seal encrypted, with any counter, to n bytes. Every error is ErrProtocol.
func open(typ byte, key *[32]byte, b []byte, n int) ([]byte, error) {
	if len(b) != n+sealSize || string(b[:8]) != signature(typ) {
		return nil, ErrProtocol
	}
	p, err := aead(key).Open(nil, b[:nonceSize], b[nonceSize:], nil)
	if err != nil {
		return nil, ErrProtocol
	}
	return p, nil
}

func aead(key *[32]byte) interface {
	Seal(dst, nonce, plaintext, data []byte) []byte
	Open(dst, nonce, ciphertext, data []byte) ([]byte, error)
} {
	a, err := chacha20poly1305.New(key[:])
	if err != nil { // only for keys of other lengths
		panic("auth: " + err.Error())
	}
	return a
}
