package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/config"
)

// pairConfig serves a pair for localhost that is good today.
func pairConfig(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	if err := newPair(time.Now(), "localhost").write(filepath.Join(dir, "pair")); err != nil {
		t.Fatal(err)
	}
	c, err := certificates(tlsConfig(t, dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tlsConfig is a configuration with pair.crt and pair.key of dir.
func tlsConfig(t *testing.T, dir, more string) *config.Config {
	t.Helper()
	return parse(t, "public_url: https://localhost\ntls:\n  cert_file: "+dir+"/pair.crt\n  key_file: "+dir+"/pair.key\n"+more)
}

func TestCertificateProblems(t *testing.T) {
	good, other := newPair(time.Now(), "localhost"), newPair(time.Now(), "localhost")
	for _, c := range []struct {
		name           string
		cert, key, ca  string
		position, want string
	}{
		{"not PEM", "rubbish", string(good.key), "", "gateway.yaml:3:3: ", "failed to find any PEM data in certificate input"},
		{"empty", "", "", "", "gateway.yaml:3:3: ", "failed to find any PEM data"},
		{"another key", string(good.cert), string(other.key), "", "gateway.yaml:3:3: ", "private key does not match public key"},
		{"swapped", string(good.key), string(good.cert), "", "gateway.yaml:3:3: ", "PEM inputs may have been switched"},
		{"no client CA", string(good.cert), string(good.key), "rubbish", "gateway.yaml:5:3: ", "no certificate in it, want PEM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, dir+"/pair.crt", c.cert)
			writeFile(t, dir+"/pair.key", c.key)
			more := ""
			if c.ca != "" {
				writeFile(t, dir+"/ca.crt", c.ca)
				more = "  client_ca_file: " + dir + "/ca.crt\n"
			}
			_, err := certificates(tlsConfig(t, dir, more))
			if err == nil || !strings.HasPrefix(err.Error(), c.position) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("certificates: %v, want %q and %q", err, c.position, c.want)
			}
			if strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), "rubbish") {
				t.Errorf("the error shows the file: %v", err)
			}
		})
	}
	if c, err := certificates(parse(t, "")); c != nil || err != nil {
		t.Errorf("without tls: %v, %v, want nothing", c, err)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	if err := newPair(now, "localhost").write(dir + "/pair"); err != nil {
		t.Fatal(err)
	}
	cfg := tlsConfig(t, dir, "")
	c, err := certificates(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		when time.Time
		want string
	}{
		{now, ""},
		{now.Add(48 * time.Hour), "the certificate expired on "},
		{now.Add(-48 * time.Hour), "the certificate is not valid before "},
	} {
		got := expiry(cfg, c, at.when)
		if at.want == "" && len(got) > 0 || at.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0].Text, at.want)) {
			t.Errorf("expiry at %v = %v, want %q", at.when, got, at.want)
		}
	}
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	f := startFront(t, config.Limits{}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {})
	address := f.listener.Addr().String()
	handshake := func(c *tls.Config) (tls.ConnectionState, error) {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", address, c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	if _, err := handshake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if state, err := handshake(&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}); err != nil || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("TLS 1.2: %q, %v", state.NegotiatedProtocol, err)
	}
	if state, err := handshake(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
		t.Errorf("TLS 1.3: %x %q, %v", state.Version, state.NegotiatedProtocol, err)
	}
}

// A session that was begun before client certificates were asked for does not
// get around them.
func TestClientCertificateCannotBeResumedAround(t *testing.T) {
	dir := t.TempDir()
	if err := newPair(time.Now(), "localhost").write(dir + "/pair"); err != nil {
		t.Fatal(err)
	}
	ca := newPair(time.Now(), "clients")
	if err := ca.write(dir + "/clients"); err != nil {
		t.Fatal(err)
	}
	open, err := certificates(tlsConfig(t, dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	mutual := tlsConfig(t, dir, "  client_ca_file: "+dir+"/clients.crt\n")
	closed, err := certificates(mutual)
	if err != nil {
		t.Fatal(err)
	}
	f := startFront(t, config.Limits{}, open, func(w http.ResponseWriter, r *http.Request) {})
	sessions := tls.NewLRUClientSessionCache(4)
	ask := func(own ...tls.Certificate) error {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			RootCAs: rootsOf(t, dir+"/pair.crt"), ServerName: "localhost", Certificates: own, ClientSessionCache: sessions,
		}}}
		res, err := client.Get("https://" + f.listener.Addr().String())
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	f.use(mutual, 0, closed)
	if err := ask(); err == nil {
		t.Error("no client certificate, and accepted")
	}
	stranger := newPair(time.Now(), "clients")
	if err := ask(stranger.certificate(t)); err == nil {
		t.Error("a stranger's certificate was accepted")
	}
	if err := ask(ca.certificate(t)); err != nil {
		t.Errorf("a client of the CA: %v", err)
	}
}

func (p pair) certificate(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rootsOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}
