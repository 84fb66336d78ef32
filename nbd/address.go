package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Port is the TCP port of NBD.
const Port = "10809"

// maxExport is the longest name of an export in bytes that the protocol allows.
const maxExport = 4096

// An Address says where an export is. Parse makes it.
type Address struct {
	Network string // "tcp" or "unix"
	Host    string // host:port or the path of a socket, for net.Dial
	Export  string // may be empty: the server's default

	TLS          bool
	Certificates string // folder with ca-cert.pem, client-cert.pem, client-key.pem; "" for the system's authorities
	Hostname     string // the name that the server's certificate must have

	text string
}

// IsAddress reports whether s is meant as an address of this package, rather than the name of a file.
func IsAddress(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (scheme == "nbd" || strings.HasPrefix(scheme, "nbd+") || scheme == "nbds" || strings.HasPrefix(scheme, "nbds+"))
}

// Parse reads an address as the NBD project writes them:
//
//	nbd://host[:port]/export
//	nbds://host[:port]/export               with TLS
//	nbd+unix:///export?socket=PATH
//	nbds+unix:///export?socket=PATH
//
// With TLS, the parameter tls-certificates names a folder with ca-cert.pem and, for servers that ask who
// we are, client-cert.pem and client-key.pem; tls-hostname is the name in the server's certificate if it is
// not the host's. Bytes that mean something else in an address are written as %XX. Nothing is looked up
// or opened.
func Parse(s string) (Address, error) {
	a, err := parse(s)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: %w", s, err)
	}
	a.text = s
	return a, nil
}

func parse(s string) (a Address, err error) {
	u, err := url.Parse(s)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return a, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, err
	}
	for key, values := range query {
		switch key {
		case "socket", "tls-certificates", "tls-hostname":
			if len(values) != 1 || values[0] == "" {
				return a, fmt.Errorf("%s needs one value", key)
			}
		case "tls-psk-file", "tls-username":
			return a, fmt.Errorf("%s: keys shared beforehand are not supported, certificates are", key)
		default:
			return a, fmt.Errorf("unknown parameter %q: socket, tls-certificates and tls-hostname are known", key)
		}
	}
	if u.Fragment != "" || u.Opaque != "" {
		return a, errors.New("not of the form nbd://host:port/export")
	}
	if u.User != nil {
		return a, errors.New("users have no place in it: certificates say who we are")
	}
	a.TLS = strings.HasPrefix(u.Scheme, "nbds")
	a.Certificates, a.Hostname = query.Get("tls-certificates"), query.Get("tls-hostname")
	if !a.TLS && (a.Certificates != "" || a.Hostname != "") {
		return a, errors.New("parameters of TLS are for nbds:// and nbds+unix://")
	}
	a.Export = strings.TrimPrefix(u.Path, "/")
	if len(a.Export) > maxExport {
		return a, fmt.Errorf("name of the export too long: %d bytes, and %d are allowed", len(a.Export), maxExport)
	}
	if strings.ContainsRune(a.Export, 0) {
		return a, errors.New("NUL byte in the name of the export")
	}
	switch u.Scheme {
	case "nbd", "nbds":
		if query.Has("socket") {
			return a, fmt.Errorf("socket is for %s+unix://", u.Scheme)
		}
		host, port := u.Hostname(), u.Port()
		if host == "" {
			return a, errors.New("no host")
		}
		if port == "" {
			port = Port
		}
		a.Network, a.Host = "tcp", net.JoinHostPort(host, port)
		if a.TLS && a.Hostname == "" {
			a.Hostname = host
		}
	case "nbd+unix", "nbds+unix":
		if u.Host != "" {
			return a, fmt.Errorf("a Unix socket has no host: write %s:///%s?socket=PATH", u.Scheme, u.Host)
		}
		if a.Host = query.Get("socket"); a.Host == "" {
			return a, fmt.Errorf("no socket: write %s:///export?socket=PATH", u.Scheme)
		}
		if strings.ContainsRune(a.Host, 0) {
			return a, errors.New("NUL byte in the path of the socket")
		}
		a.Network = "unix"
		if a.TLS && a.Hostname == "" {
			a.Hostname = "localhost"
		}
	default:
		return a, fmt.Errorf("unknown scheme %q: nbd, nbds, nbd+unix and nbds+unix are known", u.Scheme)
	}
	return a, nil
}

// String returns the address as it was given to Parse.
func (a Address) String() string { return a.text }

// tlsConfig reads the certificates; nil without TLS.
func (a Address) tlsConfig() (*tls.Config, error) {
	if !a.TLS {
		return nil, nil
	}
	cfg := &tls.Config{ServerName: a.Hostname, MinVersion: tls.VersionTLS12}
	if a.Certificates == "" {
		return cfg, nil
	}
	name := filepath.Join(a.Certificates, "ca-cert.pem")
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("tls-certificates: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls-certificates: %s: no certificate in it", name)
	}
	cert, key := filepath.Join(a.Certificates, "client-cert.pem"), filepath.Join(a.Certificates, "client-key.pem")
	if _, err := os.Stat(cert); errors.Is(err, os.ErrNotExist) {
		return cfg, nil // the server may not ask
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls-certificates: %s: %w", cert, err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}
