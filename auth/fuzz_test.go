package auth

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// FuzzConv writes and reads as the input says: no conversation of somebody without keys proves anything.
func FuzzConv(f *testing.F) {
	f.Add([]byte("dp9ik "+testDom+"\x0012345678"), []byte{0xff, 0, 0xff})
	f.Add([]byte("dp9ik "+testDom+"\x0012345678"+string(make([]byte, 300))), []byte{255, 18, 255, 8, 255, 56, 200})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		c := NewConv(newKey(t, "bootes"), "glenda")
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

// A script is a peer whose every word is known beforehand.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error) { return len(p), nil }

// FuzzProve has a client talk to a server that says anything.
func FuzzProve(f *testing.F) {
	s := newSite(f)
	r := ticketReq{typ: authPAK, authid: "bootes", authdom: testDom}
	p := newPak(s.server, true)
	f.Add(slices.Concat([]byte("v.2 dp9ik@"+testDom+"\x00"), []byte("OK\x00"), r.append(nil), p.y[:], make([]byte, proofSize)), byte(0))
	f.Add(slices.Concat([]byte("dp9ik@"+testDom+"\x00"), r.append(nil), p.y[:], make([]byte, proofSize)), byte(30))
	f.Fuzz(func(t *testing.T, b []byte, n byte) {
		// Strings are messages: they end where a read does.
		var rd io.Reader = bytes.NewReader(b)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			rs := []io.Reader{bytes.NewReader(b[:i+1])}
			b = b[i+1:]
			if j := bytes.IndexByte(b, 0); j >= 0 && n%2 == 0 {
				rs = append(rs, bytes.NewReader(b[:j+1]))
				b = b[j+1:]
			}
			rd = io.MultiReader(append(rs, bytes.NewReader(b))...)
		}
		if err := Prove(t.Context(), script{rd}, "glenda", ServerKey{s.server}); err == nil {
			t.Fatal("satisfied")
		}
	})
}

// FuzzTicketServer sends it anything.
func FuzzTicketServer(f *testing.F) {
	s := newSite(f)
	r := ticketReq{typ: authPAK, authid: "bootes", authdom: testDom, hostid: "glenda", uid: "glenda"}
	ps, pc := newPak(s.server, true), newPak(s.user, true)
	pakReq := slices.Concat(r.append(nil), ps.y[:], pc.y[:])
	r.typ = authTreq
	f.Add(pakReq)
	f.Add(append(bytes.Clone(pakReq), r.append(nil)...))
	f.Add(r.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&TicketServer{Key: s.key, Time: time.Second}).ServeConn(server)
		}()
		go func() {
			client.Write(b)
			client.Close()
		}()
		io.Copy(io.Discard, client)
		<-done
	})
}

// FuzzAuthServer has a client take anything for an authentication server's answers.
func FuzzAuthServer(f *testing.F) {
	s := newSite(f)
	p := newPak(s.user, false)
	f.Add(slices.Concat([]byte{authOK}, p.y[:], p.y[:], []byte{authOK}, make([]byte, 2*ticketSize)))
	f.Add(append([]byte{authErr}, make([]byte, errSize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Request{ID: "bootes", Dom: testDom, User: "glenda"}
		if tk, err := s.source().ask(script{bytes.NewReader(b)}, r); err == nil {
			t.Fatalf("%+v", tk)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("key proto=dp9ik dom=d user=u !hex=00112233445566778899aabbccddeeff\n"))
	f.Add([]byte("# x\nkey proto=p9sk1\n\nkey 'proto=dp9ik' dom=d user='''' !hex=''"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte("password")) {
			return // takes its time
		}
		keys, err := ParseKeys(b)
		if err != nil {
			if !errors.Is(err, ErrKeyFile) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, k := range keys {
			again = AppendKey(again, k)
		}
		same, err := ParseKeys(again)
		if err != nil || !slices.EqualFunc(keys, same, (*Key).Equal) {
			t.Fatalf("%v: %q", err, again)
		}
	})
}

func FuzzTicketReq(f *testing.F) {
	r := ticketReq{typ: authPAK, authid: "bootes", authdom: testDom, hostid: "glenda", uid: "glenda"}
	f.Add(r.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m [treqSize]byte
		copy(m[:], b)
		r, err := parseTicketReq(&m)
		if err != nil {
			if !errors.Is(err, ErrName) {
				t.Fatal(err)
			}
			return
		}
		again, err := parseTicketReq((*[treqSize]byte)(r.append(nil)))
		if err != nil || r != again {
			t.Fatalf("%+v, %+v, %v", r, again, err)
		}
	})
}

// FuzzPoint decodes names: what is accepted has that name, and is on the curve.
func FuzzPoint(f *testing.F) {
	g := base().encode()
	f.Add(g[:])
	f.Add(make([]byte, eltSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		var name [eltSize]byte
		copy(name[:], b)
		p, ok := decode(&name)
		if !ok {
			return
		}
		if got := p.encode(); got != name {
			t.Fatalf("%x has the name %x", name, got)
		}
		// x² + y² = z² + dt², xy = zt
		left, right := add(sqr(p.x), sqr(p.y)), sub(sqr(p.z), mul(small(minusD), sqr(p.t)))
		if !isZero(sub(left, right)) || !isZero(sub(mul(p.x, p.y), mul(p.z, p.t))) {
			t.Fatalf("%x is not on the curve", name)
		}
	})
}
