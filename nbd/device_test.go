package nbd_test

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// serve starts s and returns the address of its export.
func serve(t testing.TB, s *nbdtest.Server) nbd.Address {
	t.Helper()
	s.Start(t)
	return address(t, "nbd://"+s.Addr()+"/disk")
}

func address(t testing.TB, text string) nbd.Address {
	t.Helper()
	a, err := nbd.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t testing.TB, a nbd.Address, opt nbd.Options) *nbd.Disk {
	t.Helper()
	d, err := nbd.Open(context.Background(), a, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestExportIsADevice(t *testing.T) {
	for _, c := range []struct {
		name   string
		server func(s *nbdtest.Server)
		opt    nbd.Options
	}{
		{"any block", func(s *nbdtest.Server) {}, nbd.Options{}},
		{"little may be unflushed", func(s *nbdtest.Server) {}, nbd.Options{Unflushed: 100_000}},
		{"small requests", func(s *nbdtest.Server) { s.Min, s.Max = 1, 5000 }, nbd.Options{}},
		{"no flush", func(s *nbdtest.Server) { s.NoFlush = true }, nbd.Options{Unflushed: 100_000}},
		{"no trim, no FUA", func(s *nbdtest.Server) { s.NoTrim, s.NoFUA = true, true }, nbd.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && (c.name == "small requests" || c.name == "no trim, no FUA") {
				t.Skip("three with -short")
			}
			blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
				s := &nbdtest.Server{Dev: blkdev.NewMem(size)}
				c.server(s)
				d, err := nbd.Open(context.Background(), serve(t, s), c.opt)
				if err != nil {
					t.Fatal(err)
				}
				return d
			})
		})
	}
}

func TestServerWithLargeBlocksIsWrittenInBlocks(t *testing.T) {
	for _, least := range []uint32{512, 4096} {
		disk := blkdev.NewMem(1 << 20)
		d := open(t, serve(t, &nbdtest.Server{Dev: disk, Min: least, Max: 1 << 16}), nbd.Options{})
		want := make([]byte, 1<<20)
		r := blkdevtest.Rand(t)
		for range 300 {
			off := r.IntN(len(want))
			n := r.IntN(min(len(want)-off, 20_000) + 1)
			if r.IntN(2) == 0 { // aligned, or nearly
				off -= off % int(least)
				n -= n % int(least)
			}
			p := want[off : off+n]
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if m, err := d.WriteAt(p, int64(off)); m != n || err != nil {
				t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", n, off, m, err)
			}
		}
		for range 100 {
			off := r.IntN(len(want))
			p := make([]byte, r.IntN(len(want)-off+1))
			if n, err := d.ReadAt(p, int64(off)); n != len(p) || err != nil {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
			}
			if string(p) != string(want[off:off+len(p)]) {
				t.Fatalf("%d bytes at %d are not what was written", len(p), off)
			}
		}
		if err := d.Discard(5, 100_000); err != nil {
			t.Errorf("Discard: %v", err)
		}
	}
}

func TestSizeIsInWholeBlocks(t *testing.T) {
	d := open(t, serve(t, &nbdtest.Server{Dev: blkdev.NewMem(10_000), Min: 4096, Max: 1 << 20}), nbd.Options{})
	if n, err := d.Size(); n != 8192 || err != nil {
		t.Errorf("Size() = %d, %v; want 8192", n, err)
	}
}

// certificates makes an authority, and a server and a client that it knows, in dir as the address names them.
func certificates(t testing.TB, dir string) *tls.Config {
	t.Helper()
	save := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	issue := func(name string, tmpl x509.Certificate) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.SerialNumber, tmpl.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if ca == nil {
			ca, caKey = &tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, &tmpl, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		if ca == &tmpl {
			if ca, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
		}
		save(name+"-cert.pem", "CERTIFICATE", der)
		der, err = x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		save(name+"-key.pem", "PRIVATE KEY", der)
	}
	issue("ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	issue("server", x509.Certificate{DNSNames: []string{"localhost", "storage.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature})
	issue("client", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature})
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server-cert.pem"), filepath.Join(dir, "server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

func TestExportWithTLSIsADevice(t *testing.T) {
	dir := t.TempDir()
	cfg := certificates(t, dir)
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
		s := &nbdtest.Server{Dev: blkdev.NewMem(size), TLS: cfg}
		s.Start(t)
		a := address(t, "nbds://"+s.Addr()+"/disk?tls-hostname=storage.example&tls-certificates="+dir)
		d, err := nbd.Open(context.Background(), a, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestTLSIsNotFooled(t *testing.T) {
	dir := t.TempDir()
	secure := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20), TLS: certificates(t, dir)}
	secure.Start(t)
	plain := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	plain.Start(t)
	stranger := t.TempDir()
	certificates(t, stranger)
	for _, c := range []struct{ name, address, want string }{
		{"TLS is wanted", "nbd://" + secure.Addr() + "/", "wants TLS: use an address with nbds://"},
		{"TLS is not offered", "nbds://" + plain.Addr() + "/?tls-certificates=" + dir, "offers no TLS"},
		{"another name", "nbds://" + secure.Addr() + "/?tls-hostname=other.example&tls-certificates=" + dir, "other.example"},
		{"another authority", "nbds://" + secure.Addr() + "/?tls-hostname=localhost&tls-certificates=" + stranger, "unknown authority"},
		{"no certificates there", "nbds://" + secure.Addr() + "/?tls-certificates=" + t.TempDir(), "ca-cert.pem"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, address(t, c.address), nbd.Options{}, c.want) })
	}
}
