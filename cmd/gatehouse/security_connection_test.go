package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// unread: an upstream that answers an expectation at once and never reads the
// body. What it did not read must not become the next request on that
// connection.
func unread(t *testing.T, b *hostileBed) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heads := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var seen strings.Builder
				buf := make([]byte, 64<<10)
				for { // reads heads only; what follows one in the same segment is lost
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					seen.Write(buf[:n])
					head, rest, is := strings.Cut(seen.String(), "\r\n\r\n")
					if !is {
						continue
					}
					seen.Reset()
					seen.WriteString(rest)
					heads <- head
					status := "200 OK"
					if strings.Contains(head, "/401") {
						status = "401 Unauthorized"
					}
					fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok", status)
				}
			}()
		}
	}()
	gw := serveHere(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: \"http://%s\"}]\n", l.Addr()))
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: gw.example\r\n\r\n"
	for _, target := range []string{"/200", "/401"} {
		for range 3 {
			rep := b.say(t, gw, post1(target, smuggled, "Expect: 100-continue")+get1("/next", "Connection: close"))
			if len(rep.statuses) == 0 || len(rep.statuses) > 2 {
				t.Errorf("%s: statuses %d", target, rep.statuses)
			}
		}
	}
	for len(heads) > 0 {
		if head := <-heads; !strings.HasPrefix(head, "POST /200 ") && !strings.HasPrefix(head, "POST /401 ") && !strings.HasPrefix(head, "GET /next ") {
			t.Errorf("on a kept connection: %q", head)
		}
	}
	return "arrives clean: the connection to the upstream is not used again (6 times)"
}

// fakeUpgrade: what follows a handshake that was refused is the next request.
func fakeUpgrade(t *testing.T, b *hostileBed) string {
	for _, status := range []string{"426 Upgrade Required", "200 OK", "404 Not Found"} {
		b.app.answering(t, func(conn net.Conn, c captured) bool {
			_, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nok", status)
			return err == nil
		})
		for way, gw := range b.gateways() {
			rep := b.say(t, gw, "GET /public/ws HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\n"+handshakeLines+"\r\n"+get1("/admin/tunnelled")+marker)
			var got []string
			for _, c := range b.app.take(t) {
				got = append(got, c.target())
			}
			var first int
			_, _ = fmt.Sscan(status, &first)
			if !slices.Equal(rep.statuses, []int{first, 401, 200}) || !slices.Equal(got, []string{"/public/ws", markerTarget}) {
				t.Errorf("%s, upstream says %s: %d, and %q arrived", way, status, rep.statuses, got)
			}
		}
	}
	return "what follows is judged as the next request, and refused with 401 (6 times)"
}

// extraBytes of an upstream are nobody's answer, and stand in no log.
func extraBytes(t *testing.T, b *hostileBed) string {
	b.app.answering(t, func(conn net.Conn, _ captured) bool {
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\notherswords")
		return err == nil
	})
	for way, gw := range b.gateways() {
		for range 5 {
			if rep := b.say(t, gw, get1("/public/a")+marker); !slices.Equal(rep.statuses, []int{200, 200}) || strings.Contains(rep.raw, "otherswords") {
				t.Errorf("%s: %d\n%s", way, rep.statuses, rep.raw)
			}
		}
		if strings.Contains(gw.stderr.String(), "otherswords") {
			t.Errorf("%s: the log has bytes of the upstream", way)
		}
	}
	b.app.take(t)
	return "they reach neither a client nor the log (10 times); that connection is closed"
}
