package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

// writePair makes the cert.pem and key.pem that examples/tls and the README name.
func writePair(t *testing.T, dir string) {
	t.Helper()
	p := newPair(time.Now(), "localhost")
	writeFile(t, filepath.Join(dir, "cert.pem"), string(p.cert))
	writeFile(t, filepath.Join(dir, "key.pem"), string(p.key))
}

// testCheck runs `gatehouse check` over every gateway.yaml of the repository
// and over every yaml block of its README files.
func testCheck(t *testing.T, bin string) {
	check := func(t *testing.T, file string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, "check", "--config", file)
		cmd.Env = append(os.Environ(), "GATEHOUSE_CONFIG=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("gatehouse check --config %s: %v\n%s", file, err, out)
		}
	}
	configs, blocks := 0, 0
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "data"):
			return filepath.SkipDir
		case d.Name() == "gateway.yaml":
			configs++
			if filepath.Base(filepath.Dir(path)) == "tls" {
				dir := copyExample(t, "tls")
				writePair(t, dir)
				path = filepath.Join(dir, d.Name())
			}
			check(t, path)
		case d.Name() == "README.md":
			for _, block := range fenced(readFile(t, path), "yaml") {
				blocks++
				dir := t.TempDir()
				writePair(t, dir)
				file := filepath.Join(dir, "gateway.yaml")
				writeFile(t, file, block)
				check(t, file)
				if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("gatehouse check made a data folder (%v)", err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if configs < 10 || blocks < 5 {
		t.Errorf("checked %d files and %d blocks, want at least 10 and 5: are they still found?", configs, blocks)
	}
}

// fenced are the code blocks of a language in a Markdown text.
func fenced(text, language string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// testReadme types what the README shows after "$ ", in its order, at a gateway
// with the repository's gateway.yaml, and compares what comes back. In the
// README "…" stands for anything.
func testReadme(t *testing.T, bin string) {
	dir := t.TempDir()
	ports := freePorts(t, 2)
	writeFile(t, filepath.Join(dir, "gateway.yaml"), readFile(t, filepath.Join(root(t), "gateway.yaml")))
	startGatewayAt(t, bin, dir, ports[0], ports[1])
	toHere := strings.NewReplacer("localhost:8080", "127.0.0.1:"+ports[0], "127.0.0.1:9901", "127.0.0.1:"+ports[1]).Replace

	blocks := fenced(readFile(t, filepath.Join(root(t), "README.md")), "console")
	if len(blocks) < 2 {
		t.Fatalf("%d console blocks in the README", len(blocks))
	}
	// One shell for each command; variables live in a file that each reads.
	variables := filepath.Join(dir, "variables")
	writeFile(t, variables, "")
	for _, block := range blocks {
		for _, part := range regexp.MustCompile(`(?m)^\$ `).Split(block, -1)[1:] {
			command, want := part, ""
			for i := 1; i < len(part); i++ { // a line that ends with a backslash or a pipe goes on
				if part[i] == '\n' && part[i-1] != '\\' && part[i-1] != '|' {
					command, want = part[:i], part[i+1:]
					break
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -a; . "+variables+"; "+toHere(command)+"\nstatus=$?; declare -p token >"+variables+" 2>/dev/null; exit $status")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"), "GATEHOUSE_CONFIG=")
			out, _ := cmd.CombinedOutput() // the status may be part of the story; the output tells
			if !matches(toHere(want), string(out)) {
				t.Fatalf("$ %s\nanswers\n%s\nand the README says\n%s", toHere(command), out, toHere(want))
			}
		}
	}
}

// matches compares word by word, since an answer is folded over lines in the
// README. "…" stands for anything.
func matches(want, got string) bool {
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	pattern := strings.ReplaceAll(regexp.QuoteMeta(fold(want)), "…", "(?s:.*)")
	return regexp.MustCompile("^" + pattern + "$").MatchString(fold(got))
}

// buildApp builds the app of an example.
func buildApp(t *testing.T, example string) string {
	t.Helper()
	app := filepath.Join(t.TempDir(), "app")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", app, "./examples/"+example+"/app")
	cmd.Dir = root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return app
}

func testStreams(t *testing.T, bin string) {
	port := freePorts(t, 1)[0]
	app := buildApp(t, "streams")
	startIn(t, t.TempDir(), nil, app, "-listen", "127.0.0.1:"+port).awaitAnswer(t, "http://127.0.0.1:"+port)
	gw := startGateway(t, bin, copyExample(t, "streams", "127.0.0.1:3000", "127.0.0.1:"+port))
	ann := gw.register(t, "ann@example.com")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dial := func(header http.Header) (*websocket.Conn, int) {
		conn, res, err := websocket.Dial(ctx, gw.url+"/ws", &websocket.DialOptions{HTTPHeader: header})
		if err != nil && res == nil {
			t.Fatal(err)
		}
		return conn, res.StatusCode
	}
	conn, status := dial(http.Header{"Authorization": {"Bearer " + ann.token}, "X-Forwarded-Email": {"mallory@example.com"}})
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("websocket handshake = %d, want 101", status)
	}
	defer conn.CloseNow()
	for _, message := range []string{"hello", strings.Repeat("x", 20_000)} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != "ann@example.com said "+message {
			t.Fatalf("websocket answers %.60q, %v", got, err)
		}
	}
	if _, status := dial(nil); status != 401 {
		t.Errorf("websocket handshake without a token = %d, want 401", status)
	}
	cookie := "gatehouse=" + ann.token
	if _, status := dial(http.Header{"Cookie": {cookie}, "Origin": {"https://evil.example"}}); status != 403 {
		t.Errorf("websocket handshake of another site = %d, want 403", status)
	}
	own, status := dial(http.Header{"Cookie": {cookie}, "Origin": {gw.url}})
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("websocket handshake of the app's own page = %d, want 101", status)
	}
	own.CloseNow()
	other := gw.register(t, "bob@example.com")
	bobs, status := dial(http.Header{"Authorization": {"Bearer " + other.token}})
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("bob's websocket handshake = %d, want 101", status)
	}
	other.want(t, 204, "POST", "/logout", "")
	if _, _, err := bobs.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("bob's websocket after the logout: %v, want close frame 1008", err)
	}

	// The first event must be here while the stream is open.
	for path, want := range map[string]string{"/events": "data: 1 for ann@example.com\n", "/events/status": "data: 1 for \n"} {
		req, err := http.NewRequestWithContext(ctx, "GET", gw.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+ann.token)
		res, err := gw.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len(want))
		if _, err := res.Body.Read(first); err != nil || string(first) != want {
			t.Errorf("%s begins with %q, %v, want %q", path, first, err, want)
		}
		res.Body.Close()
	}
	gw.visitor().want(t, 401, "GET", "/events", "").wantError(t, "missing_token")
}

