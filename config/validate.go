package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validator holds the rules that need the whole configuration. It reaches no
// network and changes nothing but spelling: hosts and addresses become
// canonical.
type validator struct {
	*decoder
	c             *Config
	base          string          // where relative paths begin
	upstreamsSeen map[string]bool // good ones: thousands of routes have a handful
}

// given reports whether the file has key.
func (v *validator) given(key string) bool {
	name, _ := v.find(key)
	return name != nil
}

// skip reports whether key or a section above it has a Problem already.
func (v *validator) skip(key string) bool {
	for key != "" && len(v.failed) > 0 {
		if v.failed[key] {
			return true
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return false
}

// failedBelow reports whether a key in this section has a Problem, a misspelt
// one included.
func (v *validator) failedBelow(section string) bool {
	for key := range v.failed {
		if strings.HasPrefix(key, section+".") {
			return true
		}
	}
	return false
}

// bad records that the value of key is not what was wanted. It shows the value
// as the file spells it, and nothing of a secret.
func (v *validator) bad(key, want, hint string) {
	if v.skip(key) {
		return
	}
	text := key
	if raw, ok := v.raw(key); ok && !v.hidden[key] {
		text += " " + strconv.Quote(shorten(raw))
	}
	v.report(v.c.At(key), text+": "+want, hint)
	v.failed[key] = true
}

func (v *validator) warn(key, text, hint string) {
	v.c.Warnings = append(v.c.Warnings, Problem{Pos: v.c.At(key), Text: text, Hint: hint})
}

// oneOf wants a word of the list. A near miss of it is named, unless it came
// from a variable.
func (v *validator) oneOf(key, got string, list []string) {
	if slices.Contains(list, got) {
		return
	}
	hint := ""
	if v.spells(key, got) {
		hint = didYouMean(got, list)
	}
	if strings.HasPrefix(got, "HS") {
		hint = "" // a secret is no misspelt key file
	}
	v.bad(key, "want "+words(list), hint)
}

func (v *validator) within(key string, got, least, most int) {
	if got < least || got > most {
		v.bad(key, fmt.Sprintf("want %d to %d", least, most), "")
	}
}

func (v *validator) lasts(key string, got, least, most time.Duration) {
	if got < least || got > most {
		v.bad(key, fmt.Sprintf("want %s to %s", spell(least), spell(most)), "")
	}
}

func spell(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// unique wants a list without repetition.
func (v *validator) unique(key string, list []string) {
	seen := make(map[string]bool, len(list))
	for i, s := range list {
		if seen[s] {
			v.bad(fmt.Sprintf("%s[%d]", key, i), "stands twice in the list", "")
		}
		seen[s] = true
	}
}

// enums are the values that a key of words can have.
var enums = map[string][]string{
	"log.level":                      {"debug", "info", "warn", "error"},
	"log.format":                     {"text", "json"},
	"users.registration":             {"open", "closed"},
	"tokens.algorithm":               ownAlgorithms,
	"tokens.keys[].algorithm":        ownAlgorithms,
	"revocation.store":               {"embedded", "redis"},
	"revocation.consistency":         {"fast", "strict"},
	"revocation.on_stale":            {"deny", "allow"},
	"identity.encoding":              {"percent", "utf8"},
	"routes[].encoded_slashes":       {"refuse", "forward"},
	"routes[].csrf":                  {"check", "off"},
	"endpoints.at_root[]":            {"account", "introspect", "jwks", "login", "logout", "password", "refresh", "register", "revoke", "userinfo", "well-known"},
	"trusted_issuers[].algorithms[]": theirAlgorithms,
}

func (v *validator) validate() {
	v.listeners()
	v.general()
	v.endpoints()
	v.users()
	v.tokens()
	v.trustedIssuers()
	v.revocation()
	v.identity()
	v.routes()
	v.tests()
	for key, list := range enums {
		v.words(reflect.ValueOf(v.c).Elem(), func() string { return "" }, key, list)
	}
	v.openRegistration()
	v.verifyOnly()
}

// words wants one of list wherever the file has the key that general stands for
// below x. key is where x is, made only where it is asked for: thousands of
// routes are as they should be.
func (v *validator) words(x reflect.Value, key func() string, general string, list []string) {
	switch rest, items := strings.CutPrefix(general, "[]"); {
	case general == "":
		if !slices.Contains(list, x.String()) && v.given(key()) {
			v.oneOf(key(), x.String(), list)
		}
	case items:
		for i := range x.Len() {
			v.words(x.Index(i), func() string { return fmt.Sprintf("%s[%d]", key(), i) }, rest, list)
		}
	default:
		name := strings.TrimPrefix(general, ".")
		end := strings.IndexAny(name+".", ".[")
		name, rest = name[:end], name[end:]
		v.words(x.Field(v.keysOf(x.Type())[name]), func() string { return join(key(), name) }, rest, list)
	}
}

func (v *validator) listeners() {
	c := v.c
	v.listen("listen", c.Listen)
	v.listen("admin.listen", c.Admin.Listen)
	if overlap(c.Listen, c.Admin.Listen) {
		key, other := "admin.listen", "listen"
		if !v.given(key) {
			key, other = other, key
		}
		v.bad(key, "want another port than "+other, "")
	}
	host, _, _ := strings.Cut(c.Admin.Listen, ":")
	if c.Admin.Pprof && host != "localhost" && !strings.HasPrefix(host, "127.") && !strings.HasPrefix(c.Admin.Listen, "[::1]:") {
		v.warn("admin.pprof", "admin.pprof: profiles can be read from other machines", "let admin.listen be an address of the loopback")
	}
	if _, port, ok := cutPort(c.Listen); ok && !v.given("public_url") && port != "8080" && port != "0" {
		v.warn("listen", "public_url is left out, so it is "+defaultPublicURL+" although listen has another port", "set public_url to the address that users type")
	}
	if v.given("tls.cert_file") && !c.HTTPS() {
		v.warn("public_url", "public_url is not https although tls is set, so cookies are not Secure", "")
	}
	if v.given("tls.cert_file") != v.given("tls.key_file") {
		has, lacks := "tls.cert_file", "tls.key_file"
		if v.given(lacks) {
			has, lacks = lacks, has
		}
		v.bad(has, "want "+lacks+" as well", "")
	}
	if v.given("tls.client_ca_file") && !v.given("tls.cert_file") && !v.given("tls.key_file") {
		v.bad("tls.client_ca_file", "want tls.cert_file and tls.key_file as well", "")
	}
}

// listen wants HOST:PORT as net.Listen takes it, with a number for the port.
func (v *validator) listen(key, address string) {
	host, port, ok := cutPort(address)
	if ok && host != "" && !strings.HasPrefix(host, "[") {
		_, ok = canonicalHost(host)
	}
	if strings.HasPrefix(host, "[") {
		a, err := netip.ParseAddr(strings.Trim(host, "[]"))
		ok = ok && err == nil && a.Is6() && strings.HasSuffix(host, "]")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || !ok || strconv.FormatUint(n, 10) != port {
		v.bad(key, "want an address such as :8080 or 127.0.0.1:8080", "")
	}
}

// overlap reports whether two listeners would want the same port.
func overlap(a, b string) bool {
	hostA, portA, _ := cutPort(a)
	hostB, portB, _ := cutPort(b)
	every := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "[::]" }
	return portA == portB && portA != "0" && (hostA == hostB || every(hostA) || every(hostB))
}

// cutPort splits HOST:PORT; an IPv6 host keeps its brackets.
func cutPort(address string) (host, port string, ok bool) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address, "", false
	}
	host, port = address[:i], address[i+1:]
	return host, port, !strings.Contains(host, ":") || strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
}

// publicURL checks and canonicalises public_url: lower case, no default port,
// no final slash.
func (v *validator) publicURL(s string) string {
	key, want := "public_url", "want a URL such as https://gate.example.com"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		v.bad(key, want, "")
		return s
	case u.User != nil:
		v.report(v.c.At(key), key+": want no user name or password in it", "")
		v.failed[key] = true
		return s
	case strings.ContainsAny(s, "?#"):
		v.bad(key, want+", without query or fragment", "")
		return s
	case u.Path != "" && u.Path != "/":
		v.bad(key, want+", without a path", "the gateway's own pages are below endpoints.prefix")
		return s
	}
	authority, ok := canonicalAuthority(u.Host, u.Scheme)
	if !ok {
		v.bad(key, want, "")
		return s
	}
	return u.Scheme + "://" + authority
}

