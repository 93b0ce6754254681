package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/config"
)

// What the guard refuses is told in package proxy. Here: that it stands at the
// public listener, on both ways in, and that HTTP/2 gets past it.
func TestFrontIsGuarded(t *testing.T) {
	const smuggled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, certificates := range map[string]*tls.Config{"plain": nil, "tls": pairConfig(t)} {
		t.Run(name, func(t *testing.T) {
			f := startFront(t, config.Limits{}, certificates, func(w http.ResponseWriter, r *http.Request) {
				if (r.TLS != nil) != (certificates != nil) {
					t.Errorf("Request.TLS is %v", r.TLS)
				}
				if r.Method == "POST" {
					t.Errorf("%s %s was dispatched", r.Method, r.URL)
				}
			})
			conn := dial(t, f).Conn
			if certificates != nil {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(conn, strings.ReplaceAll(simpleRequest, "\n", "\r\n")+smuggled)
			br := bufio.NewReader(conn)
			for _, want := range []int{200, 400} {
				res, err := http.ReadResponse(br, nil)
				if err != nil || res.StatusCode != want {
					t.Fatalf("%v, %v, want %d", res, err, want)
				}
				io.Copy(io.Discard, res.Body)
			}
			if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v, want the connection closed", rest, err)
			}
		})
	}
}

func TestHTTP2PassesTheGuard(t *testing.T) {
	f := startFront(t, config.Limits{HeaderBytes: 4 << 10}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v", r.Proto, r.TLS != nil)
	})
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + f.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "HTTP/2.0 true" {
		t.Errorf("%q, want HTTP/2.0 over TLS", body)
	}
}

// TestHandshakes: they hold nobody up, and nothing up that is to end.
func TestHandshakes(t *testing.T) {
	f := startFront(t, config.Limits{}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {})
	silent := dial(t, f) // takes its time over the handshake
	plain := dial(t, f)
	if status, _, _ := plain.ask(simpleRequest); status != http.StatusBadRequest {
		t.Errorf("plain HTTP: status %d, want 400", status)
	}
	if conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", f.listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Errorf("behind a silent client: %v", err)
	} else {
		conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.drain(ctx); err != nil {
		t.Errorf("drain: %v", err)
	}
	silent.SetDeadline(time.Now().Add(10 * time.Second))
	var late net.Error
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("%v, want the connection closed", err)
	}
}
