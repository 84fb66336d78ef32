package cli

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"gefs9p/ninep"
)

// A peersFlag says who may attach as whom, without proving it, over a Unix socket.
type peersFlag string

const (
	peersSelf  peersFlag = "self"  // as themselves, but the server's user and the superuser as anybody
	peersAny   peersFlag = "any"   // everybody as anybody
	peersProve peersFlag = "prove" // nobody
)

func (p *peersFlag) Set(s string) error {
	switch peersFlag(s) {
	case peersSelf, peersAny, peersProve:
		*p = peersFlag(s)
		return nil
	}
	return fmt.Errorf("self, any or prove is wanted")
}

func (p *peersFlag) String() string { return string(*p) }
func (p *peersFlag) Type() string   { return "WHO" }

// A trust decides who need not prove who they are. It is gefs.Options.Trust.
type trust struct {
	peers peersFlag
	// The system's; tests have others.
	peerID func(net.Conn) (uid int, ok bool)
	name   func(uid int) (string, error)
}

func newTrust(peers peersFlag) *trust {
	return &trust{peers: peers, peerID: peerID, name: func(uid int) (string, error) {
		u, err := user.LookupId(strconv.Itoa(uid))
		if err != nil {
			return "", err
		}
		return u.Username, nil
	}}
}

// attach reports whether whoever is at the other end of the connection may attach as uname. Over TCP
// it is whoever has a certificate with that name; over a Unix socket what --peers says; on standard
// input and output whoever started the server.
func (t *trust) attach(c *ninep.Ctx, uname string) bool {
	if c.Conn == nil {
		return false
	}
	switch conn := c.Conn.Transport().(type) {
	case *stdio:
		return true
	case *tls.Conn:
		return certName(conn) == uname && uname != ""
	case *net.UnixConn:
		return t.unix(c, conn, uname)
	}
	return false
}

func (t *trust) unix(c *ninep.Ctx, conn *net.UnixConn, uname string) bool {
	switch t.peers {
	case peersAny:
		return true
	case peersProve:
		return false
	}
	uid, ok := t.peerID(conn)
	switch {
	case !ok:
		return false
	case uid == 0, uid == os.Geteuid():
		return true // they can read the disk, and everything of this process
	}
	var name string
	var err error
	c.Sleep(func() { name, err = t.name(uid) }) // may ask another machine
	return err == nil && name == uname && name != ""
}

// certName is the common name in the certificate that the client has shown and that was verified; "" if
// there is none.
func certName(conn *tls.Conn) string {
	st := conn.ConnectionState()
	if !st.HandshakeComplete || len(st.VerifiedChains) == 0 || len(st.PeerCertificates) == 0 {
		return ""
	}
	name := st.PeerCertificates[0].Subject.CommonName
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	return name
}
