package config

import (
	"fmt"
	"net/url"
	"strings"
)

func (v *validator) tests() {
	if len(v.c.Tests) == 0 {
		return
	}
	names, shown := map[string]bool{}, []string(nil)
	for i, rt := range v.c.Routes {
		names[rt.Name] = true
		if !v.nameFromVariable(i) {
			shown = append(shown, rt.Name)
		}
	}
	for i, t := range v.c.Tests {
		key := fmt.Sprintf("tests[%d]", i)
		if v.skip(key) {
			continue
		}
		if !v.given(key + ".request") {
			v.bad(key+".request", "missing", "such as GET /admin/")
		} else {
			v.request(key+".request", t.Request)
		}
		v.expect(key+".expect", t.Expect, names, shown)
	}
}

// request wants METHOD and a target. It takes odd paths: that they are refused
// is what a test may be about.
func (v *validator) request(key, s string) {
	want := "want a method and a target, such as GET /admin/ or GET https://app.example.com/"
	method, target, ok := strings.Cut(s, " ")
	switch {
	case !ok || !isToken(method) || target == "" || strings.ContainsAny(target, " \t"):
		v.bad(key, want, "")
		return
	case method != strings.ToUpper(method):
		v.bad(key, "want a method in capitals", "")
		return
	case strings.HasPrefix(target, "/"):
		return
	}
	scheme, rest, ok := strings.Cut(target, "://")
	authority, _, _ := strings.Cut(rest, "/")
	authority, _, _ = strings.Cut(authority, "?")
	if !ok || scheme != "http" && scheme != "https" || authority == "" {
		v.bad(key, want, "")
		return
	}
	if _, err := url.Parse(scheme + "://" + authority); err != nil || strings.Contains(authority, "@") {
		v.bad(key, want, "")
	}
}

// nameFromVariable reports whether the name of a route may hold what a
// variable held, so that no hint shows it.
func (v *validator) nameFromVariable(i int) bool {
	key := fmt.Sprintf("routes[%d].", i)
	for _, part := range []string{"name", "host", "path"} {
		if raw, _ := v.raw(key + part); strings.Contains(raw, "${") {
			return true
		}
	}
	return false
}

func (v *validator) expect(key string, e Expect, routes map[string]bool, shown []string) {
	nothing := true
	for name := range fieldsOf(expectType) {
		nothing = nothing && !v.given(key+"."+name)
	}
	if nothing && !v.failedBelow(key) {
		v.bad(key, "want at least one of status, route, error, upstream and headers", "")
	}
	if v.given(key + ".status") {
		v.within(key+".status", e.Status, 100, 599)
	}
	if v.given(key+".route") && !routes[e.Route] {
		hint := ""
		if v.spells(key+".route", e.Route) {
			hint = didYouMean(e.Route, shown)
		}
		v.bad(key+".route", "no route has this name", hint)
	}
	if v.given(key+".error") && (e.Error == "" || strings.Trim(e.Error, "abcdefghijklmnopqrstuvwxyz_") != "") {
		v.bad(key+".error", "want the code of a refusal, such as forbidden", "")
	}
	for name := range e.Headers {
		if !validHeaderName(name) {
			v.badName(key+".headers."+name, "want the name of a header (RFC 9110)")
		}
	}
}
