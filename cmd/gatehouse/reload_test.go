package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn"
)

// A hundred reloads, each with another route, upstream, limit and issuer, leave
// nothing behind; a request that is answered on a connection kept open all the
// time is answered by the newest.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	app := appServer(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Generation")) })
	yaml := func(n int) string {
		return fmt.Sprintf(`limits: {header_bytes: %d}
trusted_issuers:
  - {issuer: "https://issuer%d.example", audiences: [a], algorithms: [ES256], jwks_url: "http://127.0.0.1:1/%d"}
routes:
  - {name: r%d, path: /, access: public, upstream: "http://%s", set_headers: {Generation: "%d"}, timeout: %ds}
`, 10000+n, n, n, n, app, n, n+1)
	}
	gw := serveHere(t, yaml(0))
	kept := &http.Client{}
	defer kept.CloseIdleConnections()
	step := func(n int) {
		gw.write(t, yaml(n))
		gw.signals <- syscall.SIGHUP
		await(t, 10*time.Second, fmt.Sprintf("generation %d", n), func() bool {
			res, err := kept.Get(gw.url)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body) == fmt.Sprint(n)
		})
	}
	for n := 1; n <= 5; n++ {
		step(n)
	}
	goroutines, files := baseline(t)
	for n := 6; n <= 105; n++ {
		step(n)
	}
	settled(t, goroutines+3, files+2)
	metrics, err := get(gw.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(metrics, `route="r50"`) || !strings.Contains(metrics, `route="r105"`) {
		t.Error("the metrics keep routes that are gone, or lack the one there is")
	}
}

// baseline waits until goroutines and open files have been the same for a
// second, or for ten seconds, and returns how many there are: what is closed in
// the background must not count, nor what is opened again be missing.
func baseline(t *testing.T) (goroutines, files int) {
	t.Helper()
	same := time.Now()
	for end := same.Add(10 * time.Second); time.Since(same) < time.Second && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		g, f := settled(t, 0, 0)
		if g != goroutines || f != files {
			goroutines, files, same = g, f, time.Now()
		}
	}
	return goroutines, files
}

// settled waits until there are at most so many goroutines and open files, 0
// for any number, and returns how many there are.
func settled(t *testing.T, goroutines, files int) (int, int) {
	t.Helper()
	count := func() (int, int) {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("open files cannot be counted here: ", err)
		}
		return runtime.NumGoroutine(), len(open)
	}
	g, f := count()
	for end := time.Now().Add(60 * time.Second); goroutines > 0 && (g > goroutines || f > files); g, f = count() {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("%d goroutines and %d open files, want at most %d and %d\n%s", g, f, goroutines, files, stacks)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return g, f
}

func appServer(t *testing.T, handler http.HandlerFunc) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// Reloads under load: every request is answered, by one configuration or the
// other and never by a mix of both.
func TestReloadUnderLoad(t *testing.T) {
	yaml := func(word string) string {
		return fmt.Sprintf("routes: [{path: /, access: public, upstream: \"echo:\", set_headers: {A: %[1]s, B: %[1]s}, response_headers: {C: %[1]s}}]\n", word)
	}
	words := []string{"red", "blue"}
	gw := serveHere(t, yaml("red"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := client.Get(gw.url)
				if err != nil {
					t.Errorf("a request was dropped: %v", err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("status %d, %v", res.StatusCode, err)
					return
				}
				word := res.Header.Get("C")
				other := words[1-slices.Index(words, word)]
				// In quotes: "red" is in some request IDs.
				if !strings.Contains(string(body), `"`+word+`"`) || strings.Contains(string(body), `"`+other+`"`) {
					t.Errorf("a mix: the answer says %s, the upstream saw %s", word, body)
					return
				}
			}
		})
	}
	for n := range 30 {
		gw.write(t, yaml(words[n%2]))
		gw.signals <- syscall.SIGHUP
		await(t, 10*time.Second, "the reload", func() bool {
			res, err := http.Get(gw.url)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res.Header.Get("C") == words[n%2]
		})
	}
	close(stop)
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
}

func TestNeedsRestart(t *testing.T) {
	old := parse(t, "")
	for _, c := range []struct{ yaml, want string }{
		{"", ""},
		{"limits: {connections: 5}\npublic_url: https://other.example\n", ""},
		{"listen: 127.0.0.1:1", "gateway.yaml:1:1: listen cannot change"},
		{"admin: {listen: \"127.0.0.1:1\"}", "gateway.yaml:1:9: admin.listen cannot change"},
		{"data_dir: elsewhere", "gateway.yaml:1:1: data_dir cannot change"},
		{"users: {database: \"sqlite:secret.db\"}", "gateway.yaml:1:9: users.database cannot change"},
	} {
		err := needsRestart(old, parse(t, c.yaml))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v, want it allowed", c.yaml, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: the error shows the database: %v", c.yaml, err)
		}
	}
	redis := *old
	redis.Revocation.Store = "redis"
	if err := needsRestart(old, &redis); err == nil || !strings.Contains(err.Error(), "revocation.store cannot change") {
		t.Errorf("revocation.store: %v", err)
	}
}

// What throttles logins survives a reload that changes something else, and one
// that is refused.
func TestThrottleSurvivesReload(t *testing.T) {
	dir := t.TempDir()
	stores, err := openStoresToServe(t.Context(), parse(t, "data_dir: "+dir))
	if err != nil {
		t.Fatal(err)
	}
	defer stores.Close()
	build := func(yaml string) *accounts {
		acc, err := stores.accounts(parse(t, "data_dir: "+dir+"\n"+yaml))
		if err != nil {
			t.Fatal(err)
		}
		return acc
	}
	use := func(yaml string) *authn.Service {
		acc := build(yaml)
		stores.use(acc)
		return acc.service
	}
	const changed = "users: {throttle: {attempts: 3}, bcrypt_cost: 10}"
	first := use("")
	if again := use("log: {level: debug}"); again.Throttle != first.Throttle || again.Hasher != first.Hasher {
		t.Error("a reload forgot the failed logins")
	}
	build(changed) // and its tests: fail
	if again := use(""); again.Throttle != first.Throttle || again.Hasher != first.Hasher {
		t.Error("a reload that was refused forgot the failed logins")
	}
	if other := use(changed); other.Throttle == first.Throttle || other.Hasher == first.Hasher {
		t.Error("a reload kept a throttle of other numbers")
	}
}

func TestSums(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	writeFile(t, a, "one")
	before := sumsOf([]string{a, b})
	if !maps.Equal(before, sumsOf([]string{b, a})) {
		t.Error("equal contents have other sums")
	}
	writeFile(t, b, "") // empty is something else than absent
	if maps.Equal(before, sumsOf([]string{a, b})) {
		t.Error("a file that appeared has the same sums")
	}
}
