package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"gatehouse/config"
)

// certificates is what the tls: section asks for, or nil where it asks for
// nothing. A reload makes another one, so that a new pair, a new client CA and
// new session tickets come into force together, for connections from then on.
// A broken pair is an error, and the reload keeps what was there.
func certificates(cfg *config.Config) (*tls.Config, error) {
	t := cfg.TLS
	if t.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		p := cfg.Problem("tls.cert_file", "tls.cert_file and tls.key_file: %v", err)
		p.Hint = fmt.Sprintf("want a certificate chain in %q and its private key in %q, both PEM", t.CertFile, t.KeyFile)
		return nil, p
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if t.ClientCAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, cfg.Problem("tls.client_ca_file", "tls.client_ca_file: %v", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, cfg.Problem("tls.client_ca_file", "tls.client_ca_file %q: no certificate in it, want PEM", t.ClientCAFile)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

// expiry warns of a pair that browsers refuse by now. It is served all the
// same: refusing to start would help nobody.
func expiry(cfg *config.Config, c *tls.Config, now time.Time) []config.Problem {
	if c == nil {
		return nil
	}
	leaf := c.Certificates[0].Leaf
	switch {
	case now.After(leaf.NotAfter):
		return []config.Problem{cfg.Problem("tls.cert_file", "the certificate expired on %s", leaf.NotAfter.Format(time.RFC3339))}
	case now.Before(leaf.NotBefore):
		return []config.Problem{cfg.Problem("tls.cert_file", "the certificate is not valid before %s", leaf.NotBefore.Format(time.RFC3339))}
	}
	return nil
}
