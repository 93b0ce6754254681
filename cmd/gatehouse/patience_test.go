package main

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"testing"

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

func TestConnectionsAndFiles(t *testing.T) {
	for _, c := range []struct{ limit, files, clients, upstreams int }{
		{0, 0, 0, 0},
		{100, 0, 100, 0},
		{0, 1024, 480, 480},
		{100, 1024, 100, 860},
		{10000, 1024, 480, 480},
		{0, 32, 1, 1},
	} {
		if clients, upstreams := connections(c.limit, c.files); clients != c.clients || upstreams != c.upstreams {
			t.Errorf("connections(%d, %d) = %d, %d, want %d, %d", c.limit, c.files, clients, upstreams, c.clients, c.upstreams)
		}
	}
}
