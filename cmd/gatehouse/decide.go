package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/endpoints"
	"gatehouse/authn/pages"
	"gatehouse/config"
	"gatehouse/proxy"
)

// drySnapshot compiles cfg to ask it questions. It opens no database, makes no
// key and signs nothing.
func drySnapshot(cfg *config.Config) (*proxy.Snapshot, error) {
	nobody := authn.Join(nil)
	shown, err := pages.New(cfg)
	if err != nil {
		return nil, err
	}
	own, err := endpoints.New(endpoints.Options{Config: cfg, Pages: shown, Service: &authn.Service{}, Verifier: nobody})
	if err != nil {
		return nil, err
	}
	return proxy.NewSnapshot(proxy.SnapshotOptions{
		Config:    cfg,
		Endpoints: own,
		Pages:     shown,
		Verifier:  nobody,
		// A real one would be a credential, printed.
		Assert: func(_ *authn.Identity, audience string, _ time.Duration) (string, error) {
			return fmt.Sprintf("(a signed assertion for %q)", audience), nil
		},
	})
}

// pretend is the identity that u's token would prove, with further claims.
func pretend(u authn.User, claims map[string]any) *authn.Identity {
	roles := make([]any, len(u.Roles))
	for i, role := range u.Roles {
		roles[i] = role
	}
	all := map[string]any{"sub": u.ID, "email": u.Email, "name": u.Name, "roles": roles}
	maps.Copy(all, claims)
	now := time.Now()
	return &authn.Identity{
		ID: u.ID, Email: u.Email, Name: u.Name, Roles: u.Roles, Claims: all,
		Generation: u.Generation, Issued: now, Expires: now.Add(time.Hour),
	}
}

// A verdict is a decision and what follows from it.
type verdict struct {
	proxy.Decision
	refused  *authn.Refusal
	status   int
	outgoing *http.Request // what the upstream would get; nil if nothing
}

// A decider is Explain or DecideAs of a snapshot.
type decider func(*http.Request, *authn.Identity) (proxy.Decision, error)

// judge asks the snapshot what it would do with r from id, who may be nobody.
func judge(s *proxy.Snapshot, decide decider, r *http.Request, id *authn.Identity) verdict {
	d, err := decide(r, id)
	v := verdict{Decision: d, status: http.StatusOK}
	if err == nil && d.Endpoint != nil {
		err = probe(d.Endpoint, r)
	}
	if err == nil && d.Forwards() {
		v.outgoing, err = s.Outgoing(r, d)
	}
	if err == nil {
		return v
	}
	refused := authn.AsRefusal(err)
	return v.refuse(refused, s.StatusOf(r, d, refused))
}

func (v verdict) refuse(refused *authn.Refusal, status int) verdict {
	v.refused, v.status, v.outgoing = refused, status, nil
	return v
}

// probe finds out whether one of the gateway's own endpoints would refuse r out
// of hand: there is none of that name, or it has another method. It asks with a
// method that no endpoint has, so that none of them does anything.
func probe(endpoint proxy.HandlerFunc, r *http.Request) error {
	with := *r
	with.Method = "PROBE"
	header := headerOnly{}
	err := endpoint(header, &with)
	if !errors.Is(err, authn.ErrMethodNotAllowed) {
		return err
	}
	for allowed := range strings.SplitSeq(http.Header(header).Get("Allow"), ",") {
		if strings.TrimSpace(allowed) == r.Method {
			return nil
		}
	}
	return err
}

// headerOnly is a response that goes nowhere.
type headerOnly http.Header

func (h headerOnly) Header() http.Header         { return http.Header(h) }
func (h headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headerOnly) WriteHeader(int)             {}

