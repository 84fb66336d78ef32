package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// A tlsFlags is how TCP listeners are encrypted.
type tlsFlags struct{ cert, key, clientCA string }

// config reads certificates and keys; nil if there is to be no TLS. mustShow says that a client without
// a certificate has no other way to prove who it is.
func (t tlsFlags) config(mustShow bool) (*tls.Config, error) {
	if t.cert == "" && t.key == "" && t.clientCA == "" {
		return nil, nil
	}
	if t.cert == "" || t.key == "" {
		return nil, usagef("TLS needs both --tls-cert and --tls-key")
	}
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", t.cert, t.key, pathError(err))
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	if t.clientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca %w", pathError(err))
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-client-ca %s: no certificate in it", t.clientCA)
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if mustShow {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// wrap puts TLS on the listeners that are TCP's.
func (t tlsFlags) wrap(ls []net.Listener, cfg *tls.Config) {
	if cfg == nil {
		return
	}
	for i, l := range ls {
		if _, ok := l.(*net.TCPListener); ok {
			ls[i] = tls.NewListener(l, cfg)
		}
	}
}
