package auth

import fp "github.com/cloudflare/circl/math/fp448"

// An elt is a number modulo p = 2^448 − 2^224 − 1, little-endian, not always the smallest one.
// All operations but those that say otherwise take the same time whatever the numbers are.
type elt = fp.Elt

// eltSize is the size of a number, of a scalar and of a point on the wire.
const eltSize = fp.Size

func add(x, y elt) (z elt) { fp.Add(&z, &x, &y); return }
func sub(x, y elt) (z elt) { fp.Sub(&z, &x, &y); return }
func mul(x, y elt) (z elt) { fp.Mul(&z, &x, &y); return }
func sqr(x elt) (z elt)    { fp.Sqr(&z, &x); return }
func neg(x elt) (z elt)    { fp.Neg(&z, &x); return }
func isZero(x elt) bool    { return fp.IsZero(&x) }

// small is the number n.
func small(n uint16) elt { return elt{byte(n), byte(n >> 8)} }

// isqrt returns x^((p−3)/4), which is 1/√x if x is a square, and whether it is one; 0 is none.
// The root is the one that is a square itself.
func isqrt(x elt) (r elt, square bool) {
	one := small(1)
	square = fp.InvSqrt(&r, &one, &x)
	// For the others InvSqrt has the opposite sign.
	n := neg(r)
	fp.Cmov(&r, &n, 1-bit(square))
	return r, square
}

func bit(b bool) uint {
	if b {
		return 1
	}
	return 0
}

// high is 1 if x is above (p−1)/2: the "negative" half of the numbers.
func high(x elt) uint {
	d := add(x, x)
	fp.Modp(&d)
	return uint(d[0] & 1) // 2x − p is odd
}

// flip returns −x if cond is 1 and x if it is 0.
func flip(x elt, cond uint) elt {
	n := neg(x)
	fp.Cmov(&x, &n, cond)
	return x
}

// fromBytes reads a big-endian number and reduces it. canonical says that there was nothing to reduce.
func fromBytes(b *[eltSize]byte) (x elt, canonical bool) {
	for i := range b {
		x[eltSize-1-i] = b[i]
	}
	y := x
	fp.Modp(&y)
	return y, x == y
}

// toBytes writes a number as the smallest one, big-endian.
func toBytes(x elt) (b [eltSize]byte) {
	fp.Modp(&x)
	for i := range b {
		b[eltSize-1-i] = x[i]
	}
	return b
}
