package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/config"
)

func parseWhole(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("gateway.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// findingsOf is what doctor says of one upstream.
func findingsOf(t *testing.T, yaml string, change ...func(*doctor)) []finding {
	t.Helper()
	d := doctor{cfg: parseWhole(t, yaml), timeout: 10 * time.Second, addresses: func() ([]net.IP, error) { return nil, nil }}
	for _, f := range change {
		f(&d)
	}
	d.upstreams(t.Context())
	return d.findings
}

func TestDoctorTellsBelievers(t *testing.T) {
	for _, c := range []struct {
		name, level, text string
		config            string
		app               http.HandlerFunc
	}{
		{"shows the user", levelNote, "shows the forged user", "", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "hello ", r.Header.Get("X-Forwarded-User"))
		}},
		{"shows it in a header", levelNote, "shows the forged user", "", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-User", r.Header.Get("X-Forwarded-Email"))
		}},
		{"lets it in", levelNote, "200 instead of 401", "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-User") == "" {
				w.WriteHeader(401)
			}
		}},
		{"lets admins in", levelNote, "200 instead of 403", "", func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("X-Forwarded-Groups"), "admin") {
				w.WriteHeader(403)
			}
		}},
		{"looks for it, and finds nothing", levelNote, "404 instead of 302", "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-User") == "" {
				http.Redirect(w, r, "/login", http.StatusFound)
				return
			}
			http.NotFound(w, r)
		}},
		{"gives it a session", levelNote, "a session", "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-User") != "" {
				http.SetCookie(w, &http.Cookie{Name: "s", Value: "1"})
			}
		}},
		{"another header", levelNote, "shows the forged user", "identity: {headers: {Remote-User: \"{email}\"}}\n", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Remote-User")) }},
		{"an assertion it does not verify", levelNote, "nobody has signed", "identity: {assertion: {enabled: true}}\n", func(w http.ResponseWriter, r *http.Request) {
			_, rest, _ := strings.Cut(r.Header.Get("X-Gatehouse-Assertion"), ".")
			payload, _, _ := strings.Cut(rest, ".")
			claims, _ := base64.RawURLEncoding.DecodeString(payload)
			_, _ = w.Write(claims)
		}},
		{"wants an assertion", levelOK, "do not help", "identity: {assertion: {enabled: true}}\n", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }},
		{"sends everybody to its login", levelOK, "do not help", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }},
		{"says the same to everybody", levelUnknown, "could not be told", "", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }},
		{"has nothing there", levelUnknown, "could not be told", "", http.NotFound},
		{"is broken", levelUnknown, "cannot be reached", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex // an answer that is broken off orders nothing
			var sent []string
			app := appServer(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				sent = slices.AppendSeq(sent, maps.Keys(r.Header))
				mu.Unlock()
				c.app(w, r)
			})
			yaml := func(host string) string {
				return fmt.Sprintf("%sroutes: [{path: /, upstream: \"http://%s\", set_headers: {X-App-Key: hunter2}}]\n", c.config, host)
			}
			got := findingsOf(t, yaml(app))
			if len(got) != 1 || got[0].Level != c.level || !strings.Contains(got[0].Text, c.text) {
				t.Errorf("%+v, want %s: …%s…", got, c.level, c.text)
			}
			mu.Lock()
			defer mu.Unlock()
			if i := slices.IndexFunc(sent, func(name string) bool { return slices.Contains([]string{"X-App-Key", "Authorization", "Cookie"}, name) }); i >= 0 {
				t.Errorf("doctor sends %s", sent[i])
			}
		})
	}
}

