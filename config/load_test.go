package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, file string) *Config {
	t.Helper()
	c, err := Load(file, environment)
	if err != nil {
		t.Fatalf("Load(%s):\n%v", file, err)
	}
	return c
}

// parse reads text as if it were gateway.yaml in an empty folder.
func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return Parse(filepath.Join(t.TempDir(), "gateway.yaml"), []byte(text), environment)
}

const oneRoute = "\nroutes: [{path: /, upstream: \"echo:\"}]\n"

func texts(problems []Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Text)
	}
	return strings.Join(lines, "\n")
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %#v, want %#v", what, got, want)
	}
}

func TestLoadMinimal(t *testing.T) {
	c := load(t, "testdata/good/minimal.yaml")
	dir, err := filepath.Abs("testdata/good")
	must(t, err)
	want := defaults()
	want.Path = "testdata/good/minimal.yaml"
	want.DataDir = filepath.Join(dir, "data")
	want.Tokens.Issuer = "http://localhost:8080"
	rt := defaultRoute()
	rt.Name, rt.Pos = "/", Position{want.Path, 2, 5}
	rt.Upstream = []Upstream{{URL: "http://127.0.0.1:3000", Weight: 1}}
	want.Routes = []Route{rt}
	want.Warnings, want.Sums, want.source = c.Warnings, c.Sums, c.source
	equal(t, "Load(minimal)", c, want)
	equal(t, "warnings", texts(c.Warnings), `registration is open, so anybody can pass "access: authenticated"`)
	equal(t, "HTTPS", c.HTTPS(), false)
	equal(t, "At(routes[0].upstream)", c.At("routes[0].upstream").String(), "testdata/good/minimal.yaml:3:5")
	equal(t, "At(routes[0].methods[3])", c.At("routes[0].methods[3]").String(), "testdata/good/minimal.yaml:2:5")
	equal(t, "At(tokens.keys)", c.At("tokens.keys").String(), "testdata/good/minimal.yaml")
}

func TestLoadFlow(t *testing.T) {
	c := load(t, "testdata/good/flow.yaml")
	dir, err := filepath.Abs("testdata/good")
	must(t, err)
	equal(t, "Listen", c.Listen, "127.0.0.1:8081")
	equal(t, "PublicURL", c.PublicURL, "https://gate.example.com")
	equal(t, "Issuer", c.Tokens.Issuer, "https://gate.example.com")
	equal(t, "HTTPS", c.HTTPS(), true)
	equal(t, "Log", c.Log, Log{"debug", "json", false})
	equal(t, "Limits", c.Limits, Limits{0, 0, 90 * time.Minute, 10 << 20, 0})
	equal(t, "TrustedProxies", c.TrustedProxies, []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.7/32"),
	})
	equal(t, "Upstream 0", c.Routes[0].Upstream[0].URL, "http://127.0.0.1:8081/base")
	equal(t, "Timeout 0", c.Routes[0].Timeout, time.Duration(0))
	equal(t, "Host 1", c.Routes[1].Host, "*.example.com")
	equal(t, "Name 1", c.Routes[1].Name, "*.example.com/{tenant}/files/{rest...}")
	equal(t, "Upstream 1", c.Routes[1].Upstream, []Upstream{{"unix:" + dir + "/run/app.sock", 1}})
	equal(t, "Access 1", c.Routes[1].Access, Access{Kind: AccessRestricted, Roles: []string{"ops"}, Emails: []string{"ann@example.com"}})
	equal(t, "StripPrefix 2", c.Routes[2].StripPrefix, "/api")
	equal(t, "Access 2", c.Routes[2].Access, Access{Kind: AccessOptional})
	equal(t, "Quote", c.Quote("listen", c.Listen), `"127.0.0.1:${PORT}"`)
}

func TestLoadVariables(t *testing.T) {
	c := load(t, "testdata/good/variables.yaml")
	equal(t, "DataDir", filepath.Base(filepath.Dir(c.DataDir)), "state")
	equal(t, "BcryptCost", c.Users.BcryptCost, 10)
	equal(t, "Registration", c.Users.Registration, "closed")
	equal(t, "Pprof", c.Admin.Pprof, true)
	equal(t, "Title", c.Endpoints.Title, "costs $5, ${HOME} and expanded-value")
	equal(t, "Secret", string(c.Tokens.Keys[0].Secret), "from-the-environment-8Zq2mXbR9tLw4ZsY")
	equal(t, "Claims", c.Routes[0].Access.Claims, map[string]any{
		"port": "8081", "level": int64(3), "staff": true, "share": 0.5, "word": "yes",
	})
	if s := fmt.Sprintf("%v %+v %#v", c, c, *c); strings.Contains(s, "from-the-environment") {
		t.Error("printing a Config shows a secret")
	}
}

