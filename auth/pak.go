package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	fp "github.com/cloudflare/circl/math/fp448"
)

// ErrProtocol is wrapped by every error that means: the other side did not say what the protocol
// wants here, or it does not have the right key. These are not told apart on purpose.
var ErrProtocol = errors.New("authentication failed")

// A pak is one side of an exchange that turns a Key into a fresh one: SPAKE2-EE. Each side sends one
// point, xG hidden by adding a point that is made of the Key. Who does not have the Key can test one guess
// of it with each exchange, and none with what they have heard of other people's exchanges.
//
// There are two roles. The asking one is that of a client and also that of a server, which both want
// something from the authentication server; the answering one is the authentication server's.
type pak struct {
	key  *Key
	asks bool
	x    [eltSize]byte // secret
	y    [eltSize]byte // what is sent
}

// newPak begins an exchange.
func newPak(k *Key, asks bool) *pak {
	p := pakOf(k, asks, randomScalar())
	return p
}

func pakOf(k *Key, asks bool, x [eltSize]byte) *pak {
	p := &pak{key: k, asks: asks, x: x}
	pm, pn := k.points()
	hide := pn
	if asks {
		hide = pm
	}
	p.y = base().times(&p.x).plus(hide).encode()
	return p
}

// finish takes the other side's point and returns the fresh key. An exchange is finished once.
func (p *pak) finish(y *[eltSize]byte) (key [32]byte, err error) {
	pm, pn := p.key.points()
	hide, asker, answerer := pm, y, &p.y
	if p.asks {
		hide, asker, answerer = pn, &p.y, y
	}
	q, ok := decode(y)
	if !ok {
		clear(p.x[:])
		return key, ErrProtocol
	}
	z := q.plus(hide.minus()).times(&p.x).encode()
	clear(p.x[:])
	if equal(z[:], make([]byte, eltSize)) {
		return key, ErrProtocol // would not depend on x
	}
	h := sha256.New()
	h.Write(asker[:])
	h.Write(answerer[:])
	k := derive(z[:], h.Sum(nil), "Plan 9 AuthPAK key", len(key))
	copy(key[:], k)
	clear(k)
	clear(z[:])
	return key, nil
}

// randomScalar returns a number from 1 to p − 1, big-endian. (p is four times the order of the points
// and a little, so they are not quite equally likely: less than one in 2^220.)
func randomScalar() (k [eltSize]byte) {
	for {
		rand.Read(k[:])
		if x, canonical := fromBytes(&k); canonical && x != (fp.Elt{}) {
			return k
		}
	}
}

// equal compares in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
