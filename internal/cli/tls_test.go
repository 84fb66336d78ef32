package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/auth"
	"gefs9p/client"
)

// An authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	tmpl := template(name)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	pair := a.issue(tmpl)
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

// issue signs a certificate; the authority's own while it has none.
func (a *authority) issue(tmpl *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// files writes a certificate and its key.
func (a *authority) files(c tls.Certificate) (cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, cert, "CERTIFICATE", c.Certificate[0])
	writePEM(a.t, key, "PRIVATE KEY", der)
	return cert, key
}

func writePEM(t *testing.T, file, typ string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// dialTLS connects, with a certificate or, if it is nil, without.
func dialTLS(t *testing.T, addr string, server *authority, mine *tls.Certificate) (*client.Conn, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(server.cert)
	cfg := &tls.Config{RootCAs: roots}
	if mine != nil {
		// Also if the server has not asked for one of this authority.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return mine, nil }
	}
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.New(ctx, conn, 8192)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestCertificatesAreUsers(t *testing.T) {
	disk := newDisk(t)
	ca, otherCA := newAuthority(t, "ours"), newAuthority(t, "glenda")
	cert, key := ca.files(ca.issue(template("fs.example.com")))
	keyFile, serverKey := newKeyFile(t, "bootes")
	glenda := ca.issue(template("glenda"))
	foreign := otherCA.issue(template("glenda"))
	expired := template("glenda")
	expired.NotAfter = time.Now().Add(-time.Minute)
	late := ca.issue(expired)

	args := []string{"serve", "-m", "16M", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca.file, "-a", "tcp!127.0.0.1!0"}
	l := start(t, 1, append(args, disk)...)
	c, err := dialTLS(t, l.addrs[0], ca, &glenda)
	if err != nil {
		t.Fatal(err)
	}
	root, err := c.Attach("glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, root, "file", "hello")
	for _, uname := range []string{"adm", "none", "", "ours"} {
		if _, err := c.Attach(uname, ""); err == nil || !strings.Contains(err.Error(), "failed authentication") {
			t.Errorf("glenda's certificate attaches as %q: %v", uname, err)
		}
	}
	for name, mine := range map[string]*tls.Certificate{"no certificate": nil, "another authority's": &foreign, "an expired one": &late} {
		if c, err := dialTLS(t, l.addrs[0], ca, mine); err == nil {
			_, err = c.Attach("glenda", "")
			t.Errorf("with %s there is a session, and attaching brings: %v", name, err)
		}
	}
	if _, err := client.Dial(t.Context(), l.addrs[0], 8192); err == nil {
		t.Error("the server speaks without TLS")
	}
	l.stop()

	// With keys too, certificates may be missing; others' are refused all the same.
	l = start(t, 1, append(args, "--auth", keyFile, disk)...)
	if c, err = dialTLS(t, l.addrs[0], ca, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach("glenda", ""); err == nil {
		t.Error("without a certificate and a proof one is glenda")
	}
	if root, err = c.AttachAs("glenda", "", prover(t, "glenda", auth.ServerKey{Key: serverKey})); err != nil {
		t.Fatal(err)
	}
	if got := get(t, root, "file"); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
	if _, err := dialTLS(t, l.addrs[0], ca, &foreign); err == nil {
		t.Error("another authority's certificate is taken")
	}
	l.stop()

	// Certificates are not asked for without --tls-client-ca, and bring nothing.
	l = start(t, 1, "serve", "-m", "16M", "--tls-cert", cert, "--tls-key", key, "--auth", keyFile, "-a", "tcp!127.0.0.1!0", disk)
	if c, err = dialTLS(t, l.addrs[0], ca, &glenda); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach("glenda", ""); err == nil {
		t.Error("a certificate nobody has verified lets in")
	}
	l.stop()

	dir := filepath.Dir(disk)
	refused(t, dir, exitUsage, []string{"--tls-cert", "--tls-key"}, "serve", "--tls-cert", cert, disk)
	refused(t, dir, exitFail, []string{"--tls-client-ca", "no certificate"}, "serve", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key, disk)
	refused(t, dir, exitFail, []string{"--tls-key"}, "serve", "--tls-cert", cert, "--tls-key", ca.file, disk)
	refused(t, dir, exitUsage, []string{"-A"}, "serve", "-A", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca.file, disk)
	refused(t, dir, exitUsage, []string{"--auth"}, "serve", "--tls-cert", cert, "--tls-key", key, "-a", "tcp!127.0.0.1!0", disk)
}
