package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const handshakeLines = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func accepts(conn net.Conn, _ captured) bool {
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	_, _ = io.Copy(io.Discard, conn)
	return false
}

// upgradeNames: a handshake that names identity headers in Connection.
func upgradeNames(t *testing.T, b *hostileBed, credential string) string {
	b.app.answering(t, accepts)
	for way, gw := range b.gateways() {
		for _, connection := range []string{"Upgrade, X-Forwarded-User", "X-Forwarded-User, X-Forwarded-Groups, upgrade", "close, Upgrade, X-Forwarded-User, X-Gatehouse-Assertion"} {
			conn := b.dial(t, gw, "http/1.1")
			fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: gw.example\r\nX-Forwarded-User: admin\r\n%s\r\nConnection: %s\r\n%s\r\n", credential, connection, handshakeLines)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			conn.Close()
			if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s, Connection: %s: %v, %v, want 101", way, connection, res, err)
			}
			requests := b.app.take(t)
			if len(requests) != 1 || requests[0].err != nil {
				t.Fatalf("the upstream got %+v", requests)
			}
			for _, wrong := range requests[0].impostors("alice") {
				t.Error(wrong)
			}
			if got := requests[0].get("X-Forwarded-User"); !slices.Equal(got, []string{"u-alice"}) {
				t.Errorf("%s, Connection: %s: X-Forwarded-User %q", way, connection, got)
			}
		}
	}
	return "arrives clean, with 101"
}

// trustedProxy is a gateway behind a proxy that it believes.
func trustedProxy(t *testing.T, b *hostileBed) string {
	gw := serveHere(t, fmt.Sprintf("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]\npublic_url: https://gw.example\nroutes: [{path: /public, access: public, upstream: \"http://%s\"}, {path: /, upstream: \"http://%[1]s\"}]\n", b.app.Addr()))
	for _, c := range []struct {
		lines []string
		sees  []string
	}{
		{[]string{"X-Forwarded-User: admin", "X-Original-URL: /admin", "X-Forwarded-For: 6.6.6.6"}, []string{"!: admin", "!/admin", "X-Real-Ip: 6.6.6.6"}},
		{[]string{"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.1.1"}, []string{"X-Real-Ip: 203.0.113.9"}},
		{[]string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.9"}, []string{"X-Real-Ip: 203.0.113.9"}},
		{[]string{"X-Forwarded-For: 6.6.6.6, unknown"}, []string{"X-Real-Ip: 127.0.0.1", "!6.6.6.6"}},
		{[]string{"X-Forwarded-For: 6.6.6.6, ::ffff:10.0.0.1"}, []string{"X-Real-Ip: 6.6.6.6"}},
		{[]string{"X-Forwarded-For: [2001:db8::1%eth0]:80"}, []string{"X-Real-Ip: 2001:db8::1"}},
		{[]string{"X-Forwarded-For: 6.6.6.6, a b"}, []string{"X-Real-Ip: 127.0.0.1"}},
		{[]string{"X-Forwarded-Host: evil/x", "X-Forwarded-Proto: gopher"}, []string{"X-Forwarded-Host: gw.example", "X-Forwarded-Proto: http"}},
		{[]string{"X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6"}, []string{"X-Real-Ip: 127.0.0.1", "!X_Forwarded"}},
	} {
		rep := heard{reply: b.say(t, gw, get1("/public/a", c.lines...)+marker)}
		rep.collect(t, b)
		rep.tell()
		if rep.outcome != "clean" {
			t.Errorf("%q: %s", c.lines, rep.outcome)
		}
		for _, wrong := range rep.wrong(sent{raw: get1("/public/a"), sees: c.sees}) {
			t.Errorf("%q: %s", c.lines, wrong)
		}
	}
	return "arrives clean (9 times)"
}

// injectedLines: what a client says comes back, or into the log, as one line.
func injectedLines(t *testing.T, b *hostileBed) string {
	body := `{"email":"a\r\nSet-Cookie: x=1@example.com","password":"p\r\nX: y"}`
	form := "email=a%0d%0aSet-Cookie:+x%3D1&password=x&next=/%0d%0aX-Injected:1"
	for _, raw := range []string{
		get1("/login?next=/%0d%0aX-Injected:%201", "Accept: text/html"),
		get1("/login?next=%2f%0d%0aX-Injected:%201%0d%0a%0d%0a<script>", "Accept: text/html"),
		get1("/.gatehouse/login?next=%E5%98%8A%E5%98%8DX-Injected:1", "Accept: text/html"),
		get1("/secret?x=%0d%0aX-Injected:%201", "Sec-Fetch-Mode: navigate"),
		get1("/secret%0d%0aX-Injected:%201", "Sec-Fetch-Mode: navigate"),
		get1("/public/%0aX-Injected:1"),
		post1("/login", body, "Content-Type: application/json"),
		post1("/register", body, "Content-Type: application/json"),
		post1("/login", form, "Content-Type: application/x-www-form-urlencoded", "Accept: text/html"),
		get1("/public/a", "X-Request-Id: a\"b injected=1"),
	} {
		for way, gw := range b.gateways() {
			rep := b.say(t, gw, raw+marker)
			for i, res := range strings.Split(rep.raw, "HTTP/1.1 ")[1:] {
				head, _, _ := strings.Cut(res, "\r\n\r\n")
				for line := range strings.SplitSeq(head, "\r\n") {
					if name, _, _ := strings.Cut(line, ":"); strings.EqualFold(name, "X-Injected") || strings.Contains(line, "x=1") {
						t.Errorf("%s %.200q, answer %d: header line %q", way, raw, i, line)
					}
				}
			}
			if len(rep.statuses) != 2 {
				t.Errorf("%s %.200q: statuses %d", way, raw, rep.statuses)
			}
		}
	}
	b.app.take(t)
	for _, gw := range b.gateways() {
		for line := range strings.Lines(gw.stderr.String()) {
			if !strings.HasPrefix(line, "time=") || strings.Contains(line, " injected=1") {
				t.Errorf("log line %q", line)
			}
		}
	}
	return "answered or refused, and no line more in the answer or the log (20 times)"
}

// jsonOf reads an answer's body.
func jsonOf(t *testing.T, body string) (v struct {
	Error        string
	Message      string
	RequestID    string `json:"request_id"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return v
}
