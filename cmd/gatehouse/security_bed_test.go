package main

// What the cases of the security table stand on: gateways as serve builds them,
// plain and with TLS, an upstream that keeps every byte it gets, and clients
// that speak raw bytes.

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A hostileBed is two gateways with the same rules and keys, and the upstreams
// of their two hosts.
type hostileBed struct {
	plain, secure *servedGateway
	app, other    *capturing
	keys          *forgers
}

// The rules: /public is for everybody, /api for whoever is signed in, /admin for
// one role, and so is all of the other host. Everything else is for whoever is
// signed in.
const hostileRules = `
public_url: https://gw.example
log: {level: debug}
limits: {header_timeout: 5s}
users: {bcrypt_cost: 4, password: {min_strength: 0}, throttle: {attempts: 1000}}
identity: {assertion: {enabled: true}}
tokens:
  keys:
    - {id: es, algorithm: ES256, private_key_file: KEYS/es.pem}
    - {id: rs, algorithm: RS256, private_key_file: KEYS/rs.pem}
    - {id: hs, algorithm: HS256, secret_file: KEYS/hs}
routes:
  - {path: /, upstream: "http://APP"}
  - {path: /public, access: public, upstream: "http://APP"}
  - {path: /public/small, access: public, max_body_bytes: 1000, upstream: "http://APP"}
  - {path: /public/slow, access: public, timeout: 1s, upstream: "http://APP"}
  - {path: /api, upstream: "http://APP", csrf: "off"}
  - {path: /ws, upstream: "http://APP"}
  - {path: /token, forward_token: true, upstream: "http://APP"}
  - {path: /strip, strip_prefix: /strip, access: public, upstream: "http://APP"}
  - {path: /read, methods: [GET], access: public, upstream: "http://APP"}
  - {path: /admin, access: {roles: [admin]}, upstream: "http://APP"}
  - {host: other.example, path: /, access: {roles: [other]}, upstream: "http://OTHER"}
`

func newHostileBed(t *testing.T) *hostileBed {
	b := &hostileBed{app: newCapturing(t), other: newCapturing(t), keys: newForgers(t)}
	dir := t.TempDir()
	b.keys.write(t, dir)
	rules := strings.NewReplacer("APP", b.app.Addr().String(), "OTHER", b.other.Addr().String(), "KEYS", dir).Replace(hostileRules)
	b.plain = serveHere(t, rules)
	if err := newPair(time.Now(), "gw.example").write(filepath.Join(dir, "tls")); err != nil {
		t.Fatal(err)
	}
	b.secure = serveHere(t, rules+fmt.Sprintf("tls: {cert_file: %[1]s/tls.crt, key_file: %[1]s/tls.key}\n", dir))
	return b
}

// gateways are the ways in for HTTP/1.
func (b *hostileBed) gateways() map[string]*servedGateway {
	return map[string]*servedGateway{"plain": b.plain, "tls": b.secure}
}

func (gw *servedGateway) address() string {
	u, err := url.Parse(gw.url)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// dial connects to one of the gateways; protocol is none, or what to negotiate.
func (b *hostileBed) dial(t *testing.T, gw *servedGateway, protocol string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", gw.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if gw != b.secure {
		return conn
	}
	c := &tls.Config{InsecureSkipVerify: true, ServerName: "gw.example"}
	if protocol != "" {
		c.NextProtos = []string{protocol}
	}
	return tls.Client(conn, c)
}

// A reply is what came back on one connection until it was closed.
type reply struct {
	statuses []int // final ones
	hints    []int // 1xx
	raw      string
	last     *http.Response // header of the first final answer
	body     string         // of the first final answer
	cut      bool           // the first final answer was cut short
}

// say sends raw to gw and reads until the gateway closes the connection.
func (b *hostileBed) say(t *testing.T, gw *servedGateway, raw string) reply {
	t.Helper()
	conn := b.dial(t, gw, "http/1.1")
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, raw) // fails when it is refused before its end
	}()
	return hear(conn)
}

