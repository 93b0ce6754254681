package proxy

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"gatehouse/authn"
	"gatehouse/config"
)

func TestBearerToken(t *testing.T) {
	for field, want := range map[string]string{
		"Bearer abc":            "abc",
		"bearer abc":            "abc",
		"BEARER  abc":           "abc",
		"Bearer a.b-c_d~e+f/g=": "a.b-c_d~e+f/g=",
		"Bearer":                "refused",
		"Bearer ":               "refused",
		"Bearer\tabc":           "refused",
		"Bearer a b":            "refused",
		"Bearer a,Bearer b":     "refused",
		"Bearer,a":              "refused",
		"Bearer \"a\"":          "refused",
		"Basic abc":             "",
		"Token abc":             "",
		"Bearerish abc":         "",
		"":                      "",
	} {
		token, _, err := bearerToken(field)
		if err != nil {
			token = "refused"
		}
		if token != want {
			t.Errorf("bearerToken(%q) = %q, %v, want %q", field, token, err, want)
		}
	}
}

var plainNames = new(config.Config).Cookies() // without https

// The same holds for each of the gateway's cookies.
func TestReadOtherCookies(t *testing.T) {
	for header, want := range map[string][2]string{
		"gatehouse-refresh=r; gatehouse-known=k":                    {"r", "k"},
		"gatehouse-refresh=r; gatehouse-known=k; gatehouse-known=l": {"r", ""},
		"Gatehouse-Refresh=r; gatehouse-refresh=s":                  {"", ""},
		"gatehouse-known=\"k\"; gatehouse-refresh=r s":              {"", ""},
		"__Host-gatehouse-known=k; __Host-gatehouse-refresh=r":      {"", ""},
	} {
		cr, err := credentialReader(plainNames).read(http.Header{"Cookie": {header}})
		if err != nil || cr.refresh != want[0] || cr.known != want[1] || cr.token != "" {
			t.Errorf("cookies of %q = %+v, %v, want %q", header, cr, err, want)
		}
	}
}

func TestReadCookies(t *testing.T) {
	for header, want := range map[string]string{
		"gatehouse=a":                                 "a",
		"x=1; gatehouse=a;y=2":                        "a",
		"gatehouse=a; gatehouse=b":                    "",
		"gatehouse=a; gatehouse =b":                   "",
		"gatehouse =b; gatehouse=a":                   "",
		" gatehouse=a":                                "a",
		"gatehouse =b":                                "",
		"GATEHOUSE=b":                                 "",
		"GATEHOUSE=b; gatehouse=a":                    "",
		"\"gatehouse\"=b; gatehouse=a":                "",
		"\u2000gatehouse=b; gatehouse=a":              "",
		"__Host-gatehouse=a":                          "",
		"gatehouse=a b":                               "",
		"gatehouse=\"a\"":                             "",
		"gatehouse":                                   "",
		strings.Repeat("a=b; ", 4000) + "gatehouse=a": "a",
	} {
		jar, err := readCookies([]string{header}, plainNames)
		if err != nil || jar.Session != want {
			t.Errorf("readCookies(%.60q) = %q, %v, want %q", header, jar.Session, err, want)
		}
	}
	if _, err := readCookies([]string{"a=\x00"}, plainNames); authn.AsRefusal(err).Code != "header_too_large" {
		t.Errorf("a control byte in Cookie: %v, want 431", err)
	}
}