func (v *validator) general() {
	c := v.c
	v.lasts("shutdown_grace", c.ShutdownGrace, 0, 24*time.Hour)
	v.lasts("limits.header_timeout", c.Limits.HeaderTimeout, 0, 24*time.Hour)
	v.lasts("limits.idle_timeout", c.Limits.IdleTimeout, 0, 24*time.Hour)
	v.within("limits.header_bytes", c.Limits.HeaderBytes, 0, 16<<20)
	if c.DataDir == "" {
		v.bad("data_dir", "want a folder", "")
	}
	for i, p := range c.TrustedProxies {
		if p.IsValid() && p.Bits() == 0 {
			v.warn(fmt.Sprintf("trusted_proxies[%d]", i), "trusted_proxies: "+p.String()+" believes the X-Forwarded-* headers of everybody", "name only the proxies in front of the gateway")
		}
	}
}

func (v *validator) endpoints() {
	e := v.c.Endpoints
	key, want := "endpoints.prefix", "want a path such as /.gatehouse, without a final slash"
	if !strings.HasPrefix(e.Prefix, "/") || e.Prefix == "/" {
		v.bad(key, want, "")
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(e.Prefix, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, pathLetters) != "" || strings.HasSuffix(segment, ".") {
			v.bad(key, want, "")
		}
	}
	v.unique("endpoints.at_root", e.AtRoot)
	if strings.TrimSpace(e.Title) == "" {
		v.bad("endpoints.title", "want some text", "")
	}
	if _, ok := LogoTypes[strings.ToLower(filepath.Ext(e.LogoFile))]; !ok && e.LogoFile != "" {
		v.bad("endpoints.logo_file", "want a picture whose name ends with .svg, .png, .jpg, .jpeg or .webp", "")
	}
	v.colors()
}

const pathLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

// openRegistration warns where "authenticated" means anybody.
func (v *validator) openRegistration() {
	if v.c.Users.Registration != "open" || !v.c.KeepsAccounts() {
		return
	}
	for _, rt := range v.c.Routes {
		if rt.Access.Kind == AccessAuthenticated {
			v.warn("users.registration", "registration is open, so anybody can pass \"access: authenticated\"",
				"set users.registration to closed, or give the routes roles")
			return
		}
	}
}

// verifyOnly warns of what a gateway without accounts does not look at.
func (v *validator) verifyOnly() {
	c := v.c
	if c.KeepsAccounts() {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(v.keysOf(reflect.TypeFor[Users]()))) {
		if key = "users." + key; key != "users.database" && v.given(key) {
			v.warn(key, key+" has no effect: users.database is none, so there are no accounts", "")
		}
	}
	if len(c.TrustedIssuers) == 0 && len(c.Tokens.Keys) == 0 {
		v.warn("users.database", "users.database is none, so only tokens of the keys in data_dir are accepted",
			"name the issuers of the tokens in trusted_issuers, or the keys in tokens.keys")
	}
}
