package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/cloudflare/circl/ecc/goldilocks"
	fp "github.com/cloudflare/circl/math/fp448"
)

// vectors is what testdata/vectors.py computed; its bytes are big-endian numbers or as on the wire.
type vectors struct {
	Names  []struct{ K, Name hexBytes }
	Bad    []hexBytes
	Hashes []struct {
		H     hexBytes
		Point [2]hexBytes
	}
	Exchanges []struct {
		User, Dom, Password                  string
		Key, Xa, Xb, Ya, Yb, Pakkey          hexBytes
		Pm, Pn                               [2]hexBytes
		Chal, Kn, Rand, Treq, Ts, Tc, Ac, As hexBytes
	}
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func loadVectors(t *testing.T) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	if len(v.Names) == 0 || len(v.Bad) == 0 || len(v.Hashes) == 0 || len(v.Exchanges) == 0 {
		t.Fatal("vectors are missing")
	}
	return v
}

// affine is a point's x and y.
func (p point) affine() (x, y [eltSize]byte) {
	var i elt
	fp.Inv(&i, &p.z)
	return toBytes(mul(p.x, i)), toBytes(mul(p.y, i))
}

func samePoint(t *testing.T, what string, p point, want [2]hexBytes) {
	t.Helper()
	x, y := p.affine()
	if !bytes.Equal(x[:], want[0]) || !bytes.Equal(y[:], want[1]) {
		t.Errorf("%s: %x %x, want %x", what, x, y, want)
	}
	if !isZero(sub(mul(p.x, p.y), mul(p.z, p.t))) {
		t.Errorf("%s: XY is not ZT", what)
	}
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %x, want %x", what, got, want)
	}
}

func TestPointsHaveTheirPublishedNames(t *testing.T) {
	v := loadVectors(t)
	for _, n := range v.Names {
		name := base().times((*[eltSize]byte)(n.K)).encode()
		same(t, "name", name[:], n.Name)
		p, ok := decode((*[eltSize]byte)(n.Name))
		if !ok {
			t.Fatalf("%x is no point", n.Name)
		}
		again := p.encode()
		same(t, "name of what has the name", again[:], n.Name)
	}
	for _, b := range v.Bad {
		if _, ok := decode((*[eltSize]byte)(b)); ok {
			t.Errorf("%x is a point", b)
		}
	}
	if p, ok := decode(new([eltSize]byte)); !ok || p.encode() != ([eltSize]byte{}) {
		t.Error("the identity is not 0")
	}
}

func TestHashesArePoints(t *testing.T) {
	for _, h := range loadVectors(t).Hashes {
		samePoint(t, "point of "+hex.EncodeToString(h.H), hashPoint((*[eltSize]byte)(h.H)), h.Point)
	}
}

// TestExchangesAsPublished has both sides of exchanges with given secrets, and what is then sealed.
func TestExchangesAsPublished(t *testing.T) {
	for _, v := range loadVectors(t).Exchanges {
		t.Run(v.User, func(t *testing.T) {
			k, err := PasswordKey(v.User, v.Dom, v.Password)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "key", k.secret[:], v.Key)
			pm, pn := k.points()
			samePoint(t, "PM", pm, v.Pm)
			samePoint(t, "PN", pn, v.Pn)
			a := pakOf(k, true, [eltSize]byte(v.Xa))
			b := pakOf(k, false, [eltSize]byte(v.Xb))
			same(t, "YA", a.y[:], v.Ya)
			same(t, "YB", b.y[:], v.Yb)
			ka, err := a.finish(&b.y)
			if err != nil {
				t.Fatal(err)
			}
			kb, err := b.finish(&a.y)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "pakkey of who asks", ka[:], v.Pakkey)
			same(t, "pakkey of who answers", kb[:], v.Pakkey)
			if a.x != ([eltSize]byte{}) || b.x != ([eltSize]byte{}) {
				t.Error("secrets are kept")
			}

			r, err := parseTicketReq((*[treqSize]byte)(v.Treq))
			if err != nil {
				t.Fatal(err)
			}
			want := ticketReq{authPAK, "bootes", v.Dom, v.User, v.User, [chalSize]byte(v.Chal)}
			if r != want {
				t.Errorf("request %+v, want %+v", r, want)
			}
			same(t, "request", r.append(nil), v.Treq)
			for typ, b := range map[byte][]byte{authTs: v.Ts, authTc: v.Tc} {
				tk, err := openTicket(typ, &ka, b)
				if err != nil {
					t.Fatal(err)
				}
				if tk.chal != want.chal || tk.cuid != v.User || tk.suid != v.User || !bytes.Equal(tk.kn[:], v.Kn) {
					t.Errorf("ticket %+v", tk)
				}
				if typ == authTc { // the other one was sealed with another counter
					same(t, "ticket", tk.seal(typ, &ka), b)
				}
			}
			kn := [kernSize]byte(v.Kn)
			if err := checkAuthenticator(authAs, &kn, &want.chal, v.As); err != nil {
				t.Error(err)
			}
			if err := checkAuthenticator(authAc, &kn, &want.chal, v.Ac); err != nil {
				t.Error(err)
			}
			au := authenticator{want.chal, [kernSize]byte(v.Rand)}
			same(t, "authenticator", au.seal(authAc, &kn), v.Ac)
		})
	}
}

