package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"gatehouse/authn"
)

// throughEcho sends a request through a ReverseProxy to the echo: app, as a
// route does.
func throughEcho(t *testing.T, send func(r *http.Request)) *http.Response {
	t.Helper()
	return throughEchoBody(t, "GET", "/", nil, send)
}

func throughEchoBody(t *testing.T, method, target string, body io.Reader, send func(r *http.Request)) *http.Response {
	t.Helper()
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: newEchoTransport("remote-user"),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "echo"
			p.Out.Header["X-Forwarded-User"] = []string{"ann"}
		},
	})
	t.Cleanup(proxy.Close)
	r := upstreamRequest(t, method, proxy.URL, body)
	r.Host = "app.example"
	r.URL.Opaque = target
	if send != nil {
		send(r)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func echoedBy(t *testing.T, res *http.Response) echoed {
	t.Helper()
	var seen echoed
	if err := json.NewDecoder(res.Body).Decode(&seen); err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestEchoShowsTheRequest(t *testing.T) {
	res := throughEchoBody(t, "POST", "/a//%2e;x/b?q=1&%zz", strings.NewReader("héllo"), func(r *http.Request) {
		r.Header["X-Twice"] = []string{"1", "2"}
		r.Header.Set("Remote-User", "ann@example.com")
		r.Header.Set("User-Agent", "")
	})
	if got := res.Header.Get("Content-Type"); res.StatusCode != 200 || got != "application/json" {
		t.Errorf("%d %s, want 200 application/json", res.StatusCode, got)
	}
	seen := echoedBy(t, res)
	if seen.Method != "POST" || seen.Host != "app.example" || seen.Path != "/a//%2e;x/b" || seen.Protocol != "HTTP/1.1" {
		t.Errorf("saw %s %s%s %s", seen.Method, seen.Host, seen.Path, seen.Protocol)
	}
	if seen.Query != "q=1" { // ReverseProxy drops what it cannot parse
		t.Errorf("saw query %q", seen.Query)
	}
	if seen.Body != (echoedBody{Size: 6, Text: "héllo"}) || seen.Headers.Get("Content-Length") != "6" {
		t.Errorf("saw body %+v with Content-Length %q", seen.Body, seen.Headers.Get("Content-Length"))
	}
	if got := strings.Join(seen.Headers["X-Twice"], "+"); got != "1+2" {
		t.Errorf("saw X-Twice %q", got)
	}
	if _, ok := seen.Headers["User-Agent"]; ok {
		t.Error("saw a User-Agent that nobody sent")
	}
	if len(seen.Identity) != 2 || seen.Identity.Get("X-Forwarded-User") != "ann" || seen.Identity.Get("Remote-User") != "ann@example.com" {
		t.Errorf("saw identity %v", seen.Identity)
	}
}

func TestEchoBodies(t *testing.T) {
	long := strings.Repeat("x", echoPreview-1) + "é" + strings.Repeat("y", 1<<20)
	for name, c := range map[string]struct {
		body string
		want echoedBody
	}{
		"none":              {"", echoedBody{}},
		"cut in a letter":   {long, echoedBody{int64(len(long)), long[:echoPreview-1], true}},
		"binary":            {"a\x00b", echoedBody{Size: 3}},
		"no UTF-8":          {"a\xff", echoedBody{Size: 2}},
		"ends in a letter":  {"a\xc3", echoedBody{Size: 2}},
		"long and no UTF-8": {strings.Repeat("\xff", 5000), echoedBody{Size: 5000}},
	} {
		seen := echoedBy(t, throughEchoBody(t, "PUT", "/", strings.NewReader(c.body), nil))
		if seen.Body != c.want {
			seen.Body.Text = seen.Body.Text[:min(20, len(seen.Body.Text))]
			t.Errorf("%s: saw %+v", name, seen.Body)
		}
	}
}

func TestEchoTrailers(t *testing.T) {
	r := upstreamRequest(t, "POST", "http://echo/", io.NopCloser(strings.NewReader("x")))
	r.Trailer = http.Header{"X-Sum": {"9"}}
	res, err := newEchoTransport().RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	seen := echoedBy(t, res)
	if seen.Trailers.Get("X-Sum") != "9" || seen.Headers.Get("Trailer") != "X-Sum" || seen.Headers.Get("Transfer-Encoding") != "chunked" {
		t.Errorf("saw trailers %v after headers %v", seen.Trailers, seen.Headers)
	}
}

func TestEchoPage(t *testing.T) {
	const evil = `<script>alert(1)</script>`
	res := throughEchoBody(t, "POST", "/?"+evil, strings.NewReader(evil), func(r *http.Request) {
		r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		r.Header.Set("X-Evil", evil)
	})
	b, _ := io.ReadAll(res.Body)
	page := string(b)
	if got := res.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	if strings.Contains(page, "<script") || strings.Count(page, "&lt;script&gt;") < 2 {
		t.Errorf("the page does not escape: %s", page)
	}
	if !strings.Contains(page, `<tr class="identity"><th scope="row">X-Forwarded-User</th><td>ann</td>`) {
		t.Errorf("the page does not highlight the identity: %s", page)
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "'sha256-"+styleHash(style)+"'") ||
		!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy %q does not fit the page", policy)
	}
}

func TestEchoFormats(t *testing.T) {
	for accept, html := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/html": true, "TEXT/HTML": true,
		"application/json, text/html;q=0.5": true, "text/html;q=0": false, "text/htmlx": false,
	} {
		res := throughEcho(t, func(r *http.Request) { r.Header.Set("Accept", accept) })
		if got := strings.HasPrefix(res.Header.Get("Content-Type"), "text/html"); got != html {
			t.Errorf("Accept %q: HTML = %t, want %t", accept, got, html)
		}
	}
}

func TestEchoHead(t *testing.T) {
	res := throughEchoBody(t, "HEAD", "/", nil, nil)
	if b, err := io.ReadAll(res.Body); len(b) != 0 || err != nil || res.ContentLength <= 0 {
		t.Errorf("HEAD: body %q, %v, Content-Length %d", b, err, res.ContentLength)
	}
}

func TestEchoIgnoresUpgrades(t *testing.T) {
	res := throughEcho(t, func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	})
	if seen := echoedBy(t, res); res.StatusCode != 200 || seen.Headers.Get("Upgrade") != "websocket" {
		t.Errorf("status %d, saw %v", res.StatusCode, seen.Headers)
	}
}

func TestEchoBodyErrors(t *testing.T) {
	limited := http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("too long")), 3)
	_, err := newEchoTransport().RoundTrip(upstreamRequest(t, "POST", "http://echo/", limited))
	if got := classify(err); !errors.Is(got, authn.ErrBodyTooLarge) {
		t.Errorf("a body over the limit: %v, want body_too_large", got)
	}
	broken := io.NopCloser(errorReader{io.ErrUnexpectedEOF})
	_, err = newEchoTransport().RoundTrip(upstreamRequest(t, "POST", "http://echo/", broken))
	if got := classify(err); !errors.Is(got, authn.ErrInvalidRequest) {
		t.Errorf("a broken body: %v, want invalid_request", got)
	}
}
