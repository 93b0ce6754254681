package main

// What the end-to-end tests stand on: processes, visitors, browsers.

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A liveGateway is a gateway that runs as a process of its own.
type liveGateway struct {
	*process
	bin, config string
	url, admin  string
	client      *http.Client
}

// startGateway serves dir/gateway.yaml on free ports.
func startGateway(t *testing.T, bin, dir string) *liveGateway {
	ports := freePorts(t, 2)
	return startGatewayAt(t, bin, dir, ports[0], ports[1])
}

func startGatewayAt(t *testing.T, bin, dir, public, admin string) *liveGateway {
	t.Helper()
	config := filepath.Join(dir, "gateway.yaml")
	setPorts(t, config, public, admin)
	gw := &liveGateway{
		process: startIn(t, dir, nil, bin, "serve", "--config", config),
		bin:     bin,
		config:  config,
		url:     "http://127.0.0.1:" + public,
		admin:   "http://127.0.0.1:" + admin,
		client:  plainClient(),
	}
	gw.awaitAnswer(t, gw.admin+"/readyz")
	return gw
}

// plainClient follows no redirects.
func plainClient() *http.Client {
	return &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// setPorts makes a configuration listen where nothing else does, without
// touching what the example is about.
func setPorts(t *testing.T, config, public, admin string) {
	t.Helper()
	text := readFile(t, config)
	for key, line := range map[string]string{
		"listen":     "listen: 127.0.0.1:" + public,
		"public_url": "public_url: http://127.0.0.1:" + public,
		"admin":      `admin: {listen: "127.0.0.1:` + admin + `"}`,
	} {
		own := regexp.MustCompile(`(?m)^` + key + `:.*$`)
		if own.MatchString(text) {
			text = own.ReplaceAllLiteralString(text, line)
		} else {
			text += "\n" + line + "\n"
		}
	}
	writeFile(t, config, text)
}

// cli runs a command on the gateway's own configuration, while it serves.
func (gw *liveGateway) cli(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), gw.bin, append(args, "--config", gw.config)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A visitor sends requests, with a token if it has one.
type visitor struct {
	gw    *liveGateway
	token string
}

func (gw *liveGateway) visitor() visitor { return visitor{gw: gw} }

func (gw *liveGateway) register(t *testing.T, email string) visitor {
	t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": goodPassword})
	if err != nil {
		t.Fatal(err)
	}
	gw.visitor().want(t, 201, "POST", "/register", string(body), "Content-Type: application/json")
	return gw.login(t, email)
}

func (gw *liveGateway) login(t *testing.T, email string) visitor {
	t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": goodPassword})
	if err != nil {
		t.Fatal(err)
	}
	var grant struct {
		AccessToken string `json:"access_token"`
	}
	got := gw.visitor().want(t, 200, "POST", "/login", string(body), "Content-Type: application/json")
	if err := json.Unmarshal([]byte(got.body), &grant); err != nil || grant.AccessToken == "" {
		t.Fatalf("login answers %q", got.body)
	}
	return visitor{gw, grant.AccessToken}
}

// An answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
	url    *url.URL
}

func (a answer) wantError(t *testing.T, code string) {
	t.Helper()
	var body struct{ Error, Message, Request_ID string }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error != code || body.Message == "" || body.Request_ID == "" {
		t.Errorf("%s: body %q, want error %q with message and request_id", a.url, a.body, code)
	}
}

// want sends a request and checks the status of its answer. A header line is
// "Name: value"; its name is sent exactly as it is spelled.
func (v visitor) want(t *testing.T, status int, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.gw.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header[name] = append(req.Header[name], value)
	}
	if v.token != "" {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	got := send(t, v.gw.client, req)
	if got.status != status {
		t.Fatalf("%s %s %v = %d, want %d: %.300s", method, path, header, got.status, status, got.body)
	}
	return got
}

func send(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", req.URL, err)
	}
	return answer{res.StatusCode, res.Header, string(body), res.Request.URL}
}

// A browser keeps cookies, follows redirects and sends what browsers send.
type browser struct {
	gw     *liveGateway
	client *http.Client
}

func (gw *liveGateway) browser(t *testing.T) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{gw, &http.Client{Timeout: 20 * time.Second, Jar: jar}}
}

func (b browser) follow(t *testing.T, path string) answer {
	t.Helper()
	return b.navigate(t, "GET", b.gw.url+path, "")
}

func (b browser) navigate(t *testing.T, method, url, form string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.gw.url)
	}
	return send(t, b.client, req)
}

// submit fills in the form of a page, and sends the hidden fields along.
func (b browser) submit(t *testing.T, page answer, fields url.Values) answer {
	t.Helper()
	form := regexp.MustCompile(`(?is)<form[^>]*method="?post"?[^>]*>`).FindString(page.body)
	if form == "" {
		t.Fatalf("no form in %s: %s", page.url, page.body)
	}
	action := page.url
	if m := regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(form); m != nil {
		var err error
		if action, err = page.url.Parse(strings.ReplaceAll(m[1], "&amp;", "&")); err != nil {
			t.Fatal(err)
		}
	}
	for _, input := range regexp.MustCompile(`(?i)<input[^>]*type="?hidden"?[^>]*>`).FindAllString(page.body, -1) {
		name := regexp.MustCompile(`name="?([^" >]*)`).FindStringSubmatch(input)
		value := regexp.MustCompile(`value="([^"]*)"`).FindStringSubmatch(input)
		if name != nil && value != nil {
			fields.Set(name[1], strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(value[1]))
		}
	}
	return b.navigate(t, "POST", action.String(), fields.Encode())
}