func testJWKSUpstream(t *testing.T, bin string) {
	ports := freePorts(t, 3)
	dir := copyExample(t, "jwks-upstream", "127.0.0.1:3000", "127.0.0.1:"+ports[0])
	gw := startGatewayAt(t, bin, dir, ports[1], ports[2])
	app := buildApp(t, "jwks-upstream")
	startIn(t, dir, nil, app, "-listen", "127.0.0.1:"+ports[0], "-gateway", gw.url).awaitAnswer(t, "http://127.0.0.1:"+ports[0])

	ann := gw.register(t, "ann@example.com")
	if got := ann.want(t, 200, "GET", "/", "", "X-Gatehouse-Assertion: forged"); !strings.Contains(got.body, "<ann@example.com>") {
		t.Errorf("the app answers %q", got.body)
	}
	// Past the gateway nothing helps, an access token in the wrong place least.
	past := visitor{gw: &liveGateway{url: "http://127.0.0.1:" + ports[0], client: gw.client}}
	past.want(t, 401, "GET", "/", "", "X-Forwarded-Email: ann@example.com")
	past.want(t, 401, "GET", "/", "", "X-Gatehouse-Assertion: "+ann.token)
}

func testTrustedIssuer(t *testing.T, bin string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	}))
	defer issuer.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user=%s name=%s department=%s", r.Header.Get("X-Forwarded-User"), r.Header.Get("X-Forwarded-Preferred-Username"), r.Header.Get("X-Department"))
	}))
	defer api.Close()
	const iss = "https://id.example.com/realms/main"
	gw := startGateway(t, bin, copyExample(t, "trusted-issuer",
		"http://127.0.0.1:4000", api.URL, "jwks_url: "+iss+"/protocol/openid-connect/certs", "jwks_url: "+issuer.URL))

	token := func(key *rsa.PrivateKey, change func(jwt.MapClaims)) visitor {
		claims := jwt.MapClaims{
			"iss": iss, "aud": []string{"orders-api"}, "sub": "6a1f", "preferred_username": "ann",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		}
		change(claims)
		tok := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
		tok.Header["kid"] = "k1"
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return visitor{gw, text}
	}
	as := func(c jwt.MapClaims) {}
	await(t, 20*time.Second, "the issuer's keys", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), "GET", gw.url+"/orders/17", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token(key, as).token)
		return send(t, gw.client, req).status == 200
	})
	if got := token(key, as).want(t, 200, "GET", "/orders/17", ""); got.body != "user=6a1f name=ann department=" {
		t.Errorf("the API sees %q", got.body)
	}
	finance := func(c jwt.MapClaims) {
		c["groups"], c["email_verified"], c["department"] = []string{"finance"}, true, "north"
	}
	if got := token(key, finance).want(t, 200, "POST", "/orders/refunds", ""); !strings.HasSuffix(got.body, "department=north") {
		t.Errorf("the API sees %q", got.body)
	}
	token(key, as).want(t, 403, "POST", "/orders/refunds", "").wantError(t, "forbidden")
	for name, change := range map[string]func(jwt.MapClaims){
		"another audience": func(c jwt.MapClaims) { c["aud"] = "other-api" },
		"another issuer":   func(c jwt.MapClaims) { c["iss"] = iss + "/" },
		"expired":          func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
	} {
		if got := token(key, change).want(t, 401, "GET", "/orders/17", ""); !strings.Contains(got.body, "invalid_token") {
			t.Errorf("%s: %s", name, got.body)
		}
	}
	token(stranger, as).want(t, 401, "GET", "/orders/17", "").wantError(t, "invalid_token")
}

