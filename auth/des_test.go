package auth

import (
	"bytes"
	"context"
	"crypto/des"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	"net"
	"slices"
	"strings"
	"testing"
)

// publishedDES encrypts as encrypt(2) describes it, by its text and with none of ours: byte by byte, the
// key's 56 bits from the highest on.
func publishedDES(key, text []byte) []byte {
	k := new(big.Int).SetBytes(key)
	var wide []byte
	for i := range 8 {
		seven := new(big.Int).Rsh(k, uint(49-7*i)).Uint64() & 0x7f
		parity := 1 ^ bits.OnesCount64(seven)&1
		wide = append(wide, byte(seven)<<1|byte(parity))
	}
	c, err := des.NewCipher(wide)
	if err != nil {
		panic(err)
	}
	out := bytes.Clone(text)
	block := func(at int) { c.Encrypt(out[at:at+8], bytes.Clone(out[at:at+8])) }
	whole, rest := (len(text)-1)/7, (len(text)-1)%7
	for i := range whole {
		block(7 * i)
	}
	if rest > 0 {
		block(7*whole - 7 + rest)
	}
	return out
}

// publishedKey is passtokey of authsrv(2) for ASCII: the seven-bit characters as one number, the first the
// lowest, its bytes from the lowest on; and again with what the next characters become under that key.
func publishedKey(password string) []byte {
	pack := func(text []byte) []byte {
		n := new(big.Int)
		for i := range 7 {
			// The eighth bit of a character meets the lowest of the next one, and is added within a byte.
			lo, hi := int64(text[i])>>i, int64(text[i+1])<<(7-i)
			n.Or(n, new(big.Int).Lsh(big.NewInt((lo+hi)%256), uint(8*i)))
		}
		b := n.FillBytes(make([]byte, 7))
		slices.Reverse(b)
		return b
	}
	text := []byte(password + "\x00" + strings.Repeat(" ", 8))[:max(8, len(password))]
	key := pack(text)
	for rest := len(password) - 8; rest > 0; rest -= 8 {
		from := len(password) - max(rest, 8)
		copy(text[from:], publishedDES(key, text[from:from+8]))
		key = pack(text[from:])
	}
	return key
}

func TestDESKeysOfPasswordsAreThosePublished(t *testing.T) {
	// Eight characters are packed, and nothing is encrypted: by hand, seven bits each from the lowest on.
	n := new(big.Int)
	for i, c := range []byte("password") {
		n.Or(n, new(big.Int).Lsh(big.NewInt(int64(c)), uint(7*i)))
	}
	byHand := n.FillBytes(make([]byte, 7))
	slices.Reverse(byHand)
	same(t, "the test's own way", publishedKey("password"), byHand)
	for _, password := range []string{"x", "secret7", "password", "ninechars", "sixteen letters!", "a password of 23 bytes.", "twenty-seven bytes make it.", "7", "fünf öl µ"} {
		k, err := PasswordDESKey("glenda", testDom, password)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "key of "+password, k.secret[:], publishedKey(password))
	}
	// What is behind 27 bytes does not count.
	long, err1 := PasswordDESKey("glenda", testDom, "twenty-seven bytes make it.And more")
	short, err2 := PasswordDESKey("glenda", testDom, "twenty-seven bytes make it.")
	if err := errors.Join(err1, err2); err != nil || !long.Equal(short) {
		t.Errorf("a longer password makes another key: %v", err)
	}
	if _, err := PasswordDESKey("", testDom, "x"); !errors.Is(err, ErrName) {
		t.Errorf("a key for nobody: %v", err)
	}
}

// TestDESIsThatOfTheStandard has the example that is in every textbook, without its parity bits, and a block of
// zeros under a key of zeros.
func TestDESIsThatOfTheStandard(t *testing.T) {
	// 13 34 57 79 9B BC DF F1, each byte without its last bit, put together.
	key := [7]byte{0x12, 0x69, 0x5b, 0xc9, 0xb7, 0xb7, 0xf8}
	b := []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	desSeal(&key, b)
	same(t, "the textbook's block", b, []byte{0x85, 0xe8, 0x13, 0x54, 0x0f, 0x0a, 0xb4, 0x05})
	b = make([]byte, 8)
	desSeal(&[7]byte{}, b)
	same(t, "zeros", b, []byte{0x8c, 0xa6, 0x4d, 0xe9, 0xc1, 0xb1, 0x23, 0xa7})
}

