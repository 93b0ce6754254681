package proxy

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ in, scheme, url, socket, shown string }{
		{"http://localhost:3000", "http", "http://localhost:3000", "", "http://localhost:3000"},
		{"HTTP://App.Example:80/", "http", "http://app.example:80", "", "http://app.example:80"},
		{"https://app.example/base/", "https", "https://app.example/base", "", "https://app.example/base"},
		{"http://[::1]:3000/a%20b", "http", "http://[::1]:3000/a%20b", "", "http://[::1]:3000/a%20b"},
		{"http://h/@scope", "http", "http://h/@scope", "", "http://h/@scope"},
		{"h2c://127.0.0.1:50051", "h2c", "http://127.0.0.1:50051", "", "h2c://127.0.0.1:50051"},
		{"unix:/run/app.sock", "unix", "http://unix", "/run/app.sock", "unix:/run/app.sock"},
		{"unix:///run/app.sock", "unix", "http://unix", "/run/app.sock", "unix:/run/app.sock"},
		{"unix:app.sock", "unix", "http://unix", "app.sock", "unix:app.sock"},
		{"unix:@abstract", "unix", "http://unix", "@abstract", "unix:@abstract"},
		{"echo:", "echo", "http://echo", "", "echo:"},
	} {
		got, err := parseTarget(c.in)
		if err != nil {
			t.Errorf("parseTarget(%q): %v", c.in, err)
			continue
		}
		if got.scheme != c.scheme || got.url.String() != c.url || got.socket != c.socket || got.String() != c.shown {
			t.Errorf("parseTarget(%q) = %s %s %s %s, want %s %s %s %s",
				c.in, got.scheme, got.url, got.socket, got, c.scheme, c.url, c.socket, c.shown)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	const wantsURL = "want a URL such as http://localhost:3000"
	for in, want := range map[string]string{
		"":                                  wantsURL,
		"localhost:3000":                    wantsURL,
		"127.0.0.1:3000":                    wantsURL,
		"ftp://x":                           wantsURL,
		"http:x":                            wantsURL,
		"http:///x":                         wantsURL,
		"http://:3000":                      wantsURL,
		"http://a b":                        wantsURL,
		"ws://x":                            "websockets pass through",
		"http://x:0":                        `port "0"`,
		"http://x:65536":                    `port "65536"`,
		"http://x?a":                        "no query",
		"http://x?":                         "no query",
		"http://x#a":                        "no fragment",
		"http://x/a/../b":                   "base path",
		"http://x/a/%2e%2e/b":               "base path",
		"http://x//a":                       "base path",
		"http://x/a//":                      "base path",
		"http://x/a%2fb":                    "base path",
		"http://x/a%5Cb":                    "base path",
		"unix:":                             "path of a socket",
		"unix:/":                            "path of a socket",
		"unix://run/app.sock":               "path of a socket",
		"unix:/" + strings.Repeat("a", 107): "at most 107 bytes",
		"echo:x":                            "takes nothing",
		"echo://":                           "takes nothing",
	} {
		if _, err := parseTarget(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseTarget(%q): error %v, want one with %q", in, err, want)
		}
	}
}

func TestParseTargetKeepsPasswords(t *testing.T) {
	for _, in := range []string{
		"http://ann:hunter22@x", "http://ann:hunter22%@x", "redis://:hunter22@x", "ws://ann:hunter22@x", "http://ann:hunter22@:80",
	} {
		_, err := parseTarget(in)
		if err == nil || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("parseTarget(%q): error %v, want one without the password", in, err)
		}
	}
}
