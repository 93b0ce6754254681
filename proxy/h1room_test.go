package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientFrom is a client at 127.0.0.host, with a connection for each request.
func clientFrom(host byte) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: -1}}
}

// Where there is no room for another connection to an upstream, an idle one gives
// way, of whichever upstream; where none is idle, the gateway is busy, and is not
// any more when one has ended.
func TestRoomForConnections(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	upstream := func() string {
		return upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				arrived <- struct{}{}
				select {
				case <-leave:
				case <-r.Context().Done():
				}
			}
		})
	}
	server, log := testGateway(t, fmt.Sprintf("routes: [{host: one.example, path: /, access: public, upstream: %q}, {host: two.example, path: /, access: public, upstream: %q}]", upstream(), upstream()))
	g := server.Config.Handler.(*Gateway)
	g.LimitConnections(2)
	ask := func(client byte, host, path string) (status int, body string) {
		r, err := http.NewRequestWithContext(withTimeout(t), "GET", server.URL+path, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		r.Host = host
		res, err := clientFrom(client).Do(r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	for range 10 { // each needs the other's place in the end
		for _, host := range []string{"one.example", "two.example"} {
			if status, body := ask(1, host, "/"); status != 200 {
				t.Fatalf("%s: %d %s", host, status, body)
			}
		}
	}
	waiting := make(chan int)
	for client := range byte(2) { // of one, one has its share
		go func() {
			status, _ := ask(1+client, "one.example", "/wait")
			waiting <- status
		}()
		<-arrived
	}
	if open := g.transports.room.open.Load(); open != 2 {
		t.Errorf("%d connections are open, want 2", open)
	}
	for _, host := range []string{"one.example", "two.example"} {
		if status, body := ask(3, host, "/"); status != 503 || !strings.Contains(body, `"busy"`) {
			t.Errorf("%s without room: %d %s, want busy", host, status, body)
		}
	}
	if !strings.Contains(log.String(), errNoRoom.Error()) {
		t.Errorf("the log does not say why:\n%s", log)
	}
	close(leave)
	for range 2 {
		if status := <-waiting; status != 200 {
			t.Errorf("who waited got %d", status)
		}
	}
	if status, body := ask(1, "two.example", "/"); status != 200 {
		t.Errorf("with room again: %d %s", status, body)
	}
	if room := &g.transports.room; room.taken != 0 || len(room.by) != 0 {
		t.Errorf("%d requests of %d clients are still counted", room.taken, len(room.by))
	}
	g.Close()
	for end := time.Now().Add(10 * time.Second); g.transports.room.open.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d places are not given back", g.transports.room.open.Load())
		}
	}
}

// A client that has as many connections to upstreams as are left gets no more of
// them, and others do: by what a trusted proxy says, where there is one.
func TestShareOfRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	arrived, leave := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(leave) })
	defer release()
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			arrived <- struct{}{}
			<-leave
		case "/socket":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			arrived <- struct{}{}
			<-leave
		}
	})
	server, log := testGateway(t, fmt.Sprintf("trusted_proxies: [127.0.0.7]\nroutes: [{path: /, access: public, upstream: %q}]", upstream))
	g := server.Config.Handler.(*Gateway)
	g.LimitConnections(most)
	ask := func(client byte, behind, path string) int {
		r, err := http.NewRequestWithContext(withTimeout(t), "GET", server.URL+path, nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		if behind != "" {
			r.Header.Set("X-Forwarded-For", behind)
		}
		if path == "/socket" {
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
				r.Header.Set(name, value)
			}
		}
		res, err := clientFrom(client).Do(r)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	answered := make(chan int)
	hold := func(client byte, behind, path string) {
		t.Helper()
		go func() { answered <- ask(client, behind, path) }()
		select {
		case <-arrived:
		case status := <-answered:
			t.Fatalf("%s of %d, behind it %q: %d", path, client, behind, status)
		}
	}
	for range most / 4 {
		hold(66, "", "/wait")
		hold(66, "192.0.2.9", "/socket") // its own word for it
	}
	if status := ask(66, "", "/"); status != 503 {
		t.Errorf("beyond its share: %d, want 503", status)
	}
	if !strings.Contains(log.String(), errCrowded.Error()) {
		t.Errorf("the log does not say why:\n%s", log)
	}
	hold(9, "", "/wait")
	hold(7, "192.0.2.1", "/wait")
	if status := ask(7, "192.0.2.1", "/"); status != 200 {
		t.Errorf("a second one of a client behind a proxy: %d, want 200", status)
	}
	hold(7, "192.0.2.1", "/socket")
	if status := ask(7, "192.0.2.1", "/"); status != 503 {
		t.Errorf("a third one of a client behind a proxy, where one is left: %d, want 503", status)
	}
	for range 2 { // the proxy itself, whose clients nobody knows
		if status := ask(7, "", "/"); status != 200 {
			t.Errorf("of a proxy: %d, want 200", status)
		}
	}
	release()
	for range most - 1 {
		if status := <-answered; status != 200 && status != 101 {
			t.Errorf("who was let in got %d", status)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		room := &g.transports.room
		room.mu.Lock()
		taken, clients := room.taken, len(room.by)
		room.mu.Unlock()
		if taken == 0 && clients == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d requests of %d clients are still counted", taken, clients)
		}
	}
}
