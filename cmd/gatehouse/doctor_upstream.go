package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"gatehouse/config"
)

// An upstream as somebody reaches it who goes around the gateway.
type bypassed struct {
	text   string // as the configuration has it
	base   *url.URL
	socket string // of unix:
	h2c    bool
	routes []*config.Route // that use it
}

// upstreams calls each of them once, whatever number of routes use it.
func (d *doctor) upstreams(ctx context.Context) {
	known := map[string]*bypassed{}
	var all []*bypassed
	for i := range d.cfg.Routes {
		rt := &d.cfg.Routes[i]
		for _, u := range rt.Upstream {
			if known[u.URL] == nil {
				known[u.URL] = newBypassed(u.URL)
				all = append(all, known[u.URL])
			}
			known[u.URL].routes = append(known[u.URL].routes, rt)
		}
	}
	for _, up := range all {
		switch {
		case up.base == nil:
			d.find(levelOK, up.text, "", "skipped: it is the gateway itself")
		case up.socket != "":
			d.judge(up, d.call(ctx, up, up.base.Host), levelNote, "the unix socket")
		case localName(up.base.Hostname()):
			d.judge(up, d.call(ctx, up, up.base.Host), levelNote, "the loopback")
			d.around(ctx, up)
		default:
			level := levelWrong
			if slices.ContainsFunc(d.private, func(host string) bool {
				return strings.EqualFold(host, up.base.Hostname()) || strings.EqualFold(host, up.base.Host)
			}) {
				level = levelNote
			}
			d.judge(up, d.call(ctx, up, up.base.Host), level, up.base.Host)
		}
	}
}

// otherAddresses are those of this machine that are not of the loopback.
func otherAddresses() (others []net.IP, err error) {
	addresses, err := net.InterfaceAddrs()
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			others = append(others, n.IP)
		}
	}
	return others, err
}

func newBypassed(text string) *bypassed {
	up := &bypassed{text: text}
	scheme, rest, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "echo":
		return up
	case "unix":
		up.socket, up.base = path.Clean(rest), &url.URL{Scheme: "http", Host: "unix"}
		return up
	case "h2c":
		up.h2c = true
		text = "http:" + rest
	}
	// The configuration has been loaded with it, so it is one.
	up.base, _ = url.Parse(text)
	return up
}

// around tries an upstream of the loopback at every other address of this
// machine.
func (d *doctor) around(ctx context.Context, up *bypassed) {
	port := up.base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[up.base.Scheme]
	}
	addresses, err := d.addresses()
	if err != nil {
		d.find(levelUnknown, up.text, "", "addresses of this machine: %v", err)
		return
	}
	for _, ip := range addresses {
		host := net.JoinHostPort(ip.String(), port)
		dialer := net.Dialer{Timeout: min(d.timeout, time.Second)}
		conn, err := dialer.DialContext(ctx, "tcp", host)
		if err != nil {
			continue
		}
		_ = conn.Close()
		v := d.call(ctx, up, host)
		if v.err != nil {
			d.find(levelUnknown, up.text, "", "something takes connections at %s, and does not answer as the upstream does", host)
			continue
		}
		d.find(levelWrong, up.text, "let it listen on 127.0.0.1, or on a unix socket",
			"can be reached around the gateway, at %s; %s", host, v.text())
	}
}

// judge tells what came of calling up. believes is the level of one that
// believes.
func (d *doctor) judge(up *bypassed, v bypass, believes, where string) {
	const remedy = "keep everybody else away from it, or let the app verify the assertion (identity.assertion); if nobody but the gateway reaches it, say so with --private"
	switch {
	case v.err != nil:
		d.find(levelUnknown, up.text, "", "cannot be reached: %v", v.err)
	case v.believes && believes == levelWrong:
		d.find(levelWrong, up.text, remedy, "can be reached directly at %s, and %s", where, v.text())
	case v.believes:
		d.find(believes, up.text, "whoever gets to it can be anybody: nothing else than the gateway may", "can be reached directly at %s, and %s", where, v.text())
	case v.refuses:
		d.find(levelOK, up.text, "", "can be reached directly at %s; %s", where, v.text())
	default:
		d.find(levelUnknown, up.text, remedy, "can be reached directly at %s; %s", where, v.text())
	}
}