// FuzzCredentials: nothing is taken for a token that is not written as one
// token68, and no cookie of the gateway's stays in what is forwarded.
func FuzzCredentials(f *testing.F) {
	for _, seed := range []string{"Bearer x", "bearer  x", "Bearer a,b", "Basic x"} {
		f.Add(seed, "gatehouse=a; b=c")
	}
	f.Add("", "gatehouse =a; =gatehouse=b; \"gatehouse\"=c; \u2000gatehouse=d")
	c := credentialReader(plainNames)
	f.Fuzz(func(t *testing.T, authorization, cookie string) {
		h := http.Header{"Authorization": {authorization}, "Cookie": {cookie}}
		cr, err := c.read(h)
		if err != nil {
			if ref := authn.AsRefusal(err); Status(ref) >= 500 {
				t.Fatalf("read(%q, %q): %v", authorization, cookie, err)
			}
			return
		}
		if !isToken68(cr.token) {
			t.Fatalf("read(%q, %q): token %q", authorization, cookie, cr.token)
		}
		if cr.fromCookie && strings.Count(cookie, "gatehouse="+cr.token) == 0 {
			t.Fatalf("read(%q, %q): token %q is in no cookie", authorization, cookie, cr.token)
		}
		left := withoutOwnCookies([]string{cookie})
		for _, field := range left {
			for pair := range strings.SplitSeq(field, ";") {
				name, _, _ := strings.Cut(pair, "=")
				if name = strings.ToLower(strings.Trim(name, " \t\"")); strings.HasPrefix(name, "gatehouse") || strings.HasPrefix(name, "__host-gatehouse") {
					t.Fatalf("withoutOwnCookies(%q) = %q", cookie, left)
				}
			}
			// What net/http would read, too.
			r := http.Request{Header: http.Header{"Cookie": {field}}}
			if _, err := r.Cookie("gatehouse"); err == nil {
				t.Fatalf("withoutOwnCookies(%q) = %q, in which net/http finds a session", cookie, left)
			}
		}
	})
}