func TestDESChainsAsPublished(t *testing.T) {
	key := [7]byte{1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd}
	for n := 8; n < 200; n++ {
		text := make([]byte, n)
		for i := range text {
			text[i] = byte(i * n)
		}
		b := bytes.Clone(text)
		desSeal(&key, b)
		same(t, fmt.Sprintf("%d bytes", n), b, publishedDES(key[:], text))
		desOpen(&key, b)
		same(t, fmt.Sprintf("%d bytes and back", n), b, text)
	}
}

// TestDESTicketsAreOnTheWireAsPublished: field by field, as authsrv(6) has them.
func TestDESTicketsAreOnTheWireAsPublished(t *testing.T) {
	k := newDES(t, "bootes")
	tk := &desTicket{chal: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, cuid: "glenda", suid: "rob", kn: [7]byte{9, 8, 7, 6, 5, 4, 3}}
	field := func(s string) []byte { return append([]byte(s), make([]byte, 28-len(s))...) }
	plain := slices.Concat([]byte{64}, tk.chal[:], field("glenda"), field("rob"), tk.kn[:])
	if len(plain) != 72 {
		t.Fatal("a ticket has 72 bytes")
	}
	same(t, "ticket", tk.seal(authTs, &k.secret), publishedDES(k.secret[:], plain))
	got, err := openDESTicket(authTs, &k.secret, &tk.chal, publishedDES(k.secret[:], plain))
	if err != nil || *got != *tk {
		t.Errorf("%+v, %v", got, err)
	}
	proof := slices.Concat([]byte{67}, tk.chal[:], make([]byte, 4))
	same(t, "authenticator", desProof(authAc, &tk.kn, &tk.chal), publishedDES(tk.kn[:], proof))
}