func TestLoadEverything(t *testing.T) {
	c := load(t, "testdata/good/everything.yaml")
	files, err := filepath.Abs("testdata/files")
	must(t, err)
	equal(t, "Files", c.Files, []string{files + "/public.pem", files + "/secret"})
	equal(t, "Database", c.Users.Database, "sqlite:"+files+"/users.db")
	equal(t, "AtRoot", c.Endpoints.AtRoot, []string{})
	equal(t, "Secret", string(c.Tokens.Keys[0].Secret), "k7Vq2mXbR9tLw4ZsY1pN8cHf3JgD6aEu")
	equal(t, "Claims", c.TrustedIssuers[0].Claims, ClaimMap{ID: "sub", Name: "name", Roles: "realm_access.roles"})
	equal(t, "Names", []string{c.Routes[0].Name, c.Routes[1].Name, c.Routes[2].Name}, []string{"/", "POST /", "192.0.2.1/日本/Ünïcode"})
	equal(t, "As", c.Tests[0].As, &Subject{ID: "u1", Roles: []string{"ops"}, Claims: map[string]any{"groups": []any{"a", int64(1), true}, "org": "x"}})
	equal(t, "As of a test without", c.Tests[1].As, (*Subject)(nil))
	equal(t, "IdentityHeaders(route)", c.IdentityHeaders(&c.Routes[0]), map[string]string{
		"X-WEBAUTH-USER": "{{{name}}} of {claim.https://example.com/org}", "X-Email": "{email}",
	})
	equal(t, "IdentityNames", slices.Sorted(maps.Keys(c.IdentityNames())), []string{
		"remote-user", "x-email", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username",
		"x-forwarded-user", "x-token", "x-webauth-user",
	})
	if load(t, "testdata/good/windows.yaml").At("routes[0].access").Line != 6 {
		t.Error("lines are not counted right in a file with Windows line ends")
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	write(t, secret, "k7Vq2mXbR9tLw4ZsY1pN8cHf3JgD6aEu\r\n")
	must(t, os.Chmod(secret, 0o644))
	c, err := Parse(filepath.Join(dir, "gateway.yaml"), []byte(`
listen: ":9000"
admin: {listen: ":9902", pprof: true}
trusted_proxies: [0.0.0.0/0, "::/0", 10.0.0.1]
users: {bcrypt_cost: 4}
tokens: {keys: [{id: a, algorithm: HS256, secret_file: secret}]}
routes: [{path: /, upstream: "echo:"}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "warnings", texts(c.Warnings), strings.Join([]string{
		"public_url is left out, so it is http://localhost:8080 although listen has another port",
		"admin.pprof: profiles can be read from other machines",
		"trusted_proxies: 0.0.0.0/0 believes the X-Forwarded-* headers of everybody",
		"trusted_proxies: ::/0 believes the X-Forwarded-* headers of everybody",
		"registration is open, so anybody can pass \"access: authenticated\"",
		"users.bcrypt_cost: below 10, passwords are cheap to guess from a stolen database",
		`tokens.keys[0].secret_file "secret": everybody on this machine can read the file`,
	}, "\n"))
	c, err = parse(t, "users: {registration: closed}"+oneRoute)
	must(t, err)
	equal(t, "warnings of a plain file", texts(c.Warnings), "")
	c, err = parse(t, "users: {database: none, registration: open, throttle: {attempts: 3}}"+oneRoute)
	must(t, err)
	equal(t, "warnings without accounts", texts(c.Warnings), strings.Join([]string{
		"users.database is none, so only tokens of the keys in data_dir are accepted",
		"users.registration has no effect: users.database is none, so there are no accounts",
		"users.throttle has no effect: users.database is none, so there are no accounts",
	}, "\n"))
	if c.KeepsAccounts() || c.Revokes() || c.Signs() {
		t.Error("users.database none keeps accounts, records revocations or signs")
	}
	file, err := filepath.Abs("testdata/files/public.pem")
	must(t, err)
	publicKey := "users: {database: none}\ntokens: {keys: [{id: a, algorithm: ES256, public_key_file: " + file + "}]}"
	_, err = parse(t, publicKey+oneRoute)
	must(t, err)
	_, err = parse(t, publicKey+"\nidentity: {assertion: {enabled: true}}"+oneRoute)
	if err == nil || !strings.Contains(err.Error(), "want a private_key_file for the first key, which signs") {
		t.Errorf("a public key to sign assertions with: %v", err)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big"), "#"+strings.Repeat("x", maxBytes)+oneRoute)
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "cannot read the configuration: no such file or directory",
		dir:                        "cannot read the configuration: is a directory",
		filepath.Join(dir, "big"):  "the file is too large: want at most 1 MiB",
	} {
		_, err := Load(path, nil)
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Text != want || problems[0].Pos.File != path {
			t.Errorf("Load(%s) = %v, want %s: %s", path, err, path, want)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	text := "tokens: {keys: [{id: a, algorithm: HS256, secret_file: s}]}" + oneRoute
	deny := func(secret, want string) {
		t.Helper()
		write(t, filepath.Join(dir, "s"), secret)
		_, err := Parse(filepath.Join(dir, "gateway.yaml"), []byte(text), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("secret of %d bytes: %v, want %q in it", len(secret), err, want)
		}
	}
	deny("", "the file is empty")
	deny("\r\n", "the file is empty")
	deny(strings.Repeat("k7Vq2mXbR9tLw4ZsY1pN8cHf3JgD6aEu", 64<<10/32)+"x", "at most 64 KiB")
	must(t, os.Remove(filepath.Join(dir, "s")))
	must(t, os.Symlink("s", filepath.Join(dir, "s")))
	if _, err := Parse(filepath.Join(dir, "gateway.yaml"), []byte(text), nil); err == nil {
		t.Error("a symbolic link to itself was read")
	}
	c, err := parse(t, "")
	if c != nil || err == nil {
		t.Error("an empty file was accepted")
	}
}

func TestProblemsKeepToTheFile(t *testing.T) {
	_, err := parse(t, "listne: a\nlog:\n  level: x\nrotes: []\nlog: {}\n")
	var lines []int
	for _, p := range err.(Problems) {
		lines = append(lines, p.Pos.Line)
	}
	if !slices.IsSorted(lines) || len(lines) != 4 {
		t.Errorf("problems in lines %v, want four in order:\n%v", lines, err)
	}
	_, err = parse(t, strings.Repeat("x", 10)+": 1\n"+strings.Repeat("a: 1\n", 2000))
	if n := len(err.(Problems)); n != 501 {
		t.Errorf("%d problems for 2000 mistakes, want 500 and a count", n)
	}
}

func TestByteOrderMark(t *testing.T) {
	_, err := parse(t, "\ufeff"+oneRoute)
	if err == nil || !strings.Contains(err.Error(), ":1:1: the file begins with a byte order mark") {
		t.Errorf("Parse = %v, want the byte order mark named", err)
	}
}

// A reload compares what the files hold with what they held when they were read.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "secret")
	texts := map[string]string{
		file:   "tokens: {keys: [{id: a, algorithm: HS256, secret_file: secret}]}" + oneRoute,
		secret: "q8mZ2xN5vB7cK1jH4gF6dS9aP3oI0uYt\n",
	}
	want := map[string][sha256.Size]byte{}
	for path, text := range texts {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		want[path] = sha256.Sum256([]byte(text))
	}
	equal(t, "Sums", load(t, file).Sums, want)
}

func TestForget(t *testing.T) {
	c := load(t, "testdata/good/flow.yaml")
	upstream := c.Routes[0].Upstream[0].URL
	c.Forget()
	equal(t, "At", c.At("routes[0].upstream"), Position{File: c.Path})
	equal(t, "Quote", c.Quote("routes[0].upstream", upstream), strconv.Quote(upstream))
	equal(t, "Expanded", c.Expanded("routes[0].upstream"), false)
}

// Names of headers and claims can look like keys below other keys.
func TestKeysWithDots(t *testing.T) {
	c, err := parse(t, `routes:
  - path: /
    upstream: "echo:"
    access: {claims: {a: x, "a.b": y, "a[0]": z, "https://id.example/roles[0].x": w}}
    set_headers:
      X: one
      X.Y: two
`)
	must(t, err)
	for key, line := range map[string]int{
		"routes[0].access.claims.a.b": 4, "routes[0].access.claims.https://id.example/roles[0].x": 4,
		"routes[0].set_headers.X": 6, "routes[0].set_headers.X.Y": 7, "routes[0].set_headers.X.Z": 6,
		"routes[1].set_headers": 1, "routes[0].upstream[0].url": 3, "routes[-1]": 1, "routes[0]x": 1,
	} {
		equal(t, "At("+key+")", c.At(key).Line, line)
	}
}
