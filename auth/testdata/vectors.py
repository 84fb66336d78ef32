#!/usr/bin/env python3
"""Known answers for package auth, from the published algorithms and nothing of ours.

    python3 vectors.py > vectors.json

Numbers are Python's, points are affine (x, y) with the group law of the curve's equation, and
multiplication is by adding and doubling them: slow, and easy to compare with authsrv(6) and with
Hamburg's "Decaf: Eliminating cofactors through point compression" (2015). ChaCha20-Poly1305 is that of
the package cryptography, the rest is in Python's library.
"""
import hashlib, hmac, json
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

P = 2**448 - 2**224 - 1
D = -39081 % P
G = (117812161263436946737282484343310064665180535357016373416879082147939404277809514858788439644911793978499419995990477371552926308078495, 19)
ORDER = 2**446 - 0x8335dc163bb124b65129c96fde933d8d723a70aadc873d6d54a7bb0d

inv = lambda a: pow(a, P - 2, P)
legendre = lambda a: {0: 0, 1: 1, P - 1: -1}[pow(a, (P - 1) // 2, P)]
principal = lambda a: pow(a, (P + 1) // 4, P)          # the root that is a square
negative = lambda a: a % P > (P - 1) // 2
magnitude = lambda a: (-a if negative(a) else a) % P


def on_curve(p):
    x, y = p
    return (x * x + y * y - 1 - D * x * x * y * y) % P == 0


def add(p, q):
    (a, b), (c, d) = p, q
    k = D * a * b * c * d % P
    return ((a * d + b * c) * inv(1 + k) % P, (b * d - a * c) * inv(1 - k) % P)


def times(k, p):
    r = (0, 1)
    for i in reversed(range(k.bit_length())):
        r = add(r, r)
        if k >> i & 1:
            r = add(r, p)
    return r


def encode(p):
    # Decaf, section 6: choose among the points of the coset by signs, then the isogeny's s.
    x, y = p
    u2 = (1 - D) * (1 - y * y) % P
    r = pow(u2, (P - 3) // 4, P)                        # 1/sqrt for the squares
    u = (1 - D) * r % P
    if negative(-2 * u):
        r = -r % P
    return magnitude(u * (r * (x - D * y * x * y) + y))


def decode(s):
    if negative(s):
        return None
    u = (1 + s * s) ** 2 - 4 * D * s * s
    v = u * s * s % P
    if s == 0:
        return (0, 1)
    if legendre(v) != 1:
        return None
    w = inv(principal(v))
    if negative(u * w):
        w = -w
    return (2 * s * inv(1 + s * s) % P, w * s * (1 - s * s) % P)


def elligator(h):
    # Decaf, appendix C. n is the first number that is no square.
    n = next(i for i in range(2, 100) if legendre(i) == -1)
    r = n * h * h % P
    den = (D * r + 1 - D) * (D * r - r - D) % P
    num = (r + 1) * (1 - 2 * D) % P
    nd = num * den % P
    if legendre(nd) == 0:
        c, e = 1, 0
    elif legendre(nd) == 1:
        c, e = 1, inv(principal(nd))
    else:
        c, e = -1, n * h * inv(principal(n * nd % P)) % P
    s = c * num * e % P
    t = (-c * num * (r - 1) * ((1 - 2 * D) * e) ** 2 - 1) % P
    return (2 * s * inv(1 + s * s) % P, (1 - s * s) * inv(t) % P)


def hkdf(salt, info, key, n):
    prk = hmac.new(salt, key, hashlib.sha256).digest()
    out, t, i = b"", b"", 1
    while len(out) < n:
        t = hmac.new(prk, t + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + t, i + 1
    return out[:n]


be = lambda n: n.to_bytes(56, "big")
num = lambda b: int.from_bytes(b, "big")
field = lambda s, n: s.encode().ljust(n, b"\0")


def seal(sig, key, body, counter):
    nonce = sig + counter.to_bytes(4, "little")
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, body, b"")


def scalar(i, what):
    return num(hashlib.sha512(b"%s %d" % (what, i)).digest()[:56]) % P


def vector(i, user, dom, password):
    v = {"user": user, "dom": dom, "password": password}
    key = hashlib.pbkdf2_hmac("sha1", password.encode(), b"Plan 9 key derivation", 9001, 16)
    h = hkdf(hashlib.sha256(user.encode()).digest(), b"Plan 9 AuthPAK hash", key, 112)
    pm, pn = elligator(num(h[:56]) % P), elligator(num(h[56:]) % P)
    assert on_curve(pm) and on_curve(pn)
    xa, xb = scalar(i, b"asks"), scalar(i, b"answers")
    ya, yb = encode(add(times(xa, G), pm)), encode(add(times(xb, G), pn))
    minus = lambda p: (-p[0] % P, p[1])
    za = encode(times(xa, add(decode(yb), minus(pn))))
    zb = encode(times(xb, add(decode(ya), minus(pm))))
    assert za == zb == encode(times(xa * xb, G)), "both sides agree"
    k = hkdf(hashlib.sha256(be(ya) + be(yb)).digest(), b"Plan 9 AuthPAK key", be(za), 32)
    v.update(key=key.hex(), pm=[be(c).hex() for c in pm], pn=[be(c).hex() for c in pn],
             xa=be(xa).hex(), xb=be(xb).hex(), ya=be(ya).hex(), yb=be(yb).hex(), pakkey=k.hex())
    chal, kn, rand = (hashlib.sha256(b"%s %d" % (w, i)).digest() for w in (b"chal", b"kn", b"rand"))
    chal = chal[:8]
    body = chal + field(user, 28) + field(user, 28) + kn
    v.update(chal=chal.hex(), kn=kn.hex(), rand=rand.hex(),
             treq=(bytes([19]) + field("bootes", 28) + field(dom, 48) + chal + field(user, 28) + field(user, 28)).hex(),
             ts=seal(b"form1 Ts", k, body, i).hex(), tc=seal(b"form1 Tc", k, body, 0).hex(),
             ac=seal(b"form1 Ac", kn, chal + rand, 0).hex(), **{"as": seal(b"form1 As", kn, chal + rand, i).hex()})
    return v


def main():
    assert on_curve(G) and times(4 * ORDER, G) == (0, 1)
    names = []
    for i in range(6):
        p = times(scalar(i, b"name") % 997 + i, G)
        names.append({"k": be(scalar(i, b"name") % 997 + i).hex(), "name": be(encode(p)).hex()})
        q = decode(encode(p))
        assert on_curve(q) and encode(q) == encode(p)
    bad = [be(s).hex() for s in range(2, 60, 2) if decode(s) is None][:4]
    bad += [be((P + 1) // 2).hex(), be(P - 1).hex(), be(P).hex(), "ff" * 56]
    hashes = [{"h": be(h).hex(), "point": [be(c).hex() for c in elligator(h % P)]}
              for h in (0, 1, 2, P - 1, P, P + 1, scalar(0, b"h"), scalar(1, b"h"))]
    users = [("glenda", "cs.example.com", "testpassword"), ("bootes", "x", "ä passphrase of some length, with spaces"),
             ("u" * 27, "d" * 47, "1"), ("λ", "plan9", "日本語")]
    print(json.dumps({"names": names, "bad": bad, "hashes": hashes,
                      "exchanges": [vector(i, *u) for i, u in enumerate(users)]}, indent=1))


main()