// The same app, where others might reach it too.
func TestDoctorElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	second, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skip("no second address to listen on: ", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-User")) })}
	go func() { _ = server.Serve(l) }()
	go func() { _ = server.Serve(second) }()
	defer server.Close()
	yaml := fmt.Sprintf("routes: [{path: /, upstream: \"http://localhost:%s\"}]\n", port)
	at := func(d *doctor) {
		d.addresses = func() ([]net.IP, error) { return []net.IP{net.IPv4(127, 0, 0, 2)}, nil }
	}
	got := findingsOf(t, yaml, at)
	if len(got) != 2 || got[1].Level != levelWrong || !strings.Contains(got[1].Text, "around the gateway, at 127.0.0.2:"+port+"; believes forged headers") {
		t.Errorf("listening on every address: %+v", got)
	}
	second.Close()
	if got := findingsOf(t, yaml, at); len(got) != 1 || got[0].Level != levelNote {
		t.Errorf("on the loopback only: %+v", got)
	}

	// An upstream that is not on this machine, as far as its name tells.
	up := newBypassed("http://app.internal:" + port)
	d := doctor{cfg: parseWhole(t, yaml), timeout: 10 * time.Second}
	up.routes = append(up.routes, &d.cfg.Routes[0])
	v := d.call(t.Context(), up, "127.0.0.1:"+port)
	d.judge(up, v, levelWrong, up.base.Host)
	if len(d.findings) != 1 || d.findings[0].Level != levelWrong || d.findings[0].Hint == "" {
		t.Errorf("elsewhere: %+v", d.findings)
	}
	if got := findingsOf(t, "routes: [{path: /, upstream: \"http://app.invalid:1\"}]\n", func(d *doctor) { d.private = []string{"app.invalid"} }); len(got) != 1 || got[0].Level != levelUnknown {
		t.Errorf("nowhere: %+v", got)
	}
}

// An upstream that takes its time, or everything, does not hold doctor up.
func TestDoctorDoesNotWaitForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	endless := appServer(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("a", 4096)); err != nil {
				return
			}
		}
	})
	yaml := fmt.Sprintf("routes:\n  - {path: /, upstream: \"http://%s\"}\n  - {path: /b, upstream: \"http://%s/x\"}\n  - {path: /c, upstream: \"echo:\"}\n", l.Addr(), endless)
	got := findingsOf(t, yaml, func(d *doctor) { d.timeout = 100 * time.Millisecond })
	if len(got) != 3 || got[0].Level != levelUnknown || got[1].Level != levelUnknown || !strings.Contains(got[2].Text, "skipped") {
		t.Errorf("%+v", got)
	}
}

func TestDoctorConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"open/db": 0o644, "open/key": 0o600, "secret": 0o644, "kept": 0o600} {
		file := filepath.Join(dir, name)
		writeFile(t, file, rand.Text()+rand.Text())
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	const route = "routes: [{path: /, upstream: \"echo:\"}]\n"
	for _, c := range []struct{ name, yaml, subject, level string }{
		{"quick start", "", "public_url", levelNote},
		{"plain http", "public_url: http://gw.example\n", "public_url", levelWrong},
		{"plain http for a proxy here", "public_url: http://gw.example\nlisten: 127.0.0.1:8080\n", "public_url", levelOK},
		{"https", "public_url: https://gw.example\n", "public_url", levelOK},
		{"admin on the loopback", "", "admin.listen", levelOK},
		{"admin for all", "admin: {listen: \":9901\"}\n", "admin.listen", levelNote},
		{"profiles for all", "admin: {listen: \":9901\", pprof: true}\n", "admin.listen", levelWrong},
		{"everybody is a proxy", "trusted_proxies: [0.0.0.0/0]\n", "trusted_proxies", levelWrong},
		{"everybody is a proxy, in halves", "trusted_proxies: [0.0.0.0/1, 128.0.0.0/1]\n", "trusted_proxies", levelWrong},
		{"everybody is a proxy, by IPv6", "trusted_proxies: [\"::/0\"]\n", "trusted_proxies", levelWrong},
		{"a network of proxies", "trusted_proxies: [10.0.0.0/8]\n", "trusted_proxies", levelOK},
		{"registration", "", "users.registration", levelNote},
		{"closed registration", "users: {registration: closed}\n", "users.registration", levelOK},
		{"readable secret", "tokens: {keys: [{id: a, algorithm: HS256, secret_file: " + dir + "/secret}]}\n", "tokens.keys[0].secret_file", levelWrong},
		{"kept secret", "tokens: {keys: [{id: a, algorithm: HS256, secret_file: " + dir + "/kept}]}\n", "tokens.keys[0].secret_file", levelOK},
		{"no data yet", "data_dir: " + dir + "/none\n", "data_dir", levelOK},
		{"open data", "data_dir: " + dir + "/open\n", "data_dir", levelWrong},
	} {
		d := doctor{cfg: parseWhole(t, c.yaml+route), timeout: time.Second, addresses: func() ([]net.IP, error) { return nil, nil }}
		d.examine(t.Context())
		worst := ""
		for _, f := range d.findings {
			if f.Subject == c.subject && worst != levelWrong {
				worst = f.Level
			}
		}
		if worst != c.level {
			t.Errorf("%s: %s is %q, want %q: %+v", c.name, c.subject, worst, c.level, d.findings)
		}
	}
}