func newDES(t testing.TB, user string) *DESKey {
	t.Helper()
	k, err := NewDESKey(user, testDom)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// An oldSite is a site whose server also speaks p9sk1.
type oldSite struct {
	*site
	server, user *DESKey
}

func newOldSite(t testing.TB) *oldSite {
	return &oldSite{newSite(t), newDES(t, "bootes"), newDES(t, "glenda")}
}

func (s *oldSite) desKey(user string) *DESKey {
	for _, k := range []*DESKey{s.server, s.user} {
		if k.User == user {
			return k
		}
	}
	return nil
}

func (s *oldSite) dial(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	go (&TicketServer{Key: s.key, DESKey: s.desKey}).ServeConn(b) // ends when a is closed
	return a, nil
}

func (s *oldSite) conv(uname string) *Conv { return NewDESConv(s.site.server, s.server, uname) }

func TestClientProvesWhoItIsWithP9sk1(t *testing.T) {
	s := newOldSite(t)
	for name, from := range map[string]DESTicketSource{
		"authentication server": &DESAuthServer{Key: s.user, Dial: s.dial},
		"the server's key":      DESServerKey{s.server},
	} {
		for _, cut := range []bool{false, true} {
			c := s.conv("glenda")
			var rw io.ReadWriter = c
			if cut {
				rw = bytewise{c}
			}
			if err := ProveDES(t.Context(), rw, "glenda", from); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if c.Proved() != "glenda" || c.Protocol() != "p9sk1" {
				t.Errorf("%s: proved to be %q with %s", name, c.Proved(), c.Protocol())
			}
			if _, err := c.Write([]byte{0}); !errors.Is(err, ErrProtocol) || c.Proved() != "" {
				t.Errorf("%s: writing behind the end: %v, and %q", name, err, c.Proved())
			}
		}
	}
	// dp9ik goes on as before, also with the same authentication server.
	c := s.conv("glenda")
	if err := Prove(t.Context(), c, "glenda", &AuthServer{Key: s.site.user, Dial: s.dial}); err != nil || c.Proved() != "glenda" || c.Protocol() != "dp9ik" {
		t.Errorf("dp9ik beside it: %q with %s, %v", c.Proved(), c.Protocol(), err)
	}
}

// TestP9sk1IsOfferedOnlyWhenSwitchedOn and taken only then.
func TestP9sk1IsOfferedOnlyWhenSwitchedOn(t *testing.T) {
	s := newOldSite(t)
	offer := func(c *Conv) string {
		b := make([]byte, 200)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	off, on := NewConv(s.site.server, "glenda"), s.conv("glenda")
	if got, want := offer(off), "v.2 dp9ik@"+testDom+"\x00"; got != want {
		t.Errorf("off, the offer is %q, want %q", got, want)
	}
	if got, want := offer(on), "v.2 dp9ik@"+testDom+" p9sk1@"+testDom+"\x00"; got != want {
		t.Errorf("on, the offer is %q, want %q", got, want)
	}
	if _, err := off.Write([]byte("p9sk1 " + testDom + "\x00")); !errors.Is(err, ErrProtocol) {
		t.Errorf("off, it is chosen: %v", err)
	}
	if err := ProveDES(t.Context(), NewConv(s.site.server, "glenda"), "glenda", DESServerKey{s.server}); !errors.Is(err, ErrProtocol) {
		t.Errorf("off, a client is satisfied: %v", err)
	}
	if _, err := on.Write([]byte("p9sk1 elsewhere\x00")); !errors.Is(err, ErrProtocol) {
		t.Errorf("another domain is chosen: %v", err)
	}
}

// TestP9sk1ConversationsThatProveNothing changes one thing in conversations that would go well.
func TestP9sk1ConversationsThatProveNothing(t *testing.T) {
	s := newOldSite(t)
	stranger := newDES(t, "bootes")
	const sent, authSent = 2, 3 // the client's ticket, the server's proof
	old := &wire{Conv: s.conv("glenda")}
	if err := ProveDES(t.Context(), old, "glenda", DESServerKey{s.server}); err != nil {
		t.Fatal(err)
	}
	instead := func(msg int, f func(b []byte) []byte) func(int, []byte) []byte {
		return func(n int, b []byte) []byte {
			if n == msg {
				return f(b)
			}
			return b
		}
	}
	for name, test := range map[string]struct {
		from          DESTicketSource
		as            string
		write, answer func(int, []byte) []byte
	}{
		"ticket made with another key":     {from: DESServerKey{stranger}},
		"ticket for another user":          {from: DESServerKey{s.server}, as: "rsc"},
		"ticket of an earlier time":        {from: DESServerKey{s.server}, write: instead(sent, func([]byte) []byte { return old.wrote[sent] })},
		"authenticator of an earlier time": {from: DESServerKey{s.server}, write: instead(sent, func(b []byte) []byte { return append(b[:desTicketSize], old.wrote[sent][desTicketSize:]...) })},
		"all of an earlier time":           {from: DESServerKey{s.server}, write: func(n int, _ []byte) []byte { return old.wrote[n] }},
		"no authenticator":                 {from: DESServerKey{s.server}, write: instead(sent, func(b []byte) []byte { return b[:desTicketSize] })},
		"one byte more":                    {from: DESServerKey{s.server}, write: instead(sent, func(b []byte) []byte { return append(b, 0) })},
		"the server's proof for it":        {from: DESServerKey{s.server}, write: instead(sent, func(b []byte) []byte { return append(b[:desTicketSize], old.wrote[sent][:desProofSize]...) })},

		"a server that does not offer it":     {from: DESServerKey{s.server}, answer: instead(0, func([]byte) []byte { return []byte("v.2 dp9ik@" + testDom + "\x00") })},
		"a request of another type":           {from: DESServerKey{s.server}, answer: instead(2, func(b []byte) []byte { b[0] = authPAK; return b })},
		"another challenge":                   {from: DESServerKey{s.server}, answer: instead(2, func(b []byte) []byte { b[1+nameField+domField]++; return b })},
		"a server that does not know the key": {from: DESServerKey{s.server}, answer: instead(authSent, func(b []byte) []byte { return make([]byte, len(b)) })},
		"a proof with a bit changed":          {from: DESServerKey{s.server}, answer: instead(authSent, func(b []byte) []byte { b[12] ^= 1; return b })},
	} {
		t.Run(name, func(t *testing.T) {
			as := test.as
			if as == "" {
				as = "glenda"
			}
			w := &wire{Conv: s.conv(as), write: test.write, answer: test.answer}
			if err := ProveDES(t.Context(), w, "glenda", test.from); err == nil {
				t.Fatal("the client is satisfied")
			}
			if test.answer == nil && w.Proved() != "" {
				t.Errorf("the client has proved to be %q", w.Proved())
			}
		})
	}
}

// TestDESTicketsAreForThoseWhoAreKnown, and only where p9sk1 is spoken.
func TestDESTicketsAreForThoseWhoAreKnown(t *testing.T) {
	s := newOldSite(t)
	strange := newDES(t, "glenda")
	strange.Dom = "elsewhere"
	for name, test := range map[string]struct {
		key  *DESKey
		user string
		dial func(context.Context) (net.Conn, error)
		want error
	}{
		"wrong key":      {newDES(t, "glenda"), "glenda", s.dial, ErrKey},
		"unknown user":   {newDES(t, "nobody"), "nobody", s.dial, ErrKey},
		"somebody else":  {s.user, "rsc", s.dial, ErrKey},
		"as none":        {s.user, "none", s.dial, ErrKey},
		"another domain": {strange, "glenda", s.dial, nil},
		"not spoken":     {s.user, "glenda", s.site.dial, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.conv(test.user)
			err := ProveDES(t.Context(), c, test.user, &DESAuthServer{Key: test.key, Dial: test.dial})
			if err == nil || test.want != nil && !errors.Is(err, test.want) || c.Proved() != "" {
				t.Errorf("%v, and proved is %q", err, c.Proved())
			}
		})
	}
	// A connection is good for one ticket.
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- (&TicketServer{Key: s.key, DESKey: s.desKey}).ServeConn(server) }()
	req := ticketReq{typ: authTreq, authid: "bootes", authdom: testDom, hostid: "glenda", uid: "glenda"}
	go client.Write(append(req.append(nil), req.append(nil)...))
	b, err := io.ReadAll(client)
	if err != nil || len(b) != 1+2*desTicketSize || b[0] != authOK {
		t.Errorf("two requests bring %d bytes, %v", len(b), err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestChangedBytesOfDESTicketsAreNoTickets(t *testing.T) {
	k := newDES(t, "bootes")
	tk := newDESTicket([chalSize]byte{1}, "glenda")
	b := tk.seal(authTs, &k.secret)
	if _, err := openDESTicket(authTc, &k.secret, &tk.chal, b); err != ErrProtocol {
		t.Errorf("a server's ticket as a client's: %v", err)
	}
	if _, err := openDESTicket(authTs, &k.secret, &[chalSize]byte{2}, b); err != ErrProtocol {
		t.Errorf("for another challenge: %v", err)
	}
	for n := range b {
		if _, err := openDESTicket(authTs, &k.secret, &tk.chal, b[:n]); err != ErrProtocol {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	// There is no sum, but what is changed in the first bytes shows.
	for i := range 9 {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, err := openDESTicket(authTs, &k.secret, &tk.chal, c); err != ErrProtocol {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestKeyFilesHoldBothKinds(t *testing.T) {
	k, d := newKey(t, "bootes"), newDES(t, "bootes")
	file := AppendDESKey(AppendKey(nil, k), d)
	file = append(file, "key proto=p9sk1 dom="+testDom+" user=glenda !password='a secret'\n"...)
	keys, err1 := ParseKeys(file)
	old, err2 := ParseDESKeys(file)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	want, err := PasswordDESKey("glenda", testDom, "a secret")
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || !keys[0].Equal(k) || len(old) != 2 || !old[0].Equal(d) || !old[1].Equal(want) {
		t.Errorf("%v, %v", keys, old)
	}
	if _, err := ParseDESKeys(AppendKey(nil, k)); !errors.Is(err, ErrKeyFile) || !errors.Is(err, ErrNoKey) {
		t.Errorf("no key for p9sk1: %v", err)
	}
	for _, bad := range []string{
		"key proto=p9sk1 dom=d user=u !hex=00112233445566778899aabbccddeeff",
		"key proto=p9sk1 dom=d user=u !hex=0011223344556g",
		"key proto=p9sk1 dom=d user=u",
		"key proto=p9sk1 dom=d !hex=00112233445566",
		"key proto=p9sk1 dom=d user=u !hex=00112233445566\nkey proto=p9sk1 dom=d user=u !hex=00112233445566",
	} {
		if _, err := ParseDESKeys([]byte(bad)); !errors.Is(err, ErrKeyFile) || errors.Is(err, ErrNoKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	secret := fmt.Sprintf("%x", d.secret[:4])
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if s := fmt.Sprintf(format, d); !strings.Contains(s, "bootes@"+testDom) || strings.Contains(s, secret) {
			t.Errorf("%s shows %s", format, s)
		}
	}
}

// FuzzDESConv writes and reads as the input says: no conversation of somebody without keys proves anything.
func FuzzDESConv(f *testing.F) {
	s := newOldSite(f)
	f.Add([]byte("p9sk1 "+testDom+"\x0012345678"+string(make([]byte, 85))), []byte{255, 18, 255, 8, 255, 85, 200})
	f.Add([]byte("dp9ik "+testDom+"\x0012345678"), []byte{255, 18, 255, 8, 255})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		c := s.conv("glenda")
		buf := make([]byte, 256)
		for i, n := range sizes {
			if i%2 == 0 {
				c.Read(buf[:n])
				continue
			}
			k := min(int(n), len(data))
			m, err := c.Write(data[:k])
			if err == nil && m != k || err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatalf("%d of %d, %v", m, k, err)
			}
			data = data[k:]
		}
		if c.Proved() != "" {
			t.Fatal("proved")
		}
	})
}
