package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/config"
)

// Whoever negotiated HTTP/2 speaks HTTP/2 or nothing: HTTP/1 would be read there
// without the guard's grammar.
func TestHTTP2Only(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	f := startFront(t, config.Limits{HeaderTimeout: 2 * time.Second}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a handler saw %s %s %s", r.Method, r.URL, r.Proto)
	})
	for _, test := range []struct {
		name, says string
		suites     []uint16
		closes     bool // the client, its side, after that
	}{
		{"HTTP/1", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil, false},
		{"HTTP/1, less than a preface", "GET / HTTP/1.0\r\n\r\n", nil, true},
		{"half a preface", "PRI * HTTP/2.0\r\n\r\n", nil, true},
		{"half a preface, and then nothing", "PRI * HTTP/2.0\r\n\r\n", nil, false},
		{"another preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", nil, false},
		{"a cipher suite that HTTP/2 prohibits", preface, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}, false},
	} {
		c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
		if test.suites != nil {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, test.suites
		}
		conn := tls.Client(dial(t, f).Conn, c)
		if err := conn.Handshake(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if _, err := io.WriteString(conn, test.says); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.closes {
			if err := conn.CloseWrite(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil || len(answer) > 0 {
			t.Errorf("%s: answered %q, %v, want the connection closed", test.name, answer, err)
		}
	}
}

// A handler knows that HTTP/2 came over TLS, whatever :scheme says.
func TestHTTP2Request(t *testing.T) {
	f := startFront(t, config.Limits{}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.TLS == nil || r.TLS.NegotiatedProtocol != "h2" || !r.TLS.HandshakeComplete {
			t.Errorf("%s over %+v", r.Proto, r.TLS)
		}
		_, _ = io.Copy(w, r.Body)
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for _, body := range []string{"", "a", strings.Repeat("b", 1<<20)} {
		res, err := client.Post("https://"+f.listener.Addr().String()+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(got) != body {
			t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(body))
		}
	}
}

// Of a flood of requests that are refused only some are held up, and the others reset.
func TestRefusedFloodOverHTTP2(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir)
	writeFile(t, filepath.Join(dir, "gateway.yaml"), "tls: {cert_file: cert.pem, key_file: key.pem}\nroutes: [{path: /, upstream: \"echo:\", access: authenticated}]\n")
	gw := startGateway(t, buildAsShipped(t), dir)
	floodRefused(t, gw)
	if metrics, err := get(gw.admin + "/metrics"); err != nil || !regexp.MustCompile(`\ngatehouse_requests_dropped_total [1-9]`).MatchString(metrics) {
		t.Errorf("no request was dropped, say the metrics: %v", err)
	}
}

// Refusals that were held up and are not taken count as if they still were: a client
// that opens no window has no more of them than one that waits.
func TestRefusalsNobodyTakes(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir)
	writeFile(t, filepath.Join(dir, "gateway.yaml"), "tls: {cert_file: cert.pem, key_file: key.pem}\nroutes: [{path: /, upstream: \"echo:\", access: authenticated}]\n")
	gw := startGateway(t, buildAsShipped(t), dir)
	conn, err := net.Dial("tcp", strings.TrimPrefix(gw.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := beginHTTP2On(t, conn)
	if err := c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	bad := append(headOf("/"), [2]string{"authorization", "Bearer of.bad.news"})
	told, whole, reset := 0, 0, 0
	// until reads until there have been that many.
	until := func(n *int, want int) {
		t.Helper()
		for *n < want {
			switch f, err := c.ReadFrame(); f := f.(type) {
			case nil:
				t.Fatalf("%d told, %d of them whole, %d reset: %v", told, whole, reset, err)
			case *http2.MetaHeadersFrame:
				if told++; f.PseudoValue("status") != "401" || !slices.ContainsFunc(f.Fields, func(h hpack.HeaderField) bool { return h.Name == "content-length" }) {
					t.Errorf("told %v", f.Fields)
				}
			case *http2.DataFrame:
				if f.StreamEnded() {
					whole++
				}
			case *http2.RSTStreamFrame:
				reset++
			}
		}
	}
	floodRefused(t, gw) // so that the next has to wait
	const held, more = 10, 15
	for range held + more {
		c.ask(bad, true)
	}
	until(&reset, more)
	until(&told, held)
	c.ask(bad, true)
	until(&reset, more+1)
	if err := c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}); err != nil {
		t.Fatal(err)
	}
	until(&whole, held)
	floodRefused(t, gw)
	c.ask(bad, true)
	until(&whole, held+1)
	if reset != more+1 || told != held+1 {
		t.Errorf("%d told and %d reset, want %d and %d", told, reset, held+1, more+1)
	}
}

// floodRefused asks for what is refused until a hundred of it is reset.
func floodRefused(t *testing.T, gw *liveGateway) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	var reset atomic.Int32
	var clients sync.WaitGroup
	for range 90 {
		clients.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, "GET", "https"+strings.TrimPrefix(gw.url, "http")+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer of.bad.news")
				res, err := client.Do(req)
				var stream http2.StreamError
				switch {
				case errors.As(err, &stream):
					if reset.Add(1) > 100 {
						stop()
					}
				case err == nil:
					res.Body.Close()
					if res.StatusCode != http.StatusUnauthorized {
						t.Errorf("answered %s", res.Status)
					}
				}
			}
		})
	}
	clients.Wait()
	if reset.Load() == 0 {
		t.Error("every request of a flood is answered")
	}
}