// A bypass is what an upstream made of forged identities.
type bypass struct {
	err      error
	believes bool
	refuses  bool
	why      string
}

func (v bypass) text() string { return v.why }

// call asks an upstream, at host, without an identity and with forged ones.
func (d *doctor) call(ctx context.Context, up *bypassed, host string) (last bypass) {
	client := up.client(host)
	defer client.CloseIdleConnections()
	seen := map[string]bool{}
	asked := 0
	for _, rt := range up.routes {
		target := up.target(rt)
		key := target + "\x00" + rt.Host
		if seen[key] || asked == 4 { // enough to know an app by
			continue
		}
		seen[key], asked = true, asked+1
		v := d.ask(ctx, client, up, host, target, rt)
		if v.believes || asked == 1 || last.err != nil || v.err == nil && !v.refuses {
			last = v
		}
		if v.believes {
			return v
		}
	}
	return last
}

// target is a path of the upstream that rt leads to.
func (up *bypassed) target(rt *config.Route) string {
	p, _, wild := strings.Cut(rt.Path, "{")
	if wild {
		p = p[:strings.LastIndexByte(p, '/')+1]
	}
	if prefix := strings.TrimSuffix(rt.StripPrefix, "/"); prefix != "" {
		p = strings.TrimPrefix(p, prefix)
	}
	return strings.TrimSuffix(up.base.Path, "/") + "/" + strings.TrimPrefix(p, "/")
}