// reason says why the verdict is what it is.
func (v verdict) reason() string {
	switch {
	case v.refused != nil:
		return cmp.Or(v.refused.Cause(), v.refused.Message)
	case v.Endpoint != nil || v.Route == nil:
		return "the gateway answers this itself"
	case v.outgoing == nil:
		return "the gateway answers this CORS preflight itself"
	case v.Route.Access.Kind == config.AccessPublic:
		return "public: anyone may, nothing is verified"
	case v.Route.Access.Kind == config.AccessOptional:
		return "optional: anyone may, signed in or not"
	case v.Route.Access.Kind == config.AccessAuthenticated:
		return "authenticated: anyone who is signed in may"
	}
	return "wanted and given: " + accessText(v.Route.Access)
}

// upstream is the URL that the upstream would be asked for, in the words of the
// configuration; "" if nothing is forwarded. A socket and the path are held
// apart by a colon.
func (v verdict) upstream() string {
	if v.outgoing == nil {
		return ""
	}
	u := *v.outgoing.URL
	scheme, socket, _ := strings.Cut(v.Route.Upstream[0].URL, ":")
	switch strings.ToLower(scheme) {
	case "echo":
		return "echo:" + u.RequestURI()
	case "unix":
		return "unix:" + socket + ":" + u.RequestURI()
	case "h2c":
		u.Scheme = "h2c"
	}
	return u.String()
}

// headersOf is the header of an outgoing request as one value for each name.
func headersOf(r *http.Request) map[string]string {
	all := make(map[string]string, len(r.Header)+1)
	for name, values := range r.Header {
		if len(values) > 0 {
			all[name] = strings.Join(values, ", ")
		}
	}
	if host := cmp.Or(r.Host, r.URL.Host); host != "" {
		all["Host"] = host
	}
	return all
}

// testClient is the address that explained requests come from: one of
// RFC 5737, that is nobody's and no trusted proxy's.
const testClient = "192.0.2.1:49152"

// isToken matches what methods and the names of header fields can be (RFC 9110,
// section 5.6.2).
var isToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// controls are what no header value holds.
func controls(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// requestOf is the request that a server would read if a client sent method and
// target with these header lines. A target without a host goes to base.
func requestOf(base, method, target string, headers []string) (*http.Request, error) {
	if !isToken.MatchString(method) {
		return nil, fmt.Errorf("method %q: want one such as GET", method)
	}
	scheme, host, path, err := splitTarget(base, target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: method, Host: host, RequestURI: path, RemoteAddr: testClient,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
	}
	if scheme == "https" {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, ServerName: host}
	}
	// What cannot be parsed is refused by the gateway, which reads RequestURI.
	if r.URL, err = url.ParseRequestURI(path); err != nil {
		r.URL = &url.URL{Path: "/"}
	}
	for _, line := range headers {
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken.MatchString(name) || strings.ContainsFunc(value, controls) {
			return nil, fmt.Errorf("-H %q: want 'NAME: VALUE'", line)
		}
		if http.CanonicalHeaderKey(name) == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return r, nil
}

// splitTarget takes a URL apart without decoding any of it: whether "/%2e" is
// let through is not for this command to decide.
func splitTarget(base, target string) (scheme, host, path string, err error) {
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", "", "", fmt.Errorf("URL %q: want no blanks or control characters, write %%20 for a blank", target)
	}
	if strings.HasPrefix(target, "/") || target == "*" {
		scheme, host, _ = strings.Cut(base, "://")
		return scheme, host, target, nil
	}
	scheme, rest, _ := strings.Cut(target, "://")
	scheme = strings.ToLower(scheme)
	end := strings.IndexAny(rest+"/", "/?#")
	host, path = rest[:end], rest[end:]
	if scheme != "http" && scheme != "https" || host == "" {
		return "", "", "", fmt.Errorf("URL %q: want a path such as /admin, or http://HOST/PATH", target)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return scheme, host, path, nil
}

// urlOf is the URL of a request that requestOf made, as it was given.
func urlOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if r.RequestURI == "*" {
		return "*"
	}
	return scheme + "://" + r.Host + r.RequestURI
}
