package proxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// fromBrowser is a request to http://gw.example with header fields in pairs.
func fromBrowser(method string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, "http://gw.example/", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func TestCrossOrigin(t *testing.T) {
	c := newCrossOrigin("https://Public.example:443/")
	shared := compileCORS(config.CORS{Origins: []string{"https://friend.example"}, Credentials: true})
	open := compileCORS(config.CORS{Origins: []string{"*", "https://friend.example"}, Credentials: true})
	plain := compileCORS(config.CORS{Origins: []string{"https://friend.example"}})

	check := func(want error, method string, websocket bool, co *cors, fields ...string) {
		t.Helper()
		if err := c.check(fromBrowser(method, fields...), websocket, co); !errors.Is(err, want) {
			t.Errorf("check(%s websocket=%t %q) = %v, want %v", method, websocket, fields, err, want)
		}
	}
	// A websocket handshake is held to what an unsafe request is.
	for method, websocket := range map[string]bool{"POST": false, "DELETE": false, "post": false, "QUERY": false, "GET": true} {
		allow := func(fields ...string) { t.Helper(); check(nil, method, websocket, nil, fields...) }
		deny := func(fields ...string) { t.Helper(); check(authn.ErrCrossOrigin, method, websocket, nil, fields...) }
		allow()
		allow("Sec-Fetch-Site", "same-origin")
		allow("Sec-Fetch-Site", "none")
		allow("Sec-Fetch-Site", "same-origin", "Origin", "https://gw.example")
		allow("Origin", "http://gw.example")
		allow("Origin", "https://gw.example") // TLS ended before us: only the host is compared
		allow("Origin", "https://public.example")
		allow("Sec-Fetch-Site", "cross-site", "Origin", "https://public.example")
		deny("Sec-Fetch-Site", "cross-site")
		deny("Sec-Fetch-Site", "same-site")
		deny("Sec-Fetch-Site", "rubbish")
		deny("Sec-Fetch-Site", "cross-site", "Origin", "https://gw.example")
		deny("Origin", "null")
		deny("Origin", "https://evil.example")
		deny("Origin", "https://gw.example:8443")
		deny("Origin", "https://gw.example.evil.example")
		deny("Origin", "http://public.example")
		deny("Origin", "https://friend.example")
		deny("Origin", "https://gw.example", "Origin", "https://evil.example")
		deny("Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site")

		check(nil, method, websocket, shared, "Origin", "https://friend.example", "Sec-Fetch-Site", "cross-site")
		check(authn.ErrCrossOrigin, method, websocket, shared, "Origin", "https://evil.example")
		check(authn.ErrCrossOrigin, method, websocket, shared, "Origin", "null")
		check(authn.ErrCrossOrigin, method, websocket, plain, "Origin", "https://friend.example")
		check(authn.ErrCrossOrigin, method, websocket, open, "Origin", "https://friend.example")
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		check(nil, method, false, nil, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	}
	r := fromBrowser("GET", "Origin", "null")
	if c.check(r, true, nil); r.Method != "GET" {
		t.Error("check changed the request")
	}
}

func TestCrossOriginWithoutPublicURL(t *testing.T) {
	for _, s := range []string{"", "rubbish", "http://[::1", "https://"} {
		c := newCrossOrigin(s)
		if err := c.check(fromBrowser("POST", "Origin", "null"), false, nil); !errors.Is(err, authn.ErrCrossOrigin) {
			t.Errorf("public_url %q: %v, want cross_origin", s, err)
		}
	}
}

func TestPreflight(t *testing.T) {
	c := compileCORS(config.CORS{
		Origins: []string{"https://App.example:443", "http://localhost:5173"}, Methods: []string{"GET", "PUT"},
		Headers: []string{"Content-Type", "X-Key"}, Credentials: true, MaxAge: 10 * time.Minute,
	})
	ask := func(c *cors, fields ...string) (http.Header, bool, error) {
		return c.preflight(fromBrowser("OPTIONS", fields...))
	}
	const origin, method, headers = "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"

	answer, is, err := ask(c, origin, "https://app.example", method, "PUT", headers, "content-type, x-KEY")
	if !is || err != nil {
		t.Fatalf("preflight: %t, %v", is, err)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://app.example", "Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "Content-Type, X-Key",
		"Access-Control-Max-Age": "600",
	} {
		if got := strings.Join(answer[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := strings.Join(answer["Vary"], ","); got != "Origin,Access-Control-Request-Method,Access-Control-Request-Headers" {
		t.Errorf("Vary: %q", got)
	}

	for _, fields := range [][]string{
		{origin, "https://evil.example", method, "PUT"},
		{origin, "https://app.example:8443", method, "PUT"},
		{origin, "https://app.example.evil.example", method, "PUT"},
		{origin, "null", method, "PUT"},
		{origin, "", method, "PUT"},
		{origin, "https://app.example", origin, "https://evil.example", method, "PUT"},
		{origin, "https://app.example", method, "DELETE"},
		{origin, "https://app.example", method, "put"},
		{origin, "https://app.example", method, "PUT", headers, "x-other"},
		{origin, "https://app.example", method, "PUT", headers, "x-key", headers, "x-other"},
	} {
		if _, is, err := ask(c, fields...); !is || !errors.Is(err, authn.ErrCrossOrigin) {
			t.Errorf("preflight(%q) = %t, %v, want cross_origin", fields, is, err)
		}
	}

	for _, r := range []*http.Request{
		fromBrowser("GET", origin, "https://app.example", method, "PUT"),
		fromBrowser("OPTIONS", origin, "https://app.example"),
		fromBrowser("OPTIONS", method, "PUT"),
	} {
		if _, is, err := c.preflight(r); is || err != nil || preflightFor(r) != "" {
			t.Errorf("%s %v is taken for a preflight", r.Method, r.Header)
		}
	}
	if _, is, err := ask(nil, origin, "https://app.example", method, "PUT"); is || err != nil {
		t.Error("a route without cors: answers preflights")
	}
}

func TestPreflightOfAnything(t *testing.T) {
	c := compileCORS(config.CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Credentials: true})
	ask := func(method, headers string) (http.Header, error) {
		answer, _, err := c.preflight(fromBrowser("OPTIONS", "Origin", "https://any.example",
			"Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers))
		return answer, err
	}
	answer, err := ask("PURGE", "authorization,x-a")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "",
		"Access-Control-Allow-Methods": "PURGE", "Access-Control-Allow-Headers": "authorization, x-a",
		"Access-Control-Max-Age": "0",
	} {
		if got := answer.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for method, headers := range map[string]string{"A B": "", "PUT": "x: y", "GET": "a\x80"} {
		if _, err := ask(method, headers); !errors.Is(err, authn.ErrCrossOrigin) {
			t.Errorf("preflight for %q with %q: %v, want cross_origin", method, headers, err)
		}
	}
}

func TestPreflightDefaults(t *testing.T) {
	c := compileCORS(config.CORS{Origins: []string{"https://app.example"}})
	for method, allowed := range map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": false, "DELETE": false} {
		answer, _, err := c.preflight(fromBrowser("OPTIONS", "Origin", "https://app.example", "Access-Control-Request-Method", method))
		if (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed = %t", method, err, allowed)
		}
		if err == nil && (answer.Get("Access-Control-Allow-Credentials") != "" || len(answer["Access-Control-Allow-Headers"]) > 0) {
			t.Errorf("%s: %v allows more than was configured", method, answer)
		}
	}
}

func TestCORSApply(t *testing.T) {
	upstream := func() http.Header {
		return http.Header{
			"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Credentials": {"true"},
			"Access-Control-Expose-Headers": {"X"}, "Vary": {"Accept, ORIGIN"}, "X-Own": {"1"},
		}
	}
	some := compileCORS(config.CORS{Origins: []string{"https://app.example"}, Credentials: true})
	anyone := compileCORS(config.CORS{Origins: []string{"*"}})
	for _, c := range []struct {
		name        string
		cors        *cors
		origin      string
		header      http.Header
		allow, vary string
		credentials string
	}{
		{"allowed", some, "https://app.example", http.Header{}, "https://app.example", "Origin", "true"},
		{"allowed, upstream's removed", some, "https://app.example", upstream(), "https://app.example", "Accept, ORIGIN", "true"},
		{"foreign", some, "https://evil.example", upstream(), "", "Accept, ORIGIN", ""},
		{"no origin", some, "", http.Header{}, "", "Origin", ""},
		{"null", some, "null", http.Header{}, "", "Origin", ""},
		{"anyone", anyone, "https://evil.example", http.Header{}, "*", "", ""},
		{"vary on everything", some, "", http.Header{"Vary": {"*"}}, "", "*", ""},
		{"off", nil, "https://evil.example", upstream(), "*", "Accept, ORIGIN", "true"},
	} {
		h := c.header
		c.cors.apply(h, c.origin)
		allow, vary, creds := h["Access-Control-Allow-Origin"], h["Vary"], h["Access-Control-Allow-Credentials"]
		if strings.Join(allow, "|") != c.allow || strings.Join(vary, "|") != c.vary || strings.Join(creds, "|") != c.credentials {
			t.Errorf("%s: origin %q, vary %q, credentials %q", c.name, allow, vary, creds)
		}
		if c.cors != nil && len(h["Access-Control-Expose-Headers"]) > 0 {
			t.Errorf("%s: the upstream's fields are still there: %v", c.name, h)
		}
	}
	if compileCORS(config.CORS{Credentials: true}) != nil {
		t.Error("cors without origins is on")
	}
	if null := compileCORS(config.CORS{Origins: []string{"null"}, Credentials: true}); null.allows("null") || null.trusts("null") {
		t.Error(`the origin "null" can be allowed`)
	}
}
