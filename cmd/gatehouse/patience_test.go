package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"gatehouse/config"
)

// A client of HTTP/2 that takes its requests back loses its connection. One
// that takes back some of them, as a browser does, or asks with HEAD, keeps it.
func TestTakenBack(t *testing.T) {
	var mu sync.Mutex
	connections := map[string]bool{}
	arrived := make(chan struct{})
	f := startFront(t, config.Limits{}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		switch r.URL.Path {
		case "/wait":
			arrived <- struct{}{}
			<-r.Context().Done()
		case "/same":
			w.WriteHeader(http.StatusNotModified)
		default:
			_, _ = io.WriteString(w, "hello")
		}
	})
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ask := func(method, path string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+f.listener.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	takeBack := func(method string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "https://"+f.listener.Addr().String()+"/wait", nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := client.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		select {
		case <-arrived:
			cancel()
			<-done
		case <-done: // the connection was closed first
		}
	}
	for range maxTakenBack + 50 {
		ask("GET", "/")
		ask("GET", "/same")
		ask("HEAD", "/")
		takeBack("GET")
		takeBack("HEAD")
	}
	if len(connections) != 1 {
		t.Errorf("%d connections for a client that waits for most of its answers, want 1", len(connections))
	}
	for range maxTakenBack + 50 {
		takeBack("HEAD")
	}
	if len(connections) != 2 {
		t.Errorf("%d connections, want another one for a client that takes all of its requests back", len(connections))
	}
}

// What is no HTTP/2 is refused, told, and ends the connection, on which nothing
// else is then asked.
func TestMalformedHTTP2(t *testing.T) {
	good := headOf("/")
	for name, test := range map[string]struct {
		fields [][2]string
		status string
	}{
		"a field of a connection": {append(slices.Clone(good), [2]string{"connection", "close"}), "400"},
		"te":                      {append(slices.Clone(good), [2]string{"te", "gzip"}), "400"},
		"no path":                 {good[:3], "reset"},
		"a name in upper case":    {append(slices.Clone(good), [2]string{"X-Upper", "1"}), "reset"},
		"too many fields":         {append(slices.Clone(good), slices.Repeat([][2]string{{"x-many", strings.Repeat("x", 100)}}, 12)...), "431"},
		"too long a field":        {append(slices.Clone(good), [2]string{"x-long", strings.Repeat("x", 8<<10)}), "the end"},
	} {
		t.Run(name, func(t *testing.T) {
			var handled atomic.Int32
			f := startFront(t, config.Limits{HeaderBytes: 1 << 10}, pairConfig(t), func(http.ResponseWriter, *http.Request) { handled.Add(1) })
			var log lockedBuffer
			f.guard.Log = slog.New(slog.NewTextHandler(&log, nil))
			c := dialHTTP2(t, f)
			// told is what comes until the answer to the stream, or until the end.
			told := func(want uint32) (status string) {
				for {
					frame, err := c.ReadFrame()
					if err != nil {
						return "the end"
					}
					if frame.Header().StreamID != want {
						continue
					}
					switch frame := frame.(type) {
					case *http2.MetaHeadersFrame:
						if status = frame.PseudoValue("status"); frame.StreamEnded() {
							return status
						}
					case *http2.DataFrame:
						if frame.StreamEnded() {
							return status
						}
					case *http2.RSTStreamFrame:
						return "reset"
					}
				}
			}
			for range 3 {
				if told(c.ask(good, true)) != "200" {
					t.Fatal("an honest request is not answered")
				}
			}
			if got := told(c.ask(test.fields, true)); got != test.status {
				t.Errorf("answered by %q, want %q", got, test.status)
			}
			for range 3 {
				c.ask(good, true)
			}
			if got := told(0xffff); got != "the end" {
				t.Errorf("%s, want the end of the connection", got)
			}
			if n := handled.Load(); n != 3 {
				t.Errorf("%d requests were handled, want the 3 before", n)
			}
			if strings.Count(log.String(), "msg=\"connection refused\"") != 1 || !strings.Contains(log.String(), "client=127.0.0.1 decision=invalid_request reason=\"HTTP/2: ") {
				t.Errorf("the log says %q", log.String())
			}
		})
	}
}

func TestConnectionsAndFiles(t *testing.T) {
	for _, c := range []struct{ limit, files, clients, upstreams int }{
		{0, 0, 0, 0},
		{100, 0, 100, 0},
		{0, 1024, 464, 464},
		{100, 1024, 100, 828},
		{10000, 1024, 464, 464},
		{0, 32, 1, 1},
	} {
		if clients, upstreams := connections(c.limit, c.files); clients != c.clients || upstreams != c.upstreams {
			t.Errorf("connections(%d, %d) = %d, %d, want %d, %d", c.limit, c.files, clients, upstreams, c.clients, c.upstreams)
		}
	}
}
