package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/sqlstore"
	"gatehouse/config"
)

// A servedGateway runs in the test's own process, so that what it leaves behind
// can be counted.
type servedGateway struct {
	file, url, admin string
	env              map[string]string
	signals          chan os.Signal
	done             chan error // how it ended
	stdout, stderr   lockedBuffer
}

// serveHere serves the configuration, in which PORT and ADMIN stand for free
// ports, until the test ends.
func serveHere(t *testing.T, yaml string) *servedGateway {
	t.Helper()
	gw := prepareHere(t, yaml)
	gw.serve()
	t.Cleanup(func() {
		if err := gw.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
		if t.Failed() {
			wrote := gw.stderr.String()
			t.Logf("gatehouse wrote, at the end:\n%s", wrote[max(0, len(wrote)-32<<10):])
		}
	})
	await(t, time.Minute, "the gateway to be ready", func() bool {
		select {
		case err := <-gw.done:
			gw.done <- err
			t.Fatalf("serve: %v", err)
		default:
		}
		_, err := get(gw.admin + "/readyz")
		return err == nil
	})
	return gw
}

// prepareHere is a gateway that does not serve yet.
func prepareHere(t *testing.T, yaml string) *servedGateway {
	t.Helper()
	ports, err := unusedPorts(2)
	if err != nil {
		t.Fatal(err)
	}
	gw := &servedGateway{
		file:    filepath.Join(t.TempDir(), "gateway.yaml"),
		url:     "http://127.0.0.1:" + ports[0],
		admin:   "http://127.0.0.1:" + ports[1],
		env:     map[string]string{"PORT": ports[0], "ADMIN": ports[1]},
		signals: make(chan os.Signal, 8),
		done:    make(chan error, 1),
	}
	gw.write(t, yaml)
	return gw
}

func (gw *servedGateway) lookup(name string) (string, bool) { v, ok := gw.env[name]; return v, ok }

// serve begins, or begins again after stop, with nothing in memory.
func (gw *servedGateway) serve() {
	a := &app{stdout: &gw.stdout, stderr: &gw.stderr, lookup: gw.lookup, configPath: gw.file}
	go func() { gw.done <- a.serve(context.Background(), gw.signals) }()
}

func (gw *servedGateway) stop() error {
	gw.signals <- syscall.SIGTERM
	return <-gw.done
}

// write replaces the file in one step.
func (gw *servedGateway) write(t *testing.T, yaml string) {
	t.Helper()
	const head = "listen: 127.0.0.1:${PORT}\nadmin: {listen: \"127.0.0.1:${ADMIN}\"}\n"
	writeFile(t, gw.file+".new", head+yaml)
	if err := os.Rename(gw.file+".new", gw.file); err != nil {
		t.Fatal(err)
	}
}

// get is the body of a 200 answer.
func get(url string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(body), err
}

