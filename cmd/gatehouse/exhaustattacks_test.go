package main

// The attacks of TestExhaustion that speak HTTP/1.1.

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// each runs attempt in many places at once, again and again until it is enough, in
// each place once at least.
func (b *bed) each(attempt func()) {
	b.eachPlace(func(int) { attempt() })
}

// eachPlace is each for an attempt that goes by its place.
func (b *bed) eachPlace(attempt func(place int)) {
	var places sync.WaitGroup
	for i := range b.many {
		places.Go(func() {
			for {
				if attempt(i); b.enough.Err() != nil {
					return
				}
			}
		})
	}
	places.Wait()
}

// dial is a stranger's connection, closed when the attempt is over.
func (b *bed) dial(c *tally, use func(net.Conn)) { b.dialFrom(0, 66, c, use) }

func (b *bed) dialFrom(x, y byte, c *tally, use func(net.Conn)) {
	conn, err := b.from(x, y)
	if err != nil {
		c.add("no connection")
		return
	}
	defer conn.Close()
	use(conn)
}

// hangUp waits until the gateway closes conn, and says what it answered.
func hangUp(conn net.Conn) string {
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		return fmt.Sprint(res.StatusCode)
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return "left open"
	}
	return "closed"
}

// drip sends a byte now and then until the gateway closes conn, or ctx ends
// and the gateway has had a chance.
func drip(ctx context.Context, conn net.Conn) string {
	said := make(chan string, 1)
	go func() { said <- hangUp(conn) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case what := <-said:
			return what
		case <-tick.C:
			_, _ = io.WriteString(conn, "a") // the reader notices
		case <-ctx.Done():
			return "still open"
		}
	}
}

func (b *bed) slowHeads(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) {
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-Slow: ", b.address)
			c.add(drip(context.Background(), conn))
		})
	})
}

// slowHandshakes are connections on which TLS never begins.
func (b *bed) slowHandshakes(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) { c.add(hangUp(conn)) })
	})
}

func (b *bed) slowUploads(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) { c.add(b.upload(ctx, conn)) })
	})
}

// upload sends a body that does not end while the attack lasts.
func (b *bed) upload(ctx context.Context, conn net.Conn) string {
	fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n", b.address, b.token)
	return drip(ctx, conn)
}

func (b *bed) slowLogins(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) {
			fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", b.address)
			c.add(drip(context.Background(), conn))
		})
	})
}

// slowReaders ask for much and read nothing of it.
func (b *bed) slowReaders(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) {
			fmt.Fprintf(conn, "GET /large HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", b.address, b.token)
			c.add(cut(conn))
		})
	})
}

// cut waits until the system says that the gateway has ended conn, of which
// nothing is read.
func cut(conn net.Conn) string {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if gone(conn.(*net.TCPConn)) {
			return "closed"
		}
	}
	return "left open"
}

// gone asks the system for an error of a connection, without reading from it.
func gone(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	var code int
	err = raw.Control(func(fd uintptr) { code, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
	return err != nil || code != 0
}

// idle connections have said nothing, or have had one answer.
func (b *bed) idle(ctx context.Context, c *tally) {
	var open sync.WaitGroup
	for i := range b.many {
		open.Go(func() {
			begun := time.Now()
			b.dial(c, func(conn net.Conn) {
				if i%2 == 0 {
					c.add(hangUp(conn))
					return
				}
				conn.SetDeadline(time.Now().Add(60 * time.Second))
				r := bufio.NewReader(conn)
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", b.address, b.token)
				res, err := http.ReadResponse(r, nil)
				if errors.Is(err, syscall.ECONNRESET) || err == io.ErrUnexpectedEOF {
					c.add(map[bool]string{true: "closed", false: gaveWay}[time.Since(begun) >= bedHeadTimeout]) // it was sent too late
					return
				}
				if err != nil {
					c.add(err.Error())
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				c.add(fmt.Sprint(res.StatusCode))
				if _, err := r.ReadByte(); err == io.EOF {
					c.add("closed")
				} else {
					c.add("left open")
				}
			})
		})
	}
	open.Wait()
}

// stay is idle, for as long as the attack lasts.
func (b *bed) stay(ctx context.Context, c *tally) {
	var open sync.WaitGroup
	for i := range b.many {
		open.Go(func() {
			b.dial(c, func(conn net.Conn) {
				context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
				r := bufio.NewReader(conn)
				if i%2 == 0 && strings.HasPrefix(b.url, "http:") {
					fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", b.address, b.token)
					if res, err := http.ReadResponse(r, nil); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						c.add(fmt.Sprint(res.StatusCode))
					}
				}
				if _, err := r.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) {
					c.add("still open")
				} else {
					c.add("closed")
				}
			})
		})
	}
	open.Wait()
}

// refresh has uploads, and connections that are idle for less than a moment, beside
// other clients with one idle connection each.
func (b *bed) refresh(ctx context.Context, c *tally) {
	b.eachPlace(func(place int) {
		switch place % 3 {
		case 0:
			b.dial(c, func(conn net.Conn) { c.add(b.upload(ctx, conn)) })
		case 1:
			b.dial(c, func(conn net.Conn) { b.nowAndThen(ctx, conn, c, 300*time.Millisecond) })
		default:
			b.dialFrom(1, byte(place), c, func(conn net.Conn) { b.nowAndThen(ctx, conn, c, time.Minute) })
		}
	})
}

// nowAndThen asks for something, every so often.
func (b *bed) nowAndThen(ctx context.Context, conn net.Conn, c *tally, pause time.Duration) {
	r := bufio.NewReader(conn)
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	for {
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", b.address, b.token)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			c.add("closed")
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		c.add(fmt.Sprint(res.StatusCode))
		conn.SetReadDeadline(time.Now().Add(pause))
		if ctx.Err() != nil { // it may have ended before
			return
		}
		if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			c.add("closed")
			return
		}
		conn.SetReadDeadline(time.Time{})
		if ctx.Err() != nil {
			return
		}
	}
}