func (up *bypassed) client(host string) *http.Client {
	t := &http.Transport{Proxy: nil, MaxResponseHeaderBytes: 256 << 10, DisableKeepAlives: true}
	if up.h2c {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	if up.socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", up.socket)
		}
	} else {
		// host may be another address of the same upstream. TLS goes by the name.
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if _, _, err := net.SplitHostPort(host); err == nil {
				address = host
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// An answered is what an upstream said to one call.
type answered struct {
	status int
	text   string // header and the beginning of the body
	cookie bool
}

// ask compares the answers to nobody, to two made-up users, and to a made-up
// assertion.
func (d *doctor) ask(ctx context.Context, client *http.Client, up *bypassed, host, target string, rt *config.Route) bypass {
	get := func(forged http.Header) (answered, error) {
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		defer cancel()
		u := *up.base
		u.Path, u.RawPath = target, ""
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return answered{}, err
		}
		req.Header = forged
		req.Header.Set("User-Agent", "gatehouse-doctor")
		req.Header.Set("Accept", "text/html, application/json;q=0.9, */*;q=0.8")
		if name := d.hostOf(up, rt); name != "" {
			req.Host = name
		}
		res, err := client.Do(req)
		if err != nil {
			return answered{}, fmt.Errorf("no answer: %w", err)
		}
		defer res.Body.Close()
		var text strings.Builder
		_ = res.Header.Write(&text)
		_, _ = io.Copy(&text, io.LimitReader(res.Body, 256<<10)) // a broken body says as much as a whole one
		return answered{res.StatusCode, text.String(), res.Header.Get("Set-Cookie") != ""}, nil
	}
	nobody, err := get(http.Header{})
	if err != nil {
		return bypass{err: err}
	}
	first, second := newMarker(), newMarker()
	names := d.cfg.IdentityHeaders(rt)
	shown := strings.Join(sortedKeys(names), ", ")
	one, err := get(d.forge(names, first))
	if err != nil {
		return bypass{err: err}
	}
	two, err := get(d.forge(names, second))
	if err != nil {
		return bypass{err: err}
	}
	if why := compare(nobody, one, two, first, second); why != "" {
		return bypass{believes: true, why: fmt.Sprintf("believes forged headers (%s): GET %s %s", shown, target, why)}
	}
	if why := d.assertionBelieved(get, nobody, first); why != "" {
		return bypass{believes: true, why: fmt.Sprintf("%s: GET %s", why, target)}
	}
	if refusal(nobody.status) && refusal(one.status) {
		return bypass{refuses: true, why: fmt.Sprintf("forged headers do not help: GET %s is answered with %d, with and without", target, one.status)}
	}
	return bypass{why: fmt.Sprintf("whether it believes forged headers could not be told: GET %s is answered with %d, with and without", target, one.status)}
}

// assertionBelieved says what an upstream makes of an assertion that nobody has
// signed; "" if nothing.
func (d *doctor) assertionBelieved(get func(http.Header) (answered, error), nobody answered, marker string) string {
	a := d.cfg.Identity.Assertion
	if !a.Enabled {
		return ""
	}
	forged, err := get(http.Header{http.CanonicalHeaderKey(a.Header): {fakeAssertion(d.cfg, marker)}})
	if err != nil {
		return "" // it did answer before
	}
	why := compare(nobody, forged, forged, marker, marker)
	if why == "" {
		return ""
	}
	return fmt.Sprintf("believes an assertion that nobody has signed (%s), and %s", a.Header, why)
}

// hostOf is the Host that the gateway would send, as far as that is known.
func (d *doctor) hostOf(up *bypassed, rt *config.Route) string {
	switch {
	case rt.HostHeader == "upstream":
		return up.base.Host
	case rt.HostHeader != "" && rt.HostHeader != "preserve":
		return rt.HostHeader
	case rt.Host != "" && !strings.HasPrefix(rt.Host, "*"):
		return rt.Host
	}
	u, err := url.Parse(d.cfg.PublicURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// forge is what the upstream would be told of a user called marker, who has
// every role that the configuration knows.
func (d *doctor) forge(names map[string]string, marker string) http.Header {
	roles := []string{"admin"}
	for _, rt := range d.cfg.Routes {
		for _, role := range rt.Access.Roles {
			if !slices.Contains(roles, role) {
				roles = append(roles, role)
			}
		}
	}
	h := http.Header{}
	for name, template := range names {
		value := marker
		switch {
		case strings.Contains(template, "{roles}"):
			value = strings.Join(roles, d.cfg.Identity.RolesSeparator)
		case strings.Contains(template, "{email}"):
			value = marker + "@doctor.invalid"
		}
		h.Set(name, value)
	}
	return h
}

// compare says why the answers show that a forged user was believed; "" if they
// do not.
func compare(nobody, one, two answered, first, second string) string {
	shows := strings.Contains(one.text, first) && strings.Contains(two.text, second) && !strings.Contains(nobody.text, first)
	switch {
	case shows:
		return "shows the forged user"
	case refusal(nobody.status) && one.status < 300 && two.status < 300:
		return fmt.Sprintf("is answered with %d instead of %d", one.status, nobody.status)
	case refusal(nobody.status) && !refusal(one.status) && one.status == two.status && one.status != nobody.status && one.status < 500:
		return fmt.Sprintf("is answered with %d instead of %d", one.status, nobody.status)
	case one.cookie && two.cookie && !nobody.cookie:
		return "gets the forged user a session"
	}
	return ""
}

// refusal reports that an app wants to know who is calling: it says so, or
// sends to a login page.
func refusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 300 && status < 400
}

// newMarker is a user whom no app has, and no page mentions.
func newMarker() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "gatehouse-doctor-" + hex.EncodeToString(b[:])
}

// fakeAssertion is like one of the gateway's, signed with a key of nobody.
func fakeAssertion(cfg *config.Config, marker string) string {
	now := time.Now().Unix()
	claims, _ := json.Marshal(map[string]any{"iss": cfg.Tokens.Issuer, "sub": marker, "email": marker + "@doctor.invalid", "name": marker, "roles": []string{"admin"}, "iat": now, "nbf": now, "exp": now + 60, "jti": marker}) // text and numbers
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"gatehouse-assertion+jwt","kid":"doctor"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signed + "." // an app that believes that one believes all
	}
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return signed + "."
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}