// hear reads answers until the connection ends.
func hear(conn io.Reader) (rep reply) {
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(conn, &raw))
	defer func() { rep.raw = raw.String() }()
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return rep
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			rep.hints = append(rep.hints, res.StatusCode)
			continue
		}
		body, err := io.ReadAll(res.Body)
		if rep.last == nil {
			rep.last, rep.body, rep.cut = res, string(body), err != nil
		}
		rep.statuses = append(rep.statuses, res.StatusCode)
		if err != nil || res.StatusCode == http.StatusSwitchingProtocols {
			return rep
		}
	}
}

// A capturing upstream keeps the bytes of each connection and takes them apart
// by the strictest reading there is. answer writes what comes back; nil is a
// plain 200.
type capturing struct {
	net.Listener
	mu       sync.Mutex
	changed  sync.Cond
	tagged   []sent // the header X-Case is an index
	started  int    // requests of which the first byte has come
	requests []captured
	answer   func(conn net.Conn, c captured) (more bool)
}

// captured is one request as it arrived.
type captured struct {
	line            string
	fields, trailer [][2]string
	body            string
	closes          bool  // asked to close the connection
	err             error // io.ErrUnexpectedEOF: was aborted; else what was not understood
}

func (c *captured) target() string {
	_, rest, _ := strings.Cut(c.line, " ")
	target, _, _ := strings.Cut(rest, " ")
	return target
}

// get are the values of the fields whose name is name in some case.
func (c *captured) get(name string) (values []string) {
	for _, f := range c.fields {
		if strings.EqualFold(f[0], name) {
			values = append(values, f[1])
		}
	}
	return values
}

func newCapturing(t *testing.T) *capturing {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &capturing{Listener: l}
	u.changed.L = &u.mu
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(conn)
		}
	}()
	return u
}

func (u *capturing) serve(conn net.Conn) {
	defer conn.Close()
	br := bufio.NewReaderSize(conn, 64<<10)
	for {
		if _, err := br.Peek(1); err != nil {
			return
		}
		u.mu.Lock()
		u.started++
		u.changed.Broadcast()
		u.mu.Unlock()
		c, err := readCaptured(br, conn)
		u.mu.Lock()
		answer := u.answer
		c.err = err
		u.requests = append(u.requests, c)
		u.changed.Broadcast()
		u.mu.Unlock()
		if err != nil {
			return
		}
		if answer == nil || c.target() == markerTarget {
			answer = plainly
		}
		if !answer(conn, c) {
			return
		}
	}
}

func plainly(conn net.Conn, c captured) bool {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
	if strings.HasPrefix(c.line, "HEAD ") {
		answer = answer[:len(answer)-2]
	}
	_, err := io.WriteString(conn, answer)
	return err == nil && !c.closes
}

// tag is the X-Case of s. A request that was broken off ends by itself, and may
// reach the upstream when the next case is on.
func (u *capturing) tag(s sent) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tagged = append(u.tagged, s)
	return fmt.Sprint(len(u.tagged) - 1)
}

// take returns what has arrived, once nothing is half there, and forgets it.
// Requests of another case than tag are late: they must be broken off, and say
// who was verified then.
func (u *capturing) take(t *testing.T, tag ...string) (requests []captured) {
	t.Helper()
	u.wait(t, "every request at the upstream is complete or aborted", func() bool { return u.started == len(u.requests) })
	u.mu.Lock()
	defer u.mu.Unlock()
	requests, u.requests, u.started = u.requests, nil, 0
	return slices.DeleteFunc(requests, func(c captured) bool {
		of := c.get("X-Case")
		if len(of) != 1 || slices.Contains(tag, of[0]) {
			return false
		}
		var i int
		_, _ = fmt.Sscan(of[0], &i)
		if wrong := c.impostors(u.tagged[i].as); wrong != nil || c.err == nil {
			t.Errorf("late: %q %s", wrong, c.lines())
		}
		return true
	})
}

// answering makes the upstream answer like this until the test ends.
func (u *capturing) answering(t *testing.T, answer func(conn net.Conn, c captured) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
	t.Cleanup(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.answer = nil
	})
}

// wait returns when what it is told of is true.
func (u *capturing) wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(20*time.Second, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		late = true
		u.changed.Broadcast()
	})
	defer timer.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for !is() && !late {
		u.changed.Wait()
	}
	if late {
		t.Fatalf("%s: not so after 20 s", what)
	}
}