// together three addresses upload, and a fourth has what is left.
func (b *bed) together(ctx context.Context, c *tally) {
	b.eachPlace(func(place int) {
		host := byte(66 + place%4)
		b.dialFrom(0, host, c, func(conn net.Conn) {
			if host < 69 {
				c.add(b.upload(ctx, conn))
				return
			}
			defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
			_, _ = conn.Read(make([]byte, 1))
		})
	})
}

// headerFlood sends more lines, and longer ones, than a head may have.
func (b *bed) headerFlood(ctx context.Context, c *tally) {
	lines := strings.Repeat("X-Flood: 1\r\n", 5000)
	line := "X-Flood: " + strings.Repeat("x", 1<<20) + "\r\n"
	b.each(func() {
		for _, flood := range []string{lines, line} {
			b.dial(c, func(conn net.Conn) {
				go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", b.address, flood)
				c.add(hangUp(conn))
			})
		}
	})
}

// websockets are opened and then say nothing.
func (b *bed) websockets(ctx context.Context, c *tally) {
	b.each(func() {
		b.dial(c, func(conn net.Conn) {
			fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", b.address, b.token)
			c.add(hangUp(conn))
			<-ctx.Done()
		})
	})
}

// strangerClient keeps its connections.
func (b *bed) strangerClient() *http.Client {
	return &http.Client{
		Timeout:       60 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConnsPerHost: b.many, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return b.stranger()
		}},
	}
}

// ask sends requests of a stranger, each another one.
func (b *bed) ask(ctx context.Context, c *tally, next func() *http.Request) {
	client := b.strangerClient()
	defer client.CloseIdleConnections()
	b.each(func() {
		res, err := client.Do(next())
		if err != nil {
			c.add("no answer")
			return
		}
		defer res.Body.Close()
		var body struct{ Error string }
		_ = json.NewDecoder(res.Body).Decode(&body)
		_, _ = io.Copy(io.Discard, res.Body)
		c.add(strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", body.Error)))
	})
}

func (b *bed) request(method, path, body string, header ...string) *http.Request {
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		panic(err) // of ours
	}
	req.Header.Set("Content-Type", "application/json")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	return req
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (b *bed) logins(ctx context.Context, c *tally) {
	b.ask(ctx, c, func() *http.Request {
		return b.request("POST", "/login", fmt.Sprintf(`{"email":"%x@example.com","password":"%x"}`, random(8), random(16)))
	})
}

func (b *bed) registrations(ctx context.Context, c *tally) {
	b.ask(ctx, c, func() *http.Request {
		return b.request("POST", "/register", fmt.Sprintf(`{"email":"%x@example.com","password":"%x"}`, random(8), random(16)))
	})
}

// badTokens differ from a good one in the signature alone.
func (b *bed) badTokens(ctx context.Context, c *tally) {
	signed := b.token[:strings.LastIndexByte(b.token, '.')+1]
	b.ask(ctx, c, func() *http.Request {
		return b.request("GET", "/", "", "Authorization: Bearer "+signed+base64.RawURLEncoding.EncodeToString(random(64)))
	})
}

// badRefreshes are of the right form, and of no session.
func (b *bed) badRefreshes(ctx context.Context, c *tally) {
	b.ask(ctx, c, func() *http.Request {
		token := "gr_" + hex.EncodeToString(random(16)) + "." + base64.RawURLEncoding.EncodeToString(random(48))
		return b.request("POST", "/.gatehouse/refresh", "", "Cookie: gatehouse-refresh="+token)
	})
}

// revocations are what one user makes by signing in and out.
func (b *bed) revocations(ctx context.Context, c *tally) {
	client := b.strangerClient()
	defer client.CloseIdleConnections()
	b.each(func() {
		body := `{"email":"ann@example.com","password":"` + goodPassword + `"}`
		begun := time.Now()
		for _, path := range []string{"/login", "/logout"} {
			req := b.request("POST", path, body)
			if path == "/logout" {
				req = b.request("POST", path, "{}", "Authorization: Bearer "+body)
			}
			res, err := client.Do(req)
			if err != nil {
				c.add("no answer")
				return
			}
			var answer struct {
				AccessToken string `json:"access_token"`
				Error       string
			}
			_ = json.NewDecoder(res.Body).Decode(&answer)
			res.Body.Close()
			outcome := strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", answer.Error))
			// In whole seconds, as tokens have it.
			if path == "/logout" && outcome == "401 invalid_token" && time.Now().Unix() >= begun.Add(bedTTL).Unix() {
				outcome = "expired"
			}
			c.add(outcome)
			if body = answer.AccessToken; body == "" {
				return
			}
		}
	})
}

// logFlood makes log lines as long as they get. Nobody reads the log.
func (b *bed) logFlood(ctx context.Context, c *tally) {
	b.ask(ctx, c, func() *http.Request {
		return b.request("GET", "/"+strings.Repeat("x", 4000)+"/;/%2e", "")
	})
}