func testTLS(t *testing.T, bin string) {
	ports := freePorts(t, 2)
	dir := copyExample(t, "tls", `listen: ":8443"`, "listen: 127.0.0.1:"+ports[0], "https://localhost:8443", "https://localhost:"+ports[0])
	writePair(t, dir)
	config := filepath.Join(dir, "gateway.yaml")
	writeFile(t, config, readFile(t, config)+"\nadmin: {listen: \"127.0.0.1:"+ports[1]+"\"}\n")
	startIn(t, dir, nil, bin, "serve", "--config", config).awaitAnswer(t, "http://127.0.0.1:"+ports[1]+"/readyz")

	curl := func(args ...string) string {
		args = append([]string{"-sS", "-m", "20", "--cacert", filepath.Join(dir, "cert.pem")}, args...)
		out, err := exec.CommandContext(t.Context(), need(t, "curl"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	base := "https://localhost:" + ports[0]
	account := `{"email":"ann@example.com","password":"` + goodPassword + `"}`
	if got := curl("-w", " %{http_code} HTTP/%{http_version}", base+"/register", "-H", "Content-Type: application/json", "-d", account); !strings.HasSuffix(got, " 201 HTTP/2") {
		t.Errorf("register over https answers %q, want 201 over HTTP/2", got)
	}
	got := curl("-i", base+"/login", "-H", "Accept: text/html", "-d", "email=ann@example.com", "--data-urlencode", "password="+goodPassword)
	for _, want := range []string{"__Host-gatehouse=", "; Secure", "; HttpOnly", "; SameSite=Lax", "strict-transport-security: "} {
		if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
			t.Errorf("a browser's login over https lacks %q:\n%s", want, got)
		}
	}
}

// testSidecar runs the example of the pod with the app on a unix socket.
func testSidecar(t *testing.T, bin string) {
	// Socket paths have at most 107 bytes, too few for some temporary folders.
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for %s", r.Host, r.URL, r.Header.Get("X-Forwarded-Email"))
	})}
	go app.Serve(l)
	t.Cleanup(func() { app.Close() })

	gw := startGateway(t, bin, copyExample(t, "sidecar-kubernetes", "/run/app/app.sock", socket, "data_dir: /data", "data_dir: data"))
	gw.cli(t, goodPassword+"\n", "user", "add", "ann@example.com")
	ann := gw.login(t, "ann@example.com")
	if got := ann.want(t, 200, "GET", "/reports?month=5", ""); !strings.HasSuffix(got.body, " /reports?month=5 for ann@example.com") {
		t.Errorf("the app behind the socket answers %q", got.body)
	}
	gw.visitor().want(t, 401, "GET", "/reports", "")
	gw.visitor().want(t, 403, "POST", "/register", `{"email":"bob@example.com","password":"`+goodPassword+`"}`, "Content-Type: application/json").wantError(t, "registration_closed")

	// The manifest's probe is the command that the image has.
	if manifest := readFile(t, filepath.Join(root(t), "examples", "sidecar-kubernetes", "deployment.yaml")); !strings.Contains(manifest, "[/gatehouse, healthcheck]") {
		t.Error("deployment.yaml does not probe with /gatehouse healthcheck")
	}
	gw.cli(t, "", "healthcheck")
}
