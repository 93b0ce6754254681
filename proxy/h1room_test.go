package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

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
	ask := func(host, path string) (status int, body string) {
		r, err := http.NewRequestWithContext(withTimeout(t), "GET", server.URL+path, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		r.Host = host
		res, err := http.DefaultClient.Do(r)
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
			if status, body := ask(host, "/"); status != 200 {
				t.Fatalf("%s: %d %s", host, status, body)
			}
		}
	}
	waiting := make(chan int)
	for range 2 {
		go func() {
			status, _ := ask("one.example", "/wait")
			waiting <- status
		}()
		<-arrived
	}
	if open := g.transports.room.open.Load(); open != 2 {
		t.Errorf("%d connections are open, want 2", open)
	}
	for _, host := range []string{"one.example", "two.example"} {
		if status, body := ask(host, "/"); status != 503 || !strings.Contains(body, `"busy"`) {
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
	if status, body := ask("two.example", "/"); status != 200 {
		t.Errorf("with room again: %d %s", status, body)
	}
	g.Close()
	for end := time.Now().Add(10 * time.Second); g.transports.room.open.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d places are not given back", g.transports.room.open.Load())
		}
	}
}
