package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// marks are secrets that can be found again wherever they get to.
type marks map[string]string

// mark is a new secret, or the one of that name.
func (m marks) mark(name string) string {
	if m[name] == "" {
		b := make([]byte, 20)
		rand.Read(b)
		m[name] = "mark-" + hex.EncodeToString(b)
	}
	return m[name]
}

// absent reports the marks in text, a few bytes of them included.
func (m marks) absent(t *testing.T, where, text string) {
	t.Helper()
	for name, secret := range m {
		shown := secret
		if len(shown) > 24 {
			shown = shown[:24] // cut short is not hidden
		}
		if i := strings.Index(text, shown); i >= 0 {
			t.Errorf("%s shows the %s: …%.200s", where, name, text[max(0, i-80):])
		}
	}
}

// testSecrets runs a gateway with secrets in every place, at the level of
// debugging, through all that can go well and wrong, and looks for the secrets in
// everything that comes out of it.
func testSecrets(t *testing.T, bin string) {
	m := marks{}
	redisServer := need(t, "redis-server")
	ports := freePorts(t, 4)
	redisDir := t.TempDir()
	startIn(t, redisDir, nil, redisServer, "--port", ports[0], "--bind", "127.0.0.1", "--save", "", "--requirepass", m.mark("Redis password"))

	app := appServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" { // and says something that is nobody else's business
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 099 %s\r\nSet-Cookie: app=%[1]s\r\n\r\n", m["answer of the app"])
				conn.Close()
			}
			return
		}
		fmt.Fprint(w, "hello")
	})
	m.mark("answer of the app")

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "old.secret"), m.mark("secret of a file"))
	key := newPair(time.Now(), "localhost").key
	writeFile(t, filepath.Join(dir, "own.pem"), string(key))
	m["private key"] = strings.Split(string(key), "\n")[1]
	if err := os.Chmod(filepath.Join(dir, "own.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gateway.yaml")
	config := fmt.Sprintf(`listen: 127.0.0.1:%[1]s
public_url: http://127.0.0.1:%[1]s
admin: {listen: "127.0.0.1:%[2]s"}
log: {level: debug, format: json}
users: {bcrypt_cost: 4}
tokens:
  keys:
    - {id: first, algorithm: HS256, secret: "${SECRET_OF_ENVIRONMENT}"}
    - {id: old, algorithm: HS256, secret_file: old.secret}
    - {id: own, algorithm: ES256, private_key_file: own.pem}
revocation: {store: redis, redis: {url: "redis://127.0.0.1:%[3]s", password: "${PASSWORD_OF_REDIS}"}}
routes:
  - {path: /, upstream: "http://%[4]s"}
  - {path: /open, access: public, upstream: "http://%[4]s"}
  - {path: /down, upstream: "http://127.0.0.1:1", set_headers: {X-Key: "${KEY_OF_APP}"}}
  - {path: /admin, access: {roles: [admin]}, upstream: "http://%[4]s"}
`, ports[1], ports[2], ports[0], app)
	writeFile(t, file, config)
	environment := append(os.Environ(), "SECRET_OF_ENVIRONMENT="+m.mark("secret of the environment"),
		"PASSWORD_OF_REDIS="+m["Redis password"], "KEY_OF_APP="+m.mark("key of the app"))

	gw := &liveGateway{bin: bin, config: file, url: "http://127.0.0.1:" + ports[1], admin: "http://127.0.0.1:" + ports[2], client: plainClient()}
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--config", file)
	cmd.Dir, cmd.Env = dir, environment
	gw.process = start(t, cmd)
	gw.awaitAnswer(t, gw.admin+"/readyz")

	// Requests, good and bad. Nothing that is answered shows a secret but the
	// grant that it is in.
	nobody := gw.visitor()
	ask := func(method, path, body string, header ...string) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, gw.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			req.Header[name] = append(req.Header[name], value)
		}
		got := send(t, gw.client, req)
		if got.status >= 300 {
			m.absent(t, fmt.Sprintf("the answer %d to %s %s", got.status, method, req.URL.Path), got.body)
		}
		return got
	}
	const asJSON, asForm = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
	password, next := m.mark("password"), m.mark("next password")
	credentials := fmt.Sprintf(`{"email":"ann@example.com","password":%q}`, password)
	nobody.want(t, 201, "POST", "/register", credentials, asJSON)
	var grant struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	signIn := func(body, name string) {
		t.Helper()
		got := nobody.want(t, 200, "POST", "/login", body, asJSON)
		if err := json.Unmarshal([]byte(got.body), &grant); err != nil || grant.Refresh == "" {
			t.Fatalf("login answers %q", got.body)
		}
		parts := strings.Split(grant.Access, ".")
		m[name+" access token"], m[name+" refresh token"] = parts[2], strings.Split(grant.Refresh, ".")[1]
	}
	signIn(credentials, "first")
	wrong := m.mark("wrong password")
	bearer := "Authorization: Bearer " + grant.Access
	for _, path := range []string{"/", "/open", "/down", "/admin", "/broken", "/.gatehouse/nothing", "/a%2fb", "/.gatehouse/userinfo", "/verify"} {
		for _, header := range []string{
			bearer,
			"Authorization: Bearer " + m.mark("bad token"),
			"Authorization: Bearer " + grant.Access + "x",
			"Authorization: Bearer " + m["bad token"] + " " + m["bad token"],
			"Authorization: Basic " + m.mark("basic credentials"),
			"Cookie: gatehouse=" + m.mark("bad cookie") + "; gatehouse-refresh=" + m.mark("bad refresh cookie") + "; app=" + m.mark("cookie of the app"),
			"Cookie: gatehouse=" + grant.Access,
			"Cookie: gatehouse=\x80" + m["bad cookie"],
			"X-Api-Key: " + m.mark("header of the app"),
			"X_Forwarded_User: " + m.mark("forged header"),
		} {
			ask("GET", path+"?access_token="+m.mark("token in a query"), "", header)
			ask("POST", path+"?password="+m.mark("password in a query"), m.mark("body"), header, "Origin: https://evil.example")
		}
	}
	for _, path := range []string{"/register", "/login", "/.gatehouse/refresh", "/logout", "/.gatehouse/password", "/.gatehouse/revoke", "/.gatehouse/introspect"} {
		for _, body := range []string{
			fmt.Sprintf(`{"email":"ann@example.com","password":%q}`, wrong),
			fmt.Sprintf(`{"email":"nobody@example.com","password":%q}`, wrong+strings.Repeat("x", 72)),
			fmt.Sprintf(`{"email":%q,"password":["%[1]s"]}`, wrong),
			fmt.Sprintf(`{"current_password":%q,"new_password":"short"}`, wrong),
			fmt.Sprintf(`{"current_password":%q,"new_password":%[1]q}`, wrong),
			fmt.Sprintf(`{"refresh_token":%q}`, "gr_x."+m.mark("bad refresh token")),
			fmt.Sprintf(`{"password":%q`, wrong),
			fmt.Sprintf(`{%q:1}`, wrong),
			fmt.Sprintf(`%q`, wrong),
		} {
			ask("POST", path, body, asJSON, bearer)
			ask("POST", path, body, asForm, bearer)
		}
		form := url.Values{"email": {"ann@example.com"}, "password": {wrong}, "token": {m["bad token"]}, "refresh_token": {m["bad refresh token"]}}
		ask("POST", path, form.Encode(), asForm, "Accept: text/html", "Sec-Fetch-Mode: navigate")
		signIn(credentials, "after "+path)
		bearer = "Authorization: Bearer " + grant.Access
	}
	spent := fmt.Sprintf(`{"refresh_token":%q}`, grant.Refresh)
	got := nobody.want(t, 200, "POST", "/.gatehouse/refresh", spent, asJSON)
	if err := json.Unmarshal([]byte(got.body), &grant); err != nil {
		t.Fatal(err)
	}
	m["refreshed token"] = strings.Split(grant.Refresh, ".")[1]
	bearer = "Authorization: Bearer " + grant.Access
	if got := ask("POST", "/.gatehouse/password", fmt.Sprintf(`{"current_password":%q,"new_password":%q}`, password, next), asJSON, bearer); got.status != 204 {
		t.Fatalf("password: %d %s", got.status, got.body)
	}

	for _, path := range []string{"/readyz", "/metrics", "/healthz"} {
		body, err := get(gw.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		m.absent(t, path, body)
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", gw.pid)); err == nil {
		m.absent(t, "the process' arguments", string(args))
	}

	// Commands, and configurations that are wrong about a secret.
	command := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir, cmd.Env, cmd.Stdin = dir, environment, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if _, failed := err.(*exec.ExitError); err != nil && !failed {
			t.Fatal(err)
		}
		m.absent(t, "gatehouse "+strings.Join(args[:min(2, len(args))], " "), string(out))
		return string(out)
	}
	if out := command("", "check"); !strings.Contains(out, "own.pem") || !strings.Contains(out, "everybody on this machine can read the file") {
		t.Errorf("check does not warn of a key that everybody can read:\n%s", out)
	}
	for _, args := range [][]string{
		{"check", "--json"}, {"schema"}, {"explain", "GET", "/down", "--user", "ann@example.com"}, {"explain", "GET", "/down", "--user", "ann@example.com", "--json"}, {"key", "list"}, {"key", "list", "--json"},
		{"user", "list"}, {"user", "show", "ann@example.com"}, {"session", "list", "ann@example.com"}, {"session", "list", "ann@example.com", "--json"},
		{"token", "inspect", m["bad token"]}, {"token", "inspect", grant.Access}, {"token", "revoke", m["bad token"]}, {"token", "revoke", grant.Access},
	} {
		if out := command("", args...); args[0] == "explain" && !strings.Contains(out, "X-Key") {
			t.Errorf("explain does not mention X-Key:\n%s", out)
		}
	}
	command(m["password"]+"\n", "user", "add", "ann@example.com")
	command("short\n", "user", "add", "bob@example.com")
	command(m.mark("password of bob")+"\n", "user", "add", "bob@example.com")
	command(wrong+strings.Repeat("x", 72)+"\n", "user", "set-password", "bob@example.com")
	hash := "$2a$04$" + m.mark("imported hash")
	command(fmt.Sprintf("{\"email\":\"eve@example.com\",\"password\":%q}\n{\"password\":%[1]q", hash), "user", "import", "-")
	for i, wrongly := range []string{
		`tokens: {keys: [{id: a, algorithm: HS256, secret: "short-${MARK}"}]}`,
		`tokens: {keys: [{id: a, algorithm: HS256, secret: ["${MARK}"]}]}`,
		`tokens: {keys: [{id: a, algorithm: HS256, secret: {"${MARK}": 1}}]}`,
		`tokens: {keys: [{id: a, algorithm: HS256, secrett: "${MARK}"}]}`,
		`tokens: {keys: [{id: a, algorithm: RS256, secret: "${MARK}"}]}`,
		`tokens: {keys: [{id: a, algorithm: HS256, secret: "${MARK}"}, {id: a, algorithm: HS256, secret: "${MARK}"}]}`,
		`revocation: {store: redis, redis: {url: "redis://:${MARK}@127.0.0.1:port"}}`,
		`revocation: {store: redis, redis: {url: "redis://user:${MARK}@127.0.0.1:1/x"}}`,
		`revocation: {store: redis, redis: {url: "http://user:${MARK}@127.0.0.1:1/x"}}`,
		`revocation: {store: redis, redis: {url: "redis://127.0.0.1:1", password: ["${MARK}"]}}`,
		`revocation: {store: redis, redis: {addresses: ["redis://:${MARK}@127.0.0.1:1"]}}`,
		`users: {database: "postgres://user:${MARK}@127.0.0.1:1/db?sslmode=disable"}`,
		`users: {database: "postgres://user:${MARK}@127.0.0.1:port/db"}`,
		`users: {database: "mysql://user:${MARK}@127.0.0.1/db"}`,
		`users: {database: ["postgres://user:${MARK}@127.0.0.1/db"]}`,
	} {
		text := strings.ReplaceAll(wrongly, "${MARK}", "${PASSWORD_OF_REDIS}")
		// Once from the environment, once in the file itself.
		for _, literal := range []bool{false, true} {
			if literal {
				text = strings.ReplaceAll(wrongly, "${MARK}", m["Redis password"])
			}
			bad := filepath.Join(dir, fmt.Sprintf("bad%d.yaml", i))
			writeFile(t, bad, "listen: 127.0.0.1:0\nadmin: {listen: \"\"}\nlog: {level: debug}\ndata_dir: bad\n"+text+"\nroutes: [{path: /, upstream: \"echo:\"}]\n")
			command("", "check", "--config", bad)
			command("", "user", "list", "--config", bad)
		}
	}
	// The same by a reload, in the log and in /readyz.
	writeFile(t, file, strings.Replace(config, "id: old,", "id: first,", 1))
	await(t, 10*time.Second, "the reload to be refused", func() bool {
		body, err := get(gw.admin + "/readyz")
		m.absent(t, "/readyz", body)
		return err == nil && strings.Contains(body, "refused")
	})

	// What is at rest: no password, no token; and nobody else's to read.
	atRest := func(root string) {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			if entry.IsDir() {
				return nil
			}
			data, err := os.ReadFile(path)
			m.absent(t, path, string(data))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	atRest(filepath.Join(dir, "data"))
	save := exec.CommandContext(t.Context(), need(t, "redis-cli"), "-p", ports[0], "--no-auth-warning", "save")
	save.Env = append(os.Environ(), "REDISCLI_AUTH="+m["Redis password"])
	if out, err := save.CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("OK")) {
		t.Fatalf("redis-cli save: %v %s", err, out)
	}
	m.absent(t, "the dump of Redis", readFile(t, filepath.Join(redisDir, "dump.rdb")))

	// What the runtime says when it is killed in the middle.
	if err := syscall.Kill(gw.pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-gw.done
	out := gw.output.String()
	if !strings.Contains(out, "SIGQUIT") || !strings.Contains(out, `"msg":"request"`) || !strings.Contains(out, `"level":"DEBUG"`) {
		t.Errorf("the log is not what it should be: %.2000s", out)
	}
	m.absent(t, "the log", out)
}