// The commands that a first start prints do what they say when pasted.
func TestAnnouncedCommands(t *testing.T) {
	need(t, "curl")
	for _, c := range []struct{ name, users string }{
		{"quick start", "users: {bcrypt_cost: 4, password: {min_strength: 0}}\n"},
		{"default policy", "users: {bcrypt_cost: 4}\nendpoints: {at_root: []}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gw := serveHere(t, c.users+"routes: [{path: /, upstream: \"echo:\"}]\n")
			var script []string
			await(t, 5*time.Second, "the announcement", func() bool { return strings.Contains(gw.stdout.String(), "in force at once") })
			for line := range strings.Lines(gw.stdout.String()) {
				if strings.HasPrefix(line, "  curl") || strings.HasPrefix(line, "  TOKEN") {
					script = append(script, line)
				}
			}
			if len(script) != 3 {
				t.Fatalf("%d commands, want 3:\n%s", len(script), gw.stdout.String())
			}
			out, err := exec.CommandContext(t.Context(), "sh", "-ec", strings.Join(script, "")).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"User created successfully", "test@example.com", "X-Forwarded-User"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the commands answer without %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	cfg := parse(t, "data_dir: "+t.TempDir())
	stores, err := openStoresToServe(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := stores.accounts(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{stores: stores}
	s.current.Store(&generation{cfg: cfg, accounts: acc})
	if r := s.readiness(t.Context()); r.Status != "ready" || r.Configuration.Status != "ok" {
		t.Errorf("all is well: %+v", r)
	}
	s.state.set([]config.Problem{cfg.Problem("data_dir", "no")})
	if r := s.readiness(t.Context()); r.Status != "ready" || r.Configuration.Status != "refused" || !slices.Equal(r.Configuration.Problems, []string{"gateway.yaml:1:1: no"}) {
		t.Errorf("refused configuration: %+v", r)
	}
	if err := stores.Close(); err != nil {
		t.Fatal(err)
	}
	if r := s.readiness(t.Context()); r.Status != "unready" || r.Database.Status != "failed" || !strings.Contains(r.why(), "database: ") {
		t.Errorf("closed database: %+v", r)
	}
	s.draining.Store(true)
	if r := s.readiness(t.Context()); r.Status != "draining" {
		t.Errorf("draining: %+v", r)
	}
}

// A list that was never read is not taken for an empty one.
func TestReadinessWithoutRevocations(t *testing.T) {
	cfg := parse(t, "data_dir: "+t.TempDir())
	stores, err := openStoresToServe(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stores.Close()
	acc, err := stores.accounts(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stores.revocations = authn.NewRevocationList(stores.db, time.Now)
	s := &server{stores: stores}
	s.current.Store(&generation{cfg: cfg, accounts: acc})
	if r := s.readiness(t.Context()); r.Status != "unready" || r.Revocation.Status != "failed" {
		t.Errorf("revocations never read: %+v", r)
	}
}

// One line when something stops answering, one when it answers again.
func TestReport(t *testing.T) {
	var out lockedBuffer
	s := &server{log: newLogging(&out)}
	failing := map[string]string{}
	away := map[string]string{"revocation": "disk on fire"}
	for _, now := range []map[string]string{{}, away, away, {}, {}} {
		s.reportChanges(failing, now)
	}
	got := strings.Count(out.String(), "\n")
	if got != 2 || !strings.Contains(out.String(), `msg="does not answer" what=revocation error="disk on fire"`) || !strings.Contains(out.String(), `msg="answers again" what=revocation`) {
		t.Errorf("%d lines, want one of each kind:\n%s", got, out.String())
	}
}

// The log says when a hash slows down all logins, and when none does any more.
func TestReportCost(t *testing.T) {
	var out lockedBuffer
	db, err := sqlstore.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &server{log: newLogging(&out), stores: &stores{db: db}}
	s.current.Store(&generation{cfg: &config.Config{Users: config.Users{BcryptCost: 5}}})
	slow := 0
	report := func() { s.reportCost(t.Context(), &slow); s.reportCost(t.Context(), &slow) }
	report()
	for id, cost := range map[string]string{"a": "04", "b": "05", "c": "12"} {
		if err := db.CreateUser(t.Context(), authn.User{ID: id, Email: id + "@example.com", PasswordHash: strings.Replace(aHash, "$04$", "$"+cost+"$", 1)}); err != nil {
			t.Fatal(err)
		}
	}
	report()
	if err := db.DeleteUser(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	report()
	got := out.String()
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, "slows down every login\" highest=12 bcrypt_cost=5") || !strings.Contains(got, "logins are as fast") {
		t.Errorf("logged, want one line of each kind:\n%s", got)
	}
}

func TestHealthcheckDoesNotWaitForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := askReadiness(ctx, "http://"+l.Addr().String()+"/readyz"); err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("askReadiness: %v, want no answer", err)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		":8080": "localhost:8080", "0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80",
		"127.0.0.1:9901": "127.0.0.1:9901", "[::1]:80": "[::1]:80", "gw.example:80": "gw.example:80",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("reachable(%q) = %q, want %q", listen, got, want)
		}
	}
}
