package auth

import (
	"encoding/hex"

	fp "github.com/cloudflare/circl/math/fp448"
)

// A point is on Ed448-Goldilocks, x² + y² = 1 − 39081x²y², as (X:Y:Z:T) with x = X/Z, y = Y/Z,
// T = XY/Z. d is not a square, so one formula adds any two points.
//
// circl has this curve too, but neither the elements of fp448 in its points nor Decaf's encoding, which
// is what is on the wire: of each four points that differ by one of order four or less it sees only
// one, so that no bits leak through the cofactor.
type point struct{ x, y, z, t elt }

const (
	minusD    = 39081
	nonSquare = 7 // the smallest number from 2 on that is none modulo p
)

// baseX is the x of the generator whose y is 19, big-endian.
// Source: ed448.mp of 9front. RFC 8032's generator is another one.
const baseX = "297ea0ea2692ff1b4faff46098453a6a26adf733245f065c3c59d0709cecfa96" +
	"147eaaf3932d94c63d96c170033f4ba0c7f0de840aed939f"

func base() point {
	var b [eltSize]byte
	hex.Decode(b[:], []byte(baseX)) // a constant
	x, _ := fromBytes(&b)
	y := small(19)
	return point{x, y, small(1), mul(x, y)}
}

func identity() point { return point{y: small(1), z: small(1)} }

// plus is the unified addition of Hisil, Wong, Carter and Dawson, for a = 1.
func (p point) plus(q point) point {
	a := mul(p.x, q.x)
	b := mul(p.y, q.y)
	c := neg(mul(small(minusD), mul(p.t, q.t)))
	d := mul(p.z, q.z)
	e := sub(sub(mul(add(p.x, p.y), add(q.x, q.y)), a), b)
	f, g, h := sub(d, c), add(d, c), sub(b, a)
	return point{mul(e, f), mul(g, h), mul(f, g), mul(e, h)}
}

func (p point) minus() point { return point{neg(p.x), p.y, p.z, neg(p.t)} }

// times returns kp, k big-endian. It takes the same time for every k.
func (p point) times(k *[eltSize]byte) point {
	r := identity()
	for _, b := range k {
		for i := 7; i >= 0; i-- {
			r = r.plus(r)
			s := r.plus(p)
			n := uint(b>>i) & 1
			fp.Cmov(&r.x, &s.x, n)
			fp.Cmov(&r.y, &s.y, n)
			fp.Cmov(&r.z, &s.z, n)
			fp.Cmov(&r.t, &s.t, n)
		}
	}
	return r
}

// encode returns the one name of the point and of those that differ from it by a small order.
// Source: Hamburg, Decaf (2015), section 6; decaf.mp of 9front, big-endian on the wire.
func (p point) encode() [eltSize]byte {
	ad := small(minusD + 1) // a − d
	r, _ := isqrt(mul(ad, mul(add(p.z, p.y), sub(p.z, p.y))))
	u := mul(ad, r)
	uz := mul(u, p.z)
	r = flip(r, high(neg(add(uz, uz))))
	dyt := neg(mul(small(minusD), mul(p.y, p.t)))
	s := mul(u, add(mul(r, sub(mul(p.z, p.x), dyt)), p.y))
	return toBytes(flip(s, high(s)))
}

// decode returns a point that encode names so, or false if there is none. It takes longer for some
// names than for others; they are public.
func decode(name *[eltSize]byte) (point, bool) {
	s, canonical := fromBytes(name)
	if !canonical || high(s) != 0 {
		return point{}, false
	}
	ss := sqr(s)
	z := add(small(1), ss)
	dss := mul(small(minusD), ss) // −ds²
	dss = add(dss, dss)
	u := add(sqr(z), add(dss, dss))
	v := mul(u, ss)
	r, square := isqrt(v)
	if !square && !isZero(v) {
		return point{}, false
	}
	r = flip(r, high(mul(u, r)))
	w := mul(mul(r, s), sub(small(2), z))
	if isZero(s) {
		w = small(1)
	}
	x := add(s, s)
	return point{x, mul(w, z), z, mul(w, x)}, true
}

// hashPoint maps a number to a point nobody knows a logarithm of, every number to one, most points
// from some. Source: Decaf, appendix C, Elligator 2; elligator2.mp of 9front, for a = 1.
func hashPoint(h *[eltSize]byte) point {
	r0, _ := fromBytes(h)
	one, n := small(1), small(nonSquare)
	d := neg(small(minusD))
	a2d := add(one, add(small(minusD), small(minusD))) // a − 2d

	r := mul(n, sqr(r0))
	dr := mul(d, r)
	den := mul(sub(add(dr, one), d), sub(sub(dr, r), d))
	num := mul(add(r, one), a2d)
	nd := mul(num, den)

	// If nd is no square, n·nd is one.
	e, square := isqrt(nd)
	e2, _ := isqrt(mul(n, nd))
	e2 = mul(mul(n, r0), e2)
	fp.Cmov(&e, &e2, 1-bit(square))
	cn := flip(num, 1-bit(square))

	s := mul(cn, e)
	t := neg(add(mul(mul(cn, sub(r, one)), sqr(mul(a2d, e))), one))
	ss := sqr(s)
	s2, m, p := add(s, s), sub(one, ss), add(one, ss)
	return point{mul(s2, t), mul(m, p), mul(p, t), mul(s2, m)}
}
