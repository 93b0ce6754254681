package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The schemes of a route's upstream:. h2c is HTTP/2 without TLS, as gRPC
// servers behind a gateway speak it.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	schemeH2C   = "h2c"
	schemeUnix  = "unix"
	schemeEcho  = "echo"
)

// target is one URL of a route's upstream:, parsed.
type target struct {
	scheme string
	// url is where requests are sent to, with the base path, which never ends
	// in a slash. Its scheme is http or https whatever the target's is.
	url    *url.URL
	socket string // of unix: only
}

// parseTarget reads one upstream. The error quotes the value, unless there
// could be a password in it.
func parseTarget(s string) (target, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme = strings.ToLower(scheme); scheme {
	case schemeEcho:
		if rest != "" {
			return target{}, fmt.Errorf("upstream %q: echo: takes nothing after it", s)
		}
		return target{scheme: scheme, url: &url.URL{Scheme: schemeHTTP, Host: "echo"}}, nil
	case schemeUnix:
		return unixTarget(s, rest)
	case schemeHTTP, schemeHTTPS, schemeH2C:
		return webTarget(s, scheme)
	case "ws", "wss":
		return target{}, fmt.Errorf("upstream %s: websockets pass through http:// and https:// upstreams", quoteUpstream(s))
	}
	return target{}, wantURL(s)
}

// targets are the targets of a configuration, each once: thousands of routes
// have a handful of upstreams.
type targets map[string]target

// parse is parseTarget, remembered.
func (all targets) parse(s string) (t target, err error) {
	t, known := all[s]
	if !known {
		if t, err = parseTarget(s); err == nil {
			all[s] = t
		}
	}
	return t, err
}

func wantURL(s string) error {
	return fmt.Errorf("upstream %s: want a URL such as http://localhost:3000", quoteUpstream(s))
}

// quoteUpstream keeps what stands before an "@" out of messages.
func quoteUpstream(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "…" + s[i:]
	}
	return strconv.Quote(s)
}

func unixTarget(s, socket string) (target, error) {
	if strings.HasPrefix(socket, "//") && !strings.HasPrefix(socket, "///") {
		return target{}, fmt.Errorf("upstream %q: want the path of a socket, as in unix:/run/app.sock", s)
	}
	if strings.HasPrefix(socket, "/") {
		socket = path.Clean(socket) // unix:///run/app.sock is written as well
	}
	if socket == "" || socket == "/" || strings.ContainsAny(socket, "\x00\r\n?#") {
		return target{}, fmt.Errorf("upstream %q: want the path of a socket, as in unix:/run/app.sock", s)
	}
	// sockaddr_un holds 108 bytes with the final NUL.
	if len(socket) > 107 {
		return target{}, fmt.Errorf("upstream %q: the path of a socket has at most 107 bytes", s)
	}
	return target{scheme: schemeUnix, url: &url.URL{Scheme: schemeHTTP, Host: schemeUnix}, socket: socket}, nil
}

func webTarget(s, scheme string) (target, error) {
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return target{}, wantURL(s)
	}
	if err := checkTarget(u); err != nil {
		return target{}, fmt.Errorf("upstream %s: %w", quoteUpstream(s), err)
	}
	u.Scheme = scheme
	if scheme == schemeH2C {
		u.Scheme = schemeHTTP
	}
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":")
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return target{scheme: scheme, url: u}, nil
}

func checkTarget(u *url.URL) error {
	if u.User != nil {
		return errors.New("user and password do not belong into the URL; use set_headers")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("want no query and no fragment")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("port %q: want 1 to 65535", port)
		}
	}
	base := strings.TrimSuffix(u.Path, "/")
	raw := strings.ToLower(u.RawPath)
	if base != "" && path.Clean(base) != base || strings.ContainsFunc(base, unclear) ||
		strings.Contains(raw, "%2f") || strings.Contains(raw, "%5c") {
		return errors.New("want a base path without dot segments, backslashes, doubled or encoded slashes")
	}
	return nil
}

func unclear(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }

// address is where to connect to over TCP.
func (t target) address() string {
	port := t.url.Port()
	if port == "" {
		port = map[string]string{schemeHTTP: "80", schemeHTTPS: "443"}[t.url.Scheme]
	}
	return net.JoinHostPort(t.name(), port)
}

// name is the host to connect to, as DNS and certificates spell it.
func (t target) name() string {
	name := t.url.Hostname()
	if ascii, err := httpguts.PunycodeHostPort(name); err == nil {
		return ascii
	}
	return name
}

// String is the upstream as the configuration names it.
func (t target) String() string {
	switch t.scheme {
	case schemeEcho:
		return "echo:"
	case schemeUnix:
		return "unix:" + t.socket
	case schemeH2C:
		return schemeH2C + strings.TrimPrefix(t.url.String(), schemeHTTP)
	}
	return t.url.String()
}