func TestPeerOf(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct{ remote, forwardedFor, want string }{
		{"192.0.2.1:5", "1.1.1.1", "192.0.2.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"10.0.0.1:5", "1.1.1.1, 2.2.2.2", "2.2.2.2"},
		{"10.0.0.1:5", "1.1.1.1, 2.2.2.2, 10.9.9.9", "2.2.2.2"},
		{"10.0.0.1:5", "1.1.1.1, unknown", "10.0.0.1"},
		{"10.0.0.1:5", "1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"},
		{"10.0.0.1:5", "::ffff:10.2.2.2", "10.2.2.2"},
		{"[::ffff:10.0.0.1]:5", "2001:db8::7", "2001:db8::7"},
		{"[::1]:5", "[2001:db8::7]:4711", "2001:db8::7"},
		{"[::1]:5", "9.9.9.9:80", "9.9.9.9"},
		{"@", "1.1.1.1", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwardedFor != "" {
			r.Header.Set("X-Forwarded-For", c.forwardedFor)
		}
		if got := peerOf(r, trusted).client.String(); got != c.want {
			t.Errorf("peerOf(%s, %q) = %s, want %s", c.remote, c.forwardedFor, got, c.want)
		}
	}
}

// TestPeerSecure: what a trusted proxy does not say of the scheme, the
// connection says.
func TestPeerSecure(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		remote, proto string
		tls, want     bool
	}{
		{"10.0.0.1:5", "", true, true},
		{"10.0.0.1:5", "", false, false},
		{"10.0.0.1:5", "javascript", true, true},
		{"10.0.0.1:5", "http", true, false},
		{"10.0.0.1:5", "HTTPS", false, true},
		{"10.0.0.1:5", "https, http", false, false},
		{"192.0.2.1:5", "https", false, false},
		{"192.0.2.1:5", "http", true, true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		if got := peerOf(r, trusted).secure; got != c.want {
			t.Errorf("peerOf(%+v) secure %v, want %v", c, got, c.want)
		}
	}
}

func TestHolds(t *testing.T) {
	var claims map[string]any
	d := json.NewDecoder(strings.NewReader(`{"s":"blue","n":7,"f":1.5,"b":true,"list":["a",7,true,["x"]],"o":{"k":"v"},"a.b":"literal"}`))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want any
		ok   bool
	}{
		{"s", "blue", true}, {"s", "Blue", false}, {"s", true, false},
		{"n", int64(7), true}, {"n", "7", false}, {"n", 7.0, true}, {"f", 1.5, true}, {"f", int64(1), false},
		{"b", true, true}, {"b", "true", false},
		{"list", "a", true}, {"list", int64(7), true}, {"list", "x", false}, {"list", "b", false},
		{"o", "v", false}, {"o.k", "v", true}, {"a.b", "literal", true},
		{"missing", "", false}, {"missing", false, false},
	} {
		if got := holds((&authn.Identity{Claims: claims}).Claim(c.name), c.want); got != c.ok {
			t.Errorf("claim %s holds %v: %v, want %v", c.name, c.want, got, c.ok)
		}
	}
}

func TestIdentityEncoding(t *testing.T) {
	for _, c := range []struct{ encoding, separator, template, want string }{
		{"percent", ",", "{name}", "%20Zo%C3%AB %25 a,b%0A"},
		{"utf8", ",", "{name}", "%20Zoë %25 a,b%0A"},
		{"percent", ",", "{claim.blanks}", "%E2%80%85a%C2%85b%E2%80%A8c%E3%80%80"},
		{"utf8", ",", "{claim.blanks}", "%E2%80%85a%C2%85b%E2%80%A8c%E3%80%80"},
		{"utf8", ",", "{claim.scripts}", "José 王 नमस्ते 🙂"},
		{"utf8", ",", "{claim.broken}", "é%FF%C3"},
		{"percent", ",", "{roles}", "a%2Cb,c|d"},
		{"percent", "|", "{roles}", "a,b|c%7Cd"},
		{"percent", ", ", "{roles}", "a%2Cb, c|d"},
		{"percent", ",", "user={id}; mail={email}", "user=42; mail="},
		{"percent", ",", "{email}", ""},
		{"percent", ",", "{claim.list}", "x,1,true"},
		{"percent", ",", "{claim.object}", ""},
		{"percent", ",", "{claim.deep.er}", "down"},
		{"percent", ",", "fixed", "fixed"},
	} {
		set, err := compileIdentity(&config.Config{Identity: config.Identity{Headers: map[string]string{"X-H": c.template}, RolesSeparator: c.separator, Encoding: c.encoding}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := http.Header{}
		set.set(out, &authn.Identity{ID: "42", Name: " Zoë % a,b\n", Roles: []string{"a,b", "c|d"}, Claims: map[string]any{
			"list": []any{"x", json.Number("1"), true, nil}, "object": map[string]any{}, "deep": map[string]any{"er": "down"},
			"blanks": "\u2005a\u0085b\u2028c\u3000", "scripts": "José 王 नमस्ते 🙂", "broken": "é\xff\xc3",
		}})
		if got := out.Get("X-H"); got != c.want {
			t.Errorf("%s %q %q: %q, want %q", c.encoding, c.separator, c.template, got, c.want)
		}
	}
}

// FuzzIdentityHeader: whatever a claim holds, the header is one line of
// printable text, and roles come apart at the separator as they went in.
func FuzzIdentityHeader(f *testing.F) {
	f.Add("ann", "ops", false)
	f.Add("a\r\nX-Forwarded-User: b", "a,b", true)
	f.Add("\xff\x85", " ", true)
	f.Add("\u2005", "0", true)
	f.Fuzz(func(t *testing.T, name, role string, utf bool) {
		encoding := map[bool]string{true: "utf8", false: "percent"}[utf]
		set, err := compileIdentity(&config.Config{Identity: config.Identity{Headers: map[string]string{"X-N": "{name}", "X-R": "{roles}"}, RolesSeparator: ",", Encoding: encoding}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := http.Header{}
		set.set(out, &authn.Identity{Name: name, Roles: []string{role, "last"}})
		for _, value := range []string{out.Get("X-N"), out.Get("X-R")} {
			for i := 0; i < len(value); i++ {
				if c := value[i]; c < ' ' || c == 0x7f || c >= 0x80 && !utf {
					t.Fatalf("header value %q", value)
				}
			}
			for _, r := range value {
				if !unicode.IsPrint(r) {
					t.Fatalf("header value %q holds %q", value, r)
				}
			}
			if strings.TrimSpace(value) != value {
				t.Fatalf("header value %q has outer blanks", value)
			}
		}
		if got := strings.Split(out.Get("X-R"), ","); len(got) != 2 || unescape(got[0]) != role {
			t.Fatalf("role %q went out as %q", role, got)
		}
	})
}