// TestCurveIsGoldilocks compares with another implementation of the same curve, and with RFC 8032's
// generator and order.
func TestCurveIsGoldilocks(t *testing.T) {
	var c goldilocks.Curve
	circl := func(p point) *goldilocks.Point {
		x, y := p.affine()
		var fx, fy elt
		fx, _ = fromBytes(&x)
		fy, _ = fromBytes(&y)
		q, err := goldilocks.FromAffine(&fx, &fy)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	if !c.IsOnCurve(circl(base())) {
		t.Fatal("the generator is not on the curve")
	}
	gx, gy := c.Generator().ToAffine()
	g := point{gx, gy, small(1), mul(gx, gy)}
	order := c.Order()
	var n [eltSize]byte
	for i, b := range order {
		n[eltSize-1-i] = b
	}
	id := identity()
	for name, p := range map[string]point{"RFC 8032's generator": g, "our generator, four times": base().plus(base()).plus(base().plus(base()))} {
		if q := p.times(&n); !isZero(q.x) || !isZero(sub(q.y, q.z)) {
			t.Errorf("the order times %s is not the identity", name)
		}
		if !circl(p.plus(id)).IsEqual(circl(p)) {
			t.Errorf("%s changes when nothing is added", name)
		}
		for range 20 {
			var k goldilocks.Scalar
			var wide [64]byte
			rand.Read(wide[:])
			k.FromBytes(wide[:])
			var be [eltSize]byte
			for i, b := range k {
				be[eltSize-1-i] = b
			}
			q, r := p.times(&be), c.ScalarMult(&k, circl(p))
			if !circl(q).IsEqual(r) {
				t.Fatalf("%x times %s differs", be, name)
			}
			if !circl(q.plus(p)).IsEqual(c.Add(r, circl(p))) {
				t.Fatalf("%x times %s and once more differs", be, name)
			}
			if s := q.plus(q.minus()); !isZero(s.x) {
				t.Fatal("a point less itself is something")
			}
		}
	}
}

// TestNumbersThatAreNoSquares checks the constant of hashPoint and both cases of isqrt.
func TestNumbersThatAreNoSquares(t *testing.T) {
	for i := uint16(2); i <= nonSquare; i++ {
		x := small(i)
		r, square := isqrt(x)
		if square != (i < nonSquare) {
			t.Errorf("%d is a square: %v", i, square)
		}
		// r = x^((p−3)/4), so x·r² is the Legendre symbol.
		want := small(1)
		if !square {
			want = neg(want)
		}
		if !isZero(sub(mul(x, sqr(r)), want)) {
			t.Errorf("the root of 1/%d is none", i)
		}
	}
}

func TestScalarsAreDifferentAndSmall(t *testing.T) {
	seen := make(map[[eltSize]byte]bool)
	for range 100 {
		k := randomScalar()
		if _, canonical := fromBytes(&k); !canonical || seen[k] {
			t.Fatalf("%x", k)
		}
		seen[k] = true
	}
}

func BenchmarkExchange(b *testing.B) {
	k, err := NewKey("glenda", "x")
	if err != nil {
		b.Fatal(err)
	}
	o := newPak(k, false)
	for b.Loop() {
		p := newPak(k, true)
		if _, err := p.finish(&o.y); err != nil {
			b.Fatal(err)
		}
	}
}
